"""Comparisons: the numbers are those of `solve`, whatever the order, workers and failures."""

import importlib
import linecache
import sys
from dataclasses import dataclass

import joblib
import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest

import mpo_games as mg
from mpo_games.method import race, tune

GAMES = {name: mg.load(name) for name in ("rps", "biased_rps", "comal")}
FEW = {name: mg.baselines()[name] for name in ("MPO", "EG restarted", "EG restarted, L2 (PDLP)")}


@dataclass(frozen=True)
class Mine:
    """A solver of a user."""

    eta: float
    fails_on: float = -1.0

    def step(self, game, state, rng=None):
        if game.bound.max() == self.fails_on:
            raise RuntimeError("no luck")
        q = game.feedback(state.policy, rng=rng)
        moved = state.policy.mirror_step(q, None, eta=self.eta, alpha=0.0)
        return state.advance(moved, 1.0)


def compare(solvers, games=GAMES, budget=100, **options):
    return mg.compare(solvers, games, budget, progress=False, **options)


def test_a_gap_is_that_of_solve():
    result = compare({"Mine": Mine(0.3), "average": mg.Averaged(Mine(0.3))})
    for name, solver in {"Mine": Mine(0.3), "average": mg.Averaged(Mine(0.3))}.items():
        for game, instance in GAMES.items():
            found = mg.solve(instance, solver, 100, at=result.marks)
            np.testing.assert_array_equal(result.gaps(name, game)[:, 0], found.trace["gap"])


def test_settings_of_baselines_do_not_depend_on_the_unit_of_payoff():
    plain = compare(FEW, {"one": GAMES["biased_rps"]})
    large = compare(FEW, {"one": mg.MatrixGame(1024.0 * GAMES["biased_rps"].payoff)})
    for name in FEW:
        np.testing.assert_allclose(
            large.gaps(name), 1024.0 * plain.gaps(name), rtol=1e-6, atol=1e-9
        )


def test_workers_and_order_change_nothing():
    one = compare({"Mine": Mine(0.3), **FEW})
    with joblib.parallel_config(backend="threading"):
        two = compare({**FEW, "Mine": Mine(0.3)}, workers=2)
    for name in one.solvers:
        np.testing.assert_array_equal(one.gaps(name), two.gaps(name))
    assert str(one).splitlines()[2:] == str(two).splitlines()[2:]


@pytest.mark.slow
def test_processes_give_the_same_numbers():
    one, two = (compare({"Mine": Mine(0.3)}, workers=n) for n in (1, 2))
    np.testing.assert_array_equal(one.gaps("Mine"), two.gaps("Mine"))


def test_a_class_that_only_this_session_has_is_sent_to_other_processes():
    @dataclass(frozen=True)
    class Local(Mine):
        share: float = 1.0

    cloudpickle = pytest.importorskip("cloudpickle")
    # As joblib sends what no file defines: a class of a notebook.
    sent = cloudpickle.loads(cloudpickle.dumps(Local(0.3)))
    np.testing.assert_array_equal(
        compare({"Mine": sent}).gaps("Mine"), compare({"Mine": Local(0.3)}).gaps("Mine")
    )


def test_a_seed_draws_the_game_and_the_noise():
    drawn = {
        "random": lambda seed: mg.load("random_preferences", n=4, seed=seed),
        "noisy": lambda seed: mg.NoisyGame(GAMES["rps"], 0.1),
    }
    result = compare({"Mine": Mine(0.3)}, drawn, seeds=range(3))
    for game, make in drawn.items():
        for seed in range(3):
            found = mg.solve(make(seed), Mine(0.3), 100, at=result.marks, seed=seed)
            gaps = np.maximum(found.trace["gap"], 0.0)
            np.testing.assert_array_equal(result.gaps("Mine", game)[:, seed], gaps)
    assert "2 games, 3 seeds" in str(result)


def test_a_run_that_fails_does_not_lose_the_others():
    result = compare({"Mine": Mine(0.3, fails_on=3.0), "MD": mg.MirrorDescent(0.3)})
    assert [run.game for run in result.failures] == ["biased_rps"]
    assert result.gaps("Mine").shape == (len(result.marks), 2)
    assert result.gaps("MD").shape == (len(result.marks), 3)
    # It had fewer games, so its median says less.
    assert result.solvers == ("MD", "Mine")
    said = "Mine failed, on biased_rps with seed 0 for example: RuntimeError: no luck"
    assert said in str(result)
    assert said in result._repr_html_()


def test_nan_is_a_failure_of_its_run_alone():
    def divide(game, state, prox, rng):
        return state.advance(state.policy.replace(state.policy.coordinates * np.nan), 1.0)

    result = compare({"bad": mg.MMD(0.3, 0.1, feedback=divide), "MD": mg.MirrorDescent(0.3)})
    assert len(result.failures) == 3
    assert "NaN" in result.failures[0].failure
    assert result.gaps("bad").size == 0
    assert result.table()["median"][-1] == np.inf


