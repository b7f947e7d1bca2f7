"""The settings of the guide to vLLM, and of its demo."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mpo_llm.engines import Server
from mpo_llm.training import assemble, config_file

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "guides" / "vllm.md").read_text(encoding="utf-8")


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
