"""What the documentation shows is what happens, and what it points to is there."""

import importlib.util
import re
from pathlib import Path

import matplotlib
import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.glob("*.md")), *sorted((DOCS / "guides").glob("*.md"))]
NEEDED = {"mpo_llm": "torch", "leduc": "pyspiel"}
"""Blocks that mention the former need the latter."""

matplotlib.use("Agg")


def _rounded(text: str) -> str:
    """Rounding errors are not the same on every machine."""
    return re.sub(r"\d\.\de(\+00|-1\d)", "      0", text)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_every_block_runs_and_prints_what_the_page_says(
    page: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {"__name__": "page"}
    text = page.read_text(encoding="utf-8")
    for code, printed in re.findall(r"```python\n(.*?)```(?:\n\n```\n(.*?)```)?", text, re.S):
        for word, module in NEEDED.items():
            if word in code and importlib.util.find_spec(module) is None:
                return
        exec(code, scope)
        out = capsys.readouterr().out
        if printed:
            assert _rounded(out) == _rounded(printed)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_every_linked_page_is_there(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        # Sphinx finds the notebooks where `conf.py` copies them to.
        path = str((page.parent / target).resolve()).replace("/docs/tutorials/", "/notebooks/")
        assert Path(path).exists(), target


def test_every_named_test_is_there() -> None:
    named = [pair for p in PAGES for pair in re.findall(r"`(tests/\S+\.py)::(\w+)`", p.read_text())]
    assert len(named) >= 12
    for file, name in named:
        assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8"), (file, name)


@pytest.mark.parametrize("page", ["own_game", "own_solver"])
def test_a_game_or_a_solver_takes_at_most_15_lines(page: str) -> None:
    text = (DOCS / "guides" / f"{page}.md").read_text(encoding="utf-8")
    blocks = [b for b in re.findall(r"```python\n(.*?)```", text, re.S) if "\nclass " in b]
    assert blocks
    for block in blocks:
        lines = block[block.index("@dataclass") :].splitlines()
        assert sum(bool(line.strip()) for line in lines) <= 15


def test_a_comparison_with_all_baselines_takes_at_most_12_lines() -> None:
    text = (DOCS / "guides" / "compare.md").read_text(encoding="utf-8")
    block = re.findall(r"```python\n(.*?)```", text, re.S)[0]
    assert "**mg.baselines()" in block
    assert sum(bool(line.strip()) for line in block.splitlines()) <= 12
