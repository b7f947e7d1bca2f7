"""What README shows is what happens."""

import importlib.util
import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_every_block_runs_and_prints_what_readme_says(capsys: pytest.CaptureFixture[str]) -> None:
    scope: dict[str, object] = {}
    for code, printed in re.findall(r"```python\n(.*?)```(?:\n\n```\n(.*?)```)?", README, re.S):
        if "leduc" in code and importlib.util.find_spec("pyspiel") is None:
            continue
        exec(code, scope)
        lines = capsys.readouterr().out.splitlines()
        for ours, theirs in zip(lines, printed.splitlines(), strict=False):
            # A gap may be rounding: its size is not the same on every machine.
            assert re.sub(r"gap \d+e-1\d", "gap 0", ours) == re.sub(
                r"gap \d+e-1\d", "gap 0", theirs
            )
        assert len(lines) >= len(printed.splitlines())


def test_every_linked_file_is_there() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert (Path(__file__).parents[2] / target).exists(), target
