"""After training: evaluations of a run on held-out prompts, and the league of its checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from math import inf
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from mpo_games.checks import require_count
from mpo_llm import factories
from mpo_llm.config import (
    Config,
    EvaluationConfig,
    JudgeConfig,
    ModelConfig,
    PromptsConfig,
)
from mpo_llm.engines import Engine, sample
from mpo_llm.estimates import Estimate, clustered
from mpo_llm.judges import loading
from mpo_llm.judges.protocol import Judge, JudgeError
from mpo_llm.judges.scores import Score, scored
from mpo_llm.judges.wrappers import tally
from mpo_llm.measures.tournament import Entrants, Tournament, meet
from mpo_llm.networks.errors import first_sentence
from mpo_llm.policy import TokenPolicy
from mpo_llm.prompts import Prompts, records, require, suited
from mpo_llm.prompts import load as load_prompts
from mpo_llm.responses import Responses
from mpo_llm.results.outcomes import START as START
from mpo_llm.results.outcomes import Evaluation, League, Opponent, Scored
from mpo_llm.training import assemble, checkpoint


def evaluate_run(
    path: str,
    against: Sequence[str] = (START,),
    *,
    source: str | EvaluationConfig = "",
    category: str | None = None,
    judge: JudgeConfig = JudgeConfig(),
    score: JudgeConfig = JudgeConfig(),
    samples: int = 4,
    limit: int | None = None,
    seed: int = 0,
    own_engine: bool = False,
    average: bool = False,
) -> Evaluation:
    """Evaluate the checkpoint `path`, or the last one of the run `path`, against other policies.

    `against` names them: `START`, checkpoints, runs (their last checkpoint) or other models. Every
    policy draws `samples` responses to each prompt, and all pairs are judged.

    Args:
        path: a checkpoint or a run's folder.
        against: the opponents.
        source: where the prompts are; the run's held-out prompts when empty. An
            `EvaluationConfig` also says which split, subset and column.
        category: a column of the prompts; results are also given for each of its values.
        judge: the factory of a judge; the run's own judge without one.
        score: the factory of a score of all responses; none without one.
        samples: responses of each policy to each prompt.
        limit: how many prompts are used, from the first; as the run's evaluation does when None.
        seed: the seed of the responses.
        own_engine: whether the built-in engine draws, and not the one of the run.
        average: whether the average of the weights that `path` has played is evaluated, and not
            the last ones; opponents have their last ones.

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
        own_engine=own_engine,
        average=average,
    ).values()
    return found


def evaluate_by(
    judges: Mapping[str, JudgeConfig],
    path: str,
    against: Sequence[str] = (START,),
    *,
    source: str | EvaluationConfig = "",
    category: str | None = None,
    score: JudgeConfig = JudgeConfig(),
    samples: int = 4,
    limit: int | None = None,
    seed: int = 0,
    own_engine: bool = False,
    average: bool = False,
) -> dict[str, Evaluation]:
    """Evaluate as in `evaluate_run` by several judges, on the same responses.

    `judges` holds their factories by name; the result has an `Evaluation` for each name.
    """
    # Judges and policies are loaded first, so that a wrong name is refused before any drawing.
    bench = _Bench.of(path, source, samples, limit, seed, own_engine)
    asked = {title: bench.judge(settings) for title, settings in judges.items()}
    kinds = bench.categories(category)
    own, *others = (bench.entrant(path, average), *(bench.entrant(name) for name in against))
    # The run itself, with its last weights, may be an opponent of its average.
    path = f"{path} (average)" if average else path
    responses = bench.draw(own)
    texts = {path: bench.decode(own, responses)}
    texts |= {
        name: bench.decode(other, bench.draw(other))
        for name, other in zip(against, others, strict=True)
        if name != path
    }
    scores = {}
    if score.factory:
        named, each = ("score", "score_options"), ("prompts", "responses")
        known = loading.KNOWN
        measure: Score = factories.make(
            "a score", score.factory, score.options, named=named, itself=each, known=known
        )
        scores = {
            name: _score_responses(measure, bench.prompts.texts, answers, kinds)
            for name, answers in texts.items()
        }
    # A KL compares policies over the same tokens, and only those of one network surely have them.
    kls: dict[str, Estimate | None] = dict.fromkeys(against)
    for name, other in zip(against, others, strict=True):
        if other.policy.network is own.policy.network:
            each = own.policy.kl(other.policy, responses).sum(axis=1)
            kls[name] = clustered(each, responses.prompt_of, (0.0, inf))
    found = {}
    for title, judge in asked.items():
        table = meet(judge, bench.prompts.texts, texts)
        failures = tally(judge)["failed"]
        found[title] = replace(
            evaluation_of(table, texts, path, kls, failures, kinds, seed), scores=scores
        )
    return found


