"""The training loop: it goes through the core's states, records them and saves them.

`mg.iterate` takes the steps. This file adds what surrounds them: budgets, records, checkpoints, and
the ways in which a run ends.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import mpo_games as mg
from mpo_games.atomic import write_bytes
from mpo_games.interrupts import STOPS, Signals, unmasked
from mpo_games.protocol import Solver, State
from mpo_llm.algorithms import completed
from mpo_llm.config import Config
from mpo_llm.game import TextPreferenceGame
from mpo_llm.judges import loading as judge_loading
from mpo_llm.judges.sharing import shared
from mpo_llm.judges.wrappers import tally
from mpo_llm.measures.report import evaluate
from mpo_llm.networks import loading as model_loading
from mpo_llm.networks.processes import Distributed, OneProcess, Processes, asked_to_shard
from mpo_llm.policy import TokenPolicy
from mpo_llm.prompts import load as load_prompts
from mpo_llm.prompts import require as require_prompts
from mpo_llm.responses import Ids
from mpo_llm.templates import Said, said
from mpo_llm.training import assemble, checkpoint, config_file, fingerprint, records
from mpo_llm.training.answers import Answers
from mpo_llm.training.checkpoint import Checkpoint
from mpo_llm.training.comparison import PROMPTS, Comparison, compare
from mpo_llm.training.fingerprint import Identity
from mpo_llm.training.ledger import Ledger, peak_memory
from mpo_llm.training.lock import locked
from mpo_llm.training.progress import hidden, progress
from mpo_llm.training.saving import Saver
from mpo_llm.training.stops import Interrupted as Interrupted
from mpo_llm.training.summary import Summary as Summary
from mpo_llm.training.trackers import Trackers, named


def train(
    config: Config, *, resume: bool = False, accept: Sequence[str] = (), attended: bool = False
) -> Summary:
    """Run a configuration to the end of its budget; with `resume`, from its last checkpoint.

    Somebody who has `attended` the run is told how far it is, on a terminal or not, and at its end
    the summary has a `comparison` with the start model, whose responses the budget does not count.

    On a CPU a resumed run goes on bit for bit as if it had never stopped. It is refused if its
    prompts, its judge, its weights or anything else in `fingerprint.NAMES` is not what the run was
    begun with, except for the names in `accept`: these changes are recorded in the checkpoints.

    Raises `Interrupted` after SIGINT, SIGTERM or SIGHUP, when a checkpoint has been saved; a second
    SIGINT does not wait for the end of the step, and raises `KeyboardInterrupt`. This and any other
    exception (of a judge or a tracker, say) is raised after the last whole step has been saved; a
    note of the exception names that step. `ValueError` for a configuration that cannot be run, and
    while another run uses the folder, before anything is drawn. If a checkpoint cannot be written,
    the one before it is kept, a warning says so, and the run goes on; `OSError` if the last one
    cannot.
    """
    unknown = [name for name in accept if name not in fingerprint.NAMES]
    if unknown:
        raise ValueError(
            f"`accept` takes {', '.join(fingerprint.NAMES)}, got {', '.join(unknown)}."
        )
    # The first process has the lock for all.
    alone = os.environ.get("RANK", "0") == "0"
    with locked(config.output.folder) if alone else nullcontext():
        saved = checkpoint.listed(config.output.folder / "checkpoints")
        if saved and not resume:
            raise ValueError(
                f"{str(config.output.folder)!r} holds a run: go on with `--resume`, or choose "
                "another `output.folder`."
            )
        run = Run.of(config)
        if saved:
            run.restore(saved[-1], accept)
        run.open()
        summary = run.go(lines=attended)
        return replace(summary, comparison=run.compared()) if attended else summary


@dataclass(slots=True)
class Run:
    """A run: the objects that its configuration describes, and its progress."""

    config: Config
    game: TextPreferenceGame
    """The game of the training prompts; the ledger counts its draws and comparisons."""
    solver: Solver
    held_out: TextPreferenceGame | None
    """The same game on held-out prompts, which the ledger does not count; None without any."""
    ledger: Ledger
    rng: np.random.Generator
    processes: Processes
    device: torch.device
    trackers: Trackers
    """They are told each step's metrics."""
    shown: TextPreferenceGame
    """The game on which the result is compared with the start: `held_out`, or some training
    prompts. The ledger does not count it."""
    read: Callable[[Ids], Said]
    """Thoughts and answer in a response to a training prompt, for the table of samples."""
    identity: Identity
    """What makes this run this run."""
    answers: Answers | None = None
    """What the judge has said; None where each step has responses of its own."""
    state: State[TokenPolicy] | None = None
    """The state after the last step; None at the start."""
    saver: Saver = field(init=False)
    """It writes the records and the checkpoints."""

    def __post_init__(self) -> None:
        self.saver = Saver(self.folder, self.config.output.keep, self.processes)

    @classmethod
    def of(cls, config: Config) -> Run:
        """Load and check everything; nothing is drawn or written yet."""
        from accelerate import Accelerator

        config = completed(config)
        trackers = Trackers(named(config.output.trackers), config)
        fsdp = asked_to_shard()
        accelerator = Accelerator(cpu=model_loading.device().type == "cpu")
        processes: Processes = Distributed() if accelerator.num_processes > 1 else OneProcess()
        # Loaded before the model, because a factory that cannot be called is found out fastest.
        judge, engine = judge_loading.load(config.judge), assemble.engine(config)
        for source in (config.prompts, *([config.held_out] if config.evaluation.source else [])):
            require_prompts(source)
        network, tokenizer = assemble.network(
            config, accelerator.device, processes, shard=fsdp and processes.size > 1
        )
        policy = assemble.policy(config, network, tokenizer)
        ledger = Ledger()
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
            ledger,
            np.random.default_rng(config.seed),
            processes,
            accelerator.device,
            trackers,
            held_out or replace(uncounted, prompts=prompts.ids[:PROMPTS]),
            partial(said, tokenizer, opened=prompts.opened),
            fingerprint.identity(config, policy, tokenizer, prompts, others),
            answers,
        )

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.config.output.folder

    @property
    def writes(self) -> bool:
        """Whether this process is the one that writes files."""
        return self.saver.writes

    def restore(self, saved: Path, accept: Sequence[str] = ()) -> None:
        """Go on from a checkpoint. `ValueError` if the run was begun with other settings, or with
        other contents than those in `accept`."""
        before = config_file.load(self.folder / "config.yaml")
        fingerprint.require_same_settings(self.config, before, accept)
        found = checkpoint.load(saved, self.game.initial_policy())
        then = found.identity
        if then is None:
            warnings.warn(
                f"{str(saved)!r} was written by a release without fingerprints: nobody checks that "
                "prompts, judge and weights are those that the run was begun with.",
                stacklevel=2,
            )
        else:
            # A `config.yaml` can be edited, the checkpoint's own copy is what the run had.
            theirs = config_file.read(then.settings.encode())
            fingerprint.require_same_settings(self.config, theirs, accept)
            if self.config.held_out != before.held_out:
                # Other prompts were asked for, which evaluate the run and do not change it.
                accept = (*accept, "held_out")
            self.identity = self.identity.resumed(then, found.state.step, accept)
        self.state = found.state
        self.saver.saved = found.state.step
        self.rng.bit_generator.state = found.rng
        self.ledger.counts.update(found.counts)
        self.ledger.seconds.update(found.seconds)
        if self.answers is not None:
            self.answers.known.update(found.answers)

    def open(self) -> None:
        """Make the folder, write the configuration, start the trackers, and shorten old records."""
        step = 0 if self.state is None else self.state.step
        if self.writes:
            self.folder.mkdir(parents=True, exist_ok=True)
            checkpoint.sweep(self.folder / "checkpoints")
            write_bytes(self.folder / "config.yaml", config_file.dump(self.config).encode())
            # Steps after the checkpoint are taken again, and recorded again.
            for name in ("metrics.jsonl", "samples.jsonl"):
                records.truncate(self.folder / name, step)
            self.trackers.start(step)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def go(self, *, lines: bool = False) -> Summary:
        """Take steps until the budget is spent. Where there is no bar, `lines` tell of them."""
        output, budget = self.config.output, asdict(self.config.budget)
        network = self.game.initial_policy().network
        solver = self.ledger.solver(self.solver)
        states = mg.iterate(self.game, solver, state=self.state, rng=self.rng)
        begun = None
        with Signals(STOPS) as signals, self._progress(lines) as bar:
            try:
                while True:
                    with self.ledger.passes(network), self.ledger.time("scoring"):
                        state = next(states)
                    self.ledger.counts["steps"] = state.step
                    self.state = state
                    # The first state is where the run begins: no step has been taken yet.
                    if begun is None:
                        begun = state.step
                    else:
                        self._record(state)
                        bar.update(1)
                        self._warn_of_contention()
                    self.saver.whole = self._whole(state)
                    reached = self.ledger.exhausted(budget)
                    # A signal may have reached one process alone, but all must stop at one step.
                    stop = next((s for s in self.processes.gather(signals.asked) if s), None)
                    if reached is not None or stop is not None:
                        break
                    if begun != state.step and state.step % output.checkpoint_every == 0:
                        self.saver.save()
                failed = self.saver.save(ends=True)
                self.trackers.end()
            except BaseException as error:
                cause = unmasked(error)
                self.saver.rescue(cause)
                if cause is error:
                    raise
                raise cause from None
            if reached is None:
                assert stop is not None
                # It has been obeyed, and is not passed on.
                signals.asked = None
                kept = f", but could not save it: {failed}" if failed else " and saved"
                raise Interrupted(
                    stop, f"stopped at step {state.step}{kept}; go on with `--resume`."
                )
        if failed is not None:
            raise OSError(failed)
        return Summary(
            state,
            reached,
            self.ledger.counts,
            self.ledger.seconds,
            self.folder / "checkpoints" / f"step-{state.step:06d}",
            self.processes.size,
            bool(state.policy.network.sharded),
            self.identity.changes,
        )

    def _whole(self, state: State[TokenPolicy]) -> Checkpoint:
        """The run as it is now, between two steps."""
        # Copies, because the next step may fail after it has counted something.
        counts, seconds = dict(self.ledger.counts), dict(self.ledger.seconds)
        rng = self.rng.bit_generator.state
        answers = {} if self.answers is None else dict(self.answers.known)
        return Checkpoint(state, rng, counts, seconds, self.identity, answers)

    def _record(self, state: State[TokenPolicy]) -> None:
        """Write a line of metrics, and now and then an evaluation and samples."""
        output, step = self.config.output, state.step
        q, report = self.ledger.rollouts, self.ledger.report
        assert q is not None
        assert report is not None
        row: dict[str, Any] = {
            "step": step,
            **self.ledger.counts,
            **records.response_metrics(q),
            **records.step_metrics(report),
        }
        if self.config.solver.algorithm == "auto":
            row |= records.tuning_metrics(state, report)
        if self.held_out is not None and step % self.config.evaluation.every == 0:
            # Random numbers of its own, because evaluation must not change the draws of training.
            rng = np.random.default_rng([self.config.seed, step])
            start = self.game.initial_policy()
            samples = self.config.evaluation.samples
            found = evaluate(self.held_out, state.policy, {"start": start}, samples, rng)
            row |= records.evaluation_metrics(found)
        row |= {f"seconds_{name}": round(s, 3) for name, s in self.ledger.seconds.items()}
        row["peak_memory"] = peak_memory(self.device)
        # Not earlier, because all processes take part in the evaluation.
        if not self.writes:
            return
        journal = self.saver.journal
        journal.add("metrics.jsonl", [json.dumps(row)])
        every = step % output.table_every == 0
        entries = list(records.sample_table(self.game, q, self.read)) if every else []
        lines = ({"step": step, **entry} for entry in entries)
        journal.add("samples.jsonl", (json.dumps(line, ensure_ascii=False) for line in lines))
        self.saver.record()
        self.trackers.log(row, step)
        self.trackers.show(entries, step)

    def _warn_of_contention(self) -> None:
        # To wait for a GPU, or for the gradients of other processes, is normal.
        if self.device.type == "cpu" and self.processes.size == 1:
            said = self.ledger.contention.message()
            if said is not None:
                warnings.warn(said, stacklevel=2)

    def _progress(self, lines: bool) -> AbstractContextManager[Any]:
        """The progress, up to the limit in steps if there is one."""
        step = 0 if self.state is None else self.state.step
        return progress(self.config.budget.steps, step, lines=lines) if self.writes else hidden()

    def compared(self) -> Comparison | None:
        """The last policy beside the start; None, with a warning, if that fails."""
        assert self.state is not None
        # Random numbers of its own: another end must not change what a resumed run draws.
        rng = np.random.default_rng([self.config.seed, self.state.step, 1])
        samples, held_out = self.config.evaluation.samples, self.held_out is not None
        try:
            return compare(self.shown, self.state.policy, samples, rng, held_out=held_out)
        # The run is saved, and judges and engines raise errors of any kind.
        except Exception as error:
            warnings.warn(f"The result is not compared with the start: {error}", stacklevel=3)
            return None
