r"""Feedback from revisits: a step learns from the responses of its prompts' last visits.

The judged responses of a step are few. Those of the last visits of a prompt are responses to the
same prompt, and with weights (`visits`) they stand for the present policy: as the actions that it
learns about, and as the opponents that they meet. A step learns at the prompts that are asked now
and at others that were seen before, since a network forgets what it is not reminded of.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, fields
from typing import Any, Protocol, cast

import numpy as np

from mpo_games.checks import require_callable, require_count, require_share
from mpo_games.choices.feedback import Feedback, Prox, optimistic
from mpo_games.protocol import Array, Game, Indices, Mixture, P, State
from mpo_llm.estimates import Estimate
from mpo_llm.gap import by_prompt, estimated_gap
from mpo_llm.policy import TokenPolicy
from mpo_llm.repeats import ByRepeats
from mpo_llm.responses import Ids, Responses
from mpo_llm.step.rollouts import Rollouts
from mpo_llm.step.scoring import HiddenStates, log_probs_and_states
from mpo_llm.strength import NOISE, UNSEEN
from mpo_llm.visits import Texts, Visits

IN_MEMORY = tuple(f"visits/{part.name}" for part in fields(Visits))
"""Names of the records' fields in a state's memory, and so in checkpoints, in their order."""

ORDER = "visits/order"
"""The name in a state's memory of the prompts that the epoch has not asked yet."""

MEMORY = 0.9
"""The weight of what was known in the running mean of the noise."""


Read = tuple[Array, HiddenStates | None]
"""Log-probabilities of tokens, and the states that they come from."""


@dataclass(frozen=True, slots=True)
class Revisited:
    r"""Any feedback, learnt from the responses of each prompt's last visits.

    A step asks `prompts_per_step` of the game's prompts, each prompt once in an epoch. A share
    `explore` of the responses is drawn from the start policy, the others from the policy. The step
    learns from the distinct texts of the last `visits` visits, of these prompts and of `others`
    that were seen before; all pairs of texts of a prompt are judged, so let the judge be `Cached`.
    The `feedback` says which opponents they play for.

    It also measures the share of noise in the advantages, for `ByNoise`. The opponents of even and
    of odd visits give two advantages a and b of each text, whose noises are independent:

    $$\text{noise} = \frac{E(a-b)^2/4}{E(a-b)^2/4 + \max(0, E\,ab)}$$

    in a running mean over steps. It needs a game that draws and compares, `TextPreferenceGame` or
    `EnumerableGame` with `samples`. `ValueError` for settings out of range.
    """

    feedback: Feedback = optimistic
    """The feedback that gets its responses from the visits."""
    visits: int = 8
    """Visits of each prompt whose responses are kept, the present one included."""
    others: int = 24
    """Prompts seen before at which a step learns too."""
    explore: float = 0.125
    """The share of the responses that the start policy draws."""
    texts: Callable[[float], float] = ByRepeats(1.0, 6.0)
    """The most texts that a step learns from, in units of the responses that it draws: a function
    of the chance that the next response is a new one. The last visit of the prompts that are asked
    is always among them, then come their earlier visits, then the other prompts."""

    def __post_init__(self) -> None:
        require_callable("texts", self.texts, "`ByRepeats(1.0, 6.0)`")
        require_callable("feedback", self.feedback, "`optimistic`")
        require_count("visits", self.visits)
        require_count("others", self.others, least=0)
        require_share("explore", self.explore)

    def __call__(
        self, game: Game[P, Any], state: State[P], prox: Prox[P], rng: np.random.Generator | None
    ) -> State[P]:
        """The next state of the inner feedback, whose responses join the visits."""
        memory = state.memory
        # All is kept as arrays in the state's memory, so that a run saves and restores it.
        known = IN_MEMORY[0] in memory
        visits = Visits(*(memory[name] for name in IN_MEMORY)) if known else Visits.empty()
        order = memory.get(ORDER, np.zeros(0, dtype=np.int64))
        play = _Revisit(cast(Worded, game).texts, self, visits, order, memory.get(NOISE))
        state = self.feedback(cast(Game[P, Any], play), state, prox, rng)
        arrays = (getattr(play.visits, part.name) for part in fields(Visits))
        found = dict(zip(IN_MEMORY, arrays, strict=True)) | {ORDER: play.order}
        if play.noise is not None:
            found[NOISE] = play.noise
        if play.unseen is not None:
            found[UNSEEN] = play.unseen
        return state.remember(**found)


