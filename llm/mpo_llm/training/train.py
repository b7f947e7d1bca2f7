"""The training loop: it goes through the core's states, records them and saves them.

`mg.iterate` takes the steps. This file adds what surrounds them: budgets, records, checkpoints, and
the ways in which a run ends.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import mpo_games as mg
from mpo_games.atomic import write_bytes
from mpo_games.interrupts import STOPS, Signals, unmasked
from mpo_games.protocol import State
from mpo_llm.algorithms import completed
from mpo_llm.config import Config
from mpo_llm.networks import loading as model_loading
from mpo_llm.networks.processes import Distributed, OneProcess, Processes, asked_to_shard
from mpo_llm.training import checkpoint, config_file, fingerprint, records
from mpo_llm.training.at_table import AtTable
from mpo_llm.training.checkpoint import Checkpoint
from mpo_llm.training.comparison import Comparison
from mpo_llm.training.fingerprint import Identity
from mpo_llm.training.ledger import Ledger, peak_memory
from mpo_llm.training.lock import locked
from mpo_llm.training.played import Played
from mpo_llm.training.progress import hidden, progress
from mpo_llm.training.saving import Saver
from mpo_llm.training.stops import Interrupted as Interrupted
from mpo_llm.training.subject import Subject
from mpo_llm.training.summary import Summary as Summary
from mpo_llm.training.texts import Texts
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
    subject: Subject
    """What it trains on: texts, or a game."""
    ledger: Ledger
    rng: np.random.Generator
    processes: Processes
    device: torch.device
    trackers: Trackers
    """They are told each step's metrics."""
    identity: Identity
    """What makes the run this run, with the changes that were accepted."""
    state: State[Any] | None = None
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
        ledger, device = Ledger(), accelerator.device
        kind: type[AtTable] | type[Texts] = AtTable if config.game.name else Texts
        subject = kind.of(config, ledger, device, processes, shard=fsdp and processes.size > 1)
        rng = np.random.default_rng(config.seed)
        return cls(config, subject, ledger, rng, processes, device, trackers, subject.identity)

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
        found = checkpoint.load(saved, self.subject.start)
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
        self.subject.known.update(found.answers)

    def open(self) -> None:
        """Make the folder, write the configuration, start the trackers, and shorten old records."""
        step = 0 if self.state is None else self.state.step
        if self.writes:
            self.folder.mkdir(parents=True, exist_ok=True)
            checkpoint.sweep(self.folder / "checkpoints")
            write_bytes(self.folder / "config.yaml", config_file.dump(self.config).encode())
            # Steps after the checkpoint are taken again, and recorded again.
            for name in ("metrics.jsonl", "samples.jsonl"):
                records.truncate(self.folder / name, -1 if self.state is None else step)
            self.trackers.start(step)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def go(self, *, lines: bool = False) -> Summary:
        """Take steps until the budget is spent. Where there is no bar, `lines` tell of them."""
        output, budget = self.config.output, asdict(self.config.budget)
        subject, network = self.subject, self.subject.network
        solver = self.ledger.solver(subject.solver)
        begun = None
        with Signals(STOPS) as signals, self._progress(lines) as bar:
            try:
                # Where it makes a policy of its own, the record begins with that.
                first = None
                if self.state is None:
                    with self.ledger.passes(network):
                        first = subject.first(self.ledger)
                states = mg.iterate(
                    subject.game, solver, policy=first, state=self.state, rng=self.rng
                )
                while True:
                    with self.ledger.passes(network), self.ledger.time("scoring"):
                        state = next(states)
                    self.ledger.counts["steps"] = state.step
                    subject.count(state, self.ledger)
                    self.state = state
                    # The first state is where the run begins: no step has been taken yet.
                    if begun is None:
                        begun = state.step
                        if first is not None:
                            self._record(state)
                    else:
                        self._record(state, bar)
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

    def _whole(self, state: State[Any]) -> Checkpoint:
        """The run as it is now, between two steps."""
        # Copies, because the next step may fail after it has counted something.
        counts, seconds = dict(self.ledger.counts), dict(self.ledger.seconds)
        rng = self.rng.bit_generator.state
        known = dict(self.subject.known)
        return Checkpoint(state, rng, counts, seconds, self.identity, known)

    def _record(self, state: State[Any], bar: Any = None) -> None:
        """Write a line of metrics, and now and then an evaluation and samples."""
        output, step = self.config.output, state.step
        row: dict[str, Any] = {
            "step": step,
            **self.ledger.counts,
            **self.subject.row(state, self.ledger),
        }
        row |= {f"seconds_{name}": round(s, 3) for name, s in self.ledger.seconds.items()}
        row["peak_memory"] = peak_memory(self.device)
        # Not earlier, because all processes take part in the evaluation.
        if not self.writes:
            return
        journal = self.saver.journal
        journal.add("metrics.jsonl", [json.dumps(row)])
        every = step % output.table_every == 0
        entries = self.subject.entries(self.ledger) if every else ()
        lines = ({"step": step, **entry} for entry in entries)
        journal.add("samples.jsonl", (json.dumps(line, ensure_ascii=False) for line in lines))
        self.saver.record()
        self.trackers.log(row, step)
        self.trackers.show(entries, step)
        if bar is not None:
            gap = row.get("exploitability")
            bar.set_postfix_str("" if gap is None else f"exploitability {gap:.4f}", refresh=False)
            bar.update(1)

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

    def compared(self) -> Comparison | Played | None:
        """The last policy beside the start; None, with a warning, if that fails."""
        assert self.state is not None
        try:
            return self.subject.compared(self.state)
        # The run is saved, and judges and engines raise errors of any kind.
        except Exception as error:
            warnings.warn(f"The result is not compared with the start: {error}", stacklevel=3)
            return None
