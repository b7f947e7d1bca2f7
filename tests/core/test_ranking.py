"""Rankings from battles, against definitions, other libraries and known games."""

from itertools import permutations

import numpy as np
import pytest
from scipy.special import expit

import mpo_games as mg
from mpo_games import bradley_terry
from mpo_games.games.battles import Misread, verdict
from mpo_games.ranking.evidence import ELO, misspelt

CYCLE = {("a1", "b2"): 7, ("b2", "a1"): 3, ("b2", "c3"): 8, ("c3", "b2"): 2, ("c3", "a1"): 6} | {
    ("a1", "c3"): 4
}
"""How often the first beat the second: every majority is 7, 8 or 6 of 10."""


def battles(won: dict[tuple[str, str], int], ties: int = 0) -> list[tuple[str, str, str]]:
    found = [(*pair, "model_a") for pair, number in won.items() for _ in range(number)]
    return found + [("a1", "b2", "tie")] * ties


def random_wins(n: int, seed: int, most: int = 30) -> np.ndarray:
    rng = np.random.default_rng(seed)
    wins = rng.integers(1, most, size=(n, n)).astype(float)
    np.fill_diagonal(wins, 0.0)
    return wins


@pytest.mark.parametrize(
    ("winner", "score"),
    [
        ("model_a", 1.0),
        ("MODEL_B", 0.0),
        ("Model A", 1.0),
        ("a", 1.0),
        ("b", 0.0),
        ("x", 1.0),
        ("y", 0.0),
        ("tie", 0.5),
        ("tie (bothbad)", 0.5),
        ("Draw", 0.5),
        ("both_bad", 0.5),
    ],
)
def test_every_word_for_a_winner(winner: str, score: float) -> None:
    assert verdict("x", "y", winner) == ("x", "y", score)


@pytest.mark.parametrize(
    ("battle", "field", "word"),
    [
        (("x", "y", "z"), 2, "neither"),
        (("x", "y", ""), 2, "missing"),
        (("x", "y", None), 2, "missing"),
        (("x", "y", np.nan), 2, "missing"),
        (("", "y", "tie"), 0, "no name"),
        (("x", None, "tie"), 1, "no name"),
        (("model_b", "y", "model_b"), 2, "both a place and the name"),
    ],
)
def test_what_is_no_battle_is_refused_at_its_cell(battle, field, word) -> None:
    with pytest.raises(Misread, match=word) as caught:
        verdict(*battle)
    assert caught.value.field == field
    with pytest.raises(ValueError, match="Battle 2: "):
        mg.Battles.of([("x", "y", "x"), battle])


def test_all_ways_to_give_battles_agree() -> None:
    pandas = pytest.importorskip("pandas")
    rows = battles(CYCLE, ties=2)
    keys = ("model_a", "model_b", "winner")
    forms = [
        rows,
        iter(rows[::-1]),
        [dict(zip(keys, row, strict=True)) for row in rows],
        [(b, a, {"model_a": "model_b", "tie": "tie"}[w]) for a, b, w in rows],
        pandas.DataFrame(rows, columns=keys).assign(judge="someone"),
    ]
    wins = [[0, 8, 4], [4, 0, 8], [6, 2, 0]]
    for form in forms:
        found = mg.Battles.of(form)
        assert found.models == ("a1", "b2", "c3")
        assert found.scores.tolist() == wins
        assert found.ties.sum() == 4
    counted = mg.Battles.of_wins(np.array(wins) + np.diag([5, 0, 0]))
    assert counted.scores.tolist() == wins
    assert counted.whole
    halves = mg.Battles.of_wins([[0, 2.5], [1.5, 0]])
    assert (halves.wins.tolist(), halves.ties.tolist()) == ([[0, 2], [1, 0]], [[0, 1], [1, 0]])


