"""Chat templates: chosen by name, switched to think or not, and the answer without thoughts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import transformers
from tokenizers import models, pre_tokenizers

import mpo_llm as ml
import tiny
from mpo_llm import cli
from mpo_llm.config import PromptsConfig
from mpo_llm.prompts import Prompts, load
from mpo_llm.responses import Ids
from mpo_llm.results import chat, page
from mpo_llm.results.evaluation import evaluate_run, league
from mpo_llm.templates import MARKS, Said, Template, said
from mpo_llm.training.train import train

TURNS = (
    "{% for m in messages %}<{{ 'bot' if m['role'] == 'assistant' else 'user' }}> "
    "{{ m['content'] }} {% endfor %}{% if add_generation_prompt %}<bot>{% endif %}"
)
SWITCHED = TURNS + "{% if enable_thinking is defined and not enable_thinking %} a a{% endif %}"
"""Thinks by default, as Qwen3's template; `a a` stands for empty thoughts."""
OTHER = TURNS + "{% if thinking %} <think>{% endif %}"
"""Does not think by default, and opens the thoughts itself, as DeepSeek-V3.1's template."""
ALWAYS = TURNS + " <think>\n"
"""As R1's template."""


def thinker(template: Any, special: bool = False) -> Any:
    """The tiny tokenizer, with the marks of thoughts instead of three of its words."""
    names = {"f": "<think>", "g": "</think>"}
    words = [names.get(word, word) for word in tiny.WORDS]
    found = tokenizers.Tokenizer(models.WordLevel(dict(zip(words, range(99), strict=False)), "?"))
    found.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=found, eos_token="<end>", pad_token="<pad>", unk_token="?"
    )
    marks = ["<think>", "</think>"]
    made.add_special_tokens({"additional_special_tokens": ["<user>", "<bot>"]})
    made.add_tokens(marks, special_tokens=special)
    made.chat_template = template
    return made


def read(template: Any, folder: Path, /, **settings: Any) -> tuple[Prompts, list[str]]:
    """The prompts `a` and `b c`, also as the model reads them."""
    path = folder / "x.txt"
    path.write_text("a\nb c\n")
    tokenizer = thinker(template)
    found = load(PromptsConfig(str(path), **settings), tokenizer)
    return found, [tokenizer.decode(ids) for ids in found.ids]


# ------------------------------------------------------------------------------- which template

NAMED = {"default": TURNS, "tool": "{{ messages[0].content }} <bot>"}


def test_a_template_by_its_name(tmp_path: Path) -> None:
    """As a tokenizer saves and loads them; the default one is as transformers chooses it."""
    thinker(NAMED).save_pretrained(tmp_path / "saved")
    found = transformers.AutoTokenizer.from_pretrained(tmp_path / "saved").chat_template
    assert read(found, tmp_path)[1] == ["<user> a <bot>", "<user> b c <bot>"]
    assert read(found, tmp_path, template="default")[1] == ["<user> a <bot>", "<user> b c <bot>"]
    assert read(found, tmp_path, template="tool")[1] == ["a <bot>", "b c <bot>"]


