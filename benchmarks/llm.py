"""Steps of training a language model side by side with TRL: `python benchmarks/llm.py` (`make
bench-llm` sets up what it needs).

Same model, prompts, samples and judge, one thread, one process after the other: an entrant's memory
is its process's peak, its time the median processor time of a step after the first, per completion
that is trained on. Results go to `results/llm.json`.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import tyro
from llm_entrant import AT_ONCE, SAMPLES, TOKENS

from mpo_llm import models

HERE = Path(__file__).parent
AIM = 0.7
"""Our time per trained completion, at most so many times the best peer's."""


@dataclass(frozen=True)
class Arguments:
    """Steps of training a language model beside TRL's."""

    model: str = models.SMOLLM2
    """The model: a name or a folder."""
    steps: int = 4
    """Steps of each entrant, of which the first warms up."""
    trl: str = sys.executable
    """The Python that has TRL 1.16."""
    nash_md: str | None = None
    """The Python that has TRL 1.0, the last with Nash-MD; without it nobody plays that."""
    out: Path = HERE / "results" / "llm.json"
    """Where the results go."""


def main(arguments: Arguments) -> None:
    """Run all entrants, print the table and keep it."""
    folder = models.folder(arguments.model)
    peers = {"grpo": arguments.trl, "online_dpo": arguments.trl}
    if arguments.nash_md is not None:
        peers["nash_md"] = arguments.nash_md
    print(f"{AT_ONCE} prompts x {SAMPLES} responses of at most {TOKENS} tokens, one thread")
    results: dict[str, dict[str, Any]] = {}
    for kind in ("full", "lora"):
        found = {
            name: _run(python, name, folder, kind, arguments.steps)
            for name, python in {"ours": sys.executable, **peers}.items()
        }
        results[kind] = found
        _print(kind, found)
    machine = {"python": platform.python_version(), "machine": platform.machine()}
    arguments.out.write_text(json.dumps({**machine, "results": results}, indent=2) + "\n")


def _run(python: str, name: str, model: str, kind: str, steps: int) -> dict[str, Any]:
    command = [python, str(HERE / "llm_entrant.py"), name, model, kind, str(steps)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"note": done.stderr.strip().splitlines()[-1]}
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    found["per_completion"] = median(found["seconds"][1:]) / found["trained"]
    return found


def _print(kind: str, found: dict[str, dict[str, Any]]) -> None:
    ours = found["ours"]
    head = f"{'s a step':>10}{'trained':>9}{'s each':>8}{'theirs / ours':>15}{'peak MB':>9}"
    print(f"\n{kind:12}{head}")
    for name, result in found.items():
        if "note" in result:
            print(f"{name:12}{result['note']}")
            continue
        each, step = result["per_completion"], median(result["seconds"][1:])
        ratio = each / ours["per_completion"] if "per_completion" in ours else float("nan")
        numbers = f"{step:>10.2f}{result['trained']:>9}{each:>8.2f}{ratio:>15.2f}"
        print(f"{name:12}{numbers}{result['peak_mb']:>9}")
    peers = [r for n, r in found.items() if n != "ours" and "note" not in r]
    if peers and "note" not in ours:
        share = ours["per_completion"] / min(r["per_completion"] for r in peers)
        memory = ours["peak_mb"] / min(r["peak_mb"] for r in peers)
        print(f"aim: at most {AIM} x the best peer: {_verdict(share <= AIM)} ({share:.2f})")
        print(f"aim: memory no larger: {_verdict(memory <= 1.0)} ({memory:.2f})")
        print(f"where our seconds go: {ours['clock']}")


def _verdict(met: bool) -> str:
    return "met" if met else "MISSED"


if __name__ == "__main__":
    main(tyro.cli(Arguments))
