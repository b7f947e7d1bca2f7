"""Numbers in every container that people hold: read rightly by their names, or refused."""

import datetime
import itertools
from collections import UserDict, deque
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import mpo_games as mg
from mpo_games.labelled import read

# The lowest supported versions are tested without the extras.
pd = pytest.importorskip("pandas")
pa = pytest.importorskip("pyarrow")
torch = pytest.importorskip("torch")

TABLE = [[1.0, 2.0], [3.0, 4.0]]
NESTED: list[Any] = []
NESTED.append(NESTED)


class Polars:
    """A table as polars has it: columns, no index."""

    columns = ("L", "R")

    def to_numpy(self) -> np.ndarray:
        return np.array(TABLE)


class Xarray:
    """An array as xarray has it."""

    def __init__(self) -> None:
        self.dims = ("mine", "yours")
        self.values = np.array(TABLE)
        self.coords = {"mine": pd.Series(["U", "D"]), "yours": pd.Series(["L", "R"])}


RIGHT: dict[str, Any] = {
    "lists": TABLE,
    "tuples": tuple(map(tuple, TABLE)),
    "array": np.array(TABLE),
    "Fortran order": np.asfortranarray(TABLE),
    "integers": np.array(TABLE, dtype=np.int8),
    "half": np.array(TABLE, dtype=np.float16),
    "long double": np.array(TABLE, dtype=np.longdouble),
    "objects": np.array(TABLE, dtype=object),
    "fractions": [[Fraction(1), Fraction(4, 2)], [3, Decimal("4.0")]],
    "mask without entries": np.ma.array(TABLE, mask=False),
    "generator": (row for row in TABLE),
    "generators": ((x for x in row) for row in TABLE),
    "zip": zip([1, 3], [2, 4], strict=True),
    "map": map(list, TABLE),
    "dict views": {"x": {"a": 1, "b": 2}.values(), "y": [3, 4]}.values(),
    "deque": deque(TABLE),
    "list of arrays": [np.array(row) for row in TABLE],
    "list of scalars": [[np.float32(1), np.int64(2)], [np.float64(3), 4]],
    "memory": memoryview(np.array(TABLE)),
    "sparse matrix": sp.csr_matrix(TABLE),
    "sparse array": sp.coo_array(TABLE),
    "tensor": torch.tensor(TABLE),
    "tensor with a gradient": torch.tensor(TABLE, requires_grad=True),
    "bfloat16": torch.tensor(TABLE).bfloat16(),
    "strided view": torch.tensor(TABLE).T.contiguous().T,
    "sparse tensor": torch.tensor(TABLE).to_sparse(),
    "list of tensors": list(torch.tensor(TABLE, requires_grad=True)),
    "lists of tensors": [list(row) for row in torch.tensor(TABLE)],
    "table": pd.DataFrame(TABLE),
    "categories of numbers": pd.DataFrame(TABLE).astype("category"),
    "nullable": pd.DataFrame(TABLE).astype("Float64"),
}


@pytest.mark.parametrize("kind", RIGHT)
def test_all_kinds_of_numbers_are_read(kind: str) -> None:
    game = mg.MatrixGame(RIGHT[kind])
    np.testing.assert_array_equal(game.payoff, TABLE)
    assert game.payoff.dtype == np.float64
    assert game.actions == ()


NAMED: dict[str, Any] = {
    "table": pd.DataFrame(TABLE, ["U", "D"], ["L", "R"]),
    "rows in another order": {"U": {"L": 1, "R": 2}, "D": {"R": 4, "L": 3}},
    "user's mapping": UserDict({"U": UserDict(L=1, R=2), "D": UserDict(R=4, L=3)}),
    "series": {"U": pd.Series({"L": 1, "R": 2}), "D": pd.Series({"R": 4, "L": 3})},
    "xarray": Xarray(),
}


@pytest.mark.parametrize("kind", NAMED)
def test_names_are_kept(kind: str) -> None:
    game = mg.MatrixGame(NAMED[kind])
    np.testing.assert_array_equal(game.payoff, TABLE)
    assert game.actions == (("U", "D"), ("L", "R"))


