"""The enumerable languages of the transformer's experiments, and the methods that play them.

A transformer of two layers writes one of 64 responses (three tokens, each one of four). Each
response has one of five styles, each of which beats the next two, and a quality: `P = 1/2 +
tanh(beats + better) / 2`. Equilibria have 3 to 5 responses. Gaps are exact and in units of `2 P -
1`, at most 2; `eta` and `alpha` are in the solvers' units, those of `P - 1/2`.

The methods are settings of the core's `MMD`, and the losses of their papers are values too.
Self-play policy gradient, SPPO and iterative DPO are mirror descent with three different losses.
INPO is MMD at the explicit step with SPPO's loss. Nash-MD is MMD against the mixture with the
magnet (of weight 1/8, as published for language models). EGPO is MMD at the half step (two
evaluations a step). With the accurate solve of the one objective SPPO and DPO *are* self-play, and
INPO *is* MMD.

All but the recipe are tuned alike: six settings, judged by the mean log10 gap over the second half
of a short run (`TUNING`) on `HELD_OUT`, a game that is not reported. Every magnet that moves does
so every 50 steps; the recipe's is `WeightEma(.01)`. Torch is imported in the cells only, so that
figures can be drawn without it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

import mpo_games as mg
from mpo_games.solvers.magnetic import matched_step

SAMPLES = 256
"""Responses that are drawn in a step."""
PERIOD = 50
"""Steps between two moves of a magnet."""
HELD_OUT = 1000
"""The seed of the game that is tuned on."""
TUNING = {False: 150, True: 80}
"""Evaluations of a run for tuning, by whether it has the pool and the accurate inner solve."""

ETAS = (0.2, 0.6, 2.0)
ALPHAS = (0.01, 0.05)
GRID = [{"eta": eta, "alpha": alpha} for eta in ETAS for alpha in ALPHAS]
PLAIN_GRID = [{"eta": eta, "alpha": 0.0} for eta in (0.06, 0.2, 0.6, 1.0, 2.0, 4.0)]
"""Settings for methods without a magnet: as many."""

METHODS: dict[str, Callable[[float, float], mg.MMD]] = {
    "Self-play PG": lambda eta, _: mg.MirrorDescent(eta),
    "SPPO": lambda eta, _: mg.MirrorDescent(eta),
    "Iterative DPO": lambda eta, _: mg.MirrorDescent(eta),
    "INPO": lambda eta, alpha: mg.MMD(matched_step(eta, alpha), alpha),
    "MMD": mg.MMD,
    "Nash-MD": lambda eta, alpha: mg.MMD(eta, alpha, feedback=mg.AgainstMixture(0.125)),
    "EGPO": mg.EGPO,
    "MPO": lambda eta, alpha: mg.MPO(eta, alpha, PERIOD),
    "MPO-RT": lambda eta, alpha: mg.MPO_RT(eta, alpha, PERIOD),
    "Optimistic MPO": lambda eta, alpha: mg.OptimisticMPO(eta, alpha, PERIOD),
}
WITHOUT_MAGNET = ("Self-play PG", "SPPO", "Iterative DPO")
RECIPE = {"eta": 2.0, "alpha": 0.01}

ABLATIONS = (
    "the recipe",
    "no pool",
    "no optimism",
    "no magnet",
    "magnet fixed",
    "magnet every 1",
    "magnet every 10",
    "magnet every 50",
    "magnet every 200",
    "inner: 8 Adam steps, falling",
    "inner: 4 Adam steps, constant",
    "inner: 10 of L-BFGS",
    "loss per token, 8 Adam steps",
    "64 samples a step",
    "annealed, every 50",
    "annealed, when solved",
    "when solved",
)


def preferences(seed: int, responses: int = 64, styles: int = 5) -> Any:
    """`P(row preferred to column)`, `(responses, responses)`."""
    rng = np.random.default_rng(seed)
    style = rng.permutation(np.arange(responses) % styles)
    quality = 0.5 * rng.normal(size=responses)
    # How many styles the row is past the column, around the cycle: 1 or 2 of 5, and it beats it.
    behind = (style[:, None] - style) % styles
    beats = np.where(behind == 0, 0, np.where(behind <= styles // 2, 1, -1))
    return 0.5 + 0.5 * np.tanh(beats + quality[:, None] - quality)


def language(seed: int, proximal: Any, samples: int | None, *, ended: bool = False) -> Any:
    """A game of 64 responses to one prompt.

    With `ended` responses have one to three tokens: 40 of them to each of two prompts.
    """
    import torch

    import mpo_llm as ml

    # Several threads add up in another order, and results must not depend on the machine.
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    if ended:
        prompts: Any = ((4,), (5, 4))
        decoding = ml.Decoding(max_tokens=3, eos=3, vocabulary=4)
        table = np.stack([preferences(seed + 500 * x, 40) for x in range(2)])
    else:
        prompts, decoding = ((4,),), ml.Decoding(max_tokens=3, vocabulary=4)
        table = preferences(seed)
    network = ml.PlainNetwork(ml.SmallTransformer(vocabulary=6, context=5))
    start = ml.TokenPolicy.of(network, decoding, proximal)
    return ml.EnumerableGame(start, prompts, table, samples)


def accurate(iterations: int = 20) -> Any:
    """The recipe's inner solve: the objective on whole responses, by L-BFGS."""
    import mpo_llm as ml

    return ml.Proximal(ml.SequenceLevel(), ml.LBFGS(iterations))


