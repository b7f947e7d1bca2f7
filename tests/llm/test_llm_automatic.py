"""A run without settings of the solver: AutoMPO, from a YAML file to its checkpoints."""

from __future__ import annotations

import re
import typing
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mpo_games as mg
import mpo_llm as ml
import tiny
from mpo_llm import algorithms, cli
from mpo_llm.choices import Algorithm
from mpo_llm.config import Config
from mpo_llm.preset import ACCURATELY
from mpo_llm.results.evaluation import evaluate_run
from mpo_llm.results.export import export
from mpo_llm.training import assemble, checkpoint, config_file, trackers
from mpo_llm.training.answers import Answers
from mpo_llm.training.ledger import Ledger
from mpo_llm.training.plan import Repeating, plan
from mpo_llm.training.sweep import variants
from mpo_llm.training.train import train
from mpo_llm.visits import Texts, Visits
from runs import lines, same

YAML = """\
model: {{name: {folder}/model}}
prompts: {{source: {folder}/prompts.jsonl}}
generation: {{max_tokens: {length}}}
judge: {{factory: "tiny:judge", options: {{name: cyclic}}}}
solver: {{samples: 4, prompts: 2}}
budget: {{steps: {steps}}}
output: {{folder: {folder}/{run}, checkpoint_every: 2, trackers: [], table_every: 2}}
"""


def minimal(
    folder: Path, steps: int = 4, run: str = "run", count: int = 4, length: int = 1
) -> Config:
    """A file without a word on the solver but its sample sizes, as it is read."""
    if not (folder / "model").is_dir():
        tiny.save(folder / "model")
        tiny.prompts(folder, count)
    path = folder / f"{run}.yaml"
    path.write_text(YAML.format(folder=folder, steps=steps, run=run, length=length))
    return config_file.load(path)


def test_a_file_without_settings_of_the_solver_runs_auto_mpo(tmp_path: Path) -> None:
    config = minimal(tmp_path)
    assert assemble.chosen(config) is ml.ON_TOKENS
    assert algorithms.completed(config).solver.algorithm == "auto"
    summary = train(config)
    rows = lines(tmp_path / "run")
    # Two prompts of four a step: from the third step on each prompt is asked the second time.
    assert [row["noise"] is None for row in rows] == [True, True, False, False]
    assert [row["alpha"] for row in rows[:2]] == [0.2, 0.2]
    # A step's weight is set by what was known before it.
    for known, row in pairwise(rows):
        new = known["unseen"] > 0.95
        assert row["alpha"] == 0.005 if new else 0.02 <= row["alpha"] <= 0.2
    rates = [row["rate"] for row in rows]
    assert len({*rates} - {None}) == 1
    assert all(0.0 <= row["kept"] <= 1.0 for row in rows)
    assert {name for row in rows for name in row} - set(trackers.COUNTS) <= set(trackers.TAGS)
    # As many gradients as repeats are worth, and one that measures the rate until it is known.
    measured = [before is None for before in [None, *rates[:-1]]]
    spent = [ACCURATELY.count(row["unseen"]) + new for row, new in zip(rows, measured, strict=True)]
    assert [row["gradient_steps"] for row in rows] == np.cumsum(spent).tolist()
    assert summary.counts["samples"] == 4 * 2 * 4
    saved = checkpoint.config_of(tmp_path / "run")
    assert saved == algorithms.completed(config)


def test_a_run_that_stopped_goes_on_as_if_it_had_not(tmp_path: Path) -> None:
    """Also the answers of the judge are the same, and the number of times that it was asked."""
    train(minimal(tmp_path, 6, "whole"))
    train(minimal(tmp_path, 3, "parts"))
    train(minimal(tmp_path, 6, "parts"), resume=True)
    same(tmp_path / "whole", tmp_path / "parts", 6)
    names = "".join(
        checkpoint.load(  # what only this solver keeps
            tmp_path / "parts" / "checkpoints" / "step-000006",
            assemble.start(minimal(tmp_path))[0],
        ).state.memory
    )
    assert all(word in names for word in ("visits/tokens", "visits/noise", "average"))


