"""Judges that are models of transformers: what they read does not depend on the batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import tiny
from mpo_llm import judges
from mpo_llm.judges import named
from mpo_llm.networks.hugging_face import TransformersNetwork
from test_llm_judges import PROMPTS, A, B, said, swapped


def classifier(folder: Path) -> Path:
    torch.manual_seed(0)
    options = {"num_hidden_layers": 2, "num_attention_heads": 2, "pad_token_id": 0}
    config = transformers.LlamaConfig(
        vocab_size=len(tiny.WORDS), hidden_size=16, intermediate_size=24, num_labels=1, **options
    )
    transformers.LlamaForSequenceClassification(config).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


def test_a_reward_model_scores_a_batch_as_single_texts(tmp_path: Path) -> None:
    """Padding, batches and their order change no score; a long exchange loses its beginning."""
    model = judges.RewardModel.load(classifier(tmp_path), batch=3)
    texts = [*A, *B]
    together = model([*PROMPTS, *PROMPTS], texts)
    alone = [model([x], [y])[0] for x, y in zip([*PROMPTS, *PROMPTS], texts, strict=True)]
    np.testing.assert_allclose(together, alone, rtol=1e-4)
    ids = model.tokenizer("<user> a b <bot> rock ", add_special_tokens=False, return_tensors="pt")
    with torch.no_grad():
        by_hand = float(model.model(**ids).logits)
    assert together[0] == pytest.approx(by_hand, rel=1e-4)
    short = judges.RewardModel.load(tmp_path, longest=2)
    assert short(["a b"], ["rock"]) == pytest.approx(short(["c d e"], ["rock"]))
    judge = named.reward_model(str(tmp_path), device="cpu")
    gaps = together[:4] - together[4:]
    np.testing.assert_allclose(said(judge), 1 / (1 + np.exp(-gaps)), rtol=1e-4)


def letters(folder: Path) -> Path:
    """A tiny language model whose tokenizer has the letters."""
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers import models as kinds

    words = {w: i for i, w in enumerate(("?", "<end>", "A", "B", *"abcd", "rock", "paper"))}
    base = Tokenizer(kinds.WordLevel(words, "?"))
    base.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=base, eos_token="<end>", unk_token="?"
    ).save_pretrained(folder)
    torch.manual_seed(1)
    config = transformers.LlamaConfig(
        vocab_size=len(words), hidden_size=16, intermediate_size=24, num_hidden_layers=1,
        num_attention_heads=2, initializer_range=1.0, eos_token_id=1,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def test_a_language_model_as_judge(tmp_path: Path) -> None:
    """Its answer follows from the next-token probabilities of A and B, computed by hand.

    Asked in both orders, it is antisymmetric.
    """
    question = "{prompt} ? {a} ? {b}"
    judge = judges.LanguageModelJudge.load(letters(tmp_path), question=question, batch=3, sense=0.0)
    ids = judge.tokenizer("a b ? rock ? paper", return_tensors="pt")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    with torch.no_grad():
        a, b = model(**ids).logits[0, -1].softmax(0)[2:4].tolist()
    assert said(judge)[0] == pytest.approx(a / (a + b), rel=1e-4)
    debiased = judges.OrderDebiased(judge)
    np.testing.assert_allclose(said(debiased) + swapped(debiased), 1.0, atol=1e-12)
    assert np.ptp(said(debiased)) > 1e-3
    strict = judges.LanguageModelJudge.load(tmp_path, question=question, sense=(a + b) * 1.01)
    assert np.isnan(said(strict)[0]), "no answer is a failure"


def test_a_judge_without_letters_is_refused() -> None:
    with pytest.raises(ValueError, match="must have A and B as tokens"):
        judges.LanguageModelJudge(TransformersNetwork(tiny.model()), tiny.tokenizer())


WIDTHS = {"hidden_size": 16, "intermediate_size": 24, "num_labels": 1}
LAYERS = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
SMALL: dict[str, Any] = {**LAYERS, **WIDTHS}


def endings() -> Any:
    """A tokenizer whose template closes a message with the end token, and without padding."""
    found = tiny.tokenizer()
    found.chat_template = (
        "{% for m in messages %}{{ '<bot>' if m['role'] == 'assistant' else '<user>' }} "
        "{{ m['content'] }} <end>{% endfor %}"
    )
    found.pad_token = None
    return found


@pytest.mark.parametrize("pad", [None, -1, 0, 1, 5], ids=str)
@pytest.mark.parametrize("kind", ["Llama", "GPT2", "Qwen2"])
def test_a_score_is_read_where_the_model_reads_a_row_alone(kind: str, pad: int | None) -> None:
    """Also if its padding is none, an impossible id, `eos` (1), or a word that occurs (5)."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=len(tiny.WORDS), pad_token_id=None if pad == -1 else pad, **SMALL
    )
    model = getattr(transformers, f"{kind}ForSequenceClassification")(config).eval()
    config.pad_token_id = pad
    tokenizer = endings()
    texts = ["rock", "a b c d", "b b b b b", ""]
    found = judges.RewardModel(model, tokenizer, batch=4)(["a"] * 4, texts)
    assert config.pad_token_id == pad, "the model is left as it was"
    for score, text in zip(found, texts, strict=True):
        exchange = [{"role": "user", "content": "a"}, {"role": "assistant", "content": text}]
        row = tokenizer.apply_chat_template(exchange, return_tensors="pt", return_dict=False)
        with torch.no_grad():
            assert score == pytest.approx(float(model(input_ids=row).logits), abs=1e-5)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("Bert", {"max_position_embeddings": 12}),
        ("Roberta", {"max_position_embeddings": 12, "pad_token_id": 1}),
        ("GPT2", {"n_positions": 12}),
        ("OPT", {"max_position_embeddings": 12, "ffn_dim": 24, "word_embed_proj_dim": 16}),
    ],
)
@pytest.mark.parametrize("template", [True, False])
def test_a_short_context_cuts_the_beginning(
    kind: str, options: dict[str, Any], template: bool
) -> None:
    """What does not fit is cut; a shorter exchange of the same end has the same score."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=len(tiny.WORDS), **{**SMALL, **options}
    )
    model = getattr(transformers, f"{kind}ForSequenceClassification")(config).eval()
    tokenizer = tiny.tokenizer()
    tokenizer.truncation_side = "left"
    if not template:
        tokenizer.chat_template = None
    reward = judges.RewardModel(model, tokenizer)
    long, longer = reward(["a b c d e f g h " * n for n in (2, 9)], ["rock paper"] * 2)
    assert np.isfinite(long)
    assert long == pytest.approx(longer, abs=1e-6)
    with pytest.raises(ValueError, match="`longest` must leave room"):
        judges.RewardModel(model, endings_without_template(), longest=0)(["a"], ["b"])


def endings_without_template() -> Any:
    found = tiny.tokenizer()
    found.chat_template = None
    return found


def test_a_model_without_a_trained_head_is_refused(tmp_path: Path) -> None:
    """Transformers would draw the head at random, and the judge would be random."""
    tiny.save(tmp_path / "causal")
    with pytest.raises(
        ValueError, match=r"not one of a LlamaForSequenceClassification: it lacks .*score.weight"
    ):
        judges.RewardModel.load(tmp_path / "causal")
    classifier(tmp_path / "reward")
    with pytest.raises(
        ValueError, match=r"not one of a LlamaForCausalLM: it lacks .*lm_head.weight"
    ):
        judges.LanguageModelJudge.load(tmp_path / "reward")


# --------------------------------------------------------------------- language models as judges

QUESTION = "{rubric} ? {prompt} ? {a} ? {b} ?"


def by_hand(model: Any, ids: list[int], letters: tuple[int, int]) -> float:
    with torch.no_grad():
        a, b = model(torch.tensor([ids])).logits[0, -1].softmax(0)[list(letters)].tolist()
    return float(a / (a + b))


@pytest.mark.parametrize("ends", [False, True])
def test_a_question_begins_as_the_model_expects(ends: bool, tmp_path: Path) -> None:
    """With `bos` where the tokenizer writes one, and never with an `eos` before the answer."""
    from tokenizers import processors

    letters(tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.bos_token = "rock"
    tokenizer._tokenizer.post_processor = processors.TemplateProcessing(
        single="rock $A <end>" if ends else "rock $A", special_tokens=[("rock", 8), ("<end>", 1)]
    )
    tokenizer.save_pretrained(tmp_path)
    judge = judges.LanguageModelJudge.load(tmp_path, question=QUESTION, rubric="d", sense=0.0)
    ids = judge.tokenizer("rock d ? a ? b ? c ?", add_special_tokens=False)["input_ids"]
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert judge(["a"], ["b"], ["c"])[0] == pytest.approx(by_hand(model, ids, (2, 3)), rel=1e-4)


def test_the_letter_is_the_token_after_the_question(tmp_path: Path) -> None:
    """A tokenizer that marks the beginnings of words has two tokens for a letter."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers import models as kinds

    words = ["?", "<end>", "\u2581A", "\u2581B", "A", "B", "\u2581", "\n", "a", "b", "c", ":"]
    base = Tokenizer(kinds.BPE({w: i for i, w in enumerate(words)}, [], unk_token="?"))
    base.pre_tokenizer = pre_tokenizers.Metaspace()
    base.decoder = decoders.Metaspace()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=base, eos_token="<end>", unk_token="?"
    )
    letters(tmp_path)
    model = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=12,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=1,
            num_attention_heads=2,
            initializer_range=1.0,
        )
    )
    network = TransformersNetwork(model)
    judge = judges.LanguageModelJudge(network, tokenizer, question="{prompt}{a}{b}:", sense=0.0)
    ids = tokenizer("abc:\n", add_special_tokens=False)["input_ids"]
    assert judge(["a"], ["b"], ["c"])[0] == pytest.approx(by_hand(model, ids, (4, 5)), rel=1e-4)


