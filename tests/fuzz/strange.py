"""Strategies of Hypothesis for what users pass by mistake: numbers, arrays, texts and objects."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import mpo_games as mg
from mpo_games.games.tree_builder import Decision, Payoff

NUMBERS: tuple[Any, ...] = (
    float("nan"), float("inf"), -float("inf"), -0.0, 0.0, 0.5, 1.0, 1 + 1e-9, 1e308, -1e308, 1e-308,
    5e-324, 1e200, -1e200, 1e-200, 2**70, -(2**70), 0, 1, 2, -1, True, False, np.float32(0.1),
    np.float16(0.1), np.float64("nan"), np.int8(3), np.bool_(True), np.uint64(2**64 - 1),
    Fraction(1, 3), Decimal("0.1"), Decimal("NaN"), 1j, np.array(0.3), np.array([0.3, 0.7]),
)  # fmt: skip

if TYPE_CHECKING:
    from right import Call

TREE = mg.build_tree(Decision(0, "a", {"x": Payoff(1.0), "y": Payoff(0.0), "z": Payoff(0.5)}))


def answers_nothing(*arguments: Any, **named: Any) -> None:
    """What may be passed where a function is wanted, and is not the right one."""


OTHERS: tuple[Any, ...] = (
    None, "", "1", "nan", "0,5", "\u2028", "\ud800", b"1", (), [], {}, set(), object(), int,
    answers_nothing, mg.MMD(0.1, 0.1), {"a": {"a": 0.5, "b": 1}, "b": {"b": 0.5, "a": 0}},
    mg.load("mne"), mg.load("mne").initial_policy(), TREE, TREE.initial_policy(), mg.Entropy(),
    (1.0,), [None], {"a": 1}, {"a": 0.5, "b": 0.5}, {0.5}, "x" * 999, range(3), slice(1), ...,
    np.array("a"),
    np.array([None]), np.datetime64("2020-01-01"),
)  # fmt: skip

numbers = st.one_of(st.floats(), st.integers(), st.sampled_from(NUMBERS))
# By its place, since Hypothesis spells the values of `sampled_from` out, games included.
others = st.integers(0, len(OTHERS) - 1).map(OTHERS.__getitem__)
anything = st.one_of(numbers, others, st.text(max_size=5))

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


@cache
def listed(calls: Callable[[], Iterator[Call]]) -> list[Call]:
    """The calls, made once."""
    return list(calls())


@st.composite
def changed(
    draw: st.DrawFn, calls: Callable[[], Iterator[Call]], put: st.SearchStrategy[Any]
) -> Any:
    """A right call, with other values in the places of one or two arguments."""
    known = listed(calls)
    function, right = known[draw(st.integers(0, len(known) - 1))]
    given = dict(right)
    for name in draw(st.lists(st.sampled_from(sorted(right)), min_size=1, max_size=2)):
        given[name] = draw(put)
        if name in {"n", "m", "k"} and isinstance(given[name], int) and 999 < given[name] < 2**14:
            given[name] = 999  # a size that is allowed takes the memory that it needs
    return lambda: function(**given)
