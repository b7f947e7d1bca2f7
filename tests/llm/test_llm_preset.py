"""`AutoMPO` on games of texts, and the choices that it is made of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mpo_games as mg
import mpo_llm as ml
from experiments.lab import language_families as families
from languages import FIXED, game, preferences, table_network, transformer
from mpo_games.choices.pull import in_reward
from mpo_games.protocol import State
from mpo_llm.strength import NOISE, UNSEEN

PROMPTS = ((4,), (5,), (5, 1))


def language(samples: int | None = 4, prompts_per_step: int | None = 2) -> ml.EnumerableGame:
    start = ml.TokenPolicy.of(transformer(), FIXED)
    table = preferences(FIXED, len(PROMPTS))
    return ml.EnumerableGame(start, PROMPTS, table, samples, prompts_per_step)


def same(one: ml.TokenPolicy, other: ml.TokenPolicy) -> bool:
    return all(torch.equal(w, other.weights[n]) for n, w in one.weights.items())


def test_automatic_is_the_game_s_own_choices() -> None:
    """Bit for bit; a game that is exact has no noise, and a text game is one that draws."""
    for made, choices in (
        (language(), ml.ON_TOKENS),
        (language(None, None), ml.ON_EXACT_TOKENS),
        (language().texts, ml.ON_TOKENS),
    ):
        one, other = (mg.solve(made, s, 3, metrics={}) for s in (mg.AutoMPO(), choices))
        assert same(one.policy, other.policy)
        assert not same(one.policy, made.start)


def test_tables_bring_no_choices_of_their_own() -> None:
    """So they get those of tables, which the other tests of `AutoMPO` describe."""
    twin = language().twin
    assert not isinstance(twin, mg.capabilities.SelfTuned)
    assert isinstance(language(), mg.capabilities.SelfTuned)
    assert mg.solve(twin, mg.AutoMPO(), 300).gap < 0.05 * float(
        twin.duality_gap(twin.initial_policy())
    )


def test_a_run_that_is_resumed_goes_on_bit_for_bit(tmp_path: Path) -> None:
    """Moments, visits, epoch, noise and averages are all in the file."""
    made = language()
    whole = mg.solve(made, mg.AutoMPO(), 7)
    mg.solve(made, mg.AutoMPO(), 4).save(tmp_path / "run")
    rest = mg.solve(made, mg.AutoMPO(), 7, resume=mg.Solution.load(tmp_path / "run", made))
    assert same(whole.policy, rest.policy)
    assert same(whole.state.magnet, rest.state.magnet)
    assert whole.state.alpha == rest.state.alpha
    memory = whole.state.memory
    assert {"average", "previous", NOISE, "visits/times", "visits/order"} <= memory.keys()
    assert memory.keys() == rest.state.memory.keys()
    for name, item in memory.items():
        if isinstance(item, ml.TokenPolicy):
            assert same(item, rest.state.memory[name])
        else:
            np.testing.assert_array_equal(item, rest.state.memory[name])


def test_each_step_is_solved_as_the_pull_says() -> None:
    """From any policy; how many responses are in memory at a time stays as it was."""
    pull = ml.SolvedBy(ml.LBFGS(300, 1e-6))
    coarse = ml.Proximal(minibatches=2, micro_batch=5)
    made = game(table_network(), proximal=coarse)
    walked = mg.solve(made, mg.MMD(1.0, 0.3, pull=pull), 2)
    assert walked.policy.proximal == ml.Proximal(
        ml.SequenceLevel(), ml.LBFGS(300, 1e-6), micro_batch=5
    )
    table = mg.solve(made.twin, mg.MMD(1.0, 0.3), 2, policy=made.table(made.start))
    np.testing.assert_allclose(made.table(walked.policy).probs, table.policy.probs, atol=1e-5)
    # In the reward, the pull is in the advantages alone.
    rewarded = mg.solve(made, mg.MMD(1.0, 0.3, pull=replace(pull, pull=in_reward)), 2)
    table = mg.solve(made.twin, mg.MMD(1.0, 0.3, pull=in_reward), 2, policy=made.table(made.start))
    np.testing.assert_allclose(made.table(rewarded.policy).probs, table.policy.probs, atol=1e-5)


def test_kept_moments_are_one_descent() -> None:
    """Two updates in each of two steps along the same loss are torch's Adam with four of them."""
    adam = ml.Adam(2, 0.01, ml.constant, (0.9, 0.99), keep_first=True)
    made = game(table_network(), proximal=ml.Proximal(ml.SequenceLevel(), adam))
    q = made.feedback(made.start)
    twice = made.start
    for _ in range(2):
        solved = made.start.proximal.solve(twice, twice.moments, q, [(1.0, made.start)])
        twice = replace(twice, parts=((1.0, solved.weights),), moments=solved.moments)
    once = replace(made.start.proximal, minimise=replace(adam, epochs=4))
    four = once.solve(made.start, made.start.moments, q, [(1.0, made.start)])
    for name, weight in four.weights.items():
        torch.testing.assert_close(weight, twice.weights[name], rtol=0, atol=1e-14)


