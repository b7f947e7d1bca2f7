"""After training: a run judged on prompts it has not seen, and the league of its checkpoints."""

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
"""The name of the model that a run started from."""


@dataclass(frozen=True, slots=True)
class Opponent:
    """A policy against one other."""

    win_rate: Estimate
    length_controlled: Estimate
    """The win rate at equal lengths."""
    kl: Estimate | None
    """KL of whole responses to the opponent, in nats; None to a model with other tokens."""
    length: Estimate
    """Of the opponent's responses, in characters."""
    categories: Mapping[str, Estimate]
    """The win rate by category of prompts."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A policy's responses by a score: rewards, or costs, which are above 0 where they do harm."""

    mean: Estimate
    positive: Estimate
    """The share of responses whose score is above 0."""
    categories: Mapping[str, Estimate]
    """That share by category of prompts."""

    def __str__(self) -> str:
        parts = [f"mean {self.mean}", f"above 0 {_rate(self.positive)}"]
        return ", ".join(parts + [f"{c} {_rate(e)}" for c, e in self.categories.items()])


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A policy judged on prompts; all intervals are for new prompts of their kind."""

    policy: str
    prompts: int
    samples: int
    length: Estimate
    """Of the policy's responses, in characters."""
    opponents: Mapping[str, Opponent]
    failures: int
    """Comparisons on which the judge failed to the end; they count as ties."""
    scores: Mapping[str, Scored]
    """The policy and its opponents by the score that was asked for; empty without one."""

    def __str__(self) -> str:
        lines = [
            f"{self.policy}: {self.prompts} prompts, {self.samples} responses to each, of "
            f"{self.length} characters; the judge failed {self.failures} times"
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
    """All against all. The last entrant of `names` is the model that would be handed out."""

    names: tuple[str, ...]
    win_rates: Sequence[Sequence[float]]
    """`[i][j]`: how often i is preferred to j."""
    errors: Sequence[Sequence[float]]
    equilibrium: Mapping[str, float]
    """The Nash equilibrium of choosing an entrant: the pool that nobody beats."""
    alpha_rank: Mapping[str, float]
    """The share of time that evolution spends with each, the best first."""
    exploitability: Mapping[str, Estimate]
    """How much the best of the others beats each, a lower bound; 0 for a model that needs no pool.
    """
    failures: int

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
        verdict = (
            "beaten by another entrant: keep the pool"
            if last.interval[0] > 0.0
            else ("not shown to be beaten by any: one final model, no pool")
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
    """A checkpoint, or a run's last one, against the model it started from, other checkpoints and
    other models.

    Prompts are the run's held-out ones, and the judge is the run's, unless others are given;
    `category` is a column of theirs. `score` is the factory of a score, by which all responses are
    measured too. `ValueError` for bad names, prompts or judges.
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
    """`evaluate_run` by several judges, by name, on the same responses."""
    bench = _Bench.of(path, source, samples, limit, seed)
    asked = {title: bench.judge(settings) for title, settings in judges.items()}
    kinds = bench.categories(category)
    own, *others = (bench.entrant(name) for name in (path, *against))
    responses = bench.draw(own)
    texts = {path: bench.written(own, responses)}
    texts |= {
        name: bench.written(other, bench.draw(other))
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
    """All of a run's checkpoints (or each `every`-th and the last), the model it started from, and
    other checkpoints or models, against each other. Prompts and judge as in `evaluate_run`."""
    bench = _Bench.of(run, source, samples, limit, seed)
    asked = bench.judge(judge)
    saved = checkpoint.listed(Path(run) / "checkpoints")
    if not saved:
        raise ValueError(f"{run} is not the folder of a run with checkpoints.")
    if every < 1:
        raise ValueError(f"`every` must be at least 1, got {every}.")
    chosen = saved[::-every][::-1]
    names = {START: START} | {name: name for name in others}
    names |= {path.name: str(path) for path in chosen}
    texts = {}
    for name, where in names.items():
        entrant = bench.entrant(where)
        texts[name] = bench.written(entrant, bench.draw(entrant))
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
    """Everything measured, estimates as value and error."""
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
    """Prompts and the settings of generation, the same for all who are compared."""

    config: Config
    settings: PromptsConfig
    start: _Entrant
    samples: int
    seed: int
    drawn: int = 0
    """How many entrants have drawn: each has random numbers of its own, or pairs of responses
    would not be independent."""

    @classmethod
    def of(cls, path: str, source: str, samples: int, limit: int | None, seed: int) -> _Bench:
        if samples < 1:
            raise ValueError(f"`samples` must be at least 1, got {samples}.")
        config = checkpoint.config_of(path)
        held_out = source or config.evaluation.source
        if not held_out:
            raise ValueError("The run names no held-out prompts: give some with `--prompts`.")
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
        """The judge asked for, or the run's own."""
        return oracle.load(settings if settings.factory else self.config.judge)

    def entrant(self, name: str) -> _Entrant:
        """By the word start, a checkpoint, a run, or the name or path of a model."""
        if name == START:
            return self.start
        if (Path(name) / checkpoint.HEADER).exists() or (Path(name) / "config.yaml").exists():
            model = checkpoint.config_of(name).model
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
        """Responses to all prompts."""
        self.drawn += 1
        rng = np.random.default_rng([self.seed, self.drawn])
        return sample(entrant.policy, entrant.prompts.ids, self.samples, rng, entrant.engine)

    def written(self, entrant: _Entrant, responses: Responses) -> list[list[str]]:
        """The texts, prompt by prompt."""
        texts: list[list[str]] = [[] for _ in range(len(self.prompts))]
        for i, x in enumerate(responses.prompt_of.tolist()):
            ids = responses.ids(i)
            texts[x].append(str(entrant.tokenizer.decode(ids, skip_special_tokens=True)))
        return texts

    def categories(self, column: str | None) -> dict[str, Any]:
        """The prompts of each category, as masks."""
        if column is None:
            return {}
        rows = list(islice(prompts_of.rows(self.settings), len(self.prompts)))
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
