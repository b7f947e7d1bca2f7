"""Prompts from data sets: subsets, splits and versions, and what is said of wrong ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

import tiny
from mpo_llm.config import Config, EvaluationConfig, PromptsConfig
from mpo_llm.prompts import Prompts, load, records
from mpo_llm.results.evaluation import evaluate_run
from mpo_llm.training.train import Run, train

TALK = [
    {"role": "user", "content": "a b"},
    {"role": "assistant", "content": "c"},
    {"role": "user", "content": "d"},
]


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No network, and no cache but the test's own."""
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def read(source: Path | str, **settings: Any) -> Prompts:
    return load(PromptsConfig(str(source), **settings), tiny.tokenizer())


def refusal(source: Path | str, **settings: Any) -> str:
    """The sentence with which a source is refused."""
    with pytest.raises(ValueError) as error:  # noqa: PT011
        read(source, **settings)
    assert "\n" not in str(error.value)
    return str(error.value)


SUBSETS = {"main": {"train": "a", "test": "b"}, "other": {"train": "c"}}


def published(folder: Path, default: bool = False) -> Path:
    """A data set as the hub holds it: two subsets in files, and a page that lists them."""
    page = ["---", "configs:"]
    for subset, splits in SUBSETS.items():
        (folder / subset).mkdir(parents=True)
        page += [f"- config_name: {subset}", "  data_files:"]
        for split, text in splits.items():
            (folder / subset / f"{split}.jsonl").write_text(json.dumps({"prompt": text}))
            page.append(f"  - {{split: {split}, path: {subset}/{split}.jsonl}}")
    page += ["  default: true"] if default else []
    (folder / "README.md").write_text("\n".join([*page, "---", ""]))
    return folder


def saved(folder: Path) -> Path:
    """The same as `save_to_disk` writes it, a folder for each subset."""
    for subset, splits in SUBSETS.items():
        found = {s: datasets.Dataset.from_list([{"prompt": t}]) for s, t in splits.items()}
        datasets.DatasetDict(found).save_to_disk(folder / subset)
    return folder


@pytest.mark.parametrize("made", [published, saved])
def test_subsets_and_splits(made: Any, tmp_path: Path) -> None:
    folder = made(tmp_path / "data")
    for subset, splits in SUBSETS.items():
        for split, text in splits.items():
            assert read(folder, subset=subset, split=split).texts == (text,)
    said = refusal(folder, subset="main", split="tset")
    assert said.startswith(f"Cannot load the data set {str(folder)!r}: ")
    assert said.endswith("it has no split 'tset' (`split`), but train, test. Did you mean 'test'?")
    assert "it has no split 'test' (`split`), but train." in refusal(
        folder, subset="other", split="test"
    )


def test_a_subset_that_is_missing_or_wrong(tmp_path: Path) -> None:
    folder = published(tmp_path / "data")
    assert "set `subset` to one of its subsets: main, other." in refusal(folder)
    assert "it has no subset 'mian' (`subset`), but main, other. Did you mean 'main'?" in refusal(
        folder, subset="mian"
    )
    assert read(published(tmp_path / "default", default=True)).texts == ("c",)


def test_parts_of_splits(tmp_path: Path) -> None:
    folder = published(tmp_path / "data")
    assert read(folder, subset="main", split="train[:1]+test").texts == ("a", "b")
    assert "no split 'tset'" in refusal(folder, subset="main", split="train[:1]+tset[:50%]")


def test_a_data_set_that_was_saved_as_a_whole_has_no_subsets(tmp_path: Path) -> None:
    one = datasets.Dataset.from_list([{"prompt": "a"}])
    one.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": one}).save_to_disk(tmp_path / "splits")
    for name in ("one", "splits"):
        assert read(tmp_path / name).texts == ("a",)
        assert "it has no subset 'main'" in refusal(tmp_path / name, subset="main")


def test_a_name_is_looked_up_on_the_hub_with_all_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    def hub(path: str, name: str | None = None, **options: Any) -> Any:
        asked.append((path, name, options))
        return datasets.Dataset.from_list([{"question": "a"}])

    monkeypatch.setattr(datasets, "load_dataset", hub)
    assert read("org/name", column="question").texts == ("a",)
    more = {"subset": "main", "split": "test", "revision": "v1"}
    assert read("org/name", column="question", **more).texts == ("a",)
    assert asked == [
        ("org/name", None, {"split": "train", "revision": None}),
        ("org/name", "main", {"split": "test", "revision": "v1"}),
    ]


def test_without_a_network_the_first_error_is_told() -> None:
    said = refusal("nobody/nothing", subset="main")
    assert said.startswith("Cannot load the data set 'nobody/nothing': ")
    assert "subset" not in said


@pytest.mark.parametrize("form", ["numpy", "arrow", "pandas"])
def test_the_format_in_which_a_data_set_was_saved_makes_no_difference(
    form: str, tmp_path: Path
) -> None:
    found = datasets.Dataset.from_list([{"prompt": TALK}, {"prompt": TALK[:1]}])
    found.with_format(form).save_to_disk(tmp_path / "data")
    assert read(tmp_path / "data").texts == (
        "user: a b\n\nassistant: c\n\nuser: d",
        "a b",
    )


