"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import stat
import time
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

STALE = 60.0
"""Seconds. A temporary file that is older, and that no process holds, was left by a process that
was killed."""


def write_bytes(path: Path, content: bytes) -> None:
    """Replace `path` by a file with `content`; an interrupt or a full disk leaves the old one.

    Several threads and processes may write to one path: the last one wins. The permissions of an
    existing file are kept, and a symbolic link goes on pointing to its file. Raises `OSError`.
    """
    path = _followed(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    # In the same folder, because a rename is atomic only within one file system.
    partial = path.with_name(f"{_prefix(path)}{os.getpid()}-{token_hex(4)}.partial")
    try:
        # "x", because a random name could be taken.
        with partial.open("xb") as file:
            _hold(file.fileno())
            file.write(content)
            file.flush()
            # Without this a crash may leave an empty file under the new name.
            os.fsync(file.fileno())
            with suppress(OSError):  # no such file yet, or a file system without permissions
                os.chmod(partial, stat.S_IMODE(path.stat().st_mode))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    # The new name is on the disk only when the folder is. Windows cannot open folders.
    with suppress(OSError):
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def require_writable(name: str, path: Path) -> None:
    """`ValueError`, naming `name`, unless a file can be written at `path`, in a folder that exists.

    A folder that was misspelled is noticed before the work, and not made. The answer is tried out:
    an empty file is written beside `path`, and removed.
    """
    try:
        target = _followed(path)
        if target.exists() and not os.access(target, os.W_OK):
            raise PermissionError("the file is read-only")
        if not target.parent.is_dir():
            raise NotADirectoryError(f"there is no folder {str(target.parent)!r}")
        # Any name will do, for a file that is removed at once.
        probe = target.with_name(f".{token_hex(8)}.probe")
        write_bytes(probe, b"")
        probe.unlink()
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(f"`{name}` cannot be written at {str(path)!r}: {reason}.") from error


def _followed(path: Path) -> Path:
    """The file that `path` means, behind symbolic links; `OSError` if something else is there."""
    path = Path(os.path.realpath(path))
    # A rename would replace a device such as /dev/null by a file.
    if path.is_dir():
        raise IsADirectoryError("it is a folder")
    if path.exists() and not path.is_file():
        raise OSError("it is no regular file")
    return path


def _prefix(path: Path) -> str:
    # Cut, because the length of a file's name is limited.
    return f".{path.name[:50]}."


def _sweep(path: Path) -> None:
    """Remove the temporary files that killed processes have left beside `path`."""
    prefix = _prefix(path)
    for name in os.listdir(path.parent):
        if not (name.startswith(prefix) and name.endswith(".partial")):
            continue
        partial = path.with_name(name)
        # Another process may remove it first. Windows keeps a file that is open.
        with suppress(OSError):
            # Its writer creates a file and locks it a moment later, so a young one is left alone.
            if time.time() - partial.stat().st_mtime > STALE and not _held(partial):
                partial.unlink()


def _hold(handle: int) -> None:
    """Lock an open file until it is closed, or its process ends."""
    # Windows has no `fcntl`, and some network file systems have no locks.
    with suppress(ImportError, OSError):
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _held(path: Path) -> bool:
    """Whether a process has locked the file."""
    try:
        import fcntl
    except ImportError:
        return False
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
