"""`python benchmarks/llm.py`: steps of training a language model beside TRL's.

`make bench-llm` sets up what this needs. All entrants have the same model, prompts, samples, judge,
rows at once and kind of attention, and run one process after the other. On a CPU an entrant has one
thread; its time is processor time and its memory the peak of its process. On a GPU time is the
wall's and memory the GPU's. The number of an entrant is the median over the steps after the first.
Results go to `results/llm.json`, or `results/llm_SIZE.json`, with a figure beside them.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from statistics import median
from typing import Any, Literal

import random_models
import tyro
from llm_entrant import Task

from mpo_games import plot
from mpo_llm.networks import loading as models

HERE = Path(__file__).parent
AIM = 0.7
"""The aim: our time per trained completion is at most so many times the best peer's."""
PROMPTS = (
    "How do I stay motivated while learning to code?",
    "What should I cook for dinner tonight?",
    "Explain why the sky is blue.",
    "Give me advice for a job interview.",
    "How can I sleep better?",
    "What is a good way to learn French?",
    "How do plants make food?",
    "How should I start saving money?",
)
KINDS = {"full": "full", "lora": "LoRA"}
LOOKS = {
    "ours": ("MPO, exact KL", plot.VERMILLION),
    "grpo": ("GRPO", plot.GREY),
    "grpo_mixed": ("GRPO, float32 weights", plot.BLACK),
    "online_dpo": ("online DPO", plot.SKY),
    "nash_md": ("Nash-MD", plot.GREEN),
}


@dataclass(frozen=True)
class Size:
    """How much work a step is."""

    prompts: int
    samples: int
    tokens: int
    rows: int
    dtype: Literal["float32", "bfloat16"]
    checkpointing: bool
    peers: tuple[str, ...] = ("grpo", "grpo_mixed")


SIZES: Mapping[str, Size] = {
    "small": Size(4, 2, 32, 16, "float32", False, ("grpo", "online_dpo", "nash_md")),
    "tiny": Size(4, 2, 8, 4, "bfloat16", False, ("grpo", "grpo_mixed", "online_dpo", "nash_md")),
    "1.5B": Size(64, 8, 64, 32, "bfloat16", False),
    "7B": Size(16, 8, 64, 16, "bfloat16", True),
}
"""`small` is SmolLM2-135M; the others are `random_models`, for tests and for a GPU."""


@dataclass(frozen=True)
class Arguments:
    """Steps of training a language model beside TRL's. None means the usual for the size."""

    size: Literal["small", "tiny", "1.5B", "7B"] = "small"
    """SmolLM2-135M, or a model of that size with random weights."""
    prompts: int | None = None
    """Prompts a step."""
    samples: int | None = None
    """Responses to each."""
    tokens: int | None = None
    """The most tokens of a response."""
    rows: int | None = None
    """Responses run forward and backward at once."""
    dtype: Literal["float32", "bfloat16"] | None = None
    """The type of the weights."""
    checkpointing: bool | None = None
    """Whether activations are computed again in the backward pass, which saves memory."""
    steps: int = 4
    """Steps of each entrant, of which the first warms up."""
    trl: str | None = None
    """The Python that has TRL 1.16; without it GRPO and online DPO are left out."""
    nash_md: str | None = None
    """The Python that has TRL 1.0, the last with Nash-MD; without it Nash-MD is left out."""
    out: Path | None = None
    """The file for the results."""

    @property
    def scale(self) -> Size:
        """The size, changed where an argument says otherwise."""
        given = {f.name: getattr(self, f.name, None) for f in fields(Size)}
        return replace(SIZES[self.size], **{n: v for n, v in given.items() if v is not None})


def main(arguments: Arguments) -> None:
    """Run all entrants; print, save and draw their numbers."""
    name, size = arguments.size, arguments.scale
    if arguments.steps < 2:
        raise ValueError(f"`steps` must be at least 2, the first warms up; got {arguments.steps}.")
    out = arguments.out or HERE / "results" / f"llm{'' if name == 'small' else f'_{name}'}.json"
    print(f"{size.prompts} prompts x {size.samples} responses of at most {size.tokens} tokens")
    entrants = {"ours": sys.executable}
    for peer in size.peers:
        python = arguments.nash_md if peer == "nash_md" else arguments.trl
        if python is not None:
            entrants[peer] = python
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        prompts = PROMPTS
        if name == "small":
            folder = models.folder(models.SMOLLM2)
        else:
            subprocess.run([sys.executable, random_models.__file__, name, folder], check=True)
            prompts = random_models.prompts(name, 2 * size.prompts, 32)
        for kind in KINDS:
            task = Task(
                folder, size.dtype, kind == "lora", prompts, size.prompts, size.samples,
                size.tokens, size.rows, size.checkpointing, arguments.steps,
            )  # fmt: skip
            results[kind] = {n: run(p, n, task) for n, p in entrants.items()}
            show(kind, results[kind])
    record = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "size": name,
        "step": asdict(size),
        "results": results,
    }
    out.write_text(json.dumps(record, indent=2) + "\n")
    plot.save(figure(record), out)


