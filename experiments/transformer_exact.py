"""With exact gradients a transformer follows its table: self-play circles, and MPO arrives.

Above: three games of 64 responses, exact feedback, 25 iterations of L-BFGS a step. Grey: the gaps
of the tables. Dotted: the gap of MMD's regularised equilibrium, by the oracle. Self-play circles
with gaps above .8, except for a moment of one game, when its gap is .69. Below: the recipe on
samples, with two prompts of 40 responses each, of one to three tokens (`eos`), and 128 samples a
prompt and step; five games.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.lab import enumerable_languages as languages
from experiments.lab import harness
from experiments.lab.harness import Claim, Run
from mpo_games import plot as draw

TITLE = "Exact gradients, and responses of any length"
CORE = False
SEED = 0
"""The first seed of the games."""

EXACT_GAMES, EXACT_STEPS = 3, 200
GAMES, STEPS = 5, 400


def compute(quick: bool, run: Run) -> dict[str, Any]:
    """The exact runs, then the sampled ones."""
    exact_steps, steps = (2, 2) if quick else (EXACT_STEPS, STEPS)
    games, seeds = (1, 1) if quick else (EXACT_GAMES, GAMES)
    cells = [
        {"method": method, "steps": exact_steps, "seed": seed}
        for method in languages.EXACT
        for seed in range(games)
    ]
    found = iter(run(languages.exact, cells))
    exact = {method: [next(found) for _ in range(games)] for method in languages.EXACT}
    cells = [
        {
            "method": "The recipe",
            "pooled": True,
            "setting": languages.RECIPE,
            "steps": steps,
            "seed": seed,
            "ended": True,
        }
        for seed in range(seeds)
    ]
    return {
        "exact": {"at": languages.marks(exact_steps), "runs": exact},
        "ended": {"at": languages.marks(steps), "gaps": np.transpose(run(languages.race, cells))},
    }


def plot(results: dict[str, Any]) -> Any:
    """Two panels."""
    import matplotlib.pyplot as plt

    with draw.theme():
        figure, (left, right) = plt.subplots(2, 1, figsize=(7.2, 8.6), sharey=True)
        exact, ended = results["exact"], results["ended"]
        at = np.asarray(exact["at"], dtype=float)
        left.set_ylim(6e-4, 2.2)
        for runs in exact["runs"].values():
            for one in runs:
                left.plot(at, one["twin"], color="#CCCCCC", linewidth=1.2)
        for one in exact["runs"]["MMD"]:
            left.axhline(one["own"], color=draw.BLUE, linestyle=draw.DOTTED, linewidth=1.6)
        draw.convergence(
            {
                name: harness.curve(at, np.transpose([one["gaps"] for one in runs]))
                for name, runs in exact["runs"].items()
            },
            ax=left,
            band=(0.0, 1.0),
        )
        left.set(title="Exact gradients (grey: the tables)", xlabel="steps")
        draw.convergence(
            {"The recipe": harness.curve(ended["at"], ended["gaps"])},
            ax=right,
            band=(0.0, 1.0),
        )
        right.set(
            title="The recipe: two prompts, one to three tokens", xlabel="steps of 256 samples"
        )
    return figure


def claims(results: dict[str, Any]) -> list[Claim]:
    """The methods that arrive, and those that do not."""
    runs = results["exact"]["runs"]
    last = {name: np.array([one["gaps"][-1] for one in found]) for name, found in runs.items()}
    # Where play circles, the last gap alone is chance.
    late = np.array([one["gaps"][-len(one["gaps"]) // 3 :] for one in runs["Self-play PG"]])
    own = np.array([one["own"] for one in runs["MMD"]])
    ended = float(np.median(np.asarray(results["ended"]["gaps"])[-1]))
    return [
        Claim(
            "ours",
            "exact gradients: optimistic MPO's last gap, worst game",
            "gap <= .01",
            float(last["Optimistic MPO"].max()),
            bool(last["Optimistic MPO"].max() <= 0.01),
        ),
        Claim(
            "ours",
            "exact gradients: self-play's lowest gap in the last third of the records",
            "gap >= .8",
            float(late.min()),
            bool(late.min() >= 0.8),
        ),
        Claim(
            "MMD",
            "exact gradients: the fixed magnet's gap is its equilibrium's own (largest difference)",
            "< .005",
            float(np.abs(last["MMD"] - own).max()),
            bool(np.abs(last["MMD"] - own).max() < 0.005),
        ),
        Claim(
            "ours",
            "two prompts, one to three tokens: the recipe's last gap, median",
            "gap <= .06",
            ended,
            ended <= 0.06,
        ),
    ]
