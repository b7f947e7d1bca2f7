"""The guide to vLLM shows what the demo measured, and its settings are settings."""

from __future__ import annotations

import copy
import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from mpo_llm.engines import Server
from mpo_llm.training import assemble, config_file

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "guides" / "vllm.md").read_text(encoding="utf-8")
FOUND = json.loads((ROOT / "llm" / "demo" / "vllm.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def demo() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "llm" / "demo" / "with_vllm.py"))


def test_the_table_of_the_guide_is_what_was_measured(demo: dict[str, Any]) -> None:
    (shown,) = re.findall(r"```\n(.*?)\n```", GUIDE.split("## What was measured")[1], re.S)
    assert shown == demo["table"](FOUND)


def test_all_bars_were_held_and_are_computed(demo: dict[str, Any]) -> None:
    assert all(FOUND["bars"].values())
    assert demo["bars"](FOUND) == FOUND["bars"]
    for change in (
        lambda found: found["engines"]["LoRA"]["apart"].update(back=2e-4),
        lambda found: found["runs"]["vLLM"]["mismatch"].append(2e-3),
        lambda found: found["runs"]["vLLM"]["win_rate"].update(value=0.0),
        lambda found: found["judges"][demo["SERVED"]].update(failures=1),
    ):
        worse = copy.deepcopy(FOUND)
        change(worse)
        assert sum(demo["bars"](worse).values()) == len(FOUND["bars"]) - 1


def test_the_settings_of_the_guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file makes an engine, which asks the server that it names."""
    monkeypatch.setenv("VLLM_URL", "http://127.0.0.1:8000")
    files = re.findall(r"```yaml\n(.*?)```", GUIDE, re.S)
    assert len(files) == 2
    for text in files:
        (tmp_path / "run.yaml").write_text(text)
        engine = assemble.engine(config_file.load(tmp_path / "run.yaml"))
        assert isinstance(engine, Server)


def test_the_run_of_the_demo_is_read() -> None:
    run = config_file.load(ROOT / "llm" / "demo" / "vllm.yaml")
    assert run.model.dtype == "float32"
    # The demo chooses both engines.
    assert not run.generation.engine
