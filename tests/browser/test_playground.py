"""The playground in a real browser: its numbers are those of the package, its controls work."""

import json
from collections.abc import Iterator
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import Browser, found

import mpo_games as mg
from mpo_games.plot.looks import STYLES

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(found() is None, reason="no Chromium: install it, or set CHROMIUM"),
]

PAGE = Path(__file__).parents[2] / "experiments" / "playground.html"
CYCLES = ((0.1, 0.1, 0.2), (0.3, 0.05, 0.45), (0.9, 0.6, 0.7))
"""P(A over B), P(B over C), P(C over A) of games with an equilibrium inside the simplex."""
OTHERS = (
    (0.7, 0.8, 0.4),  # A beats both
    (0.5, 0.9, 0.1),  # A and B are level, and beat C
    (0.5, 0.3, 0.4),  # from a corner to the middle of an edge
    (0.5, 0.5, 0.2),  # an edge
    (0.5, 0.5, 0.5),  # every policy
)
STARTS = ((0.2, 0.5, 0.3), (0.002, 0.018, 0.98))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as one:
        yield one


@pytest.fixture
def page(browser: Browser) -> Iterator[Browser]:
    """The page in a large window, without animation; a script that fails is a failure."""
    browser.view(1280, 900)
    browser.open(PAGE.as_uri())
    yield browser
    assert not browser.errors


def solvers(eta: float, alpha: float, period: int) -> dict[str, mg.Solver]:
    return {
        "MD": mg.MirrorDescent(eta),
        "MMD": mg.MMD(eta, alpha),
        "MPO": mg.MPO(eta, alpha, period),
        "Optimistic MPO": mg.OptimisticMPO(eta, alpha, period),
    }


def table(P: tuple[float, float, float]) -> list[list[float]]:
    ab, bc, ca = P
    return [[0.5, ab, 1 - ca], [1 - ab, 0.5, bc], [ca, 1 - bc, 0.5]]


def ran(page: Browser, P: Any, method: str, **settings: Any) -> dict[str, np.ndarray]:
    """The run of the page's own code."""
    case = {"P": table(P), "method": method, **settings}
    return {k: np.array(x) for k, x in page.run(f"run({json.dumps(case)})").items()}


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize(("eta", "alpha", "K"), [(0.3, 0.1, 50), (1.2, 0.03, 7), (0.05, 0.9, 1)])
@pytest.mark.parametrize("P", CYCLES + OTHERS)
def test_iterates_magnets_and_gaps_are_those_of_the_package(
    page: Browser, P: Any, eta: float, alpha: float, K: int, start: Any
) -> None:
    game = mg.PreferenceGame(table(P))
    for method, solver in solvers(eta, alpha, K).items():
        ours = ran(page, P, method, start=start, eta=eta, alpha=alpha, K=K, steps=300)
        states = list(islice(mg.iterate(game, solver, policy=game.policy(start)), 301))
        policies = [state.policy.probs[0] for state in states]
        np.testing.assert_allclose(ours["policies"], policies, rtol=0.0, atol=1e-9)
        gaps = [float(game.duality_gap(state.policy)) for state in states]
        np.testing.assert_allclose(ours["gaps"], gaps, rtol=0.0, atol=1e-9)
        if method != "MD":
            magnets = [state.magnet.probs[0] for state in states]
            np.testing.assert_allclose(ours["magnets"], magnets, rtol=0.0, atol=1e-9)


def test_long_runs_end_where_solve_ends(page: Browser) -> None:
    game = mg.load("comal")
    for method, solver in solvers(0.3, 0.1, 50).items():
        ours = ran(page, CYCLES[0], method, start=STARTS[0], eta=0.3, alpha=0.1, K=50, steps=2000)
        theirs = mg.solve(game, solver, 2000, policy=game.policy(STARTS[0]))
        np.testing.assert_allclose(ours["policies"][-1], theirs.policy.probs[0], atol=1e-9)
        assert ours["gaps"][-1] == pytest.approx(theirs.gap, abs=1e-9)


