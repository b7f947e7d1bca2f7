"""The training loop: it goes through the core's states, records them and saves them.

`mg.iterate` takes the steps. This file adds what surrounds them: budgets, records, checkpoints, and
the ways in which a run ends.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch

import mpo_games as mg
from mpo_games.atomic import write_bytes
from mpo_games.protocol import State
from mpo_llm.config import Config
from mpo_llm.game import TextPreferenceGame
from mpo_llm.judges import loading as judge_loading
from mpo_llm.judges.sharing import shared
from mpo_llm.judges.wrappers import tally
from mpo_llm.measures.report import evaluate
from mpo_llm.networks import loading as model_loading
from mpo_llm.networks.processes import Distributed, OneProcess, Processes
from mpo_llm.policy import TokenPolicy
from mpo_llm.prompts import load as load_prompts
from mpo_llm.training import assemble, checkpoint, config_file, records
from mpo_llm.training.checkpoint import Checkpoint
from mpo_llm.training.ledger import Ledger, peak_memory


class Interrupted(Exception):
    """A signal asked the run to stop, and it has saved a checkpoint."""

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.signum = signum


@dataclass(frozen=True, slots=True)
class Summary:
    """The outcome of a run."""

    state: State[TokenPolicy]
    """The last state."""
    reached: str
    """The limit of the budget that ended the run."""
    counts: Mapping[str, int]
    """The amounts spent, by the names of a budget's limits."""
    seconds: Mapping[str, float]
    """Seconds by what they were spent on."""
    saved: Path
    """The last checkpoint."""
    processes: int
    """How many processes shared the work."""
    sharded: bool
    """Whether they shared the weights as well."""

    def __str__(self) -> str:
        spent = ", ".join(f"{n.replace('_', ' ')} {c:,}" for n, c in self.counts.items())
        # A run whose budget is spent from the start has no seconds.
        total = sum(self.seconds.values()) or 1.0
        where = ", ".join(f"{name} {s / total:.0%}" for name, s in self.seconds.items())
        return "\n".join(
            [
                f"ended by  budget.{self.reached}",
                f"run by    {self.processes} {'FSDP ' if self.sharded else ''}processes"
                if self.processes > 1
                else "run by    1 process",
                f"spent     {spent}",
                f"time      {total:,.1f} s: {where}",
                f"saved     {self.saved}",
            ]
        )


def train(config: Config, *, resume: bool = False) -> Summary:
    """Run a configuration to the end of its budget; with `resume`, from its last checkpoint.

    On a CPU a resumed run goes on bit for bit as if it had never stopped. Raises `Interrupted`
    after SIGINT or SIGTERM, when a checkpoint has been saved. `ValueError` for a configuration that
    cannot be run, before anything is drawn. `OSError` if a checkpoint cannot be written; the one
    before it is kept.
    """
    saved = checkpoint.listed(config.output.folder / "checkpoints")
    if saved and not resume:
        raise ValueError(
            f"{str(config.output.folder)!r} holds a run: go on with `--resume`, or choose another "
            "`output.folder`."
        )
    run = Run.of(config)
    if saved:
        run.restore(saved[-1])
    run.open()
    return run.go()


