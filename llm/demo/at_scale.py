r"""The demo at scale, on an accelerator: `make llm-demo-gpu`.

Four methods run from one configuration and differ only in their solver: MPO, whose magnet moves;
MMD, whose magnet is fixed; Nash-MD, which plays against the mixture of itself and the start, and so
draws responses of its opponent as well; and self-play policy gradient, which has no magnet.

Throughput is the number of tokens drawn, divided by the seconds of generation alone, or by the
seconds of whole steps. A step is generation, scoring, judging and the mirror step, without
evaluation and saving. Model-flops utilisation is

$$\frac{2 N f + c N b}{\text{seconds of whole steps}\cdot\text{peak flops}}$$

N is the number of all parameters of the model. f and b are the run's `forward_tokens` and
`backward_tokens`. A predicted token counts in f once for every pass of a network over it: when it
is drawn (by each part of a mixture), when it is scored by the policy that drew it and by the
magnet, and for each gradient. It counts in b once for each gradient. c is 4, or 2 under LoRA, which
needs no gradients of the weights. Prompts, padding, the products inside attention, recomputation,
evaluation and the judge are not counted.
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
from mpo_llm.results.evaluation import START, league
from mpo_llm.results.outcomes import League, as_json
from mpo_llm.training import assemble, checkpoint, config_file
from mpo_llm.training.ledger import PASSES
from mpo_llm.training.train import train

HERE = Path(__file__).parent
MPO = "MPO"
FIXED_MAGNET: Mapping[str, Any] = {"magnet": "fixed"}
METHODS: Mapping[str, Mapping[str, Any]] = {
    MPO: {},
    "MMD": FIXED_MAGNET,
    "Nash-MD": {**FIXED_MAGNET, "feedback": "against_mixture"},
    "Self-play PG": {**FIXED_MAGNET, "alpha": 0.0},
}
"""The settings of the configuration's solver that each method replaces."""
PEAKS: Mapping[str, float] = {"H100": 989e12, "H200": 989e12}
"""Peaks of devices (SXM) in bfloat16, dense, by their data sheets, in flops a second."""
WIN_RATE = "win_rate", "win_rate_low", "win_rate_high"


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of a run's steps, by its own records."""

    tokens: int
    """The number of tokens drawn."""
    passes: tuple[int, int]
    """f and b: the tokens predicted in forward passes, and in those with a gradient."""
    seconds: Mapping[str, float]
    """The seconds by what they were spent on."""
    peak_memory: int
    """In bytes: of the run on a CUDA device; otherwise of the process so far."""
    generated: float
    """Tokens drawn in a second of generation."""
    trained: float
    """Tokens drawn in a second of whole steps."""
    utilisation: float | None
    """Model-flops utilisation, in [0, 1]; None if the peak is not known."""

    @property
    def whole(self) -> float:
        """The seconds of all steps together."""
        return sum(self.seconds.values())


