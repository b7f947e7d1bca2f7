"""Capabilities: what only some methods ask of a policy, a game or a solver.

A method that needs one names it in its docstring.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, Self, cast, runtime_checkable

from numpy.typing import NDArray

from mpo_games.protocol import Array, F, Game, Mask, Number, P, Policy, Solver, State

# `runtime_checkable` marks the capabilities that code tests by `isinstance`. Such a test compares
# names of methods only, so it is a guard and no proof.


@runtime_checkable
class Coordinated(Policy[Array], Protocol):
    """A policy that is stored by mirror coordinates, `(..., actions)`."""

    @property
    def coordinates(self) -> Array:
        """The mirror coordinates (log-probabilities in the entropy geometry)."""
        ...

    def replace(self, coordinates: Array) -> Self:
        """A policy of the same kind at other coordinates."""
        ...


class Measurable(Policy[Array], Protocol):
    """A policy whose geometry measures steps and feedback; `Measured` and `Adaptive` need it."""

    @property
    def extent(self) -> float:
        """The unit of `distance`."""
        ...

    def distance(self, other: Self) -> float:
        """The distance from `other` in the local norm of the geometry, in units of `extent`."""
        ...

    def dual_norm(self, q: Array, other: Self) -> float:
        """The length of the feedback `q` in the norm dual to `distance`, between here and `other`.

        It does not change if a constant is added to all entries of a row of `q`.
        """
        ...

    def magnitude(self, q: Array) -> float:
        """The dual norm of `q` with its constants: the scale of rounding errors of `dual_norm`."""
        ...


@runtime_checkable
class Located(Policy[Array], Protocol):
    """A policy that is known by a point in which utilities are linear; `Leap` needs it."""

    @property
    def point(self) -> Array:
        """Probabilities, `(..., rows, actions)`, or a realisation plan, `(..., sequences)`."""
        ...

    def at(self, point: Array) -> Self:
        """The policy of this geometry at another point."""
        ...


class TwoSided(Policy[Array], Protocol):
    """A policy of two players; `alternating_popov` needs it."""

    def with_side(self, other: Self, player: int) -> Self:
        """The policy whose `player` plays like `other`."""
        ...


@runtime_checkable
class Smoothable(Policy[F], Protocol[F]):
    """A policy that uniform play can be mixed into; `Every(period, floor)` needs it."""

    def smooth(self, share: float) -> Self:
        """`(1 - share) self + share uniform` at every decision."""
        ...


class Matching(Policy[Array], Protocol):
    """A policy that regret matching can update."""

    @property
    def probs(self) -> Array:
        """Probabilities of the actions."""
        ...

    def regrets(self, q: Array, player: int | None = None) -> Array:
        """The value of each action less the mean value of its row, in units of payoff.

        With a `player`, `q` is the feedback of that side, and the other side's regrets are 0.
        """
        ...

    def centred(self, values: Array) -> Array:
        """`values - <p, values>` in every row."""
        ...

    # A method of the policy, because only it knows where its rows or information states begin.
    def matching(self, weights: Array, player: int | None = None) -> Self:
        """The policy that plays in proportion to the positive `weights`, uniformly where none is.

        With a `player`, the other side keeps its play.
        """
        ...

    def owned(self, player: int) -> Mask:
        """A mask of the actions of `player`."""
        ...


@runtime_checkable
class Stored(Policy[F], Protocol[F]):
    """A policy that can be written to a file as arrays and read back bit for bit."""

    @property
    def kind(self) -> str:
        """A name for the meaning of the arrays: two policies of one kind can exchange arrays."""
        ...

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """Everything that `restored` needs, by name."""
        ...

    def restored(self, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """The policy whose `arrays()` these are; `ValueError` if their shapes are others."""
        ...


@runtime_checkable
class Checkable(Protocol):
    """A game that knows the duality gap, and so whether a run has converged."""

    def duality_gap(self, policy: Any, /) -> Number:
        """NashConv of `policy`."""
        ...


@runtime_checkable
class SelfTunable(Game[P, Array], Protocol[P]):
    """A game for methods that tune themselves: the geometry `smoothed`, `Leap` and free gaps."""

    def smoothed(self, policy: P) -> tuple[P, float]:
        """The same play in a smoothed geometry, and the evaluations that the change costs."""
        ...

    def gap(self, policy: P, q: Array) -> Number:
        """The duality gap of `policy`, given its own feedback `q`, without another evaluation."""
        ...


@runtime_checkable
class SelfTuned(Protocol):
    """A game that brings its own choices for `AutoMPO`, such as a game of texts."""

    @property
    def self_tuning(self) -> Solver:
        """The solver that has nothing to choose on this game."""
        ...


@runtime_checkable
class Answering(Solver, Protocol):
    """A solver whose answer is another policy than its last iterate: an average, say."""

    def answer(self, game: Game[P, Any], state: State[P]) -> P:
        """The policy that the solver hands out at `state`; asked where a run is recorded."""
        ...


def answer_of(solver: Solver, game: Game[P, Any], state: State[P]) -> P:
    """What `solver` answers with at `state`: the last iterate, unless it is `Answering`.

    A solver that contains another one passes this question on.
    """
    # By name: `isinstance` overlooks what a wrapper's `__getattr__` forwards.
    if not callable(getattr(solver, "answer", None)):
        return state.policy
    return cast(Answering, solver).answer(game, state)


class Bounded(Protocol):
    """A game that knows its largest absolute payoff, by which the theorem bounds the step size."""

    @property
    def bound(self) -> Array:
        """`L = max |A|`, of each game of a batch."""
        ...