def run(python: str, name: str, task: Task) -> dict[str, Any]:
    """The measurements of an entrant, or a `note` that says why there are none."""
    done = subprocess.run(
        [python, str(HERE / "llm_entrant.py"), name],
        input=json.dumps(asdict(task)) + "\n",
        env={
            "CUDA_VISIBLE_DEVICES": "0",
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return {"note": (done.stderr.strip().splitlines() or [f"ended by {done.returncode}"])[-1]}
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    # The first step warms up.
    each = median(found["seconds"][1:])
    found["per_completion"] = each / found["trained"]
    found["tokens_per_second"] = median(found["tokens"][1:]) / each
    return found


def show(kind: str, found: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the table of one kind of training."""
    ours = found["ours"]
    head = f"{'s a step':>10}{'trained':>9}{'s each':>9}{'theirs / ours':>15}{'tokens/s':>10}"
    print(f"\n{kind:12}{head}{'peak MB':>9}")
    for name, result in found.items():
        if "note" in result:
            print(f"{name:12}{result['note']}")
            continue
        each, step = result["per_completion"], median(result["seconds"][1:])
        ratio = each / ours["per_completion"] if "per_completion" in ours else float("nan")
        numbers = f"{step:>10.2f}{result['trained']:>9}{each:>9.3f}{ratio:>15.2f}"
        print(f"{name:12}{numbers}{result['tokens_per_second']:>10.0f}{result['peak_mb']:>9}")
    peers = [r for n, r in found.items() if n != "ours" and "note" not in r]
    if peers and "note" not in ours:
        share = ours["per_completion"] / min(r["per_completion"] for r in peers)
        memory = ours["peak_mb"] / min(r["peak_mb"] for r in peers)
        print(f"aim: at most {AIM} x the best peer: {_verdict(share <= AIM)} ({share:.2f})")
        print(f"aim: memory no larger: {_verdict(memory <= 1.0)} ({memory:.2f})")
    if "note" not in ours:
        print(f"where our seconds go: {ours['clock']}")


def _verdict(met: bool) -> str:
    return "met" if met else "MISSED"


def figure(record: Mapping[str, Any]) -> Any:
    """Tokens a second and peak memory: a bar for each entrant, with full weights and with LoRA."""
    import matplotlib.pyplot as plt

    results = record["results"]
    names = [name for name in LOOKS if any(name in found for found in results.values())]
    measured = [r for found in results.values() for r in found.values() if "note" not in r]
    device = ", ".join(sorted({r["device"] for r in measured}))
    speed = "tokens a processor second" if device == "CPU" else "tokens a second"
    panels = {
        speed: lambda r: f"{r['tokens_per_second']:.0f}",
        "peak memory, GB": lambda r: f"{r['peak_mb'] / 1024:.2g}",
    }
    width = 0.84 / len(names)
    with plot.theme():
        drawing, axes = plt.subplots(1, 2, figsize=(9.6, 3.6))
        for ax, (title, value) in zip(axes, panels.items(), strict=True):
            for i, name in enumerate(names):
                label, color = LOOKS[name]
                at = [k + (i - (len(names) - 1) / 2) * width for k in range(len(results))]
                entries = [found.get(name, {"note": ""}) for found in results.values()]
                texts = ["none" if "note" in r else value(r) for r in entries]
                heights = [0.0 if text == "none" else float(text) for text in texts]
                bars = ax.bar(at, heights, 0.94 * width, color=color, label=label)
                ax.bar_label(bars, texts, padding=2, fontsize=9.5, color="#333333")
            ax.set_title(title)
            ax.set_xticks(range(len(results)), [KINDS[kind] for kind in results])
            ax.grid(visible=False, axis="x")
            ax.margins(y=0.12)
        handles, labels = axes[0].get_legend_handles_labels()
        drawing.legend(handles, labels, loc="outside lower center", ncols=len(names))
        drawing.suptitle(f"{record['size']} on {device or 'nothing'}, beside trainers of TRL")
    return drawing


if __name__ == "__main__":
    main(tyro.cli(Arguments))
