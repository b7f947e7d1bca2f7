"""The nouns: a game gives feedback, a policy takes a mirror step, a magnet moves, a solver steps.

Nothing in this file says whether a policy is a table, a tree or a language model. The first half
names what everybody needs. The second half, *capabilities*, names what only some methods ask for: a
method that needs one says so in its docstring, and refuses anything else in a sentence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Protocol, Self, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
"""A float64 array; every number of the core is one."""

Indices = NDArray[np.int64]
"""An array of indices."""

Mask = NDArray[np.bool_]
"""A boolean array, True at legal actions."""

Number = float | Array
"""A float, or an array over the leading axes of a batch."""

F = TypeVar("F")
F_co = TypeVar("F_co", covariant=True)
P = TypeVar("P", bound="Policy[Any]")


class Policy(Protocol[F]):
    """A point of the feasible set; `F` is the feedback it can learn from. Immutable."""

    def mirror_step(
        self,
        q: F,
        magnet: Self | None,
        *,
        eta: Number,
        alpha: Number,
        player: int | None = None,
    ) -> Self:
        r"""One step of magnetic mirror descent from this policy.

        $$\arg\max_p\; \eta\langle q, p\rangle - \eta\alpha\,\mathrm{KL}(p\,\|\,\text{magnet})
        - \mathrm{KL}(p\,\|\,\text{self})$$

        Tables solve it in closed form, networks by gradient descent. `magnet=None` asks for
        `alpha == 0`. `player` updates one side only.
        """
        ...

    def penalise(self, q: F, magnet: Self, *, alpha: Number) -> F:
        """The feedback with the KL in it, `q - alpha * log(self / magnet)` (MPO-RT, R-NaD)."""
        ...

    def mix(self, other: Self, weight: float) -> Self:
        """The geometric mixture `self^(1 - weight) * other^weight`, normalised."""
        ...

    def snapshot(self) -> Self:
        """A copy that later steps cannot change."""
        ...


@dataclass(frozen=True, slots=True)
class Mixture(Generic[P]):
    """A signed combination of policies, `sum_i weights[i] * policies[i]`, to be played *against*.

    Feedback is linear in the opponent, so a predicted opponent such as `2 p_t - p_{t-1}`
    (optimism), a replay pool or an average need no arithmetic on feedback: a table combines the
    opponents' probabilities, a language game weighs the opponents' responses.
    """

    policies: tuple[P, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.policies or len(self.policies) != len(self.weights):
            raise ValueError(
                f"Mixture needs one weight per policy, got {len(self.policies)} policies "
                f"and {len(self.weights)} weights."
            )


@runtime_checkable
class Game(Protocol[P, F_co]):
    """A two-player zero-sum game, or a symmetric constant-sum one played against oneself."""

    @property
    def players(self) -> int:
        """How many sides a policy holds: 2, or 1 where one policy plays both seats."""
        ...

    def initial_policy(self) -> P:
        """Where learning starts: uniform play, or the supervised model."""
        ...

    def feedback(
        self,
        policy: P,
        opponent: P | Mixture[P] | None = None,
        *,
        player: int | None = None,
        rng: np.random.Generator | None = None,
    ) -> F_co:
        """Utilities of the policy's own actions against `opponent` (the policy itself when None).

        `player` asks for one side only (half an evaluation). `rng` drives sampled feedback.
        """
        ...


class ExactGame(Game[P, F_co], Protocol[P, F_co]):
    """A game whose distance to equilibrium can be computed.

    Values are floats, or arrays over the leading batch axes of a batch of games.
    """

    def duality_gap(self, policy: P) -> Number:
        """NashConv: the sum over players of what a best response would gain (0 at equilibrium)."""
        ...

    def regularised_gap(self, policy: P, magnet: P, alpha: float) -> Number:
        """The duality gap of the game whose players pay `alpha * KL(own policy || magnet)`."""
        ...

    def best_response(self, policy: P) -> P:
        """A pure best response of each side to `policy`."""
        ...

    def value(self, policy: P) -> Number:
        """The first player's expected utility when both sides play `policy`."""
        ...

    def divergence(self, policy: P, other: P) -> Number:
        """`D(policy || other)`: the KL of the convergence theorem, summed over the players."""
        ...

    def average(self, mixture: Mixture[P]) -> P:
        """The policy that plays like a mixture whose weights are a probability vector."""
        ...