def test_held_out_prompts_of_the_same_data_set_come_from_their_own_split(tmp_path: Path) -> None:
    """Of another source they have no subset, and the split of the training prompts."""
    folder = published(tmp_path / "data")
    prompts = {"source": str(folder), "subset": "main"}
    config = tiny.config(
        tmp_path,
        prompts=prompts,
        solver={"prompts": 1},
        budget={"steps": 1},
        evaluation={"source": str(folder), "split": "test"},
    )
    run = Run.of(config)
    assert run.subject.held_out is not None
    assert [run.subject.game.decode(ids) for ids in run.subject.game.prompts] == ["a"]
    assert [run.subject.held_out.decode(ids) for ids in run.subject.held_out.prompts] == ["b"]
    train(config)
    assert evaluate_run(str(config.output.folder)).prompts == 1
    other = Config(
        prompts=PromptsConfig("org/name", "main", subset="x", revision="v1"),
        evaluation=EvaluationConfig("org/other", subset="y"),
    ).held_out
    assert (other.source, other.split, other.subset, other.revision) == (
        "org/other",
        "main",
        "y",
        None,
    )


# ------------------------------------------------------------------------------ nested columns


def tables() -> dict[str, pyarrow.Array]:
    """The same conversation as columns of Parquet of different types."""
    message = pyarrow.struct([("role", pyarrow.string()), ("content", pyarrow.string())])
    more = pyarrow.struct(
        [
            ("content", pyarrow.large_string()),
            ("role", pyarrow.dictionary(pyarrow.int8(), pyarrow.string())),
            ("tool_calls", pyarrow.list_(pyarrow.struct([("name", pyarrow.string())]))),
            ("weight", pyarrow.float64()),
        ]
    )
    spoken = {"user": "human", "assistant": "gpt"}
    shared = [{"from": spoken[m["role"]], "value": m["content"]} for m in TALK]
    pairs = pyarrow.map_(pyarrow.string(), pyarrow.string())
    return {
        "structs": pyarrow.array([TALK], pyarrow.list_(message)),
        "large lists": pyarrow.array([TALK], pyarrow.large_list(more)),
        "fixed lists": pyarrow.array([TALK], pyarrow.list_(message, 3)),
        "ShareGPT": pyarrow.array([shared]),
        "maps": pyarrow.array([[list(m.items()) for m in TALK]], pyarrow.list_(pairs)),
        "a list of each part": pyarrow.array(
            [{part: [m[part] for m in TALK] for part in ("role", "content")}]
        ),
        "JSON": pyarrow.array([json.dumps(TALK)]),
        "JSON of ShareGPT": pyarrow.array([json.dumps(shared, indent=1)], pyarrow.large_string()),
    }


@pytest.mark.parametrize("kind", tables())
def test_nested_messages_in_parquet(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    parquet.write_table(pyarrow.table({"messages": tables()[kind]}), path)
    found = read(path, column="messages")
    assert found.texts == ("user: a b\n\nassistant: c\n\nuser: d",)
    assert tiny.tokenizer().decode(found.ids[0]) == "<user> a b <bot> c <user> d <bot>"


def test_many_rows_of_parquet_come_in_their_order(tmp_path: Path) -> None:
    """More than are read at the same time, in several groups."""
    path = tmp_path / "x.parquet"
    rows = [{"prompt": [{"role": "user", "content": str(i)}]} for i in range(2500)]
    parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=1100)
    assert list(records(PromptsConfig(str(path)))) == rows


def test_arrays_are_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As pandas reads nested columns of Parquet."""

    class Frame:
        def with_format(self, _: None) -> Any:
            return [
                {"prompt": np.array(TALK, dtype=object)},
                {"prompt": {"from": np.array(["human"]), "value": np.array(["e"])}},
                {"prompt": np.array("f")},
            ]

    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: Frame())
    assert read("org/name").texts == ("user: a b\n\nassistant: c\n\nuser: d", "e", "f")


def test_values_that_are_missing(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    broken = [*TALK[:2], {"role": "user", "content": None}]
    parquet.write_table(pyarrow.Table.from_pylist([{"prompt": TALK}, {"prompt": broken}]), path)
    assert "Row 2 of" in (said := refusal(path))
    assert "a message needs the texts `role` and `content`" in said


def test_held_out_prompts_may_have_a_column_of_their_own(tmp_path: Path) -> None:
    tiny.save(tmp_path / "model")
    asked = [{"role": "user", "content": "a"}]
    (tmp_path / "train.jsonl").write_text(json.dumps({"messages": asked}) + "\n")
    said = [{"from": "human", "value": "b"}, {"from": "gpt", "value": "c"}]
    (tmp_path / "held.jsonl").write_text(json.dumps({"conversations": said}) + "\n")
    config = tiny.config(
        tmp_path,
        prompts={"source": str(tmp_path / "train.jsonl"), "column": "messages"},
        solver={"prompts": 1},
        budget={"steps": 1},
        evaluation={"source": str(tmp_path / "held.jsonl"), "column": "conversations"},
    )
    run = Run.of(config)
    assert run.subject.held_out is not None
    assert [run.subject.held_out.decode(ids) for ids in run.subject.held_out.prompts] == ["b"]
    train(config)
    assert evaluate_run(str(config.output.folder)).prompts == 1
