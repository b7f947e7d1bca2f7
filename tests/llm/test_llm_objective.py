"""Objectives and how they are minimised: closed forms, first gradients, parts, masters."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import mpo_games as mg
import mpo_llm as ml
from languages import ENDED, FIXED, PROMPTS, game, table_network, transformer
from mpo_llm.step import kl_forms as divergence

ACCURATE = ml.LBFGS(300, 1e-8)


def stepped(objective: Any, *, eta: float, alpha: float) -> tuple[Any, Any]:
    """A step of the network by the objective, and the table's closed form."""
    language = game(table_network(), FIXED, ml.Proximal(objective, ACCURATE))
    start = language.start
    magnet = replace(start, parts=((1.0, {n: 0.3 * w for n, w in start.weights.items()}),))
    table = language.table(start)
    q = language.twin.feedback(table)
    exact = table.mirror_step(q, language.table(magnet), eta=eta, alpha=alpha)
    found = start.mirror_step(language.feedback(start), magnet, eta=eta, alpha=alpha)
    assert exact.kl(table).sum() > 1e-3
    return language.table(found).probs, exact.probs


@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_regression_ends_at_the_closed_form(alpha: float) -> None:
    """SPPO's step is mirror descent, INPO's is magnetic mirror descent."""
    found, exact = stepped(ml.Squared(), eta=1.5, alpha=alpha)
    np.testing.assert_allclose(found, exact, atol=1e-6)


def test_dpo_ends_at_the_closed_form_of_rewards() -> None:
    """Where preferences are Bradley and Terry's; the weights of pairs do not matter."""
    language = game(table_network(), FIXED, ml.Proximal(ml.Logistic(), ACCURATE))
    start, count = language.start, len(ml.all_responses(FIXED))
    rewards = np.random.default_rng(0).normal(size=count)
    won = 1.0 / (1.0 + np.exp(rewards - rewards[:, None]))
    q = replace(language.feedback(start), pairs=won - 0.5)
    table = language.table(start)
    exact = table.mirror_step(rewards[None], None, eta=0.8, alpha=0.0)
    found = language.table(start.mirror_step(q, None, eta=0.8, alpha=0.0))
    np.testing.assert_allclose(found.probs, exact.probs, atol=1e-6)


@pytest.mark.parametrize("objective", [ml.TokenLevel(), ml.Squared(), ml.Logistic()])
def test_first_gradients_agree(objective: Any) -> None:
    """At the policy that drew the responses, towards the old policy alone."""
    language = game(table_network(), ENDED, prompts=PROMPTS)
    policy = language.start
    among = language.twin.preferences - 0.5
    zero = np.zeros_like(among[0])
    q = replace(language.feedback(policy), pairs=np.block([[among[0], zero], [zero, among[1]]]))
    np.testing.assert_allclose(
        gradient(policy, q, objective), gradient(policy, q, ml.SequenceLevel()), atol=1e-12
    )


def gradient(policy: ml.TokenPolicy, q: ml.Rollouts, objective: Any, **options: Any) -> Any:
    proximal = ml.Proximal(objective, **options)
    policy.network.load(policy.weights)
    parameters = policy.network.trainable
    for part in q.parts(proximal.limits):
        loss = proximal.loss(policy, part, [(0.7, policy)])
        loss().loss.backward()  # type: ignore[no-untyped-call]
    return torch.cat([p.grad.flatten() for p in parameters.values() if p.grad is not None]).numpy()


@pytest.mark.parametrize("objective", [ml.TokenLevel(), ml.SequenceLevel()])
def test_parts_of_a_minibatch_add_up(objective: Any) -> None:
    """Whole steps too: two minibatches, each in parts of three responses or at once."""
    weights = []
    for responses in (None, 3):
        proximal = ml.Proximal(objective, ml.Adam(2), minibatches=2, micro_batch=responses)
        language = game(transformer(), ENDED, proximal, prompts=PROMPTS, samples=20)
        weights.append(mg.solve(language, mg.MPO(1.0, 0.1, 2), 3).policy.weights)
    for name, whole in weights[0].items():
        torch.testing.assert_close(weights[1][name], whole, atol=1e-9, rtol=0.0)


def test_parts_of_what_does_not_part_are_refused() -> None:
    for objective in (ml.Squared(), ml.Logistic()):
        with pytest.raises(ValueError, match="a sum over responses"):
            ml.Proximal(objective, micro_batch=8)
    with pytest.raises(ValueError, match="`micro_batch` must be at least 1, got 0"):
        ml.Proximal(micro_batch=0)


