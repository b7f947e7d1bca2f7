"""Engines: what is drawn does not depend on how, and who sees other numbers is corrected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mpo_llm as ml
import tiny
from languages import ENDED, PROMPTS, preferences, transformer
from mpo_llm import engines
from mpo_llm.config import Config, GenerationConfig
from mpo_llm.engines import autoregressive
from mpo_llm.responses import Ids
from mpo_llm.results import chat, page
from mpo_llm.results.evaluation import evaluate_run, league
from mpo_llm.training import assemble
from mpo_llm.training.train import train

LONG = ((4,), (5, 1), (4, 2), (5,))
"""Of different lengths, out of order."""


def start(**options: float) -> ml.TokenPolicy:
    return ml.TokenPolicy.of(transformer(), replace(ENDED, **options))


@pytest.mark.parametrize("batch", [1, 7, 12, 100])
def test_batches_do_not_matter(batch: int) -> None:
    """Nor that responses leave the batch when they have ended."""
    p = start()
    one, two = (
        engine(p, LONG, 6, np.random.default_rng(0))
        for engine in (ml.Autoregressive(), ml.Autoregressive(batch))
    )
    assert len(set(one.responses.lengths.tolist())) > 1
    np.testing.assert_array_equal(one.responses.tokens, two.responses.tokens)
    np.testing.assert_array_equal(one.responses.prompt_of, np.repeat(np.arange(4), 6))
    np.testing.assert_allclose(one.log_probs, two.log_probs, atol=1e-12)


def test_an_engine_reports_the_log_probs_it_drew_with() -> None:
    p = start(temperature=0.7)
    drawn = ml.Autoregressive()(p, LONG, 6, np.random.default_rng(0))
    np.testing.assert_allclose(drawn.log_probs, p.log_probs(drawn.responses), atol=1e-12)


class Hotter:
    """An engine that draws at another temperature, and says so."""

    def __call__(
        self, policy: ml.TokenPolicy, prompts: Sequence[Ids], count: int, rng: np.random.Generator
    ) -> ml.Drawn:
        decoding = replace(policy.decoding, temperature=1.5)
        return ml.Autoregressive()(replace(policy, decoding=decoding), prompts, count, rng)


def test_responses_of_another_distribution_are_reweighted() -> None:
    """With many samples the shares become the policy's probabilities, and the mismatch is said."""
    p = start()
    game = ml.EnumerableGame(p, PROMPTS, preferences(ENDED, 2), 4000)
    assert game.sampled is not None
    sampled = replace(game.sampled, truncation=100.0, engine=Hotter())
    q = sampled.feedback(p, rng=np.random.default_rng(0))
    expected = np.exp(q.behaviour.sum(axis=1)) / 2
    np.testing.assert_allclose(q.weights, expected, atol=0.01)
    np.testing.assert_allclose(np.bincount(q.responses.prompt_of, q.weights), [0.5, 0.5])
    assert q.mismatch > 0.3
    plain = game.feedback(p, rng=np.random.default_rng(0))
    assert plain.mismatch < 1e-12
    assert np.abs(plain.weights - np.exp(plain.behaviour.sum(axis=1)) / 2).max() < 0.01


def test_without_the_correction_they_would_not_be() -> None:
    """The engine is far enough off for the test above to mean something."""
    p = start()
    drawn = Hotter()(p, PROMPTS, 4000, np.random.default_rng(0)).responses
    distinct, where = drawn.distinct()
    share = np.bincount(where) / len(drawn)
    assert np.abs(share - np.exp(p.log_probs(distinct).sum(axis=1)) / 2).max() > 0.02


def test_a_pool_of_other_prompts_does_not_shrink_advantages() -> None:
    """A step that asks one of two prompts, both of them in the pool: advantages are the exact
    ones."""
    p = start()
    game = ml.EnumerableGame(p, PROMPTS, preferences(ENDED, 2), 1000)
    exact = ml.EnumerableGame(p, PROMPTS, preferences(ENDED, 2)).feedback(p)
    known = {
        (int(of), exact.responses.ids(i)): a
        for i, (of, a) in enumerate(
            zip(exact.responses.prompt_of, exact.advantages[:, 0], strict=True)
        )
    }
    assert game.sampled is not None
    rng = np.random.default_rng(0)
    pool = ml.Pool.empty().joined(game.feedback(p, rng=rng), 0)
    q = replace(game.sampled, prompts_per_step=1).feedback(p, rng=rng, pool=pool)
    assert len(np.unique(q.responses.prompt_of)) == 1
    expected = [known[int(of), q.responses.ids(i)] for i, of in enumerate(q.responses.prompt_of)]
    np.testing.assert_allclose(q.advantages[:, 0], expected, atol=0.05)
    assert np.abs(expected).max() > 0.2


def everything(folder: Path, **generation: Any) -> dict[str, int]:
    """All that draws, on six held-out prompts; how many responses each draws."""
    held_out = folder / "held_out.jsonl"
    held_out.write_text("".join(f'{{"prompt": "{x}"}}\n' for x in "abcdef"))
    config = tiny.config(
        folder,
        generation=generation,
        evaluation={"source": str(held_out), "every": 1, "samples": 4},
        budget={"steps": 2},
    )
    summary, run = train(config), str(folder / "run")
    evaluate_run(run, samples=4)
    league(run, [str(folder / "model")], samples=4)
    policy, tokenizer, engine = chat.load(run, 3, 1.0)
    answers = chat.converse(policy, tokenizer, ["a", "b c"], np.random.default_rng(0), None, engine)
    page.sample_answers(run)
    held_out_draws = 6 * 4
    return {
        "training": summary.counts["samples"],
        "its evaluation": 2 * 2 * held_out_draws,
        "evaluate": 2 * held_out_draws,
        "league": 3 * held_out_draws,
        "chat": len(list(answers)),
        "page": 2 * 6,
    }


