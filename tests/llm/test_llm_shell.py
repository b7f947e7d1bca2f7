"""`mpo-llm` as somebody meets it at a shell: help, the pages of its flags, and wrong arguments."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest

import tiny
from mpo_games import __version__
from mpo_llm import cli
from mpo_llm.config import Config, GenerationConfig, JudgeConfig
from mpo_llm.judges import loading
from mpo_llm.judges.pairs import Pair, pairs
from mpo_llm.training import config_file, flags
from mpo_llm.training import progress as progressing
from mpo_llm.training.sweep import variants

ROOT = Path(__file__).parents[2]
COMMANDS = (
    "train",
    "page",
    "evaluate",
    "league",
    "chat",
    "export",
    "sweep",
    "fit-preferences",
    "serve",
)


def test_help_and_wrong_arguments_need_no_torch(tmp_path: Path) -> None:
    """Nor does the name of a model that is not there."""
    program = """
import sys
from mpo_llm import cli
for words in (
    "train --help",
    "train --seed x",
    "train none.yaml",
    "serve none.yaml",
    "sweep none.yaml",
    "evaluate none",
    "page none",
    "export none there",
    "chat no/ne",
):
    try:
        cli.main(words.split())
    except SystemExit:
        pass
print("loaded", [name for name in ("torch", "transformers") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"HF_HUB_OFFLINE": "1", "PYTHONPATH": ":".join(sys.path), "HF_HOME": str(tmp_path)},
    )
    assert done.stdout.splitlines()[-1] == "loaded []", done.stderr
    assert "There is no model 'no/ne'" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("trian run.yaml", "there is no command 'trian': the commands are train, "),
        ("train --model.nam x", "`--model.nam` is no option there: did you mean `--model.name`?"),
        ("train --model.name", "`--model.name` needs a value."),
        ("train --solver.samples x", "`--solver.samples` "),
        ("league", "`mpo-llm league` needs RUN; see `mpo-llm league --help`."),
        ("chat", "`mpo-llm chat` needs MODEL; see `mpo-llm chat --help`."),
    ],
)
def test_wrong_usage_is_told_in_a_sentence(
    words: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words.split()) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"mpo-llm: {said}")
    assert shown.err.count("\n") == 1


def test_the_version_is_the_package_s(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"mpo-llm {__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_the_page_of_the_command_line_has_every_flag(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs" / "command_line_llm.md").read_text(encoding="utf-8")
    part = page.split(f"\n## {command}\n")[1].split("\n## ")[0]
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    shown = capsys.readouterr().out
    there = set(re.findall(r"^[│| ]* (?:--\S+ [A-Z]+, )?(--[a-z][\w.-]*)", shown, re.M))
    told = set(re.findall(r"^\| `(--[\w.-]+)`", part, re.M))
    if command == "train":
        there = {flag for flag in there if "." not in flag} - {"--seed"}
    assert told == there
    for metavar in re.findall(r"^\| `([A-Z]\S*)`", part, re.M):
        assert metavar in shown


def test_that_page_has_every_command_and_every_setting() -> None:
    page = (ROOT / "docs" / "command_line_llm.md").read_text(encoding="utf-8")
    assert tuple(re.findall(r"^## (\S+)", page, re.M)) == COMMANDS
    for section, kind in get_type_hints(Config).items():
        if is_dataclass(kind):
            names = " ".join(f"`{field.name}`" for field in fields(kind))
            assert f"| `{section}` | {names} |" in page


def test_wrong_values_are_sentences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(config_file.dump(Config(judge=JudgeConfig("tiny:judge"))))
    for words, said in (
        ("--solver.eta x", "`--solver.eta` takes None or FLOAT, got 'x'."),
        ("--seed x", "`--seed` takes INT, got 'x'."),
        ("--solver.magnet some", "`solver.magnet` must be one of fixed, every, weight_ema, "),
        ("--budget.steps 1.5", "`--budget.steps` takes None or INT, got '1.5'."),
        ("--generation.max-tokens 0", "`generation.max_tokens` must be at least 1, got 0."),
    ):
        assert cli.main(["train", str(path), *words.split()]) == 2
        assert capsys.readouterr().err.startswith(f"mpo-llm: {said}")
    assert cli.main(["train", "--dry-run", str(path)]) == 2
    assert "The settings come before the flags" in capsys.readouterr().err
    assert cli.main(["serve", str(path), "--port", "99999", "--python", sys.executable]) == 2
    assert "`--port` must lie between 1 and 65535, got 99999" in capsys.readouterr().err


