"""What the adapter's README shows is what happens."""

import re
from pathlib import Path

import numpy as np
import pytest

import mpo_games as mg
import mpo_llm as ml
import tiny

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


@pytest.mark.slow
def test_the_other_blocks_run() -> None:
    """On a tiny model, for a few steps."""
    tokenizer = tiny.tokenizer()
    names = {
        "ml": ml,
        "mg": mg,
        "model": tiny.model(),
        "tokenizer": tokenizer,
        "prompts": [tuple(tokenizer(text)["input_ids"]) for text in ("a b", "c")],
        "judge": tiny.cyclic,
        "rng": np.random.default_rng(0),
    }
    found = re.findall(r"```python\n(.*?)```(\n\n```\n)?", README, re.S)
    blocks = [block for block, printed in found if not printed]
    assert blocks
    for block in blocks:
        short = block.replace("max_tokens=64", "max_tokens=4").replace("budget=500", "budget=2")
        exec(short, names)
    assert names["report"].win_rate["start"].value > 0.0
