from itertools import combinations, islice, pairwise

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba
from PIL import Image

import mpo_games as mg
from mpo_games import plot
from mpo_games.plot.looks import DASH_DOTTED, DASHED

GAME = mg.PreferenceGame([[0.5, 0.1, 0.8], [0.9, 0.5, 0.1], [0.2, 0.9, 0.5]])
START = GAME.policy([0.2, 0.5, 0.3])


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def solve(solver, budget=60, policy=START):
    return mg.solve(GAME, solver, budget, policy=policy)


def test_no_two_algorithms_look_alike():
    looks = [(style.color, style.dash) for style in plot.STYLES.values()]
    assert len(set(looks)) == len(looks)


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("MPO", "MPO"),
        ("MPO, K = 50", "MPO"),
        ("MPO-RT", "MPO-RT"),
        ("RM+, K = 50", "RM+"),
        ("MMD(eta=0.3, alpha=0.1)", "MMD"),
    ],
)
def test_a_label_looks_like_its_algorithm(label, name):
    assert plot.style(label) == plot.STYLES[name]


@pytest.mark.parametrize("label", ["mine", "MPOX", "MDx", "RM++", "NashMD(eta=1)"])
def test_other_labels_have_no_fixed_look(label):
    assert plot.style(label) is None


def test_convergence_draws_the_recorded_numbers_with_labels():
    traces = {"MPO": solve(mg.MPO(0.3, 0.1, 5)).trace, "mine": solve(mg.MMD(0.3, 0.1)).trace}
    ax = plot.convergence(traces)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("evaluations", "duality gap")
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert [text.get_text() for text in ax.texts] == ["MPO", "mine"]
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), traces["MPO"]["gap"][1:])
    assert ax.lines[0].get_color() == plot.STYLES["MPO"].color
    assert ax.lines[1].get_color() != ax.lines[0].get_color()


def test_batches_and_lists_of_traces_become_median_and_band():
    starts = np.random.default_rng(0).dirichlet(np.ones(3), size=(5, 1))
    solver = mg.MMD(0.3, 0.1)
    batch = solve(solver, policy=mg.TabularPolicy.from_probs(starts)).trace
    single = [solve(solver, policy=mg.TabularPolicy.from_probs(s)).trace for s in starts]
    one, many = plot.convergence({"MMD": batch}), plot.convergence({"MMD": single})
    np.testing.assert_allclose(one.lines[0].get_ydata(), np.median(batch["gap"], axis=1)[1:])
    np.testing.assert_allclose(one.lines[0].get_ydata(), many.lines[0].get_ydata())
    assert len(one.collections) == len(many.collections) == 1


def test_bound_is_dashed_and_linear_axis_starts_at_zero():
    trace = solve(mg.MMD(0.3, 0.1)).trace
    ax = plot.convergence({"MMD": trace}, log_x=False, bound=lambda t: 0.5 * 0.9**t)
    assert ax.lines[1].get_linestyle() == "--"
    np.testing.assert_allclose(ax.lines[1].get_ydata(), 0.5 * 0.9 ** trace["evaluations"])
    assert [text.get_text() for text in ax.texts] == ["MMD", "bound"]


def test_rounding_is_drawn_at_the_floor():
    at = np.arange(1.0, 4.0)
    trace = mg.Trace({"step": at, "evaluations": at, "gap": np.array([1.0, 0.0, -1e-17])})
    ax = plot.convergence({"x": trace})
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [1.0, 1e-17, 1e-17])


def test_labels_never_overlap():
    at = np.arange(1.0, 9.0)
    same = {
        f"run {i}": mg.Trace({"step": at, "evaluations": at, "gap": np.full(8, 1.0 + i / 1e3)})
        for i in range(12)
    }
    ax = plot.convergence(same)
    ax.figure.draw_without_rendering()
    boxes = sorted((text.get_window_extent() for text in ax.texts), key=lambda box: box.y0)
    assert all(low.y1 <= high.y0 + 3.0 for low, high in pairwise(boxes))


def test_traces_recorded_at_different_marks_are_refused():
    with pytest.raises(ValueError, match="different `evaluations`"):
        plot.convergence({"MMD": [solve(mg.MMD(0.3, 0.1), b).trace for b in (20, 30)]})
    with pytest.raises(ValueError, match="`traces` is empty"):
        plot.convergence({})