def test_options_can_be_taken_away() -> None:
    before = Config(
        judge=JudgeConfig("tiny:judge", {"name": "cyclic"}),
        generation=GenerationConfig(engine="vllm", options={"url": "http://here"}),
    )
    for words, judge, engine, options in (
        (["--judge.options", "None"], {}, "vllm", {"url": "http://here"}),
        (["--judge.options", "null", "--judge.options.a", "1"], {"a": 1}, "vllm", None),
        (["--generation.engine", ""], {"name": "cyclic"}, "", {}),
        (["--generation.engine="], {"name": "cyclic"}, "", {}),
        (["--generation.engine", "mine:f", "--generation.options=null"], None, "mine:f", {}),
    ):
        kept, after = flags.options(["train", *words], before)
        assert kept == ["train"]
        assert after.generation.engine == engine
        assert judge is None or after.judge.options == judge
        assert options is None or after.generation.options == options
    # An engine and its options may both come from flags.
    words = ["--generation.options", "url", "x", "--generation.engine", "vllm"]
    _, after = flags.options(words, Config())
    assert after.generation == GenerationConfig(engine="vllm", options={"url": "x"})


JUDGES = """
def judge(prompts, a, b):
    return [0.75 for _ in prompts]
def scaled(prompts, a, b, scale=1.0):
    return [scale for _ in prompts]
def factory(scale=0.25):
    return lambda prompts, a, b: [scale for _ in prompts]
def either(x=None, y=None, z=None):
    return judge
class Judge:
    def __init__(self, scale=0.5):
        self.scale = scale
    def __call__(self, prompts, a, b):
        return [self.scale for _ in prompts]
made = Judge(0.125)
def score(prompts, responses):
    return [1.0 for _ in prompts]
def scores():
    return score
"""


def test_a_judge_may_be_named_itself(tmp_path: Path) -> None:
    """By its signature: what can be called with its options alone is a factory."""
    file = tmp_path / "mine.py"
    file.write_text(JUDGES)
    for name, options, answer in (
        ("judge", {}, 0.75),
        ("scaled", {}, 1.0),
        ("scaled", {"scale": 0.5}, 0.5),
        ("factory", {}, 0.25),
        ("factory", {"scale": 1.0}, 1.0),
        # A function that can be called in both ways is a factory, as it always was.
        ("either", {}, 0.75),
        ("Judge", {"scale": 1.0}, 1.0),
        ("made", {}, 0.125),
    ):
        found = loading.load(JudgeConfig(f"{file}:{name}", options))
        assert found(["?"], ["a"], ["b"]) == [answer]
    for name, options, said in (
        ("judge", {"scale": 1.0}, r"options` do not suit .*: got an unexpected .* 'scale'\.$"),
        ("score", {}, r"options`: prompts, responses; a judge itself is called with"),
        ("scores", {}, r"must return a judge, which is called with \(prompts, a, b\), but what it"),
    ):
        with pytest.raises(ValueError, match=said):
            loading.load(JudgeConfig(f"{file}:{name}", options))


@pytest.mark.parametrize(
    ("name", "options", "lacking"),
    [
        ("chat_server", {}, "url, model"),
        ("chat_server", {"url": "http://127.0.0.1:8000/v1"}, "model"),
        ("reward_server", {}, "url"),
        ("reward_model", {}, "path"),
        ("preference_model", {"batch": 4}, "path"),
        ("language_model", {"rubric": "Which is true?"}, "path"),
    ],
)
def test_a_factory_is_not_taken_for_a_judge(
    name: str, options: dict[str, object], lacking: str
) -> None:
    """It takes three arguments as well, but has defaults for some of them."""
    with pytest.raises(ValueError) as error:  # noqa: PT011
        loading.load(JudgeConfig(f"mpo_llm.judges:{name}", options))
    assert str(error.value) == (
        f"'mpo_llm.judges:{name}' needs `judge.options`: {lacking}; a judge itself is called with "
        "(prompts, a, b)."
    )


