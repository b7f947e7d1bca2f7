"""Where a response ends: with several end tokens, in drawing, in scoring and in what judges see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
import transformers
from tokenizers import models, pre_tokenizers, processors

import mpo_llm as ml
import tiny
from mpo_llm.config import Config, GenerationConfig, ModelConfig
from mpo_llm.prompts import encode
from mpo_llm.results import chat
from mpo_llm.results.export import export
from mpo_llm.training import assemble
from mpo_llm.training.train import Run, train


def policy(decoding: ml.Decoding) -> ml.TokenPolicy:
    torch.manual_seed(1)
    network = ml.PlainNetwork(ml.SmallTransformer(vocabulary=7, context=8))
    return ml.TokenPolicy.of(network, decoding)


ENDINGS = [
    ml.Decoding(3, (1, 3), vocabulary=5),
    ml.Decoding(3, (3, 1, 4), vocabulary=6, unused=(0, 2)),
    ml.Decoding(3, 2, vocabulary=6, unused=(0, 5)),
    ml.Decoding(2, None, vocabulary=6, unused=(1,)),
]


@pytest.mark.parametrize("decoding", ENDINGS)
def test_all_responses_have_all_the_probability(decoding: ml.Decoding) -> None:
    """Of a distribution over the ids that are used, in which each end is an outcome of its own."""
    listed = ml.all_responses(decoding)
    assert len(set(listed)) == len(listed)
    p = policy(decoding)
    whole = p.log_probs(ml.Responses.of_ids([(6,)], [0] * len(listed), listed)).sum(axis=1)
    assert np.exp(whole).sum() == pytest.approx(1.0, abs=1e-5)
    for ids in listed:
        assert not set(ids) & set(decoding.unused)
        assert not set(ids[:-1]) & set(decoding.ends)


@pytest.mark.parametrize("decoding", ENDINGS)
def test_what_is_drawn_is_what_is_scored(decoding: ml.Decoding) -> None:
    """A response stops at its first end, whichever it is, and holds it; the frequencies agree."""
    p = policy(decoding)
    drawn = ml.Autoregressive()(p, [(6,)], 4000, np.random.default_rng(0))
    np.testing.assert_allclose(p.log_probs(drawn.responses), drawn.log_probs, atol=1e-5)
    rows = [drawn.responses.ids(i) for i in range(4000)]
    listed = ml.all_responses(decoding)
    counts = np.array([rows.count(ids) for ids in listed])
    assert counts.sum() == 4000
    whole = p.log_probs(ml.Responses.of_ids([(6,)], [0] * len(listed), listed)).sum(axis=1)
    expected = 4000 * np.exp(whole)
    assert np.all(np.abs(counts - expected) < 5.0 * np.sqrt(expected) + 1.0)


def test_kl_counts_only_ids_that_are_used() -> None:
    """By hand, from the logits."""
    decoding = ml.Decoding(1, (1, 3), vocabulary=6, unused=(0, 2))
    p = policy(decoding)
    q = p.averaged(ml.TokenPolicy.of(p.network, decoding), 0.0)
    shifted = {n: w + 0.1 * torch.randn_like(w) for n, w in p.weights.items()}
    q = ml.TokenPolicy(p.network, decoding, ((1.0, shifted),))
    listed = ((1,), (3,), (4,), (5,))
    rows = ml.Responses.of_ids([(6,)], [0] * 4, listed)
    one, other = (x.log_probs(rows)[:, 0] for x in (p, q))
    expected = np.sum(np.exp(one) * (one - other))
    np.testing.assert_allclose(p.kl(q, rows)[:, 0], expected, atol=1e-6)


def test_responses_that_hold_unused_ids_are_refused() -> None:
    p = policy(ENDINGS[1])
    with pytest.raises(ValueError, match="for which the tokenizer has no token"):
        p.log_probs(ml.Responses.of_ids([(6,)], [0], [(2, 1)]))


def test_content_is_all_but_the_end() -> None:
    decoding = ml.Decoding(3, [7, 5, 7])  # type: ignore[arg-type]  # a list, as files have it
    assert decoding.eos == decoding.ends == (7, 5)
    assert decoding == ml.Decoding(3, (7, 5))
    cases = {(1, 5): (1,), (1, 7): (1,), (1, 2, 3): (1, 2, 3), (5,): ()}
    assert {ids: decoding.content(ids) for ids in cases} == cases
    assert ml.Decoding(3, [4]).eos == 4  # type: ignore[arg-type]
    assert ml.Decoding(3).ends == ()
    assert ml.Decoding(3).content((1, 5)) == (1, 5)


@pytest.mark.parametrize(
    ("end", "said"),
    [
        ("</s>", "must be the id of a token, or several ids, got '</s>'"),
        (["</s>"], "got '</s>'"),
        (True, "got True"),
        (1.0, "got 1.0"),
        ((1, 9), "an id that can be produced, got 9"),
        (-1, "an id that can be produced, got -1"),
        ((1, 2), "an id that can be produced, got 2"),
    ],
)
def test_what_is_no_end(end: Any, said: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011
        ml.Decoding(3, end, vocabulary=9, unused=(2,))
    assert said in str(error.value)


# ------------------------------------------------------------------------------ models of a folder


def folder(path: Path, ends: Any = None, tokenizer: Any = None, **options: Any) -> str:
    """A model's folder whose `generation_config` names `ends`."""
    model = tiny.model(**options)
    # As a file that somebody wrote; the configuration's own end is that of the model's class.
    model.generation_config = transformers.GenerationConfig(eos_token_id=ends)
    model.config.eos_token_id = None if ends is None else 2
    model.save_pretrained(path)
    (tiny.tokenizer() if tokenizer is None else tokenizer).save_pretrained(path)
    return str(path)


