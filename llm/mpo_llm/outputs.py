"""Places for results: they are tried before the work, not after it."""

from __future__ import annotations

import tempfile
from pathlib import Path


def require_writable(path: Path) -> None:
    """`ValueError` unless a file, or a new folder, can be written at `path`.

    Missing folders above it are made.
    """
    said = repr(str(path))
    if path.is_dir():
        raise ValueError(f"Cannot write {said}: there is a folder of this name.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Permissions alone do not tell, for example on a file system that is mounted read-only.
        with tempfile.TemporaryFile(dir=path.parent):
            pass
        if path.exists():
            with path.open("ab"):
                pass
    except OSError as error:
        raise ValueError(f"Cannot write {said}: {error.strerror or error}.") from error