def test_prompts_that_are_seen_once_have_no_known_noise(tmp_path: Path) -> None:
    """The magnet is strongest, but once a step has shown that responses do not come back."""
    train(minimal(tmp_path, 3, count=8))
    rows = lines(tmp_path / "run")
    assert [row["noise"] for row in rows] == [None] * 3
    after = [0.005 if row["unseen"] > 0.95 else 0.2 for row in rows]
    assert [row["alpha"] for row in rows] == [0.2, *after[:2]]


def test_a_step_on_long_texts_learns_from_what_it_draws(tmp_path: Path) -> None:
    """By two gradients, however often its prompts have been asked."""
    summary = train(minimal(tmp_path, 5, length=12))
    rows = lines(tmp_path / "run")
    assert [(row["unseen"], row["distinct"]) for row in rows] == [(1.0, 8)] * 5
    assert [row["alpha"] for row in rows] == [0.2] + [0.005] * 4
    assert summary.counts["gradient_steps"] == 5 * 2 + 1
    # Each pair of the four responses to a prompt.
    assert summary.counts["judge_calls"] <= 5 * 2 * 6


def test_texts_that_never_repeat_have_importance_weights() -> None:
    """Each text is drawn once: its weight is `p / q`, `q` the mean chance in the visits' draws."""
    rng = np.random.default_rng(0)
    prompts = ((1, 2),)
    count, length = 12, 40
    tokens = rng.integers(0, 9, (count, length))
    log_q = rng.normal(-90.0, 3.0, count)
    visit = np.repeat([0, 1, 2], 4)
    zeros, ones = np.zeros(count, dtype=np.int64), np.ones(count, dtype=np.int64)
    texts = Texts.of(Visits(zeros, tokens, length * ones, ones, log_q, visit), prompts)
    now = rng.normal(-90.0, 3.0, count)
    found = texts.weights(now)[texts.where]
    log_w = now[texts.where] - log_q
    expected = np.exp(log_w - log_w.max())
    np.testing.assert_allclose(found, expected / expected.sum(), rtol=1e-9)


