"""What calls give, kept in a folder as JSON: calls that are done are not made again."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mpo_games.atomic import write_bytes
from mpo_games.checks import has_verbs
from mpo_games.parallel import Progress, finished
from mpo_games.provenance import describe, fingerprint

OURS = "mpo_games"
"""Code of this package is known by its version, other code by its text."""


@dataclass(frozen=True, slots=True)
class CallCache:
    """Makes calls side by side, and keeps each result as soon as it is there."""

    folder: Path | None
    """Where results are kept; None keeps nothing."""

    def run(
        self,
        function: Callable[..., dict[str, Any]],
        calls: Sequence[tuple[Any, ...]],
        *,
        workers: int | None,
        what: str,
        progress: bool,
    ) -> tuple[list[dict[str, Any] | None], bool]:
        """What each call gives, None where Ctrl-C came before; and whether all are done.

        A result whose `failure` is not empty is not kept: it may be gone the next time.
        """
        paths = [self._path(function.__name__, call) for call in calls]
        outcomes = [_read(path) for path in paths]
        missing = [i for i, outcome in enumerate(outcomes) if outcome is None]
        try:
            with Progress(len(calls), len(calls) - len(missing), what=what, show=progress) as bar:
                for k, outcome in finished(function, [calls[i] for i in missing], workers):
                    i = missing[k]
                    outcomes[i] = outcome
                    path = paths[i]
                    if path is not None and not outcome.get("failure"):
                        path.parent.mkdir(parents=True, exist_ok=True)
                        write_bytes(path, json.dumps(outcome).encode())
                    bar.update()
        except KeyboardInterrupt:
            return outcomes, False
        return outcomes, True

    def _path(self, name: str, call: Sequence[Any]) -> Path | None:
        if self.folder is None:
            return None
        try:
            said = [name, _versions(), [_said(part) for part in call]]
        # What cannot be pickled cannot be recognised either; it is computed every time.
        except Exception:
            return None
        key = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
        return self.folder / f"{key[:32]}.json"


def _read(path: Path | None) -> dict[str, Any] | None:
    if path is None or not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        # A damaged file counts as missing, and is computed again.
        return None
    return found if isinstance(found, dict) else None


@cache
def _versions() -> list[str]:
    found = []
    for package in ("mpo-games", "numpy", "scipy", "numba"):
        try:
            found.append(version(package))
        except PackageNotFoundError:
            found.append("not installed")
    return found


def _said(part: Any) -> Any:
    """All that decides an argument of a call, as texts and numbers."""
    import joblib

    if part is None or isinstance(part, (str, int, float)):
        return part
    if isinstance(part, Mapping):
        return {str(key): _said(value) for key, value in part.items()}
    if isinstance(part, (list, tuple)):
        return [_said(item) for item in part]
    if has_verbs(part, "feedback") and _is_ours(part):
        # Not by its pickle: what a game has computed and kept does not make it another one.
        return [describe(part), fingerprint(part)]
    return [joblib.hash(part), *_code(part)]


def _is_ours(game: object) -> bool:
    """Whether a game is of this package, and so are the games within it."""
    inner = getattr(game, "game", None)
    ours = type(game).__module__.split(".")[0] == OURS
    return ours and (inner is None or _is_ours(inner))


def _code(noun: object) -> list[str]:
    """The texts of the classes and functions of others in an object, down to its fields."""
    made = noun if inspect.isroutine(noun) or isinstance(noun, type) else type(noun)
    found = []
    # What a class inherits decides as much as what it says itself.
    for one in made.__mro__ if isinstance(made, type) else (made,):
        if one.__module__.split(".")[0] in (OURS, "builtins", "numpy", "typing", "abc"):
            continue
        try:
            found.append(inspect.getsource(one))
        except (OSError, TypeError):
            # Typed into an interpreter that keeps no text: its name has to do.
            found.append(one.__qualname__)
    if is_dataclass(noun) and not isinstance(noun, type):
        found += [text for part in fields(noun) for text in _code(getattr(noun, part.name))]
    return found