@pytest.mark.parametrize("P", CYCLES + OTHERS)
def test_the_formula_finds_all_equilibria(page: Browser, P: Any) -> None:
    game = mg.PreferenceGame(table(P))
    corners = np.array(page.run(f"equilibria({json.dumps(table(P))})"))
    for point in corners:
        assert float(game.duality_gap(game.policy(point))) <= 1e-15
    nash = mg.exact.nash(game).policy.probs[0]
    if len(corners) == 1:
        np.testing.assert_allclose(corners[0], nash, atol=1e-12)
    # On a grid every policy without a gap is a mixture of the corners, and every other is not.
    for a, b in product(np.linspace(0.0, 1.0, 21), repeat=2):
        if a + b <= 1.0:
            p = np.array([a, b, 1.0 - a - b])
            is_equilibrium = float(game.duality_gap(game.policy(p))) <= 1e-12
            assert mixture_of(corners, p) == is_equilibrium, p


def mixture_of(corners: np.ndarray, p: np.ndarray) -> bool:
    """Whether `p` is a convex combination of at most three points."""
    ones = np.ones(len(corners))
    left = np.vstack([corners.T, ones])
    weights, *_ = np.linalg.lstsq(left, np.append(p, 1.0), rcond=None)
    return bool(np.abs(left @ weights - np.append(p, 1.0)).max() < 1e-9 and weights.min() > -1e-9)


def test_presets_show_what_they_say(page: Browser) -> None:
    names = page.run("Object.keys(PRESETS)")
    set_by = {name: page.run(f"(choose({json.dumps(name)}), state)") for name in names}

    def gap(name: str, method: str | None = None) -> float:
        one = set_by[name]
        game = mg.PreferenceGame(table(one["P"]))
        solver = solvers(one["eta"], one["alpha"], one["K"])[method or one["method"]]
        return mg.solve(game, solver, one["steps"], policy=game.policy(one["start"])).gap

    assert gap("Circling") > 0.5
    assert 0.01 < gap("Stopping short") < 0.1
    assert gap("Arriving") < 1e-12
    assert gap("K = 1") > 0.3
    assert gap("Large steps") < 1e-12
    assert gap("Large steps", "MPO") > 0.01
    for method in solvers(0.3, 0.1, 50):
        assert (gap("One best answer", method) < 1e-12) is (method != "MMD")
    assert len(page.run("equilibria(table(PRESETS['Many equilibria'][0].P))")) == 2
    one = set_by["K = 1"]
    game, step = mg.PreferenceGame(table(one["P"])), one["eta"] / (1 + one["eta"] * one["alpha"])
    ours = ran(page, **{**one, "steps": 300})["policies"]
    same = mg.solve(game, mg.MirrorDescent(step), 300, policy=game.policy(one["start"]))
    np.testing.assert_allclose(ours[-1], same.policy.probs[0], atol=1e-9)


def test_the_sentence_says_what_the_package_computes(page: Browser) -> None:
    page.open(f"{PAGE.as_uri()}#P=0.3,0.05,0.45&start=0.6,0.3,0.1&method=MMD&eta=0.2&alpha=0.2")
    game = mg.PreferenceGame(table((0.3, 0.05, 0.45)))
    found = mg.solve(game, mg.MMD(0.2, 0.2), 2000, policy=game.policy([0.6, 0.3, 0.1]))
    said = page.run("$('status').textContent")
    for p in (found.policy, mg.exact.nash(game).policy):
        assert ", ".join(f"{x:.3f}" for x in p.probs[0]) in said
    assert page.run("location.hash").startswith("#P=0.3,0.05,0.45&start=0.6,0.3,0.1&method=MMD")


@pytest.mark.parametrize("address", ["P=a,b,c", "eta=-3&K=0&steps=nan", "start=0,0,0&method=GRPO"])
def test_an_address_that_makes_no_sense_changes_no_more_than_the_bounds(
    page: Browser, address: str
) -> None:
    page.open(f"{PAGE.as_uri()}#{address}")
    assert np.isfinite(page.run("runs[state.method].gaps")).all()
    assert page.run("Object.entries(RANGES).every(([n, [a, b]]) => a <= state[n] && state[n] <= b)")


