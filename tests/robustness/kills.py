"""Kills and interrupts at random moments: `make kills` prints the table of `docs/robustness.md`.

Each run is a process of its own, forked from one that has imported everything: it is hit at a
random moment of its life and then goes on from its checkpoint. The files that it leaves at the end
are compared with those of a run that nobody stopped.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import mpo_games as mg

INTERRUPTED = 42
"""The exit code of a run that ended by `KeyboardInterrupt`."""


@dataclass(frozen=True)
class Tally:
    """What became of the runs that were hit."""

    hit: int = 0
    """Runs that were hit before their end."""
    saved: int = 0
    """Runs among them that left a checkpoint."""
    equal: int = 0
    """Runs that went on to the files of the run that nobody stopped, bit for bit."""
    left: int = 0
    """Temporary files that were still there at the end."""


def forked(work: Callable[[], object]) -> int:
    """A process that does `work`; its number."""
    with warnings.catch_warnings():
        # Python 3.12 warns of threads, of which a child does not see any.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child:
        return child
    code = 0
    # `finally`, because no child may ever return into the program of its parent.
    try:
        work()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        sys.stderr.flush()
        os._exit(code)


def ended(child: int) -> int:
    """Wait for a process; its exit code, or the negative number of the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def hit(work: Callable[[], object], after: float, signum: int, begun: Path | None = None) -> int:
    """Do `work` in a process that gets a signal after so many seconds; how it ended.

    The seconds are counted from when the file `begun` is there, if one is named.
    """
    child = forked(work)
    limit = time.monotonic() + 60.0
    while begun is not None and not begun.exists() and time.monotonic() < limit:
        time.sleep(0.001)
    time.sleep(after)
    # A process that has ended stays a zombie, which takes signals, until it is waited for.
    os.kill(child, signum)
    return ended(child)


@dataclass(frozen=True)
class Case:
    """A run of the core."""

    game: Any
    solver: Any
    budget: int
    every: float = 0.02
    """Seconds between two checkpoints."""

    def run(self, file: Path, begun: Path | None = None) -> mg.Solution[Any]:
        """The run, which makes the file `begun` at its first record."""
        return mg.solve(
            self.game,
            self.solver,
            self.budget,
            seed=5,
            checkpoint=file,
            checkpoint_every=self.every,
            resume=True,
            callback=None if begun is None else lambda _: begun.touch(),
        )


Maker = Callable[..., Case]


def sampled(budget: int = 2000) -> Case:
    """A self-tuning solver on samples: the generator and two geometries are in the file."""
    payoff = np.random.default_rng(0).normal(size=(5, 4))
    return Case(mg.NoisyGame(mg.MatrixGame(payoff), 0.3), mg.AutoMPO(), budget)


def magnet(budget: int = 5000) -> Case:
    """A magnet that moves when the gap has fallen: a memory in the file."""
    payoff = np.random.default_rng(1).normal(size=(8, 9))
    return Case(mg.MatrixGame(payoff), mg.MMD(0.3, 0.1, magnet=mg.WhenGapFell(0.9)), budget)


def tree(budget: int = 2000) -> Case:
    """Poker, on samples of play."""
    return Case(mg.OutcomeSampling(mg.load("kuhn_poker"), 10, 0.3), mg.MPO(0.05, 0.1, 50), budget)


def kernels(size: int = 400, budget: int = 400) -> Case:
    """A large matrix: nearly all the time is spent in compiled kernels, and none in writing."""
    payoff = np.random.default_rng(2).normal(size=(size, size))
    return Case(mg.MatrixGame(payoff), mg.AutoMPO(), budget, every=np.inf)


