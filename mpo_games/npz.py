"""Reading `.npz` files that somebody else may have written: nothing is unpacked unchecked."""

from __future__ import annotations

import math
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Damaged(ValueError):
    """A file that does not hold what it should; the message says what is wrong."""


def read(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an `.npz` file by name.

    Raises `Damaged` if an array has another size than it declares, holds objects, or does not fit
    into memory. A file that is no `.npz` file raises other errors, those of `zipfile` among them.
    """
    arrays: dict[str, NDArray[Any]] = {}
    with path.open("rb") as handle, zipfile.ZipFile(handle) as archive:
        # NumPy allocates what a file declares, and a few bytes can declare anything.
        size = sum(info.file_size for info in archive.infolist())
        if size > _memory():
            raise Damaged(f"it unpacks to {size:.1e} bytes, more than this machine's memory")
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            with archive.open(info) as member:
                shape, dtype = _header(member)
                declared = math.prod(shape) * dtype.itemsize + member.tell()
            if dtype.hasobject:
                raise Damaged(f"`{name}` holds objects, which are not read")
            if declared != info.file_size:
                raise Damaged(f"`{name}` declares the shape {shape}, and has another size")
            with archive.open(info) as member:
                arrays[name] = np.lib.format.read_array(member, allow_pickle=False)
    return arrays


def _header(member: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """The shape and the type that an array declares; reads up to where its numbers begin."""
    version = np.lib.format.read_magic(member)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(member)
    else:
        shape, _, dtype = np.lib.format.read_array_header_2_0(member)
    return shape, dtype


def _memory() -> float:
    """The bytes of memory of this machine; infinity if it does not say."""
    if not hasattr(os, "sysconf"):  # Windows
        return math.inf
    return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