def evaluation_of(
    table: Tournament,
    texts: Entrants,
    path: str,
    kls: Mapping[str, Estimate | None],
    failures: int = 0,
    kinds: Mapping[str, Any] = MappingProxyType({}),
    seed: int = 0,
) -> Evaluation:
    """The results of the entrant `path` of a tournament, without scores.

    `texts` are the responses of all entrants, `kls` the KLs of `path` from its opponents by their
    names, and `kinds` the prompts of each category, as masks.
    """
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
    prompts, samples = table.lengths.shape[0], table.lengths.shape[2]
    gap = table.gap(path, np.random.default_rng(seed))
    averaging = table.averaging(texts)
    return Evaluation(
        path, prompts, samples, table.length(path), opponents, failures, {}, gap, averaging
    )


def league(
    run: str,
    others: Sequence[str] = (),
    *,
    source: str | EvaluationConfig = "",
    judge: JudgeConfig = JudgeConfig(),
    samples: int = 4,
    limit: int | None = None,
    every: int = 1,
    seed: int = 0,
    own_engine: bool = False,
) -> League:
    """A league: a run's checkpoints, the model that it started from, and others, all against all.

    `every` takes only each n-th checkpoint, counted back from the last. `others` names further
    checkpoints, runs or models. Prompts, judge and `samples` are as in `evaluate_run`. `ValueError`
    as there, and for a folder without checkpoints.
    """
    bench = _Bench.of(run, source, samples, limit, seed, own_engine)
    asked = bench.judge(judge)
    saved = checkpoint.listed(Path(run) / "checkpoints")
    if not saved:
        raise ValueError(f"{run} is not the folder of a run with checkpoints.")
    if not every >= 1:
        raise ValueError(f"`every` must be at least 1, got {every}.")
    # Of one half of the prompts the best rival is chosen, on the other it is measured.
    if len(bench.prompts) < 2:
        raise ValueError("A league needs at least 2 prompts, got 1.")
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
        len(bench.prompts),
    )


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
    def of(
        cls,
        path: str,
        source: str | EvaluationConfig,
        samples: int,
        limit: int | None,
        seed: int,
        own_engine: bool,
    ) -> _Bench:
        require_count("samples", samples)
        require_count("seed", seed, least=0)
        config = checkpoint.config_of_texts(path)
        config = assemble.own_engine(config) if own_engine else config
        asked = _asked(config.evaluation, source)
        if not asked.source:
            raise ValueError("The run has no held-out prompts: pass some with `--prompts`.")
        settings = replace(config, evaluation=asked).held_out
        if limit is not None:
            settings = replace(settings, limit=limit)
        # Before the model is loaded, which may take minutes.
        require(settings)
        policy, tokenizer = assemble.start(config)
        prompts = load_prompts(settings, tokenizer, assemble.room(policy))
        start = _Entrant(policy, tokenizer, prompts, assemble.engine(config))
        return cls(config, settings, start, samples, seed)

    @property
    def prompts(self) -> Prompts:
        return self.start.prompts

    def judge(self, settings: JudgeConfig) -> Judge:
        """The judge of these settings, or the run's own if they name none."""
        return loading.load(settings if settings.factory else self.config.judge)

    def entrant(self, name: str, average: bool = False) -> _Entrant:
        """The entrant of this name: `START`, a checkpoint, a run, or a model's name or path.

        With `average` it is the average of the weights that the run has played.
        """
        if name == START:
            return self.start
        if (Path(name) / checkpoint.HEADER).exists() or (Path(name) / "config.yaml").exists():
            config = checkpoint.config_of_texts(name)
            model = config.model
            # A run's policy reads the prompts by the template that it was trained with.
            own = config.prompts
            settings = replace(
                self.settings, chat=own.chat, template=own.template, thinking=own.thinking
            )
            # The same base model: policies then share one network, in memory only once.
            if model == self.config.model:
                policy = checkpoint.policy_of(name, self.start.policy, average)
                if settings == self.settings:
                    return replace(self.start, policy=policy)
                tokenizer = self.start.tokenizer
                prompts = load_prompts(settings, tokenizer, assemble.room(policy))
                return replace(self.start, policy=policy, prompts=prompts)
            policy, tokenizer = checkpoint.load_policy(name, average)
        else:
            model = ModelConfig(name)
            policy, tokenizer = assemble.start(replace(self.config, model=model))
            settings = suited(self.settings, tokenizer)
        # An engine may have loaded the run's own model, so another model has one of its own. A
        # server has the run's model, and would need to be started with another.
        other = replace(self.config, model=model)
        served = "url" in self.config.generation.options
        engine = assemble.engine(assemble.own_engine(other) if served else other)
        prompts = load_prompts(settings, tokenizer, assemble.room(policy))
        return _Entrant(policy, tokenizer, prompts, engine)

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
            opened = entrant.prompts.opened
            texts[x].append(assemble.answer(entrant.policy, entrant.tokenizer, ids, opened))
        return texts

    def categories(self, column: str | None) -> dict[str, Any]:
        """The prompts of each category, as masks `(X,)` by the category's name."""
        if column is None:
            return {}
        # Read once more, because `Prompts` keeps no other columns.
        rows = list(islice(records(self.settings), len(self.prompts)))
        if any(column not in row for row in rows):
            raise ValueError(f"The prompts have no column {column!r} with their categories.")
        kinds = np.array([str(row[column]) for row in rows])
        return {kind: kinds == kind for kind in sorted(set(kinds.tolist()))}