def test_the_judge_is_asked_each_comparison_once(tmp_path: Path) -> None:
    asked: list[tuple[str, str, str]] = []

    def judge(prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Any:
        asked.extend(zip(prompts, a, b, strict=True))
        return tiny.cyclic(prompts, a, b)

    tiny.judges["recording"] = judge
    config = minimal(tmp_path)
    config = replace(config, judge=replace(config.judge, options={"name": "recording"}))
    summary = train(config)
    assert len(asked) == len(set(asked)) == summary.counts["judge_calls"]
    assert len(asked) > 0


def test_ties_for_want_of_an_answer_are_asked_again() -> None:
    calls: list[int] = []
    failures = 0

    def judge(prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Any:
        nonlocal failures
        calls.append(len(prompts))
        if len(calls) == 1:
            failures += 1
            return np.array([0.5, 0.75])
        return np.full(len(prompts), 0.25)

    answers = Answers(judge, lambda: failures, size=2)
    asked = (["x", "x", "x"], ["a", "b", "a"], ["b", "c", "b"])
    np.testing.assert_array_equal(answers(*asked), [0.5, 0.75, 0.5])
    np.testing.assert_array_equal(answers(*asked), [0.25, 0.75, 0.25])
    np.testing.assert_array_equal(answers(*asked), [0.25, 0.75, 0.25])
    assert calls == [2, 1]
    # The oldest is forgotten.
    answers(["x"], ["c"], ["d"])
    answers(["x"], ["b"], ["c"])
    assert calls == [2, 1, 1, 1]


@pytest.mark.parametrize(
    "text",
    [
        "solver: {algorithm: auto, eta: 1.0}",
        "solver: {algorithm: auto, magnet: fixed}",
        "solver: {algorithm: auto, pool: 0}",
        "{solver: {algorithm: auto, eta: 1.0, alpha: 0.1}, step: {rate: 1.0e-4}}",
        "{solver: {algorithm: auto}, step: {rate: 1.0e-4}}",
        "{solver: {algorithm: auto}, step: {clip: null}}",
    ],
)
def test_what_auto_decides_is_refused_by_name(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"(is|are) decided by `solver.algorithm: auto`: .* mmd`"):
        config_file.load(tmp_path / "a.yaml")


def test_a_setting_without_an_algorithm_means_what_it_meant(tmp_path: Path) -> None:
    """Magnetic mirror descent, whose other choices have the defaults that they had."""
    for text in ("solver: {eta: 2.0}", "solver: {magnet: fixed}", "step: {rate: 1.0e-5}"):
        (tmp_path / "a.yaml").write_text(text)
        config = config_file.load(tmp_path / "a.yaml")
        assert assemble.chosen(config) == mg.MMD(2.0, 0.01)
        minimise = ml.Adam(4, 1e-5, ml.falling, (0.9, 0.999), clip=1.0)
        assert assemble.solved(config) == ml.Proximal(minimise=minimise, micro_batch=16)
    # Settings of the memory and of the sample are nobody's choice.
    (tmp_path / "a.yaml").write_text(
        "{solver: {samples: 4, prompts: 2}, step: {micro_batch: 3, micro_tokens: 99}}"
    )
    config = config_file.load(tmp_path / "a.yaml")
    assert assemble.chosen(config) is ml.ON_TOKENS
    assert assemble.solved(config).micro_batch == 3
    assert assemble.solved(config).micro_tokens == 99


PAGE = (Path(__file__).parents[2] / "llm" / "configs" / "README.md").read_text("utf-8")
FLAGS = dict(re.findall(r"^\| ([^|`]+) \| `(--[^`]+)` \|$", PAGE, re.M))
METHODS = re.findall(r"^\| `(\w+)` \| ([^|`]+) \|$", PAGE, re.M)


@pytest.mark.parametrize(("name", "row"), METHODS)
def test_algorithms_are_the_flags_of_the_table(name: str, row: str) -> None:
    """Over a file whose magnet moves every 50 steps."""
    words = FLAGS[row].replace("--", "").replace("-", "_").split()
    settings: dict[str, Any] = {"solver.magnet": {"every": 50}}
    for flag, value in zip(words[::2], words[1::2], strict=True):
        settings[flag] = {"None": None, "0": 0.0}.get(value, value)
    by_flags = config_file.changed(Config(), settings)
    free = {n: v for n, v in settings.items() if n == "step.micro_batch"}
    by_name = config_file.changed(Config(), free | {"solver.algorithm": name})
    assert assemble.chosen(by_name) == assemble.chosen(by_flags)
    assert assemble.solved(by_name) == assemble.solved(by_flags)


def test_every_algorithm_stands_in_the_table() -> None:
    names = set(typing.get_args(Algorithm))
    assert names == {name for name, _ in METHODS} | {"auto", "comal", "recipe"}
    assert names == {"auto", *algorithms.ALGORITHMS}


def test_a_value_replaces_that_of_an_algorithm() -> None:
    found = config_file.changed(Config(), {"solver.algorithm": "nash_md", "solver.eta": 0.5})
    assert assemble.chosen(found) == mg.NashMD(0.5, 0.01)
    swept = variants(Config(), {"solver.algorithm": ["auto", "mpo"]})
    assert [assemble.chosen(c) for c in swept] == [ml.ON_TOKENS, mg.MPO(2.0, 0.01, 50)]


def test_the_published_file_of_comal_is_the_algorithm() -> None:
    path = Path(__file__).parents[2] / "llm" / "configs" / "general.yaml"
    comal = config_file.changed(Config(), {"solver.algorithm": "comal", "step.micro_batch": None})
    assert assemble.chosen(comal) == assemble.chosen(config_file.load(path))
    assert assemble.solved(comal) == assemble.solved(config_file.load(path))


def test_a_dry_run_plans_it(tmp_path: Path) -> None:
    config = minimal(tmp_path, 7)
    found = plan(config)
    assert (found.algorithm, found.prompts, found.responses, found.gradients) == ("auto", 2, 8, 2)
    assert found.comparisons == 2 * 6
    # Four visits of each of the four prompts, as far as seven steps make them; the last one's new
    # responses meet each other and those of three visits before.
    assert found.repeating == Repeating(56, 2 * 6 + 8 * 12, 16)
    full = plan(minimal(tmp_path, 20)).repeating
    assert full == Repeating(4 * 8 * 4, 2 * 6 + 8 * 28, 16)
    assert found.steps == 7
    assert "solver    auto" in str(found)
    assert "up to 56 are learnt from, with 108 comparisons and 16 gradients" in str(found)
    moving = plan(config_file.changed(config, {"solver.magnet.every": 50}))
    assert moving.algorithm == "mmd"
    # A policy, the average, what the guard tries, and the policy before the old one more.
    assert found.memory.device["policies"] > moving.memory.device["policies"]
    assert not (tmp_path / "run").exists()


def test_the_average_of_weights_is_evaluated_and_exported(
    tmp_path: Path,
) -> None:
    state = train(minimal(tmp_path)).state
    average = state.memory["average"]
    run = tmp_path / "run"
    found, _ = checkpoint.load_policy(run, average=True)
    for name, weights in average.weights.items():
        np.testing.assert_array_equal(found.weights[name].numpy(), weights.numpy())
    own = str(run)
    report = evaluate_run(own, ("start", own), source=str(tmp_path / "prompts.jsonl"), average=True)
    assert report.policy == f"{own} (average)"
    assert set(report.opponents) == {"start", own}
    assert export(run, tmp_path / "folder", average=True) < 1e-5
    # Another policy than the last iterate is in the folder.
    last, _ = checkpoint.load_policy(run)
    assert any((last.weights[n].numpy() != w.numpy()).any() for n, w in average.weights.items())


def test_an_average_that_no_run_keeps_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tiny.config(tmp_path, budget={"steps": 1}))
    folder = str(tmp_path / "run")
    for words in (
        ["export", folder, str(tmp_path / "to"), "--average"],
        ["chat", folder, "--average"],
    ):
        assert cli.main(words) == 2
        assert "keeps no average of weights" in capsys.readouterr().err
    assert cli.main(["chat", str(tmp_path / "model"), "--average"]) == 2
    assert "is no run" in capsys.readouterr().err


def test_only_solvers_of_mirror_steps_are_counted() -> None:
    with pytest.raises(TypeError, match="Only the steps of `MMD` can be counted"):
        Ledger().solver(mg.FictitiousPlay())


@pytest.mark.parametrize(
    ("flags", "solver"),
    [
        ([], ml.ON_TOKENS),
        (["--solver.prompts", "3", "--step.micro-batch", "None"], ml.ON_TOKENS),
        (["--solver.algorithm", "mmd"], mg.MMD(2.0, 0.01)),
        (["--solver.algorithm", "nash_md"], mg.NashMD(2.0, 0.01)),
        (["--solver.algorithm", "nash_md", "--solver.eta", "0.5"], mg.NashMD(0.5, 0.01)),
        (["--solver.magnet", "every", "7"], mg.MPO(2.0, 0.01, 7)),
        (["--step.rate", "1e-4"], mg.MMD(2.0, 0.01)),
    ],
)
def test_flags_choose_the_solver(
    flags: list[str], solver: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Config] = []
    monkeypatch.setattr("mpo_llm.training.plan.plan", lambda settings: seen.append(settings) or "")
    minimal(tmp_path)
    assert cli.main(["train", str(tmp_path / "run.yaml"), "--dry-run", *flags]) == 0
    assert assemble.chosen(seen[0]) == solver


def test_a_run_of_the_earlier_default_is_not_resumed_by_auto(tmp_path: Path) -> None:
    """Its folder has all settings, so a file that names none is another run."""
    before = config_file.changed(minimal(tmp_path, 1), {"solver.algorithm": "mmd"})
    train(before)
    record = tmp_path / "run" / "config.yaml"
    # As earlier releases wrote it.
    record.write_text(record.read_text().replace("  algorithm: mmd\n", ""))
    with pytest.raises(ValueError, match=r"begun with another `solver.algorithm`"):
        train(minimal(tmp_path, 2), resume=True)
    assert train(config_file.changed(before, {"budget.steps": 2}), resume=True).state.step == 2
