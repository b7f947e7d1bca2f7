"""Run an entrant of the contest of language models in a process, and read its numbers."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from llm_entrant import Task

ENTRANT = Path(__file__).with_name("llm_entrant.py")


def run(python: str, name: str, task: Task, limit: float | None = None) -> dict[str, Any]:
    """The measurements of an entrant, or a `note` that says why there are none.

    `python` is the interpreter, `limit` the most seconds that it may take.
    """
    try:
        done = _ended(python, name, task, limit)
    except subprocess.TimeoutExpired:
        return {"note": f"no result within {limit:.0f} s"}
    if done.returncode < 0:
        # The system ends a process so that takes too much memory, and the process says nothing.
        return {"note": f"ended by signal {-done.returncode}"}
    if done.returncode:
        return {"note": (done.stderr.strip().splitlines() or [f"ended by {done.returncode}"])[-1]}
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    # The first step warms up.
    each = median(found["seconds"][1:])
    found["per_completion"] = each / found["trained"]
    found["tokens_per_second"] = median(found["tokens"][1:]) / each
    return found


def _ended(
    python: str, name: str, task: Task, limit: float | None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, str(ENTRANT), name],
        input=json.dumps(asdict(task)) + "\n",
        env={
            "CUDA_VISIBLE_DEVICES": "0",
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=limit,
    )