def test_a_line_search_needs_a_potential() -> None:
    """A KL as reward to go is not differentiated: the value says nothing about the gradient."""
    forms = [divergence.exact_unbiased, divergence.k1_in_reward]
    for form in forms:
        with pytest.raises(ValueError, match="is not that of its value: use `SequenceLevel"):
            ml.Proximal(ml.TokenLevel(form), ml.LBFGS())
        ml.Proximal(ml.TokenLevel(form), ml.Adam())
    for form in (divergence.exact_in_loss, divergence.k2_in_loss, divergence.k3_weighted):
        ml.Proximal(ml.TokenLevel(form), ml.LBFGS())


def test_preferences_among_ones_own_are_those_of_the_judge() -> None:
    """In self-play and with a pool; against fresh responses of another nobody meets his own."""
    language = game(table_network(), ENDED, prompts=PROMPTS, samples=8)
    policy, rng = language.start, np.random.default_rng(0)
    among = language.twin.preferences
    listed = {language.every.ids(i): i for i in range(len(ml.all_responses(ENDED)))}
    for pool in (None, ml.Pool.empty().joined(language.feedback(policy, rng=rng), 0)):
        q = language.feedback(policy, rng=rng, pool=pool)
        assert q.pairs is not None
        at = [listed[q.responses.ids(row)] for row in range(len(q.weights))]
        for (i, j), found in np.ndenumerate(q.pairs):
            x, y = q.responses.prompt_of[[i, j]]
            assert found == pytest.approx(among[x, at[i], at[j]] - 0.5 if x == y else 0.0)
        np.testing.assert_array_equal(q.take(slice(1, 4)).pairs, q.pairs[1:4, 1:4])
    alone = language.feedback(policy, policy, rng=rng)
    assert alone.pairs is None
    logistic = replace(policy, proximal=ml.Proximal(ml.Logistic()))
    with pytest.raises(ValueError, match="needs the preferences among the responses"):
        logistic.mirror_step(alone, None, eta=1.0, alpha=0.0)


def test_no_row_is_run_twice() -> None:
    """Nor one that another begins with: a causal network knows its states from the longer one."""
    responses = ml.Responses.of_ids(
        PROMPTS, [0, 0, 0, 0, 1, 1], [(3,), (1, 3), (1, 0, 3), (1, 0, 2), (0,), (2, 0)]
    )
    rows, lengths, where, columns = responses.input_rows()
    assert sorted(map(tuple, rows.tolist())) == [(4, 1, 0), (5, 1, 2)]
    np.testing.assert_array_equal(lengths, 3)
    for i in range(len(responses)):
        prompt = PROMPTS[responses.prompt_of[i]]
        whole = (*prompt, *responses.ids(i))
        for t in range(responses.lengths[i]):
            before = rows[where[i], : columns[i, t] + 1]
            assert tuple(before) == whole[: len(prompt) + t]


def test_half_precision_keeps_what_it_cannot_show() -> None:
    """Updates below its digits add up in masters, and a slow average of weights moves."""
    torch.manual_seed(0)
    module = ml.SmallTransformer(6, 5, width=16).to(torch.bfloat16)
    proximal = ml.Proximal(minimise=ml.Adam(1, rate=1e-5, schedule=ml.constant))
    start = ml.TokenPolicy.of(ml.PlainNetwork(module), FIXED, proximal)
    language = game(start.network, FIXED, proximal, samples=16)
    walked = mg.solve(language, mg.MMD(1.0, 0.1, ml.WeightEma(0.01)), 60)
    for name, w in walked.policy.weights.items():
        assert w.dtype == torch.float32
        apart = (w - start.weights[name].float()).abs()
        assert apart.max() > 1e-4
        magnet = walked.state.magnet.weights[name]
        assert (magnet - start.weights[name].float()).abs().max() > 1e-5
    assert next(iter(start.network.trainable.values())).dtype == torch.bfloat16
    again = walked.policy.restored(walked.policy.arrays())
    np.testing.assert_array_equal(
        again.log_probs(language.every), walked.policy.log_probs(language.every)
    )


def test_every_solver_of_one_step_is_that_step() -> None:
    """Published forms: INPO's explicit step is MMD's at another `eta`; under one accurate solve the
    regression and the objective take the same steps."""
    found = []
    for objective in (ml.SequenceLevel(), ml.Squared()):
        language = game(table_network(), FIXED, ml.Proximal(objective, ACCURATE))
        solution = mg.solve(language, mg.MMD(1.0, 0.3), 3)
        found.append(language.table(solution.policy).probs)
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)