def test_a_battle_with_oneself_is_left_out_and_said() -> None:
    found = mg.rank([*battles(CYCLE), ("a1", "a1", "tie")], resamples=0)
    assert found.battles is not None
    assert found.battles.sum() == 60
    assert any("1 battle of a model with itself was left out" in note for note in found.notes)
    with pytest.raises(ValueError, match="two different models"):
        mg.rank([("a1", "a1", "tie"), ("a2", "a2", "a2")])


@pytest.mark.filterwarnings("error")
def test_a_model_that_met_nobody_has_no_win_rate() -> None:
    found = mg.rank([*battles(CYCLE), ("alone", "alone", "tie")], resamples=3)
    assert np.isnan(found.win_rate.value[found.models.index("alone")])
    assert "nan" not in str(found)


@pytest.mark.parametrize("seed", range(3))
def test_bradley_terry_is_logistic_regression(seed: int) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    n, wins = 5, random_wins(5, seed)
    i, j = np.nonzero(wins)
    x = np.eye(n)[i] - np.eye(n)[j]
    fit = linear_model.LogisticRegression(fit_intercept=False, C=1e8, tol=1e-10, max_iter=10_000)
    fit.fit(np.vstack([x, -x]), np.repeat([1, 0], len(i)), np.tile(wins[i, j], 2))
    theirs = fit.coef_[0] - fit.coef_[0].mean()
    found = mg.rank(mg.Battles.of_wins(wins), resamples=0)
    np.testing.assert_allclose((found.elo.value - 1000.0) / ELO, theirs, atol=1e-4)


@pytest.mark.parametrize("ridge", [1e-6, 0.1])
def test_the_fit_to_counts_is_stationary_and_a_start_changes_nothing(ridge: float) -> None:
    wins = random_wins(6, 4)
    wins[0, 1] = wins[1, 0] = 0.0
    scores = bradley_terry.fit(wins, ridge)
    model = (wins + wins.T) * expit(scores[:, None] - scores)
    # In the sum over all models the likelihood has no gradient, so the mean of the scores is 0.
    np.testing.assert_allclose((model - wins).sum(axis=1), -ridge * scores, atol=1e-6)
    for start in (scores + 0.1, np.full(6, 1e6), np.arange(6.0)):
        again = bradley_terry.fit(wins, ridge, start)
        np.testing.assert_allclose(again, scores, atol=1e-7)


def test_equilibrium_order_and_cycle_of_a_known_game() -> None:
    found = mg.rank(battles(CYCLE), resamples=0)
    # Of a cycle with margins .2, .3, .1, a model is played as the margin of the other two.
    np.testing.assert_allclose(found.equilibrium.value, np.array([3, 1, 2]) / 6, atol=1e-12)
    assert [found.models[i] for i in found.order] == ["a1", "c3", "b2"]
    assert found.best == "a1"
    assert found.cycle == ("a1", "b2", "c3")
    np.testing.assert_allclose(found.against.value, 0.5, atol=1e-12)
    assert found.win_rate.value.tolist() == [11 / 20, 11 / 20, 8 / 20]
    assert found.cyclicity.cyclic_share == 1.0
    assert found.reward_gap > found.cyclicity.equilibrium_gap


def test_a_winner_of_every_pair_is_the_equilibrium() -> None:
    found = mg.rank(mg.Battles.of_wins([[0, 9, 8], [3, 0, 6], [2, 5, 0]]), resamples=5)
    assert found.equilibrium.value.tolist() == [1.0, 0.0, 0.0]
    assert found.order.tolist() == [0, 1, 2]
    assert found.cycle == ()
    assert "0 beats every other model." in found.findings()
    np.testing.assert_allclose(found.against.value, [0.5, 3 / 12, 2 / 10])


@pytest.mark.parametrize("order", list(permutations(range(3)))[1:3])
def test_the_order_of_rows_and_names_changes_nothing(order: tuple[int, ...]) -> None:
    rows = battles(CYCLE, ties=3)
    ours = mg.rank(rows, resamples=20, seed=3)
    theirs = mg.rank([rows[i] for i in np.random.default_rng(0).permutation(len(rows))],
                     resamples=20, seed=3)  # fmt: skip
    assert str(ours) == str(theirs)
    wins = mg.Battles.of(rows).scores[np.ix_(order, order)]
    moved = mg.rank(mg.Battles.of_wins(wins), resamples=0)
    np.testing.assert_allclose(moved.elo.value, ours.elo.value[list(order)], atol=1e-6)
    np.testing.assert_allclose(
        moved.equilibrium.value, ours.equilibrium.value[list(order)], atol=1e-9
    )