def core(case: Case, count: int, signum: int, rng: np.random.Generator) -> Tally:
    """Hit `count` runs of the core at random moments, and let each go on."""
    tally = Tally()
    with TemporaryDirectory() as name:
        whole = Path(name) / "whole.npz"
        # Twice: kernels are compiled in the first.
        for _ in range(2):
            whole.unlink(missing_ok=True)
            began = time.monotonic()
            case.run(whole)
        length = time.monotonic() - began
        while tally.hit < count:
            folder = Path(name) / "run"
            folder.mkdir()
            file = folder / "run.npz"
            # An interrupt is to come within the loop, a kill may come at any time.
            begun = None if signum == signal.SIGKILL else Path(name) / "begun"
            after = rng.uniform(0.0, length)
            code = hit(lambda f=file, b=begun: case.run(f, b), after, signum, begun)
            if begun is not None:
                begun.unlink()
            assert code in (0, -signum, INTERRUPTED), code
            stopped = code != 0
            # A run may be hit before its first record, and then starts again.
            saved = file.exists()
            case.run(file)
            equal = file.read_bytes() == whole.read_bytes()
            # What a kill leaves is swept by a later write, when it is old enough.
            left = len(list(folder.iterdir())) - 1
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()
            if stopped:
                tally = Tally(
                    tally.hit + 1, tally.saved + saved, tally.equal + equal, tally.left + left
                )
            else:
                assert equal
    return tally


def training(count: int, rng: np.random.Generator, steps: int = 5) -> Tally:
    """Kill `count` training runs of a tiny model at random moments, and let each go on."""
    sys.path.append(str(Path(__file__).parents[1] / "llm"))
    import shutil

    import runs
    import tiny
    from mpo_llm.training import checkpoint
    from mpo_llm.training.train import train

    tally = Tally()
    with TemporaryDirectory() as name:
        folder = Path(name)
        output = {"checkpoint_every": 1, "table_every": 2}
        config = tiny.config(folder, budget={"steps": steps}, output=output)

        def trained(to: str) -> None:
            train(replace(config, output=replace(config.output, folder=folder / to)), resume=True)

        def child(to: str) -> int:
            return forked(lambda: trained(to))

        # In a process, too: threads of torch would not survive a fork.
        began = time.monotonic()
        assert ended(child("whole")) == 0
        length = time.monotonic() - began
        while tally.hit < count:
            code = hit(lambda: trained("run"), rng.uniform(0.0, length), signal.SIGKILL)
            assert code in (0, -signal.SIGKILL), code
            saved = bool(checkpoint.listed(folder / "run" / "checkpoints"))
            assert ended(child("run")) == 0
            # It raises where anything differs.
            runs.same(folder / "run", folder / "whole", steps)
            left = len(list((folder / "run").rglob("*.partial")))
            shutil.rmtree(folder / "run")
            if code:
                tally = Tally(
                    tally.hit + 1, tally.saved + saved, tally.equal + 1, tally.left + left
                )
    return tally


def main() -> None:
    """Hit runs of each kind and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=50, help="runs of each kind that are hit")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=("core", "training"), help="only a part of the table")
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    # A shell that starts this in the background has told it to ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    print("| what was hit | by | runs hit | left a checkpoint | went on to the same bits |")
    print("| --- | --- | --- | --- | --- |")
    rows: list[tuple[str, str, Callable[[], Tally]]] = [
        (
            f"`solve`, {what}",
            f"`{by.name}`",
            lambda c=case, s=by: core(c(), arguments.count, s, rng),
        )
        for what, case, by in (
            ("AutoMPO on a noisy matrix", sampled, signal.SIGKILL),
            ("MMD with a moving magnet", magnet, signal.SIGKILL),
            ("MPO on sampled Kuhn poker", tree, signal.SIGKILL),
            ("AutoMPO on a matrix of 400 x 400, in kernels", kernels, signal.SIGINT),
            ("the same", kernels, signal.SIGTERM),
        )
    ]
    rows.append(
        ("`mpo-llm train`, a tiny model", "`SIGKILL`", lambda: training(arguments.count, rng))
    )
    chosen = {"core": rows[:-1], "training": rows[-1:]}.get(arguments.only, rows)
    for what, by, do in chosen:
        found = do()
        print(f"| {what} | {by} | {found.hit} | {found.saved} | {found.equal} |", flush=True)


if __name__ == "__main__":
    main()
