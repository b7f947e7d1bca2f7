"""The drop-in for OpenSpiel's `mmd_dilated`, against the original and its own test."""

from __future__ import annotations

import copy
import importlib.util
import unittest
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpo_games.compat import mmd_dilated
from mpo_games.compat.mmd_dilated import MMDDilatedEnt

pyspiel = pytest.importorskip("pyspiel")

GAMES = (
    "kuhn_poker",
    "dark_hex(board_size=2,gameversion=adh)",
    "liars_dice(numdice=1,dice_sides=2)",
    "turn_based_simultaneous_game(game=matrix_rps())",
    "turn_based_simultaneous_game(game=goofspiel(num_cards=3,imp_info=True,"
    "points_order=descending))",
)
LEDUC = "leduc_poker"
TABLES = (
    "infosets",
    "infoset_actions_to_seq",
    "infoset_action_maps",
    "infoset_parent_map",
    "infoset_actions_children",
)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPO_GAMES_CACHE", str(tmp_path_factory.getbasetemp() / "compiled"))


def original() -> Any:
    from open_spiel.python.algorithms import mmd_dilated as theirs

    return theirs


def both(name: str, alpha: float = 0.1, stepsize: float | None = None) -> tuple[Any, Any]:
    game = pyspiel.load_game(name)
    return original().MMDDilatedEnt(game, alpha, stepsize), MMDDilatedEnt(game, alpha, stepsize)


def assert_same(ours: Any, theirs: Any, limit: float = 1e-12) -> None:
    for verb in ("current_sequences", "get_avg_sequences", "dgf_eval"):
        for got, wanted in zip(getattr(ours, verb)(), getattr(theirs, verb)(), strict=True):
            assert np.abs(got - wanted).max() <= limit, verb
    # These are logarithms, whose rounding errors are relative to the sequences.
    for got, wanted in zip(ours.dgf_grads(), theirs.dgf_grads(), strict=True):
        assert np.allclose(got, wanted, rtol=limit, atol=limit)
    assert ours.iteration_count == theirs.iteration_count
    assert ours.get_gap() == pytest.approx(theirs.get_gap(), abs=limit)


def test_openspiels_own_test_passes_with_its_import_replaced() -> None:
    """The file is read where it is installed, so it is always that of the installed release."""
    found = importlib.util.find_spec("open_spiel.python.algorithms.mmd_dilated_test")
    assert found is not None
    assert found.origin is not None
    line = "from open_spiel.python.algorithms import mmd_dilated\n"
    text = Path(found.origin).read_text(encoding="utf-8")
    assert text.count(line) == 1
    names: dict[str, Any] = {"__name__": "openspiels_test"}
    text = text.replace(line, "from mpo_games.compat import mmd_dilated\n")
    exec(compile(text, found.origin, "exec"), names)
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(names["MMDDilatedTest"])
    result = unittest.TestResult()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`stepsize` is 0")  # as OpenSpiel's class warns
        suite.run(result)
    assert (result.testsRun, result.failures, result.errors) == (8, [], [])


