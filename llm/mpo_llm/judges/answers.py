"""The answers of a server, kept on disk, so that no question is paid for twice."""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from mpo_games.atomic import require_writable

FILE = "answers.jsonl"
"""The name of the file in the folder of a cache: a line for each answer."""


def key(kind: str, body: Mapping[str, object]) -> str:
    """The digest of a request: `kind` says what is read from the answer, `body` is what is sent.

    The server's address is not part of it, so that the same model may move to another machine.
    """
    # ASCII, because texts can hold lone surrogates, which UTF-8 refuses.
    content = json.dumps([kind, body], sort_keys=True, ensure_ascii=True)
    return blake2b(content.encode("ascii"), digest_size=16).hexdigest()


@dataclass(slots=True, eq=False)
class Answers:
    """Numbers by the keys of their requests, in memory and, if there is a `folder`, in a file.

    The file has a line for each answer, which is added at once, so a process that is killed loses
    none. Several threads and processes may share the folder: lines are added whole, and `refresh`
    reads those that others have added. A line that is no answer is skipped. Where the file cannot
    be written, such as on a full disk, a warning says so, and the answers stay in memory.

    `ValueError` if the folder cannot be written when the object is made.
    """

    folder: Path | None = None
    _known: dict[str, float] = field(default_factory=dict, init=False, repr=False)
    _read: int = field(default=0, init=False, repr=False)
    """Bytes of the file that have been read."""
    _lock: Lock = field(default_factory=Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.folder is not None:
            # The sentence about a folder that cannot be made is that of a file in it.
            with suppress(OSError):
                self.folder.mkdir(parents=True, exist_ok=True)
            require_writable("cache", self.folder / FILE)
            self.refresh()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, name: str) -> float | None:
        """The answer to the request with this key, or None."""
        return self._known.get(name)

    def add(self, name: str, answer: float) -> None:
        """Remember an answer, a finite number."""
        with self._lock:
            self._known[name] = answer
            if self.folder is None:
                return
            line = f"{json.dumps({'key': name, 'answer': answer})}\n".encode()
            try:
                with _locked(self.folder / FILE, "ab+") as file:
                    _append(file, line)
            except OSError as error:
                warnings.warn(
                    f"The answers of the judge's server cannot be written to {str(self.folder)!r}: "
                    f"{error.strerror or error}. They are kept in memory only.",
                    stacklevel=2,
                )
                self.folder = None

    def refresh(self) -> None:
        """Read the answers that other processes have added to the file."""
        if self.folder is None:
            return
        with self._lock, suppress(FileNotFoundError), (self.folder / FILE).open("rb") as file:
            if os.fstat(file.fileno()).st_size < self._read:
                self._read = 0  # somebody has replaced the file
            file.seek(self._read)
            content = file.read()
            # The last line may still be in the writing.
            whole = content[: content.rfind(b"\n") + 1]
            self._read += len(whole)
            self._known.update(_answers(whole))


def _answers(lines: bytes) -> Iterator[tuple[str, float]]:
    for line in lines.split(b"\n"):
        # A process that was killed may have left a part of a line.
        with suppress(ValueError, TypeError, LookupError):
            row = json.loads(line)
            name, answer = row["key"], row["answer"]
            if isinstance(name, str) and type(answer) in (int, float) and math.isfinite(answer):
                yield name, float(answer)


def _append(file: BinaryIO, line: bytes) -> None:
    """Add a line at the end of the file, or nothing."""
    size = file.seek(0, os.SEEK_END)
    if size:
        file.seek(size - 1)
        if file.read(1) != b"\n":
            line = b"\n" + line  # ends the part of a line that a killed process has left
    rest = memoryview(line)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError:
        with suppress(OSError):
            file.truncate(size)
        raise


@contextmanager
def _locked(path: Path, mode: str) -> Iterator[BinaryIO]:
    """The file, unbuffered, and locked for this process where there are locks."""
    with open(path, mode, buffering=0) as file:
        # Windows has no `fcntl`, and some network file systems have no locks.
        with suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield file  # type: ignore[misc]