@pytest.mark.parametrize(
    ("template", "settings", "words"),
    [
        (NAMED, {"template": "rag"}, "no chat template 'rag', only default, tool."),
        (TURNS, {"template": "rag"}, "no chat template 'rag', but only one, without a name."),
        (None, {"template": "rag"}, "`prompts.template` needs a chat template, but the tokenizer"),
        ({"x": TURNS, "y": TURNS}, {}, "set `prompts.template` to one of x, y."),
        (TURNS, {"thinking": True}, "`prompts.thinking: true`: the chat template cannot switch"),
        (ALWAYS, {"thinking": False}, "`prompts.thinking: false`: the chat template cannot"),
        (None, {"thinking": True}, "`prompts.thinking` needs a chat template, but the tokenizer"),
        (OTHER, {"thinking": True, "chat": False}, "chat template, but `prompts.chat` is false."),
    ],
)
def test_what_the_tokenizer_does_not_have_is_named(
    template: Any, settings: Any, words: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011
        read(template, tmp_path, **settings)
    assert words in str(error.value)


def test_thinking_on_and_off(tmp_path: Path) -> None:
    """Whatever the name of the switch; without the setting the template decides."""
    for template, thinking, end in (
        (SWITCHED, None, "<bot>"),
        (SWITCHED, True, "<bot>"),
        (SWITCHED, False, "<bot> a a"),
        (OTHER, None, "<bot>"),
        (OTHER, False, "<bot>"),
        (OTHER, True, "<bot> <think>"),
        (ALWAYS, None, "<bot> <think>"),
    ):
        found, texts = read(template, tmp_path, thinking=thinking)
        assert texts == [f"<user> a {end}", f"<user> b c {end}"]
        assert found.texts == ("a", "b c")
        assert found.opened == ("<think>" if end.endswith("<think>") else "")


def test_a_template_that_thinks_for_some_rows_only_is_refused(tmp_path: Path) -> None:
    some = TURNS + "{% if 'c' in messages[-1].content %} <think>{% endif %}"
    with pytest.raises(ValueError, match=r"^Row 2 of .* opens the model's thoughts"):
        read(some, tmp_path)
    assert read(some, tmp_path, limit=1)[0].opened == ""


def test_another_model_is_asked_only_for_what_it_has() -> None:
    for template, name, thinking in (
        (NAMED, "tool", None),
        (SWITCHED, None, False),
        ({"tool": SWITCHED, "default": TURNS}, "tool", False),
        (TURNS, None, None),
        (None, None, None),
    ):
        found = Template.suited(thinker(template), chat=True, name="tool", thinking=False)
        assert (found.name, found.thinking) == (name, thinking)


# -------------------------------------------------------------------------- thoughts and answers


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize(
    ("response", "opened", "expected"),
    [
        ("a b", "", Said("", "a b")),
        ("a </think> b", "", Said("", "a </think> b")),
        ("<think> a b </think> c d", "", Said("a b", "c d")),
        ("a b </think> c d", "<think>", Said("a b", "c d")),
        ("<think> a </think> c", "<think>", Said("a", "c")),
        ("</think> c", "<think>", Said("", "c")),
        ("</think> c", "", Said("", "c")),
        ("<think> a </think>", "", Said("a", "")),
        ("<think> a b", "", Said("a b", "", ended=False)),
        ("a b", "<think>", Said("a b", "", ended=False)),
        ("", "<think>", Said("", "", ended=False)),
        ("<think> a </think> b </think> <bot> c", "", Said("a", "b </think> c")),
    ],
)
def test_the_answer_follows_the_first_end_of_the_thoughts(
    response: str, opened: str, expected: Said, special: bool
) -> None:
    """Also where the marks are special tokens, which a plain answer does not have."""
    tokenizer = thinker(ALWAYS, special)
    ids = tuple(tokenizer(response, add_special_tokens=False)["input_ids"])
    found = said(tokenizer, ids, opened)
    if special:
        answer = " ".join(expected.answer.replace("</think>", "").split())
        expected = Said(expected.thoughts, answer, expected.ended)
    assert found == expected


@pytest.mark.parametrize(("begin", "end"), MARKS)
def test_marks_of_many_tokens(begin: str, end: str) -> None:
    """A token for each character; the answer keeps what stands within it."""
    letters = tokenizers.Tokenizer(models.BPE({chr(i): i for i in range(128)}, []))
    letters.decoder = tokenizers.decoders.Fuse()
    made = transformers.PreTrainedTokenizerFast(tokenizer_object=letters)
    text = f"\n{begin}Why?\n\nSo.{end}\n\n An answer: 1 < 2, {begin}2"
    ids = tuple(made(text)["input_ids"])
    assert made.decode(ids) == text
    if len(begin) > 16:  # such a mark is made of special tokens
        made.add_special_tokens({"additional_special_tokens": [begin]})
        ids = tuple(made(text)["input_ids"])
        text = text.removesuffix(f"{begin}2") + "2"
    assert said(made, ids) == Said("Why?\n\nSo.", text.partition(end)[2].lstrip())


# --------------------------------------------------------------------------------- a whole run


def run(folder: Path, template: Any, /, **prompts: Any) -> tuple[Any, list[str]]:
    """A run whose engine draws what `SAYS` has, and the texts that its judge reads."""
    seen: list[str] = []

    def judge(prompts: Any, a: Any, b: Any) -> Any:
        seen.extend([*a, *b])
        return [0.5] * len(prompts)

    def engine(
        policy: ml.TokenPolicy, prompts: Sequence[Ids], count: int, rng: np.random.Generator
    ) -> ml.Drawn:
        words = thinker(None)
        rows = [
            (*words(SAYS[i % len(SAYS)])["input_ids"], 1)[: policy.decoding.max_tokens]
            for _ in prompts
            for i in range(count)
        ]
        found = ml.Responses.of_ids(
            prompts, np.repeat(np.arange(len(prompts)), count).tolist(), rows
        )
        return ml.Drawn(found, policy.log_probs(found))

    tiny.judges["reading"], tiny.engines["thinking"] = judge, lambda config: engine
    held_out = folder / "held_out.jsonl"
    held_out.write_text('{"prompt": "d"}\n{"prompt": "e"}\n')
    tiny.save(folder / "model")
    thinker(template).save_pretrained(folder / "model")
    tiny.prompts(folder)
    config = tiny.config(
        folder,
        prompts=prompts,
        generation={"engine": "tiny:engine", "options": {"name": "thinking"}, "max_tokens": 8},
        judge={"options": {"name": "reading"}},
        budget={"steps": 1},
        evaluation={"source": str(held_out), "every": 1},
        output={"table_every": 1},
    )
    return config, seen


SAYS = ("<think> rock </think> a", "<think> b c </think> d e", "<think> h h h h h h h h", "a b")
ANSWERS = {"a", "d e", "", "a b"}


def test_judges_and_readers_get_the_answer_without_the_thoughts(tmp_path: Path) -> None:
    """In training, its evaluation, `evaluate`, `league`, the page and chat; samples keep both."""
    config, seen = run(tmp_path, SWITCHED, thinking=True)
    train(config)
    folder = str(config.output.folder)
    assert set(seen) == ANSWERS
    rows = (tmp_path / "run" / "samples.jsonl").read_text().splitlines()
    for entry in map(json.loads, rows):
        found = {(r["text"], r.get("thoughts")) for r in entry["responses"]}
        assert found == {("a", "rock"), ("d e", "b c"), ("", "h h h h h h h"), ("a b", None)}
    seen.clear()
    evaluate_run(folder)
    league(folder)
    assert set(seen) == ANSWERS
    assert {answer for row in page.sample_answers(folder) for answer in row[1:]} <= ANSWERS


def test_a_template_that_always_thinks(tmp_path: Path) -> None:
    """What ends before the thoughts do has no answer."""
    config, seen = run(tmp_path, ALWAYS)
    train(config)
    # `a b` never leaves the thoughts that the prompt has opened.
    assert set(seen) == {"a", "d e", ""}
    seen.clear()
    evaluate_run(str(config.output.folder))
    assert set(seen) == {"a", "d e", ""}


def test_a_league_reads_each_run_by_the_template_of_its_training(tmp_path: Path) -> None:
    """And another model by its own, without a switch that it does not have."""
    asked: set[tuple[str, ...]] = set()
    config, _ = run(tmp_path, OTHER, thinking=True)
    engine = tiny.engines["thinking"](config)

    def watching(policy: Any, prompts: Sequence[Ids], count: int, rng: Any) -> Any:
        asked.add(tuple(thinker(None).decode(ids) for ids in prompts))
        return engine(policy, prompts, count, rng)

    tiny.engines["thinking"] = lambda config: watching
    train(config)
    other, _ = run(tmp_path, OTHER)
    tiny.engines["thinking"] = lambda config: watching
    train(replace(other, output=replace(other.output, folder=tmp_path / "other")))
    tiny.save(tmp_path / "plain")
    thinker(TURNS).save_pretrained(tmp_path / "plain")
    thoughts, plain = (tuple(f"<user> {x} <bot>{end}" for x in "de") for end in (" <think>", ""))
    for against, expected in (
        ("start", {thoughts}),
        (str(tmp_path / "other"), {thoughts, plain}),
        (str(tmp_path / "plain"), {thoughts, plain}),
    ):
        asked.clear()
        evaluate_run(str(config.output.folder), [against])
        assert asked == expected


def test_a_chat_with_a_run_reads_as_its_training_did(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same template, switch and system message; thoughts are neither shown nor remembered."""
    config, _ = run(tmp_path, {"x": ALWAYS, "default": TURNS}, template="x", system="h")
    train(config)
    asked: list[str] = []
    said = iter(["b </think> c", "d d", "<think> e </think> a"])

    def engine(policy: Any, prompts: Sequence[Ids], count: int, rng: Any) -> Any:
        words = thinker(None)
        asked.extend(words.decode(ids) for ids in prompts)
        found = ml.Responses.of_ids(prompts, [0], [(*words(next(said))["input_ids"], 1)])
        return ml.Drawn(found, policy.log_probs(found))

    tiny.engines["thinking"] = lambda config: engine
    folder = str(config.output.folder)
    assert chat.settings(folder) == config.prompts
    assert chat.settings(str(tmp_path / "model")) == PromptsConfig()
    monkeypatch.setattr(cli, "_lines", lambda _: iter(["a", "b", "c"]))
    assert cli.main(["chat", folder, "--max-tokens", "9"]) == 0
    assert capsys.readouterr().out == "c\n[2 tokens of thoughts, and no answer]\na\n"
    assert asked == [
        "<user> h <user> a <bot> <think>",
        "<user> h <user> a <bot> c <user> b <bot> <think>",
        "<user> h <user> a <bot> c <user> b <bot> <user> c <bot> <think>",
    ]


def test_a_run_is_resumed_only_with_the_same_template_and_switch(tmp_path: Path) -> None:
    config, _ = run(tmp_path, {"x": SWITCHED, "default": SWITCHED}, thinking=True)
    train(config)
    for setting, value in (("thinking", None), ("thinking", False), ("template", "x")):
        more = {"thinking": True, setting: value}
        other, _ = run(tmp_path, {"x": SWITCHED, "default": SWITCHED}, **more)
        with pytest.raises(ValueError, match=rf"begun with another `prompts\.{setting}`"):
            train(other, resume=True)
    # The same name, but another text.
    changed, _ = run(tmp_path, {"x": SWITCHED, "default": SWITCHED + " "}, thinking=True)
    with pytest.raises(ValueError, match="other contents of the chat template"):
        train(changed, resume=True)
