"""Training runs that release 0.1.0 stopped halfway go on as they did there, bit for bit."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from stored import HERE, expected

pytest.importorskip("transformers")

from safetensors.numpy import load_file
from small_run import prepare

from mpo_llm import cli

EXPECTED = "training.json"
LAST = {"optimistic": 4, "nash_md": 4, "period": 5}
"""The step to which each of the stored runs went on. Their folders are as they were written: the
configurations have that release's names of settings and judges."""

LEARNED = ("--judge", "mpo_llm.judges:preference_model", "--judge-options", "path=preferences")
"""A judge that `fit-preferences` of that release has saved."""

SPENT = ("seconds", "peak_memory")
"""Columns that differ from run to run."""

LATER = (
    "averaged_exploitability",
    "averaging_loss",
    "averaging",
    "estimated_gap",
    "gap",
    "mismatch_ratio",
    "prompts",
    "low",
    "high",
)
"""Columns and results that a later release has added."""

CORRECTED = ("held_out_gap",)
"""Columns whose numbers a later release has corrected: with few responses this one was too large in
the mean, because a rival could be among the draws that valued it."""


LEFT_OUT = (*SPENT, *LATER, *CORRECTED)


def do(*arguments: str) -> None:
    """A command of `mpo-llm`; it may say that a setting has a new name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert cli.main(arguments) == 0


def rows(run: Path, name: str) -> list[dict[str, Any]]:
    """Records without what differs from run to run."""
    found = [json.loads(line) for line in (run / name).read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith(LEFT_OUT)} for row in found]


def weights(run: Path, step: int) -> str:
    """A checksum of a checkpoint's policy, its optimiser's moments and its magnet."""
    folder = run / "checkpoints" / f"step-{step:06d}"
    found = load_file(folder / "state.safetensors")
    aliases = json.loads((folder / "state.json").read_text())["aliases"]
    found |= {key: found[other] for key, other in aliases.items()}
    whole = sha256()
    for name in sorted(found):
        if name.startswith(("policy/", "magnet/")):
            whole.update(name.encode() + found[name].tobytes())
    return whole.hexdigest()


def facts(name: str) -> dict[str, Any]:
    """What a run came to."""
    run, last = Path("runs") / name, LAST[name]
    return {
        "metrics": rows(run, "metrics.jsonl"),
        "samples": rows(run, "samples.jsonl"),
        "weights": weights(run, last),
    }


def without_later(text: str) -> Any:
    """What stands in a JSON text, without the results that a later release has added."""
    return json.loads(text, object_hook=lambda d: {k: d[k] for k in d if k not in LATER})


def judged(name: str, command: str, options: Sequence[str] = ()) -> Any:
    """What `evaluate` or `league` finds."""
    out = Path(f"{name}-{command}.json")
    do(command, f"runs/{name}", *options, "--samples", "4", "--out", str(out))
    return without_later(out.read_text())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the stored runs lie as they lay when they were begun."""
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path)
    shutil.copytree(HERE / "training", tmp_path / "runs")
    shutil.copytree(HERE / "preferences", tmp_path / "preferences")
    return tmp_path


def follow(found: Any, stored: Any, exact: bool) -> None:
    """Equal; where the machine computes otherwise other responses are drawn, so only the shape."""
    if exact:
        assert found == stored
    elif isinstance(stored, dict):
        assert found.keys() == stored.keys()
    else:
        assert len(found) == len(stored)


@pytest.mark.parametrize("name", LAST)
def test_a_saved_run_goes_on(name: str, folder: Path) -> None:
    stored, exact = expected(EXPECTED)
    do("train", f"runs/{name}/config.yaml", "--resume", "--budget.steps", str(LAST[name]))
    for what, value in facts(name).items():
        follow(value, stored[name][what], exact)


def test_a_saved_run_is_judged(folder: Path) -> None:
    """By the configuration and the checkpoints that lie there."""
    stored, exact = expected(EXPECTED)
    stored = without_later(json.dumps(stored))
    follow(judged("optimistic", "evaluate"), stored["evaluate"], exact)
    follow(judged("optimistic", "league"), stored["league"], exact)
    follow(judged("optimistic", "evaluate", LEARNED), stored["evaluate by another"], exact)


@pytest.mark.parametrize("name", LAST)
def test_a_saved_run_is_exported(name: str, folder: Path) -> None:
    do("export", f"runs/{name}", "exported")
    assert (folder / "exported" / "model.safetensors").is_file()


def test_a_saved_run_is_only_resumed_with_its_settings(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        code = cli.main(
            ["train", "runs/optimistic/config.yaml", "--resume", "--solver.eta", "0.125"]
        )
    assert code == 2
    assert "solver.eta" in capsys.readouterr().err
