"""A run on texts: prompts, a judge, and the preferences between responses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from mpo_games.protocol import Solver, State
from mpo_llm.config import Config
from mpo_llm.game import TextPreferenceGame
from mpo_llm.judges import loading as judge_loading
from mpo_llm.judges.sharing import shared
from mpo_llm.judges.wrappers import tally
from mpo_llm.measures.report import evaluate
from mpo_llm.networks.base import Network
from mpo_llm.networks.processes import Processes
from mpo_llm.policy import TokenPolicy
from mpo_llm.prompts import load as load_prompts
from mpo_llm.prompts import require as require_prompts
from mpo_llm.responses import Ids
from mpo_llm.templates import Said, said
from mpo_llm.training import assemble, fingerprint, records
from mpo_llm.training.answers import Answers
from mpo_llm.training.comparison import PROMPTS, Comparison, compare
from mpo_llm.training.fingerprint import Identity
from mpo_llm.training.ledger import Ledger


@dataclass(frozen=True, slots=True, eq=False)
class Texts:
    """What a run on texts trains on."""

    config: Config
    game: TextPreferenceGame
    """The game of the training prompts; the ledger counts its draws and comparisons."""
    solver: Solver
    held_out: TextPreferenceGame | None
    """The same game on held-out prompts, which the ledger does not count; None without any."""
    shown: TextPreferenceGame
    """The game on which the result is compared with the start: `held_out`, or some training
    prompts. The ledger does not count it."""
    read: Callable[[Ids], Said]
    """Thoughts and answer in a response to a training prompt, for the table of samples."""
    identity: Identity
    answers: Answers | None = None
    """What the judge has said; None where each step has responses of its own."""

    @classmethod
    def of(
        cls,
        config: Config,
        ledger: Ledger,
        device: torch.device,
        processes: Processes,
        *,
        shard: bool = False,
    ) -> Texts:
        """Load and check everything; nothing is drawn yet."""
        # Loaded before the model, because a factory that cannot be called is found out fastest.
        judge, engine = judge_loading.load(config.judge), assemble.engine(config)
        for source in (config.prompts, *([config.held_out] if config.evaluation.source else [])):
            require_prompts(source)
        network, tokenizer = assemble.network(config, device, processes, shard=shard)
        policy = assemble.policy(config, network, tokenizer)
        room = assemble.room(policy)
        prompts = load_prompts(config.prompts, tokenizer, room)
        shared_judge = shared(processes, judge)

        # Each process has asked the judge about its share of the comparisons only.
        def failed() -> int:
            return sum(processes.gather(tally(judge)["failed"]))

        asked = ledger.judge(shared_judge, failed)
        # Only `auto` compares the same responses at several steps.
        auto = config.solver.algorithm == "auto"
        answers = Answers(asked, failed) if auto else None
        game = assemble.game(
            config, policy, tokenizer, prompts, answers or asked, ledger.engine(engine)
        )
        held_out = others = None
        uncounted = replace(game, judge=shared_judge, prompts_per_step=None, engine=engine)
        if config.evaluation.source:
            others = load_prompts(config.held_out, tokenizer, room)
            held_out = replace(
                uncounted, prompts=others.ids, decode=assemble.decoder(others, tokenizer)
            )
        return cls(
            config,
            game,
            assemble.chosen(config),
            held_out,
            held_out or replace(uncounted, prompts=prompts.ids[:PROMPTS]),
            partial(said, tokenizer, opened=prompts.opened),
            fingerprint.identity(config, policy, tokenizer, prompts, others),
            answers,
        )

    @property
    def network(self) -> Network:
        """The network that is trained."""
        return self.start.network

    @property
    def start(self) -> TokenPolicy:
        """The policy as it was loaded."""
        return self.game.initial_policy()

    @property
    def known(self) -> dict[bytes, float]:
        """What the judge has said, where the run has to remember it."""
        return {} if self.answers is None else self.answers.known

    def first(self, ledger: Ledger) -> None:
        """Steps start from the model as it is."""

    def count(self, state: State[TokenPolicy], ledger: Ledger) -> None:
        """Judge and engine have told the ledger."""

    def row(self, state: State[TokenPolicy], ledger: Ledger) -> Mapping[str, Any]:
        """Measures of responses and step, and now and then those on held-out prompts."""
        q, report, step = ledger.rollouts, ledger.report, state.step
        assert q is not None
        assert report is not None
        row = {**records.response_metrics(q), **records.step_metrics(report)}
        if self.config.solver.algorithm == "auto":
            row |= records.tuning_metrics(state, report)
        if self.held_out is not None and step % self.config.evaluation.every == 0:
            # Random numbers of its own, because evaluation must not change the draws of training.
            rng = np.random.default_rng([self.config.seed, step])
            samples = self.config.evaluation.samples
            found = evaluate(self.held_out, state.policy, {"start": self.start}, samples, rng)
            row |= records.evaluation_metrics(found)
        return row

    def entries(self, ledger: Ledger) -> Sequence[Mapping[str, Any]]:
        """Some of the last step's prompts with all their responses."""
        assert ledger.rollouts is not None
        return list(records.sample_table(self.game, ledger.rollouts, self.read))

    def compared(self, state: State[TokenPolicy]) -> Comparison:
        """The last policy beside the start, on held-out prompts or on some of its own."""
        # Random numbers of its own: another end must not change what a resumed run draws.
        rng = np.random.default_rng([self.config.seed, state.step, 1])
        samples, held_out = self.config.evaluation.samples, self.held_out is not None
        return compare(self.shown, state.policy, samples, rng, held_out=held_out)