def test_resamples_are_the_bootstrap_of_battles() -> None:
    """Means and spreads of the resampled counts are those of draws of battles one by one."""
    found = mg.Battles.of(battles(CYCLE, ties=5))
    rng = np.random.default_rng(1)
    drawn = [found.resampled(rng) for _ in range(4000)]
    assert {float(np.triu(d.played).sum()) for d in drawn} == {35.0}
    counts = np.array([d.wins[0, 1] for d in drawn])
    share = 7 / 35
    assert counts.mean() == pytest.approx(7.0, abs=4 * np.sqrt(7 / 4000))
    assert counts.var() == pytest.approx(35 * share * (1 - share), rel=0.15)
    assert all(np.array_equal(d.ties, d.ties.T) for d in drawn[:10])


def test_intervals_hold_the_number_and_the_seed_decides_them() -> None:
    rows = battles(CYCLE, ties=4)
    one, two, other = (mg.rank(rows, resamples=60, seed=seed) for seed in (0, 0, 1))
    for name in ("equilibrium", "elo", "win_rate"):
        found, same, another = (getattr(r, name) for r in (one, two, other))
        assert (found.low <= found.value + 1e-9).all()
        assert (found.value <= found.high + 1e-9).all()
        assert np.array_equal(found.low, same.low)
        assert not np.array_equal(found.low, another.low)
    narrow = mg.rank(rows * 25, resamples=60, seed=0)
    assert ((narrow.elo.high - narrow.elo.low) < (one.elo.high - one.elo.low) / 2).all()
    assert mg.rank(rows, resamples=0).elo.low is None


def test_what_is_missing_is_said() -> None:
    never = mg.rank([("x", "y", "x"), ("y", "z", "y"), ("z", "w", "tie")], resamples=5)
    said = " ".join(never.notes)
    assert never.unplayed == (("w", "x"), ("w", "y"), ("x", "z"))
    assert "3 of 6 pairs never met: w and x, w and y, x and z" in said
    assert "x never lost" in said
    assert "several equilibria" in said
    assert "Fewer than 8 battles" in said
    assert np.isfinite(never.elo.value).all()
    apart = mg.rank(
        [("x", "y", "x"), ("y", "x", "y"), ("v", "w", "v"), ("v", "w", "w")], resamples=0
    )
    assert "No battle links these groups: v, w; x, y." in " ".join(apart.notes)
    shares = mg.rank(mg.Battles.of_shares([[0.5, 0.7, np.nan], [0.3, 0.5, 0.6], [np.nan, 0.4, 0]]))
    assert shares.unplayed == ((0, 2),)
    assert shares.battles is None
    assert "no intervals" in " ".join(shares.notes)


def test_models_that_bradley_terry_cannot_tell_apart_are_level_and_none_is_first() -> None:
    """Each won as often as it lost, so the scores are equal, but for the rounding of their fit."""
    found = mg.rank(
        [
            ("tea", "milk", "model_a"),
            ("tea", "milk", "tie"),
            ("juice", "tea", "model_a"),
            ("milk", "juice", "model_a"),
        ],
        resamples=0,
    )
    assert np.ptp(found.elo.value) < 1e-4
    said = [sentence for sentence in found.findings() if "Bradley-Terry" in sentence]
    assert said == ["Bradley-Terry ranks no model first: juice, milk, tea are level."]


def test_of_several_equilibria_the_one_of_largest_entropy() -> None:
    found = mg.rank([("x", "y", "tie"), ("y", "z", "tie"), ("z", "x", "tie")], resamples=0)
    np.testing.assert_allclose(found.equilibrium.value, 1 / 3, atol=1e-6)


