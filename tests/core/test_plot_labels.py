"""Titles, labels, looks and files of figures; pictures of policies."""

from itertools import islice

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest

import mpo_games as mg
from mpo_games import plot
from mpo_games.plot.naming import named
from mpo_games.provenance import spell

GAME = mg.load("comal")
START = GAME.policy([0.2, 0.5, 0.3])


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


ALIKE = {
    "EG restarted, L2 (PDLP)": ["EG restarted"],
    "RT-RM+": ["RT-CFR+"],
}
"""Baselines whose solver is that of another name, which plays other games or another geometry."""


def solved(solver, budget=30):
    return mg.solve(GAME, solver, budget, policy=START)


def texts(ax):
    return [text.get_text() for text in ax.texts]


@pytest.mark.parametrize("name", mg.baselines())
def test_every_baseline_is_named_and_looks_as_in_the_figures(name):
    baseline = mg.baselines()[name]
    for method in (baseline.tables, baseline.trees):
        if method is not None and name != "Anchored Popov, L2":
            found, settings = named(spell(method.solver(method.default)))
            assert plot.style(found) in {plot.style(n) for n in (name, *ALIKE.get(name, ()))}
            # These two are written for another step size.
            if name not in ("EGPO", "Nash-MD"):
                said = [f"{key} {value:g}" for key, value in method.default.items()]
                assert set(settings) <= set(said)


def test_a_lone_solution_has_a_short_title_and_its_methods_colour():
    ax = solved(mg.MPO(0.3, 0.1, 5)).plot()
    assert ax.get_title(loc="left") == "MPO, eta 0.3, alpha 0.1, period 5"
    assert ax.lines[0].get_color() == plot.STYLES["MPO"].color
    assert solved(mg.MirrorDescent(0.3)).plot(label="mine").get_title(loc="left") == "mine"


def test_several_solutions_on_one_axes_differ_and_are_labelled():
    solvers = [mg.MPO(0.3, 0.1, 5), mg.MPO(0.3, 0.1, 9), mg.MMD(0.3, 0.1), mg.MMD(0.3, 0.1)]
    ax = None
    for solver in solvers:
        ax = solved(solver).plot(ax=ax)
    assert texts(ax) == ["MPO, period 5", "MPO, period 9", "MMD", "MMD (2)"]
    assert ax.get_title(loc="left") == ""
    looks = {(line.get_color(), str(line._unscaled_dash_pattern)) for line in ax.lines}
    assert len(looks) == 4
    assert ax.lines[0].get_color() == ax.lines[1].get_color() == plot.STYLES["MPO"].color


def test_a_label_without_a_look_never_gets_one_that_is_taken():
    traces = {"MMD": solved(mg.MMD(0.3, 0.1)).trace}
    traces |= {f"mine {i}": traces["MMD"] for i in range(12)}
    ax = plot.convergence(traces)
    looks = [(line.get_color(), str(line._unscaled_dash_pattern)) for line in ax.lines]
    # Ten spare looks, one of which is MMD's.
    assert len(set(looks)) == 10


def test_floor_holds_for_the_bound():
    trace = solved(mg.MMD(0.3, 0.1)).trace
    ax = plot.convergence({"MMD": trace}, floor=0.2, bound=lambda at: 1.0 / at**2)
    for line in ax.lines:
        assert line.get_ydata().min() == 0.2


@pytest.mark.parametrize("metric", [["gap"], {"gap"}, 3, None])
def test_a_metric_that_is_no_name_is_refused(metric):
    with pytest.raises(ValueError, match="`metric` must be the name of a recorded column"):
        solved(mg.MMD(0.3, 0.1)).plot(metric)
    with pytest.raises(KeyError, match="no column 'gpa'"):
        solved(mg.MMD(0.3, 0.1)).plot("gpa")


def test_a_figure_is_written_in_the_format_that_was_asked_for(tmp_path):
    for name, start in {"a.pdf": b"%PDF", "b.PNG": b"\x89PNG", "c.svg": b"<?xml"}.items():
        (path,) = plot.save(solved(mg.MMD(0.3, 0.1)).plot(), tmp_path / name)
        assert path == tmp_path / name
        assert path.read_bytes().startswith(start)
    both = plot.save(solved(mg.MMD(0.3, 0.1)).plot(), tmp_path / "gap_0.3")
    assert [path.name for path in both] == ["gap_0.3.svg", "gap_0.3.png"]
    assert len(list(tmp_path.iterdir())) == 5
    with pytest.raises(ValueError, match=r"`path` must end in one of .*\.pdf"):
        plot.save(solved(mg.MMD(0.3, 0.1)).plot(), tmp_path / "figure.docx")
    with pytest.raises(ValueError, match="`figure` must be a figure or its axes"):
        plot.save(solved(mg.MMD(0.3, 0.1)), tmp_path / "figure")


