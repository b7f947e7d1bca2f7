"""What a training run has written, without times, for the tests of the trainer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from mpo_llm.training import checkpoint


def weights(run: Path, step: int) -> dict[str, np.ndarray]:
    """All arrays of a checkpoint."""
    folder = run / "checkpoints" / f"step-{step:06d}"
    found = load_file(folder / checkpoint.STATE)
    aliases = json.loads((folder / checkpoint.HEADER).read_text())["aliases"]
    return found | {key: found[other] for key, other in aliases.items()}


def lines(run: Path, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    """Without times and memory, which differ from run to run."""
    # A run that plays a game draws no samples.
    if name == "samples.jsonl" and not (run / name).exists():
        return []
    rows = [json.loads(line) for line in (run / name).read_text().splitlines()]
    spent = ("seconds", "peak_memory")
    return [{k: v for k, v in row.items() if not k.startswith(spent)} for row in rows]


def same(one: Path, two: Path, step: int) -> None:
    """The two runs have equal checkpoints and records, bit for bit."""
    a, b = weights(one, step), weights(two, step)
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name, strict=True)
    headers = [
        json.loads((run / "checkpoints" / f"step-{step:06d}" / checkpoint.HEADER).read_text())
        for run in (one, two)
    ]
    for header in headers:
        del header["seconds"]
    assert headers[0] == headers[1]
    assert lines(one) == lines(two)
    assert lines(one, "samples.jsonl") == lines(two, "samples.jsonl")
