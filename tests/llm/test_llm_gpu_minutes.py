"""The quarter of an hour on a GPU: what is kept, what is repeated, what the figure shows."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import matplotlib.pyplot as plt
import pytest
import torch

from mpo_llm import cli

DEMO = Path(__file__).parents[2] / "llm" / "demo"
NAMES = runpy.run_path(str(DEMO / "gpu_minutes.py"))
Results, CHECKS, SMOLLM2 = (NAMES[name] for name in ("Results", "CHECKS", "SMOLLM2"))


def numbers(speed: float, **more: Any) -> dict[str, Any]:
    return {"tokens_per_second": speed, "bytes_a_parameter": 11.0, **more}


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The parts that are run, which take no time here."""
    ran: list[str] = []

    def check(before: Any, device: torch.device, limit: float) -> dict[str, Any]:
        ran.append(f"{len(before.get('passed', ()))} passed before")
        return {"passed": ["draw"], "failed": {}}

    def measured(cell: Any, python: str, place: str, limit: float, about: Any) -> dict[str, Any]:
        ran.append(cell.name)
        fails = cell.name == "7B, LoRA: ours" and ran.count(cell.name) == 1
        return {"note": "no memory"} if fails else numbers(100.0, utilisation=0.25)

    def trained(folder: Path, rehearse: bool, limit: float, about: Any) -> dict[str, Any]:
        ran.append(SMOLLM2)
        return numbers(1000.0)

    found: dict[str, Any] = {"check": check, "measured": measured, "trained": trained}
    found["model"] = lambda shape, folder: "nowhere"
    found["figure"] = lambda results: plt.figure(figsize=(1.0, 1.0))
    for name, function in found.items():
        monkeypatch.setitem(NAMES["main"].__globals__, name, function)
    return ran


def test_a_second_start_repeats_what_failed(parts: list[str], tmp_path: Path) -> None:
    NAMES["main"](tmp_path, trl=sys.executable)
    cells = [cell.name for cell in NAMES["CELLS"]]
    assert parts == ["0 passed before", *cells, SMOLLM2]
    record = json.loads((tmp_path / "results.json").read_text())
    assert list(record["parts"]) == [CHECKS, *cells, SMOLLM2]
    assert record["parts"]["7B, LoRA: ours"] == {"note": "no memory"}
    assert record["about"]["torch"] == torch.__version__
    parts.clear()
    parts.append("7B, LoRA: ours")  # it does not fail twice
    NAMES["main"](tmp_path, trl=sys.executable)
    assert parts[1:] == ["1 passed before", "7B, LoRA: ours", SMOLLM2]
    assert "note" not in json.dumps(json.loads((tmp_path / "results.json").read_text()))
    for ending in ("svg", "png"):
        assert (tmp_path / f"figure.{ending}").is_file()


def test_without_time_nothing_is_begun(parts: list[str], tmp_path: Path) -> None:
    """Whether there is time for a part is asked before each."""
    NAMES["main"](tmp_path, seconds=NAMES["LEAST"] / 2.0, trl=sys.executable)
    assert parts == []
    assert json.loads((tmp_path / "results.json").read_text())["parts"] == {}


