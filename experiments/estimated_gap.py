"""The estimated gap follows the exact one: from below, and the closer the more responses are drawn.

Languages of 64 responses (`lab/enumerable_languages.py`), where the exact gap of a transformer is
known. A run estimates it from what a step has judged anyway (`mpo_llm/gap.py`): the best rival is
chosen on half of the step's draws and valued on the other half. With a pool, the responses of
earlier steps are rivals, too. Above: the estimate of each step with its 95 % interval, on the first
of the games; the interval is that of new prompts, on a single prompt that of its draws. Below: all
games, step by step and in the mean of ten steps. Gaps are in units of `P - 1/2` and count both
players, as `duality_gap` does, so the maximum is 1. At several prompts each has a game of its own.
The runs with a pool are those of the recipe of `transformer_gap`, the others those of MPO with its
usual solve, at one setting. The recipe does not solve eight games at once in so few steps; here it
only supplies policies. With 8 draws four of them choose among all responses of the pool: there the
estimate misses most of all, and the correlation of its means is just below the bound that was set.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np

import mpo_games as mg
from experiments.lab import enumerable_languages as languages
from experiments.lab.harness import Claim, Run
from mpo_games import plot as draw

TITLE = "The estimated gap beside the exact one"
CORE = False
SEED = 0
"""The first seed of the games."""

GAMES, STEPS = 3, 120
MEAN = 10
"""Steps whose mean is shown beside single steps."""

REGIMES: dict[str, dict[str, Any]] = {
    "1 prompt, 64 draws, no pool": {"prompts": 1, "samples": 64, "pooled": False},
    "1 prompt, 64 draws, pool": {"prompts": 1, "samples": 64, "pooled": True},
    "8 prompts, 8 draws, pool": {"prompts": 8, "samples": 8, "pooled": True},
    "8 prompts, 32 draws, pool": {"prompts": 8, "samples": 32, "pooled": True},
}
COLOURS = (draw.BLUE, "#E69F00", "#009E73", "#CC79A7")
DARK = "#222222"
MPO = {"eta": 0.6, "alpha": 0.05}


def track(prompts: int, samples: int, pooled: bool, steps: int, seed: int) -> dict[str, Any]:
    """The exact and the estimated gap at each step of a run, with the ends of the interval."""
    import torch

    import mpo_llm as ml
    from mpo_llm.training.ledger import Ledger

    # Several threads add up in another order, and results must not depend on the machine.
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    table = np.stack([languages.preferences(seed + 500 * x) for x in range(prompts)])
    network = ml.PlainNetwork(ml.SmallTransformer(vocabulary=4 + prompts, context=4))
    inner = languages.accurate() if pooled else languages.usual()
    start = ml.TokenPolicy.of(network, ml.Decoding(max_tokens=3, vocabulary=4), inner)
    game = ml.EnumerableGame(start, tuple((4 + x,) for x in range(prompts)), table, samples)
    method, setting = ("The recipe", languages.RECIPE) if pooled else ("MPO", MPO)
    # The ledger of a training run keeps what its last step has learned from.
    ledger = Ledger()
    solver = ledger.solver(languages.solver(method, False, setting))
    found: dict[str, list[float]] = {"exact": [], "value": [], "low": [], "high": []}
    policy = game.initial_policy()
    states = mg.iterate(game, solver, rng=np.random.default_rng(seed))
    for state in islice(states, 1, steps + 1):
        assert ledger.rollouts is not None
        gap = ledger.rollouts.gap
        assert gap is not None
        numbers = (float(game.duality_gap(policy)), gap.value, *gap.interval)
        for column, number in zip(found.values(), numbers, strict=True):
            column.append(number)
        policy = state.policy
    return found


def compute(quick: bool, run: Run) -> dict[str, Any]:
    """Every regime on every game."""
    games, steps = (2, 3) if quick else (GAMES, STEPS)
    cells = [
        {**regime, "steps": steps, "seed": seed}
        for regime in REGIMES.values()
        for seed in range(games)
    ]
    found = iter(run(track, cells))
    return {name: [next(found) for _ in range(games)] for name in REGIMES}


def summary(results: dict[str, Any]) -> dict[str, dict[str, float]]:
    """How well each regime's estimate tracks the exact gap, over all games and steps.

    `exact` and `estimated` are means, and `bias` is their difference. `correlation` is that of
    single steps, `smooth` that of the means of ten steps. `small_exact` and `small_bias`
    are `exact` and `bias` in the half of the steps whose exact gaps are the smaller ones. `below`
    is the share of the steps whose interval begins below the exact gap.
    """
    table = {}
    for name, games in results.items():
        exact, value, low = (
            np.array([game[key] for game in games]) for key in ("exact", "value", "low")
        )
        small = exact <= np.median(exact)
        table[name] = {
            "exact": float(exact.mean()),
            "estimated": float(value.mean()),
            "bias": float((value - exact).mean()),
            "small_exact": float(exact[small].mean()),
            "small_bias": float((value - exact)[small].mean()),
            "correlation": float(np.corrcoef(exact.ravel(), value.ravel())[0, 1]),
            "smooth": float(np.corrcoef(_means(exact).ravel(), _means(value).ravel())[0, 1]),
            "below": float(np.mean(low <= exact)),
        }
    return table


def as_markdown(results: dict[str, Any]) -> str:
    """The summary as the table of `docs/language_models.md`."""
    head = (
        "a step",
        "exact gap, mean",
        "bias",
        "bias where the gap is small (its mean)",
        "correlation, single steps",
        "means of ten steps",
        "intervals that begin below the gap",
    )
    lines = [f"| {' | '.join(head)} |", "| --- " * len(head) + "|"]
    lines += [
        f"| {name} | {row['exact']:.3f} | {row['bias']:+.3f} "
        f"| {row['small_bias']:+.3f} ({row['small_exact']:.3f}) | {row['correlation']:.2f} "
        f"| {row['smooth']:.2f} | {row['below']:.1%} |"
        for name, row in summary(results).items()
    ]
    return "\n".join(lines) + "\n"


def plot(results: dict[str, Any]) -> Any:
    """Four panels of curves and two of points."""
    import matplotlib.pyplot as plt

    with draw.theme():
        figure, axes = plt.subplots(3, 2, figsize=(8.0, 10.0))
        for ax, (name, games), colour in zip(axes[:2].flat, results.items(), COLOURS, strict=True):
            game = games[0]
            steps = np.arange(1, len(game["exact"]) + 1)
            ax.fill_between(steps, game["low"], game["high"], color=colour, alpha=0.2, linewidth=0)
            ax.plot(steps, game["value"], color=colour, linewidth=1.2, label="estimated")
            ax.plot(steps, game["exact"], color=DARK, linewidth=1.8, label="exact")
            ax.set(title=name, xlabel="step", ylabel="gap", ylim=(-0.35, 1.0))
            ax.legend(loc="lower left")
        for ax, width in zip(axes[2], (1, MEAN), strict=True):
            for games, colour in zip(results.values(), COLOURS, strict=True):
                exact, value = (
                    _means(np.array([game[key] for game in games]), width).ravel()
                    for key in ("exact", "value")
                )
                size = 2 if width == 1 else 5
                ax.plot(exact, value, ".", color=colour, markersize=size, alpha=0.6)
            ax.plot((0, 1), (0, 1), color=DARK, linestyle=draw.DOTTED, linewidth=1.2)
            ax.set(xlabel="exact gap", ylabel="estimated gap", xlim=(-0.02, 1), ylim=(-0.35, 1))
            ax.set_title("single steps" if width == 1 else f"means of {width} steps")
    return figure


def claims(results: dict[str, Any]) -> list[Claim]:
    """The mean is below the gap in every regime, and the means of ten steps follow it."""
    table = summary(results)
    bias = max(row["bias"] for row in table.values())
    below = min(row["below"] for row in table.values())
    bounds = [
        Claim(
            "ours", "estimated gaps less exact ones, the largest mean", "<= 0", bias, bias <= 0.0
        ),
        Claim(
            "ours",
            "the smallest share of intervals that begin below the exact gap",
            ">= .95",
            below,
            below >= 0.95,
        ),
    ]
    return bounds + [
        Claim(
            "ours",
            f"{name}: correlation of estimated and exact gaps, means of {MEAN} steps",
            ">= .9",
            row["smooth"],
            row["smooth"] >= 0.9,
        )
        for name, row in table.items()
    ]


def _means(values: Any, width: int = MEAN) -> Any:
    """Means of `width` steps each: `(G, S)` becomes `(G, S // width)`."""
    games, steps = values.shape
    width = min(width, steps)
    return values[:, : steps // width * width].reshape(games, -1, width).mean(axis=2)
