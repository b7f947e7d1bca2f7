"""vLLM behind HTTP: what it draws are the policy's responses, and only what changed is sent."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import mpo_llm as ml
import tiny
from fake_model import moved, start
from fake_vllm import (
    COMPLETIONS,
    DELIVERIES,
    LOAD,
    METRICS,
    MODELS,
    RELOAD,
    RESET,
    UNLOAD,
    FakeVLLM,
    agreement,
    serving,
)
from mpo_llm.engines.vllm import server

PROMPTS = ((4, 5, 6), (7,), (8, 9), (4, 5))
KINDS: dict[str, dict[str, Any]] = {
    "full": {},
    "tied": {"tied": True},
    "LoRA": {"lora": 2},
    "tied LoRA": {"tied": True, "lora": 2},
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> dict[str, Any]:
    return KINDS[request.param]


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeVLLM]:
    start(tmp_path)
    with serving(tmp_path / "model") as found:
        yield found


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def drawing(engine: Any, policy: ml.TokenPolicy, count: int = 3, seed: int = 0) -> ml.Drawn:
    return ml.engines.draw(engine, policy, PROMPTS, count, rng(seed))


def longer(prompts: Any, a: Any, b: Any) -> Any:
    """A judge that likes long texts."""
    return [0.5 + 0.01 * (len(one) - len(two)) for one, two in zip(a, b, strict=True)]


def test_log_probs_are_the_networks(kind: dict[str, Any], tmp_path: Path) -> None:
    """At the start, after a step, and back at the start; by temperatures, too."""
    p = start(tmp_path, **kind, generation={"temperature": 0.7})
    with serving(tmp_path / "model") as fake:
        engine = ml.Server(fake.url, tmp_path / "weights")
        other = moved(p)
        for policy in (p, other, p, moved(other)):
            drawn = drawing(engine, policy)
            assert agreement(policy, drawn) <= 1e-5
            assert len(drawn.responses) == 12
        watch = engine.hosted.watch
        assert watch is not None
        assert watch.slope == pytest.approx(1.0, abs=1e-3)
        assert np.abs(drawn.log_probs - p.log_probs(drawn.responses)).max() > 0.05


def test_after_a_mirror_step(kind: dict[str, Any], tmp_path: Path) -> None:
    """A real one: the policies of a run share tensors that did not change."""
    p = start(tmp_path, **kind)
    with serving(tmp_path / "model") as fake:
        engine = ml.Server(fake.url, tmp_path / "weights")
        game = ml.TextPreferenceGame(PROMPTS, p, longer, str, 4, engine=engine)
        q = game.feedback(p, rng=rng())
        assert q.mismatch < 1e-4
        assert q.mismatch_ratio == pytest.approx(1.0, abs=1e-5)
        after = p.mirror_step(q, p, eta=2.0, alpha=0.1)
        drawn = drawing(engine, after)
        assert agreement(after, drawn) <= 1e-5
        assert np.abs(drawn.log_probs - p.log_probs(drawn.responses)).max() > 1e-3


@pytest.mark.parametrize("long", [10_000, 0])
def test_what_is_drawn_follows_the_policy(
    long: int, fake: FakeVLLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The frequencies of first tokens are the probabilities, also of ids that are never drawn.

    In a large vocabulary these get a bias, so that no request lists all the others.
    """
    monkeypatch.setattr(server, "LONG", long)
    p = start(tmp_path, generation={"max_tokens": 1})
    p = replace(p, decoding=ml.Decoding(1, eos=1, temperature=0.5, vocabulary=14, unused=(5, 7)))
    drawn = ml.Server(fake.url, tmp_path)(p, ((4, 6),), 4000, rng())
    found = np.bincount(drawn.responses.tokens[:, 0], minlength=16) / 4000
    ids = [i for i in range(14) if i not in (5, 7)]
    assert not np.delete(found, ids).any()
    rows = ml.Responses.of_ids(((4, 6),), [0] * len(ids), [(i,) for i in ids])
    np.testing.assert_allclose(found[ids], np.exp(p.log_probs(rows)[:, 0]), atol=0.03)
    assert agreement(p, drawn_again := drawing(ml.Server(fake.url, tmp_path), p)) <= 1e-5
    assert set(drawn_again.responses.tokens.ravel().tolist()) <= set(ids)
    banned = {str(i): -100.0 for i in range(16) if i not in ids}
    for body in fake.bodies(COMPLETIONS):
        assert body.get("allowed_token_ids") == (ids if long else None)
        assert body.get("logit_bias") == (None if long else banned)


