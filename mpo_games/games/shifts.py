"""A constant in all payoffs: it changes no gap, and should cost none of its digits."""

from __future__ import annotations

from mpo_games.protocol import Array


def centred(payoff: Array, chance: Array | float) -> Array:
    """The payoffs less a constant times `chance`, where that rounds nothing but the constant.

    Two floats within a factor of 2 have an exact difference (Sterbenz 1974). So if all payoffs per
    unit of `chance` are within that factor, the result is less one of them, else it is `payoff`
    itself. The games of a batch, on the axes before the last two, are treated alike.
    """
    if not payoff.size:
        return payoff
    axes = (-2, -1) if payoff.ndim > 1 else (-1,)
    each = payoff / chance
    low, high = each.min(axis=axes, keepdims=True), each.max(axis=axes, keepdims=True)
    near = (low > 0.0) & (high / 2.0 <= low) | (high < 0.0) & (low / 2.0 >= high)
    return payoff - low * chance if near.all() else payoff
