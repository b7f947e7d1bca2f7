"""Folders on the disk for versions of weights."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Versions:
    """Folders for versions of weights, which vanish with this object."""

    def __init__(self, place: Path | None) -> None:
        self._place = place
        self._root: Path | None = None

    @property
    def name(self) -> str:
        """A name that no other object of this kind has."""
        return self._folder().name

    def new(self, number: int) -> Path:
        """The folder of a version, which does not exist yet."""
        return self._folder() / f"v{number}"

    def _folder(self) -> Path:
        if self._root is None:
            if self._place is not None:
                self._place.mkdir(parents=True, exist_ok=True)
            self._root = Path(tempfile.mkdtemp(prefix="weights-", dir=self._place)).resolve()
            # The server may run as somebody else.
            self._root.chmod(0o755)
            weakref.finalize(self, shutil.rmtree, self._root, ignore_errors=True)
        return self._root

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Within this context an `OSError` is a sentence that names the place."""
        try:
            yield
        except OSError as error:
            place = self._root or self._place or tempfile.gettempdir()
            raise OSError(
                f"Weights for the engine cannot be written to {str(place)!r} "
                f"({error.strerror or error}): make room there, or name another place by the "
                "engine's option `folder`."
            ) from error