def _asked(own: EvaluationConfig, source: str | EvaluationConfig) -> EvaluationConfig:
    """The settings of the prompts that are asked for, of a run with evaluations of its `own`."""
    asked = source if isinstance(source, EvaluationConfig) else EvaluationConfig(source)
    # The run's split and subset belong to the run's own held-out prompts.
    if asked.source not in ("", own.source):
        return replace(asked, limit=own.limit)
    return replace(
        own,
        split=asked.split or own.split,
        subset=asked.subset or own.subset,
        column=asked.column or own.column,
    )


def _score_responses(
    measure: Score,
    prompts: Sequence[str],
    responses: Sequence[Sequence[str]],
    kinds: Mapping[str, Any],
) -> Scored:
    """Measure all responses. `ValueError` if the score failed on one.

    A tie is fair to both sides of a comparison, but a score has no such neutral value.
    """
    asked = [x for x, answers in zip(prompts, responses, strict=True) for _ in answers]
    try:
        found = scored(measure, asked, [text for answers in responses for text in answers])
    except JudgeError:
        raise
    # A score is others' code, as a judge is.
    except Exception as error:
        raise ValueError(
            f"The score raised {type(error).__name__}: {first_sentence(error)}"
        ) from error
    if np.isnan(found).any():
        raise ValueError(f"The score failed on {np.isnan(found).sum()} of {len(found)} responses.")
    table = found.reshape(len(prompts), -1)
    harm, numbers, share = (table > 0.0).mean(axis=1), np.arange(len(prompts)), (0.0, 1.0)
    shares = {kind: clustered(harm[rows], numbers[rows], share) for kind, rows in kinds.items()}
    return Scored(clustered(table.mean(axis=1), numbers), clustered(harm, numbers, share), shares)
