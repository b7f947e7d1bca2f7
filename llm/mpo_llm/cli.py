"""The command line `mpo-llm`: training, and what follows a training run.

A subcommand is a frozen dataclass whose `run()` returns the text to print. What needs torch is
imported by `run()`, so that the arguments are understood, or refused, at once.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from mpo_llm.commands import (
    Evaluate,
    FitPreferences,
    PlayLeague,
    Serve,
    WritePage,
    require_run,
)
from mpo_llm.config import Config
from mpo_llm.training import config_file, flags, yaml_lines
from mpo_llm.training.beforehand import require_runnable
from mpo_llm.training.stops import Interrupted

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
    config: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="CONFIG.yaml")] = ""
    """The settings of the run, in a file. It comes first, before all flags; without it the settings
    are the defaults and the flags."""
    dry_run: bool = False
    """Print the plan (memory, tokens a step, time a step after a short probe) and stop."""
    resume: bool = False
    """Continue from the last checkpoint in the run's folder, if there is one."""
    accept: tuple[Accepted, ...] = ()
    """With `--resume`: go on although these have changed since the run began, and record it."""

    def run(self) -> str:
        """Train, or plan; returns the summary or the plan."""
        if self.config:  # `main` has taken the one that comes first
            raise ValueError(
                f"The settings come before the flags: mpo-llm train {self.config} --..., and there "
                "is one file of them."
            )
        require_runnable(self.settings)
        from mpo_llm.training.plan import plan
        from mpo_llm.training.train import train

        if self.dry_run:
            return str(plan(self.settings))
        summary = train(self.settings, resume=self.resume, accept=self.accept, attended=True)
        # Every process has the same summary; the first one prints it.
        if int(os.environ.get("RANK", "0")) != 0:
            return ""
        from mpo_llm.results.conclusion import conclude

        return conclude(self.settings, summary)


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
        import numpy as np

        from mpo_games.checks import require_count
        from mpo_llm.networks.hub import require_model

        require_count("seed", self.seed, least=0)
        # Before torch is imported, which takes longer than to find a wrong name.
        require_model(self.model)
        from mpo_llm.results import chat

        policy, tokenizer, engine = chat.load(
            self.model, self.max_tokens, self.temperature, self.own_engine, self.average
        )
        rng = np.random.default_rng(self.seed)
        typed = sys.stdin.isatty()
        if typed:
            print("A line is a message. Ctrl-D ends the chat.")
        lines = _lines("> " if typed else "")
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
    adapters: Literal["merged", "separate"] = "merged"
    """LoRA adapters become part of the weights, or stay `separate`, a folder of PEFT."""
    average: bool = False
    """Take the average of the weights that the run has played, which `solver.algorithm: auto` keeps
    beside the last ones."""

    def run(self) -> str:
        """Export; returns a line that names the folder, and says how far it is from the policy."""
        require_run(self.checkpoint)
        from mpo_llm.results.export import export

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
    folder: Path | None = None
    """The folder of the runs' folders; by default `output.folder`."""
    jobs: int = 1
    """Runs at the same time."""
    backend: str = "loky"
    """Joblib's backend: loky, threading, dask, or a registered one."""

    def run(self) -> str:
        """Train all runs that are not finished; returns a line for each run.

        `ValueError`, when all of them have ended, if some have failed.
        """
        base = config_file.load(self.config)
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
        if self.folder is not None:
            base = replace(base, output=replace(base.output, folder=self.folder))
        from mpo_llm.training.sweep import sweep, variants

        runs = sweep(variants(base, vary), self.jobs, self.backend)
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

CONFIG.yaml comes first and holds the settings below, by section; a flag overrides the file. None
here is `null` there. A choice is a word, or a word with a number: the flags for `magnet: fixed` and
for `magnet: {every: 50}` in the file are `--solver.magnet fixed` and `--solver.magnet every 50`, or
as one word `--solver.magnet.every 50`.

Options of the judge: `--judge.options name value ...` adds to those in the file, and
the flag `--judge.options None` takes them away; `--generation.options` does so for the engine.

At the end the result is compared with the start on held-out prompts (`evaluation.source`), or on 16
of its own, and the page of the run is written.

examples:
  mpo-llm train run.yaml --dry-run
  mpo-llm train run.yaml --solver.algorithm nash_md --output.folder runs/nash-md
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
    # The core's commands import quickly; what needs torch is imported by `run()`.
    from mpo_games.cli.usage import warnings_in_sentences

    with warnings_in_sentences("mpo-llm"):
        return _main(argv)


def _main(argv: Sequence[str] | None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments == ["--version"]:
        from mpo_games import __version__

        print(f"mpo-llm {__version__}")
        return 0
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
        command = _parsed(
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
            | Annotated[WritePage, tyro.conf.subcommand("page", description=WritePage.__doc__)]
            | Annotated[Serve, tyro.conf.subcommand("serve", description=Serve.__doc__)],
            arguments or ["--help"],
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


def _parsed(kinds: Any, arguments: list[str]) -> Any:
    """The subcommand that the arguments name. `ValueError` for a value that its type refuses."""
    told = io.StringIO()
    try:
        with redirect_stderr(told):
            return tyro.cli(
                kinds,
                args=arguments,
                prog="mpo-llm",
                description="Align language models to general preferences.",
                config=(tyro.conf.FlagCreatePairsOff, tyro.conf.CascadeSubcommandArgs),
                registry=flags.registry(),
            )
    except SystemExit as end:
        if not end.code:
            raise
        from mpo_games.cli.usage import sentence

        text = told.getvalue()
        refused = flags.refusal(text) or sentence(text, arguments, "mpo-llm")
        raise ValueError(refused) from None


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
    torch = sys.modules.get("torch")
    kinds = (MemoryError, torch.OutOfMemoryError) if torch is not None else (MemoryError,)
    return isinstance(error, kinds) or "can't allocate memory" in str(error)


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
