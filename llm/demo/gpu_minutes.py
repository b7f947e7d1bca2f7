"""A quarter of an hour on a GPU: `make gpu-minutes`.

The parts run one after the other, each in processes of its own and within a time of its own:

1. the features of the adapter, each compared with the CPU's numbers (`device_checks.py`);
2. a few steps of random models in the shapes of Qwen2-1.5B and Llama-7B, ours beside TRL's GRPO if
   a Python with TRL is named (`benchmarks/llm_entrant.py`): tokens a second, bytes a parameter,
   model-flops utilisation, and how often the host waits for the device in a step;
3. SmolLM2 by `at_scale.yaml`, for as many steps as there is time.

`FOLDER/results.json` is written after each part. A second start goes on where the first has
stopped: it keeps what was measured, repeats what failed, and trains SmolLM2 further. The figure
shows what is known so far. `--rehearse` runs everything at tiny size, on whatever device there is.

Tokens are those drawn in a step, and seconds are those of the whole step. Bytes a parameter are the
peak of the device's memory, divided by the number of all parameters. `at_scale.py` explains the
utilisation.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch
import tyro

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
# Scripts that stand beside each other are no packages: they find each other by the path.
sys.path += [str(HERE), str(ROOT / "benchmarks")]

import at_scale  # noqa: E402
import llm_runs  # noqa: E402
import random_models  # noqa: E402
from llm_entrant import Task  # noqa: E402
from llm_workloads import SIZES  # noqa: E402

from mpo_games import plot  # noqa: E402
from mpo_games.atomic import write_bytes  # noqa: E402
from mpo_llm.networks import loading as models  # noqa: E402
from mpo_llm.training import checkpoint  # noqa: E402

CHECKS, SMOLLM2 = "device checks", "SmolLM2, LoRA"
LEAST = 5.0
"""A part is not begun with fewer seconds left."""
GRACE = 60.0
"""Seconds in which a run that was asked to stop has saved its checkpoint."""
STEPS = 4
"""Steps that are timed, of which the first warms up. One more is run under the profiler."""
KINDS = {"full": "full", "lora": "LoRA"}
ENTRANTS = {"ours": ("MPO, exact KL", plot.VERMILLION), "grpo": ("GRPO of TRL", plot.GREY)}
NOTE = "note"
"""The key of a sentence that says why a part has no result."""


@dataclass(frozen=True)
class Cell:
    """Some steps of an entrant on a random model."""

    shape: str
    kind: str
    entrant: str
    seconds: float
    """The most seconds that it may take, loading included."""
    offload: bool = False
    """Whether our policies are in the memory of the CPU."""

    @property
    def name(self) -> str:
        """Its name in the results."""
        return f"{self.shape}, {KINDS[self.kind]}: {self.entrant}"


CELLS = (
    Cell("1.5B", "full", "ours", 75.0),
    Cell("1.5B", "full", "grpo", 75.0),
    Cell("7B", "lora", "ours", 90.0),
    Cell("7B", "lora", "grpo", 90.0),
    Cell("7B", "full", "ours", 120.0, offload=True),
)
"""In the order of their worth, should the time not suffice for all."""
TINY = tuple(Cell("tiny", kind, "ours", 300.0) for kind in KINDS)
"""The cells of a rehearsal."""


@dataclass
class Results:
    """What has been measured so far, and the file that holds it."""

    path: Path
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The numbers of each part, or its note."""
    about: dict[str, Any] = field(default_factory=dict)
    """The device and the versions."""

    @classmethod
    def read(cls, path: Path) -> Results:
        """The results in a file; none if there is no file."""
        return cls(path, **json.loads(path.read_text())) if path.exists() else cls(path)

    def done(self, name: str) -> bool:
        """Whether a part need not be run again."""
        return name in self.parts and NOTE not in self.parts[name]

    def write(self) -> None:
        """Write the file."""
        record = {"about": self.about, "parts": self.parts}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(self.path, (json.dumps(record, indent=1) + "\n").encode())

    def keep(self, name: str, found: dict[str, Any]) -> None:
        """Add the numbers of a part to the file."""
        self.parts[name] = found
        self.write()
        print(f"{name}: {found.get(NOTE) or _short(found)}", flush=True)


