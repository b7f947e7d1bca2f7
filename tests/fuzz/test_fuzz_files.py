"""Any file is read, or refused in a sentence: tables, games of Gambit's, saved runs."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strange import anything, array
from verdict import inputs, tried

import mpo_games as mg
from mpo_games.cli import inputs as command_inputs

CSV = ["0,1\n-1,0\n", "a;b\n0,5;1\n-1;0\n", "\ufeff,x,y\nx,.5,1/3\ny,2/3,.5\n", "1\t50%\n\n2\t\n"]
BATTLES = [
    "model_a,model_b,winner\nx,y,model_a\ny,z,tie\n",
    "x;y;b\n",
    "w,x,y\nw,,3,1\nx,2,,-\ny,0,4,\n",
]
EFG = (
    'EFG 2 R "g" { "A" "B" }\n\np "" 1 1 "" { "l" "r" } 0\n'
    't "" 1 "" { 1, -1 }\nt "" 2 "" { -1/2, 1/2 }\n'
)
NFG = 'NFG 1 R "g" { "A" "B" } { 2 2 }\n\n1 -1 0 0 -1 1 1/2 -1/2\n'
PIECES = [*"0123456789.,;-/%\"'{}\n\t ", "nan", "1e999", "\ufeff", "\u2028", "p", "c", "t", "\x00"]


@st.composite
def mutated(draw: st.DrawFn, texts: list[str]) -> str:
    """A text with a few pieces cut out, put in or repeated."""
    text = draw(st.sampled_from(texts))
    for _ in range(draw(st.integers(0, 4))):
        at, size = draw(st.integers(0, len(text))), draw(st.integers(0, 5))
        piece = draw(
            st.one_of(st.sampled_from(PIECES), st.just(text[at : at + size]), st.text(max_size=3))
        )
        text = text[:at] + piece + text[at + draw(st.integers(0, size)) :]
    return text


encodings = st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1"])


def written(folder: Path, name: str, text: str, encoding: str) -> Path:
    path = folder / name
    path.write_bytes(text.encode(encoding, "replace"))
    return path


def load(path: Path) -> Any:
    return command_inputs.load(str(path), "auto")[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


@inputs(100)
@given(mutated(CSV), encodings, st.sampled_from(["x.csv", "x.CSV", "x.tsv"]))
def test_tables_of_text(folder: Path, text: str, encoding: str, name: str) -> None:
    tried(lambda: load(written(folder, name, text, encoding)))


@inputs(100)
@given(
    mutated([*CSV, *BATTLES]), encodings, st.sampled_from(["auto", "battles", "wins", "preference"])
)
def test_tables_that_are_ranked(folder: Path, text: str, encoding: str, kind: Any) -> None:
    path = written(folder, "r.csv", text, encoding)
    found = tried(lambda: str(mg.rank(command_inputs.ranked(str(path), kind), resamples=3)))
    assert found is None or "nan" not in found


@inputs(100)
@given(mutated([EFG, NFG]), encodings, st.sampled_from(["x.efg", "x.nfg"]))
def test_games_of_gambit(folder: Path, text: str, encoding: str, name: str) -> None:
    game = tried(lambda: load(written(folder, name, text, encoding)))
    if game is not None:
        tried(lambda: mg.exact.nash(game).value)


@inputs(50)
@given(array())
def test_arrays(folder: Path, table: Any) -> None:
    np.save(folder / "x.npy", table, allow_pickle=True)
    tried(lambda: load(folder / "x.npy"))


@pytest.fixture(scope="module")
def runs(folder: Path) -> list[tuple[Any, bytes]]:
    """Games, and the bytes of saved runs on them."""
    found = []
    for name, solver in (("rps", mg.MPO(0.3, 0.1, 5)), ("comal", mg.AutoMPO())):
        game = mg.load(name)
        mg.solve(game, solver, 20).save(folder / "run.npz")
        found.append((game, (folder / "run.npz").read_bytes()))
    return found


def resumed(path: Path, game: Any, solver: Any) -> Any:
    found = mg.Solution.load(path, game)
    return mg.solve(game, solver, 40, resume=found).policy


@inputs(75)
@given(
    st.integers(0, 1),
    st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=3),
    st.integers(0, 2**16),
)
def test_saved_runs_with_wrong_bytes(
    folder: Path, runs: list[tuple[Any, bytes]], which: int, flips: Any, length: int
) -> None:
    game, content = runs[which]
    damaged = bytearray(content)
    for at, value in flips:
        damaged[at % len(damaged)] = value
    path = folder / "damaged.npz"
    path.write_bytes(damaged if length % 2 else damaged[: length % len(damaged)])
    tried(lambda: resumed(path, game, (mg.MPO(0.3, 0.1, 5), mg.AutoMPO())[which]))


def edited(content: bytes, change: Callable[[str, Any], Any]) -> bytes:
    """A saved run with other arrays: `change(name, array)` is put in the place of each."""
    with BytesIO(content) as file, np.load(file) as arrays, BytesIO() as out:
        with zipfile.ZipFile(out, "w") as archive:
            for name in arrays.files:
                with BytesIO() as member:
                    np.save(member, change(name, arrays[name]), allow_pickle=True)
                    archive.writestr(f"{name}.npy", member.getvalue())
        return out.getvalue()


def changed_header(header: str, path: list[Any], value: Any) -> str:
    """A JSON header with another value at a place that is found by numbers."""
    found = json.loads(header)
    place: Any = found
    for number in path:
        keys = list(place) if isinstance(place, dict) else range(len(place))
        if not len(keys):
            break
        key = keys[number % len(keys)]
        if not isinstance(place[key], dict | list) or number is path[-1]:
            place[key] = value
            break
        place = place[key]
    return json.dumps(found, default=str)


@inputs(75)
@given(
    st.integers(0, 1),
    st.integers(0, 30),
    st.one_of(array(), st.just(np.array(np.nan)), anything),
    st.lists(st.integers(0, 9), min_size=1, max_size=3),
    st.booleans(),
)
def test_saved_runs_with_edited_parts(
    folder: Path,
    runs: list[tuple[Any, bytes]],
    which: int,
    number: int,
    value: Any,
    place: Any,
    header: bool,
) -> None:
    game, content = runs[which]
    names = sorted(zipfile.ZipFile(BytesIO(content)).namelist())
    target = names[number % len(names)].removesuffix(".npy")

    def change(name: str, old: Any) -> Any:
        if header and old.dtype.kind in "US" and old.ndim == 0:
            return np.array(changed_header(str(old), place, value))
        if not header and name == target:
            # The memory of a solver may hold anything, so only its numbers are checked.
            inner = number % 2 or name.startswith("memory/")
            return np.full_like(old, np.nan) if old.dtype.kind == "f" and inner else value
        return old

    path = folder / "edited.npz"
    try:
        path.write_bytes(edited(content, change))
    except (ValueError, TypeError, AttributeError):  # what cannot be written is no file
        return
    tried(lambda: resumed(path, game, (mg.MPO(0.3, 0.1, 5), mg.AutoMPO())[which]))