def test_nothing_is_sent_twice(fake: FakeVLLM, tmp_path: Path) -> None:
    """Not for the same weights, and not for another policy that shares all its tensors."""
    p = start(tmp_path)
    engine = ml.Server(fake.url, tmp_path / "weights")
    shared = replace(p, parts=((1.0, dict(p.weights)),))
    for policy in (
        p,
        p,
        shared,
        p.snapshot(),
        replace(p, decoding=replace(p.decoding, max_tokens=2)),
    ):
        drawing(engine, policy)
    assert len(fake.bodies(RELOAD)) == len(fake.bodies(RESET)) == 1
    one = next(iter(p.weights))
    drawing(engine, replace(p, parts=((1.0, {**p.weights, one: p.weights[one] + 0.1}),)))
    assert len(fake.bodies(RELOAD)) == 2


def test_every_delivery_is_probed_before_anything_is_drawn(fake: FakeVLLM, tmp_path: Path) -> None:
    p = start(tmp_path)
    engine = ml.Server(fake.url, tmp_path / "weights")
    for policy in (p, moved(p)):
        drawing(engine, policy)
    delivery = [RELOAD, RESET, "probe", COMPLETIONS]
    assert fake.paths == [MODELS, *delivery, *delivery]


def test_a_server_that_is_busy_is_asked_to_forget_again(fake: FakeVLLM, tmp_path: Path) -> None:
    p = start(tmp_path)
    fake.busy = 2
    drawing(ml.Server(fake.url, tmp_path), p)
    assert len(fake.bodies(RESET)) == 3


def test_no_folder_is_left(kind: dict[str, Any], tmp_path: Path) -> None:
    """A whole model lies on the disk only while it is read; adapters as long as they are held."""
    p = start(tmp_path, **kind)
    place = tmp_path / "weights"
    with serving(tmp_path / "model") as fake:
        engine = ml.Server(fake.url, place)
        held = []
        for policy in (p, moved(p), moved(p, 2), moved(p, 3)):
            drawing(engine, policy)
            (own,) = place.iterdir()
            held.append(len(list(own.iterdir())))
        assert held == ([1, 2, 2, 2] if "lora" in kind else [0, 0, 0, 0])
        folders = [
            body.get("lora_path") or body["kwargs"]["weights_path"]
            for body in fake.bodies(*DELIVERIES)
        ]
        assert len(set(folders)) == 4
        assert all(Path(folder).is_relative_to(place) for folder in folders)
    del engine
    gc.collect()
    assert not list(place.iterdir())


def test_adapters_have_names_of_their_own(tmp_path: Path) -> None:
    """Also those of a second engine: a server may outlive a run."""
    p = start(tmp_path, lora=2)
    with serving(tmp_path / "model") as fake:
        engines = [ml.Server(fake.url, tmp_path / "weights") for _ in range(2)]
        for policy in (p, moved(p)):
            for engine in engines:
                assert agreement(policy, drawing(engine, policy)) <= 1e-5
        names = [body["lora_name"] for body in fake.bodies(LOAD)]
        assert len(set(names)) == 4
        # The model alone never draws: a batch of both would be wrong on a CPU.
        assert {body["model"] for body in fake.bodies(COMPLETIONS)} == set(names)


def test_two_adapters_draw_in_one_batch(tmp_path: Path) -> None:
    """Their requests go out together, and neither is unloaded in between."""
    p = start(tmp_path, lora=2)
    other = moved(p)
    with serving(tmp_path / "model") as fake:
        engine = ml.Server(fake.url, tmp_path / "weights")
        both = ml.engines.draw_each(engine, [p, other], PROMPTS, 3, rng())
        assert fake.paths == [MODELS, LOAD, "probe", LOAD, "probe", COMPLETIONS]
        for policy, drawn in zip((p, other), both, strict=True):
            assert agreement(policy, drawn) <= 1e-5
        # Drawing in turns goes on with both, and the step after it lets go of the older one.
        for policy in (p, other, p):
            drawing(engine, policy)
        assert not fake.bodies(UNLOAD)
        drawing(engine, moved(p, 2))
        assert fake.bodies(UNLOAD) == [{"lora_name": fake.bodies(LOAD)[1]["lora_name"]}]
        assert fake.held.most == 2


