"""Checks of arguments: each raises a `ValueError` whose message is a sentence.

A comparison with NaN is false. Therefore a check asks for what is right, `not x >= 0`, and never
for what is wrong, `x < 0`.
"""

from __future__ import annotations

import inspect
from math import inf, sqrt

import numpy as np
from numpy.typing import ArrayLike

from mpo_games.labelled import EXACT, Labelled, Labels, read, shown
from mpo_games.protocol import Array, Indices, Mask, Number

KEPT = 1e-8
"""Probabilities in float64 whose sum is this close to 1 stay as they are, to the last bit."""

SLACK = 1e-6
"""Sums of probabilities may be this far from 1 in any type: numbers are written in seven digits,
and lists of Python's floats often come from float32."""

MOST_SLACK = 2.0**-5
"""No type is so coarse that sums may be farther from 1 than this: four units of bfloat16."""


STEEPEST = 30.0
"""The largest power of a number of steps: the 30th power of 10^10 steps is a float."""


LARGEST = 1e306
"""The largest payoff that is played: sums and differences of a hundred of them are still floats."""


class WrongKind(ValueError, TypeError):
    """An argument is of a kind that the function does not know."""


class NotANumber(ValueError, FloatingPointError):
    """A run met NaN: the feedback is not finite, or a step overflowed."""


def is_number(value: object) -> bool:
    """Whether `value` is a real number, which may be infinite or NaN; a flag is none.

    Nor is a whole number of more than 64 bits, which NumPy would keep as an object.
    """
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) < 2**63
    return isinstance(value, (float, np.floating, np.integer))


def require_positive(name: str, number: float) -> None:
    """`ValueError` unless `number` is finite and above 0."""
    if not (is_number(number) and 0.0 < number < inf):
        raise ValueError(f"`{name}` must be a finite number above 0, got {shown(number)}.")


def require_weight(name: str, number: float) -> None:
    """`ValueError` unless `number` is finite and at least 0."""
    if not (is_number(number) and 0.0 <= number < inf):
        raise ValueError(f"`{name}` must be a finite number of at least 0, got {shown(number)}.")


def require_power(name: str, power: float) -> None:
    """`ValueError` unless `power`, to which steps are raised, lies in [0, `STEEPEST`]."""
    if not (is_number(power) and 0.0 <= power <= STEEPEST):
        raise ValueError(f"`{name}` must lie in [0, {STEEPEST:g}], got {shown(power)}.")


def require_kind(name: str, value: object, kind: type | tuple[type, ...], example: str) -> None:
    """`ValueError`, with an `example` of what to pass, unless `value` is a `kind`."""
    if not isinstance(value, kind):
        raise WrongKind(f"`{name}` must be {example}, got {shown(value)}.")


def require_flag(name: str, value: object) -> None:
    """`ValueError` unless `value` is true or false."""
    require_kind(name, value, (bool, np.bool_), "True or False")


def require_generator(rng: object) -> None:
    """`ValueError` unless `rng` is a random generator of NumPy."""
    require_kind("rng", rng, np.random.Generator, "a generator, `np.random.default_rng(0)`")


def require_callable(name: str, value: object, example: str) -> None:
    """`ValueError` unless `value` can be called and is no class."""
    # A class is callable too: `magnet=Fixed` would fail only in the first step.
    if isinstance(value, type) or not callable(value):
        raise WrongKind(
            f"`{name}` must be a value that can be called, like {example}, got {shown(value)}."
        )


def require_takes(name: str, value: object, example: str, *what: str) -> None:
    """`ValueError` unless `value` can be called with arguments of these names.

    A name that ends in `=` is passed by name, the others by position.
    """
    require_callable(name, value, example)
    try:
        signature = inspect.signature(value)  # type: ignore[arg-type]
        takes = ", ".join(signature.parameters)
    except (TypeError, ValueError):
        # Compiled functions have none; the first step shows what they take.
        return
    by_name = {one[:-1]: None for one in what if one.endswith("=")}
    try:
        signature.bind(*(None for one in what if not one.endswith("=")), **by_name)
    except TypeError:
        wanted = ", ".join(what)
        raise WrongKind(
            f"`{name}` must be a function of ({wanted}), like {example}, got {shown(value)}, a "
            f"function of ({takes})."
        ) from None


def has_verbs(noun: object, *verbs: str) -> bool:
    """Whether an instance, not a class, has methods of these names."""
    # Not `isinstance` with a Protocol: it asks for every member, also for those that this solver
    # does not use, and from Python 3.12 on it overlooks what a wrapper's `__getattr__` forwards.
    return not isinstance(noun, type) and all(callable(getattr(noun, verb, None)) for verb in verbs)


