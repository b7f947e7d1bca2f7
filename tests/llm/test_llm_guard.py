"""The guard of a mirror step: how far the closed form goes, and what goes back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import mpo_llm as ml
from languages import ENDED, FIXED, PROMPTS, SYMBOLS, game, table_network
from mpo_llm.networks.processes import OneProcess
from mpo_llm.step.guard import IN_A_ROW, Guard
from mpo_llm.step.minimisers import Minimised, Moments
from mpo_llm.step.sample import closed_form_kl

ACCURATE = ml.Proximal(ml.SequenceLevel(), ml.LBFGS(300, 1e-6))


def guarded(proximal: ml.Proximal, guard: Guard = Guard()) -> ml.Proximal:
    return replace(proximal, guard=guard)


def stepped(proximal: ml.Proximal, eta: float = 1.5, **options: Any) -> tuple[Any, Any, Any]:
    """The game, its start, and the policy after a step along exact feedback."""
    language = game(table_network(), ENDED, proximal, prompts=PROMPTS, **options)
    start = language.start
    step = start.mirror_step(language.feedback(start), shrunk(start), eta=eta, alpha=0.1)
    return language, start, step


def shrunk(policy: ml.TokenPolicy) -> ml.TokenPolicy:
    """A magnet that is another policy."""
    return replace(policy, parts=((1.0, {n: 0.3 * w for n, w in policy.weights.items()}),))


def test_the_closed_form_passes_where_it_is_reachable() -> None:
    """A table of prefixes reaches it, and the guard changes no bit of the step."""
    language, start, free = stepped(ACCURATE)
    _, _, kept = stepped(guarded(ACCURATE, Guard(far=1.001)))
    assert kept.report.kept == 1.0
    for name, weight in free.weights.items():
        assert torch.equal(weight, kept.weights[name])
    table = language.table(start)
    q = language.twin.feedback(table)
    exact = table.mirror_step(q, language.table(shrunk(start)), eta=1.5, alpha=0.1)
    np.testing.assert_allclose(language.table(kept).probs, exact.probs, atol=1e-5)


def test_how_far_the_closed_form_goes_is_known_before_the_step() -> None:
    language = game(table_network(), ENDED, prompts=PROMPTS)
    start, eta, alpha = language.start, 1.5, 0.1
    q, magnet = language.feedback(start), shrunk(start)
    drift = (start.log_probs(q.responses) - magnet.log_probs(q.responses)).sum(axis=1)
    z = (q.advantages[:, 0] - alpha * drift) / (1.0 / eta + alpha)
    table = language.table(start)
    exact = table.mirror_step(
        language.twin.feedback(table), language.table(magnet), eta=eta, alpha=alpha
    )
    expected = float(exact.kl(table).mean())
    assert closed_form_kl(q.responses.prompt_of, q.weights, z) == pytest.approx(expected, rel=1e-9)
    # Responses of weight 0 change nothing, however large their exponents are.
    more = closed_form_kl(
        np.append(q.responses.prompt_of, [0, 7]),
        np.append(q.weights, [0.0, 0.0]),
        np.append(z, [2e3, 1.0]),
    )
    assert more == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("form", [ml.TokenLevel(), ml.SequenceLevel()])
def test_a_step_that_goes_too_far_goes_back_by_thirds(form: Any) -> None:
    """It is a point of the way from start to end, nearer than the limit, and one third more of the
    way would not have been accepted."""
    wild = ml.Proximal(form, ml.Adam(1, 3.0, ml.constant, keep_first=True))
    language, start, free = stepped(wild)
    _, _, kept = stepped(guarded(wild))
    share = kept.report.kept
    thirds = np.log(share) / np.log(1 / 3)
    assert 0.0 < share < 1.0
    assert thirds == pytest.approx(round(thirds), abs=1e-12)
    assert free.moments.first
    assert not kept.moments.first
    assert kept.moments.count == free.moments.count
    for name, weight in free.moments.second.items():
        assert torch.equal(weight, kept.moments.second[name])

    def at(share: float) -> ml.TokenPolicy:
        between = {n: torch.lerp(w, free.weights[n], share) for n, w in start.weights.items()}
        return replace(start, parts=((1.0, between),))

    for name, weight in at(share).weights.items():
        torch.testing.assert_close(weight, kept.weights[name], rtol=0, atol=1e-15)

    magnet, table = language.table(shrunk(start)), language.table(start)
    q = language.twin.feedback(table)
    exact = table.mirror_step(q, magnet, eta=1.5, alpha=0.1)

    def objective(policy: ml.TokenPolicy) -> float:
        played = language.table(policy)
        gain = np.sum(played.probs * q, axis=1) - 0.1 * played.kl(magnet) - played.kl(table) / 1.5
        return float(gain.mean())

    def accepted(policy: ml.TokenPolicy) -> bool:
        near = language.table(policy).kl(table).mean() < 4.0 * exact.kl(table).mean() + 1e-4
        return bool(near and objective(policy) > objective(start))

    assert accepted(kept)
    assert not accepted(at(3.0 * share))


def test_a_step_that_only_loses_is_not_taken() -> None:
    """Uphill the loss rises at any length, so the policy stays, bit for bit."""

    class Uphill:
        searches = False

        def __call__(self, bench: Any, losses: Any, moments: Any, /) -> Any:
            def up() -> Any:
                found = losses[0].parts[0]()
                return replace(found, loss=-found.loss)

            return ml.Adam(2, 0.05)(bench, [replace(losses[0], parts=[up])], moments)

    _, start, kept = stepped(guarded(ml.Proximal(ml.SequenceLevel(), Uphill())))
    assert kept.report.kept == 0.0
    for name, weight in start.weights.items():
        assert torch.equal(weight, kept.weights[name])


def test_by_token_it_measures_the_exact_kl() -> None:
    """Responses of one token: their KL is exact, whichever responses the sample has."""
    one = ml.Decoding(1, vocabulary=SYMBOLS)
    wild = ml.Proximal(ml.SequenceLevel(), ml.Adam(1, 1.0, ml.constant))
    language = game(table_network(), one, wild, prompts=PROMPTS, samples=3)
    start = language.start
    q = language.feedback(start, rng=np.random.default_rng(1))
    free, kept = (
        replace(start, proximal=p).mirror_step(q, None, eta=1.5, alpha=0.0)
        for p in (wild, guarded(wild, Guard(1.0, by_token=True)))
    )
    assert kept.report is not None
    share = kept.report.kept
    assert 0.0 < share < 1.0
    z = 1.5 * q.advantages[:, 0]
    limit = closed_form_kl(q.responses.prompt_of, q.weights, z) + 1e-4

    def gone(share: float) -> float:
        between = {n: torch.lerp(w, free.weights[n], share) for n, w in start.weights.items()}
        moved = language.table(replace(start, parts=((1.0, between),)))
        return float(moved.kl(language.table(start)).mean())

    assert gone(share) < limit <= gone(3.0 * share)


class Bench:
    """One weight, and nothing to read it by."""

    def __init__(self) -> None:
        self.drafts = {"w": torch.zeros((), dtype=torch.float64)}

    def replace(self, drafts: Any) -> None:
        self.drafts = drafts


@pytest.mark.parametrize("rounding", [0.0, 0.05])
@pytest.mark.parametrize(("way", "kept"), [(0.9, 1.0), (1.1, 1 / 3), (4.0, 1 / 9)])
def test_what_rounding_adds_is_not_too_far(rounding: float, way: float, kept: float) -> None:
    """In half precision the least move seems to go some way, near an equilibrium further than the
    closed form."""
    bench: Any = Bench()

    class Sampled:
        def begun(self) -> Any:
            # Of KL 1e-2, so that a step may go .04 far.
            return 0.0, [np.zeros(2), np.full(2, 0.5), np.array([0.1416, -0.1416])]

        processes = OneProcess()

        def measured(self, *, by_token: bool) -> tuple[float, float]:
            w = float(bench.drafts["w"])
            return -w, 0.04 * w**2 + rounding * (w > 0.0)

    def minimise() -> Any:
        bench.replace({"w": torch.tensor(way, dtype=torch.float64)})
        return Minimised(Moments(), [])

    _, share = Guard()(bench, [Sampled()], minimise)  # type: ignore[list-item]
    assert share == pytest.approx(kept)
    assert float(bench.drafts["w"]) == pytest.approx(kept * way)


def test_a_measured_rate_that_only_leads_back_is_halved() -> None:
    """After so many steps in a row, else the policy would stand still for ever."""
    moments = Moments(rate=0.5)

    def step(*, falls: bool) -> float:
        nonlocal moments
        bench: Any = Bench()

        class Sampled:
            def begun(self) -> Any:
                return 0.0, [np.zeros(2), np.full(2, 0.5), np.array([0.1, -0.1])]

            processes = OneProcess()

            def measured(self, *, by_token: bool) -> tuple[float, float]:
                w = float(bench.drafts["w"])
                return (-w if falls else w), 0.0

        def minimise() -> Any:
            bench.replace({"w": torch.ones((), dtype=torch.float64)})
            return Minimised(moments, [])

        done, kept = Guard()(bench, [Sampled()], minimise)  # type: ignore[list-item]
        moments = done.moments
        return kept

    assert [step(falls=False) for _ in range(IN_A_ROW - 1)] == [0.0] * (IN_A_ROW - 1)
    assert moments.refused == IN_A_ROW - 1
    assert step(falls=True) == 1.0
    assert moments.refused == 0
    for _ in range(IN_A_ROW - 1):
        step(falls=False)
    assert moments.rate == 0.5
    step(falls=False)
    assert moments.rate == 0.25
    assert moments.refused == 0


def test_steps_that_were_refused_are_counted_and_saved() -> None:
    """A run that goes on counts on; without one the files are as before."""

    class Up(ml.Adam):
        """Loses at any length."""

        def __call__(self, bench: Any, losses: Any, moments: Any, /) -> Any:
            def up() -> Any:
                found = losses[0].parts[0]()
                return replace(found, loss=-found.loss)

            return ml.Adam.__call__(self, bench, [replace(losses[0], parts=[up])], moments)

    language, _, once = stepped(guarded(ml.Proximal(ml.SequenceLevel(), Up(2, 0.05))))
    twice = once.mirror_step(language.feedback(once), None, eta=1.5, alpha=0.0)
    assert (once.moments.refused, twice.moments.refused) == (1, 2)
    assert language.start.restored(twice.arrays()).moments.refused == 2
    assert "refused" not in language.start.arrays()


def test_parts_of_a_sample_change_nothing() -> None:
    """Few responses in memory at a time: the same verdict and the same step."""
    wild = guarded(ml.Proximal(ml.SequenceLevel(), ml.Adam(1, 2.0, ml.constant)))
    _, _, whole = stepped(wild)
    _, _, parts = stepped(replace(wild, micro_batch=7))
    assert whole.report.kept == parts.report.kept < 1.0
    for name, weight in whole.weights.items():
        torch.testing.assert_close(weight, parts.weights[name], rtol=0, atol=1e-9)


def test_half_precision_goes_back_too() -> None:
    """Weights that are trained as drafts beside a rounded module."""
    torch.manual_seed(0)
    module = ml.SmallTransformer(6, 5, width=16).to(torch.bfloat16)
    rounded = ml.PlainNetwork(module, context=5)
    wild = guarded(ml.Proximal(ml.SequenceLevel(), ml.Adam(1, 0.5, ml.constant)))
    language = game(rounded, FIXED, wild)
    start = language.start
    kept = start.mirror_step(language.feedback(start), None, eta=1.5, alpha=0.0)
    assert kept.report is not None
    assert kept.report.kept < 1.0
    assert kept.kl(start, language.every).sum(axis=1) @ language.feedback(start).weights < 1.0


@pytest.mark.parametrize("wrong", [{"far": 0.0}, {"far": np.inf}, {"tries": 0}])
def test_settings_out_of_range_are_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="must be"):
        Guard(**wrong)