@pytest.mark.parametrize("width", [1280, 390])
def test_the_start_is_dragged_by_mouse_and_by_finger(page: Browser, width: int) -> None:
    page.view(width, 800)
    page.run("$('simplex').scrollIntoView()")
    middle = "(({x, y, width, height}) => [x + width / 2, y + height / 2])"
    begin = page.run(f"{middle}($('start').getBoundingClientRect())")
    star = page.run(f"{middle}($('stars').getBoundingClientRect())")
    page.drag(begin, star, touch=width < 600)
    # To the pixel: the equilibrium's star is a place that both know.
    np.testing.assert_allclose(page.run("state.start"), np.array([4, 3, 4]) / 11, atol=0.02)
    assert page.run("runs.MD.policies[0]") == page.run("state.start")


def test_keys_move_the_start_the_preferences_and_the_presets(page: Browser) -> None:
    page.run("$('start').focus()")
    page.press("ArrowUp")
    np.testing.assert_allclose(page.run("state.start"), [0.22, 0.49, 0.29], atol=1e-9)
    assert page.run("$('start').getAttribute('aria-valuetext')") == "A 0.22, B 0.49, C 0.29"
    page.run("$('P-10').focus()")
    page.press("ArrowLeft")
    assert page.run("state.P[0]") == 0.11
    assert page.run("[$('out-01').textContent, $('out-10').textContent]") == ["0.11", "0.89"]
    page.run("$('presets').children[0].focus()")
    page.press("Enter")
    assert page.run("[state.method, state.P[0]]") == ["MD", 0.1]


def test_the_animation_plays_and_pauses(page: Browser) -> None:
    page.view(1280, 900, calm=False)
    page.open(PAGE.as_uri())
    look = "const look = () => shown > 5 ? done() : setTimeout(look, 20)"
    page.run(f"new Promise(done => {{{look}; look()}})")
    page.run("$('play').click()")
    assert page.run("playing") is None
    assert page.run("$('status').textContent").startswith("MPO, step ")


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_nothing_is_wider_than_the_window(page: Browser, width: int) -> None:
    page.view(width, 800)
    assert page.run("document.scrollingElement.scrollWidth") <= width


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
def test_the_main_controls_are_seen_at_once(page: Browser, width: int, height: int) -> None:
    page.view(width, height)
    page.open(PAGE.as_uri())
    for name in ("presets", "simplex", "player", "methods", "settings"):
        box = page.run(f"(({{top, bottom}}) => [top, bottom])($('{name}').getBoundingClientRect())")
        assert 0 <= box[0] < box[1] <= height, name


def test_it_is_dark_where_the_reader_wants_it(page: Browser) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    light = page.run(paper)
    page.view(390, 800, dark=True)
    assert [light, page.run(paper)] == ["rgb(255, 255, 255)", "rgb(22, 24, 26)"]


def test_every_control_has_a_name(page: Browser) -> None:
    nodes = page.send("Accessibility.getFullAXTree")["nodes"]
    controls = [
        n for n in nodes if n["role"]["value"] in {"slider", "spinbutton", "radio", "button"}
    ]
    names = [n["name"]["value"] for n in controls]
    assert len(names) == len(set(names)) > 25
    assert all(len(name) > 2 for name in names)


def test_it_asks_for_nothing_else(page: Browser) -> None:
    assert set(page.requests) == {PAGE.as_uri()}
    text = PAGE.read_text(encoding="ascii")  # also: names and text are ASCII
    assert "http" not in text


def test_methods_have_their_colours_of_the_figures(page: Browser) -> None:
    for method in solvers(0.3, 0.1, 50):
        name = json.dumps(method)
        value = (
            f"getComputedStyle(document.documentElement).getPropertyValue(METHODS[{name}].color)"
        )
        assert page.run(value) == STYLES[method].color
