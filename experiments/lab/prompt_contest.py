"""The contest of `many_prompts`: its methods, their one tuning rule, and a run.

Published methods are those of `mpo_llm.algorithms`, by name: an algorithm says which loss is usual
for it, and takes four gradients of Adam a step (COMAL three). What is tuned is the learning rate,
as a small network needs another one than a large model, and one more knob: the magnet's weight, the
step size where there is no magnet, and both for COMAL, whose own numbers are among the settings. So
each chooses from `TRIES` settings, by half a run on a game that is not reported (`DEVELOPED`).
Nash-MD, which the preset is measured against, is tuned for each family anew; the others are tuned
on the smooth family for all families of many prompts, and on styles for both of one prompt. The
score is the gap on the prompts of training at the end, the lower one of the last iterate's and the
average's: the average of weights is tracked for all.

"Nash-MD, drifting" was strong in earlier trials on such families: its magnet drifts in weights, and
Adam keeps both moments from step to step. It needs a stronger magnet, and has other weights in its
grid: with .05 and a rate of 1e-3 it was ahead after half a run on the development game of the
smooth family, and at .96 after a whole run on another one. The preset and what is changed in it
have nothing to tune. Torch is imported in the functions that need it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import numpy as np

import mpo_games as mg
from experiments.lab import language_families as families

DEVELOPED = 40_000
"""The seed of the games that methods are tuned on."""

EVERY = 25
"""Steps between two looks at the gaps."""

FAMILIES: Mapping[str, Callable[[int], families.Language]] = {
    "one prompt, styles": lambda seed: families.one_prompt("styles", seed, 64),
    "one prompt, low rank": lambda seed: families.one_prompt("low_rank", seed, 64),
    "smooth": lambda seed: families.many_prompts("smooth", seed),
    "low rank": lambda seed: families.many_prompts("low_rank", seed),
    "unrelated": lambda seed: families.many_prompts("unrelated", seed),
    "smooth, 64 responses": lambda seed: families.many_prompts("smooth", seed, symbols=8),
    "one prompt, styles, 256": lambda seed: families.one_prompt("styles", seed, 256),
    "one prompt, low rank, 256": lambda seed: families.one_prompt("low_rank", seed, 256),
}
"""The games by family: 64 responses a step, but 256 in the last two."""

RATES = (1e-3, 3e-3)
"""Learning rates that every published method is tuned over."""

TRIES = 4
"""Settings that every published method chooses from."""


@dataclass(frozen=True)
class Published:
    """A method of the adapter by name, with what is changed in it and what is tuned."""

    algorithm: str
    """Its name in `mpo_llm.algorithms`."""
    knobs: Sequence[Mapping[str, float]]
    """The values of `eta` and `alpha` that it is tuned over, with each of `RATES`."""
    drift: float | None = None
    """The rate at which its magnet drifts in weights; None is the algorithm's own magnet."""
    step: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the mirror step that are not the algorithm's."""

    def settings(self) -> list[dict[str, float]]:
        """The settings that it chooses from."""
        return [{**knob, "rate": rate} for knob, rate in product(self.knobs, RATES)]


WEIGHTS = ({"alpha": 0.05}, {"alpha": 0.2})
STRONG = ({"alpha": 0.1}, {"alpha": 0.2})
KEPT = {"schedule": "constant", "betas": (0.9, 0.99), "keep_first": True}
STEPS = ({"eta": 0.5}, {"eta": 2.0})

PUBLISHED: Mapping[str, Published] = {
    "Nash-MD, drifting": Published("nash_md", STRONG, 0.01, KEPT),
    "Nash-MD": Published("nash_md", WEIGHTS),
    "MPO": Published("mpo", WEIGHTS),
    "MPO-RT": Published("mpo_rt", WEIGHTS),
    "MMD": Published("mmd", WEIGHTS),
    "INPO": Published("inpo", WEIGHTS),
    "COMAL": Published("comal", ({"eta": 750.0, "alpha": 6.67e-4}, {"eta": 2.0, "alpha": 0.05})),
    "Self-play PG": Published("self_play", STEPS),
    "SPPO": Published("sppo", STEPS),
    "Iterative DPO": Published("iterative_dpo", STEPS),
}
"""The published methods, and the default of the trainer so far (MMD)."""

PRESET, RECIPE, FAIR = "AutoMPO", "The recipe", "Nash-MD, preset's visits and magnet"

ABLATIONS = (
    "no visits: own responses only",
    "no other prompts",
    "4 gradients a step",
    "no guard",
    "magnet weight .1",
    "magnet fixed",
)
"""What is changed in the preset, one thing at a time."""