@pytest.mark.parametrize("clip", [None, 2.0])
def test_the_first_step_of_adam_is_torchs(clip: float | None) -> None:
    """At a constant rate, over several updates, bit for bit."""
    adam = ml.Adam(5, 0.01, ml.constant, (0.9, 0.999), clip=clip)
    language = game(transformer(), ENDED, ml.Proximal(minimise=adam, minibatches=2), samples=12)
    start = language.start
    magnet = replace(start, parts=((1.0, {n: 0.5 * w for n, w in start.weights.items()}),))
    q = language.feedback(start, rng=np.random.default_rng(0))
    stepped = start.mirror_step(q, magnet, eta=1.0, alpha=0.1)
    parts = q.minibatches(2)
    losses = [start.proximal.loss(start, part, [(1.0, start), (0.1, magnet)]) for part in parts]
    start.network.load(start.weights)
    parameters = start.network.trainable
    optimiser = torch.optim.Adam(parameters.values(), 0.01, (0.9, 0.999), 1e-8, foreach=False)
    norms = []
    for i in range(10):
        optimiser.zero_grad()
        losses[i % 2]().loss.backward()  # type: ignore[no-untyped-call]
        norms.append(torch.nn.utils.clip_grad_norm_(parameters.values(), clip or torch.inf))
        optimiser.step()
    assert min(norms) < 2.0 < max(norms), "some gradients are clipped and some are not"
    for name, w in stepped.weights.items():
        torch.testing.assert_close(w, parameters[name].detach(), atol=0.0, rtol=0.0)


def test_adam_that_keeps_its_first_moment_is_torchs_over_all_steps() -> None:
    """Also where the policy was saved in between, with its moments."""
    adam = ml.Adam(2, 0.01, ml.constant, (0.9, 0.999), keep_first=True)
    language = game(transformer(), ENDED, ml.Proximal(minimise=adam), samples=12)
    start = language.start
    q = language.feedback(start, rng=np.random.default_rng(0))
    one = start.mirror_step(q, start, eta=1.0, alpha=0.1)
    two = one.mirror_step(q, start, eta=1.0, alpha=0.1)
    saved = one.restored(one.arrays()).mirror_step(q, start, eta=1.0, alpha=0.1)
    forgetful = replace(adam, keep_first=False)
    other = replace(one, proximal=ml.Proximal(minimise=forgetful))
    assert other.mirror_step(q, start, eta=1.0, alpha=0.1).moments.first == {}
    losses = [start.proximal.loss(start, q, [(1.0, p), (0.1, start)]) for p in (start, one)]
    start.network.load(start.weights)
    parameters = start.network.trainable
    optimiser = torch.optim.Adam(parameters.values(), 0.01, (0.9, 0.999), 1e-8, foreach=False)
    for loss in losses:
        for _ in range(2):
            optimiser.zero_grad()
            loss().loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    for name, parameter in parameters.items():
        # Torch's rate has another rounding after the first update.
        torch.testing.assert_close(two.weights[name], parameter.detach(), atol=1e-14, rtol=0.0)
        assert torch.equal(saved.weights[name], two.weights[name])
        assert torch.equal(saved.moments.first[name], two.moments.first[name])


@pytest.mark.parametrize(
    ("proximal", "gradients"),
    [
        (ml.Proximal(ml.TokenLevel(), ml.Adam(3), minibatches=2), 6),
        (ml.Proximal(ml.TokenLevel(), ml.Adam(3), micro_batch=2), 3),
        (ml.Proximal(ml.SequenceLevel(), ml.LBFGS(10)), None),
    ],
)
def test_a_step_says_what_it_did(proximal: ml.Proximal, gradients: int | None) -> None:
    """KLs at both ends, gradients and loss, in the policy that it made and in no other."""
    language = game(transformer(), ENDED, proximal, prompts=PROMPTS)
    start = language.start
    assert start.report is None
    magnet = replace(start, parts=((1.0, {n: 0.5 * w for n, w in start.weights.items()}),))
    stepped = start.mirror_step(language.feedback(start), magnet, eta=1.0, alpha=0.1)
    report = stepped.report
    assert report is not None
    assert gradients in (None, report.gradients)
    old, new = (float(language.divergence(p, magnet)) for p in (start, stepped))
    moved = float(language.divergence(stepped, start))
    assert report.first_kls[0] == pytest.approx(0.0, abs=1e-12)
    if proximal.minibatches == 1:
        assert report.first_kls[1] == pytest.approx(old, rel=1e-9)
    if gradients is None:  # the responses are all there are, and the end is where nothing moves
        assert report.gradients > 5
        assert report.last_kls == pytest.approx((moved, new), rel=0.1)
        q = language.feedback(start)
        gain = q.weights @ (
            np.exp(stepped.log_probs(q.responses) - q.behaviour).prod(1) * q.advantages[:, 0]
        )
        assert report.loss == pytest.approx(moved + 0.1 * new - gain, abs=1e-2)
    assert stepped.snapshot().report is None
    assert stepped.mix(start, 0.5).report is None
    assert stepped.averaged(start, 0.5).report is None
    assert stepped.restored(stepped.arrays()).report is None
