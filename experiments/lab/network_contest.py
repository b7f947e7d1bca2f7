"""The contest of `poker_network`: networks that play cards and dice, their one tuning rule, a run.

Every method plays both seats, from the same transformer on the same compact tokens (but NFSP,
which is OpenSpiel's own, with its perceptrons and its tensors). It spends the same episodes of
self-play, or the same evaluations of exact feedback. `AutoMPO` is the library's preset, with
nothing to choose. Each other method chooses from `TRIES` settings, for every game and both kinds of
feedback anew, by a run of half the length with another seed (`DEVELOPED`); the score is the mean of
its exploitability over the last quarter. Step sizes and weights of a magnet are in units of the
payoff's root mean square under uniform play, so that one grid fits all games.

| method | what it is | tuned over |
| --- | --- | --- |
| Self-play PG | `self_play.py`: a baseline for each role, entropy, one Adam step | rate, entropy |
| PPO | `self_play.py`: a critic, entropy, four clipped gradients a step | rate, entropy |
| Nash-MD, MPO | the library's, on each step's own episodes by their ratios | eta, alpha |
| MPO, pooled | the same on the preset's episodes: all so far, deals counted | eta, alpha |
| NFSP | `fictitious.py`: OpenSpiel's, with Adam | rate, steps between two updates |

The solvers of the library step in the tree's closed form, and the network is fitted by the
library's `Fit()`, so for Nash-MD and MPO this is kinder than the losses of tokens that they were
published with. Policy gradient takes half as many episodes a step as the others, hence twice as
many steps. Torch is imported in the functions that need it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

import mpo_games as mg

DEVELOPED = 40_000
"""The seed that methods are tuned with."""

TRIES = 4
"""Settings that every method but the preset chooses from."""

PERIOD = 20
"""Steps between two moves of MPO's magnet."""


@dataclass(frozen=True)
class Table:
    """A game, the network that plays it, and what a run may spend."""

    name: str
    """The game's name in the catalogue."""
    width: int
    layers: int
    episodes: int
    """Of a run with sampled feedback."""
    batch: int
    """Episodes a step."""
    evaluations: int
    """Of a run with exact feedback."""


TABLES: Mapping[str, Table] = {
    "Kuhn": Table("kuhn_poker", 16, 1, 20_000, 64, 150),
    "Leduc": Table("leduc_poker", 32, 2, 200_000, 512, 300),
    "liar's dice(4)": Table("liars_dice(dice_sides=4)", 32, 2, 200_000, 512, 300),
}

PRESET = "AutoMPO"
EXACT, SAMPLED = "exact", "sampled"
"""The two kinds of feedback."""


@dataclass(frozen=True)
class Method:
    """A rival: how its solver is made, and what it is tuned over."""

    solver: Callable[..., Any]
    """`solver(setting, game, unit)`."""
    knobs: Mapping[str, Sequence[float]]
    share: int = 1
    """A step's episodes are the table's `batch` over this number."""
    pooled: bool = False
    """Whether it plays as the preset does: it explores, and deals are counted."""
    explore: float = 0.0
    """Its share of uniform play in episodes, if not."""

    def settings(self) -> list[dict[str, float]]:
        """The settings that it chooses from."""
        return [dict(zip(self.knobs, s, strict=True)) for s in product(*self.knobs.values())]


def _gradient(setting: Mapping[str, float], game: Any, unit: float) -> Any:  # noqa: ARG001
    from experiments.lab.self_play import Paths, SelfPlay

    return SelfPlay(Paths.of(game.tree), setting["rate"], setting["entropy"])


def _ppo(setting: Mapping[str, float], game: Any, unit: float) -> Any:  # noqa: ARG001
    from experiments.lab.self_play import Paths, SelfPlay

    entropy = setting["entropy"]
    return SelfPlay(Paths.of(game.tree), setting["rate"], entropy, 4, 0.2, critic=True)


def _nash_md(setting: Mapping[str, float], game: Any, unit: float) -> Any:  # noqa: ARG001
    return mg.NashMD(setting["eta"] / unit, setting["alpha"] * unit)


def _mpo(setting: Mapping[str, float], game: Any, unit: float) -> Any:  # noqa: ARG001
    return mg.MPO(setting["eta"] / unit, setting["alpha"] * unit, PERIOD)


def _pooled(setting: Mapping[str, float], game: Any, unit: float) -> Any:  # noqa: ARG001
    from mpo_llm.trees import Pooled

    eta, alpha = setting["eta"] / unit, setting["alpha"] * unit
    return mg.MMD(eta, alpha, mg.Every(PERIOD), Pooled(mg.current))