class Worded(Protocol):
    """A game of texts, or one that has such a game."""

    @property
    def texts(self) -> Askable:
        """The game that draws responses and compares them; `ValueError` without one."""
        ...


class Askable(Protocol):
    """A game that draws responses to the prompts that it is asked about, and compares them."""

    @property
    def players(self) -> int:
        """1: the same policy plays both seats."""
        ...

    @property
    def prompts(self) -> tuple[Ids, ...]:
        """The prompts as token ids."""
        ...

    @property
    def samples(self) -> int:
        """Responses to each prompt that is asked."""
        ...

    @property
    def prompts_per_step(self) -> int | None:
        """The number of prompts that a step asks; all if None."""
        ...

    def initial_policy(self) -> TokenPolicy:
        """Where learning starts."""
        ...

    def drawn(
        self, policy: TokenPolicy, asked: Indices, count: int, rng: np.random.Generator
    ) -> tuple[Responses, Indices, Array]:
        """The distinct ones of `count` responses to each prompt, how often each was drawn, and its
        log-probability by the engine."""
        ...

    def compare(self, own: Responses, met: Responses) -> tuple[Indices, Indices, Array]:
        """Comparisons `(i, j)` of responses to the same prompt, and `P(i > j) - 1/2`."""
        ...


class _Revisit:
    """The game during one step: its responses are those of the visits, which grow by each
    feedback."""

    def __init__(
        self,
        game: Askable,
        settings: Revisited,
        visits: Visits,
        order: Indices,
        noise: float | None,
    ) -> None:
        self.game, self.settings = game, settings
        self.visits, self.order, self.noise = visits, order, noise
        self.unseen: float | None = None
        self.last: tuple[TokenPolicy, Responses, Read] | None = None

    @property
    def players(self) -> int:
        return self.game.players

    def initial_policy(self) -> TokenPolicy:
        return self.game.initial_policy()

    def feedback(
        self,
        policy: TokenPolicy,
        opponent: TokenPolicy | Mixture[TokenPolicy] | None = None,
        *,
        player: int | None = None,
        rng: np.random.Generator | None = None,
    ) -> Rollouts:
        if rng is None:
            raise ValueError(
                "`rng` is needed, since the feedback of this game is sampled: pass "
                "`rng=np.random.default_rng(seed)`."
            )
        game = self.game
        asked, self.order = next_prompts(
            self.order, game.prompts_per_step or len(game.prompts), len(game.prompts), rng
        )
        before = self.visits.take(np.isin(self.visits.prompt_of, asked)).responses(game.prompts)
        mismatch, drawn, foreign = self._ask(policy, asked, rng)
        unseen, texts = self._learnt(asked, rng)
        self.unseen = unseen
        behaviour, hidden = self._read(policy, texts.responses)
        now = behaviour.sum(axis=1)
        share = texts.weights(now)
        opponent = policy if opponent is None else opponent
        mixture = opponent if isinstance(opponent, Mixture) else Mixture((opponent,), (1.0,))
        met = np.zeros_like(share)
        for sign, each in zip(mixture.weights, mixture.policies, strict=True):
            own = each is policy
            log_probs = now if own else each.log_probs(texts.responses).sum(axis=1)
            met += sign * texts.weights(log_probs)
        i, j, payoff = game.compare(texts.responses, texts.responses)
        # By a copy, since the estimate must not change what training draws next.
        gap = _gap(drawn, before.joined(foreign), texts.responses, (i, j, payoff), deepcopy(rng))

        def advantages(weights: Array) -> Array:
            gains: Array = np.bincount(i, weights[j] * payoff, len(share)).astype(np.float64)
            return gains - _mean(gains, share, texts.responses)[texts.responses.prompt_of]

        self._measure(texts, now, share, advantages)
        responses = texts.responses
        worth = np.where(responses.mask, advantages(met)[:, None], 0.0)
        return Rollouts(
            responses,
            share / len(np.unique(texts.responses.prompt_of)),
            worth,
            behaviour,
            mismatch=mismatch,
            hidden=hidden,
            gap=gap,
            unseen=unseen,
        )

    def _ask(
        self, policy: TokenPolicy, asked: Indices, rng: np.random.Generator
    ) -> tuple[float, tuple[Responses, Indices], Responses]:
        """Draw responses to the prompts, which join the visits.

        Returns the engine's mismatch, the policy's distinct responses with how often each was
        drawn, and those of the start policy.
        """
        game = self.game
        start, count = game.initial_policy(), game.samples
        foreign = _rounded(self.settings.explore * count, rng)
        parts = [(policy, count - foreign), (start, foreign)]
        drawn = [(each, n, *game.drawn(each, asked, n, rng)) for each, n in parts if n]
        _, _, everyone, times, _ = drawn[0]
        for _, _, responses, more, _ in drawn[1:]:
            everyone, times = everyone.joined(responses), np.concatenate([times, more])
        distinct, where = everyone.distinct()
        log_probs = np.full(len(distinct), -np.inf)
        mismatch, at = 0.0, 0
        for each, n, responses, often, engine in drawn:
            known = each is policy
            found = self._read(policy, distinct)[0] if known else each.log_probs(distinct)
            now = found.sum(axis=1)
            log_probs = np.logaddexp(log_probs, now + np.log(n / count))
            apart = np.abs(now[where[at : at + len(responses)]] - engine)
            mismatch += float(often @ apart) / (count * len(asked))
            at += len(responses)
        if not np.isfinite(mismatch):
            raise FloatingPointError(
                "The engine reported log-probabilities that are not finite: see `Drawn.log_probs`."
            )
        often = np.bincount(where, times).astype(np.int64)
        self.visits = self.visits.joined(distinct, often, log_probs, self.settings.visits)
        _, _, own, own_times, _ = drawn[0]
        nobody = own.take(np.zeros(0, dtype=np.int64))
        return mismatch, (own, own_times), drawn[1][2] if len(drawn) > 1 else nobody

    def _read(self, policy: TokenPolicy, responses: Responses) -> Read:
        """The log-probabilities of tokens by the policy that draws, and its states before them.

        Where nothing but the new responses is learnt from, they are asked for twice.
        """
        last = self.last
        if last is None or last[0] is not policy or not last[1].equals(responses):
            last = self.last = policy, responses, log_probs_and_states(policy, responses)
        return last[2]

    def _learnt(self, asked: Indices, rng: np.random.Generator) -> tuple[float, Texts]:
        """The chance that the next response is a new one, and what the step learns from.

        These are the texts of the prompts that were asked, and of others that were seen before, as
        far as there is room for them.
        """
        settings, visits, prompts = self.settings, self.visits, self.game.prompts
        seen = np.setdiff1d(visits.prompt_of, asked)
        others = rng.choice(seen, min(settings.others, len(seen)), replace=False)
        now = np.isin(visits.prompt_of, asked)
        texts = Texts.of(visits.take(now), prompts)
        unseen = texts.unseen()
        room = settings.texts(unseen) * self.game.samples * len(asked)
        ages, last = visits.ages, settings.visits
        while len(texts.responses) > room and last > 1:
            last -= 1
            texts = Texts.of(visits.take(now & (ages < last)), prompts)
        left = room - len(texts.responses)
        more = Texts.of(visits.take(np.isin(visits.prompt_of, others)), prompts)
        sizes = np.bincount(more.responses.prompt_of, minlength=len(prompts))[others]
        also = np.isin(visits.prompt_of, others[np.cumsum(sizes) <= left])
        return unseen, Texts.of(visits.take(now & (ages < last) | also), prompts)

    def _measure(
        self, texts: Texts, now: Array, share: Array, advantages: Callable[[Array], Array]
    ) -> None:
        """Bring the share of noise up to date, if a prompt has been asked twice."""
        even = texts.visits.visit % 2 == 0
        halves = [texts.weights(now, rows) for rows in (even, ~even)]
        count = len(texts.responses.prompts)
        of = texts.responses.prompt_of
        # Prompts that have records in both halves.
        both = np.all([np.bincount(of, half, minlength=count) > 0.0 for half in halves], axis=0)
        if not both.any():
            return
        a, b = (advantages(half) for half in halves)
        weight = share * both[of]
        noise = float(weight @ (a - b) ** 2) / 4.0
        signal = max(float(weight @ (a * b)), 0.0)
        # Where all responses are worth the same there is nothing to follow, and no noise in it.
        found = noise / (noise + signal) if noise > 0.0 else 0.0
        self.noise = found if self.noise is None else MEMORY * self.noise + (1 - MEMORY) * found


