"""Files of a run, or of its model, that were edited by hand: refused in a sentence."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tiny
from mpo_llm.training import checkpoint
from mpo_llm.training.train import train

NAN = float("nan")


@pytest.fixture(scope="module")
def one_step(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose run has taken one step."""
    folder = tmp_path_factory.mktemp("one_step")
    train(tiny.config(folder, budget={"steps": 1}))
    return folder


@pytest.fixture
def begun(one_step: Path) -> Iterator[Path]:
    """The same folder, whose run is as it was after each test."""
    files = {path: path.read_bytes() for path in (one_step / "run").rglob("*") if path.is_file()}
    yield one_step
    for path, content in files.items():
        path.write_bytes(content)
    assert {path for path in (one_step / "run").rglob("*") if path.is_file()} == files.keys()


@pytest.mark.parametrize(
    "change",
    [
        {"step": NAN},
        {"step": -1},
        {"step": "2"},
        {"eta": NAN},
        {"evaluations": NAN},
        {"counts": {"steps": NAN}},
        {"counts": {"steps": "x"}},
        {"counts": [1]},
        {"seconds": None},
        {"seconds": {"step": NAN}},
        {"aliases": {"a": "b"}},
        {"run": 3},
        {"run": {}},
    ],
)
def test_a_header_of_other_numbers_is_refused(change: dict[str, Any], begun: Path) -> None:
    """A run whose step is NaN would never reach the end of its budget."""
    file = checkpoint.last(begun / "run") / checkpoint.HEADER
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(ValueError, match=r"is not a checkpoint of this run: [^\n]+\.$"):
        train(tiny.config(begun), resume=True)


@pytest.mark.parametrize("content", ["", "[]", "{", "null"])
def test_a_header_that_is_none_is_refused(content: str, begun: Path) -> None:
    (checkpoint.last(begun / "run") / checkpoint.HEADER).write_text(content)
    with pytest.raises(ValueError, match="is not a checkpoint of this run"):
        train(tiny.config(begun), resume=True)


@pytest.mark.parametrize("line", [b"\xff\n", b"[]\n", b"{}\n", b"step\n", b'{"step": null}\n'])
def test_records_that_no_run_wrote_are_named(line: bytes, begun: Path) -> None:
    file = begun / "run" / "metrics.jsonl"
    file.write_bytes(file.read_bytes() + line)
    with pytest.raises(ValueError, match=r"metrics\.jsonl' holds a line that no run has written"):
        train(tiny.config(begun), resume=True)


def activation(settings: dict[str, Any]) -> None:
    settings["hidden_act"] = "relu"


def rotation(settings: dict[str, Any]) -> None:
    settings["rope_parameters"] = {"rope_type": "default", "rope_theta": 77.0}


def rounding(settings: dict[str, Any]) -> None:
    settings["rms_norm_eps"] = 0.1


@pytest.mark.parametrize("change", [activation, rotation, rounding])
def test_another_use_of_the_same_weights_is_another_model(
    change: Callable[[dict[str, Any]], None], tmp_path: Path
) -> None:
    train(tiny.config(tmp_path, budget={"steps": 1}))
    file = tmp_path / "model" / "config.json"
    settings = json.loads(file.read_text())
    # What no computation reads may change.
    file.write_text(json.dumps({**settings, "transformers_version": "0"}))
    train(tiny.config(tmp_path, budget={"steps": 2}), resume=True)
    change(settings)
    file.write_text(json.dumps(settings))
    with pytest.raises(ValueError, match="the settings of the base model"):
        train(tiny.config(tmp_path), resume=True)
    with pytest.raises(ValueError, match=r"other settings \(`config\.json`\) today"):
        checkpoint.load_policy(tmp_path / "run")
    found = train(tiny.config(tmp_path, budget={"steps": 3}), resume=True, accept=("architecture",))
    assert [c["name"] for c in found.changes] == ["architecture"]