def test_as_many_adapters_as_the_server_holds(tmp_path: Path) -> None:
    p = start(tmp_path, lora=2)
    policies = [p, *(moved(p, seed) for seed in range(1, 5))]
    with serving(tmp_path / "model") as fake:
        found = [
            ml.Server(fake.url, tmp_path / "weights", slots=slots).each(policies, PROMPTS, 2, rng())
            for slots in (1, 3)
        ]
        for one, two, policy in zip(*found, policies, strict=True):
            np.testing.assert_array_equal(one.responses.tokens, two.responses.tokens)
            np.testing.assert_array_equal(one.log_probs, two.log_probs)
            assert agreement(policy, one) <= 1e-5


def test_together_is_in_turn(kind: dict[str, Any], tmp_path: Path) -> None:
    """Bit for bit, and whatever stands between them."""
    p = start(tmp_path, **kind)
    policies = [p, moved(p), p.mix(moved(p), 0.5), p, moved(p, 2)]
    with serving(tmp_path / "model") as fake:
        found = []
        for together in (True, False):
            engine, numbers = ml.Server(fake.url, tmp_path / "weights"), rng(5)
            found.append(
                ml.engines.draw_each(engine, policies, PROMPTS, 3, numbers)
                if together
                else [ml.engines.draw(engine, each, PROMPTS, 3, numbers) for each in policies]
            )
            found[-1].append(numbers.random())
        *one, last = found[0]
        *two, also_last = found[1]
        assert last == also_last
        for a, b in zip(one, two, strict=True):
            np.testing.assert_array_equal(a.responses.tokens, b.responses.tokens)
            np.testing.assert_array_equal(a.log_probs, b.log_probs)


def test_mixtures_are_drawn_by_the_own_engine(fake: FakeVLLM, tmp_path: Path) -> None:
    """The server never hears of them."""
    p = start(tmp_path)
    mixture = p.mix(moved(p), 0.5)
    found = drawing(ml.Server(fake.url, tmp_path), mixture)
    own = drawing(ml.Autoregressive(), mixture)
    np.testing.assert_array_equal(found.responses.tokens, own.responses.tokens)
    assert {path for path, *_ in fake.seen} <= {METRICS}
    with pytest.raises(ValueError, match="the policy is a mixture"):
        replace(ml.Server(fake.url), mixtures=None).hosted.each([mixture], PROMPTS, 1, rng())


def test_each_prompt_has_a_seed_of_its_own(fake: FakeVLLM, tmp_path: Path) -> None:
    """The same prompt twice too, and all are drawn by the generator that was passed."""
    p = start(tmp_path)
    engine = ml.Server(fake.url, tmp_path)
    numbers = rng(3)
    one = ml.engines.draw(engine, p, ((4, 5),) * 40, 2, numbers)
    again = ml.engines.draw(engine, p, ((4, 5),) * 40, 2, rng(3))
    np.testing.assert_array_equal(one.responses.tokens, again.responses.tokens)
    seeds = [body["seed"] for body in fake.draws]
    assert sorted(seeds[:40]) == sorted(seeds[40:])
    assert len(set(seeds)) == 40
    assert max(seeds) < 2**62
    # Half of them are in the upper half, so all 62 bits are used.
    assert 8 < sum(seed >= 2**61 for seed in seeds[:40]) < 32
    expected = rng(3)
    assert set(seeds) == set(expected.integers(2**62, size=40).tolist())
    assert numbers.random() == expected.random()
    assert len(np.unique(one.responses.tokens[:, :3], axis=0)) > 20


ENDS: list[tuple[Any, int]] = [(None, 5), (1, 9), ((1, 3, 9), 9), ((0, 15), 4)]


