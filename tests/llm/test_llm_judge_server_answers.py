"""The file in which the answers of a judge's server are kept."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mpo_llm import judges


def test_answers_are_shared_and_survive(tmp_path: Path) -> None:
    """Two writers at a time, a line that was cut, lines of others, and a file that was removed."""
    one, two = judges.Answers(tmp_path / "known"), judges.Answers(tmp_path / "known")
    one.add("a", 0.25)
    assert two.get("a") is None
    two.refresh()
    assert two.get("a") == 0.25
    file = tmp_path / "known" / "answers.jsonl"
    with file.open("ab") as end:
        end.write(b'{"key": "b", "ans')
    two.add("c", 0.75)
    with file.open("ab") as end:
        end.write(
            b'5\n{"key": 3, "answer": 1}\n{"key": "d", "answer": NaN}\n'
            b'{"key": "e", "answer": true}\n'
        )
    three = judges.Answers(tmp_path / "known")
    assert {n: three.get(n) for n in "abcde"} == {
        "a": 0.25,
        "b": None,
        "c": 0.75,
        "d": None,
        "e": None,
    }
    file.unlink()
    one.add("f", 1.0)
    one.refresh()
    assert one.get("a") == 0.25
    assert len(judges.Answers(tmp_path / "known")) == 1


def test_many_writers_at_a_time(tmp_path: Path) -> None:
    """Every line is whole, whoever writes: each writer has the file open for itself."""
    writers = [judges.Answers(tmp_path) for _ in range(4)]
    with ThreadPoolExecutor(8) as pool:
        for i in range(400):
            pool.submit(writers[i % 4].add, f"{i:032x}", i / 400)
    found = judges.Answers(tmp_path)
    assert {f"{i:032x}": found.get(f"{i:032x}") for i in range(400)} == {
        f"{i:032x}": i / 400 for i in range(400)
    }
    assert (tmp_path / "answers.jsonl").read_bytes().count(b"\n") == 400


def test_a_full_disk_keeps_the_answers_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = judges.Answers(tmp_path)
    known.add("a", 0.25)

    def full(file: Any, line: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mpo_llm.judges.answers._append", full)
    with pytest.warns(UserWarning, match="cannot be written to .*No space left on device"):
        known.add("b", 0.5)
    known.add("c", 0.75)
    assert [known.get(n) for n in "abc"] == [0.25, 0.5, 0.75]
    assert len(judges.Answers(tmp_path)) == 1