def require_verbs(needed_by: object, game: object, *verbs: str) -> None:
    """`ValueError` unless `game` has these methods, which a solver or a choice asks for."""
    if lacking := [f"`{verb}`" for verb in verbs if not has_verbs(game, verb)]:
        raise WrongKind(
            f"`{type(needed_by).__name__}` needs a game with {' and '.join(lacking)}; a "
            f"{type(game).__name__} has none."
        )


def require_solver(solver: object) -> None:
    """`ValueError` unless `solver` has a `step` that a solver has."""
    # The geometries have a `step` too, that of a policy.
    if has_verbs(solver, "step") and not has_verbs(solver, "coordinates"):
        return
    example = "`MPO(eta=0.3, alpha=0.1, period=50)`"
    if has_verbs(solver, "feedback"):
        raise WrongKind(
            f"`solver` is a game: the game comes first, `solve(game, {example[1:-1]})`."
        )
    if has_verbs(solver, "solver", "plays"):
        raise WrongKind(
            f"`solver` is a baseline ({shown(solver)}): `.solver(game)` is its solver for a game."
        )
    name = getattr(solver, "__name__", None)
    got = shown(solver) if name is None else f"{name} without them"
    raise WrongKind(f"`solver` must be a solver with its settings, like {example}, got {got}.")


def require_game(game: object, *verbs: str) -> None:
    """`ValueError` unless `game` has `feedback`, and these other methods."""
    if has_verbs(game, "step") and not has_verbs(game, "initial_policy"):
        raise WrongKind(
            f"`game` is a solver, {shown(game)}: the game comes first, "
            "`solve(game, solver, budget)`."
        )
    if not has_verbs(game, "feedback"):
        raise WrongKind(f'`game` must be a game like `load("comal")`, got {shown(game)}.')
    for verb in verbs:
        if not has_verbs(game, verb):
            raise WrongKind(f"`game` must have `{verb}`; a {type(game).__name__} does not.")


def too_large(name: str, size: float) -> str:
    """The sentence that refuses payoffs up to `size`, above `LARGEST`."""
    return (
        f"`{name}` must be at most {LARGEST:g} in size where it is played, got {size:g}: sums of "
        "larger payoffs are no floats. Give them in a larger unit."
    )


def indices(name: str, values: object) -> Indices:
    """Whole numbers as an array of int64 in C order; `ValueError`, naming `name`, for others."""
    if isinstance(values, np.ndarray) and values.dtype.kind in "iu":
        return np.ascontiguousarray(values, dtype=np.int64)
    found = read(values, name).values
    if not (np.abs(found) < 2.0**53).all() or (found % 1.0).any():
        raise ValueError(f"`{name}` must be whole numbers.")
    return np.ascontiguousarray(found, dtype=np.int64)


def require_forward(eta: Number, alpha: Number) -> None:
    """`ValueError` unless `eta` and `alpha` are at least 0: a step goes along its feedback, and the
    magnet pulls."""
    # `np.all` takes as long as a step on a small game, so it is called for arrays only.
    if not (eta >= 0.0 if isinstance(eta, (float, int)) else np.all(np.asarray(eta) >= 0.0)):
        raise ValueError(f"`eta` must be at least 0, got {shown(eta)}.")
    if not (alpha >= 0.0 if isinstance(alpha, (float, int)) else np.all(np.asarray(alpha) >= 0.0)):
        raise ValueError(f"`alpha` must be at least 0, got {shown(alpha)}.")


def require_no_pull(alpha: Number) -> None:
    """`ValueError` unless `alpha` is 0, as it must be in a mirror step without a magnet."""
    # `np.any` takes as long as a step on a small game, so it is called for arrays only.
    if alpha if isinstance(alpha, float) else np.any(alpha):
        raise ValueError(f"`alpha` must be 0 without a magnet, got {alpha}: pass `magnet`.")


def require_ratio(ratio: float, check: int) -> None:
    """`ValueError` unless `0 < ratio < 1` and `check` is a whole number of steps, at least 1."""
    if not (is_number(ratio) and 0.0 < ratio < 1.0):
        raise ValueError(f"`ratio` must lie strictly between 0 and 1, got {shown(ratio)}.")
    require_steps("check", check)


def require_steps(name: str, steps: int) -> None:
    """`ValueError` unless `steps` is a whole number of at least 1."""
    if not (is_number(steps) and 1 <= steps < inf and steps % 1 == 0):
        raise ValueError(
            f"`{name}` must be a whole number of steps, at least 1, got {shown(steps)}."
        )


