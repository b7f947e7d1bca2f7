"""Strategies of Hypothesis for what users pass by mistake: numbers, arrays, texts and objects."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

NUMBERS: tuple[Any, ...] = (
    float("nan"), float("inf"), -float("inf"), -0.0, 0.0, 0.5, 1.0, 1 + 1e-9, 1e308, -1e308, 1e-308,
    5e-324, 1e200, -1e200, 1e-200, 2**70, -(2**70), 0, 1, 2, -1, True, False, np.float32(0.1),
    np.float16(0.1), np.float64("nan"), np.int8(3), np.bool_(True), np.uint64(2**64 - 1),
    Fraction(1, 3), Decimal("0.1"), Decimal("NaN"), 1j, np.array(0.3), np.array([0.3, 0.7]),
)  # fmt: skip

OTHERS: tuple[Any, ...] = (
    None, "", "1", "nan", "0,5", "\u2028", "\ud800", b"1", (), [], {}, set(), object(), len, int,
    (1.0,), [None], {"a": 1}, {0.5}, "x" * 999, range(3), slice(1), ..., np.array("a"),
    np.array([None]), np.datetime64("2020-01-01"),
)  # fmt: skip

numbers = st.one_of(st.floats(), st.integers(), st.sampled_from(NUMBERS))
anything = st.one_of(numbers, st.sampled_from(OTHERS), st.text(max_size=5))

sizes = st.integers(0, 4)
shapes = st.lists(sizes, max_size=4).map(tuple)
floats = st.one_of(
    st.floats(-1, 1), st.floats(), st.sampled_from([0.0, 0.5, 1.0, -1e9, 1e15, 1e300, 1e-300])
)


def array(shape: Any = shapes) -> st.SearchStrategy[Any]:
    """Arrays of any type of number, some of them strange."""
    kinds = st.sampled_from(
        ["f8", "f8", "f8", "f4", "f2", "i4", "u1", "?", "c16", "O", "U2", "M8[D]"]
    )
    return kinds.flatmap(
        lambda kind: arrays.arrays(
            kind,
            shape,
            elements=floats if kind == "f8" else st.just("x") if kind == "O" else None,
        )
    )


nested = st.recursive(numbers, lambda inner: st.lists(inner, max_size=4), max_leaves=12)
tables = st.one_of(array(), nested, anything)
"""What may be passed as an array."""


@st.composite
def payoffs(draw: st.DrawFn) -> Any:
    """Matrices of payoffs, most of them good, at all scales."""
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    entries = draw(arrays.arrays("f8", shape, elements=st.one_of(st.integers(-3, 3), floats)))
    scale = draw(st.sampled_from([1.0, 1.0, 1.0, 1e-300, 1e-200, 1e200, 1e9]))
    with np.errstate(all="ignore"):
        return scale * entries + draw(st.sampled_from([0.0, 0.0, 1.0, 1e9, -1e15]))


@st.composite
def preferences(draw: st.DrawFn) -> Any:
    """Matrices of preferences, most of them good."""
    n = draw(st.integers(1, 4))
    upper = draw(arrays.arrays("f8", (n, n), elements=st.one_of(st.floats(0, 1), floats)))
    with np.errstate(all="ignore"):
        table = np.triu(upper, 1) + np.tril(1.0 - upper.T, -1) + 0.5 * np.eye(n)
    return table.astype(draw(st.sampled_from(["f8", "f8", "f4", "f2"])))
