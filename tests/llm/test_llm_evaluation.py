"""The commands `mpo-llm evaluate` and `mpo-llm league` on a tiny run."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from mpo_llm import cli, judges
from mpo_llm.config import JudgeConfig
from mpo_llm.results.evaluation import evaluate_run, league
from mpo_llm.training import checkpoint, config_file
from mpo_llm.training.train import train


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps with a checkpoint each, and ten held-out prompts of two categories."""
    folder = tmp_path_factory.mktemp("league")
    held_out = folder / "held_out.jsonl"
    rows = ({"prompt": "abcdefgh"[i % 8], "kind": "odd" if i % 2 else "even"} for i in range(10))
    held_out.write_text("".join(json.dumps(row) + "\n" for row in rows))
    train(
        tiny.config(
            folder,
            evaluation={"source": str(held_out), "every": 100},
            step={"rate": 0.05, "epochs": 4},
            output={"checkpoint_every": 1},
        )
    )
    return folder / "run"


def test_evaluate(run: Path) -> None:
    """The win rate is the mean over the categories, and a policy ties with itself."""
    last = str(checkpoint.last(run))
    found = evaluate_run(str(run), ("start", last), category="kind", samples=6)
    start, itself = found.opponents["start"], found.opponents[last]
    assert set(start.categories) == {"odd", "even"}
    assert np.mean([e.value for e in start.categories.values()]) == pytest.approx(
        start.win_rate.value
    )
    assert start.kl is not None
    assert itself.kl is not None
    assert start.kl.interval[0] > 0.0
    assert itself.kl.value == pytest.approx(0.0, abs=1e-6)
    low, high = itself.win_rate.interval
    assert low < 0.5 < high
    again = evaluate_run(str(run), ("start", last), category="kind", samples=6)
    assert again == found
    assert "against start" in str(found)


def test_another_judge(run: Path) -> None:
    """The command line takes a judge that the run was not trained on, and reports its failures."""
    tiny.judges["shorter"] = lambda x, a, b: [
        float(len(p) < len(q)) for p, q in zip(a, b, strict=True)
    ]
    out = run.parent / "report.json"
    arguments = ["evaluate", str(run), "--samples", "3", "--out", str(out), "--limit", "4"]
    options = ["--judge", "tiny:judge", "--judge-options", "name=shorter"]
    assert cli.main([*arguments, "--judge-options", "name"]) == 2
    assert cli.main([*arguments, *options]) == 0
    report = json.loads(out.read_text())
    assert report["prompts"] == 4
    assert report["failures"] == 0
    won = report["opponents"]["start"]
    assert 0.0 <= won["win_rate"]["value"] <= 1.0
    assert set(won) == {"win_rate", "length_controlled", "kl", "length", "categories"}


def test_a_run_tells_of_its_judges_failures(tmp_path: Path) -> None:
    """Failed comparisons are ties, and are counted in the metrics."""
    silent = judges.OneByOne(
        lambda x, a, b: None if len(a) > len(b) else tiny.cyclic([x], [a], [b])[0]
    )
    tiny.judges["silent"] = judges.Retried(silent, times=0, most=1.0)
    train(tiny.config(tmp_path, judge={"options": {"name": "silent"}}))
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    failures = [row["judge_failures"] for row in rows]
    assert 0 < failures[0] < rows[0]["judge_calls"]
    assert failures == sorted(failures)
    assert failures[-1] == tiny.judges["silent"].counts["failed"]


def test_league(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run.parent / "league.json"
    arguments = ["league", str(run), "--out", str(out), "--others", str(run.parent / "model")]
    assert cli.main(arguments) == 0
    found = json.loads(out.read_text())
    names = ["start", str(run.parent / "model"), *(f"step-{i:06d}" for i in range(1, 5))]
    assert found["names"] == names
    table = np.array(found["win_rates"])
    np.testing.assert_allclose(table + table.T, 1.0)
    weights = np.array([found["equilibrium"][name] for name in names])
    assert weights.sum() == pytest.approx(1.0)
    assert np.all(weights @ table >= 0.5 - 1e-9), "nobody beats the equilibrium"
    assert sum(found["alpha_rank"].values()) == pytest.approx(1.0)
    assert set(found["exploitability"]) == set(names)
    said = capsys.readouterr().out
    assert "step-000004 is " in said
    assert league(str(run), every=2).names == ("start", "step-000002", "step-000004")


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"category": "sort"}, "no column 'sort'"),
        ({"samples": 0}, "`samples` must be a whole number, at least 1"),
        ({"limit": 0}, "`prompts.limit` must be at least 1"),
        ({"source": "missing.jsonl"}, "There is no file 'missing.jsonl'"),
        ({"against": ("no/such/model",)}, "There is no model 'no/such/model'"),
        ({"score": JudgeConfig("math:thing")}, "`score`: there is no function 'thing' in 'math'"),
    ],
)
def test_refusals(run: Path, arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        evaluate_run(str(run), **arguments)


def test_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["league", str(tmp_path)]) == 2
    assert "mpo-llm:" in capsys.readouterr().err


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The sentence with which a command is refused."""
    capsys.readouterr()
    assert cli.main(list(words)) == 2
    # After the lines that tell how far a run is.
    return capsys.readouterr().err.splitlines()[-1].removeprefix("mpo-llm: ")


def test_what_would_be_without_effect_is_refused(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And so is what no generator of random numbers takes, and a score that fails."""
    for words, said in (
        (["evaluate", "--judge-options", "name=cyclic"], "for the factory of `--judge`, which is"),
        (["evaluate", "--score-options", "name=cyclic"], "for the factory of `--score`, which is"),
        (["evaluate", "--seed", "-1"], "`seed` must be a whole number, at least 0, got -1."),
        (["chat", "--seed", "-1"], "`seed` must be a whole number, at least 0, got -1."),
        (["league", "--limit", "1"], "A league needs at least 2 prompts, got 1."),
        (
            ["evaluate", "--score", "tiny:judge", "--score-options", "name=cyclic"],
            "'tiny:judge' must return a score, which is called with (prompts, responses), but what",
        ),
    ):
        assert said in refused(capsys, words[0], str(run), *words[1:])
    path = str(run / "config.yaml")
    for setting in (["solver.eta=1", "solver.eta=2"], ["solver.eta= "]):
        assert refused(capsys, "sweep", path, "--vary", *setting).startswith("`--vary` ")


def test_an_error_that_one_prompt_does_not_show_is_unknown(run: Path) -> None:
    found = str(evaluate_run(str(run), limit=1, samples=2))
    assert "nan" not in found
    assert found.count("unknown") == 9
    assert found.endswith("intervals are unknown: they need at least 8 prompts, here are 1")


def test_a_judge_that_ends_the_process_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else the exit status would be that of a run that has come to its end."""
    calls = iter(range(9))
    tiny.judges["leaving"] = lambda x, a, b: sys.exit() if next(calls) else [0.5] * len(x)
    path = tmp_path / "run.yaml"
    path.write_text(config_file.dump(tiny.config(tmp_path, judge={"options": {"name": "leaving"}})))
    said = refused(capsys, "train", str(path))
    assert said == (
        "A judge, an engine or a score called `exit(None)`. Step 1 is saved: go on with `--resume`."
    )


def test_a_message_that_is_no_text_ends_a_conversation(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for line, said in (("\udce9\n", "it is no text"), ("a " * 99, "it has 101 tokens")):
        monkeypatch.setattr(sys, "stdin", io.StringIO(line))
        answer = refused(capsys, "chat", str(run), "--max-tokens", "4")
        assert answer.startswith("The conversation cannot go on after ")
        assert said in answer
