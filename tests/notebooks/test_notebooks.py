"""The committed notebooks are their sources, executed: figures, claims and folded solutions."""

import json
from itertools import pairwise
from pathlib import Path

import jupytext
import pytest

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
SOURCES = sorted(NOTEBOOKS.glob("[0-9]*.py"))


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem[:2])
def test_source_and_notebook_agree(source: Path) -> None:
    written = jupytext.read(source).cells
    executed = json.loads(source.with_suffix(".ipynb").read_text(encoding="utf-8"))["cells"]
    assert [c["cell_type"] for c in executed] == [c.cell_type for c in written]
    assert ["".join(c["source"]) for c in executed] == [c.source for c in written]


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem[:2])
def test_a_notebook_shows_figures_and_asks_questions(source: Path) -> None:
    text = source.with_suffix(".ipynb").read_text(encoding="utf-8")
    outputs = [o for c in json.loads(text)["cells"] for o in c.get("outputs", [])]
    assert sum("image/png" in o.get("data", {}) for o in outputs) >= 3
    assert not any(o["output_type"] == "error" or o.get("name") == "stderr" for o in outputs)
    assert 3 <= text.count("<summary>Solution</summary>") <= 5
    assert len(text) < 1_500_000
    assert "/tmp/" not in text
    assert "/home/" not in text


def test_they_lead_from_one_to_the_next() -> None:
    for here, following in pairwise(SOURCES):
        assert f"({following.stem}.ipynb)" in here.read_text(encoding="utf-8")
