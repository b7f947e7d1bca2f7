"""What judges and scores may answer, what is refused, and how a failing judge is reported."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mpo_llm as ml
import tiny
from mpo_llm import factories, judges
from mpo_llm.judges.protocol import ask, judged
from mpo_llm.judges.scores import scored
from mpo_llm.judges.sharing import shared
from mpo_llm.networks.processes import OneProcess
from test_llm_game import text_game

TEXTS = ["a", "b", "c"]
ANSWERS = [0.25, 0.5, 1.0]


def saying(answers: object) -> ml.Judge:
    return lambda prompts, a, b: answers  # type: ignore[return-value]


@pytest.mark.parametrize(
    "answers",
    [
        tuple(ANSWERS),
        np.array(ANSWERS, np.float16),
        torch.tensor(ANSWERS, requires_grad=True),
        torch.tensor(ANSWERS, dtype=torch.bfloat16),
        torch.nn.Parameter(torch.tensor(ANSWERS, dtype=torch.float16)),
        [torch.tensor(x, requires_grad=True) for x in ANSWERS],
        [torch.tensor(x, dtype=torch.bfloat16) for x in ANSWERS],
        [np.float32(0.25), Fraction(1, 2), Decimal(1)],
        (x for x in ANSWERS),
        np.ma.masked_array(ANSWERS, [False] * 3),
        [0.25, 0.5, 1.0000001],
        torch.tensor([0.25, 0.5, 1.0 + 5e-7]),
    ],
    ids=lambda answers: type(answers).__name__,
)
def test_answers_of_every_kind_are_read(answers: object) -> None:
    np.testing.assert_array_equal(judged(saying(answers), TEXTS, TEXTS, TEXTS), ANSWERS)


@pytest.mark.parametrize(
    ("answers", "match"),
    [
        (dict.fromkeys(TEXTS, 0.5), "got a dict"),
        ({0.1, 0.2, 0.3}, "got a set"),
        ("0.5", "got a str"),
        (["0.5", "0.5", "0.5"], "got '0.5'"),
        ([0.5, 0.5, 0.5j], "got"),
        ([0.5, [0.5], 0.5], "unlike numbers"),
        ([0.5, 0.5, object()], "got <object"),
        (0.5, "got 0.5"),
        (None, "got None"),
        (np.full((3, 1), 0.5), r"got shape \(3, 1\)"),
        (torch.full((3, 1), 0.5), r"got shape \(3, 1\)"),
        ([0.5, 1.00001, 0.5], "got 1.00001 for comparison 1"),
        ([0.5, 0.5, np.inf], "got inf for comparison 2"),
        ([0.5, 0.5, -1], "got -1.0 for comparison 2"),
        (np.ma.masked_array(ANSWERS, [False, True, False]), "got nan for comparison 1"),
    ],
)
def test_other_answers_are_refused_in_a_sentence(answers: object, match: str) -> None:
    with pytest.raises(judges.JudgeError, match=f"The judge must return .*{match}"):
        judged(saying(answers), TEXTS, TEXTS, TEXTS)


@pytest.mark.parametrize("error", [RuntimeError("no\n connection."), KeyError("x"), TypeError()])
def test_what_a_judge_raises_is_named(error: Exception) -> None:
    def fail(prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Any:
        raise error

    with pytest.raises(judges.JudgeError, match=f"The judge raised {type(error).__name__}") as e:
        judged(fail, TEXTS, TEXTS, TEXTS)
    assert e.value.__cause__ is error
    assert "\n" not in str(e.value)
    # A wrapper that asks again must see the error itself.
    with pytest.raises(type(error)):
        ask(fail, TEXTS, TEXTS, TEXTS)


class Two(OneProcess):
    """Two processes that hold the same judge, as one of them sees them."""

    size = 2

    def gather(self, mine: Any) -> list[Any]:
        return [mine, mine]


def test_among_processes_an_error_is_a_sentence() -> None:
    """An exception that holds an open file, say, could not be sent to another process."""

    def fail(prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Any:
        raise RuntimeError(lambda: None)

    with pytest.raises(judges.JudgeError, match="The judge raised RuntimeError"):
        judged(shared(Two(), fail), TEXTS, TEXTS, TEXTS)
    half = shared(Two(), lambda x, a, b: torch.full((len(x),), 0.5, requires_grad=True))
    np.testing.assert_array_equal(half(TEXTS[:2], TEXTS[:2], TEXTS[:2]), [0.5, 0.5])


# --------------------------------------------------------------------------------------- scores


def test_scores_of_every_kind_are_read() -> None:
    for answers in (
        torch.tensor([1.0, 2.0, 4.0], dtype=torch.bfloat16),
        torch.tensor([1.0, 2.0, 4.0], requires_grad=True),
        [torch.tensor(1.0), None, 4],
    ):
        found = scored(lambda x, y, answers=answers: answers, TEXTS, TEXTS)
        assert found[[0, 2]].tolist() == [1.0, 4.0]
    with pytest.raises(judges.JudgeError, match=r"A score must return .* 3 responses, got a dict"):
        scored(lambda x, y: {}, TEXTS, TEXTS)
    with pytest.raises(judges.JudgeError, match=r"got shape \(3, 1\)"):
        scored(lambda x, y: torch.zeros(3, 1), TEXTS, TEXTS)


def test_infinite_scores_compare() -> None:
    """Equal ones tie: their difference would be NaN, a failure."""
    values = {"a": -np.inf, "b": 0.0, "c": -np.inf}

    def score(x: Sequence[str], y: Sequence[str]) -> list[float]:
        return [values[text] for text in y]

    for judge in (judges.BradleyTerry(score), judges.Higher(score)):
        np.testing.assert_array_equal(ask(judge, TEXTS, TEXTS, ["b", "a", "a"]), [0, 1, 0.5])


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, np.inf])
def test_a_scale_is_positive(scale: float) -> None:
    with pytest.raises(ValueError, match="`scale` must be a finite number above 0"):
        judges.BradleyTerry(lambda x, y: [0.0], scale)
    with pytest.raises(ValueError, match="`pause` must be a finite number of at least 0"):
        judges.Retried(saying([]), pause=np.nan)


# ------------------------------------------------------------------------------------- the game


def test_equal_texts_of_different_tokens_tie() -> None:
    """The judge is not asked about them, and asked about two texts once."""
    asked: list[tuple[str, str]] = []

    def judge(prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> list[float]:
        asked.extend(zip(a, b, strict=True))
        return [float(x > y) for x, y in zip(a, b, strict=True)]

    spelled = {0: "x", 1: "x", 2: "y"}
    game = dataclasses.replace(
        text_game(judge), decode=lambda ids: "".join(spelled.get(i, "?") for i in ids)
    )
    own = ml.Responses(
        game.prompts[:1], np.zeros(4, int), np.array([[0], [1], [2], [1]]), np.ones(4, int)
    )
    i, j, payoff = game.compare(own, own)
    table = np.zeros((4, 4))
    table[i, j] = payoff
    lower = [0.0, 0.0, -0.5, 0.0]
    np.testing.assert_array_equal(table, [lower, lower, [0.5, 0.5, 0.0, 0.5], lower])
    assert asked == [("x", "y")]


# ------------------------------------------------------------------------------------ factories

NAMED = ("judge.factory", "judge.options")


@pytest.mark.parametrize("name", ["json.py", "judge.py", "torch.py", "my-judge.v2.py", "numpy.py"])
def test_a_file_of_a_judge_may_have_any_name(name: str, tmp_path: Path) -> None:
    """It replaces no module of that name. A dataclass in it finds its module."""
    import json
    import sys

    file = tmp_path / name
    file.write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "@dataclass(slots=True)\nclass Judge:\n    p: float = 0.5\n"
        "    def __call__(self, x, a, b):\n        return [self.p] * len(x)\n"
    )
    before = dict(sys.modules)
    made = factories.make("a judge", f"{file}:Judge", {"p": 0.75}, named=NAMED)
    assert made(["x"], ["a"], ["b"]) == [0.75]
    assert sys.modules["json"] is json
    assert all(sys.modules[key] is module for key, module in before.items())


@pytest.mark.parametrize(
    ("code", "options", "match"),
    [
        ("def make(:\n", {}, "cannot run .*SyntaxError"),
        ("import nowhere_at_all\n", {}, "cannot run .*nowhere_at_all"),
        ("x = 1 / 0\n", {}, "cannot run .*ZeroDivisionError"),
        ("def make(): return len(3)\n", {}, "failed: TypeError: object of type 'int'"),
        ("def make(): return {}['key']\n", {}, "failed: KeyError: 'key'"),
        ("def make(): raise RuntimeError('no GPU')\n", {}, "failed: RuntimeError: no GPU"),
        ("def make(): return 3\n", {}, "must return a judge, a function, got 3"),
        ("def make(a): return len\n", {}, r"judge\.py:make' needs `judge.options`: a\.$"),
        ("def make(): return len\n", {"b": 1}, "`judge.options` do not suit .*'b'"),
    ],
)
def test_a_factory_that_fails_says_why(
    code: str, options: dict[str, int], match: str, tmp_path: Path
) -> None:
    file = tmp_path / "judge.py"
    file.write_text(code)
    with pytest.raises(ValueError, match=match):
        factories.make("a judge", f"{file}:make", options, named=NAMED)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("x"), ValueError("y")]
)
def test_the_command_line_says_it_in_a_line(
    error: Exception, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from mpo_llm import cli
    from mpo_llm.training import config_file

    def fail(*comparisons: Any) -> Any:
        raise error

    tiny.judges["raising"] = fail
    path = tmp_path / "run.yaml"
    path.write_text(config_file.dump(tiny.config(tmp_path, judge={"options": {"name": "raising"}})))
    assert cli.main(["train", str(path)]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(
        "mpo-llm: out of memory"
        if isinstance(error, torch.OutOfMemoryError)
        else f"mpo-llm: The judge raised {type(error).__name__}: "
    )
