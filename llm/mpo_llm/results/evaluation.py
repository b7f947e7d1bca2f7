"""After training: evaluations of a run on held-out prompts, and the league of its checkpoints.

All standard errors are for new prompts of the same kind. Win rates are probabilities in [0, 1], in
which a tie counts 1/2; lengths are in characters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from mpo_llm import factories
from mpo_llm import prompts as prompts_of
from mpo_llm.config import Config, JudgeConfig, ModelConfig, PromptsConfig
from mpo_llm.engines import Engine, sample
from mpo_llm.estimates import Estimate, clustered
from mpo_llm.judges import loading as oracle
from mpo_llm.judges.protocol import Judge
from mpo_llm.judges.scores import Score, scored
from mpo_llm.judges.wrappers import tally
from mpo_llm.measures.tournament import meet
from mpo_llm.policy import TokenPolicy
from mpo_llm.prompts import Prompts
from mpo_llm.responses import Responses
from mpo_llm.training import assemble, checkpoint

START = "start"
"""The name by which all commands call the model that a run started from."""


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

    def __str__(self) -> str:
        lines = [
            f"{self.policy}: {self.prompts} prompts, {self.samples} responses to each, of "
            f"{self.length} characters; the judge failed on {self.failures} comparisons"
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
        return "\n".join(lines)


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
                f"  {self.exploitability[name]}"
            )
        last = self.exploitability[self.names[-1]]
        # Only an interval above 0 shows that a rival wins; noise alone can make the value positive.
        verdict = (
            "beaten by another entrant: keep a pool of models"
            if last.interval[0] > 0.0
            else "not shown to be beaten by any entrant: one model is enough"
        )
        lines.append(f"{self.names[-1]} is {verdict}")
        return "\n".join(lines)


def evaluate_run(
    path: str,
    against: Sequence[str] = (START,),
    *,
    source: str = "",
    category: str | None = None,
    judge: JudgeConfig = JudgeConfig(),
    score: JudgeConfig = JudgeConfig(),
    samples: int = 4,
    limit: int | None = None,
    seed: int = 0,
) -> Evaluation:
    """Evaluate the checkpoint `path`, or the last one of the run `path`, against other policies.

    `against` names them: `START`, checkpoints, runs (their last checkpoint) or other models. Every
    policy draws `samples` responses to each prompt, and all pairs are judged.

    Args:
        path: a checkpoint or a run's folder.
        against: the opponents.
        source: where the prompts are; the run's held-out prompts when empty.
        category: a column of the prompts; results are also given for each of its values.
        judge: the factory of a judge; the run's own judge without one.
        score: the factory of a score of all responses; none without one.
        samples: responses of each policy to each prompt.
        limit: how many prompts are used, from the first; as the run's evaluation does when None.
        seed: the seed of the responses.

    `ValueError` for names, prompts, judges or scores that cannot be found or used.
    """
    (found,) = evaluate_by(
        {"": judge},
        path,
        against,
        source=source,
        category=category,
        score=score,
        samples=samples,
        limit=limit,
        seed=seed,
    ).values()
    return found


def evaluate_by(
    judges: Mapping[str, JudgeConfig],
    path: str,
    against: Sequence[str] = (START,),
    *,
    source: str = "",
    category: str | None = None,
    score: JudgeConfig = JudgeConfig(),
    samples: int = 4,
    limit: int | None = None,
    seed: int = 0,
) -> dict[str, Evaluation]:
    """Evaluate as in `evaluate_run` by several judges, on the same responses.

    `judges` holds their factories by name, and the result an `Evaluation` for each.
    """
    # Judges and policies are loaded first, so that a wrong name is refused before any drawing.
    bench = _Bench.of(path, source, samples, limit, seed)
    asked = {title: bench.judge(settings) for title, settings in judges.items()}
    kinds = bench.categories(category)
    own, *others = (bench.entrant(name) for name in (path, *against))
    responses = bench.draw(own)
    texts = {path: bench.decode(own, responses)}
    texts |= {
        name: bench.decode(other, bench.draw(other))
        for name, other in zip(against, others, strict=True)
        if name != path
    }
    scores = {}
    if score.factory:
        named = ("score", "score_options")
        measure: Score = factories.make("a score", score.factory, score.options, named=named)
        scores = {
            name: _scored(measure, bench.prompts.texts, of, kinds) for name, of in texts.items()
        }
    # Policies of one network have the same tokens; without that a KL has no meaning.
    kls: dict[str, Estimate | None] = dict.fromkeys(against)
    for name, other in zip(against, others, strict=True):
        if other.policy.network is own.policy.network:
            each = own.policy.kl(other.policy, responses).sum(axis=1)
            kls[name] = clustered(each, responses.prompt_of)
    found = {}
    for title, judge in asked.items():
        table = meet(judge, bench.prompts.texts, texts)
        opponents = {
            name: Opponent(
                table.win_rate(path, name),
                table.length_controlled(path, name),
                kl,
                table.length(name),
                {kind: table.win_rate(path, name, which) for kind, which in kinds.items()},
            )
            for name, kl in kls.items()
        }
        failures, count = tally(judge)["failed"], len(bench.prompts)
        found[title] = Evaluation(
            path, count, samples, table.length(path), opponents, failures, scores
        )
    return found


def league(
    run: str,
    others: Sequence[str] = (),
    *,
    source: str = "",
    judge: JudgeConfig = JudgeConfig(),
    samples: int = 4,
    limit: int | None = None,
    every: int = 1,
    seed: int = 0,
) -> League:
    """A league: a run's checkpoints, the model that it started from, and others, all against all.

    `every` takes only each n-th checkpoint, counted back from the last. `others` names further
    checkpoints, runs or models. Prompts, judge and `samples` are as in `evaluate_run`. `ValueError`
    as there, and for a folder without checkpoints.
    """
    bench = _Bench.of(run, source, samples, limit, seed)
    asked = bench.judge(judge)
    saved = checkpoint.listed(Path(run) / "checkpoints")
    if not saved:
        raise ValueError(f"{run} is not the folder of a run with checkpoints.")
    if every < 1:
        raise ValueError(f"`every` must be at least 1, got {every}.")
    # Counted from the end, because the last checkpoint is the model in question.
    chosen = saved[::-every][::-1]
    # The run's checkpoints stand last, because the last entrant is the model in question.
    names = {START: START} | {name: name for name in others}
    names |= {path.name: str(path) for path in chosen}
    texts = {}
    for name, where in names.items():
        entrant = bench.entrant(where)
        texts[name] = bench.decode(entrant, bench.draw(entrant))
    table = meet(asked, bench.prompts.texts, texts)
    equilibrium = table.equilibrium().policy.probs[0]
    pairs = [[table.win_rate(i, j) for j in table.names] for i in table.names]
    return League(
        table.names,
        [[e.value for e in row] for row in pairs],
        [[e.error for e in row] for row in pairs],
        dict(zip(table.names, equilibrium.tolist(), strict=True)),
        table.ranking(),
        {name: table.exploitability(name) for name in table.names},
        tally(asked)["failed"],
    )


def as_json(found: Evaluation | League) -> dict[str, Any]:
    """All results, as JSON. An estimate is an object with `value` and `error`."""
    return asdict(found)


@dataclass(frozen=True, slots=True, eq=False)
class _Entrant:
    """A policy, its tokenizer, the prompts by its token ids, and the engine that draws from it."""

    policy: TokenPolicy
    tokenizer: Any
    prompts: Prompts
    engine: Engine


@dataclass(slots=True)
class _Bench:
    """The prompts and the settings of generation, which are the same for all entrants."""

    config: Config
    settings: PromptsConfig
    start: _Entrant
    samples: int
    seed: int
    drawn: int = 0
    """The number of entrants that have drawn. It is part of the next entrant's seed: with the same
    random numbers, responses of two entrants would not be independent."""

    @classmethod
    def of(cls, path: str, source: str, samples: int, limit: int | None, seed: int) -> _Bench:
        if samples < 1:
            raise ValueError(f"`samples` must be at least 1, got {samples}.")
        config = checkpoint.config_of(path)
        held_out = source or config.evaluation.source
        if not held_out:
            raise ValueError("The run has no held-out prompts: pass some with `--prompts`.")
        settings = replace(
            config.prompts,
            source=held_out,
            limit=config.evaluation.limit if limit is None else limit,
        )
        policy, tokenizer = assemble.start(config)
        asked = prompts_of.load(settings, tokenizer)
        start = _Entrant(policy, tokenizer, asked, assemble.engine(config))
        return cls(config, settings, start, samples, seed)

    @property
    def prompts(self) -> Prompts:
        return self.start.prompts

    def judge(self, settings: JudgeConfig) -> Judge:
        """The judge of these settings, or the run's own if they name none."""
        return oracle.load(settings if settings.factory else self.config.judge)

    def entrant(self, name: str) -> _Entrant:
        """The entrant of this name: `START`, a checkpoint, a run, or a model's name or path."""
        if name == START:
            return self.start
        if (Path(name) / checkpoint.HEADER).exists() or (Path(name) / "config.yaml").exists():
            model = checkpoint.config_of(name).model
            # The same base model: policies then share one network, in memory only once.
            if model == self.config.model:
                policy = checkpoint.policy_of(name, self.start.policy)
                return replace(self.start, policy=policy)
            policy, tokenizer = checkpoint.load_policy(name)
        else:
            model = ModelConfig(name)
            policy, tokenizer = assemble.start(replace(self.config, model=model))
        # An engine may have loaded the run's own model, so another model has one of its own.
        engine = assemble.engine(replace(self.config, model=model))
        return _Entrant(policy, tokenizer, prompts_of.load(self.settings, tokenizer), engine)

    def draw(self, entrant: _Entrant) -> Responses:
        """`samples` responses of the entrant to each prompt."""
        self.drawn += 1
        rng = np.random.default_rng([self.seed, self.drawn])
        return sample(entrant.policy, entrant.prompts.ids, self.samples, rng, entrant.engine)

    def decode(self, entrant: _Entrant, responses: Responses) -> list[list[str]]:
        """The texts of the responses, a list for each prompt."""
        texts: list[list[str]] = [[] for _ in range(len(self.prompts))]
        for i, x in enumerate(responses.prompt_of.tolist()):
            ids = responses.ids(i)
            texts[x].append(str(entrant.tokenizer.decode(ids, skip_special_tokens=True)))
        return texts

    def categories(self, column: str | None) -> dict[str, Any]:
        """The prompts of each category, as masks `(X,)` by the category's name."""
        if column is None:
            return {}
        # Read once more, because `Prompts` keeps no other columns.
        rows = list(islice(prompts_of.records(self.settings), len(self.prompts)))
        if any(column not in row for row in rows):
            raise ValueError(f"The prompts have no column {column!r} with their categories.")
        of = np.array([str(row[column]) for row in rows])
        return {kind: of == kind for kind in sorted(set(of.tolist()))}


def _scored(
    measure: Score,
    prompts: Sequence[str],
    responses: Sequence[Sequence[str]],
    kinds: Mapping[str, Any],
) -> Scored:
    """Measure all responses. `ValueError` if the score failed on one.

    A tie is fair to both sides of a comparison, but a score has no such neutral value.
    """
    asked = [x for x, of in zip(prompts, responses, strict=True) for _ in of]
    found = scored(measure, asked, [text for of in responses for text in of])
    if np.isnan(found).any():
        raise ValueError(f"The score failed on {np.isnan(found).sum()} of {len(found)} responses.")
    table = found.reshape(len(prompts), -1)
    harm, numbers = (table > 0.0).mean(axis=1), np.arange(len(prompts))
    shares = {kind: clustered(harm[rows], numbers[rows]) for kind, rows in kinds.items()}
    return Scored(clustered(table.mean(axis=1), numbers), clustered(harm, numbers), shares)


def _rate(e: Estimate) -> str:
    low, high = e.interval
    return f"{e.value:.3f} [{low:.3f}, {high:.3f}]"