def test_a_plugged_engine_draws_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else draws, and an engine is made with the configuration whose model it runs."""
    drawn: list[int] = []
    models: list[str] = []
    plain, plugged = ml.Autoregressive.__call__, [False]

    def refusing(self: ml.Autoregressive, *arguments: Any) -> ml.Drawn:
        assert plugged[0], "something draws by an engine of its own"
        return plain(self, *arguments)

    def counting(config: Config) -> ml.engines.Engine:
        models.append(config.model.name)

        def engine(
            policy: ml.TokenPolicy, prompts: Sequence[Ids], count: int, rng: np.random.Generator
        ) -> ml.Drawn:
            plugged[0] = True
            found = ml.Autoregressive()(policy, prompts, count, rng)
            plugged[0] = False
            drawn.append(len(found.responses))
            return found

        return engine

    monkeypatch.setattr(ml.Autoregressive, "__call__", refusing)
    tiny.engines["counting"] = counting
    expected = everything(tmp_path, engine="tiny:engine", options={"name": "counting"})
    assert expected["training"] == 16
    assert sum(drawn) == sum(expected.values())
    assert models == [str(tmp_path / "model")] * 6


def test_the_batch_is_kept_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more responses than `generation.batch` are drawn at the same time."""
    sizes: list[int] = []
    draw = autoregressive._draw

    def seen(policy: ml.TokenPolicy, prompts: Sequence[Ids], uniforms: np.ndarray) -> Any:
        sizes.append(uniforms[0].size)
        return draw(policy, prompts, uniforms)

    monkeypatch.setattr(autoregressive, "_draw", seen)
    expected = everything(tmp_path, batch=4)
    assert max(sizes) == 4
    assert sum(sizes) == sum(expected.values())


def test_samples_are_the_engines() -> None:
    p = start()
    one = ml.sample(p, LONG, 3, np.random.default_rng(1))
    two = ml.Autoregressive()(p, LONG, 3, np.random.default_rng(1)).responses
    np.testing.assert_array_equal(one.tokens, two.tokens)
    hot = ml.sample(p, LONG, 3, np.random.default_rng(1), Hotter())
    assert not np.array_equal(hot.tokens, two.tokens)


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        ("nothing", "`generation.engine` must read `module:function`"),
        ("no.such:thing", "`generation.engine`: cannot import 'no.such'"),
        ("no_such.py:thing", "`generation.engine`: there is no file 'no_such.py'"),
        ("math:thing", "`generation.engine`: there is no function 'thing' in 'math'"),
        ("vlm", "got 'vlm': did you mean `vllm`?"),
        ("tiny:engine", "'tiny:engine' needs `generation.options`: name."),
        ("builtins:repr", "'builtins:repr' must return an engine, a function"),
    ],
)
def test_engines_that_are_not_to_be_had(engine: str, said: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011
        assemble.engine(Config(generation=GenerationConfig(engine=engine)))
    assert said in str(error.value)


def test_without_a_name_our_own_engine_draws() -> None:
    found = assemble.engine(Config(generation=GenerationConfig(batch=7)))
    assert found == ml.Autoregressive(7)


def raising(error: Exception) -> Any:
    def engine(*_: Any) -> ml.Drawn:
        raise error

    return engine


def changed(change: Any) -> Any:
    """The built-in engine, whose answer is changed."""
    return lambda *asked: change(ml.Autoregressive()(*asked), *asked)


def backwards(_: ml.Drawn, p: ml.TokenPolicy, prompts: Any, count: int, rng: Any) -> ml.Drawn:
    return ml.Autoregressive()(p, prompts[::-1], count, rng)


def fewer(_: ml.Drawn, p: ml.TokenPolicy, prompts: Any, count: int, rng: Any) -> ml.Drawn:
    return ml.Autoregressive()(p, prompts, count - 1, rng)


def interleaved(drawn: ml.Drawn, *_: Any) -> ml.Drawn:
    rows = np.arange(len(drawn.responses)).reshape(-1, 6).T.ravel()
    return ml.Drawn(drawn.responses.take(rows), drawn.log_probs[rows])


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        (raising(TypeError("a\nb")), r"raised TypeError: a b\."),
        (raising(KeyError()), r"raised KeyError\."),
        (raising(RuntimeError("no server")), r"raised RuntimeError: no server\."),
        (changed(lambda *_: None), "must return a `Drawn`, got a NoneType"),
        (changed(lambda drawn, *_: drawn.responses), "must return a `Drawn`, got a Responses"),
        (changed(backwards), "prompt by prompt and in their order, got 24 responses to 4"),
        (changed(interleaved), "prompt by prompt and in their order"),
        (changed(fewer), "must return 6 responses to each of the 4 prompts.* got 20 "),
        (changed(lambda d, *_: replace(d, log_probs=d.log_probs[:, :-1])), "for each token"),
    ],
)
def test_an_engine_that_answers_strangely_is_refused(engine: Any, said: str) -> None:
    """Responses in another order would count as answers to each other's prompts."""
    p = start()
    with pytest.raises(engines.EngineError, match=said):
        ml.sample(p, LONG, 6, np.random.default_rng(0), engine)
    game = ml.TextPreferenceGame(LONG, p, preferences, str, 6, engine=engine)
    with pytest.raises(engines.EngineError, match=said):
        game.feedback(p, rng=np.random.default_rng(0))


def test_more_tokens_than_memory_has_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match=r"may have .* tokens, more than 6\.7e\+07"):
        ml.sample(start(), LONG, 2**40, np.random.default_rng(0))