@pytest.mark.parametrize(
    ("said", "end", "ends"),
    [
        (1, None, (1,)),
        ([3, 1], None, (1, 3)),
        ([6, 3], None, (1, 6, 3)),
        (6, None, (1, 6)),
        ([1, 99], None, (1,)),
        ([3, 1], "rock", (12,)),
        ([3, 1], ("rock", "a"), (12, 4)),
    ],
)
def test_the_ends_of_a_model(said: Any, end: Any, ends: tuple[int, ...], tmp_path: Path) -> None:
    """The tokenizer's first, then those of the model; a setting replaces them all."""
    name = folder(tmp_path / "model", said)
    config = Config(ModelConfig(name), generation=GenerationConfig(end=end))
    found, _ = assemble.start(config)
    assert found.decoding.ends == ends


def test_an_end_that_only_a_class_names(tmp_path: Path) -> None:
    """`LlamaConfig` ends by the id 2 if nobody says anything else; a list was said by somebody."""
    name = folder(tmp_path / "model", 5)
    (tmp_path / "model" / "generation_config.json").unlink()
    assert assemble.start(Config(ModelConfig(name)))[0].decoding.ends == (1,)
    file = tmp_path / "model" / "config.json"
    file.write_text(file.read_text().replace('"eos_token_id": 2', '"eos_token_id": [2, 1]'))
    assert assemble.start(Config(ModelConfig(name)))[0].decoding.ends == (1, 2)


def test_a_tokenizer_without_an_end(tmp_path: Path) -> None:
    """The model's own serves; without either, a setting is asked for."""
    words = tiny.tokenizer()
    words.eos_token = None
    found, _ = assemble.start(Config(ModelConfig(folder(tmp_path / "a", [3], words))))
    assert found.decoding.ends == (3,)
    name = folder(tmp_path / "b", None, words)
    with pytest.raises(ValueError, match=r"name the token .* by `generation\.end`"):
        assemble.start(Config(ModelConfig(name)))
    found, _ = assemble.start(Config(ModelConfig(name), generation=GenerationConfig(end="rock")))
    assert found.decoding.ends == (12,)


@pytest.mark.parametrize("end", ["rock", ("rock", "<end>", "<bot>")])
def test_no_judge_and_no_reader_sees_the_end(end: Any, tmp_path: Path) -> None:
    """Not even an end that is an ordinary word of the tokenizer."""
    seen: list[str] = []

    def judge(prompts: Any, a: Any, b: Any) -> Any:
        seen.extend([*a, *b])
        return [0.5] * len(prompts)

    tiny.judges["watching"] = judge
    listed = {"generation": {"end": end if isinstance(end, str) else list(end)}}
    config = tiny.config(tmp_path, judge={"options": {"name": "watching"}}, **listed)
    run = Run.of(config)
    run.subject.game.feedback(run.subject.game.start, rng=np.random.default_rng(0))
    assert seen
    assert not any("rock" in text.split() for text in seen)
    policy, tokenizer, _ = chat.load(config.model.name, 5, 1.0)
    policy = assemble.policy(config, policy.network, tokenizer)  # type: ignore[arg-type]
    lines = ["a b"] * 12
    answers = list(chat.converse(policy, tokenizer, lines[:2], np.random.default_rng(0), None))
    assert not any("rock" in text.split() for text in answers)


def test_an_export_ends_where_the_policy_does(tmp_path: Path) -> None:
    ended = tiny.config(tmp_path, generation={"end": ["rock", "a"]}, budget={"steps": 1})
    train(ended)
    export(ended.output.folder, tmp_path / "out")
    found = transformers.GenerationConfig.from_pretrained(tmp_path / "out")
    assert found.eos_token_id == [12, 4]


