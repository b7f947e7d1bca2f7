"""The outcomes of an evaluation and of a league: what they hold and how they are printed.

All standard errors are for new prompts of the same kind. Win rates are probabilities in [0, 1], in
which a tie counts 1/2; lengths are in characters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mpo_games.written import counted
from mpo_llm.estimates import FEWEST, Estimate, plain
from mpo_llm.measures import START as START
from mpo_llm.measures.averaging import Averaging

PAGE = "page.html"
"""The page of a run, in its folder."""


@dataclass(frozen=True, slots=True)
class Opponent:
    """The results of a policy against one opponent."""

    win_rate: Estimate
    """The probability that a response of the policy is preferred to one of the opponent."""
    length_controlled: Estimate
    """The win rate at equal lengths."""
    kl: Estimate | None
    """The KL divergence of the policy from the opponent, in nats a response; None if the opponent
    has another base model, whose tokens may differ."""
    length: Estimate
    """The mean length of the opponent's responses, in characters."""
    categories: Mapping[str, Estimate]
    """The win rate on each category of prompts."""


@dataclass(frozen=True, slots=True)
class Scored:
    """The scores of a policy's responses: rewards, or costs, which are above 0 for harm."""

    mean: Estimate
    """The mean score, in the score's unit."""
    positive: Estimate
    """The share of responses whose score is above 0."""
    categories: Mapping[str, Estimate]
    """That share on each category of prompts."""

    def __str__(self) -> str:
        parts = [f"mean {self.mean}", f"above 0 {_rate(self.positive)}"]
        return ", ".join(parts + [f"{c} {_rate(e)}" for c, e in self.categories.items()])


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The results of a policy against its opponents, by one judge."""

    policy: str
    """The checkpoint or run that was evaluated."""
    prompts: int
    """The number of prompts."""
    samples: int
    """The number of responses of each policy to each prompt."""
    length: Estimate
    """The mean length of the policy's responses, in characters."""
    opponents: Mapping[str, Opponent]
    """The results by the opponents' names."""
    failures: int
    """Comparisons on which the judge failed after all repetitions; they count as ties."""
    scores: Mapping[str, Scored]
    """The scores of the policy and of its opponents, by name; empty if no score was asked for."""
    gap: Estimate | None
    """The estimated duality gap of the policy, in the mean over prompts, see `mpo_llm.gap`: a lower
    bound in the mean. The responses of all policies are rivals. None for fewer than 4 responses to
    a prompt, or if all comparisons are ties."""
    averaging: Averaging
    """How cyclic the judge is on the responses of all policies, and what a mean score loses on
    them."""

    def __str__(self) -> str:
        lines = [
            f"{self.policy}: {counted(self.prompts, 'prompt')}, "
            f"{counted(self.samples, 'response')} to each, of {self.length} characters; "
            f"the judge failed on {counted(self.failures, 'comparison')}"
        ]
        for name, o in self.opponents.items():
            lines += [
                f"against {name} ({o.length} characters)",
                f"  win rate           {_rate(o.win_rate)}",
                f"  at equal lengths   {_rate(o.length_controlled)}",
            ]
            lines += [] if o.kl is None else [f"  KL                 {o.kl} nats a response"]
            lines += [f"  {c:18} {_rate(e)}" for c, e in o.categories.items()]
        lines += [f"score of {name}: {found}" for name, found in self.scores.items()]
        gap = "unknown" if self.gap is None else f"at least {_rate(self.gap)}"
        lines += ["all responses to a prompt, by this judge", f"  estimated gap      {gap}"]
        lines += [f"  {line}" for line in str(self.averaging).splitlines()]
        return "\n".join([*lines, *_too_few(self.prompts)])


@dataclass(frozen=True, slots=True)
class League:
    """The results of n entrants, all against all, by one judge.

    The last entrant is the model in question: the one that would be released.
    """

    names: tuple[str, ...]
    """The names of the n entrants."""
    win_rates: Sequence[Sequence[float]]
    """The probability `[i][j]` that a response of i is preferred to one of j, `(n, n)`."""
    errors: Sequence[Sequence[float]]
    """The standard errors of the win rates."""
    equilibrium: Mapping[str, float]
    """The Nash equilibrium of choosing an entrant: the mixture that no entrant beats."""
    alpha_rank: Mapping[str, float]
    """The mass of each entrant in alpha-rank, the largest first."""
    exploitability: Mapping[str, Estimate]
    """By how much the best rival beats each entrant, at least: `max_j P(j > i) - 1/2`. An entrant
    whose value is 0 needs no pool of others beside it."""
    failures: int
    """Comparisons on which the judge failed after all repetitions; they count as ties."""
    prompts: int
    """The number of prompts."""

    def __str__(self) -> str:
        width = max(12, *(len(name) + 2 for name in self.names))
        head = "".join(f"{name:>{width}}" for name in self.names)
        lines = [f"{'win rate of':{width}}{head}"]
        for name, row in zip(self.names, self.win_rates, strict=True):
            lines.append(f"{name:{width}}" + "".join(f"{value:>{width}.3f}" for value in row))
        lines.append(f"{'':{width}}{'equilibrium':>{width}}{'alpha-rank':>{width}}  exploitability")
        for name, mass in self.alpha_rank.items():
            lines.append(
                f"{name:{width}}{self.equilibrium[name]:>{width}.3f}{mass:>{width}.3f}"
                f"  {_rate(self.exploitability[name])}"
            )
        lines.append(
            "exploitability: how often the best rival wins, less 1/2. It is chosen on one half of "
            "the prompts and measured on the other: it may be negative where none wins on both."
        )
        last = self.exploitability[self.names[-1]]
        # Only an interval above 0 shows that a rival wins; noise alone can make the value positive.
        verdict = "not shown to be beaten by any entrant: one model is enough"
        if self.prompts < FEWEST:
            verdict = f"beaten or not: {self.prompts} prompts cannot tell"
        elif last.interval[0] > 0.0:
            verdict = "beaten by another entrant: keep a pool of models"
        return "\n".join([*lines, f"{self.names[-1]} is {verdict}", *_too_few(self.prompts)])


def as_json(found: Evaluation | League) -> dict[str, Any]:
    """All results, as JSON. An estimate is an object with `value` and `error`, and with the ends of
    its interval, `low` and `high`.

    A number that is not known, such as the error of a single prompt, is None.
    """
    whole: dict[str, Any] = plain(found)
    return whole


def _rate(e: Estimate) -> str:
    return e.with_interval(".3f")


def _too_few(prompts: int) -> list[str]:
    """A line that says why there are no intervals, where there are none."""
    if prompts >= FEWEST:
        return []
    return [f"intervals are unknown: they need at least {FEWEST} prompts, here are {prompts}"]