def usual(method: str = "") -> Any:
    """The usual inner solve: the method's own loss and four Adam steps."""
    import mpo_llm as ml

    losses = {"SPPO": ml.Squared(), "INPO": ml.Squared(), "Iterative DPO": ml.Logistic()}
    adam = ml.Adam(epochs=4, rate=3e-4, schedule=ml.constant, betas=(0.9, 0.999))
    return ml.Proximal(losses.get(method, ml.TokenLevel()), adam)


def recipe(eta: float, alpha: float) -> mg.MMD:
    """Optimistic MMD against a replay pool, with a running average of the weights as magnet."""
    import mpo_llm as ml

    return mg.MMD(eta, alpha, ml.WeightEma(0.01), ml.Replayed(mg.optimistic))


def solver(method: str, pooled: bool, setting: dict[str, float]) -> mg.MMD:
    """The solver of a method of `METHODS`, or of the recipe."""
    if method == "The recipe":
        return recipe(**setting)
    found = METHODS[method](setting["eta"], setting["alpha"])
    if pooled:
        import mpo_llm as ml

        found = replace(found, feedback=ml.Replayed(found.feedback))
    return found


def marks(steps: int) -> list[int]:
    """The evaluations at which gaps are recorded: every tenth of the last 400, few before."""
    coarse = np.unique(np.round(np.geomspace(1, steps, 60)))
    late = np.arange(max(0, steps - 400), steps + 1, 10)
    return sorted({0, *coarse.astype(int).tolist(), *late.tolist()})


def gaps(game: Any, choice: mg.MMD, steps: int, seed: int, policy: Any = None) -> list[float]:
    """Gaps at `marks`, in units of `2 P - 1`."""
    at = marks(steps)
    try:
        found = mg.solve(game, choice, steps, at=at, seed=seed, policy=policy).trace
    except FloatingPointError:
        # A run that breaks is not left out: it counts with the largest gap there is.
        return [2.0] * len(at)
    # A method with two evaluations a step has no record at an odd mark.
    return [float(g) for g in np.interp(at, found["evaluations"], 2.0 * found["gap"])]


