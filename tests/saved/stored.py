"""What the tests of stored runs share: where the files are, and how machines may differ."""

from __future__ import annotations

import json
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import llvmlite.binding
import numpy as np

HERE = Path(__file__).parent

NEAR = 1e-6
"""How far a run may end from the stored one where arithmetic itself is another."""


def arithmetic() -> str:
    """A checksum of how this machine computes: the processor, the libraries and some results.

    Exponentials and products differ in their last bit from one processor or library to another, so
    a run can only be repeated bit for bit where this is equal.
    """
    x = np.linspace(-30.0, 3.0, 500)
    a = np.exp(x).reshape(20, 25)
    found = sha256(np.concatenate([a.ravel(), np.log(a).ravel(), (a @ a.T).ravel()]).tobytes())
    found.update(llvmlite.binding.get_host_cpu_name().encode())
    for package in ("numpy", "scipy", "numba", "torch", "transformers", "peft"):
        try:
            found.update(version(package).encode())
        except PackageNotFoundError:
            found.update(b"none")
    return found.hexdigest()[:16]


def expected(name: str) -> tuple[dict[str, Any], bool]:
    """What a file of expectations holds, and whether it was computed with this arithmetic."""
    found = json.loads((HERE / name).read_text(encoding="utf-8"))
    return found["runs"], found["arithmetic"] == arithmetic()


def write_expected(name: str, runs: dict[str, Any]) -> None:
    """Store expectations; floats are written such that they are read back bit for bit."""
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(run)}" for key, run in runs.items())
    text = f'{{"arithmetic": "{arithmetic()}", "runs": {{\n{lines}\n}}}}\n'
    (HERE / name).write_text(text, encoding="utf-8")


def assert_same(found: Any, stored: Any, exact: bool, what: str) -> None:
    """Equal bit for bit, or nearly so where the machine computes otherwise."""
    one, two = np.asarray(found, dtype=np.float64), np.asarray(stored, dtype=np.float64)
    if exact:
        assert np.array_equal(one, two, equal_nan=True), what
    else:
        np.testing.assert_allclose(one, two, rtol=NEAR, atol=NEAR, err_msg=what)
