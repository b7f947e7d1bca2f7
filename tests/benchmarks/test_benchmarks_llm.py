"""The contest of language models: random models are of their shapes, we run alone, and table and
figure show what was measured and what was not."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import runpy
import subprocess
from pathlib import Path
from typing import Any

import llm_entrant
import llm_runs
import pytest
import random_models
import torch
from llm_entrant import Meter, Task, _common
from llm_workloads import SIZES

NAMES = runpy.run_path(random_models.__file__.replace("random_models", "llm"))


@pytest.mark.parametrize(("shape", "count"), [("1.5B", 1_543_714_304), ("7B", 6_738_415_616)])
def test_shapes_are_those_of_qwen2_and_llama(shape: str, count: int) -> None:
    """Published numbers of parameters."""
    with torch.device("meta"):
        model = random_models.build(shape)
    assert model.num_parameters() == count
    assert model.dtype == torch.bfloat16


def test_every_token_is_a_word() -> None:
    tokenizer = random_models.tokenizer(64)
    ids = list(range(64))
    assert len(tokenizer) == 64
    assert tokenizer(tokenizer.decode(ids), add_special_tokens=False)["input_ids"] == ids


def test_prompts_are_of_known_words_and_different_lengths() -> None:
    prompts = random_models.prompts("tiny", 100, 32)
    assert prompts == random_models.prompts("tiny", 100, 32)
    assert {len(prompt.split()) for prompt in prompts} == set(range(16, 33))
    unknown = random_models.tokenizer(512).unk_token_id
    assert all(unknown not in random_models.tokenizer(512)(p)["input_ids"] for p in prompts[:3])


def task(**changes: Any) -> Task:
    settings: dict[str, Any] = {
        "model": "nowhere",
        "dtype": "float32",
        "lora": False,
        "prompts": ("w5",) * 8,
        "at_once": 8,
        "samples": 4,
        "tokens": 4,
        "rows": 8,
        "checkpointing": False,
        "steps": 2,
    }
    return Task(**(settings | changes))


@pytest.mark.parametrize(("items", "rows"), [(32, 1), (8, 2)])
def test_peers_update_once_a_step_over_the_same_rows(items: int, rows: int) -> None:
    """GRPO's items are responses, online DPO's are prompts of two."""
    settings = _common(task(), Meter(), items, rows)
    batch, parts = (
        settings[name] for name in ("per_device_train_batch_size", "gradient_accumulation_steps")
    )
    assert batch * rows == 8
    assert batch * parts == items
    with pytest.raises(ValueError, match="`rows` must part a step evenly"):
        _common(task(rows=3 * rows), Meter(), items, rows)


def measured(speed: float, memory: int) -> dict[str, Any]:
    return {
        "seconds": [9.0, 8.0 / speed],
        "trained": 4,
        "tokens_per_second": speed,
        "per_completion": 2.0 / speed,
        "peak_mb": memory,
        "device": "CPU",
        "clock": {},
    }


def test_table_and_figure(capsys: pytest.CaptureFixture[str]) -> None:
    full = {"ours": measured(30.0, 1024), "grpo": measured(15.0, 2048)}
    results = {"full": full, "lora": {"ours": measured(60.0, 512), "grpo": {"note": "No memory."}}}
    for kind, found in results.items():
        NAMES["show"]("small", kind, found)
    said = capsys.readouterr().out
    assert "time at most 0.55 x the best peer: met (0.50)" in said
    assert "memory at most 0.7 x the best peer: met (0.50)" in said
    assert "No memory." in said
    assert NAMES["markdown"]({"results": results}).splitlines()[2:] == [
        "| MPO, exact KL | 0.07 | 1.0 | 0.03 | 0.5 |",
        "| GRPO | 0.13 | 2.0 |  |  |",
    ]
    step = dataclasses.asdict(SIZES["small"])
    figure = NAMES["figure"]({"size": "small", "step": step, "results": results})
    bars = [[bar.get_height() for bar in ax.patches] for ax in figure.axes]
    assert bars == [[30.0, 60.0, 15.0, 0.0], [1.0, 0.5, 2.0, 0.0]]
    assert [text.get_text() for text in figure.axes[0].texts] == ["30", "60", "15", "none"]


def test_memory_is_compared_with_the_fastest_peer(capsys: pytest.CaptureFixture[str]) -> None:
    """Nash-MD needs the least memory, because it trains on fewer responses."""
    peers = {"grpo": measured(20.0, 2048), "nash_md": measured(5.0, 512)}
    NAMES["show"]("small", "full", {"ours": measured(25.0, 1024), **peers})
    said = capsys.readouterr().out
    assert "time at most 0.55 x the best peer: MISSED (0.80)" in said
    assert "memory at most 0.7 x the best peer: met (0.50)" in said


def test_peers_are_measured_without_us(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is not measured again is kept, as long as the step is the same."""
    NAMES["show"]("small", "full", {"grpo": measured(20.0, 2048)})
    assert "aim" not in capsys.readouterr().out
    out, size = tmp_path / "llm.json", SIZES["small"]
    record = NAMES["begun"](out, "small", size)
    record["results"]["full"]["grpo"] = measured(20.0, 2048)
    out.write_text(json.dumps(record))
    assert NAMES["begun"](out, "small", size) == record
    changed = NAMES["begun"](out, "small", dataclasses.replace(size, rows=size.rows + 1))
    assert changed["results"] == {"full": {}, "lora": {}}


