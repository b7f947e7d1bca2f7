"""The command line: `mpo-llm train CONFIG.yaml [settings]` and what follows a training run.

A subcommand is a frozen dataclass whose `run()` returns what is printed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
import yaml

from mpo_llm.commands import Evaluate, FitPreferences, PlayLeague
from mpo_llm.config import Config
from mpo_llm.results import chat
from mpo_llm.results.export import export
from mpo_llm.training import config_file
from mpo_llm.training.plan import plan
from mpo_llm.training.sweep import sweep, variants
from mpo_llm.training.train import Interrupted, train


@dataclass(frozen=True)
class Train:
    """Train a model by self-play on preferences."""

    settings: Annotated[Config, tyro.conf.arg(name="")] = Config()
    """The run: the file's settings, each of which the command line can override."""
    dry_run: bool = False
    """Print the plan (memory, tokens a step, time a step after a short probe) and stop."""
    resume: bool = False
    """Go on from the last checkpoint in the run's folder, if it has one."""

    def run(self) -> str:
        """Train, or plan to; a summary."""
        if self.dry_run:
            return str(plan(self.settings))
        summary = train(self.settings, resume=self.resume)
        return str(summary) if int(os.environ.get("RANK", "0")) == 0 else ""


@dataclass(frozen=True)
class Chat:
    """Talk to a model, or to a checkpoint of a run."""

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """A checkpoint, a run's folder (its last checkpoint), or any model that `train` takes."""
    system: str | None = None
    """A system message to begin with."""
    temperature: float = 1.0
    """Logits are divided by it."""
    max_tokens: int = 256
    """The longest answer."""
    seed: int = 0
    """Of the answers."""

    def run(self) -> str:
        """Read messages from standard input, a line each, and answer them until it ends."""
        policy, tokenizer, engine = chat.load(self.model, self.max_tokens, self.temperature)
        rng = np.random.default_rng(self.seed)
        prompt = "> " if sys.stdin.isatty() else ""
        for answer in chat.converse(policy, tokenizer, _lines(prompt), rng, self.system, engine):
            print(answer, flush=True)
        return ""


@dataclass(frozen=True)
class Export:
    """Write a checkpoint as a plain folder that `from_pretrained` loads."""

    checkpoint: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT")]
    """A checkpoint, or a run's folder (its last checkpoint)."""
    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """A folder that does not exist yet."""

    def run(self) -> str:
        """Export; where to."""
        export(self.checkpoint, self.folder)
        return f"exported to {self.folder}"


@dataclass(frozen=True)
class Sweep:
    """Train with every combination of seeds and settings, each in a folder of its own."""

    config: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="CONFIG.yaml")]
    """The run that is varied."""
    seeds: tuple[int, ...] = (0,)
    """Values of `seed`."""
    vary: tuple[str, ...] = ()
    """Settings with their values, as `solver.eta=0.5,1,2`."""
    jobs: int = 1
    """Runs at once."""
    backend: str = "loky"
    """Joblib's backend: loky, threading, dask, or one that was registered."""

    def run(self) -> str:
        """Run what has not been run; a line on each."""
        vary: dict[str, list[Any]] = {}
        for setting in self.vary:
            name, _, values = setting.partition("=")
            vary[name] = [yaml.safe_load(value) for value in values.split(",")]
        vary["seed"] = list(self.seeds)
        return sweep(variants(config_file.load(self.config), vary), self.jobs, self.backend)


TRAIN_HELP = """Train a language model by self-play on preferences.

CONFIG.yaml holds the settings below by section; what stands on the command line overrides it.

examples:
  mpo-llm train run.yaml --dry-run
  mpo-llm train run.yaml --solver.eta 1 --output.folder runs/eta1
  mpo-llm train run.yaml --resume
  accelerate launch --num_processes 2 -m mpo_llm.cli train run.yaml
"""


OUT_OF_MEMORY = (
    "out of memory: lower `step.micro_batch`, `generation.batch` or `generation.max_tokens`; set "
    "`model.gradient_checkpointing`, `model.offload`, `model.lora_rank` or "
    "`model.dtype: bfloat16`; or share the work with more processes. `--dry-run` says what takes "
    "how much."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    0: done. 2: bad input, said in one sentence on standard error. 130, 143: interrupted by SIGINT
    or SIGTERM.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        settings = Config()
        if arguments[:1] == ["train"] and len(arguments) > 1 and arguments[1][:1] != "-":
            settings = config_file.load(arguments.pop(1))
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
            | Annotated[PlayLeague, tyro.conf.subcommand("league", description=PlayLeague.__doc__)],
            args=arguments or ["--help"],
            prog="mpo-llm",
            description="Align language models to general preferences.",
            config=(tyro.conf.FlagCreatePairsOff, tyro.conf.CascadeSubcommandArgs),
        )
        said = command.run()
        if said:
            print(said, flush=True)
    except BrokenPipeError:  # whoever reads, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, ArithmeticError, OSError, ImportError) as error:
        print(f"mpo-llm: {error}", file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        print(f"mpo-llm: {OUT_OF_MEMORY}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nmpo-llm: interrupted.", file=sys.stderr)
        return 130
    except Interrupted as stop:
        print(f"mpo-llm: {stop}", file=sys.stderr)
        return 128 + stop.signum
    return 0


def _out_of_memory(error: BaseException) -> bool:
    """Whether it is an accelerator's, the CPU allocator's or Python's own lack of memory."""
    lacking = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return lacking or "can't allocate memory" in str(error)


def _lines(prompt: str) -> Iterator[str]:
    """Lines of standard input, those that are empty left out."""
    while True:
        print(prompt, end="", flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.strip()


def _end(code: int) -> None:
    """Leave the process; everything is written by now.

    One of several leaves at once: threads of gloo that still hold a tensor when the interpreter is
    being taken down abort it (pytorch/pytorch#179291), and a run that went well ends as a failure.
    """
    if "LOCAL_RANK" in os.environ:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    _end(main())
