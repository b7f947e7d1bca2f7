"""What a first script gets wrong is answered in a sentence that says what to write instead."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import mpo_games as mg

GAME = mg.load("comal")
START = GAME.initial_policy()
MPO = mg.MPO(0.3, 0.1, 50)

MISTAKES: dict[str, tuple[Callable[[], object], str]] = {
    "a name for a game": (lambda: mg.solve("comal", MPO, 10), r'like `load\("comal"\)`'),
    "a name for a solver": (lambda: mg.solve(GAME, "mpo", 10), r"like `MPO\(eta="),
    "a solver without settings": (lambda: mg.solve(GAME, mg.MPO, 10), "got MPO without"),
    "its class": (lambda: mg.solve(GAME, mg.AutoMPO, 10), "got AutoMPO without"),
    "the solver first": (lambda: mg.solve(MPO, GAME, 10), "the game comes first"),
    "an average first": (lambda: mg.solve(mg.CFRPlus(), GAME, 10), "the game comes first"),
    "a game for a solver": (lambda: mg.solve(GAME, GAME, 10), "the game comes first"),
    "a baseline": (lambda: mg.solve(GAME, mg.baselines()["MPO"], 10), r"`\.solver\(game\)`"),
    "the class of a game": (lambda: mg.solve(mg.MatrixGame, MPO, 10), "got the class MatrixGame"),
    "a strength without settings": (lambda: mg.MMD(mg.Measured, 0.1), "got the class Measured"),
    "an average of a class": (lambda: mg.Averaged(mg.MMD), "got MMD without"),
    "a game in capitals": (lambda: mg.load("COMAL"), "did you mean comal"),
    "a beginning of a game": (lambda: mg.load("rand"), "did you mean random_"),
    "numbers for a policy": (
        lambda: mg.solve(GAME, MPO, 10, policy=[0.2, 0.3, 0.5]),
        "like `game.initial_policy",
    ),
    "numbers in a question": (lambda: GAME.duality_gap([0.2, 0.3, 0.5]), r"like `game\.policy"),
    "numbers for a magnet": (lambda: mg.exact.qre(GAME, 0.1, [0.2, 0.3, 0.5]), "`magnet`"),
    "a file for a solution": (
        lambda: mg.solve(GAME, MPO, 10, resume="run.npz"),
        "like `Solution.load",
    ),
    "a list of metrics": (lambda: mg.solve(GAME, MPO, 10, metrics={"gap": "gap"}), "functions"),
    "a schedule without settings": (lambda: mg.MMD(0.3, 0.1, magnet=mg.Every), "`Every\\(50\\)`"),
    "a number for a schedule": (lambda: mg.MMD(0.3, 0.1, magnet=50), "`magnet` must be"),
    "a word for a choice": (lambda: mg.MMD(0.3, 0.1, feedback="optimistic"), "`optimistic`"),
    "payoffs for preferences": (lambda: mg.cyclicity.report(mg.load("rps")), "PreferenceGame"),
    "a solution for a trace": (
        lambda: mg.plot.convergence({"MPO": mg.solve(GAME, MPO, 10)}),
        "pass its `trace`",
    ),
    "a trace without a label": (
        lambda: mg.plot.convergence(mg.solve(GAME, MPO, 10).trace),
        "label: solution.trace",
    ),
    "a number for a bound": (
        lambda: mg.plot.convergence({"MPO": mg.solve(GAME, MPO, 10).trace}, bound=3),
        "`bound` must be a value that can be called",
    ),
    "a solution for a trajectory": (
        lambda: mg.plot.simplex({"MPO": mg.solve(GAME, MPO, 10)}),
        r"states as `mpo_games.iterate\(game, solver\)` yields them",
    ),
    "no games to compare on": (lambda: mg.compare({"MPO": MPO}, {}, 10), "`games` is empty"),
    "a word for workers": (
        lambda: mg.compare({"MPO": MPO}, "comal", 10, workers="all"),
        "`workers` must be a number of processes",
    ),
    "a game that was not compared": (
        lambda: mg.compare({"MPO": MPO}, "comal", 10, progress=False).plot("rps"),
        "`game` must be one of comal, got 'rps'",
    ),
    "preferences that do not add up": (
        lambda: mg.PreferenceGame([[0.5, 0.6], [0.5, 0.5]]),
        r"P\[0, 1\] \+ P\[1, 0\] is 0.6 \+ 0.5",
    ),
    "preferences in a context that do not": (
        lambda: mg.PreferenceGame([np.full((2, 2), 0.5), [[0.5, 0.5], [0.2, 0.5]]]),
        r"in context 1 P\[0, 1\] \+ P\[1, 0\] is 0.5 \+ 0.2",
    ),
    "a cell that is empty": (
        lambda: mg.MatrixGame([[1.0, 2.0], [float("nan"), 0.0]]),
        r"entry \[1, 0\] is nan",
    ),
    "weights of a table": (
        lambda: mg.dilation.payoff_scaled(mg.load("rps")),
        "a game with a tree, .*, got rps",
    ),
    "probabilities for a policy": (
        lambda: mg.solve(GAME, MPO, 10, policy=[0.2, 0.5, 0.3]),
        "got list: `game.policy` makes one",
    ),
}


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`path` is a folder"):
        mg.solve(GAME, MPO, 10).save(tmp_path)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered_in_a_sentence(mistake: str) -> None:
    make, answer = MISTAKES[mistake]
    with pytest.raises(ValueError, match=answer):
        make()


@pytest.mark.parametrize(
    "solver", [mg.GradientAscent(0.1), mg.M2WU(0.1, 0.1), mg.APMD(0.1, 0.1, 5)]
)
def test_methods_of_tables_refuse_trees(solver: mg.Solver) -> None:
    """Their formulas would be wrong there and, worse, run."""
    leaf = mg.games.tree_builder.Payoff
    root = mg.games.tree_builder.Decision(0, "only", {"a": leaf(1.0), "b": leaf(0.0)})
    with pytest.raises(ValueError, match="BehaviouralGame"):
        mg.solve(mg.build(root), solver, 2)


def test_oracles_ask_for_games() -> None:
    with pytest.raises(TypeError, match=r"MatrixGame\(payoff\)"):
        mg.exact.nash(np.eye(2))
    with pytest.raises(TypeError, match=r"MatrixGame\(payoff\)"):
        mg.exact.qre("comal", 0.1)