def main(
    folder: Path = Path("runs/gpu-minutes"),
    seconds: float = 780.0,
    rehearse: bool = False,
    trl: str | None = None,
    peak_flops: float | None = None,
) -> None:
    """Run all parts that have no result yet, within `seconds` in all.

    Args:
        folder: the folder of `results.json`, the figure and the run of SmolLM2.
        seconds: the time for all parts together.
        rehearse: run tiny models, to see whether everything works.
        trl: the Python that has TRL 1.16; when None, this one, if it has TRL.
        peak_flops: the device's peak in flops a second; when None, it is known for H100 and H200.
    """
    deadline = time.monotonic() + seconds
    # The parts run in the root of the checkout.
    folder = folder.resolve()
    device = models.device()
    results = Results.read(folder / "results.json")
    results.about = {
        "device": at_scale.named(device),
        "torch": torch.__version__,
        "peak_flops": peak_flops or at_scale.peak_of(device),
        "rehearsal": rehearse,
    }
    results.write()
    if trl is None and importlib.util.find_spec("trl"):
        trl = sys.executable
    if _left(deadline) >= LEAST:
        before = results.parts.get(CHECKS, {})
        results.keep(CHECKS, check(before, device, min(240.0, _left(deadline))))
    for shape in dict.fromkeys(cell.shape for cell in (TINY if rehearse else CELLS)):
        cells = [
            cell
            for cell in (TINY if rehearse else CELLS)
            if cell.shape == shape
            and not results.done(cell.name)
            and (cell.entrant == "ours" or trl is not None)
        ]
        if not cells or _left(deadline) < LEAST:
            continue
        place = model(shape, folder)
        for cell in cells:
            limit = min(cell.seconds, _left(deadline))
            if limit >= LEAST:
                python = sys.executable if cell.entrant == "ours" else str(trl)
                results.keep(cell.name, measured(cell, python, place, limit, results.about))
    if _left(deadline) >= LEAST:
        results.keep(SMOLLM2, trained(folder, rehearse, _left(deadline), results.about))
    plot.save(figure(results), folder / "figure")
    print(f"results   {results.path}\nfigure    {folder / 'figure.svg'}")


def _left(deadline: float) -> float:
    return deadline - time.monotonic()


def check(before: Mapping[str, Any], device: torch.device, limit: float) -> dict[str, Any]:
    """Compare the features that have not passed yet with the CPU's."""
    passed = list(before.get("passed", ()))
    command = [sys.executable, str(HERE / "device_checks.py"), str(device), *passed]
    found: dict[str, Any] = {"passed": passed, "failed": {}}
    out, error = _run(command, limit)
    # Libraries may print lines of their own.
    for said in (json.loads(line) for line in out.splitlines() if line.startswith("{")):
        if said["error"] is None:
            passed.append(said["name"])
        else:
            found["failed"][said["name"]] = said["error"]
    if error is not None:
        found[NOTE] = error
    return found


def model(shape: str, folder: Path) -> str:
    """The folder of a random model of this shape, which is made if there is none."""
    place = folder / f"model-{shape}"
    if not place.exists():
        # Under its name there is only a whole model, even if a start was cut off.
        part = folder / f"{place.name}.part"
        random_models.save(shape, part)
        part.rename(place)
        if torch.cuda.is_available():
            # The entrants have processes of their own, and need the memory.
            torch.cuda.empty_cache()
    return str(place)


def measured(
    cell: Cell, python: str, place: str, limit: float, about: Mapping[str, Any]
) -> dict[str, Any]:
    """The steps of a cell."""
    size = SIZES[cell.shape]
    prompts = random_models.prompts(cell.shape, 2 * size.prompts, 32)
    task = Task(
        place, size.dtype, cell.kind == "lora", prompts, size.prompts, size.samples,
        size.tokens, size.rows, size.checkpointing, STEPS, cell.offload, profiled=True,
    )  # fmt: skip
    found = llm_runs.run(python, cell.entrant, task, limit)
    if NOTE in found:
        return found
    found["step"] = asdict(size)
    with torch.device("meta"):
        found["parameters"] = random_models.build(cell.shape).num_parameters()
    found["bytes_a_parameter"] = found["peak_mb"] * 2**20 / found["parameters"]
    peak = about["peak_flops"]
    if "passes" in found and peak is not None:
        per_token = at_scale.flops_a_token(found["parameters"], cell.kind == "lora")
        found["utilisation"] = median(
            (per_token[0] * forward + per_token[1] * backward) / (seconds * peak)
            for seconds, (forward, backward) in list(
                zip(found["seconds"], found["passes"], strict=False)
            )[1:]
        )
    return found