@pytest.mark.parametrize("name", [*GAMES, pytest.param(LEDUC, marks=pytest.mark.slow)])
def test_tables_have_openspiels_names_and_order(name: str) -> None:
    theirs, ours = both(name)
    for table in TABLES:
        for got, wanted in zip(getattr(ours, table), getattr(theirs, table), strict=True):
            assert list(got.items()) == list(wanted.items()), table
    assert ours.empy_state_action_keys == theirs.empy_state_action_keys
    assert ours.empty_infoset_keys == theirs.empty_infoset_keys
    assert np.allclose(ours.payoff_mat, theirs.payoff_mat, rtol=0, atol=1e-15)
    assert ours.stepsize == pytest.approx(theirs.stepsize, rel=1e-14)
    assert_same(ours, theirs)
    for player in (0, 1):
        for state in list(theirs.infosets[player])[1:]:
            assert ours.get_parent_seq(player, state) == theirs.get_parent_seq(player, state)
            got, wanted = (m.get_infostate_seq(player, state) for m in (ours, theirs))
            assert np.allclose(got, wanted, rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("name", "steps"),
    [*((name, 25) for name in GAMES), pytest.param(LEDUC, 20, marks=pytest.mark.slow)],
)
def test_iterates_are_openspiels_digit_by_digit(name: str, steps: int) -> None:
    theirs, ours = both(name)
    for _ in range(steps):
        theirs.update_sequences()
        ours.update_sequences()
    assert_same(ours, theirs)
    for verb in ("get_policies", "get_avg_policies"):
        got, wanted = getattr(ours, verb)(), getattr(theirs, verb)()
        assert got.state_lookup == wanted.state_lookup
        probs = got.action_probability_array
        assert np.allclose(probs, wanted.action_probability_array, rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", [GAMES[0], *GAMES[2:]])
def test_what_a_script_assigns_has_openspiels_effect(name: str) -> None:
    pair = both(name, 1.0)
    theirs, ours = pair
    rng = np.random.default_rng(0)
    for step in range(1, 25):
        for mmd in pair:
            mmd.alpha, mmd.stepsize = 1 / step**0.5, 0.5 / step**0.5
        if step == 4:  # a new policy, which is then in the script's own list
            table = theirs.get_policies()
            table.action_probability_array *= rng.uniform(0.5, 1.0, size=(1, 1))
            start = copy.deepcopy(theirs.avg_sequences)
            theirs.sequences, ours.sequences = start, copy.deepcopy(start)
            assert np.array_equal(ours.sequences[0], start[0])
        elif step == 8:
            theirs.avg_sequences = copy.deepcopy(theirs.sequences)
            ours.avg_sequences = copy.deepcopy(theirs.sequences)
        elif step == 12:
            theirs.iteration_count = ours.iteration_count = 2
        elif step == 16:  # writes into the lists and arrays
            for mmd in pair:
                mmd.sequences[0] = mmd.avg_sequences[0].copy()
                mmd.sequences[1][:] = mmd.avg_sequences[1]
        elif step == 20:
            for mmd in pair:
                mmd.avg_sequences[1][:] = mmd.sequences[1]
                mmd.update_avg_sequences()
        for mmd in pair:
            mmd.update_sequences()
        if step % 4 == 0:
            assert_same(ours, theirs)


def test_the_list_of_averages_is_one_object_as_openspiels_is() -> None:
    theirs, ours = both("kuhn_poker")
    held = [mmd.get_avg_sequences() for mmd in (theirs, ours)]
    before = ours.sequences
    kept = copy.deepcopy(before)
    for mmd in (theirs, ours):
        mmd.update_sequences()
        mmd.update_sequences()
    assert np.allclose(held[0][0], held[1][0], rtol=0, atol=1e-12)
    assert all(np.array_equal(a, b) for a, b in zip(before, kept, strict=True))


def test_an_action_of_probability_0_stays_at_0() -> None:
    """OpenSpiel does the same where it does not answer with NaN, as it does below the root."""
    name = "turn_based_simultaneous_game(game=matrix_rps())"
    theirs, ours = both(name, 1.0, 0.3)
    start = [np.array([1.0, 0.0, 0.25, 0.75]), np.array([1.0, 1.0, 0.0, 0.0])]
    for mmd in (theirs, ours):
        mmd.sequences = copy.deepcopy(start)
    assert ours.dgf_grads()[0][1] == -np.inf
    for _ in range(50):
        with np.errstate(all="ignore"):
            theirs.update_sequences()
        ours.update_sequences()
    assert ours.sequences[0][1] == 0.0
    for got, wanted in zip(ours.sequences, theirs.sequences, strict=True):
        assert np.allclose(got, wanted, rtol=0, atol=1e-12)
    kuhn = MMDDilatedEnt("kuhn_poker", 0.1)
    start = copy.deepcopy(kuhn.sequences)
    place = kuhn.infoset_actions_to_seq[0]
    start[0][place["0 -=- 0"]], start[0][place["0 -=- 1"]] = 1.0, 0.0
    start[0][place["0pb -=- 0"]] = start[0][place["0pb -=- 1"]] = 0.5
    kuhn.sequences = start
    kuhn.update_sequences()
    assert kuhn.sequences[0][place["0 -=- 1"]] == 0.0
    assert all(np.isfinite(part).all() for part in kuhn.sequences)


@pytest.mark.parametrize("name", GAMES[:3])
def test_divergences_are_openspiels(name: str) -> None:
    theirs, ours = both(name)
    first = copy.deepcopy(theirs), copy.deepcopy(ours)
    for mmd in (theirs, ours):
        for _ in range(5):
            mmd.update_sequences()
    for got, wanted in (
        ((ours, first[1]), (theirs, first[0])),
        ((first[1], ours), (first[0], theirs)),
    ):
        expected = original().dilated_dgf_divergence(*wanted)
        assert mmd_dilated.dilated_dgf_divergence(*got) == pytest.approx(expected, abs=1e-12)
    assert mmd_dilated.dilated_dgf_divergence(ours, ours) == 0.0
    x, y = np.array([0.2, 0.5, 0.3, 0.0]), np.array([0.1, 0.2, 0.3, 0.4])
    for verb in ("neg_entropy", "softmax"):
        got, wanted = (getattr(module, verb)(2.0 * x) for module in (mmd_dilated, original()))
        assert np.allclose(got, wanted, rtol=1e-15, atol=0)
    got, wanted = (m.divergence(x, y, 0.5, 0.25, y) for m in (mmd_dilated, original()))
    assert got == wanted


def test_the_divergence_from_a_policy_that_never_plays_an_action_is_infinite() -> None:
    name = "turn_based_simultaneous_game(game=matrix_rps())"
    pure, uniform = MMDDilatedEnt(name, 0.1), MMDDilatedEnt(name, 0.1)
    pure.sequences = [np.array([1.0, 1.0, 0.0, 0.0]), np.array([1.0, 0.5, 0.5, 0.0])]
    assert mmd_dilated.dilated_dgf_divergence(uniform, pure) == np.inf
    expected = np.log(3.0) + np.log(1.5)
    assert mmd_dilated.dilated_dgf_divergence(pure, uniform) == pytest.approx(expected, rel=1e-14)
    with pytest.raises(ValueError, match="one game"):
        mmd_dilated.dilated_dgf_divergence(pure, MMDDilatedEnt("kuhn_poker", 0.1))


@pytest.mark.parametrize(
    "name", ["step_size", "payoff_mat", "infosets", "game", "compiled", "magnet", "get_gap"]
)
def test_assigning_what_has_no_effect_is_refused(name: str) -> None:
    ours = MMDDilatedEnt("kuhn_poker", 0.1)
    with pytest.raises(AttributeError, match=f"`{name}` has no effect.*`stepsize`"):
        setattr(ours, name, 1.0)
    with pytest.raises(ValueError, match="read-only"):
        ours.payoff_mat[0, 0] = 1.0

    class Own(MMDDilatedEnt):
        pass

    derived = Own("kuhn_poker", 0.1)
    derived.history = [1]  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="no effect"):
        derived.game = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s[:1], "two arrays"),
        (lambda s: [s[0], s[1][:-1]], r"`sequences\[1\]` must have shape"),
        (lambda s: [s[0] * np.nan, s[1]], "finite"),
        (lambda s: [s[0] - 0.4, s[1]], "at least 0"),
        (lambda s: [2 * s[0], s[1]], "begin with 1"),
        (lambda s: [np.where(np.arange(s[0].size) == 3, 0.9, s[0]), s[1]], "no realisation plan"),
    ],
)
def test_sequences_that_are_none_are_refused(change: Any, words: str) -> None:
    ours = MMDDilatedEnt("kuhn_poker", 0.1)
    before = copy.deepcopy(ours.sequences)
    with pytest.raises(ValueError, match=words):
        ours.sequences = change(copy.deepcopy(before))
    ours.update_sequences()
    with pytest.raises(ValueError, match=words.replace("`seq", "`avg_seq")):
        ours.avg_sequences = change(copy.deepcopy(before))
    ours.sequences[0][1] = 7.0
    with pytest.raises(ValueError, match="no realisation plan"):
        ours.update_sequences()


