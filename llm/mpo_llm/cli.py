"""The command line `mpo-llm`: training, and what follows a training run.

A subcommand is a frozen dataclass whose `run()` returns the text to print.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro

from mpo_games.checks import require_count
from mpo_llm.commands import Evaluate, FitPreferences, PlayLeague, Serve
from mpo_llm.config import Config
from mpo_llm.results import chat
from mpo_llm.results.export import Adapters, export
from mpo_llm.training import config_file, flags, yaml_lines
from mpo_llm.training.plan import plan
from mpo_llm.training.sweep import sweep, variants
from mpo_llm.training.train import Interrupted, train

Accepted = Literal[
    "weights",
    "architecture",
    "tokenizer",
    "template",
    "ends",
    "prompts",
    "held_out",
    "judge",
    "engine",
]
"""What may have changed when a run is resumed: the keys of `fingerprint.NAMES`."""


@dataclass(frozen=True)
class Train:
    """Train a model by self-play on preferences."""

    settings: Annotated[Config, tyro.conf.arg(name="")] = Config()
    """The settings of the file; flags override them."""
    dry_run: bool = False
    """Print the plan (memory, tokens a step, time a step after a short probe) and stop."""
    resume: bool = False
    """Continue from the last checkpoint in the run's folder, if there is one."""
    accept: tuple[Accepted, ...] = ()
    """With `--resume`: go on although these have changed since the run began, and record it."""

    def run(self) -> str:
        """Train, or plan; returns the summary or the plan."""
        if self.dry_run:
            return str(plan(self.settings))
        summary = train(self.settings, resume=self.resume, accept=self.accept)
        # Every process has the same summary; the first one prints it.
        return str(summary) if int(os.environ.get("RANK", "0")) == 0 else ""


@dataclass(frozen=True)
class Chat:
    """Chat with a model, or with a checkpoint of a run."""

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """A checkpoint, the folder of a run (its last checkpoint), or any model that `train` takes."""
    system: str | None = None
    """A system message that begins the conversation; by default that of the run, if it is one."""
    temperature: float = 1.0
    """Logits are divided by it."""
    max_tokens: int = 256
    """Longest answer, in tokens."""
    seed: int = 0
    """Seed of the answers."""
    own_engine: bool = False
    """Draw by the built-in engine, and not by that of the run, such as a server that has ended."""
    average: bool = False
    """Take the average of the weights that the run has played, which `solver.algorithm: auto` keeps
    beside the last ones."""

    def run(self) -> str:
        """Answer the messages on standard input, one a line, until it ends."""
        require_count("seed", self.seed, least=0)
        policy, tokenizer, engine = chat.load(
            self.model, self.max_tokens, self.temperature, self.own_engine, self.average
        )
        rng = np.random.default_rng(self.seed)
        lines = _lines("> " if sys.stdin.isatty() else "")
        read = chat.settings(self.model)
        for answer in chat.converse(policy, tokenizer, lines, rng, self.system, engine, read):
            print(answer, flush=True)
        return ""


@dataclass(frozen=True)
class Export:
    """Write a checkpoint as a plain folder that `from_pretrained` loads."""

    checkpoint: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT")]
    """A checkpoint, or the folder of a run (its last checkpoint)."""
    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """A folder that does not exist yet."""
    adapters: Adapters = "merged"
    """LoRA adapters become part of the weights, or stay `separate`, a folder of PEFT."""
    average: bool = False
    """Take the average of the weights that the run has played, which `solver.algorithm: auto` keeps
    beside the last ones."""

    def run(self) -> str:
        """Export; returns a line that names the folder, and says how far it is from the policy."""
        apart = export(self.checkpoint, self.folder, self.adapters, average=self.average)
        return (
            f"exported to {self.folder}; loaded again, it is the policy but for a total variation "
            f"of {apart:.1g} of next-token distributions"
        )


@dataclass(frozen=True)
class Sweep:
    """Train with every combination of seeds and settings, each run in its own folder."""

    config: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="CONFIG.yaml")]
    """The run whose settings are varied."""
    seeds: tuple[int, ...] = (0,)
    """Values of `seed`."""
    vary: tuple[str, ...] = ()
    """Settings with their values: `solver.eta=0.5,1,2`, `solver.magnet.every=10,50`."""
    jobs: int = 1
    """Runs at the same time."""
    backend: str = "loky"
    """Joblib's backend: loky, threading, dask, or a registered one."""

    def run(self) -> str:
        """Train all runs that are not finished; returns a line for each run.

        `ValueError`, when all of them have ended, if some have failed.
        """
        vary: dict[str, list[Any]] = {}
        for setting in self.vary:
            name, sign, values = setting.partition("=")
            if not (name and sign and values.strip()):
                raise ValueError(f"`--vary` takes setting=value,value,..., got {setting!r}.")
            if name in vary:
                raise ValueError(f"`--vary` has {name!r} twice: write {name}=value,value,...")
            # As a list, so that the commas of `step.betas=[0.9,0.99],[0.8,0.9]` are understood.
            vary[name] = yaml_lines.value(f"[{values}]", name)
        if "seed" in vary:
            raise ValueError("The seeds of a sweep are set by `--seeds`, not by `--vary seed=...`.")
        if not self.seeds:
            raise ValueError("`--seeds` needs at least one number.")
        if self.jobs == 0:  # a number below 0 counts from the number of cores
            raise ValueError("`--jobs` must be at least 1, or -1 for all cores, got 0.")
        vary["seed"] = list(self.seeds)
        runs = sweep(variants(config_file.load(self.config), vary), self.jobs, self.backend)
        said = "\n".join(map(str, runs))
        failed = [str(run.folder) for run in runs if run.failed]
        if failed:
            print(said, flush=True)
            raise ValueError(
                f"{len(failed)} of {len(runs)} runs failed: {', '.join(failed)}. The same command "
                "tries them again."
            )
        return said


