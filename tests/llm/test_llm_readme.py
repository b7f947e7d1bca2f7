"""What the adapter's README shows is what happens."""

import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[2] / "llm" / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_script_ends_where_readme_says(capsys: pytest.CaptureFixture[str]) -> None:
    """To the digit at the start; the end depends on the machine's arithmetic a little."""
    ((script, printed),) = re.findall(r"```python\n(.*?)```\n\n```\n(.*?)```", README, re.S)
    exec(script, {})
    ours, theirs = (
        [float(x) for x in re.findall(r"\d\.\d+", text)]
        for text in (capsys.readouterr().out, printed)
    )
    assert ours[0] == theirs[0]
    assert ours[1] == pytest.approx(theirs[1], abs=0.01)
