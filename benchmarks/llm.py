"""`python benchmarks/llm.py`: steps of training a language model beside TRL's.

`make bench-llm` sets up what this needs. All entrants have the same model, prompts, judge, rows at
once and kind of attention, and run one process after the other. On a CPU an entrant has one thread;
its time is processor time and its memory the peak of its process. On a GPU time is the wall's and
memory the GPU's. The number of an entrant is the median over the steps after the first.

Results go to `results/llm.json`, or `results/llm_SIZE.json`, with a figure beside them. The file is
written after each entrant, and entrants that are not run keep what was measured before:
`--entrants ours` measures us again, and leaves the peers as they are.
"""

from __future__ import annotations

import json
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
from llm_runs import run
from llm_workloads import AIMS, PROMPTS, SIZES, Size

from mpo_games import plot
from mpo_llm.networks import loading as models

HERE = Path(__file__).parent
KINDS = {"full": "full", "lora": "LoRA"}
LOOKS = {
    "ours": ("MPO, exact KL", plot.VERMILLION),
    "grpo": ("GRPO", plot.GREY),
    "grpo_mixed": ("GRPO, float32 weights", plot.BLACK),
    "online_dpo": ("online DPO", plot.SKY),
    "nash_md": ("Nash-MD", plot.GREEN),
}


@dataclass(frozen=True)
class Arguments:
    """Steps of training a language model beside TRL's. None means the usual for the size."""

    size: tuple[Literal["small", "short", "tiny", "1.5B", "7B"], ...] = ("small", "short")
    """SmolLM2-135M with long or with short prompts, or a model of that size with random weights."""
    entrants: tuple[Literal["ours", "grpo", "grpo_mixed", "online_dpo", "nash_md"], ...] = ()
    """Only these are run; all of the size when empty."""
    kinds: tuple[Literal["full", "lora"], ...] = ("full", "lora")
    """Whether all weights are trained, or LoRA adapters."""
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
    folder: Path = HERE / "results"
    """The folder of the results."""

    def scale(self, name: str) -> Size:
        """The size of that name, changed where an argument says otherwise."""
        given = {f.name: getattr(self, f.name, None) for f in fields(Size)}
        return replace(SIZES[name], **{n: v for n, v in given.items() if v is not None})


def main(arguments: Arguments) -> None:
    """Run the entrants of every size; print, save and draw their numbers."""
    if arguments.steps < 2:
        raise ValueError(f"`steps` must be at least 2, the first warms up; got {arguments.steps}.")
    for name in arguments.size:
        contest(name, arguments)


def contest(name: str, arguments: Arguments) -> None:
    """Run the entrants of one size."""
    size = arguments.scale(name)
    out = arguments.folder / f"llm{'' if name == 'small' else f'_{name}'}.json"
    print(
        f"{name}: {size.prompts} prompts x {size.samples} responses of at most {size.tokens} tokens"
    )
    pythons = {"ours": sys.executable}
    for peer in size.peers:
        python = arguments.nash_md if peer == "nash_md" else arguments.trl
        if python is not None:
            pythons[peer] = python
    chosen = arguments.entrants or tuple(pythons)
    record = begun(out, name, size)
    with tempfile.TemporaryDirectory() as folder:
        if name in PROMPTS:
            prompts, folder = PROMPTS[name], models.folder(models.SMOLLM2)
        else:
            subprocess.run([sys.executable, random_models.__file__, name, folder], check=True)
            prompts = random_models.prompts(name, 2 * size.prompts, 32)
        for kind in arguments.kinds:
            task = Task(
                folder, size.dtype, kind == "lora", prompts, size.prompts, size.samples,
                size.tokens, size.rows, size.checkpointing, arguments.steps,
            )  # fmt: skip
            found = record["results"][kind]
            for entrant, python in pythons.items():
                if entrant in chosen:
                    found[entrant] = run(python, entrant, task)
                    # A run of all takes long, and what is measured need not be measured again.
                    out.write_text(json.dumps(record, indent=2) + "\n")
            show(name, kind, found)
    print(f"\n{markdown(record)}")
    plot.save(figure(record), out.with_suffix(""))


def begun(out: Path, name: str, size: Size) -> dict[str, Any]:
    """The record in a file if it is of the same step and machine, otherwise a new one."""
    record: dict[str, Any] = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "size": name,
        # As JSON has it, to be compared with what was saved.
        "step": json.loads(json.dumps(asdict(size))),
        "results": {kind: {} for kind in KINDS},
    }
    if out.exists():
        before = json.loads(out.read_text())
        if all(before.get(key) == value for key, value in record.items() if key != "results"):
            record["results"] |= before["results"]
    return record


def show(name: str, kind: str, found: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the table of one kind of training."""
    nothing = {"note": "not measured"}
    ours = found.get("ours", nothing)
    head = f"{'s a step':>10}{'trained':>9}{'s each':>9}{'theirs / ours':>15}{'tokens/s':>10}"
    print(f"\n{kind:12}{head}{'peak MB':>9}")
    for entrant, result in found.items():
        if "note" in result:
            print(f"{entrant:12}{result['note']}")
            continue
        each, step = result["per_completion"], median(result["seconds"][1:])
        ratio = each / ours["per_completion"] if "per_completion" in ours else float("nan")
        numbers = f"{step:>10.2f}{result['trained']:>9}{each:>9.3f}{ratio:>15.2f}"
        print(f"{entrant:12}{numbers}{result['tokens_per_second']:>10.0f}{result['peak_mb']:>9}")
    peers = [r for n, r in found.items() if n != "ours" and "note" not in r]
    if "note" in ours:
        return
    if peers and name in AIMS:
        best = min(peers, key=lambda r: float(r["per_completion"]))
        for what, key, aim in zip(
            ("time", "memory"), ("per_completion", "peak_mb"), AIMS[name], strict=True
        ):
            share = ours[key] / best[key]
            print(
                f"aim: {what} at most {aim} x the best peer: {_verdict(share <= aim)} ({share:.2f})"
            )
    print(f"where our seconds go: {ours['clock']}")


def _verdict(met: bool) -> str:
    return "met" if met else "MISSED"


def markdown(record: Mapping[str, Any]) -> str:
    """Seconds of processor time a trained completion and peak memory, as a table for the README."""
    results = record["results"]
    lines = [
        "| | " + " | ".join(f"{KINDS[kind]}, s | GiB" for kind in results) + " |",
        "| --- |" + " --- |" * 2 * len(results),
    ]
    for name, (label, _) in LOOKS.items():
        parts = [found.get(name, {"note": ""}) for found in results.values()]
        if any("note" not in part for part in parts):
            cells = (
                ("", "")
                if "note" in part
                else (f"{part['per_completion']:.2f}", f"{part['peak_mb'] / 1024:.1f}")
                for part in parts
            )
            lines.append(f"| {label} | " + " | ".join(" | ".join(pair) for pair in cells) + " |")
    return "\n".join(lines)


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
        "peak memory, GiB": lambda r: f"{r['peak_mb'] / 1024:.2g}",
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
        step = record["step"]
        work = f"{step['prompts']} prompts x {step['samples']} x {step['tokens']} tokens"
        drawing.suptitle(f"{record['size']}, {work}, on {device or 'nothing'}, beside TRL")
    return drawing


if __name__ == "__main__":
    main(tyro.cli(Arguments))
