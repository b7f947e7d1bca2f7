"""Runs' settings and prompts: what is read, and what is refused with which words."""

from __future__ import annotations

import ast
import json
from itertools import pairwise
from pathlib import Path
from typing import Any, get_type_hints

import datasets
import pyarrow
import pytest
from pyarrow import parquet

import tiny
from mpo_llm import cli, config
from mpo_llm.config import Config, PromptsConfig
from mpo_llm.prompts import Prompts, load
from mpo_llm.training import config_file


@pytest.mark.parametrize(
    "found",
    [
        Config(),
        Config(
            model=config.ModelConfig("a", lora_rank=4, lora_targets="q_proj,v_proj"),
            judge=config.JudgeConfig("a.b:c", {"weights": [0.5, 1], "name": "é"}),
            solver=config.SolverConfig(magnet_rate=0.01, pool=100, prompts=3),
            step=config.StepConfig(betas=(0.5, 0.75), clip=None, rate=1e-6, micro_batch=None),
            output=config.OutputConfig(Path("x/y"), keep=3, trackers=()),
            seed=7,
        ),
    ],
)
def test_yaml_is_read_as_it_was_written(found: Config, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(config_file.dump(found), encoding="utf-8")
    assert config_file.load(path) == found


def test_exponents_are_numbers(tmp_path: Path) -> None:
    """YAML 1.1 takes 1e-5 for a text."""
    (tmp_path / "a.yaml").write_text("step: {rate: 1e-5}\nsolver: {eta: 1}\n")
    found = config_file.load(tmp_path / "a.yaml")
    assert found.step.rate == 1e-5
    assert type(found.solver.eta) is float


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("solver: {eat: 1}", "no setting `solver.eat`: did you mean `eta`?"),
        ("sover: {}", "no setting `sover`: did you mean `solver`?"),
        ("zzz: 1", "no setting `zzz`: there are model, prompts"),
        ("solver: {eta: fast}", "`solver.eta` must be a float, got 'fast'"),
        ("solver: {samples: 2.5}", "`solver.samples` must be a int, got 2.5"),
        ("solver: {samples: true}", "`solver.samples` must be a int, got True"),
        ("solver: {samples: 1}", "`solver.samples` must be at least 2, got 1"),
        ("solver: {eta: .nan}", "`solver.eta` must be a finite number above 0"),
        ("solver: {alpha: -1}", "`solver.alpha` must be at least 0"),
        ("solver: {magnet_period: 2, magnet_rate: 0.1}", "Only one of"),
        ("solver: {method: nash_md, pool: 3}", "nash_md"),
        ("solver: {feedback: next}", "must be one of current, optimistic, half_step"),
        ("step: {betas: [0.9]}", "`step.betas` must hold 2 values"),
        ("step: {betas: [0.9, 1.0]}", "`step.betas` must lie in [0, 1)"),
        ("step: {objective: squared}", "needs `step.micro_batch: null`"),
        ("budget: {steps: null}", "needs a budget"),
        ("model: 3", "`model` must hold `name: value` lines"),
        ("[1, 2]", "`the file` must hold"),
        ("a: b: c", "is not YAML"),
    ],
)
def test_bad_settings_are_named(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ValueError) as error:  # noqa: PT011
        config_file.load(path)
    assert said in str(error.value)


def test_the_command_line_overrides_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Config] = []
    monkeypatch.setattr(cli, "plan", lambda settings: seen.append(settings) or "")
    path = tmp_path / "run.yaml"
    path.write_text("solver: {eta: 0.5, alpha: 0.25}\nseed: 3\n")
    options = [
        "--solver.eta",
        "1e-3",
        "--step.micro-batch",
        "None",
        "--output.trackers",
        "wandb",
        "aim",
    ]
    assert cli.main(["train", str(path), "--dry-run", *options]) == 0
    expected = Config(
        solver=config.SolverConfig(eta=1e-3, alpha=0.25),
        step=config.StepConfig(micro_batch=None),
        output=config.OutputConfig(trackers=("wandb", "aim")),
        seed=3,
    )
    assert seen == [expected]


def test_every_setting_is_documented() -> None:
    tree = ast.parse(Path(config.__file__).read_text(encoding="utf-8"))
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    assert {c.name for c in classes} == {
        "Config",
        *(k.__name__ for n, k in get_type_hints(Config).items() if n != "seed"),
    }
    for c in classes:
        for field, after in pairwise([*c.body, None]):
            if isinstance(field, ast.AnnAssign) and c.name != "Config":
                assert isinstance(after, ast.Expr), f"{c.name}.{ast.unparse(field)}"


# --------------------------------------------------------------------------------------- prompts

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


def test_conversations_go_through_the_template(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"messages": MESSAGES}))
    tokenizer = tiny.tokenizer()
    found = read(path, column="messages", system="e")
    assert tokenizer.decode(found.ids[0]) == "<user> e <user> a b <bot> c <user> d <bot>"
    assert found.texts == ("user: a b\n\nassistant: c\n\nuser: d",)
    plain = read(path, column="messages", chat=False)
    assert tokenizer.decode(plain.ids[0]) == "a b c d"


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
        ('{"prompt": "a"}\n{"prompt": 3}\n', "Row 2 of"),
        ('{"prompt": "a"}\n{"prompt": null}\n', "must hold a text or a list of messages, got None"),
        ('{"prompt": []}', "must hold a text or a list of messages, got []"),
        ('{"prompt": " "}', "holds an empty message"),
        ('{"prompt": [{"role": "user"}]}', "a message needs the texts `role` and `content`"),
        (
            '{"prompt": [{"role": "assistant", "content": "a"}]}',
            "ends with a message of the assistant",
        ),
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