def test_a_long_question_loses_its_middle_parts(tmp_path: Path) -> None:
    """First the beginning of the prompt, then the ends of the responses; the rest is as asked."""
    letters(tmp_path)
    config = transformers.AutoConfig.from_pretrained(tmp_path)
    config.max_position_embeddings = 20
    config.save_pretrained(tmp_path)
    judge = judges.LanguageModelJudge.load(tmp_path, question=QUESTION, rubric="d", sense=0.0)
    # Of the 20 tokens the question itself takes 5. Without room for all, a quarter is the prompt's.
    for comparison, wanted in {
        ("a b c " * 9, "rock", "paper"): "d ? " + "c " + "a b c " * 4 + "? rock ? paper ?",
        ("a b c " * 9, "rock " * 30, "paper " * 30): f"d ? a b c ? {'rock ' * 6}? {'paper ' * 6}?",
        ("a", "rock " * 6, "paper " * 30): f"d ? a ? {'rock ' * 6}? {'paper ' * 8}?",
        ("a b c " * 4, "rock", "paper"): f"d ? {'a b c ' * 4}? rock ? paper ?",
    }.items():
        assert judge.tokenizer.decode(judge._fitting(*comparison)) == wanted
    config.max_position_embeddings = 5
    config.save_pretrained(tmp_path)
    judge = judges.LanguageModelJudge.load(tmp_path, question=QUESTION, rubric="d")
    with pytest.raises(judges.JudgeError, match="does not fit into its context of 5 tokens"):
        judge(["a"], ["b"], ["c"])


@pytest.mark.parametrize(
    "load", [judges.RewardModel.load, judges.Encoder.load, judges.LanguageModelJudge.load]
)
def test_models_that_are_not_to_be_had(load: Any, tmp_path: Path) -> None:
    """A folder that is missing, empty, or has no tokenizer, and a device that is missing."""
    (tmp_path / "empty").mkdir()
    for name in ("none", "empty"):
        with pytest.raises(ValueError, match=rf"^Cannot load the model '.*{name}': .+\.$"):
            load(tmp_path / name)
    tiny.save(tmp_path / "model")
    if load != judges.RewardModel.load:
        with pytest.raises(ValueError, match=r"^The device 'cpux' cannot be used"):
            load(tmp_path / "model", device="cpux")
        for file in (tmp_path / "model").glob("token*"):
            file.unlink()
        with pytest.raises(ValueError, match=r"^Cannot load the tokenizer of '.*model': .+\.$"):
            load(tmp_path / "model")


def test_a_length_without_room_is_refused(tmp_path: Path) -> None:
    encoder = judges.Encoder.load(tiny.save(tmp_path / "model"), longest=0)
    with pytest.raises(ValueError, match="`longest` must leave room for a response, got 0"):
        encoder.embed(["a"], ["b"])
