"""The training loop: the core's states, one after the other, recorded and saved.

Whatever a step is, `mg.iterate` takes it; here are only what surrounds it: budgets, records,
checkpoints and the ends of a run.
"""

from __future__ import annotations

import json
import math
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
from mpo_games.protocol import Solver, State
from mpo_llm import prompts as prompts_of
from mpo_llm.config import Config
from mpo_llm.engines import Autoregressive
from mpo_llm.game import TextPreferenceGame
from mpo_llm.judges import loading as oracle
from mpo_llm.judges.sharing import shared
from mpo_llm.judges.wrappers import tally
from mpo_llm.measures.report import Report, evaluate
from mpo_llm.networks import loading as models
from mpo_llm.networks.hugging_face import TransformersNetwork
from mpo_llm.networks.processes import Alone, Processes, Team
from mpo_llm.policy import TokenPolicy
from mpo_llm.step.rollouts import Rollouts
from mpo_llm.training import assemble, checkpoint, config_file
from mpo_llm.training.checkpoint import Checkpoint
from mpo_llm.training.ledger import Ledger, peak_memory
from mpo_llm.training.watch import Watch, Watched

TABLE_PROMPTS = 4
"""Prompts in an entry of the sample table."""


class Interrupted(Exception):
    """The run was asked to stop, and has saved what it had."""

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.signum = signum


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run came to."""

    state: State[TokenPolicy]
    reached: str
    """Which limit of the budget ended it."""
    counts: Mapping[str, int]
    seconds: Mapping[str, float]
    saved: Path
    processes: int
    sharded: bool
    """Whether they share the weights, too."""

    def __str__(self) -> str:
        spent = ", ".join(f"{n.replace('_', ' ')} {c:,}" for n, c in self.counts.items())
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
    """Run a configuration to the end of its budget, from the start or from its last checkpoint if
    there is one.

    A resumed run goes on bit for bit as if it had never ended. Raises `Interrupted` after SIGINT or
    SIGTERM, with a checkpoint saved; `ValueError` for what cannot be run, before anything is drawn;
    `OSError` if a checkpoint cannot be written, with the last one as it was.
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
    """A configuration with its nouns made, and where the run stands."""

    config: Config
    game: Watched
    solver: Solver
    held_out: TextPreferenceGame | None
    ledger: Ledger
    rng: np.random.Generator
    team: Team
    device: torch.device
    trackers: Any
    state: State[TokenPolicy] | None = None
    """None at the start."""

    @classmethod
    def of(cls, config: Config) -> Run:
        """Load, check and put together; nothing is drawn or written yet."""
        from accelerate import Accelerator

        accelerator = Accelerator(
            cpu=models.device().type == "cpu",
            log_with=list(config.output.trackers) or None,
            project_dir=config.output.folder,
        )
        team: Team = Processes() if accelerator.num_processes > 1 else Alone()
        judge = oracle.load(config.judge)
        policy, tokenizer = assemble.start(config, accelerator.device)
        network = policy.network
        assert isinstance(network, TransformersNetwork)
        network.team = team
        # Accelerate itself does not shard on CPUs, but says that it was asked to.
        if os.environ.get("ACCELERATE_USE_FSDP") == "true" and team.size > 1:
            network.shard(network.layers, team)
            policy = TokenPolicy.of(network, policy.decoding, policy.proximal)
        ledger = Ledger()
        watch = Watch(ledger, team)
        policy = replace(policy, proximal=watch.proximal(policy.proximal))
        prompts = prompts_of.load(config.prompts, tokenizer)
        engine = Autoregressive(config.generation.batch)
        asked = shared(team, judge)

        def failed() -> int:
            return sum(team.gather(tally(judge)["failed"]))

        game = assemble.game(
            config,
            policy,
            tokenizer,
            prompts,
            ledger.judge(asked, failed),
            ledger.generator(engine),
        )
        held_out = None
        if config.evaluation.source:
            source = replace(
                config.prompts, source=config.evaluation.source, limit=config.evaluation.limit
            )
            others = prompts_of.load(source, tokenizer)
            held_out = replace(
                game,
                prompts=others.ids,
                judge=asked,
                write=assemble.writer(others, tokenizer),
                prompts_per_step=None,
                generate=engine,
            )
        return cls(
            config,
            watch.game(game),
            assemble.solver(config.solver),
            held_out,
            ledger,
            np.random.default_rng(config.seed),
            team,
            accelerator.device,
            accelerator,
        )

    @property
    def folder(self) -> Path:
        """Where the run is written."""
        return self.config.output.folder

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.team.rank == 0

    def restore(self, saved: Path) -> None:
        """Go back to a checkpoint. `ValueError` if it was run with other settings."""
        _require_same(self.config, config_file.load(self.folder / "config.yaml"))
        found = checkpoint.load(saved, self.game.initial_policy())
        self.state = found.state
        self.rng.bit_generator.state = found.rng
        self.ledger.counts.update(found.counts)
        self.ledger.seconds.update(found.seconds)

    def open(self) -> None:
        """Begin to write: the folder, the configuration, the trackers; older records end here."""
        step = 0 if self.state is None else self.state.step
        if self.first:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_bytes(self.folder / "config.yaml", config_file.dump(self.config).encode())
            for name in ("metrics.jsonl", "samples.jsonl"):
                _cut(self.folder / name, step)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        if self.config.output.trackers:
            self.trackers.init_trackers("tracker")

    def go(self) -> Summary:
        """Step to the end of the budget."""
        output, budget = self.config.output, asdict(self.config.budget)
        network = self.game.initial_policy().network
        states = mg.iterate(self.game, self.solver, state=self.state, rng=self.rng)
        begun = saved = None
        with _asked_to_stop() as asked, self._bar() as bar:
            while True:
                with self.ledger.passes(network), self.ledger.time("step"):
                    state = next(states)
                self.ledger.counts["steps"] = state.step
                self.state = state
                if begun is None:
                    begun = state.step
                else:
                    self._record(state)
                    bar.update(1)
                if begun != state.step and state.step % output.checkpoint_every == 0:
                    saved = self._save(state)
                reached = self.ledger.exhausted(budget)
                stop = next((s for s in self.team.gather(asked[0]) if s), None)
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
                    self.team.size,
                    bool(state.policy.network.sharded),
                )

    def _save(self, state: State[TokenPolicy]) -> tuple[int, Path]:
        folder = self.folder / "checkpoints"
        rng = self.rng.bit_generator.state
        found = Checkpoint(state, rng, self.ledger.counts, self.ledger.seconds)
        checkpoint.save(folder, found, self.config.output.keep, writes=self.first)
        self.team.gather(None)  # nobody goes on before it is written
        return state.step, folder / f"step-{state.step:06d}"

    def _record(self, state: State[TokenPolicy]) -> None:
        """A line of metrics, and now and then samples and an evaluation."""
        output, step = self.config.output, state.step
        q = self.game.watch.feedback
        assert q is not None
        row: dict[str, Any] = {"step": step, **self.ledger.counts, **_drawn(q)}
        row |= self.game.watch.drift()
        if self.held_out is not None and step % self.config.evaluation.every == 0:
            rng = np.random.default_rng([self.config.seed, step])
            start = self.game.initial_policy()
            samples = self.config.evaluation.samples
            report = evaluate(self.held_out, state.policy, {"start": start}, samples, rng)
            row |= _reported(report)
        row |= {f"seconds_{name}": round(s, 3) for name, s in self.ledger.seconds.items()}
        row["peak_memory"] = peak_memory(self.device)
        if not self.first:
            return
        with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self.trackers.log({k: v for k, v in row.items() if v is not None}, step=step)
        if step % output.table_every == 0:
            with (self.folder / "samples.jsonl").open("a", encoding="utf-8") as file:
                for entry in self._table(step, q):
                    file.write(json.dumps(entry, ensure_ascii=False) + "\n")

    def _table(self, step: int, q: Rollouts) -> Iterator[dict[str, Any]]:
        game = self.game.game
        for x in np.unique(q.responses.of)[:TABLE_PROMPTS]:
            rows = np.flatnonzero(q.responses.of == x)
            yield {
                "step": step,
                "prompt": game.write(game.prompts[x]),
                "responses": [
                    {
                        "text": game.write(q.responses.ids(int(row))),
                        "share": float(q.weights[row]),
                        "advantage": float(q.advantages[row, 0]),
                    }
                    for row in rows[np.argsort(-q.advantages[rows, 0], kind="stable")]
                ],
            }

    def _bar(self) -> Any:
        """A bar on a terminal, for the limit in steps if there is one."""
        from tqdm import tqdm

        step = 0 if self.state is None else self.state.step
        hidden = None if self.first else True
        return tqdm(total=self.config.budget.steps, initial=step, unit="step", disable=hidden)


