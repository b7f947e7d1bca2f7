"""The nouns: a game gives feedback, a policy takes a mirror step, a magnet moves, a solver steps.

Nothing in this file says whether a policy is a table, a tree or a language model. What only some
methods ask for stands in `capabilities`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
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
    """A point of the feasible set; `F` is the feedback it can learn from. Immutable.

    >>> start = load('comal').initial_policy()
    >>> start.mirror_step(np.log([[1.0, 2.0, 1.0]]), None, eta=1.0, alpha=0.0).probs
    array([[0.25, 0.5 , 0.25]])
    """

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

        Tables and trees solve it in closed form, networks by gradient descent. `q` has the shape of
        the game's feedback. `q` and `alpha` are in units of payoff, `eta` in 1 / payoff. `player`
        updates one side only. Without a magnet there is no pull: then `alpha` must be 0, else
        `ValueError`.
        """
        ...

    def penalise(self, q: F, magnet: Self, *, alpha: Number) -> F:
        """The feedback less the KL penalty, `q - alpha * log(self / magnet)` (MPO-RT, R-NaD)."""
        ...

    def mix(self, other: Self, weight: float) -> Self:
        """The geometric mixture `self^(1 - weight) * other^weight`, normalised.

        `ValueError` unless `0 <= weight <= 1`.
        """
        ...

    def snapshot(self) -> Self:
        """A copy that later steps cannot change."""
        ...


@dataclass(frozen=True, slots=True)
class Mixture(Generic[P]):
    """An opponent: a signed combination of policies, `sum_i weights[i] * policies[i]`.

    Feedback is linear in the opponent. So a predicted opponent such as `2 p_t - p_{t-1}`
    (optimism), a replay pool and an average need no arithmetic on feedback: a table combines the
    opponents' probabilities, a language game weights the opponents' responses. `ValueError` unless
    there is one weight per policy.

    >>> game = load('comal')
    >>> first, second = game.policy([1, 0, 0]), game.policy([0, 1, 0])
    >>> game.feedback(first, Mixture((first, second), (0.5, 0.5))).round(2)
    array([[-0.2 ,  0.2 ,  0.05]])
    """

    policies: tuple[P, ...]
    """The policies that are combined."""
    weights: tuple[float, ...]
    """The weight of each, which may be below 0."""

    def __post_init__(self) -> None:
        if not all(isinstance(part, (tuple, list)) for part in (self.policies, self.weights)):
            raise ValueError("Mixture needs a tuple of policies and a tuple of their weights.")
        if not self.policies or len(self.policies) != len(self.weights):
            raise ValueError(
                f"Mixture needs one weight per policy, got {len(self.policies)} policies "
                f"and {len(self.weights)} weights."
            )


# Checkable at run time, so that `solve` can refuse a name or a class in a sentence.
@runtime_checkable
class Game(Protocol[P, F_co]):
    """A two-player zero-sum game, or a symmetric constant-sum one played against oneself.

    >>> isinstance(load('comal'), Game)
    True
    """

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
        """Utilities of the policy's own actions against `opponent`, in units of payoff.

        Without an `opponent` the policy plays itself. On tables and trees the result has the shape
        of the policy's probabilities. `player` asks for one side only, which costs half an
        evaluation. `rng` drives sampled feedback; exact feedback ignores it.
        """
        ...