def test_the_average_of_weights_stands_beside_the_iterates() -> None:
    """A plain mean at first; the solver's own steps do not see it."""
    made, inner = game(transformer()), mg.MMD(1.0, 0.1)
    states = []
    for state in mg.iterate(made, ml.WeightAveraged(inner, 0.25)):
        states.append(state)
        if state.step == 5:
            break
    plain = mg.solve(made, inner, 5)
    assert same(plain.policy, states[5].policy)
    for name, weight in states[2].memory["average"].weights.items():
        mean = torch.stack([s.policy.weights[name] for s in states[:3]]).mean(0)
        torch.testing.assert_close(weight, mean, rtol=0, atol=1e-14)
    for name, weight in states[5].memory["average"].weights.items():
        before = states[4].memory["average"].weights[name]
        torch.testing.assert_close(
            weight, torch.lerp(before, states[5].policy.weights[name], 0.25), rtol=0, atol=1e-14
        )


@pytest.mark.parametrize(
    ("noise", "alpha"), [(None, 0.2), (1.0, 0.2), (0.25, 0.2), (0.04, 0.08), (0.0, 0.02)]
)
def test_noise_sets_the_magnet_s_weight(noise: float | None, alpha: float) -> None:
    memory = {} if noise is None else {NOISE: noise}
    for more in ({}, {UNSEEN: 0.0}, {UNSEEN: 0.95}):
        state: Any = State(None, None, memory=memory | more)
        assert ml.ByNoise()(state) == pytest.approx(alpha)
    # Noise that is new in each step averages out.
    state = State(None, None, memory=memory | {UNSEEN: 0.96})
    assert ml.ByNoise()(state) == 0.005
    assert ml.ByNoise(new=0.03)(state) == 0.03


@pytest.mark.parametrize("unseen", [None, 0.0, 0.95, 0.96, 1.0])
def test_new_responses_are_learnt_in_another_way(unseen: float | None) -> None:
    """Bit for bit as by the pull that is chosen."""
    again, new = (ml.SolvedBy(ml.Adam(epochs, 1e-2), o) for epochs, o in LOSSES)
    made = game(transformer())
    p = made.start
    q = replace(made.feedback(p), unseen=unseen)
    one = ml.ByNovelty(again, new)(p, q, p, eta=1.0, alpha=0.0, player=None)
    chosen = new if unseen is not None and unseen > 0.95 else again
    assert same(one, chosen(p, q, p, eta=1.0, alpha=0.0, player=None))


LOSSES = ((3, ml.SequenceLevel()), (2, ml.TokenLevel()))


@pytest.mark.parametrize(
    "make",
    [
        lambda: ml.ByNoise(scale=0.0),
        lambda: ml.ByNoise(least=0.3),
        lambda: ml.ByNoise(most=np.nan),
        lambda: ml.ByNoise(new=-0.1),
        lambda: ml.WeightAveraged(mg.MMD(1.0, 0.1), 0.0),
        lambda: ml.WeightAveraged(mg.MMD),  # type: ignore[arg-type]
        lambda: ml.SolvedBy(pull=mg.MMD),  # type: ignore[arg-type]
        lambda: ml.ByNovelty(ml.SolvedBy(), mg.MMD),  # type: ignore[arg-type]
    ],
)
def test_settings_out_of_range_are_refused(make: Any) -> None:
    with pytest.raises(ValueError, match="must"):
        make()


def test_nash_md_learns_from_the_visits_too() -> None:
    """Its opponent is the mixture with the magnet, played by the same texts."""
    solver = mg.MMD(1.6, 0.1, ml.WeightEma(0.02), ml.Revisited(mg.AgainstMixture(0.16)))
    made = language(32, None)
    found = mg.solve(made, replace(solver, pull=ml.ON_TOKENS.solver.pull), 30)
    assert found.gap < 0.7 * float(made.duality_gap(made.start))


REGIMES = {
    "one prompt": (lambda: families.one_prompt("styles", 1, 64), 60, 0.2),
    "many prompts": (lambda: families.many_prompts("smooth", 1), 80, 0.3),
}


@pytest.mark.slow
@pytest.mark.parametrize("regime", REGIMES)
def test_both_regimes_are_learnt_without_a_setting(regime: str) -> None:
    """The exact gap in units of `2 P - 1`, on prompts that are held out too."""
    make, steps, bound = REGIMES[regime]
    made = make()
    begin = made.gaps(made.game.start)
    solution = mg.solve(made.game, mg.AutoMPO(), steps, seed=1, at=[steps])
    trained, held = made.gaps(solution.policy)
    assert trained < bound < 0.5 * begin[0]
    assert np.isnan(held) or held < 0.5 * begin[1]
