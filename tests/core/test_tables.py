"""Strategies, records and summaries as tables: every line, all digits, and short prints."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mpo_games as mg
from mpo_games.games.tree_builder import Chance, Decision, Payoff
from mpo_games.table import LISTED, Table

GAME = mg.MatrixGame(
    [[1.0, 0.0, 0.5], [0.0, 2.0, 0.5]], rows=["up", "down"], columns=["a", "b", "c"]
)
TREE = mg.build_tree(
    Chance(
        [
            (0.5, Decision(0, "high", {"bet": Payoff(1.0), "fold": Payoff(-1.0)})),
            (
                0.5,
                Decision(
                    0,
                    "low",
                    {
                        "bet": Decision(1, "seen", {"call": Payoff(-2.0), "pass": Payoff(1.0)}),
                        "fold": Payoff(-1.0),
                    },
                ),
            ),
        ]
    )
)


def test_a_table_of_a_matrix_game() -> None:
    policy = GAME.policy([0.25, 0.75], [0.5, 0.125, 0.375])
    table = policy.table()
    assert table.columns == ("row", "action", "probability")
    assert table["row"] == ("row player",) * 2 + ("column player",) * 3
    assert table["action"] == ("up", "down", "a", "b", "c")
    # The padding of the shorter row is no action.
    np.testing.assert_allclose(table["probability"], [0.25, 0.75, 0.5, 0.125, 0.375], atol=1e-15)
    assert next(iter(table)) == dict(zip(table.columns, table.rows[0], strict=True))
    for other in (policy.smooth(0.5), policy.mix(policy, 0.5), mg.exact.nash(GAME).policy):
        assert other.table()["action"] == table["action"]
        assert other.table()["row"] == table["row"]


def test_a_table_of_preferences() -> None:
    single = mg.load("comal").initial_policy().table()
    assert single.columns == ("action", "probability")
    assert single["action"] == (0, 1, 2)
    table = 0.5 * np.ones((2, 3, 3))
    game = mg.PreferenceGame(table, responses=["x", "y", "z"], contexts=["one", "two"])
    found = mg.solve(game, mg.MPO(0.3, 0.1, 5), 20).table()
    assert found["row"] == ("one",) * 3 + ("two",) * 3
    assert found["action"] == ("x", "y", "z") * 2


def test_a_batch_has_a_column_of_runs() -> None:
    games = mg.MatrixGame(np.random.default_rng(0).normal(size=(2, 3, 2, 2)))
    table = games.initial_policy().table()
    assert len(table) == 2 * 3 * 4
    assert table.rows[0][0] == (0, 0)
    assert table.rows[-1][0] == (1, 2)
    assert TREE.initial_policy().table().columns[0] == "player"


def test_a_table_of_a_tree_has_every_state_reached_or_not() -> None:
    solution = mg.solve(TREE, mg.CFRPlus(), 200)
    table, tree = solution.table(), TREE.tree
    assert table.columns == ("player", "state", "action", "probability", "reach")
    assert len(table) == tree.sequences - 2
    assert list(table["probability"]) == solution.policy.probs[2:].tolist()
    plan = solution.policy.plan
    # Probability times reach is the realisation plan.
    np.testing.assert_allclose(np.multiply(table["probability"], table["reach"]), plan[2:])
    view = mg.BehaviouralGame(TREE)
    other = mg.solve(view, mg.MPO(0.3, 0.1, 20), 50)
    assert other.table()["state"] == table["state"]
    assert other.table()["action"] == ("bet", "fold", "bet", "fold", "call", "pass")


def test_names_are_given_once_and_in_full() -> None:
    payoff = np.eye(2)
    assert mg.MatrixGame(payoff, rows=["a", "b"]).actions == (("a", "b"), (0, 1))
    assert mg.MatrixGame(payoff, columns=["a", "b"]).actions == ((0, 1), ("a", "b"))
    with pytest.raises(ValueError, match="not both"):
        mg.MatrixGame(payoff, [["a", "b"], ["c", "d"]], rows=["a", "b"])
    with pytest.raises(ValueError, match="`columns` must be 2 names, got 3"):
        mg.MatrixGame(payoff, columns=["a", "b", "c"])


def test_prints_are_short_and_files_are_whole(tmp_path: Path) -> None:
    game = mg.load("random_zero_sum", n=200, m=200)
    table = mg.solve(game, mg.MPO(0.3, 0.1, 5), 3).table()
    for text in (str(table), repr(table)):
        assert len(text.splitlines()) == LISTED + 2 < 30
        assert "and 380 more rows" in text
    assert table._repr_html_().count("<tr>") == LISTED + 1
    with table.to_csv(tmp_path / "all.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert tuple(header) == table.columns
    assert tuple(float(row[-1]) for row in rows) == table["probability"]


def test_a_frame_of_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    pandas = pytest.importorskip("pandas")
    solution = mg.solve(GAME, mg.MPO(0.3, 0.1, 5), 20)
    frame = solution.trace.to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    for name in solution.trace:
        np.testing.assert_array_equal(frame[name], solution.trace[name])
    assert list(solution.table().to_pandas().columns) == ["row", "action", "probability"]
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        solution.table().to_pandas()


def test_texts_are_escaped_and_cut() -> None:
    table = Table(("a", "b"), (("<b>\n" + "x" * 90, 1 / 3), ("last", 2)))
    assert "&lt;b&gt;" in table._repr_html_()
    assert "<b>" not in table._repr_html_()
    assert max(map(len, str(table).splitlines())) < 80
    assert "0.3333" in str(table)
    with pytest.raises(KeyError, match="no column 'c'; it has a, b"):
        table["c"]


def test_a_summary_and_its_numbers() -> None:
    solution = mg.solve(GAME, mg.CFRPlus(), 100, tol=1e-9)
    assert solution.value == GAME.value(solution.policy)
    assert solution.exploitability == solution.gap / 2
    facts = dict(solution.summary().rows)
    assert facts["duality gap of the answer"] == solution.gap
    assert facts["value"] == solution.value
    assert facts["evaluations"] == 100
    assert "duality gap of the last iterate" in dict(mg.solve(GAME, mg.MMD(1, 1), 5).summary().rows)


def test_a_loaded_solution_knows_the_game(tmp_path: Path) -> None:
    solution = mg.solve(GAME, mg.MPO(0.3, 0.1, 5), 20)
    loaded = mg.Solution.load(solution.save(tmp_path / "run"), GAME)
    assert loaded.value == solution.value
    assert loaded.table() == solution.table()


def test_what_has_no_table_or_value_says_so() -> None:
    class Own:
        players = 1

        def initial_policy(self) -> Any:
            return mg.load("comal").initial_policy()

        def feedback(
            self, policy: Any, opponent: Any = None, *, player: Any = None, rng: Any = None
        ):
            return np.zeros((1, 3))

    solution = mg.solve(Own(), mg.MMD(0.1, 0.1), 3)
    with pytest.raises(ValueError, match="A Own knows no values"):
        _ = solution.value
    assert "evaluations" in dict(solution.summary().rows)