@dataclass(frozen=True, slots=True)
class State(Generic[P]):
    """Everything a solver needs to go on, and nothing else. Saved and restored bit for bit."""

    policy: P
    """The point that is played: the last iterate."""
    magnet: P
    """Where the KL pull points."""
    step: int = 0
    """Steps taken."""
    moved_at: int = 0
    """The step at which the magnet last moved."""
    evaluations: float = 0.0
    """Feedback calls so far: the fair budget. One side alone counts half."""
    memory: Mapping[str, Any] = field(default_factory=dict)
    """What is private to the choice or solver that wrote it (policies, arrays, numbers), by name.

    | written by | names |
    | --- | --- |
    | `choices.feedback` | `previous`, `previous_q`, `base` |
    | `choices.magnets` | `gap_at_start`, `gap_at_move`; of `Leap`: `travelled`, `gathered`, `mean`,
    `mean_q`, `leaps` |
    | `Averaged`, `PlayedAverage` | `average`, `average_weight`; `iterate` |
    | `RegretMatching`, `Restarted` | `regrets`; `restarted`, `gap_at_restart` |
    | `AutoMPO` | `noise` |
    | `mpo_llm.Replayed` | `pool/...` |
    """
    q: Any = None
    """The feedback of the policy that is played, where the solver keeps it (`popov`): the duality
    gap is then free. None where it is not kept."""
    eta: Number | None = None
    """The step size of the last step; None before the first."""
    alpha: Number | None = None
    """The magnet's weight in the last step; None before the first."""

    def advance(
        self,
        policy: P,
        evaluations: float,
        memory: Mapping[str, Any] | None = None,
        q: Any = None,
    ) -> Self:
        """The state one step later, at `policy`, with `evaluations` charged.

        `memory` is added to what is remembered. `q` is the feedback of `policy` if that is known.
        """
        return type(self)(
            policy,
            self.magnet,
            self.step + 1,
            self.moved_at,
            self.evaluations + evaluations,
            {**self.memory, **memory} if memory else self.memory,
            q,
            self.eta,
            self.alpha,
        )

    def move(self, magnet: P) -> Self:
        """The same state with the magnet moved to `magnet`, now.

        What a solver remembers is kept: a prediction of the next feedback is as good as before.
        What depends on the steps since the move reads `step - moved_at`.
        """
        return replace(self, magnet=magnet, moved_at=self.step)

    def charge(self, evaluations: float) -> Self:
        """The same state with `evaluations` more on the bill."""
        return replace(self, evaluations=self.evaluations + evaluations)

    def remember(self, **memory: Any) -> Self:
        """The same state with `memory` added to what it remembers."""
        # Field by field: `replace` takes three times as long, which a step of microseconds shows.
        return type(self)(
            self.policy,
            self.magnet,
            self.step,
            self.moved_at,
            self.evaluations,
            {**self.memory, **memory},
            self.q,
            self.eta,
            self.alpha,
        )

    def at_strength(self, eta: Number, alpha: Number | None) -> Self:
        """The same state with the step size and the magnet's weight of the step that begins."""
        return type(self)(
            self.policy,
            self.magnet,
            self.step,
            self.moved_at,
            self.evaluations,
            self.memory,
            self.q,
            eta,
            alpha,
        )

    @property
    def moved(self) -> int:
        """The earlier name of `moved_at`."""
        return self.moved_at


class MagnetSchedule(Protocol):
    """Decides when and where the magnet moves.

    Any callable `(game, state) -> state` that returns the state as it is, or `state.move(...)`.
    What the decision costs in feedback it adds by `state.charge(...)`.
    """

    def __call__(self, game: Game[Any, Any], state: State[Any], /) -> State[Any]: ...


@runtime_checkable
class Solver(Protocol):
    """Settings with one pure method. A frozen dataclass that reads like its paper's equation."""

    def step(
        self, game: Game[Any, Any], state: State[Any], rng: np.random.Generator | None = None
    ) -> State[Any]:
        """The next state."""
        ...


# Capabilities of policies.


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
        """The local length of the way from `other`."""
        ...

    def dual_norm(self, q: Array, other: Self) -> float:
        """The length of the feedback `q` in the norm dual to `distance`, between here and `other`.

        A constant added to `q` in every row does not change it.
        """
        ...

    def magnitude(self, q: Array) -> float:
        """The dual norm of `q` itself, constants included: its rounding errors scale with it."""
        ...


@runtime_checkable
class Located(Policy[Array], Protocol):
    """A policy that is a point in which utilities are linear; `Leap` needs it."""

    @property
    def point(self) -> Array:
        """The point: probabilities, or a realisation plan."""
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
        """What each action is worth beyond the mean of its row; of one `player` only if given."""
        ...

    def centred(self, values: Array) -> Array:
        """`values - <p, values>` in every row."""
        ...

    def matching(self, weights: Array, player: int | None = None) -> Self:
        """Plays in proportion to the positive `weights`, uniformly where there are none."""
        ...

    def owned(self, player: int) -> Mask:
        """A mask of the actions of `player`."""
        ...


@runtime_checkable
class Stored(Policy[F], Protocol[F]):
    """A policy that can be written to a file as arrays and read back bit for bit."""

    @property
    def kind(self) -> str:
        """What the arrays mean: equal for policies whose arrays can stand for each other."""
        ...

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """Everything that `restored` needs, by name."""
        ...

    def restored(self, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """The policy that `arrays` came from; `ValueError` if it was of another shape."""
        ...


# Capabilities of games.


@runtime_checkable
class Checkable(Protocol):
    """A game that knows the duality gap, and so whether a run has converged."""

    def duality_gap(self, policy: Any, /) -> Number:
        """NashConv of `policy`."""
        ...


@runtime_checkable
class SelfTunable(Game[P, Array], Protocol[P]):
    """A game for methods that tune themselves: `smoothed` geometry, `Leap`, free gaps."""

    def smoothed(self, policy: P) -> tuple[P, float]:
        """The same play in a smoothed geometry, and the evaluations that it took to find it."""
        ...

    def gap(self, policy: P, q: Array) -> Number:
        """The duality gap of the policy whose own feedback is `q`, without asking for feedback."""
        ...


class Bounded(Protocol):
    """A game that knows its largest absolute payoff, by which the theorem bounds the step size."""

    @property
    def bound(self) -> Array:
        """`L = max |A|`, of each game of a batch."""
        ...


@runtime_checkable
class Wrapping(Protocol):
    """A game around another one: samples of it, or another view."""

    @property
    def game(self) -> Any:
        """The game inside."""
        ...


@runtime_checkable
class Deciding(Protocol):
    """A solver that names its own decisions, which `solve` records beside the gap."""

    @property
    def decisions(self) -> Mapping[str, Any]:
        """Metrics by name."""
        ...