def test_a_solution_plots_itself():
    ax = solve(mg.MPO(0.3, 0.1, 5)).plot()
    assert "0x" not in ax.get_title()
    assert ax.get_ylabel() == "duality gap"


def test_simplex_draws_the_trajectory():
    path = np.array(
        [s.policy.probs[0] for s in islice(mg.iterate(GAME, mg.MPO(0.3, 0.1, 5), policy=START), 20)]
    )
    ax = plot.simplex(
        {"MPO": path}, points={"NE": np.array([4, 3, 4]) / 11}, magnets=path[::5], corners="ABC"
    )
    assert ax.lines[0].get_color() == plot.STYLES["MPO"].color
    assert len(ax.lines[0].get_xdata()) == 20
    assert {"A", "B", "C"} <= {text.get_text() for text in ax.texts}
    with pytest.raises(ValueError, match=r"must be \(steps, 3\)"):
        plot.simplex({"MPO": path[:, :2]})


def test_equal_figures_are_equal_bytes(tmp_path):
    trace = solve(mg.MPO(0.3, 0.1, 5)).trace
    for name in ("one", "two"):
        plot.save(plot.convergence({"MPO": trace}).figure, tmp_path / name)
    for suffix in (".svg", ".png"):
        first, second = ((tmp_path / n).with_suffix(suffix).read_bytes() for n in ("one", "two"))
        assert first == second
    assert {p.name for p in tmp_path.iterdir()} == {"one.svg", "one.png", "two.svg", "two.png"}
    assert not plt.get_fignums()


def test_a_figure_replaces_the_old_one(tmp_path):
    trace = solve(mg.MPO(0.3, 0.1, 5)).trace
    (tmp_path / "f.svg").write_text("old")
    svg, _ = plot.save(plot.convergence({"MPO": trace}).figure, tmp_path / "f")
    assert svg.read_text() != "old"


def test_an_animation_has_its_frames_on_white(tmp_path):
    figure, ax = plt.subplots(figsize=(1, 1))
    ax.axis("off")

    def frame(i):
        ax.plot([0, 1], [i, 2 * i], color=plot.BLUE)

    path = plot.save_animation(figure, frame, range(4), tmp_path / "deep" / "moving")
    assert path.name == "moving.gif"
    with Image.open(path) as gif:
        assert gif.n_frames == 4
        for i in range(4):
            gif.seek(i)
            assert gif.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
    assert not plt.get_fignums()


def test_a_heatmap_writes_what_it_colours():
    _, ax = plt.subplots()
    plot.heatmap(ax, np.array([[-3.1, -0.2], [-3.4, -9.0]]), ["one", "two"], ["a b", "c"])
    assert [text.get_text() for text in ax.texts] == ["-3", "0", "-3", "-9"]
    assert [text.get_fontweight() for text in ax.texts] == ["bold", "normal", "bold", "bold"]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["a\nb", "c"]


@pytest.mark.parametrize("kind", ["tables", "trees"])
def test_no_two_baselines_of_one_figure_look_alike(kind):
    names = [name for name, one in mg.baselines().items() if getattr(one, kind) is not None]
    looks = {name: plot.style(name) for name in names}
    for one, other in combinations(names, 2):
        if looks[one].color == looks[other].color:
            dashes = {looks[one].dash, looks[other].dash}
            # Dashes, and dashes with dots, are hard to tell apart where lines are short.
            assert len(dashes) == 2, (one, other)
            assert dashes != {DASHED, DASH_DOTTED}, (one, other)


def test_the_axis_says_what_line_and_band_are_and_a_piece_of_line_shows_the_dash():
    several = mg.Trace({"evaluations": np.arange(3.0), "gap": np.ones((3, 4))})
    lone = mg.Trace({"evaluations": np.arange(3.0), "gap": np.ones(3)})
    assert plot.convergence({"MPO": lone}).get_ylabel() == "duality gap"
    ax = plot.convergence({"RM+": several, "MMD": several}, band=(0.25, 0.75))
    said = "duality gap\nmedian, band 25 % to 75 %"
    assert plot.convergence({"MPO": lone}, ax=ax).get_ylabel() == said
    (pieces,) = [c for c in ax.collections if isinstance(c, LineCollection)]
    # RM+ and MMD have one colour; the labels of the first call were replaced.
    assert len(pieces.get_segments()) == len(ax.texts) == len(ax.lines) == 3
    assert [tuple(color) for color in pieces.get_colors()] == [
        to_rgba(line.get_color()) for line in ax.lines
    ]
