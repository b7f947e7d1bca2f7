r"""The demo at scale, on an accelerator: `make llm-demo-gpu`.

Four methods from one configuration, apart only in their solver: MPO, whose magnet moves; MMD, whose
magnet stays; Nash-MD, against its mixture with the start (its opponent's responses are drawn, too);
self-play policy gradient, without a magnet.

Throughput is tokens drawn, by the seconds of generation alone and of whole steps (generation,
scoring, judging, mirror step; not evaluation and saving). Model-flops utilisation is

$$\frac{2 N f + c N b}{\text{seconds of whole steps}\cdot\text{peak flops}}$$

with N all parameters of the model, f and b the run's `forward_tokens` and `backward_tokens`: each
token predicted counts in f once for every pass of a network over it (drawing it, each part of a
mixture for itself; reading it as who drew it, and as the magnet; each gradient), in b once for each
gradient; c = 4, or 2 where LoRA leaves the gradients of the weights out. Prompts, padding,
attention's own products, recomputation, evaluation and the judge do not count.
"""

from __future__ import annotations

import json
import platform
import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import tyro
import yaml

from mpo_games import plot
from mpo_llm.config import Config
from mpo_llm.results import page
from mpo_llm.results.evaluation import START, League, as_json, league
from mpo_llm.training import assemble, checkpoint, config_file
from mpo_llm.training.ledger import PASSES
from mpo_llm.training.train import train

HERE = Path(__file__).parent
MPO = "MPO"
STAYS: Mapping[str, Any] = {"magnet": "fixed"}
METHODS: Mapping[str, Mapping[str, Any]] = {
    MPO: {},
    "MMD": STAYS,
    "Nash-MD": {**STAYS, "feedback": "against_mixture"},
    "Self-play PG": {**STAYS, "alpha": 0.0},
}
"""What each changes of the configuration's solver."""
H100 = 989e12
"""Dense flops a second of an H100 (SXM) in bfloat16, by its data sheet."""
WIN_RATE = "win_rate", "win_rate_low", "win_rate_high"


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run took, by its own records."""

    tokens: int
    """Drawn in its steps."""
    passes: tuple[int, int]
    """Tokens predicted, and those with a gradient."""
    seconds: Mapping[str, float]
    """By what they were spent on."""
    peak_memory: int
    """Bytes: of the run on a CUDA device, or else of the process so far."""
    generated: float
    """Tokens a second of generation."""
    trained: float
    """Tokens a second of whole steps."""
    utilisation: float | None
    """Of the peak flops; None where these are not known."""

    @property
    def whole(self) -> float:
        """Seconds of all steps."""
        return sum(self.seconds.values())


def main(
    config: Path = HERE / "at_scale.yaml",
    folder: Path = Path("runs/demo-at-scale"),
    steps: int | None = None,
    samples: int = 8,
    peak_flops: float | None = None,
) -> None:
    """Train all four, or go on, then let them meet, and write to FOLDER `results.json`,
    `win_rate.svg` and `.png`, and `page.html`.

    Args:
        config: the run of MPO.
        folder: where it all goes; each method's run into a folder of its own.
        steps: mirror steps; the configuration's when None.
        samples: responses to each held-out prompt in the league.
        peak_flops: of the device, a second; of an H100 known when None, of others not.
    """
    base = config_file.load(config)
    if steps is not None:
        base = replace(base, budget=replace(base.budget, steps=steps))
    runs = {name: _varied(base, name, folder) for name in METHODS}
    for name, run in runs.items():
        print(f"{name}\n{train(run, resume=True)}", flush=True)
    policy, _ = assemble.start(base)
    here = policy.network.device
    if peak_flops is None and "H100" in _named(here):
        peak_flops = H100
    records = {name: checkpoint.metrics(run.output.folder) for name, run in runs.items()}
    backward = (2 if base.model.lora_rank else 4) * policy.network.count
    per_token = 2 * policy.network.count, backward
    costs = {name: _cost(rows, per_token, peak_flops) for name, rows in records.items()}
    for name, cost in costs.items():
        print(f"{name:14}" + ", ".join(" ".join(pair) for pair in _said(cost).items()))
    standings = _meet(runs, samples)
    print(standings, flush=True)
    curves = {name: _curve(rows) for name, rows in records.items()}
    found = {
        "command": shlex.join(["python", *sys.argv]),
        "device": _named(here),
        "torch": torch.__version__,
        "peak_flops": peak_flops,
        "parameters": policy.network.count,
        "settings": yaml.safe_load(config_file.dump(base)),
        "methods": METHODS,
        "costs": {name: asdict(cost) for name, cost in costs.items()},
        "win_rates": curves,
        "league": as_json(standings),
    }
    (folder / "results.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (folder / "page.html").write_text(
        _page(base, costs, curves, standings, runs, folder), encoding="utf-8"
    )
    print(f"page      {folder / 'page.html'}")


def _named(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} of {platform.machine()}"


def _varied(base: Config, name: str, folder: Path) -> Config:
    return replace(
        base,
        solver=replace(base.solver, **METHODS[name]),
        output=replace(base.output, folder=folder / name.lower().replace(" ", "-")),
    )


def _cost(rows: list[dict[str, Any]], per_token: tuple[int, int], peak_flops: float | None) -> Cost:
    """Of all steps up to the last record; `per_token` are the flops of a token forward and back."""
    last = rows[-1]
    seconds = {n.removeprefix("seconds_"): s for n, s in last.items() if n.startswith("seconds_")}
    whole = sum(seconds.values())
    forward, backward = (last[name] for name in PASSES)
    flops = per_token[0] * forward + per_token[1] * backward
    return Cost(
        last["tokens"],
        (forward, backward),
        seconds,
        max(row["peak_memory"] for row in rows),
        last["tokens"] / seconds["generation"],
        last["tokens"] / whole,
        None if peak_flops is None else flops / (whole * peak_flops),
    )


def _curve(rows: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Steps, win rates and the ends of their intervals."""
    judged = [row for row in rows if row.get("win_rate") is not None]
    return {name: [row[name] for row in judged] for name in ("step", *WIN_RATE)}