@pytest.mark.parametrize("table", [Polars(), pa.table({"L": [1.0, 3.0], "R": [2.0, 4.0]})])
def test_a_side_without_names_is_counted(table: Any) -> None:
    game = mg.MatrixGame(table)
    np.testing.assert_array_equal(game.payoff, TABLE)
    assert game.actions == ((0, 1), ("L", "R"))


WRONG: dict[str, Any] = {
    "None": None,
    "a None": [[1, None], [1, 2]],
    "text": "1",
    "numbers as text": [["1", "2"], ["3", "4"]],
    "array of text": np.array(TABLE).astype(str),
    "objects of text": np.array([["1", "2"]], dtype=object),
    "bytes": b"12",
    "bytearray": bytearray(b"12"),
    "set": {1, 2},
    "sets": [{1, 2}, {3, 4}],
    "keys": {1: 2}.keys(),
    "items": {1: 2}.items(),
    "masked": np.ma.array(TABLE, mask=[[0, 0], [0, 1]]),
    "masked in a list": [np.ma.array([1, 2], mask=[0, 1]), [3, 4]],
    "mask itself": [[1, np.ma.masked]],
    "complex": np.array(TABLE) + 0j,
    "complex tensor": torch.tensor(TABLE) + 1j,
    "complex objects": np.array([[1j, 1]], dtype=object),
    "dates": np.array([["2020-01-01"]], dtype="M8[D]"),
    "durations": np.array([[1]], dtype="m8[s]"),
    "date objects": [[datetime.datetime(2020, 1, 1)]],
    "duration objects": [[np.timedelta64(1, "s")]],
    "time stamps": pd.DataFrame({"a": pd.to_datetime(["2020-01-01"])}),
    "records": np.array([(1, 2.0)], dtype=[("a", int), ("b", float)]),
    "categories": pd.DataFrame({"a": pd.Categorical(["x", "y"])}),
    "a missing cell": pd.DataFrame({"a": pd.array([1, None], "Int64"), "b": [1, 2]}),
    "an empty cell": pd.DataFrame({"a": [1, None], "b": [1, 2]}),
    "ragged": [[1], [1, 2]],
    "too large": [[10**400, 1]],
    "not a number": [[Decimal("sNaN"), 1]],
    "tensor without data": torch.empty(2, 2, device="meta"),
    "a function": len,
    "a class": np.ndarray,
    "itself": NESTED,
    "no end": itertools.count(),
    "names in one row": [{"a": 1, "b": 2}, [3, 4]],
    "other names in a row": [{"a": 1, "b": 2}, {"a": 1, "c": 2}],
    "a name missing in a row": {"a": {"x": 1, "y": 2}, "b": {"x": 1}},
    "a name twice": pd.DataFrame(TABLE, ["a", "a"]),
    "no name": pd.DataFrame(TABLE, ["a", np.nan]),
    "a missing name": pd.DataFrame(TABLE, ["a", pd.NA]),
}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("make", [mg.MatrixGame, mg.PreferenceGame])
def test_all_else_is_refused_in_a_sentence(kind: str, make: Any) -> None:
    with pytest.raises(ValueError, match=r"^`(payoff|preferences)` must .*\.$") as caught:
        make(WRONG[kind])
    assert len(str(caught.value)) < 200


def test_the_coarsest_number_counts() -> None:
    assert read([1.0, np.float32(2)], "x").rounding == 2.0**-23
    assert read([np.float16(1)], "x").rounding == 2.0**-10
    assert read(np.array([np.float32(1), 2.0], dtype=object), "x").rounding == 2.0**-23
    assert read(torch.ones(1, dtype=torch.bfloat16), "x").rounding == 2.0**-7
    assert read(pd.DataFrame({"a": np.ones(1, np.float32), "b": [1.0]}), "x").rounding == 2.0**-23
    assert read([1, 2, True], "x").rounding == 2.0**-52


def test_every_second_reading_is_the_first() -> None:
    """A generator that was read once is empty, so nothing may read it twice."""
    assert mg.MatrixGame(iter(TABLE)).policy(iter([0.5, 0.5]), (x for x in [1, 0])).probs.tolist()