def test_states_are_drawn_with_their_magnets():
    ax = plot.simplex({"MPO": mg.iterate(GAME, mg.MPO(0.3, 0.1, 5), policy=START)}, steps=20)
    states = list(islice(mg.iterate(GAME, mg.MPO(0.3, 0.1, 5), policy=START), 21))
    path = np.array([state.policy.probs[0] for state in states])
    same = plot.simplex({"MPO": path}, magnets=path[::5])
    assert len(ax.lines) == len(same.lines) == 4
    for one, other in zip(ax.lines, same.lines, strict=True):
        np.testing.assert_allclose(one.get_xydata(), other.get_xydata())
    plain = plot.simplex({"MD": mg.iterate(GAME, mg.MirrorDescent(0.3), policy=START)}, steps=9)
    assert len(plain.lines) == 3
    named_game = mg.PreferenceGame(GAME.preferences[0], responses=("x", "y", "z"))
    ax = plot.simplex({"MD": mg.iterate(named_game, mg.MirrorDescent(0.3))}, steps=3)
    assert {"x", "y", "z"} <= set(texts(ax))


def test_a_field_shows_first_steps():
    solver = mg.MMD(0.3, 0.1)
    ax = plot.field(GAME, solver, magnet=START, density=4)
    (arrows,) = ax.collections
    moved = []
    for point in ([1, 1, 2], [1, 2, 1], [2, 1, 1]):
        first = mg.iterate(GAME, solver, policy=GAME.policy(np.array(point) / 4), magnet=START)
        one, two = islice(first, 2)
        moved.append(np.linalg.norm(two.policy.probs[0] - one.policy.probs[0]))
    lengths = np.hypot(arrows.U, arrows.V)
    # The triangle is drawn to one scale in all directions.
    np.testing.assert_allclose(lengths / lengths[0], np.array(moved) / moved[0], rtol=1e-6)


def test_a_strategy_is_a_bar_for_each_state():
    tree = mg.build_tree(_bluff())
    policy = mg.exact.nash(tree).policy
    ax = plot.strategy(policy, states={"bad": "Ann, bad", "bet": "Bob"})
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["Ann, bad", "Bob"]
    widths = [bar.get_width() for bar in ax.patches]
    np.testing.assert_allclose(widths, [2 / 3, 1 / 3, 1 / 3, 2 / 3], atol=1e-6)
    assert {t.get_text() for t in ax.get_legend().get_texts()} == {"check", "bet", "fold", "call"}
    assert len(plot.strategy(policy).get_yticklabels()) == 3
    with pytest.raises(ValueError, match="has no state 'ugly'"):
        plot.strategy(policy, states=["ugly"])
    assert len(plot.strategy(solved(mg.MMD(0.3, 0.1))).patches) == 3
    with pytest.raises(ValueError, match="`policy` is a batch"):
        plot.strategy(mg.TabularPolicy.from_probs(np.full((2, 1, 3), 1 / 3)))


def test_preferences_are_arrows_from_winner_to_loser():
    ax = plot.preferences(GAME, "ABC")
    assert [text.get_text() for text in ax.texts if "%" in text.get_text()] == ["80%", "90%", "90%"]
    assert {"A", "B", "C"} <= set(texts(ax))
    with pytest.raises(ValueError, match="one square table"):
        plot.preferences(np.zeros((2, 3)))


def _bluff():
    from mpo_games.games.tree_builder import Chance, Decision, Payoff

    def ann(card, showdown):
        call = Decision(1, "bet", {"fold": Payoff(1), "call": Payoff(2 * showdown)})
        return Decision(0, card, {"check": Payoff(showdown), "bet": call})

    return Chance([(0.5, ann("good", +1)), (0.5, ann("bad", -1))])


def test_names_are_drawn_as_they_are():
    game = mg.MatrixGame([[1, 2], [2, 1]], rows=["$5", "10$"], columns=[r"$\no$", "_"])
    drawn = [plot.strategy(game.initial_policy()).figure]
    drawn.append(mg.rank([("$5", r"$\no$", "a"), (r"$\no$", "10$", "a")], resamples=0).plot())
    drawn.append(plot.preferences(np.array([[0.5, 0.9], [0.1, 0.5]]), [r"$\no$", "b"]).figure)
    for figure in drawn:
        figure.canvas.draw()
    legend = drawn[0].axes[0].get_legend().get_texts()
    assert [text.get_text() for text in legend] == [r"\$5", r"10\$", r"\$\no\$", "_"]


@pytest.mark.parametrize("game", ["kuhn_poker", "biased_rps"])
def test_what_has_no_triangle_or_arrows_is_refused(game):
    if game == "kuhn_poker":
        pytest.importorskip("pyspiel")
    for draw in (plot.preferences, lambda game: plot.field(game, mg.MPO(0.3, 0.1, 50))):
        with pytest.raises(ValueError, match="must be"):
            draw(mg.load(game))


def test_no_label_at_the_ends_is_no_text():
    _, ax = plt.subplots()
    plot.label_ends(ax, [])
    assert not ax.texts
    plot.label_ends(ax, [("MPO", 0.5, plot.BLUE)])
    assert [text.get_text() for text in ax.texts] == ["MPO"]