def test_without_trl_we_run_alone(
    parts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    NAMES["main"](tmp_path)
    assert [name for name in parts if "grpo" in name] == []


def test_the_times_fit_a_quarter_of_an_hour() -> None:
    """A minute and more is left for the start of a machine, and two minutes for SmolLM2."""
    whole = 240.0 + sum(cell.seconds for cell in NAMES["CELLS"])
    assert whole + 60.0 <= 780.0 <= 14 * 60.0


@pytest.mark.parametrize(
    ("code", "out", "note"),
    [
        ("print('well')", "well\n", None),
        ("import sys; print('half'); sys.exit('no luck')", "half\n", "no luck"),
    ],
)
def test_how_a_command_ends(code: str, out: str, note: str | None) -> None:
    assert NAMES["_run"]([sys.executable, "-c", code], 60.0) == (out, note)


def test_a_late_command_is_asked_to_stop() -> None:
    """What it printed until then counts, and it may still save something."""
    code = (
        "import signal, sys, time\n"
        "def stop(*_):\n    print('saved'); sys.exit(1)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "print('begun', flush=True)\n"
        "time.sleep(600)"
    )
    out, note = NAMES["_run"]([sys.executable, "-c", code], 2.0, 60.0)
    assert out == "begun\nsaved\n"
    assert note == "stopped after 2 s"


def test_checks_are_read_line_by_line(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [{"name": "draw", "error": None}, {"name": "score", "error": "far off"}]
    asked = []

    def run(command: list[str], limit: float) -> tuple[str, str | None]:
        asked.append(command[2:])
        return "".join(json.dumps(line) + "\n" for line in lines), "stopped after 9 s"

    monkeypatch.setitem(NAMES["check"].__globals__, "_run", run)
    found = NAMES["check"]({"passed": ["Adam"]}, torch.device("cpu"), 9.0)
    assert asked == [["cpu", "Adam"]]
    assert found == {
        "passed": ["Adam", "draw"],
        "failed": {"score": "far off"},
        "note": "stopped after 9 s",
    }


def test_the_figure_has_a_bar_for_each_number(tmp_path: Path) -> None:
    found = Results(tmp_path / "results.json", about={"device": "a GPU"})
    found.parts = {
        CHECKS: {"passed": ["draw", "score"], "failed": {"Adam": "far off"}},
        "7B, LoRA: ours": numbers(300.0, utilisation=0.25),
        "7B, LoRA: grpo": numbers(200.0),
        "7B, full: ours": {"note": "no memory"},
    }
    figure = NAMES["figure"](found)
    speed, _, utilisation = figure.axes
    assert [bar.get_width() for bar in speed.patches if bar.get_width()] == [300.0, 200.0]
    assert [text.get_text() for text in utilisation.texts] == ["25", "not known"]
    assert figure.get_suptitle() == "a GPU: 2 features as on the CPU, 1 not"
    plt.close(figure)


@pytest.mark.slow
def test_a_cell_on_the_cpu(tmp_path: Path) -> None:
    """What the profiler counts in a step, and what the ledger counts of a token's passes."""
    cell = NAMES["TINY"][0]
    place = NAMES["model"]("tiny", tmp_path)
    found = NAMES["measured"](cell, sys.executable, place, 600.0, {"peak_flops": 1e9})
    assert "note" not in found, found["note"]
    assert len(found["seconds"]) == len(found["tokens"]) == NAMES["STEPS"]
    assert found["waits"]["aten::_local_scalar_dense"] > 0
    assert found["parameters"] == 512 * 32 + 2 * (32 * (32 + 2 * 16 + 32 + 3 * 96 + 2) + 64) + 32
    forward, backward = found["passes"][1]
    assert forward > backward > 0
    assert 0.0 < found["utilisation"] < 1.0


@pytest.mark.slow
def test_smollm2_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rehearsal's run, whose second start has nothing left to do."""

    def here(command: list[str], limit: float, grace: float) -> tuple[str, str | None]:
        assert command[1:4] == ["-m", "mpo_llm.cli", "train"]
        assert cli.main(command[3:]) == 0
        return "", None

    # A new process would import for seconds what this one has.
    monkeypatch.setitem(NAMES["trained"].__globals__, "_run", here)
    monkeypatch.chdir(NAMES["ROOT"])
    for _ in range(2):
        found = NAMES["trained"](tmp_path, True, 600.0, {"peak_flops": None})
        assert found["steps"] == 2
        assert found["tokens_per_second"] > 0.0
    lines = (tmp_path / "smollm2" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2]


def test_checks_are_said_line_by_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is done is left out, what is apart costs a line, and so does what cannot be imported."""
    runs = iter([1.0, 1.0, 1.0, 1.2])

    def run(device: torch.device, folder: Path) -> dict[str, float]:
        assert device == torch.device("cpu")
        return {"weights": next(runs)}

    feature = SimpleNamespace(run=run, apart=0.1)
    features = ModuleType("second_device.features")
    features.__dict__["FEATURES"] = dict.fromkeys(("draw", "score", "Adam"), feature)
    monkeypatch.setitem(sys.modules, "second_device.features", features)
    for name in ("workflows", "judging"):
        monkeypatch.setitem(sys.modules, f"second_device.{name}", None)
    monkeypatch.setattr(sys, "path", [*sys.path])
    runpy.run_path(str(DEMO / "device_checks.py"))["main"]("cpu", ["Adam"])
    draw, score, *groups = map(json.loads, capsys.readouterr().out.splitlines())
    assert (draw["name"], draw["error"]) == ("draw", None)
    assert score["name"] == "score"
    assert "weights" in score["error"]
    assert [group["name"] for group in groups] == ["workflows", "judging"]
    assert all("ModuleNotFoundError" in group["error"] for group in groups)
