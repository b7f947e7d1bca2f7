"""The command line: `mpo-llm train CONFIG.yaml [settings]` and what follows a training run.

A subcommand is a frozen dataclass whose `run()` returns what is printed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from mpo_llm import config_file
from mpo_llm.config import Config
from mpo_llm.train import Interrupted, train


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
        """Train; a summary."""
        return str(train(self.settings, resume=self.resume))


@dataclass(frozen=True)
class Chat:
    """Talk to a model, or to a checkpoint of a run."""

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """A checkpoint, a run's folder (its last checkpoint), or any model that `train` takes."""
    temperature: float = 1.0
    """Logits are divided by it."""
    max_tokens: int = 256
    """The longest answer."""
    seed: int = 0
    """Of the answers."""

    def run(self) -> str:
        """Read lines from standard input and answer them, until it ends."""
        raise ValueError("Not yet.")


TRAIN_HELP = """Train a language model by self-play on preferences.

CONFIG.yaml holds the settings below by section; what stands on the command line overrides it.

examples:
  mpo-llm train run.yaml --dry-run
  mpo-llm train run.yaml --solver.eta 1 --output.folder runs/eta1
  mpo-llm train run.yaml --resume
  accelerate launch --num_processes 2 -m mpo_llm.cli train run.yaml
"""


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
        talking = tyro.conf.subcommand("chat", description=Chat.__doc__)
        command: Any = tyro.cli(
            Annotated[Train, training] | Annotated[Chat, talking],
            args=arguments or ["--help"],
            prog="mpo-llm",
            description="Align language models to general preferences.",
            config=(tyro.conf.FlagCreatePairsOff, tyro.conf.CascadeSubcommandArgs),
        )
        print(command.run(), flush=True)
    except (ValueError, ArithmeticError, OSError, MemoryError, ImportError) as error:
        print(f"mpo-llm: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nmpo-llm: interrupted.", file=sys.stderr)
        return 130
    except Interrupted as stop:
        print(f"mpo-llm: {stop}", file=sys.stderr)
        return 128 + stop.signum
    return 0


if __name__ == "__main__":
    sys.exit(main())