TRAIN_HELP = """Train a language model by self-play on preferences.

CONFIG.yaml holds the settings below, by section; a flag overrides the file. A choice is a word, or
a word with a number: the flags for `magnet: fixed` and `magnet: {every: 50}` in the file are
`--solver.magnet fixed` and `--solver.magnet every 50`, or `--solver.magnet.every 50`.

examples:
  mpo-llm train run.yaml --dry-run
  mpo-llm train run.yaml --solver.eta 1 --output.folder runs/eta1
  mpo-llm train run.yaml --solver.magnet.every 50 --solver.feedback optimistic
  mpo-llm train run.yaml --resume
  accelerate launch --num_processes 2 -m mpo_llm.cli train run.yaml
"""


OUT_OF_MEMORY = (
    "out of memory: lower `step.micro_batch`, `generation.batch` or `generation.max_tokens`; set "
    "`model.gradient_checkpointing`, `model.offload`, `model.lora_rank` or "
    "`model.dtype: bfloat16`; or use more processes. `--dry-run` lists what the memory is used for."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    0: done. 2: bad input or a run that failed, with a sentence on standard error. 130, 143: stopped
    by SIGINT, SIGTERM.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        settings = Config()
        # Read before the flags: the file's settings are the flags' defaults, which `--help` shows.
        if arguments[:1] == ["train"] and len(arguments) > 1 and arguments[1][:1] != "-":
            settings = config_file.load(arguments.pop(1))
        if arguments[:1] == ["train"]:
            arguments, settings = flags.options(arguments, settings)
            arguments, settings = flags.words(arguments, settings)
            arguments = flags.translate(arguments, settings)
        training = tyro.conf.subcommand("train", default=Train(settings), description=TRAIN_HELP)
        command: Any = tyro.cli(
            Annotated[Train, training]
            | Annotated[Chat, tyro.conf.subcommand("chat", description=Chat.__doc__)]
            | Annotated[Sweep, tyro.conf.subcommand("sweep", description=Sweep.__doc__)]
            | Annotated[Export, tyro.conf.subcommand("export", description=Export.__doc__)]
            | Annotated[
                FitPreferences,
                tyro.conf.subcommand("fit-preferences", description=FitPreferences.__doc__),
            ]
            | Annotated[Evaluate, tyro.conf.subcommand("evaluate", description=Evaluate.__doc__)]
            | Annotated[PlayLeague, tyro.conf.subcommand("league", description=PlayLeague.__doc__)]
            | Annotated[Serve, tyro.conf.subcommand("serve", description=Serve.__doc__)],
            args=arguments or ["--help"],
            prog="mpo-llm",
            description="Align language models to general preferences.",
            config=(tyro.conf.FlagCreatePairsOff, tyro.conf.CascadeSubcommandArgs),
            registry=flags.registry(),
        )
        said = _run(command)
        if said:
            print(said, flush=True)
    except BrokenPipeError:
        # The reader, such as `head`, has closed the pipe, and Python flushes into it once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, ArithmeticError, OSError, ImportError) as error:
        # The judge may have raised it.
        lacking = _out_of_memory(error.__cause__)
        _tell(OUT_OF_MEMORY if lacking else str(error), error)
        return 2
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        _tell(OUT_OF_MEMORY, error)
        return 2
    except KeyboardInterrupt as error:
        print(file=sys.stderr)
        _tell("interrupted.", error)
        return 130
    except Interrupted as stop:
        print(f"mpo-llm: {stop}", file=sys.stderr)
        # A shell reports this code for a process that a signal has ended.
        return 128 + stop.signum
    return 0


def _run(command: Any) -> str:
    """What a subcommand returns. `ValueError` if code that it calls wants to end the process."""
    try:
        said: str = command.run()
    except SystemExit as end:
        # An `exit()` of a judge would look like a run that has come to its end.
        error = ValueError(f"A judge, an engine or a score called `exit({end.code!r})`.")
        for note in getattr(end, "__notes__", ()):
            error.add_note(note)
        raise error from end
    return said


def _tell(said: str, error: BaseException) -> None:
    """Print a sentence about an error, and what its notes say: which step of a run is saved."""
    print("mpo-llm:", said, *getattr(error, "__notes__", ()), file=sys.stderr)


def _out_of_memory(error: BaseException | None) -> bool:
    """Whether an accelerator, the CPU allocator or Python ran out of memory."""
    # Torch's allocator for CPUs raises a bare RuntimeError, which only its text tells apart.
    lacking = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return lacking or "can't allocate memory" in str(error)


def _lines(prompt: str) -> Iterator[str]:
    """The lines of standard input that are not empty."""
    while True:
        print(prompt, end="", flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.strip()


def _end(code: int) -> None:
    """End the process. All files have been written."""
    # A thread of gloo that still holds a tensor while the interpreter shuts down aborts it
    # (pytorch/pytorch#179291), and a good run would seem to fail. Several processes skip that.
    if "LOCAL_RANK" in os.environ:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    _end(main())
