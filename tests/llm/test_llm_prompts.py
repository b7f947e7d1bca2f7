"""Files of prompts: what is read, and what is refused with which words."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

import mpo_llm as ml
import tiny
from mpo_llm.config import PromptsConfig
from mpo_llm.prompts import Prompts, load
from mpo_llm.responses import Ids
from mpo_llm.training.train import train

MESSAGES: list[dict[str, str]] = [
    {"role": "user", "content": "a b"},
    {"role": "assistant", "content": "c"},
    {"role": "user", "content": "d"},
]


def read(source: Path, **settings: Any) -> Prompts:
    return load(PromptsConfig(str(source), **settings), tiny.tokenizer())


def written(folder: Path, kind: str) -> Path:
    """The same two prompts in every format."""
    rows = [{"prompt": "a b"}, {"prompt": "c"}]
    path = folder / f"prompts.{kind}"
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif kind == "csv":
        path.write_text("id,prompt\n1,a b\n2,c\n")
    elif kind == "parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif kind == "dataset":
        datasets.Dataset.from_list(rows).save_to_disk(path)
    else:
        splits = {"train": datasets.Dataset.from_list(rows)}
        datasets.DatasetDict(splits).save_to_disk(path)
    return path


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet", "dataset", "splits"])
def test_every_format_holds_the_same(kind: str, tmp_path: Path) -> None:
    tokenizer = tiny.tokenizer()
    found = read(written(tmp_path, kind))
    assert found.texts == ("a b", "c")
    assert [tokenizer.decode(ids) for ids in found.ids] == ["<user> a b <bot>", "<user> c <bot>"]
    assert len(read(written(tmp_path, kind), limit=1)) == 1


def test_a_response_of_the_same_tokens_as_a_prompt_is_shown_as_what_it_says(
    tmp_path: Path,
) -> None:
    """A prompt is shown as the user wrote it, without the system message."""

    def engine(
        policy: ml.TokenPolicy, prompts: Sequence[Ids], count: int, rng: np.random.Generator
    ) -> ml.Drawn:
        rows = [ids for prompt in prompts for ids in (prompt, (5, 1))]
        found = ml.Responses.of_ids(prompts, np.repeat(np.arange(len(prompts)), 2).tolist(), rows)
        return ml.Drawn(found, policy.log_probs(found))

    def judge(prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> list[float]:
        seen.update((x, text) for texts in (a, b) for x, text in zip(prompts, texts, strict=True))
        return [0.5] * len(prompts)

    seen: set[tuple[str, str]] = set()
    tiny.judges["seeing"], tiny.engines["echo"] = judge, lambda config: engine
    config = tiny.config(
        tmp_path,
        prompts={"system": "h", "limit": 1},
        judge={"options": {"name": "seeing"}},
        generation={"engine": "tiny:engine", "options": {"name": "echo"}},
        solver={"samples": 2, "prompts": 1},
        budget={"steps": 1},
        output={"table_every": 1},
    )
    train(config)
    assert seen == {("a", "h a"), ("a", "b")}
    (line,) = (tmp_path / "run" / "samples.jsonl").read_text().splitlines()
    entry = json.loads(line)
    assert entry["prompt"] == "a"
    assert {response["text"] for response in entry["responses"]} == {"h a", "b"}


def test_conversations_go_through_the_template(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"messages": MESSAGES}))
    tokenizer = tiny.tokenizer()
    found = read(path, column="messages", system="e")
    assert tokenizer.decode(found.ids[0]) == "<user> e <user> a b <bot> c <user> d <bot>"
    assert found.texts == ("user: a b\n\nassistant: c\n\nuser: d",)
    plain = read(path, column="messages", chat=False)
    assert tokenizer.decode(plain.ids[0]) == "a b c d"


ANSWER = {"role": "assistant", "content": "h"}

SHARED = [
    {"from": "human", "value": "a b"},
    {"from": "gpt", "value": "c"},
    {"from": "human", "value": "d"},
    {"from": "gpt", "value": "h"},
]


@pytest.mark.parametrize(
    "cell",
    [
        MESSAGES,
        [*MESSAGES, ANSWER],
        [*MESSAGES, ANSWER, {"role": "assistant", "content": ""}],
        SHARED,
        SHARED[:3],
        [{"role": m["from"], "content": m["value"]} for m in SHARED],
        json.dumps(SHARED),
        json.dumps([*MESSAGES, ANSWER], indent=2),
        {part: [m[part] for m in SHARED] for part in ("from", "value")},
    ],
)
def test_the_last_message_of_the_user_is_answered(cell: Any, tmp_path: Path) -> None:
    """Whatever the form, model and judge read the same conversation, without a final answer."""
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"chosen": cell}))
    found = read(path, column="chosen")
    assert tiny.tokenizer().decode(found.ids[0]) == "<user> a b <bot> c <user> d <bot>"
    assert found.texts == ("user: a b\n\nassistant: c\n\nuser: d",)


def test_conversations_in_cells_of_csv(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerows([["messages"], [json.dumps([*MESSAGES, ANSWER])], ["[a] plain {text}"]])
    found = read(path, column="messages")
    assert found.texts == ("user: a b\n\nassistant: c\n\nuser: d", "[a] plain {text}")


def test_a_conversation_has_a_system_message_of_its_own(tmp_path: Path) -> None:
    """It is part of what the judge reads; the run's is not."""
    path = tmp_path / "a.jsonl"
    cell = [{"from": "system", "value": "g"}, *SHARED[2:]]
    path.write_text(json.dumps({"conversations": cell}))
    found = read(path, column="conversations", system="e")
    assert tiny.tokenizer().decode(found.ids[0]) == "<user> e <user> g <user> d <bot>"
    assert found.texts == ("system: g\n\nuser: d",)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            '{"prompt": "a"}\n{"prompt": \n',
            "Row 2 of",
        ),
        ('{"prompt": "a"}\n[1]\n', "Row 2 of"),
        ('{"prompt": "a"}\n{"promt": "b"}\n', "no column 'prompt'"),
        ('{"promt": "b"}', "did you mean 'promt'?"),
        ('{"x": "b", "y": 1}', "there are x, y."),
        ('{"prompt_id": 1, "messages": []}', "did you mean 'messages'?"),
        ('{"conversations": [], "id": 1}', "did you mean 'conversations'?"),
        ('{"question": "a", "messages": []}', "there are question, messages."),
        ('{"prompt": "a"}\n{"prompt": 3}\n', "Row 2 of"),
        ('{"prompt": "a"}\n{"prompt": null}\n', "must hold a text or a list of messages, got None"),
        ('{"prompt": []}', "must hold a text or a list of messages, got []"),
        ('{"prompt": " "}', "holds an empty message"),
        ('{"prompt": [{"role": "user"}]}', "a message needs the texts `role` and `content`"),
        (
            '{"prompt": [{"role": "assistant", "content": "a"}]}',
            "ends with a message of the assistant",
        ),
        (
            '{"prompt": [{"from": "system", "value": "a"}, {"from": "gpt", "value": "b"}]}',
            "there is nothing to answer",
        ),
        (
            '{"prompt": [{"from": "human", "value": "a"}, {"from": "observation", "value": "b"}]}',
            "a message is from 'observation', but only messages from human, user, gpt",
        ),
        ('{"prompt": [{"from": "human"}]}', "a message needs the texts"),
        (
            '{"prompt": [{"role": "user", "content": "a"},'
            ' {"role": "assistant", "content": "b", "tool_calls": [{}]}]}',
            "a message has `tool_calls`",
        ),
        (
            '{"prompt": [{"role": "user", "content": " "}, {"role": "assistant", "content": "b"}]}',
            "holds an empty message",
        ),
        (
            """{"prompt": "[{'role': 'user', 'content': 'a'}]"}""",
            "begins like a list of messages but is not JSON",
        ),
        ('{"prompt": "[{\\"role\\": \\"user\\""}', "Write it by `json.dumps`"),
        ('{"prompt": "' + "a " * 99 + '"}', "has 101 tokens, but `prompts.max_tokens` is 50"),
        ("", "holds no prompts"),
    ],
)
def test_bad_rows_are_named(rows: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(rows)
    with pytest.raises(ValueError) as error:  # noqa: PT011
        read(path, max_tokens=50)
    assert said in str(error.value)
    assert str(path) in str(error.value)


def test_sources_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="There is no file"):
        read(tmp_path / "none.csv")
    with pytest.raises(ValueError, match="Cannot load the data set"):
        read(tmp_path / "none")
    with pytest.raises(ValueError, match=r"set `prompts\.source`"):
        load(PromptsConfig(), tiny.tokenizer())
    (tmp_path / "bad.parquet").write_text("nothing")
    with pytest.raises(ValueError, match="is not a Parquet file"):
        read(tmp_path / "bad.parquet")