@dataclass(slots=True)
class Run:
    """A run: the objects that its configuration describes, and its progress."""

    config: Config
    game: TextPreferenceGame
    """The game of the training prompts; the ledger counts its draws and comparisons."""
    solver: mg.MMD
    held_out: TextPreferenceGame | None
    """The same game on held-out prompts, which the ledger does not count; None without any."""
    ledger: Ledger
    rng: np.random.Generator
    processes: Processes
    device: torch.device
    trackers: Any
    """Accelerate's `Accelerator`, which holds the trackers."""
    state: State[TokenPolicy] | None = None
    """The state after the last step; None at the start."""

    @classmethod
    def of(cls, config: Config) -> Run:
        """Load and check everything; nothing is drawn or written yet."""
        from accelerate import Accelerator

        records.require_trackers(config.output.trackers)
        accelerator = Accelerator(
            cpu=model_loading.device().type == "cpu",
            log_with=list(config.output.trackers) or None,
            project_dir=config.output.folder,
        )
        processes: Processes = Distributed() if accelerator.num_processes > 1 else OneProcess()
        # Loaded before the model, because a factory that cannot be called is found out fastest.
        judge, engine = judge_loading.load(config.judge), assemble.engine(config)
        # Accelerate does not shard on CPUs, so its request for FSDP is read from the environment.
        fsdp = os.environ.get("ACCELERATE_USE_FSDP") == "true" and processes.size > 1
        network, tokenizer = assemble.network(config, accelerator.device, processes, shard=fsdp)
        policy = assemble.policy(config, network, tokenizer)
        ledger = Ledger()
        prompts = load_prompts(config.prompts, tokenizer)
        shared_judge = shared(processes, judge)

        # Each process has asked the judge about its share of the comparisons only.
        def failed() -> int:
            return sum(processes.gather(tally(judge)["failed"]))

        game = assemble.game(
            config,
            policy,
            tokenizer,
            prompts,
            ledger.judge(shared_judge, failed),
            ledger.engine(engine),
        )
        held_out = None
        if config.evaluation.source:
            source = replace(
                config.prompts, source=config.evaluation.source, limit=config.evaluation.limit
            )
            others = load_prompts(source, tokenizer)
            held_out = replace(
                game,
                prompts=others.ids,
                judge=shared_judge,
                decode=assemble.decoder(others, tokenizer),
                prompts_per_step=None,
                engine=engine,
            )
        return cls(
            config,
            game,
            assemble.solver(config.solver),
            held_out,
            ledger,
            np.random.default_rng(config.seed),
            processes,
            accelerator.device,
            accelerator,
        )

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.config.output.folder

    @property
    def writes(self) -> bool:
        """Whether this process is the one that writes files."""
        return self.processes.rank == 0

    def restore(self, saved: Path) -> None:
        """Go on from a checkpoint. `ValueError` if the run was begun with other settings."""
        _require_same(self.config, config_file.load(self.folder / "config.yaml"))
        found = checkpoint.load(saved, self.game.initial_policy())
        self.state = found.state
        self.rng.bit_generator.state = found.rng
        self.ledger.counts.update(found.counts)
        self.ledger.seconds.update(found.seconds)

    def open(self) -> None:
        """Make the folder, write the configuration, start the trackers, and shorten old records."""
        step = 0 if self.state is None else self.state.step
        if self.writes:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_bytes(self.folder / "config.yaml", config_file.dump(self.config).encode())
            # Steps after the checkpoint are taken again, and recorded again.
            for name in ("metrics.jsonl", "samples.jsonl"):
                records.truncate(self.folder / name, step)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        if self.config.output.trackers:
            self.trackers.init_trackers("tracker")

    def go(self) -> Summary:
        """Take steps until the budget is spent."""
        output, budget = self.config.output, asdict(self.config.budget)
        network = self.game.initial_policy().network
        solver = self.ledger.solver(self.solver)
        states = mg.iterate(self.game, solver, state=self.state, rng=self.rng)
        begun = saved = None
        with _asked_to_stop() as asked, self._bar() as bar:
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
                if begun != state.step and state.step % output.checkpoint_every == 0:
                    saved = self._save(state)
                reached = self.ledger.exhausted(budget)
                # A signal may have reached one process alone, but all must stop at the same step.
                stop = next((s for s in self.processes.gather(asked[0]) if s), None)
                if reached is None and stop is None:
                    continue
                if saved is None or saved[0] != state.step:
                    saved = self._save(state)
                self.trackers.end_training()
                if reached is None:
                    assert stop is not None
                    raise Interrupted(
                        stop, f"stopped at step {state.step} and saved; go on with `--resume`."
                    )
                return Summary(
                    state,
                    reached,
                    self.ledger.counts,
                    self.ledger.seconds,
                    saved[1],
                    self.processes.size,
                    bool(state.policy.network.sharded),
                )

    def _save(self, state: State[TokenPolicy]) -> tuple[int, Path]:
        folder = self.folder / "checkpoints"
        rng = self.rng.bit_generator.state
        found = Checkpoint(state, rng, self.ledger.counts, self.ledger.seconds)
        checkpoint.save(folder, found, self.config.output.keep, writes=self.writes)
        # A barrier: no process goes on, and perhaps ends, before the checkpoint is written.
        self.processes.gather(None)
        return state.step, folder / f"step-{state.step:06d}"

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
        with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self.trackers.log({k: v for k, v in row.items() if v is not None}, step=step)
        if step % output.table_every == 0:
            with (self.folder / "samples.jsonl").open("a", encoding="utf-8") as file:
                for entry in records.sample_table(self.game, q):
                    file.write(json.dumps({"step": step, **entry}, ensure_ascii=False) + "\n")

    def _bar(self) -> Any:
        """A progress bar on a terminal, up to the limit in steps if there is one."""
        from tqdm import tqdm

        step = 0 if self.state is None else self.state.step
        # None lets tqdm decide: it hides the bar if standard error is no terminal.
        hidden = None if self.writes else True
        return tqdm(total=self.config.budget.steps, initial=step, unit="step", disable=hidden)


def _require_same(ours: Config, theirs: Config) -> None:
    """`ValueError` if a setting differs that must stay the same when a run is resumed."""
    free = {"budget", "output", "evaluation"}
    for name in (f.name for f in fields(ours) if f.name not in free):
        one, other = getattr(ours, name), getattr(theirs, name)
        if one == other:
            continue
        if is_dataclass(one):
            parts = (f.name for f in fields(one))
            name = next(f"{name}.{n}" for n in parts if getattr(one, n) != getattr(other, n))
        raise ValueError(
            f"The run was begun with another `{name}`: resume it with the settings of its "
            "`config.yaml`."
        )


@contextmanager
def _asked_to_stop() -> Iterator[list[int | None]]:
    """A list whose one entry becomes the number of the signal that asks to stop."""
    asked: list[int | None] = [None]
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

    def note(signum: int, _: FrameType | None) -> None:
        asked[0] = asked[0] or signum
        # A second signal is not caught: its sender does not want to wait for the end of the step.
        signal.signal(signum, before[signal.Signals(signum)])

    for s in before:
        signal.signal(s, note)
    try:
        yield asked
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