def test_an_interrupt_keeps_what_is_done_and_a_folder_goes_on(tmp_path, monkeypatch):
    calls = []

    def stops(self, game, state, rng=None):
        calls.append(game)
        if len(calls) == 250:
            raise KeyboardInterrupt
        return step(self, game, state, rng)

    step = Mine.step
    monkeypatch.setattr(Mine, "step", stops)
    first = compare({"Mine": Mine(0.3)}, cache=tmp_path)
    assert first.notes == ("Interrupted: 1 of 3 runs are missing.",)
    assert first.games == ("rps", "biased_rps")
    whole = compare({"Mine": Mine(0.3)}, cache=tmp_path)
    assert len(calls) == 350
    again = compare({"Mine": Mine(0.3)}, cache=tmp_path)
    assert len(calls) == 350
    assert not whole.notes
    np.testing.assert_array_equal(whole.gaps("Mine"), again.gaps("Mine"))
    # Another setting, budget, seed or game is another run; so is a damaged file.
    compare({"Mine": Mine(0.4)}, {"rps": GAMES["rps"]}, cache=tmp_path)
    compare({"Mine": Mine(0.3)}, {"rps": GAMES["rps"]}, seeds=[1], cache=tmp_path)
    assert len(calls) == 550
    for file in tmp_path.glob("*.json"):
        file.write_text("{")
    compare({"Mine": Mine(0.3)}, cache=tmp_path)
    assert len(calls) == 850


EDITED = """
import mpo_games as mg

class Base:
    def step(self, game, state, rng=None):
        return mg.MirrorDescent({eta}).step(game, state, rng)

class Derived(Base):
    pass
"""


