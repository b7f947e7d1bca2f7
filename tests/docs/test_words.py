"""Pages for readers: every name is explained, every figure shown, no mark of a writer is left."""

import ast
import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

from experiments import NAMES
from mpo_games.plot.looks import STYLES

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def raw_marks() -> ModuleType:
    """The script that looks at built pages; `make docs` runs it."""
    spec = importlib.util.spec_from_file_location("raw_marks", ROOT / "docs" / "raw_marks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_glossary_explains_every_name_of_the_figures() -> None:
    page = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    explained = re.findall(r"\*\*(.+?)\*\*", page)
    assert set(STYLES) <= set(explained), set(STYLES) - set(explained)
    for word in ("gap", "NashConv", "exploitability", "QRE", "magnet"):
        assert any(word in entry for entry in explained), word


def test_results_count_the_claims_that_fail() -> None:
    rows = json.loads((ROOT / "experiments" / "results" / "claims.json").read_text())
    failed = sum(not row["holds"] for row in rows)
    names = ("No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten")
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert f"{names[failed]} of {len(rows)} claims do not hold" in page


@pytest.mark.parametrize("name", NAMES)
def test_the_gallery_has_every_figure_with_its_claim(name: str) -> None:
    page = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    source = (ROOT / "experiments" / f"{name}.py").read_text(encoding="utf-8")
    claim = (ast.get_docstring(ast.parse(source)) or "").split("\n\n")[0]
    assert f"{claim} (`{name}`)" in page
    assert f"experiments/figures/{name}." in page


@pytest.mark.parametrize(
    ("html", "found"),
    [
        ("<p>costs $x + \\alpha$</p>", ["costs $x + \\alpha$"] * 3),
        ("<p>a **bold** word and *Weighted*: so</p>", ["**bold**", "**bold**", "*Weighted*"]),
        ("<p>see `poker`</p><img alt='`a'>", ["`poker`", "`poker`", "`a"]),
        ("<pre>$ make</pre><code>**kw</code><script>`$x`</script><p>KL(p*||m)</p>", []),
    ],
)
def test_raw_marks_are_found_in_text_and_not_in_code(
    raw_marks: ModuleType, html: str, found: list[str]
) -> None:
    places = list(raw_marks.raw(html))
    assert len(places) == len(found)
    assert all(words in place for place, words in zip(places, found, strict=True))


@pytest.mark.parametrize("page", ["index.html", "playground.html"])
def test_the_committed_pages_show_no_raw_marks(raw_marks: ModuleType, page: str) -> None:
    text = (ROOT / "experiments" / page).read_text(encoding="utf-8")
    assert list(raw_marks.raw(text)) == []
    assert "http" not in re.sub(r"data:[\w/+]+;base64,[\w+/=]+", "", text)


def test_no_line_of_a_formula_begins_like_a_list() -> None:
    """Markdown reads a line that begins with "+ " as an item of a list, and ends the formula."""
    for notebook in sorted((ROOT / "notebooks").glob("[0-9]*.py")):
        text = notebook.read_text(encoding="utf-8")
        assert not re.findall(r"^# [+*-] \\\w+", text, re.M), notebook.name