# -------------------------------------------------------------------------- tokenizers of all kinds


def ending(template: str | None, **options: Any) -> Any:
    """A tokenizer of words with a post-processor, as many models have it."""
    words = ("<s>", "</s>", "<unk>", "a", "b")
    inner = tokenizers.Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, "<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if template:
        inner.post_processor = processors.TemplateProcessing(
            single=template, special_tokens=[("<s>", 0), ("</s>", 1)]
        )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        **options,
    )


@pytest.mark.parametrize(
    ("template", "text", "ids"),
    [
        ("$A </s>", "a b", (3, 4)),
        ("<s> $A </s>", "a b", (0, 3, 4)),
        ("<s> $A </s> </s>", "a b", (0, 3, 4)),
        ("<s> $A", "a b", (0, 3, 4)),
        (None, "a b", (3, 4)),
        ("<s> $A", "<s> a", (0, 3)),
        ("<s> $A </s>", "<s> a", (0, 3)),
        # What the text says stays.
        ("<s> $A", "a </s>", (0, 3, 1)),
        ("<s> $A </s>", "a </s>", (0, 3, 1)),
        ("<s> $A", "<s> <s> a", (0, 0, 3)),
    ],
)
def test_a_prompt_does_not_end_and_begins_once(
    template: str | None, text: str, ids: tuple[int, ...]
) -> None:
    assert encode(ending(template), [{"role": "user", "content": text}], chat=False) == ids


@pytest.mark.parametrize("template", ["$A </s>", "<s> $A </s>", "<s> $A", None])
def test_a_chat_template_has_the_special_tokens_to_itself(template: str | None) -> None:
    words = ending(template)
    words.chat_template = "{{ bos_token }}{% for m in messages %} {{ m.content }} {% endfor %}"
    assert encode(words, [{"role": "user", "content": "a b"}], chat=True) == (0, 3, 4)


@pytest.mark.parametrize("pad", [None, "</s>", "<unk>"])
def test_the_padding_token_does_not_matter(pad: str | None, tmp_path: Path) -> None:
    """Missing, or the same as the end: lengths tell where a row ends."""
    words = tiny.tokenizer()
    words.pad_token = {None: None, "</s>": "<end>", "<unk>": "?"}[pad]
    name = folder(tmp_path / "model", 1, words)
    found, _ = assemble.start(Config(ModelConfig(name)))
    plain, _ = assemble.start(Config(ModelConfig(folder(tmp_path / "plain", 1))))
    rows = ml.Responses.of_ids([(2, 4), (5,)], [0, 1], [(4, 1), (5, 6, 1)])
    np.testing.assert_array_equal(found.log_probs(rows), plain.log_probs(rows))


def test_ids_without_a_token_are_never_drawn(tmp_path: Path) -> None:
    """Those beyond the tokenizer's, and a gap between them; a token behind the gap can be drawn."""
    words = tokenizers.Tokenizer(models.WordLevel({"<end>": 0, "a": 1, "?": 2, "b": 5}, "?"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    gap = transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token="<end>", unk_token="?"
    )
    assert len(gap) == 4
    config = Config(ModelConfig(folder(tmp_path / "model", 0, gap)), generation=GenerationConfig(4))
    found, _ = assemble.start(config)
    assert found.decoding.vocabulary == 6
    assert found.decoding.unused == (3, 4)
    drawn = ml.Autoregressive()(found, [(1,)], 500, np.random.default_rng(0))
    assert set(drawn.responses.tokens[drawn.responses.mask]) == {0, 1, 2, 5}
    np.testing.assert_allclose(found.log_probs(drawn.responses), drawn.log_probs, atol=1e-5)


def test_tokens_beyond_the_embedding_are_named(tmp_path: Path) -> None:
    """As an end, or in a prompt; one that is not used does no harm."""
    words = tiny.tokenizer()
    words.add_tokens(["<new>"])
    name = folder(tmp_path / "model", 1, words)
    assert assemble.start(Config(ModelConfig(name)))[0].decoding.ends == (1,)
    end = GenerationConfig(end="<new>")
    with pytest.raises(ValueError, match="would end with '<new>', but its id 16 is beyond"):
        assemble.start(Config(ModelConfig(name), generation=end))
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "a"}\n{"prompt": "a <new>"}\n')
    with pytest.raises(ValueError, match=r"Row 2 of .* '<new>', whose id 16 is beyond"):
        Run.of(tiny.config(tmp_path))
    policy, tokenizer, engine = chat.load(name, 5, 1.0)
    with pytest.raises(ValueError, match="'<new>', whose id 16 is beyond"):
        list(chat.converse(policy, tokenizer, ["<new>"], np.random.default_rng(0), None, engine))
