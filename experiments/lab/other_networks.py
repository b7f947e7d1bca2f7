"""`AutoMPO` on languages with other networks than those of `many_prompts`: wider ones, and LoRA.

    python -m experiments.lab.other_networks "smooth" 41000 --rank 4

prints a run's gaps on the prompts of training and on those held out: of the last iterate, and of
the average of weights; then the learning rate, and how many steps the guard has refused.

With `--rank` only LoRA adapters on all linear layers are trained. All weights are random at first;
with `--taught` they are those of a run of `TAUGHT` steps on another game. With `--constant` Adam's
rate is given instead of measured. With `--table` there is no network: the same step size and magnet
on a table, with exact feedback, exact steps and this constant `alpha`.
Torch is imported in the functions that need it.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from experiments.lab import language_families as families

TAUGHT, ELSEWHERE = 50, 40_000
"""The steps of the run that teaches the first weights, and the seed of its game."""

LANGUAGES: Mapping[str, Callable[[int, int], families.Language]] = {
    "one prompt, styles": lambda seed, width: families.one_prompt("styles", seed, 64, width),
    "one prompt, low rank": lambda seed, width: families.one_prompt("low_rank", seed, 64, width),
    "smooth": lambda seed, width: families.many_prompts("smooth", seed, width=width),
    "low rank": lambda seed, width: families.many_prompts("low_rank", seed, width=width),
}
"""The languages by family, seed and width."""


def begun(language: families.Language, policy: Any, rank: int, seed: int) -> families.Language:
    """The same games, which begin at the weights of `policy`; with a `rank`, only LoRA adapters of
    this rank are trained. They have the scale 2, change nothing at first, and are drawn by `seed`.
    """
    import peft
    import torch

    import mpo_llm as ml

    with policy.network.holding(policy.weights) as held:
        module: Any = copy.deepcopy(held)
    if rank:
        torch.manual_seed(seed)
        lora = peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear")
        module = peft.get_peft_model(module, lora)
    start = ml.TokenPolicy.of(ml.PlainNetwork(module), policy.decoding)

    def again(game: Any) -> Any:
        drawn = game.sampled
        samples = (drawn.samples, drawn.prompts_per_step) if drawn else ()
        return ml.EnumerableGame(start, game.prompts, game.payoff + 0.5, *samples)

    held_out = language.held_out
    return families.Language(again(language.game), held_out and again(held_out))


def language_of(
    family: str, seed: int, width: int = 32, rank: int = 0, *, taught: bool = False
) -> families.Language:
    """A language whose network has this width; LoRA of this rank, or 0 to train all weights.

    The network begins with random weights, or `taught` with those of a run on another game.
    """
    import mpo_games as mg

    found = LANGUAGES[family](seed, width)
    first = found.game.start
    if taught:
        other = LANGUAGES[family](ELSEWHERE, width)
        first = mg.solve(other.game, mg.AutoMPO(), TAUGHT, seed=ELSEWHERE).policy
    return begun(found, first, rank, seed) if rank or taught else found


def at_rate(rate: float | None) -> Any:
    """The preset; with a `rate`, this is Adam's at the top of each step."""
    import mpo_llm as ml

    if rate is None:
        return ml.ON_TOKENS
    mmd: Any = ml.ON_TOKENS.solver
    solve = mmd.pull.again
    pull = replace(mmd.pull, again=replace(solve, minimise=replace(solve.minimise, rate=rate)))
    return replace(ml.ON_TOKENS, solver=replace(mmd, pull=pull))


def on_table(game: Any, alpha: float, steps: int) -> list[tuple[int, float]]:
    """The gaps of the preset's rule without a network: `(step, gap)`, every 25 steps.

    Feedback and steps are exact, `alpha` is constant, and the magnet drifts in log-probabilities.
    Gaps are in units of 2 P - 1, as `Language.gaps` has them.
    """
    import mpo_games as mg
    from mpo_llm.preset import DRIFT, ETA

    twin, found = game.twin, []
    for state in mg.iterate(twin, mg.MMD(ETA, alpha, mg.Ema(DRIFT), mg.optimistic)):
        if state.step and state.step % 25 == 0:
            found.append((state.step, 2.0 * float(twin.duality_gap(state.policy))))
        if state.step >= steps:
            return found
    return found


def main() -> None:
    """Measure one run, as its arguments say."""
    import mpo_games as mg

    parser = argparse.ArgumentParser(prog="python -m experiments.lab.other_networks")
    parser.add_argument("family", choices=LANGUAGES)
    parser.add_argument("seed", type=int)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--rank", type=int, default=0)
    parser.add_argument("--taught", action="store_true")
    parser.add_argument("--constant", type=float, metavar="RATE")
    parser.add_argument("--table", type=float, metavar="ALPHA")
    parser.add_argument("--steps", type=int, default=300)
    given = parser.parse_args()
    language = language_of(given.family, given.seed, given.width, given.rank, taught=given.taught)
    if given.table is not None:
        for step, gap in on_table(language.game, given.table, given.steps):
            print(f"{step:4d}  {gap:.3f}", flush=True)
        return
    rng, refused = np.random.default_rng(given.seed), 0
    for state in mg.iterate(language.game, at_rate(given.constant), rng=rng):
        report = state.policy.report
        refused += report is not None and report.kept == 0.0
        if state.step and (state.step % 25 == 0 or state.step == given.steps):
            last, mean = (language.gaps(p) for p in (state.policy, state.memory["average"]))
            print(
                f"{state.step:4d}  {last[0]:.3f}, {last[1]:.3f}  "
                f"average {mean[0]:.3f}, {mean[1]:.3f}  "
                f"rate {state.policy.moments.rate:.1e}, {refused} steps refused",
                flush=True,
            )
        if state.step >= given.steps:
            break


if __name__ == "__main__":
    main()