def test_what_is_missing_is_refused_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mpo_llm.training.plan.plan", lambda _: pytest.fail("planned"))
    path = tmp_path / "run.yaml"
    path.write_text("prompts: {source: a.jsonl}\n")
    for words, said in (
        ([], "`judge.factory` is not set: write `judge.factory: mpo_llm.judges:everyday`, for"),
        (["--prompts.source", ""], "`prompts.source` is not set: write `prompts.source: prompts."),
        (
            ["--judge.factory", "a:b", "--model.name", "small_transfomer"],
            "There is no model 'small_transfomer' (did you mean `small_transformer`?): no folder",
        ),
    ):
        assert cli.main(["train", str(path), "--dry-run", *words]) == 2
        assert capsys.readouterr().err.startswith(f"mpo-llm: {said}")


def test_what_can_be_refused_is_refused_before_the_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A column that is not there, of prompts or held-out ones. No folder is left of the run."""
    path = tmp_path / "run.yaml"
    path.write_text(config_file.dump(tiny.config(tmp_path)))
    monkeypatch.setattr("mpo_llm.training.assemble.network", lambda *_, **__: pytest.fail("loaded"))
    for section in ("prompts", "evaluation"):
        words = [f"--{section}.column", "question", "--output.folder", str(tmp_path / "a" / "b")]
        words += ["--evaluation.source", str(tmp_path / "prompts.jsonl")]
        assert cli.main(["train", str(path), *words]) == 2
        assert "has no column 'question'" in capsys.readouterr().err
        assert not (tmp_path / "a").exists()


def test_a_sweep_never_writes_into_another_run(tmp_path: Path) -> None:
    config = tiny.config(tmp_path)
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    with pytest.raises(
        ValueError, match=r"run' holds a run, and a sweep has a folder of its own: .*--folder"
    ):
        variants(config, {"seed": [0]})
    elsewhere = tiny.config(tmp_path, output={"folder": str(tmp_path / "sweep")})
    with pytest.raises(ValueError, match=r"Two runs of the sweep would write to '.*seed=0'"):
        variants(elsewhere, {"seed": [0, 0]})
    (one,) = variants(elsewhere, {"model.name": ["../../elsewhere"]})
    assert one.output.folder == tmp_path / "sweep" / "name=.._.._elsewhere"


def test_lines_tell_of_a_run_where_there_is_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    lines = progressing.Lines(120, 20, lambda: now[0])
    with lines:
        for _ in range(60):
            now[0] += 2.0
            lines.update(1)
    said = capsys.readouterr().err.splitlines()
    # The first step, and then one in half a minute.
    assert [line.split(",")[0] for line in said] == [
        f"step {step} of 120" for step in (21, 36, 51, 66)
    ]
    assert all(line.split(", ")[1] == "2 s a step" for line in said)
    assert said[-1].endswith(", 108 s left")
    assert [progressing.duration(s) for s in (0.25, 9.96, 42.4, 110.0, 700.0, 16200.0, 9e6)] == [
        "0.25 s",
        "10 s",
        "42 s",
        "110 s",
        "12 min",
        "4.5 h",
        "2,500 h",
    ]


def test_comparisons_of_sharegpt_are_read() -> None:
    """A message for each response beside the conversation, or whole conversations."""
    asked = [{"from": "human", "value": "Hi?"}]
    good, bad = ({"from": "gpt", "value": text} for text in ("Hello.", "No."))
    expected = [Pair("Hi?", "Hello.", "No.")]
    for row in (
        {"conversations": asked, "chosen": good, "rejected": bad},
        {"prompt": "Hi?", "chosen": [*asked, good], "rejected": [*asked, bad]},
        {"chosen": [*asked, good], "rejected": [*asked, bad]},
        {"prompt": np.array(asked), "chosen": np.array([good]), "rejected": [bad]},
    ):
        assert pairs([row]) == expected
    with pytest.raises(ValueError, match="Row 1: `chosen`: a message is from 'tool'"):
        pairs([{"prompt": "x", "chosen": {"from": "tool", "value": "1"}, "rejected": "y"}])