def test_an_entrant_that_fails_costs_a_line() -> None:
    assert llm_runs.run("false", "ours", task()) == {"note": "ended by 1"}


def test_an_entrant_that_is_killed_costs_a_line(tmp_path: Path) -> None:
    """What it had printed to standard error says nothing about why."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'Loading weights' >&2\nkill -9 $$\n")
    python.chmod(0o755)
    assert llm_runs.run(str(python), "ours", task()) == {"note": "ended by signal 9"}


def test_an_entrant_that_takes_too_long_costs_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(*_: Any, timeout: float, **__: Any) -> None:
        raise subprocess.TimeoutExpired("entrant", timeout)

    monkeypatch.setattr(subprocess, "run", late)
    assert llm_runs.run("python", "ours", task(), 60.0) == {"note": "no result within 60 s"}


def test_a_size_yields_to_what_is_asked_for() -> None:
    asked = NAMES["Arguments"](size=("7B",), rows=4, checkpointing=False)
    assert asked.scale("7B").rows == 4
    assert not asked.scale("7B").checkpointing
    assert asked.scale("7B").tokens == SIZES["7B"].tokens


@pytest.mark.slow
def here(command: list[str], *, input: str = "", **_: Any) -> subprocess.CompletedProcess[str]:
    """What the command does, in this process: a new one takes long to import what this one has."""
    program, *arguments = command[1:]
    if program == random_models.__file__:
        random_models.save(arguments[0], Path(arguments[1]))
        return subprocess.CompletedProcess(command, 0, "", "")
    with contextlib.redirect_stdout(io.StringIO()) as out:
        llm_entrant.main(arguments[0], Task(**json.loads(input)))
    return subprocess.CompletedProcess(command, 0, out.getvalue(), "")


def test_we_run_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """That an entrant has a process of its own is seen in the tests of the minutes on a GPU."""
    monkeypatch.setattr(subprocess, "run", here)
    out = tmp_path / "llm_tiny.json"
    NAMES["main"](NAMES["Arguments"](size=("tiny",), steps=2, folder=tmp_path))
    size = SIZES["tiny"]
    record = json.loads(out.read_text())
    for found in record["results"].values():
        (ours,) = found.values()
        assert ours["trained"] == size.prompts * size.samples
        assert 0 < ours["tokens"][1] <= ours["trained"] * size.tokens
        assert ours["per_completion"] == ours["seconds"][1] / ours["trained"]
        assert ours["tokens_per_second"] == ours["tokens"][1] / ours["seconds"][1]
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert out.with_suffix(".svg").exists()
    assert capsys.readouterr().out.count("where our seconds go") == 2