def next_prompts(
    order: Indices, count: int, total: int, rng: np.random.Generator
) -> tuple[Indices, Indices]:
    """The `count` prompts that a step asks, sorted, and those that the epoch has not asked yet.

    `order` are the prompts left. When they do not suffice, the next epoch begins: a new order of
    all `total` prompts, in which those that are asked now come last.
    """
    if count >= total:
        return np.arange(total), order
    if len(order) < count:
        fresh = rng.permutation(total)
        asked = np.isin(fresh, order)
        order = np.concatenate([order, fresh[~asked], fresh[asked]])
    return np.sort(order[:count]), order[count:]


def _gap(
    drawn: tuple[Responses, Indices],
    others: Responses,
    met: Responses,
    comparisons: tuple[Indices, Indices, Array],
    rng: np.random.Generator,
) -> Estimate | None:
    """The estimated gap of the policy that has `drawn` responses, each so many times.

    `others` were drawn apart from them: by the start policy, and in earlier visits. `met` are all
    distinct responses, which `comparisons` compare with each other.
    """
    own, times = drawn
    _, where = met.joined(own).joined(others).distinct()
    place = np.full(int(where.max()) + 1, -1)
    place[where[: len(met)]] = np.arange(len(met))
    at = place[where[len(met) : len(met) + len(own)]]
    # Responses of visits that are kept no longer are not among those that are met.
    apart = np.isin(np.arange(len(met)), place[where[len(met) + len(own) :]])
    i, j, payoff = comparisons
    mine = np.isin(i, at)
    # Both are sorted by prompt and text, so their order is the same.
    tables = by_prompt(
        (own.prompt_of, met.prompt_of),
        at,
        apart,
        times,
        times.astype(np.float64),
        (np.searchsorted(at, i[mine]), j[mine], payoff[mine]),
    )
    return estimated_gap(tables, rng)


def _mean(values: Array, share: Array, responses: Responses) -> Array:
    """The mean of the responses' values at each prompt; shares add up to 1 there."""
    prompts = len(responses.prompts)
    return np.asarray(np.bincount(responses.prompt_of, share * values, minlength=prompts))


def _rounded(number: float, rng: np.random.Generator) -> int:
    """A whole number next to `number`, drawn so that its mean is `number`."""
    whole = int(number)
    rest = number - whole
    return whole + int(rest > 0.0 and rng.random() < rest)