def _meet(runs: Mapping[str, Config], samples: int) -> League:
    """The last policies of all runs and the start against each other, MPO's the one in question."""
    places = {str(run.output.folder): name for name, run in runs.items() if name != MPO}
    home = runs[MPO].output.folder
    saved = checkpoint.listed(home / "checkpoints")
    found = league(str(home), list(places), samples=samples, every=len(saved))
    names = {START: START, **places, saved[-1].name: MPO}
    return replace(
        found,
        names=tuple(names[name] for name in found.names),
        equilibrium={names[name]: share for name, share in found.equilibrium.items()},
        alpha_rank={names[name]: mass for name, mass in found.alpha_rank.items()},
        exploitability={names[name]: e for name, e in found.exploitability.items()},
    )


def _page(
    base: Config,
    costs: Mapping[str, Cost],
    curves: Mapping[str, Mapping[str, list[float]]],
    standings: League,
    runs: Mapping[str, Config],
    folder: Path,
) -> str:
    saved, _ = plot.save(_figure(curves), folder / "win_rate")
    drawn = page.embedded(saved.read_text(encoding="utf-8"))
    spent = {name: _said(cost) for name, cost in costs.items()}
    last = {name: page.said(run.output.folder) for name, run in runs.items()}
    said = [
        (*rows[0][:2], *(after for _, _, after in rows))
        for rows in zip(*last.values(), strict=True)
    ]
    sections = {
        "Win rate against the start, on held-out prompts": drawn,
        "The last of each against each other": page.league(standings),
        "What it took": page.table(
            ("", *spent[MPO]), [(name, *row.values()) for name, row in spent.items()]
        ),
        "What they say": page.table(("prompt", START, *METHODS), said),
    }
    return page.document(f"{base.model.name} at scale: four methods", sections, base)


def _said(cost: Cost) -> dict[str, str]:
    """The columns of a cost."""
    return {
        "tokens/s, generation": f"{cost.generated:,.0f}",
        "tokens/s, whole steps": f"{cost.trained:,.0f}",
        "peak memory, GiB": f"{cost.peak_memory / 2**30:.2f}",
        "model-flops utilisation": "" if cost.utilisation is None else f"{cost.utilisation:.2%}",
        "time": ", ".join(f"{n} {s / cost.whole:.0%}" for n, s in cost.seconds.items()),
    }


def _figure(curves: Mapping[str, Mapping[str, list[float]]]) -> Any:
    """Win rates on the way, with their 95 % intervals."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import MaxNLocator

    with plot.theme():
        figure, ax = plt.subplots(figsize=(7.2, 4.2))
        ax.axhline(0.5, color=plot.GREY, linewidth=1.0)
        ends = []
        for name, curve in curves.items():
            look = plot.style(name)
            assert look is not None
            at, (middle, low, high) = curve["step"], (curve[key] for key in WIN_RATE)
            ax.plot(at, middle, color=look.color, linestyle=look.dash)
            ax.fill_between(at, low, high, color=look.color, alpha=0.12, linewidth=0)
            ends.append((name, middle[-1], look.color))
        ax.set_xlabel("step")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set_ylabel("win rate against the start")
        plot.label_ends(ax, ends)
    return figure


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