@dataclass(frozen=True)
class Coins:
    """A judge that answers by a coin: 1 with the probability that another judge gives, else 0."""

    judge: Any
    rng: np.random.Generator

    def __call__(self, prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Any:
        return (self.rng.random(len(prompts)) < self.judge(prompts, a, b)).astype(float)


def chosen(method: str, setting: Mapping[str, float], game: Any) -> tuple[Any, Any]:
    """The solver of a method on a game of texts, and how its policy solves a mirror step."""
    import mpo_llm as ml
    from mpo_llm.choices import WeightEma
    from mpo_llm.config import Config, SolverConfig, StepConfig
    from mpo_llm.training import assemble

    if method != RECIPE and method not in PUBLISHED:
        return preset(method, game.self_tuning), game.start.proximal
    contestant = PUBLISHED.get(method, Published("recipe", ()))
    given = dict(setting)
    step = {**contestant.step, "micro_batch": None}
    if "rate" in given:
        step["rate"] = given.pop("rate")
    solver: dict[str, Any] = {**given, "algorithm": contestant.algorithm}
    if contestant.drift is not None:
        solver["magnet"] = WeightEma(contestant.drift)
    config = Config(solver=SolverConfig(**solver), step=StepConfig(**step))
    return ml.WeightAveraged(assemble.chosen(config)), assemble.solved(config)


def preset(variant: str, whole: Any) -> Any:
    """The preset `whole` with one thing changed."""
    import mpo_llm as ml

    mmd = whole.solver
    # In these languages responses come back.
    solved = mmd.pull.again
    changed = {
        PRESET: {},
        FAIR: {"feedback": replace(mmd.feedback, feedback=mg.AgainstMixture(0.125))},
        "no visits: own responses only": {"feedback": mmd.feedback.feedback},
        "no other prompts": {"feedback": replace(mmd.feedback, others=0)},
        "4 gradients a step": {
            "pull": replace(solved, minimise=replace(solved.minimise, epochs=4))
        },
        "no guard": {"pull": replace(solved, guard=None)},
        "magnet weight .1": {"alpha": 0.1},
        "magnet fixed": {"magnet": mg.Fixed()},
    }
    assert isinstance(whole, ml.WeightAveraged)
    return replace(whole, solver=replace(mmd, **changed[variant]))


def race(
    method: str,
    setting: Mapping[str, float],
    family: str,
    steps: int,
    seed: int,
    judge: str = "exact",
) -> dict[str, Any]:
    """A run: gaps of the last iterate and of the average of weights at looks, and its cost.

    The `judge` answers by its exact probability and is asked each pair once; or by a coin, which is
    remembered ("coin, kept") or tossed anew each time a pair is compared ("coin, anew").
    `seconds` are those of one core in the steps alone.
    """
    import mpo_llm as ml
    from mpo_llm.training.ledger import Ledger

    language, ledger = FAMILIES[family](seed), Ledger()
    texts = language.game.texts
    solver, solved = chosen(method, setting, texts)
    asked = texts.judge
    if judge != "exact":
        asked = Coins(asked, np.random.default_rng(seed + 1))
    asked = ledger.judge(asked)
    if judge != "coin, anew":
        asked = ml.judges.Cached(asked)
    game = replace(
        texts,
        start=replace(texts.start, proximal=solved),
        judge=asked,
        engine=ledger.engine(texts.engine),
    )
    looks = [*range(EVERY, steps, EVERY), steps]
    found: dict[str, Any] = {name: [] for name in ("last", "held", "average", "held_average")}
    seconds, since = 0.0, time.process_time()
    try:
        for state in mg.iterate(game, ledger.solver(solver), rng=np.random.default_rng(seed)):
            if state.step in looks:
                seconds += time.process_time() - since
                average = state.memory["average"]
                for policy, names in (
                    (state.policy, ("last", "held")),
                    (average, ("average", "held_average")),
                ):
                    for name, gap in zip(names, language.gaps(policy), strict=True):
                        # JSON has no NaN, which stands for a single prompt.
                        found[name].append(gap if np.isfinite(gap) else None)
                since = time.process_time()
            if state.step >= steps:
                break
    except FloatingPointError:
        # A run that breaks is not left out: it counts with the largest gap there is.
        for name, column in found.items():
            known = language.held_out is not None or not name.startswith("held")
            column += [2.0 if known else None] * (len(looks) - len(column))
    counts = ledger.counts
    return {
        "at": looks,
        **found,
        "samples": counts["samples"],
        "gradients": counts["gradient_steps"],
        "judge_calls": counts["judge_calls"],
        "seconds": seconds,
    }


def score(run: Mapping[str, Any]) -> float:
    """What a setting is chosen by: the gap on the prompts of training at the end."""
    return float(min(run["last"][-1], run["average"][-1]))
