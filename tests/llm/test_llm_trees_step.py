"""The mirror step of networks on trees: the core's closed form, fitted by cross-entropy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mpo_games as mg
import mpo_llm as ml
from mpo_games.protocol import State
from mpo_llm.networks.inputs import Inputs
from mpo_llm.networks.trie import Trie
from mpo_llm.step.minimisers import Adam, constant
from mpo_llm.trees import Fit, TextTreeGame, TreePolicy, compact
from mpo_llm.trees.preset import ON_TREES
from spoken import Tabulated, Unconditional, game, network

EXACTLY = Fit(ml.LBFGS(80, 1e-12), unreached=0.1, uniform=0.0)
"""Fits to rounding errors, so that networks play what the closed form says."""


def exact_game() -> TextTreeGame:
    """Kuhn poker by a module that has logits of its own at each information state."""
    tree = mg.load("kuhn_poker").with_dilation(mg.dilation.payoff_scaled)
    words = compact(tree)
    module = Tabulated(words, [words.describe(label) for label in tree.tree.labels])
    start = ml.TokenPolicy.of(ml.PlainNetwork(module, context=words.context), words.decoding)
    return TextTreeGame(tree, start, words.describe, words.say, fit=EXACTLY)


def test_a_step_is_the_closed_form_of_the_tree() -> None:
    played = exact_game()
    policy = played.initial_policy()
    q = played.feedback(policy)
    magnet = replace(policy, play=played.tree.initial_policy())
    stepped = policy.mirror_step(q, magnet, eta=0.7, alpha=0.2)
    closed = policy.play.mirror_step(q, magnet.play, eta=0.7, alpha=0.2)
    np.testing.assert_allclose(stepped.probs, closed.probs, atol=1e-5)
    np.testing.assert_allclose(stepped.legal, 1.0, atol=1e-5)


def test_the_same_solver_plays_as_on_the_tree_itself() -> None:
    """Feedback, step size, magnet, geometry: all five choices, on a network and on its twin."""
    played = exact_game()
    policy = played.initial_policy()
    state = State(policy, policy)
    twin = State(policy.play, policy.play)
    # Beside the average of weights, which a point of the tree does not have.
    solver = ON_TREES.solver
    for _ in range(7):
        state, twin = mg.AutoMPO().step(played, state), solver.step(played.tree, twin)
        assert state.evaluations == twin.evaluations
        assert state.eta == pytest.approx(twin.eta, rel=1e-3)
        np.testing.assert_allclose(state.policy.probs, twin.policy.probs, atol=1e-4)
    # It has moved, and not only looked.
    assert float(np.abs(state.policy.probs - policy.probs).max()) > 0.1


@pytest.mark.parametrize("player", [None, 0, 1])
def test_the_loss_is_the_weighted_kl_of_the_states(player: int | None) -> None:
    played = game(fit=Fit(Adam(1, 1e-4, constant), unreached=0.2, uniform=0.05))
    policy = played.initial_policy()
    q = played.feedback(policy)
    stepped = policy.mirror_step(q, None, eta=0.5, alpha=0.0, player=player)
    target = policy.play.mirror_step(q, None, eta=0.5, alpha=0.0, player=player)
    tree, fit = played.tree.tree, played.fit
    soft = fit.softened(target)
    kl = soft * np.log(soft / policy.probs)
    shares = fit.shares(target)
    each = np.add.reduceat(kl, tree.offset[:-1])
    assert stepped.report is not None
    # All that is drawn is legal here, so the network's own probabilities are those of play.
    np.testing.assert_allclose(policy.legal, 1.0, atol=1e-6)
    assert stepped.report.loss == pytest.approx(float(shares @ each / shares.sum()), rel=1e-4)


def test_only_the_seat_that_steps_is_trained() -> None:
    tree = mg.load("kuhn_poker")
    words = compact(tree)
    pair = tuple(ml.TokenPolicy.of(network(words, seed=s), words.decoding) for s in (1, 2))
    played = TextTreeGame(tree, pair, words.describe, words.say)
    policy = played.initial_policy()
    stepped = policy.mirror_step(played.feedback(policy), None, eta=1.0, alpha=0.0, player=1)
    own = tree.tree.own(0)
    assert stepped.tokens[0] is policy.tokens[0]
    np.testing.assert_array_equal(stepped.probs[own], policy.probs[own])
    assert float(np.abs(stepped.probs - policy.probs).max()) > 1e-3


def test_illegal_answers_are_unlearned() -> None:
    tree = mg.load("kuhn_poker")
    words = compact(tree)
    net = ml.PlainNetwork(Unconditional(torch.zeros(words.vocabulary)), context=words.context)
    decoding = ml.Decoding(max_tokens=1, vocabulary=words.vocabulary)
    fit = Fit(Adam(60, 0.1, constant))
    played = TextTreeGame(
        tree, ml.TokenPolicy.of(net, decoding), words.describe, words.say, fit=fit
    )
    policy = played.initial_policy()
    np.testing.assert_allclose(policy.legal, 2.0 / words.vocabulary, atol=1e-6)
    stepped = policy.mirror_step(played.feedback(policy), None, eta=0.1, alpha=0.0)
    assert stepped.legal.min() > 0.9


@pytest.mark.parametrize(
    "solver",
    [
        mg.MMD(0.3, 0.1),
        mg.OptimisticMPO(0.3, 0.1, 3),
        mg.NashMD(0.3, 0.1),
        mg.MPO_RT(0.3, 0.1, 3),
        mg.Extragradient(0.3),
        mg.MMD(0.3, 0.1, magnet=ml.WeightEma(0.2)),
        mg.MMD(0.3, 0.1, magnet=mg.Every(2, floor=0.05), geometry=mg.smoothed),
        mg.MMD(0.3, 0.1, feedback=mg.alternating),
    ],
    ids=lambda solver: str(solver)[:60],
)
def test_published_methods_run_unchanged(solver: Any) -> None:
    played = game(fit=Fit(Adam(4, 3e-3, constant)))
    found = mg.solve(played, solver, 8)
    assert isinstance(found.policy, TreePolicy)
    # Uniform play is the start, nearly, and any of these does better.
    assert float(played.duality_gap(found.policy)) < float(
        played.duality_gap(played.initial_policy())
    )


def test_a_saved_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    played = game(fit=Fit(Adam(2, 3e-3, constant, keep_first=True)))
    whole = mg.solve(played, mg.AutoMPO(), 9)
    half = mg.solve(played, mg.AutoMPO(), 5)
    half.save(tmp_path / "half")
    read = mg.Solution.load(tmp_path / "half", played)
    for name, array in half.policy.arrays().items():
        np.testing.assert_array_equal(read.policy.arrays()[name], array)
    ended = mg.solve(played, mg.AutoMPO(), 9, resume=read)
    np.testing.assert_array_equal(ended.policy.probs, whole.policy.probs)
    with pytest.raises(ValueError, match="legal"):
        half.policy.restored({})


def test_reflected_is_optimism_that_keeps_its_feedback() -> None:
    for name in ("rps", "kuhn_poker"):
        tree = mg.load(name)
        kept = mg.MMD(0.2, 0.05, feedback=mg.reflected)
        asked = mg.MMD(0.2, 0.05, feedback=mg.optimistic)
        # Off the middle, where rock, paper and scissors would stay for ever.
        start = tree.initial_policy()
        policy = tree.best_response(start).smooth(0.5)
        one, other = State(policy, policy), State(policy, policy)
        for _ in range(2):  # the two opening steps look, and play stays
            one = kept.step(tree, one)
        for _ in range(5):
            one, other = kept.step(tree, one), asked.step(tree, other)
            np.testing.assert_allclose(one.policy.probs, other.policy.probs, atol=1e-12)
            np.testing.assert_array_equal(one.q, tree.feedback(one.policy))


def test_a_trie_computes_what_the_rows_do() -> None:
    for name in ("kuhn_poker", "leduc_poker"):
        words = compact(mg.load(name))
        nets = [network(words, double=True, prefixes=p) for p in (False, True)]
        every = game(name).answers.listed[0]
        inputs = Inputs.of_responses(every, torch.device("cpu"))
        trie = Trie.of(inputs)
        # Each beginning is there once, and every prompt ends at one of them.
        beginnings = {p[:k] for p in every.prompts for k in range(1, len(p) + 1)}
        assert len(trie.tokens) == len(beginnings)
        found = []
        for net in nets:
            states = net.states(inputs)
            (states * torch.linspace(-1.0, 1.0, states.numel()).view_as(states)).sum().backward()
            gradients = [p.grad for p in net.trainable.values()]
            found.append([states, *gradients])
        for dense, once in zip(*found, strict=True):
            torch.testing.assert_close(dense, once, atol=1e-9, rtol=1e-9)


def test_prefixes_need_a_module_that_can() -> None:
    with pytest.raises(ValueError, match="`on_trie`"):
        ml.PlainNetwork(Unconditional(torch.zeros(3)), prefixes=True)


def test_the_rate_follows_how_far_there_is_to_go() -> None:
    """Twice the root of the loss, twice the rate, up to the largest one."""

    def moved(eta: float, minimise: Any) -> tuple[float, float]:
        played = game(fit=Fit(minimise, uniform=0.0))
        policy = played.initial_policy()
        stepped = policy.mirror_step(played.feedback(policy), None, eta=eta, alpha=0.0)
        assert stepped.report is not None
        pairs = [
            (float((w - stepped.tokens[0].weights[n]).abs().max()), stepped.report.loss)
            for n, w in policy.tokens[0].weights.items()
        ]
        return max(pairs)

    once = Adam(1, 1e-3, constant)
    # The first update of Adam changes every weight by the rate.
    for eta in (0.02, 0.2):
        far, loss = moved(eta, ml.Following(once, slope=1e-2))
        assert far == pytest.approx(min(1e-3, 1e-2 * loss**0.5), rel=1e-2)
    assert moved(50.0, ml.Following(once, slope=1e-2))[0] == pytest.approx(1e-3, rel=1e-2)
    with pytest.raises(ValueError, match=r"`adam.rate` must be a number"):
        ml.Following(Adam(rate=ml.Reaching()))


def test_the_answer_is_an_average_of_weights_that_play_as_well() -> None:
    """A network of the mean of the weights, measured as such; the solver's steps do not see it."""
    played = game(fit=Fit(Adam(2, 3e-3, constant, keep_first=True)))
    found = mg.solve(played, mg.AutoMPO(), 12)
    plain = mg.solve(played, ON_TREES.solver, 12)
    assert found.state.step == plain.state.step
    np.testing.assert_array_equal(found.iterate.probs, plain.policy.probs)
    average = found.state.memory["average"]
    assert found.policy is average
    states = [found.iterate]
    for state in mg.iterate(played, mg.AutoMPO()):
        states.append(state.policy)
        if state.step == found.state.step:
            break
    weights = [dict(policy.tokens[0].weights) for policy in states[1:]]
    assert len(weights) > 10
    mean = weights[0]
    for t, newer in enumerate(weights[1:]):
        share = max(ON_TREES.rate, 1.0 / (t + 2))
        mean = {n: torch.lerp(w, newer[n], share) for n, w in mean.items()}
    for name, weight in average.tokens[0].weights.items():
        torch.testing.assert_close(weight, mean[name], rtol=0, atol=1e-6)
    # What it plays is what a network of these weights plays, and its gap is that of its play.
    again = played.played(average.tokens)
    np.testing.assert_allclose(again.probs, average.probs, atol=1e-12)
    assert found.gap == pytest.approx(float(played.duality_gap(again)), abs=1e-12)
