"""Folders on the disk for versions of weights."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from pathlib import Path


class Versions:
    """Folders for versions of weights, which vanish with this object."""

    def __init__(self, place: Path | None) -> None:
        self._place = place
        self._root: Path | None = None

    def new(self, number: int) -> Path:
        """The folder of a version, which does not exist yet."""
        if self._root is None:
            if self._place is not None:
                self._place.mkdir(parents=True, exist_ok=True)
            self._root = Path(tempfile.mkdtemp(prefix="weights-", dir=self._place)).resolve()
            # The server may run as somebody else.
            self._root.chmod(0o755)
            weakref.finalize(self, shutil.rmtree, self._root, ignore_errors=True)
        return self._root / f"v{number}"