def trained(folder: Path, rehearse: bool, limit: float, about: Mapping[str, Any]) -> dict[str, Any]:
    """Train SmolLM2 for the rest of the time; a rehearsal trains the tiny model for two steps."""
    run = folder / "smollm2"
    command = [sys.executable, "-m", "mpo_llm.cli", "train", str(HERE / "at_scale.yaml")]
    command += ["--resume", "--output.folder", str(run), "--evaluation.source", ""]
    # The everyday judge needs packages that are not at hand everywhere, and takes time of the CPU.
    command += ["--judge.factory", f"{ROOT / 'benchmarks' / 'llm_entrant.py'}:shorter"]
    if rehearse:
        command += ["--model.name", model("tiny", folder), "--solver.prompts", "4"]
        command += ["--solver.samples", "2", "--generation.max_tokens", "8", "--budget.steps", "2"]
    _, error = _run(command, limit - min(GRACE, limit / 2.0), GRACE)
    rows = checkpoint.metrics(run) if (run / "metrics.jsonl").exists() else []
    if not rows:
        return {NOTE: error or "no step was finished"}
    config = checkpoint.config_of(run)
    network = at_scale.assemble.start(config, torch.device("cpu"))[0].network
    per_token = at_scale.flops_a_token(network.parameters, True)
    cost = at_scale.cost_of(rows, per_token, about["peak_flops"])
    found = {
        "steps": rows[-1]["step"],
        "tokens_per_second": cost.trained,
        "bytes_a_parameter": cost.peak_memory / network.parameters,
        "parameters": network.parameters,
        "seconds": dict(cost.seconds),
        "length": [row["length"] for row in rows],
    }
    return found if cost.utilisation is None else {**found, "utilisation": cost.utilisation}


def _run(command: list[str], limit: float, grace: float = 0.0) -> tuple[str, str | None]:
    """What a command prints, and why it did not end well: None if it did.

    After `limit` seconds it is asked to stop, and after `grace` more it is killed.
    """
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    late = f"stopped after {limit:.0f} s"
    try:
        out, said = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        process.terminate()
        try:
            out, _ = process.communicate(timeout=max(grace, LEAST))
        except subprocess.TimeoutExpired:
            process.kill()
            out, _ = process.communicate()
        return out, late
    if process.returncode:
        return out, (said.strip().splitlines() or [f"ended by {process.returncode}"])[-1]
    return out, None


def _short(found: Mapping[str, Any]) -> str:
    """A line of the numbers that matter."""
    if "failed" in found:
        return f"{len(found['passed'])} passed, {len(found['failed'])} failed"
    numbers = {
        "tokens/s": f"{found['tokens_per_second']:,.0f}",
        "bytes a parameter": f"{found['bytes_a_parameter']:.1f}",
    }
    if "utilisation" in found:
        numbers["model-flops utilisation"] = f"{found['utilisation']:.2%}"
    if "waits" in found:
        numbers["waits a step"] = ", ".join(f"{n} {c:,}" for n, c in found["waits"].items())
    return ", ".join(f"{name} {number}" for name, number in numbers.items())


def figure(results: Results) -> Any:
    """What was measured: a bar for each cell and for SmolLM2."""
    import matplotlib.pyplot as plt

    panels = {
        "tokens a second": ("tokens_per_second", 1.0, ",.0f"),
        "bytes a parameter": ("bytes_a_parameter", 1.0, ",.1f"),
        "model-flops utilisation, %": ("utilisation", 100.0, ".2g"),
    }
    bars = {n: p for n, p in results.parts.items() if n != CHECKS and NOTE not in p}
    entrants = {n: n.partition(": ")[2] or "ours" for n in bars}
    with plot.theme():
        height = 1.6 + 0.42 * max(1, len(bars))
        drawing, axes = plt.subplots(1, len(panels), figsize=(11.0, height), sharey=True)
        for ax, (title, (key, scale, digits)) in zip(axes, panels.items(), strict=True):
            values = [scale * part.get(key, 0.0) for part in bars.values()]
            colors = [ENTRANTS[entrants[name]][1] for name in bars]
            drawn = ax.barh(range(len(bars)), values, 0.7, color=colors)
            texts = [format(v, digits) if v else "not known" for v in values]
            ax.bar_label(drawn, texts, padding=3, fontsize=9.5, color="#333333")
            ax.set_title(title)
            ax.margins(x=0.25)
            ax.grid(visible=False, axis="y")
        names = [name.partition(": ")[0] for name in bars]
        axes[0].set_yticks(range(len(bars)), names)
        axes[0].invert_yaxis()
        for entrant, (label, color) in ENTRANTS.items():
            if entrant in entrants.values():
                axes[0].barh(0, 0.0, color=color, label=label)
        if bars:
            drawing.legend(loc="outside lower center", ncols=len(ENTRANTS))
        checks = results.parts.get(CHECKS, {})
        said = f"{len(checks.get('passed', ()))} features as on the CPU"
        if checks.get("failed"):
            said += f", {len(checks['failed'])} not"
        drawing.suptitle(f"{results.about['device']}: {said}")
    return drawing


if __name__ == "__main__":
    tyro.cli(main)