def require_count(name: str, count: int, least: int = 1) -> None:
    """`ValueError` unless `count` is a whole number of at least `least`."""
    # An array of 2.5 or of 3.0 entries does not exist, so the type has to be that of integers.
    if isinstance(count, bool) or not isinstance(count, (int, np.integer)) or not count >= least:
        raise ValueError(f"`{name}` must be a whole number, at least {least}, got {shown(count)}.")


def require_player(player: object) -> None:
    """`ValueError` unless `player` is None, 0 or 1."""
    if player is not None and (isinstance(player, str) or player not in (0, 1)):
        raise WrongKind(f"`player` must be 0, 1 or None for both, got {shown(player)}.")


def require_share(name: str, share: float) -> None:
    """`ValueError` unless `0 <= share <= 1`."""
    if not (is_number(share) and 0.0 <= share <= 1.0):
        raise ValueError(f"`{name}` must lie in [0, 1], got {shown(share)}.")


def finite(found: Labelled, name: str) -> Array:
    """The numbers that were read; `ValueError`, naming `name`, unless they are finite."""
    bad = ~np.isfinite(found.values)
    if bad.any():
        at = tuple(np.argwhere(bad)[0].tolist())
        where = f"entry {list(at)}" if at else "it"
        raise ValueError(f"`{name}` must be finite: {where} is {found.values[at]:g}.")
    return found.values


def finite_numbers(values: object, name: str, names: Labels | None = None) -> Array:
    """A vector or table as a float64 array, its last axis in the order of `names`, if it has any.

    `ValueError`, naming the argument `name`, unless the numbers are finite and real.
    """
    found = read(values, name)
    if found.values.ndim:
        found = found.aligned(-1, names, name)
    return finite(found, name)


def slack(rounding: float, terms: int) -> float:
    r"""How far from 1 the sum of probabilities may be: four times $\sqrt{terms}$ roundings."""
    return min(max(SLACK, 4.0 * sqrt(terms) * rounding), MOST_SLACK)


def require_probabilities(p: Array, name: str, allowed: float) -> Array:
    """`p` without the negative numbers that rounding leaves, down to `-allowed`.

    `ValueError`, naming the argument `name`, unless it is finite and non-negative.
    """
    if not np.isfinite(p).all() or not (p >= -allowed).all():
        raise ValueError(f"`{name}` must be finite and non-negative.")
    return np.where(p < 0.0, 0.0, p) if (p < 0.0).any() else p


def distributions(p: Array, name: str, rounding: float = EXACT) -> Array:
    """The distributions `p`, `(..., actions)`, with sums of 1 to the last bits of float64.

    `rounding` is that of the type in which they were given, and says how far from 1 their sums may
    be. Those in float64 that are within `KEPT` of 1 stay as they are. `ValueError`, naming the
    argument `name`, for what is no distribution.
    """
    allowed = slack(rounding, p.shape[-1])
    p = require_probabilities(p, name, allowed)
    return normalised(p, summed(p, name, allowed)[..., None], rounding)


def summed(p: Array, name: str, allowed: float) -> Array:
    """The sums over the last axis; `ValueError` for one farther than `allowed` from 1."""
    with np.errstate(over="ignore"):
        total = p.sum(axis=-1)
    off = np.abs(total - 1.0)
    if not (off <= allowed).all():
        worst = np.ravel(total)[np.argmax(off)]
        raise ValueError(f"Each row of `{name}` must sum to 1, got {worst:.9g}.")
    return np.asarray(total)


def normalised(p: Array, total: Array, rounding: float, near: float = KEPT) -> Array:
    """`p / total`, but `p` itself where it was given in float64 and its sum is within `near` of 1.

    Numbers that earlier releases took stay the same to the last bit.
    """
    kept = (np.abs(total - 1.0) <= near) & (rounding <= EXACT)
    return p if kept.all() else np.where(kept, p, p / total)


def require_shape(name: str, array: Array, like: Array) -> None:
    """`ValueError` unless `array` ends in the axes of `like`, or the other way round.

    Leading axes are those of a batch.
    """
    if any(n != m for n, m in zip(array.shape[::-1], like.shape[::-1], strict=False)):
        raise ValueError(f"`{name}` has shape {array.shape}, the game's {like.shape}.")


def legal_mask(legal: ArrayLike, actions: tuple[Labels, ...]) -> Mask:
    """A mask of legal actions, in the order of `actions` if it has names.

    `ValueError` unless it is one of true and false, or of 0 and 1.
    """
    found = read(legal, "legal")
    if found.values.ndim:
        for row in actions or (None,):
            found = found.aligned(-1, row, "legal")
    if not ((found.values == 0.0) | (found.values == 1.0)).all():
        raise ValueError("`legal` must be true or false for every action.")
    return np.asarray(found.values, dtype=bool)
