"""The nouns: a game gives feedback, a policy takes a mirror step, a magnet moves, a solver steps.

Nothing in this file says whether a policy is a table, a tree or a language model. What only some
methods ask for stands in `capabilities`.
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
