"""MMD's last iterate converges linearly to the regularised equilibrium, below the theorem's line.

KL(regularised equilibrium || policy) on six games at eta = alpha / L^2, the largest step size that
the theorem allows, for alpha from L / 10 to L / 2. Dashed: the theorem's factor 1 / (1 + eta alpha)
a step. Dotted: the exact asymptotic rate, the squared spectral radius of the linearised step.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

import numpy as np

import mpo_games as mg
from experiments.lab.harness import Claim, Run
from mpo_games import exact, theory
from mpo_games import plot as draw
from mpo_games.games.catalogue import load

TITLE = "The linear rate of the theorem"
CORE = True
SEED = 0
"""The seed of the random games and the starts."""

GAMES: Mapping[str, tuple[float, str, Mapping[str, Any]]] = {
    "perturbed RPS": (0.1, "perturbed_rps", {}),
    "biased RPS": (0.15, "biased_rps", {}),
    "COMAL's cycle": (0.2, "comal", {}),
    "M-Ne (many equilibria)": (0.3, "mne", {}),
    "random preferences, 10 x 10": (0.4, "random_preferences", {"n": 10, "seed": SEED}),
    "random zero-sum, 50 x 50": (0.5, "random_zero_sum", {"n": 50, "m": 50, "seed": SEED}),
}
"""For each game `alpha / L` with `L = max |A|`, its name in the catalogue, its parameters."""


def _start(game: Any, rng: np.random.Generator) -> mg.TabularPolicy:
    """A random policy of full support, away from the uniform magnet."""
    legal = game.legal
    weights = np.where(legal, rng.gamma(1.0, size=legal.shape) + 1e-3, 0.0)
    return mg.TabularPolicy.from_probs(weights / weights.sum(axis=-1, keepdims=True), legal)


def rate(name: str, steps: int) -> dict[str, Any]:
    """The KL at some steps, and three factors by which it falls: bound, exact local rate, fit."""
    rng = np.random.default_rng(SEED)
    share, entry, parameters = GAMES[name]
    game = load(entry, **parameters)
    alpha = share * float(game.bound)
    eta = theory.largest_step(game, alpha)
    target = exact.qre(game, alpha).policy
    states = mg.iterate(
        game, mg.MMD(eta, alpha), policy=_start(game, rng), magnet=game.initial_policy()
    )
    kl = np.array([float(game.divergence(target, s.policy)) for s in islice(states, steps + 1)])
    radius = float(theory.local_rate(game, target, eta=eta, alpha=alpha))
    # A KL is exact to some 1e-13, so a rate is fitted to those above.
    clear = np.arange(len(kl)) if kl[-1] > 1e-12 else np.arange(int(np.argmax(kl < 1e-12)))
    fitted = theory.fit_rate(clear, kl[clear])
    stride = max(1, steps // 100)
    return {
        "eta": eta,
        "alpha": alpha,
        "steps": np.arange(steps + 1)[::stride],
        "kl": np.maximum(kl[::stride], 0.0),
        "bound": theory.rate_bound(eta, alpha),
        # The KL is quadratic in the distance that the radius shrinks.
        "local": radius**2,
        "fitted": fitted.factor,
        "fitted_range": [fitted.low, fitted.high],
        "worst_step": float(np.max(kl[clear[1:]] / kl[clear[:-1]])),
    }


def violations(seeds: list[int], excess: float, steps: int) -> int:
    """How many random games have a step above the bound, at `excess` times the largest step."""
    missed = 0
    for seed in seeds:
        rng = np.random.default_rng(seed)
        n = int(rng.integers(2, 9))
        game = mg.MatrixGame(rng.uniform(-1, 1, size=(n, int(rng.integers(2, 9)))))
        alpha = float(rng.uniform(0.1, 1.0)) * float(game.bound)
        eta = excess * theory.largest_step(game, alpha)
        target = exact.qre(game, alpha).policy
        states = mg.iterate(
            game, mg.MMD(eta, alpha), policy=_start(game, rng), magnet=game.initial_policy()
        )
        kl = np.array([float(game.divergence(target, s.policy)) for s in islice(states, steps)])
        # Differences of KL are exact to some 1e-13 here.
        missed += bool((kl[1:] > kl[:-1] * theory.rate_bound(eta, alpha) + 1e-13).any())
    return missed


def compute(quick: bool, run: Run) -> dict[str, Any]:
    """Curves on six games, and a count of violations on random ones."""
    cells = [{"name": name, "steps": 200 if quick else 700} for name in GAMES]
    games = 8 if quick else 200
    chunks = [list(range(i, min(i + 25, games))) for i in range(0, games, 25)]
    counted = {
        str(excess): sum(
            run(violations, [{"seeds": c, "excess": excess, "steps": 100} for c in chunks])
        )
        for excess in (1.0, 30.0)
    }
    return {
        "games": dict(zip(GAMES, run(rate, cells), strict=True)),
        "violations": counted,
        "random_games": games,
    }


def plot(results: dict[str, Any]) -> Any:
    """A panel for each game: measured, bound, exact rate."""
    import matplotlib.pyplot as plt

    with draw.theme():
        figure, axes = plt.subplots(3, 2, figsize=(8.4, 8.6), sharex=True, sharey=True)
        for ax, (name, found) in zip(axes.flat, results["games"].items(), strict=True):
            steps, kl = np.array(found["steps"]), np.maximum(found["kl"], 1e-16)
            ax.set_yscale("log")
            ax.plot(steps, kl, color=draw.BLUE)
            ax.plot(steps, kl[0] * found["bound"] ** steps, color=draw.GREY, linestyle=draw.DASHED)
            # The slope is a local rate: its line is drawn through the first small KL.
            anchor = int(np.argmax(kl < 1e-5)) or len(kl) - 1
            line = kl[anchor] * found["local"] ** (steps - steps[anchor])
            shown = (line < 1e2) & (line > 1e-16)
            ax.plot(
                steps[shown],
                line[shown],
                color=draw.VERMILLION,
                linestyle=draw.DOTTED,
                linewidth=2.6,
            )
            ax.set_ylim(1e-15, 30.0)
            ax.set_title(name)
            ax.text(0.97, 0.92, f"alpha = {GAMES[name][0]:g} L", transform=ax.transAxes, ha="right")
            ax.set(xlabel="steps", ylabel="KL to the equilibrium")
            ax.label_outer()
        figure.legend(
            axes.flat[0].lines,
            ["MMD, measured", "bound of the theorem", "exact local rate"],
            loc="outside upper center",
            ncols=3,
        )
    return figure


def claims(results: dict[str, Any]) -> list[Claim]:
    """The bound step by step, and the exact rate."""
    worst = max(found["worst_step"] / found["bound"] for found in results["games"].values())
    off = max(
        abs(float(np.log(found["fitted"]) / np.log(found["local"])) - 1.0)
        for found in results["games"].values()
    )
    within, above = (results["violations"][k] for k in ("1.0", "30.0"))
    theorem = "MMD, MPO"
    return [
        Claim(
            theorem,
            "KL falls by 1 / (1 + eta alpha) at every step for eta = alpha / L^2: worst "
            "one-step factor over the bound, six games",
            "ratio <= 1",
            worst,
            worst <= 1.0 + 1e-9,
        ),
        Claim(
            theorem,
            f"the same on {results['random_games']} random games: games with a violation",
            "0",
            within,
            within == 0,
        ),
        Claim(
            "the check can fail",
            "at thirty times the largest step size: games with a violation",
            "> 0",
            above,
            above > 0,
        ),
        Claim(
            "linearisation",
            "the fitted slope is the spectral radius of the linearised step: largest relative "
            "deviation, six games",
            "< 0.1",
            off,
            off < 0.1,
        ),
    ]