def race(
    method: str, pooled: bool, setting: dict[str, float], steps: int, seed: int, ended: bool = False
) -> list[float]:
    """One sampled run: with the method's own inner solve, or with the pool and the accurate one."""
    inner = accurate() if pooled else usual(method)
    game = language(seed, inner, SAMPLES // 2 if ended else SAMPLES, ended=ended)
    return gaps(game, solver(method, pooled, setting), steps, seed)


def tune(method: str, pooled: bool) -> dict[str, float]:
    """The best setting on the game that is held out."""
    grid = PLAIN_GRID if method in WITHOUT_MAGNET else GRID
    budget = TUNING[pooled]
    late = np.array(marks(budget)) >= budget // 2
    scores = [
        np.mean(np.log10(np.array(race(method, pooled, setting, budget, HELD_OUT))[late]))
        for setting in grid
    ]
    return grid[int(np.argmin(scores))]


def twin(method: str, setting: dict[str, float], steps: int, seed: int) -> list[float]:
    """The gaps of the same method on the table, with exact feedback."""
    if method == "The recipe":
        # A table has policies to average, not weights.
        choice = mg.MMD(setting["eta"], setting["alpha"], mg.Ema(0.01), mg.optimistic)
    else:
        choice = METHODS[method](setting["eta"], setting["alpha"])
    return gaps(mg.PreferenceGame(preferences(seed)), choice, steps, seed)


def ablation(variant: str, steps: int, seed: int) -> list[float]:
    """The gaps of the recipe with one thing changed."""
    import mpo_llm as ml

    whole, inner, samples = recipe(**RECIPE), accurate(), SAMPLES
    if variant == "no pool":
        whole = replace(whole, feedback=mg.optimistic)
    elif variant == "no optimism":
        whole = replace(whole, feedback=ml.Replayed())
    elif variant == "no magnet":
        whole = replace(whole, alpha=0.0)
    elif variant == "magnet fixed":
        whole = replace(whole, magnet=mg.Fixed())
    elif variant.startswith("magnet every"):
        whole = replace(whole, magnet=mg.Every(int(variant.split()[-1])))
    elif variant == "inner: 8 Adam steps, falling":
        inner = ml.Proximal(ml.SequenceLevel(), ml.Adam())
    elif variant == "inner: 4 Adam steps, constant":
        inner = replace(usual(), objective=ml.SequenceLevel())
    elif variant == "inner: 10 of L-BFGS":
        inner = accurate(10)
    elif variant == "loss per token, 8 Adam steps":
        inner = ml.Proximal(ml.TokenLevel(), ml.Adam())
    elif variant == "64 samples a step":
        samples = 64
    elif variant == "annealed, every 50":
        whole = replace(whole, alpha=mg.Anchored(), magnet=mg.Every(50))
    elif variant == "annealed, when solved":
        whole = replace(whole, alpha=mg.Anchored(), magnet=mg.WhenGapFell(0.5, 10))
    elif variant == "when solved":
        whole = replace(whole, magnet=mg.WhenGapFell(0.5, 10))
    elif variant != "the recipe":
        raise ValueError(f"There is no variant {variant!r}.")
    return gaps(language(seed, inner, samples), whole, steps, seed)


EXACT: dict[str, mg.MMD] = {
    "Optimistic MPO": mg.OptimisticMPO(2.0, 0.01, 50),
    "MPO": mg.MPO(0.6, 0.05, 50),
    "MMD": mg.MMD(2.0, 0.2),
    "Self-play PG": mg.MirrorDescent(2.0),
}
"""The solvers of the runs with the exact gradient."""


def exact(method: str, steps: int, seed: int) -> dict[str, Any]:
    """The gaps of a run with the exact gradient and of its twin; for MMD also that of its limit."""
    game = language(seed, accurate(25), None)
    start, choice = game.table(game.start), EXACT[method]
    found: dict[str, Any] = {
        "gaps": gaps(game, choice, steps, seed),
        "twin": gaps(game.twin, choice, steps, seed, policy=start),
    }
    if method == "MMD":
        oracle = mg.exact.qre(game.twin, 0.2, start)
        return found | {"own": 2.0 * float(game.twin.duality_gap(oracle.policy))}
    return found