def main(
    config: Path = HERE / "at_scale.yaml",
    folder: Path = Path("runs/demo-at-scale"),
    steps: int | None = None,
    samples: int = 8,
    peak_flops: float | None = None,
) -> None:
    """Train or resume all four methods, let them meet in a league, and write a page about them.

    FOLDER then holds `results.json`, `win_rate.svg`, `win_rate.png`, `page.html` and the folder of
    each method's run.

    Args:
        config: the configuration of MPO's run.
        folder: the folder of all results.
        steps: the number of mirror steps; as in the configuration when None.
        samples: responses of each entrant to each held-out prompt, in the league.
        peak_flops: the device's peak in flops a second; when None, that of `PEAKS`.
    """
    base = config_file.load(config)
    if steps is not None:
        base = replace(base, budget=replace(base.budget, steps=steps))
    runs = {name: _varied(base, name, folder) for name in METHODS}
    for name, run in runs.items():
        print(f"{name}\n{train(run, resume=True)}", flush=True)
    policy, _ = assemble.start(base)
    here = policy.network.device
    peak_flops = peak_flops or peak_of(here)
    records = {name: checkpoint.metrics(run.output.folder) for name, run in runs.items()}
    per_token = flops_a_token(policy.network.parameters, bool(base.model.lora_rank))
    costs = {name: cost_of(rows, per_token, peak_flops) for name, rows in records.items()}
    for name, cost in costs.items():
        print(f"{name:14}" + ", ".join(" ".join(pair) for pair in _columns(cost).items()))
    standings = _meet(runs, samples)
    print(standings, flush=True)
    curves = {name: _curve(rows) for name, rows in records.items()}
    found = {
        "command": shlex.join(["python", *sys.argv]),
        "device": named(here),
        "torch": torch.__version__,
        "peak_flops": peak_flops,
        "parameters": policy.network.parameters,
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


def peak_of(device: torch.device) -> float | None:
    """The device's peak in flops a second; None if it is not known."""
    return next((peak for name, peak in PEAKS.items() if name in named(device)), None)


def flops_a_token(parameters: int, lora: bool) -> tuple[int, int]:
    """The flops of one token in a forward and in a backward pass."""
    # LoRA needs the gradients of the activations only: half of a full backward pass.
    return 2 * parameters, (2 if lora else 4) * parameters


def named(device: torch.device) -> str:
    """The name of a device in results."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} of {platform.machine()}"


def _varied(base: Config, name: str, folder: Path) -> Config:
    return replace(
        base,
        solver=replace(base.solver, **METHODS[name]),
        output=replace(base.output, folder=folder / name.lower().replace(" ", "-")),
    )


def cost_of(
    rows: list[dict[str, Any]], per_token: tuple[int, int], peak_flops: float | None
) -> Cost:
    """The cost of all steps up to the last of these records; `per_token` is `flops_a_token`."""
    # The records count from the beginning of the run, so the last one holds the totals.
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
    """The columns of the curve: steps, win rates, and the ends of their intervals."""
    judged = [row for row in rows if row.get("win_rate") is not None]
    return {name: [row[name] for row in judged] for name in ("step", *WIN_RATE)}


def _meet(runs: Mapping[str, Config], samples: int) -> League:
    """The league of the start and the last policies of all runs; MPO's stands last."""
    places = {str(run.output.folder): name for name, run in runs.items() if name != MPO}
    home = runs[MPO].output.folder
    saved = checkpoint.listed(home / "checkpoints")
    # With this `every` only MPO's last checkpoint takes part.
    found = league(str(home), list(places), samples=samples, every=len(saved))
    # The league calls entrants by folders; the page calls them by methods.
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
    spent = {name: _columns(cost) for name, cost in costs.items()}
    last = {name: page.sample_answers(run.output.folder) for name, run in runs.items()}
    # Every run has the same prompts and start, so the start's answer to a prompt stands once.
    answers = [
        (*rows[0][:2], *(after for _, _, after in rows))
        for rows in zip(*last.values(), strict=True)
    ]
    sections = {
        "Win rate against the start, on held-out prompts": drawn,
        "The last policies of all methods against each other": page.league(standings),
        "Cost": page.table(
            ("", *spent[MPO]), [(name, *row.values()) for name, row in spent.items()]
        ),
        "Answers": page.table(("prompt", START, *METHODS), answers),
    }
    return page.document(f"{base.model.name} at scale: four methods", sections, base)


def _columns(cost: Cost) -> dict[str, str]:
    """A cost as the columns of a table."""
    return {
        "tokens/s, generation": f"{cost.generated:,.0f}",
        "tokens/s, whole steps": f"{cost.trained:,.0f}",
        "peak memory, GiB": f"{cost.peak_memory / 2**30:.2f}",
        "model-flops utilisation": "" if cost.utilisation is None else f"{cost.utilisation:.2%}",
        "time": ", ".join(f"{n} {s / cost.whole:.0%}" for n, s in cost.seconds.items()),
    }


def _figure(curves: Mapping[str, Mapping[str, list[float]]]) -> Any:
    """The win rates during training, with their 95 % intervals."""
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
