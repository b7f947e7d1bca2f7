"""The end of a run for people: its win rate, answers before and after, its page, an export."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import transformers

import runs
import tiny
from mpo_llm import cli
from mpo_llm.config import EvaluationConfig
from mpo_llm.measures import START
from mpo_llm.results.evaluation import _asked
from mpo_llm.results.outcomes import Evaluation
from mpo_llm.training import config_file
from mpo_llm.training.comparison import PROMPTS, RESULT
from mpo_llm.training.train import train

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "own_llm_run.md"


def test_the_guide_from_a_model_to_an_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its files and its three commands, on a tiny model and with fewer steps."""
    text = GUIDE.read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    tiny.save(tmp_path / "my-model")
    (tmp_path / "prompts.txt").write_text(re.findall(r"```text\n(.*?)```", text, re.S)[0])
    (tmp_path / "my_judge.py").write_text(re.findall(r"```python\n(.*?)```", text, re.S)[0])
    commands = re.findall(r"```sh\n(.*?)```", text, re.S)[0].splitlines()
    assert len(commands) == 3
    for command in commands:
        program, *words = shlex.split(command.replace("--budget.steps 20", "--budget.steps 1"))
        assert program == "mpo-llm"
        if words[0] == "train":  # the tiny model has no room for more
            words += ["--generation.max-tokens", "6", "--output.trackers", "none"]
        assert cli.main(words) == 0, capsys.readouterr().err
        said = capsys.readouterr().out
        if words[0] != "export":
            assert "page      runs/short/page.html" in said
            assert "None" not in said
            assert re.search(r"win rate +0\.\d+ \[0\.\d+, [01]\.\d+\]", said)
    transformers.AutoModelForCausalLM.from_pretrained("aligned")
    assert "prompts that it was trained on" in Path("runs/short/page.html").read_text()


def test_the_end_of_a_run_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The numbers are those of the comparison, and to be told of a run does not change it."""
    tiny.prompts(tmp_path, 10)
    held_out = {"source": str(tmp_path / "prompts.jsonl"), "samples": 5}
    tiny.save(tmp_path / "model")
    config = tiny.config(
        tmp_path, evaluation=held_out, step={"epochs": 1}, output={"table_every": 2}
    )
    train(replace(config, output=replace(config.output, folder=tmp_path / "unattended")))
    summary = train(config, attended=True)
    found = summary.comparison
    assert found is not None
    assert found.held_out
    assert found.samples == 5
    assert [len(found.prompts), len(found.pairs(3))] == [10, 3]
    runs.same(tmp_path / "run", tmp_path / "unattended", 4)
    # A step of one gradient is computed at the old policy, where the KL to it says nothing.
    assert {row["kl_step"] for row in runs.lines(tmp_path / "run")} == {None}
    path = tmp_path / "run.yaml"
    path.write_text(config_file.dump(config))
    capsys.readouterr()
    assert cli.main(["train", str(path), "--resume"]) == 0
    said = capsys.readouterr().out
    rate = found.table.win_rate(RESULT, START)
    assert (
        f"win rate  {rate.with_interval('.3f')} against the start, on 10 held-out prompts" in said
    )
    gap = found.table.gap(RESULT, np.random.default_rng(0))
    assert gap is not None
    assert f"gap       at least {gap.with_interval('.3f')}, estimated" in said
    assert said.count("  before  ") == said.count("  after   ") == 3
    assert said.rstrip().endswith(f"page      {tmp_path / 'run' / 'page.html'}")
    page = (tmp_path / "run" / "page.html").read_text()
    low, high = rate.interval
    assert f"{rate.value:.3f} ({low:.3f} to {high:.3f})" in page


def test_a_page_of_few_prompts_says_what_it_does_not_know(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without held-out prompts it is about some of its own; the checkpoints meet if asked to."""
    train(tiny.config(tmp_path))
    run, out = tmp_path / "run", tmp_path / "new" / "page.html"
    assert cli.main(["page", str(run), "--league", "--samples", "2", "--out", str(out)]) == 0
    said, page = capsys.readouterr().out, out.read_text()
    assert said.count("intervals are unknown: they need at least 8 prompts, here are 4") == 2
    assert "4 prompts cannot tell" in said
    assert "Intervals are unknown: they need at least 8 prompts, here are 4." in page
    assert "prompts that it was trained on" in page
    assert "Its checkpoints against each other" in page
    assert "nan" not in said + page
    assert cli.main(["evaluate", str(run)]) == 2
    assert "no held-out prompts" in capsys.readouterr().err
    words = ["--prompts", str(tmp_path / "prompts.jsonl"), "--column", "question"]
    assert cli.main(["evaluate", str(run), *words]) == 2
    assert "has no column 'question'" in capsys.readouterr().err
    written = tmp_path / "found.json"
    assert cli.main(["evaluate", str(run), *words[:2], "--out", str(written)]) == 0
    found = json.loads(written.read_text())
    assert found["opponents"]["start"]["win_rate"]["low"] is None
    assert set(found) == set(Evaluation.__dataclass_fields__)


def test_flags_name_a_split_and_a_subset() -> None:
    """Those of the run belong to its own held-out prompts, and not to others."""
    own = EvaluationConfig("org/own", split="test", subset="main", limit=3)
    assert _asked(own, "") == own
    assert _asked(own, EvaluationConfig(split="train")) == replace(own, split="train")
    other = EvaluationConfig("org/other", subset="short")
    assert _asked(own, other) == replace(other, limit=3)


def test_a_judge_that_fails_at_the_end_costs_no_run(tmp_path: Path) -> None:
    calls = iter(range(99))
    config = tiny.config(tmp_path, budget={"steps": 1})
    tiny.judges["tired"] = lambda x, a, b: [0.5] * len(x) if next(calls) < 1 else 1 / 0
    config = tiny.config(tmp_path, budget={"steps": 1}, judge={"options": {"name": "tired"}})
    with pytest.warns(UserWarning, match="The result is not compared with the start: "):
        summary = train(config, attended=True)
    assert summary.comparison is None
    assert summary.saved.is_dir()
    assert PROMPTS >= 8