@pytest.mark.parametrize(("eos", "most"), ENDS)
def test_the_decoding_alone_ends_a_response(
    eos: Any, most: int, fake: FakeVLLM, tmp_path: Path
) -> None:
    p = start(tmp_path)
    p = replace(p, decoding=ml.Decoding(most, eos=eos))
    drawn = drawing(ml.Server(fake.url, tmp_path), p, count=20)
    ends = p.decoding.ends
    for i, length in enumerate(drawn.responses.lengths.tolist()):
        ids = drawn.responses.ids(i)
        assert not set(ids[:-1]) & set(ends)
        assert length == most or ids[-1] in ends
    assert all(body["stop_token_ids"] == list(ends) for body in fake.draws)
    if eos is None:
        assert set(drawn.responses.lengths.tolist()) == {most}


@pytest.mark.parametrize(
    ("change", "prompts", "said"),
    [
        ({"temperature": 0.009}, PROMPTS, "at temperatures of at least 0.01, got 0.009"),
        ({"max_tokens": 62}, PROMPTS, "62 tokens|context"),
        ({"max_tokens": 30}, PROMPTS, r"up to 33 tokens, .* room for 32: .*--longest 33"),
        ({}, ((4, 16),), "holds the id 16, and the model has 16 ids"),
        ({}, ((),), "Every prompt needs a token"),
    ],
)
def test_what_vllm_would_cut_or_wait_for_is_refused(
    change: dict[str, Any], prompts: Any, said: str, fake: FakeVLLM, tmp_path: Path
) -> None:
    """Before anything is sent."""
    p = start(tmp_path)
    fake.room = 32
    policy = replace(p, decoding=replace(p.decoding, **change))
    with pytest.raises(ValueError, match=said):
        ml.Server(fake.url, tmp_path)(policy, prompts, 1, rng())
    assert set(fake.paths) <= {MODELS}


def test_other_networks_and_adapters_are_refused(fake: FakeVLLM, tmp_path: Path) -> None:
    from languages import ENDED, transformer

    plain = ml.TokenPolicy.of(transformer(), ENDED)
    with pytest.raises(
        ValueError, match=r"models of transformers, .* draw by `Autoregressive\(\)`"
    ):
        drawing(ml.Server(fake.url), plain)
    assert not fake.seen


def test_no_more_prompts_at_once_than_asked(fake: FakeVLLM, tmp_path: Path) -> None:
    p = start(tmp_path)
    fake.held.complete, complete = None, fake.held.complete  # type: ignore[method-assign, assignment]
    counting, now, most = threading.Condition(), [0], [0]

    def counted(*given: Any, **settings: Any) -> Any:
        # The first request waits for the second: two fast answers might miss each other. Those of
        # the probe, for one token each, come alone.
        with counting:
            now[0] += 1
            most[0] = max(most[0], now[0])
            counting.notify_all()
            if settings["max_tokens"] > 1:
                counting.wait_for(lambda: most[0] >= 2, timeout=30)
        found = complete(*given, **settings)
        with counting:
            now[0] -= 1
        return found

    fake.held.complete = counted  # type: ignore[method-assign]
    one = drawing(ml.Server(fake.url, tmp_path, at_once=2), p)
    assert most[0] == 2
    two = drawing(ml.Server(fake.url, tmp_path), p)
    np.testing.assert_array_equal(one.responses.tokens, two.responses.tokens)


def test_names_that_look_like_those_which_no_model_has(tmp_path: Path) -> None:
    """GPT-2 does not use `attn.bias` of old checkpoints, and that is found in `c_attn.bias`."""
    torch.manual_seed(0)
    sizes = {"vocab_size": len(tiny.WORDS), "n_embd": 16, "n_layer": 2, "n_head": 2}
    ends = {"eos_token_id": 1, "bos_token_id": None, "n_positions": 64}
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, **ends))
    model.save_pretrained(tmp_path / "model")
    tiny.tokenizer().save_pretrained(tmp_path / "model")
    tiny.prompts(tmp_path)
    p = start(tmp_path)
    with serving(tmp_path / "model") as fake:
        engine = ml.Server(fake.url)
        for policy in (p, moved(p)):
            assert agreement(policy, drawing(engine, policy)) < 1e-4