class ExactGame(Game[P, F_co], Protocol[P, F_co]):
    """A game whose distance to equilibrium can be computed.

    Values are floats, or arrays over the leading batch axes of a batch of games.

    >>> game = load('comal')
    >>> [callable(getattr(game, verb)) for verb in ('duality_gap', 'best_response', 'value')]
    [True, True, True]
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


NOTHING: Mapping[str, Any] = {}
"""What a solver remembers before its first step; never written to."""

_put = object.__setattr__


@dataclass(frozen=True, slots=True, init=False)
class State(Generic[P]):
    """Everything that a solver needs for its next step. Saved and restored bit for bit.

    >>> start = load('comal').initial_policy()
    >>> State(start, magnet=start)
    State: step 0, 0 evaluations
    """

    policy: P
    """The point that is played: the last iterate. Where `solve` records, it is what the solver
    answers with, which may be an average: see `iterate`."""
    magnet: P
    """The policy towards which the KL pulls."""
    step: int
    """Steps taken."""
    moved_at: int
    """The step at which the magnet last moved."""
    evaluations: float
    """Feedback evaluations so far: the budget by which methods are compared. The feedback of one
    side alone counts half."""
    memory: Mapping[str, Any]
    """Policies, arrays and numbers that a choice or a solver keeps for later steps, by name.

    | written by | names |
    | --- | --- |
    | `choices.feedback` | `previous`, `previous_q`, `base` |
    | `WhenGapFell`, `Leap` | `gap_at_start`, `gap_at_move` |
    | `Leap` | `travelled`, `gathered`, `mean`, `mean_q`, `leaps` |
    | `Averaged`, `PlayedAverage` | `average`, `average_weight`; `iterate` |
    | `RegretMatching`, `Restarted` | `regrets`; `restarted`, `gap_at_restart` |
    | `AutoMPO` | `noise` |
    | `mpo_llm.Replayed`, `Revisited` | `pool/...`; `visits/...` |
    | `mpo_llm.WeightAveraged` | `average` |
    """
    # The next three are fields and not entries of `memory`, because several files read them.
    q: Any
    """The feedback of `policy`, if the solver keeps it (`popov` does). The duality gap is then
    free. None if it is not kept."""
    eta: Number | None
    """The step size of the last step; None before the first."""
    alpha: Number | None
    """The magnet's weight in the last step; None before the first."""

    def __init__(
        self,
        policy: P,
        magnet: P,
        step: int = 0,
        moved_at: int = 0,
        evaluations: float = 0.0,
        memory: Mapping[str, Any] = NOTHING,
        q: Any = None,
        eta: Number | None = None,
        alpha: Number | None = None,
    ) -> None:
        # By hand, because the generated constructor would take 3 % of a step of a small table.
        put = _put
        put(self, "policy", policy)
        put(self, "magnet", magnet)
        put(self, "step", step)
        put(self, "moved_at", moved_at)
        put(self, "evaluations", evaluations)
        put(self, "memory", memory)
        put(self, "q", q)
        put(self, "eta", eta)
        put(self, "alpha", alpha)

    def __repr__(self) -> str:
        moved = f", magnet moved at step {self.moved_at}" if self.moved_at else ""
        kept = f", remembers {', '.join(self.memory)}" if self.memory else ""
        return f"State: step {self.step}, {self.evaluations:.10g} evaluations{moved}{kept}"

    def advance(
        self,
        policy: P,
        evaluations: float,
        memory: Mapping[str, Any] | None = None,
        q: Any = None,
    ) -> Self:
        """The state one step later, at `policy`, with `evaluations` charged.

        `memory` is added to the state's memory. `q` is the feedback of `policy`, if that is known.
        """
        # Without a new `q` the old one is dropped: it is the feedback of the policy before.
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

    def answering(self, policy: P) -> Self:
        """The same state with `policy` in the place of the last iterate, which it remembers."""
        if policy is self.policy:
            return self
        return replace(self, policy=policy).remember(iterate=self.policy)

    @property
    def iterate(self) -> P:
        """The last iterate, also in a state that shows another policy, such as an average."""
        found: P = self.memory.get("iterate", self.policy)
        return found

    def move(self, magnet: P) -> Self:
        """The same state with the magnet moved to `magnet` at this step.

        The memory is kept, because a prediction of the next feedback stays as good as it was. The
        number of steps since the move is `step - moved_at`.
        """
        return replace(self, magnet=magnet, moved_at=self.step)

    def charge(self, evaluations: float) -> Self:
        """The same state with `evaluations` added to those that it counts."""
        return replace(self, evaluations=self.evaluations + evaluations)

    def remember(self, **memory: Any) -> Self:
        """The same state with `memory` added to its memory."""
        # Field by field, here and in the two methods beside it: `replace` takes three times as
        # long, which shows in a step of microseconds.
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
        """The same state with the step size and the magnet's weight of the step that begins now."""
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

    Any callable `(game, state) -> state` that returns the state as it is, or `state.move(...)`. If
    the decision costs feedback evaluations, the schedule adds them by `state.charge(...)`.

    >>> def at_step_100(game, state):
    ...     return state.move(state.policy) if state.step == 100 else state
    >>> solve(load('comal'), MMD(0.3, 0.1, magnet=at_step_100), 500).state.moved_at
    100
    """

    # Positional, so that any function of two arguments is a schedule, whatever it calls them.

    def __call__(self, game: Game[Any, Any], state: State[Any], /) -> State[Any]: ...


@runtime_checkable
class Solver(Protocol):
    """Settings with one pure method: a frozen dataclass that reads like its paper's equation.

    >>> isinstance(MPO(eta=0.3, alpha=0.1, period=50), Solver)
    True
    """

    def step(
        self, game: Game[Any, Any], state: State[Any], rng: np.random.Generator | None = None
    ) -> State[Any]:
        """The next state; `state` itself is not changed. `rng` drives sampled feedback."""
        ...