ASCENT = {"rate": (1e-3, 3e-3), "entropy": (0.1, 0.3)}
MAGNETIC = {"eta": (0.3, 1.0), "alpha": (0.05, 0.2)}
NFSP = {"rate": (1e-3, 3e-3), "every": (16, 64)}
"""What OpenSpiel's agents are tuned over."""

METHODS: Mapping[str, Method] = {
    "Self-play PG": Method(_gradient, ASCENT, share=2),
    "PPO": Method(_ppo, ASCENT),
    "Nash-MD": Method(_nash_md, MAGNETIC, explore=0.1),
    "MPO": Method(_mpo, MAGNETIC, explore=0.1),
    "MPO, pooled": Method(_pooled, MAGNETIC, pooled=True),
}
"""The rivals on the transformer."""


def settings(method: str) -> list[dict[str, float]]:
    """The settings that a rival chooses from."""
    if method == "NFSP":
        return [dict(zip(NFSP, s, strict=True)) for s in product(*NFSP.values())]
    return METHODS[method].settings()


def game_of(name: str, seed: int, **options: Any) -> Any:
    """A game of `TABLES` at whose table sits a new network."""
    import torch

    import mpo_llm as ml
    from mpo_llm.trees import TextTreeGame, compact, leduc_signs

    table = TABLES[name]
    signs: Any = {"Kuhn": tuple, "Leduc": leduc_signs}.get(name, str.split)
    tree: Any = mg.load(table.name)
    words = compact(tree, signs)
    torch.manual_seed(seed)
    module = ml.SmallTransformer(
        words.vocabulary, words.context, width=table.width, layers=table.layers
    )
    network = ml.PlainNetwork(module, context=words.context, prefixes=True)
    start = ml.TokenPolicy.of(network, words.decoding)
    return TextTreeGame(tree, start, words.describe, words.say, **options)


def unit_of(tree: Any) -> float:
    """The root mean square of the payoff under uniform play."""
    from mpo_llm.trees.episodes import rows_of

    plan = tree.initial_policy().plan
    moves = plan[rows_of(tree)] * plan[tree.column]
    return float(np.sqrt(np.sum(moves * tree.payoff**2 / tree.chance)))


def marks(budget: float) -> Any:
    """Where a run is looked at: close together at first, then twenty times."""
    early = np.geomspace(1 / 64, 1 / 20, 5)[:-1]
    return budget * np.append(early, np.arange(1, 21) / 20)


def race(
    method: str, setting: Mapping[str, float], table: str, feedback: str, budget: float, seed: int
) -> dict[str, Any]:
    """A run: its exploitability at looks, the seconds of one core in the steps alone, gradients.

    The budget is in episodes, or in evaluations if feedback is exact. A feedback is charged as the
    episodes of a step, whether it plays them or not.
    """
    import torch

    torch.set_num_threads(1)
    if method == "NFSP":
        from experiments.lab.fictitious import race as played

        return played(TABLES[table].name, setting, budget, marks(budget), seed)
    rival, batch = METHODS.get(method), TABLES[table].batch
    options: dict[str, Any] = {}
    price = 1
    if feedback == SAMPLED:
        from mpo_llm.trees import own_ratios

        price = batch // (rival.share if rival else 1)
        options["episodes"] = price
        if rival and not rival.pooled:
            options |= {"explore": rival.explore, "estimate": own_ratios}
    game = game_of(table, seed, **options)
    solver = rival.solver(setting, game, unit_of(game.tree)) if rival else mg.AutoMPO()
    looks = list(marks(budget))
    at: list[float] = []
    gaps: list[float] = []
    gradients, seconds, since = 0, 0.0, time.process_time()
    for state in mg.iterate(game, solver, rng=np.random.default_rng(seed)):
        spent = state.evaluations * price
        report = state.policy.report
        gradients += report.gradients if state.step and report else 0
        # The last step of a run is the last that it can pay.
        over = spent + price > budget
        if looks and (spent >= looks[0] or over):
            seconds += time.process_time() - since
            at.append(spent)
            gaps.append(0.5 * float(game.duality_gap(state.policy)))
            while looks and spent >= looks[0]:
                looks.pop(0)
            since = time.process_time()
        if over:
            break
    return {"at": at, "gap": gaps, "gradients": gradients, "seconds": seconds}


def score(found: Mapping[str, Any]) -> float:
    """What a setting is chosen by: the mean over the last quarter of the run."""
    late = np.asarray(found["at"]) >= 0.75 * found["at"][-1]
    return float(np.mean(np.asarray(found["gap"])[late]))