def test_a_folder_notices_what_a_solver_inherits(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    found = []
    for eta in (0.1, 0.9):
        (tmp_path / "edited_solver.py").write_text(EDITED.format(eta=eta))
        importlib.invalidate_caches()
        linecache.clearcache()
        solver = importlib.import_module("edited_solver").Derived()
        found.append(compare({"Mine": solver}, "biased_rps", cache=tmp_path).gaps("Mine"))
        del sys.modules["edited_solver"]
    assert not np.array_equal(*found)


class Scaled:
    """A game of a user, known by nothing that this package looks at."""

    players = 2

    def __init__(self, scale):
        self.inside = mg.MatrixGame(scale * mg.load("biased_rps").payoff)

    def feedback(self, *args, **options):
        return self.inside.feedback(*args, **options)

    def initial_policy(self):
        return self.inside.initial_policy()

    def duality_gap(self, policy):
        return self.inside.duality_gap(policy)

    @property
    def legal(self):
        return self.inside.legal


def test_a_folder_tells_games_of_others_apart_within_ours(tmp_path):
    first, other = (
        compare({"Mine": mg.MirrorDescent(0.3)}, mg.NoisyGame(Scaled(by), 0.1), cache=tmp_path)
        for by in (1.0, 3.0)
    )
    assert not np.array_equal(first.gaps("Mine"), other.gaps("Mine"))


def test_games_of_another_kind_are_left_out_in_a_sentence():
    rivals = {name: mg.baselines()[name] for name in ("MPO", "CFR+", "PCFR+")}
    result = compare(rivals)
    said = "Left out on rps, biased_rps, comal, because they are made for trees: CFR+; PCFR+."
    assert result.notes == (said,)
    assert said in str(result)
    with pytest.raises(ValueError, match="CFR\\+ is a baseline on trees, not on a MatrixGame"):
        rivals["CFR+"].method(GAMES["rps"])


def test_tuning_chooses_by_the_rule_on_other_games():
    tuning = {"random": lambda seed: mg.load("random_zero_sum", n=4, m=4, seed=seed)}
    mine = mg.Method("Mine", "yours", Mine, {"eta": (0.01, 0.1, 1.0)})
    result = compare({"Mine": mine, "MPO": FEW["MPO"]}, seeds=(0, 1), tune_on=tuning)
    batches = [(tuning["random"](seed), None) for seed in (2, 3)]
    late = [mark for mark in result.marks if mark >= 1.0]
    for name, method in {"Mine": mine, "MPO": FEW["MPO"].tables}.items():
        best = tune(method, batches, late, scaled=True)
        assert all(run.setting == best for run in result.runs if run.solver == name)
        direct = race(method, best, [(GAMES["rps"], None)], result.marks.tolist(), scaled=True)
        np.testing.assert_array_equal(result.gaps(name, "rps")[:, :1], direct)
    with pytest.raises(ValueError, match="no `default`"):
        compare({"Mine": mine})


def test_a_grid_that_is_larger_than_the_baselines_is_said():
    grid = {"eta": tuple(np.geomspace(0.01, 1.0, 13))}
    mine = mg.Method("Mine", "yours", Mine, grid)
    result = compare({"Mine": mine}, "rps", 20, tune_on="biased_rps")
    assert result.notes == ("Mine chose among 13 settings, the baselines among 12.",)


@dataclass(frozen=True)
class Stopped(Mine):
    """A solver in whose step the user presses Ctrl-C."""

    def step(self, game, state, rng=None):
        raise KeyboardInterrupt


def test_an_interrupt_while_methods_are_tuned_is_a_sentence_and_a_folder_goes_on(tmp_path):
    grid = {"eta": (0.1, 0.3)}
    mine, stopped = (mg.Method(c.__name__, "yours", c, grid) for c in (Mine, Stopped))
    for cache, word in ((None, "with `cache=`"), (tmp_path, "the same call goes on")):
        result = compare({"A": mine, "B": stopped}, "rps", 20, tune_on="biased_rps", cache=cache)
        (said,) = result.notes
        assert said.startswith("Interrupted: 1 of 2 methods are not tuned yet, and nothing has run")
        assert word in said
        assert said in " ".join(str(result).split())
        assert said.replace("'", "&#x27;") in result._repr_html_()
        assert (result.runs, result.solvers, result.games, result.own) == ((), (), (), ("A", "B"))
        assert len(result.table()) == 0
        with pytest.raises(ValueError, match="nothing to draw"):
            result.plot()
    assert len(list(tmp_path.glob("*.json"))) == 1
    whole = compare({"A": mine}, "rps", 20, tune_on="biased_rps", cache=tmp_path)
    assert whole.solvers == ("A",)


def test_a_table_says_which_mark_it_shows():
    result = compare({"Mine": Mine(0.3)}, "rps", 20)
    for mark in result.marks:
        assert result.table(at=mark).notes == ()
    between = result.table(at=10.5)
    assert between.rows == result.table(at=10).rows
    assert between.notes == ("Gaps after 10 evaluations, the last mark before 10.5.",)
    assert between.notes[0] in str(between)
    assert between.notes[0] in between._repr_html_()
    for bad in (0.5, 0, -1, 20.5, np.inf, np.nan, "all", True):
        with pytest.raises(ValueError, match="between 1 and 20 evaluations"):
            result.table(at=bad)


def test_the_table_ranks_and_always_has_your_own():
    many = {f"MD {i}": mg.Baseline(f"MD {i}", FEW["MPO"].tables, None) for i in range(25)}
    result = compare({"Mine": mg.MirrorDescent(3.0), **many}, "rps", 20)
    table = result.table()
    assert len(table) == 26
    assert list(table["median"]) == sorted(table["median"])
    lines = str(result).splitlines()
    assert lines[0] == "Duality gap after 20 evaluations: 26 solvers, 1 game, 1 seed"
    assert any(line.startswith("Mine ") for line in lines)
    assert len(lines) == 18
    earlier = result.table(at=10.5)
    found = result.gaps("Mine")[result.marks.tolist().index(10.0), 0]
    assert dict(zip(earlier["solver"], earlier["median"], strict=True))["Mine"] == found
    frame = pytest.importorskip("pandas") and result.to_pandas()
    assert len(frame) == 26 * len(result.marks)


def test_the_figure_has_a_colour_of_its_own_for_yours_and_a_bound():
    result = compare({"Mine": Mine(0.3), **FEW})
    ax = result.plot(bound=lambda at: 1.0 / at, named=1)
    lines = {line.get_label(): line for line in ax.lines}
    best = next(name for name in result.solvers if name != "Mine")
    assert {text.get_text() for text in ax.texts} == {"Mine", best, "bound"}
    library = {style.color for style in mg.plot.STYLES.values()}
    assert lines["Mine"].get_color() not in library
    assert lines[best].get_color() == mg.plot.STYLES[best].color
    np.testing.assert_allclose(lines["Mine"].get_ydata(), np.median(result.gaps("Mine"), axis=1))
    assert ax.get_title(loc="left") == "median of 3 games"
    assert result.plot("rps").get_title(loc="left") == "rps"
    plt.close("all")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"solvers": mg.MPO(0.3, 0.1, 5)}, "`solvers` must be names"),
        ({"solvers": {}}, "`solvers` must be names"),
        ({"solvers": {"a": mg.MPO}}, "must be a solver"),
        ({"games": []}, "`games` must be games by name"),
        ({"games": 3}, "`games` must be games by name"),
        ({"games": "rsp"}, "no game 'rsp'"),
        ({"games": {"a": lambda seed: seed}}, "`game` must be a game"),
        ({"budget": 0}, "`budget` must be at least 1"),
        ({"seeds": []}, "`seeds` must be different"),
        ({"seeds": [0, 0]}, "`seeds` must be different"),
        ({"seeds": [-1]}, "`seeds` must be"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(change, word):
    given = {"solvers": {"MD": mg.MirrorDescent(0.3)}, "games": "rps", "budget": 10} | change
    with pytest.raises(ValueError, match=word):
        mg.compare(**given)
    with pytest.raises(ValueError, match="`solver` must be one of MD"):
        compare({"MD": mg.MirrorDescent(0.3)}, "rps", 10).gaps("MPO")