def test_a_preference_game_is_ranked_as_its_table() -> None:
    game = mg.PreferenceGame([[0.5, 0.1, 0.8], [0.9, 0.5, 0.1], [0.2, 0.9, 0.5]], ("A", "B", "C"))
    found = mg.rank(game)
    np.testing.assert_allclose(found.equilibrium.value, mg.exact.nash(game).policy.probs[0])
    assert found.models == ("A", "B", "C")
    np.testing.assert_allclose(found.win_rate.value, [0.45, 0.5, 0.55])
    with pytest.raises(ValueError, match="contexts"):
        mg.rank(mg.PreferenceGame(np.stack([game.preferences[0]] * 2)))


def test_the_table_has_every_number_and_prints_are_short() -> None:
    wins = random_wins(40, 0)
    found = mg.rank(mg.Battles.of_wins(wins), resamples=3)
    table = found.table()
    assert len(table) == 40
    assert table["elo"] == tuple(found.elo.value[found.order].tolist())
    assert set(table.columns) >= {"rank", "model", "equilibrium_low", "win_rate_high", "battles"}
    assert len(str(found).splitlines()) <= 30
    assert repr(found) == f"Ranking of 40 models: {found.best} first"
    assert "<table>" in found._repr_html_()


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        ([], "at least two models"),
        ([("x", "x", "tie")], "at least two models"),
        ("battles.csv", "mpo-games rank FILE"),
        ([("x", "y")], "Battle 1"),
        ({"x": 1}, "list of"),
        (3, "list of"),
        ([{"model_a": "x", "winner": "x"}], "Battle 1: it has no 'model_b'"),
    ],
)
def test_what_is_no_list_of_battles_is_refused(bad, word) -> None:
    with pytest.raises(ValueError, match=word):
        mg.rank(bad)


@pytest.mark.parametrize(
    "option", [{"level": 1.0}, {"resamples": -1}, {"seed": 0.5}, {"prior": -1}]
)
def test_bad_options_are_refused(option) -> None:
    with pytest.raises(ValueError, match=f"`{next(iter(option))}`"):
        mg.rank(battles(CYCLE), **option)


def test_the_picture_shows_every_model_in_order() -> None:
    import matplotlib.pyplot as plt

    for rows, resamples in ((battles(CYCLE), 5), ([("x", "y", "x"), ("y", "z", "tie")], 0)):
        found = mg.rank(rows, resamples=resamples)
        figure = found.plot()
        matrix, *dots = figure.axes
        names = [label.get_text() for label in matrix.get_yticklabels()]
        assert names == [str(found.models[i]) for i in found.order]
        assert len(dots) == 3
        for ax, numbers in zip(dots, (found.equilibrium, found.elo, found.win_rate), strict=True):
            (line,) = ax.lines
            np.testing.assert_array_equal(line.get_xdata(), numbers.value[found.order])
        plt.close(figure)


@pytest.mark.parametrize(
    ("one", "other", "suspected"),
    [
        ("gpt-4o", "GPT-4o ", True),
        ("gpt 4o", "gpt_4o", True),
        ("claude", "cluade", True),
        ("claude", "claud", True),
        ("mistral", "mistrol", True),
        ("gpt-4", "gpt-4o", False),
        ("llama-7b", "llama-8b", False),
        ("llama-2-7b", "llama-27b", False),
        ("qwen1.5", "qwen15", False),
        ("model_a", "model_b", False),
        ("milk", "silk", False),
        ("tea", "teas", False),
    ],
)
def test_names_that_look_misspelt_are_suspected(one: str, other: str, suspected: bool) -> None:
    assert misspelt(one, other) is misspelt(other, one) is suspected
    ranking = mg.rank([(one, other, "a")] * 9 + [(other, one, "a")], resamples=0)
    said = any("Perhaps one model under two spellings" in note for note in ranking.notes)
    assert said is suspected
    assert set(ranking.models) == {one, other}
