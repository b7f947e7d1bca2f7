"""A lock on a run's folder: two runs never write to one folder."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOCK = ".lock"
"""The file that is locked. It names the process that trains."""

UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""The errors of file systems that have no locks."""

_held: set[int] = set()
"""Descriptors of the locks of this process."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, which is made if it is missing, and removed if it stays empty,
    with the folders above it that were missing, too.

    The system lets go of the lock when the process ends, however it ends. `ValueError` if another
    run holds it, and if nothing can be written to the folder.
    """
    with _written(folder):
        try:
            descriptor = _acquired(folder)
        except OSError as error:
            raise _refused(folder, error) from error
        _held.add(descriptor)
        try:
            yield
        finally:
            # Removed while it is held: whoever waits for this file finds that it is gone.
            with suppress(OSError):
                (folder / LOCK).unlink()
            _held.discard(descriptor)
            os.close(descriptor)


def require_place(folder: Path) -> None:
    """`ValueError` if nothing can be written to the folder. What is made to try it is removed."""
    with _written(folder):
        pass


@contextmanager
def _written(folder: Path) -> Iterator[None]:
    """The folder is there and takes a file; what is made for this and stays empty is removed."""
    made: list[Path] = []
    try:
        try:
            # The folders that are made here, the innermost first.
            made += [place for place in (folder, *folder.parents) if not place.exists()]
            folder.mkdir(parents=True, exist_ok=True)
            # An older run may have left its lock file, which does not show whether we may write.
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise _refused(folder, error) from error
        yield
    finally:
        with suppress(OSError):
            for place in made:
                place.rmdir()


def _refused(folder: Path, error: OSError) -> ValueError:
    return ValueError(
        f"Cannot write to {str(folder)!r}: {error.strerror or error}. Choose another "
        "`output.folder`."
    )


def _acquired(folder: Path) -> int:
    """The descriptor of the locked file."""
    path = folder / LOCK
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 200).decode(errors="replace").strip()
            os.close(descriptor)
            raise ValueError(
                f"{str(folder)!r} is in use by another run ({holder or 'it has just begun'}): wait "
                "for its end, or choose another `output.folder`."
            ) from None
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                os.close(descriptor)
                raise
            warnings.warn(
                f"The file system of {str(folder)!r} has no locks: see to it that no other run "
                "uses this folder.",
                stacklevel=4,
            )
            return descriptor
        # The last holder may have removed the file after it was opened here.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                os.truncate(descriptor, 0)
                os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
                return descriptor
        os.close(descriptor)


def _leave_to_parent() -> None:
    """In a child process: close the parent's locks, which it would hold on to after its death."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_leave_to_parent)