def test_bad_settings_are_named() -> None:
    for alpha in (-1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="`alpha`"):
            MMDDilatedEnt("kuhn_poker", alpha)
    ours = MMDDilatedEnt("kuhn_poker", 0.1)
    for name in ("alpha", "stepsize"):
        for value in (-0.5, np.nan, np.inf):
            with pytest.raises(ValueError, match=f"`{name}`"):
                setattr(ours, name, value)
    with pytest.raises(ValueError, match="`iteration_count`"):
        ours.iteration_count = 0
    nothing = pyspiel.create_matrix_game([[0.0, 0.0]], [[0.0, 0.0]])
    with pytest.raises(ValueError, match="`stepsize`"):
        MMDDilatedEnt(nothing, 0.1)
    with pytest.warns(UserWarning, match="`stepsize` is 0"):
        still = MMDDilatedEnt("kuhn_poker", 0.0)
    before = copy.deepcopy(still.sequences)
    still.update_sequences()
    assert still.iteration_count == 2
    assert all(np.array_equal(a, b) for a, b in zip(before, still.sequences, strict=True))
    assert still.get_gap() > 0.1  # without entropy it is the duality gap


def test_tables_of_two_steps_do_not_share_memory() -> None:
    ours = MMDDilatedEnt("kuhn_poker", 0.1)
    before = ours.get_policies()
    kept = before.action_probability_array.copy()
    ours.update_sequences()
    after = ours.get_policies()
    assert np.array_equal(before.action_probability_array, kept)
    assert not np.allclose(after.action_probability_array, kept, atol=1e-4)