def _drawn(q: Rollouts) -> dict[str, float]:
    """What the responses of a step looked like."""
    lengths, surprise = q.responses.lengths, -q.behaviour.sum(axis=1)
    whole = q.responses.tokens.shape[1]
    return {
        "length": float(q.weights @ lengths),
        "longest": float(q.weights @ (lengths == whole)),
        "entropy": float(q.weights @ surprise),
        "distinct": len(q.responses),
        "advantage_std": float(np.sqrt(q.weights @ q.advantages[:, 0] ** 2)),
        "mismatch": q.mismatch,
    }


def _reported(report: Report) -> dict[str, float | None]:
    win = report.win_rate["start"]
    low, high = win.interval
    cyclic = report.cyclic_share
    return {
        "win_rate": win.value,
        "win_rate_low": low,
        "win_rate_high": high,
        "kl_start": report.kl["start"].value,
        "held_out_length": report.length.value,
        "held_out_gap": report.gap.value,
        "cyclic_share": None if math.isnan(cyclic) else cyclic,
    }


def _require_same(ours: Config, theirs: Config) -> None:
    """`ValueError` unless only what may change between the parts of a run has changed."""
    free = {"budget", "output", "evaluation"}
    for name in (f.name for f in fields(ours) if f.name not in free):
        one, other = getattr(ours, name), getattr(theirs, name)
        if one == other:
            continue
        if is_dataclass(one):
            parts = (f.name for f in fields(one))
            name = next(f"{name}.{n}" for n in parts if getattr(one, n) != getattr(other, n))
        raise ValueError(
            f"The run was begun with another `{name}`: resume it with the settings it has."
        )


def _cut(path: Path, step: int) -> None:
    """Drop the lines of a record after `step`, and one that was not finished."""
    if not path.is_file():
        return
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
    write_bytes(path, "".join(kept).encode())


@contextmanager
def _asked_to_stop() -> Iterator[list[int | None]]:
    """A list whose one entry becomes the signal that asks to stop; repeated, it is not caught."""
    asked: list[int | None] = [None]
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

    def note(signum: int, _: FrameType | None) -> None:
        asked[0] = asked[0] or signum
        signal.signal(signum, before[signal.Signals(signum)])

    for s in before:
        signal.signal(s, note)
    try:
        yield asked
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
