"""Records of a run as lines at the end of files. What a full disk refuses waits in memory."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(slots=True)
class Journal:
    """The files of lines in a run's folder. No file ever ends in a part of a line."""

    folder: Path
    waiting: dict[str, bytes] = field(default_factory=dict)
    """The lines of each file that are not written yet."""

    def add(self, name: str, lines: Iterable[str]) -> None:
        """Put lines at the end of the file `name`, when `write` is called next."""
        text = "".join(f"{line}\n" for line in lines)
        self.waiting[name] = self.waiting.get(name, b"") + text.encode()

    def write(self) -> None:
        """Write all lines that wait; `OSError` if that fails, and then they go on waiting."""
        for name, content in list(self.waiting.items()):
            if not content:
                continue
            # Unbuffered, so that nothing is left to be written when the file is closed.
            with (self.folder / name).open("ab", buffering=0) as file:
                size = os.fstat(file.fileno()).st_size
                rest = memoryview(content)
                try:
                    while rest:
                        rest = rest[file.write(rest) :]
                    self.waiting[name] = b""
                # A second Ctrl-C comes at any place, too.
                except BaseException:
                    self.waiting[name] = content
                    file.truncate(size)
                    raise

    def sync(self) -> None:
        """Write all lines, and have them on the disk before a checkpoint that counts on them."""
        self.write()
        for name in self.waiting:
            path = self.folder / name
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
