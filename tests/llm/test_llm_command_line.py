"""The command line of the adapter, from training to sweeps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tiny
from mpo_llm import cli
from mpo_llm.config import Config, GenerationConfig, JudgeConfig
from mpo_llm.training import config_file, flags
from mpo_llm.training import sweep as sweeps
from mpo_llm.training.sweep import variants
from runs import lines


def test_a_sweep_runs_every_combination_and_what_fails_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny.config(tmp_path, budget={"steps": 2})
    path = tmp_path / "sweep.yaml"
    path.write_text(config_file.dump(config))
    found = variants(config, {"solver.eta": [1.0, 2.0], "step.rate": [0.01, 1e30], "seed": [3]})
    folders = [str(c.output.folder.relative_to(tmp_path)) for c in found]
    assert folders[1] == "run/eta=1.0,rate=1e+30,seed=3"
    assert [c.solver.eta for c in found] == [1.0, 1.0, 2.0, 2.0]
    options = ["--vary", "step.rate=0.01,1.0e+30", "--seeds", "0", "1", "--backend", "threading"]
    capsys.readouterr()
    assert cli.main(["sweep", str(path), *options]) == 2
    out, errors = capsys.readouterr()
    said = out.splitlines()
    assert ["2 steps" in line for line in said] == [True, True, False, False]
    assert all("failed: The " in line for line in said[2:])
    lost = ", ".join(str(tmp_path / "run" / f"rate=1e+30,seed={seed}") for seed in (0, 1))
    assert errors.startswith(f"mpo-llm: 2 of 4 runs failed: {lost}. ")
    # What is finished already is no failure.
    assert cli.main(["sweep", str(path), "--vary", "step.rate=0.01", "--seeds", "1"]) == 0
    assert lines(tmp_path / "run" / "rate=0.01,seed=1")[-1]["step"] == 2
    with pytest.raises(ValueError, match=r"no setting `solver\.eat`"):
        variants(config, {"solver.eat": [1]})
    with pytest.raises(ValueError, match=r"no setting 'sover\.eta' to vary"):
        variants(config, {"sover.eta": [1]})


def test_a_run_without_memory_does_not_stop_a_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = iter([MemoryError(), torch.OutOfMemoryError("CUDA out of\nmemory.")])

    def fail(config: Config, *, resume: bool) -> None:
        raise next(errors)

    monkeypatch.setattr(sweeps, "train", fail)
    found = sweeps.sweep(variants(tiny.config(tmp_path), {"seed": [0, 1]}))
    assert [run.said for run in found] == ["out of memory", "CUDA out of memory."]
    assert all(run.failed for run in found)


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(config_file.dump(tiny.config(tmp_path)))
    assert cli.main(["train", str(path), "--budget.steps", "1"]) == 0
    assert "ended by  budget.steps" in capsys.readouterr().out
    assert cli.main(["train", str(path)]) == 2
    assert "--resume" in capsys.readouterr().err
    assert cli.main(["train", str(path), "--resume"]) == 0
    assert cli.main(["export", str(tmp_path / "run"), str(tmp_path / "out")]) == 0
    assert cli.main(["chat", str(tmp_path / "nothing")]) == 2
    assert cli.main(["train", str(tmp_path / "none.yaml")]) == 2
    assert "Cannot read" in capsys.readouterr().err


def test_options_of_factories_are_added_to_those_of_the_file() -> None:
    options = {"name": "cyclic", "deep": {"a": 1, "b": 2}}
    before = Config(
        judge=JudgeConfig("tiny:judge", options), generation=GenerationConfig(engine="tiny:engine")
    )
    for words, expected in (
        ("--judge.options name other", {**options, "name": "other"}),
        ("--judge.options new 0.5 more [1,2]", {**options, "new": 0.5, "more": [1, 2]}),
        ("--judge.options.deep.a -3", {**options, "deep": {"a": -3, "b": 2}}),
        ("--judge.options.name=x --judge.options.y 1 2", {**options, "name": "x", "y": [1, 2]}),
        ("--judge.options name None", {**options, "name": None}),
    ):
        kept, after = flags.options(["train", *words.split(), "--seed", "1"], before)
        assert kept == ["train", "--seed", "1"]
        assert after.judge.options == expected
        assert after.generation == before.generation
    _, after = flags.options(["--generation.options", "a", "1"], before)
    assert after.generation.options == {"a": 1}
    for words in (
        "--judge.options",
        "--judge.options name",
        "--judge.options.name",
        "--judge.options a 1 b",
    ):
        with pytest.raises(ValueError, match=r"takes names and values, got "):
            flags.options(words.split(), before)


def test_options_are_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(config_file.dump(tiny.config(tmp_path, budget={"steps": 1})))
    assert cli.main(["train", str(path), "--judge.options", "wrong", "1"]) == 2
    assert "`judge.options` do not suit 'tiny:judge'" in capsys.readouterr().err
    assert cli.main(["train", str(path), "--generation.options", "wrong", "1"]) == 2
    assert "`generation.engine`, which is empty" in capsys.readouterr().err
    assert cli.main(["sweep", str(path), "--vary", "seed=1,2"]) == 2
    assert "`--seeds`" in capsys.readouterr().err
