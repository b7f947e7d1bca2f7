"""Published and closed-form equilibria of games on trees."""

from __future__ import annotations

import numpy as np
import pytest
from compiled import DARK_HEX, compiled
from reference import kuhn

import mpo_games as mg
from mpo_games import exact
from mpo_games.games.sequence_form import SequenceFormGame
from mpo_games.policies.treeplex import TreeplexPolicy

KUHN_QRE = (
    """
    1 0.75364232 0.64695966 0.10668266 0.24635768 0.70309809 0.25609184 0.44700625 0.29690191
    0.47546799 0.01290797 0.46256001 0.52453201
    """,
    """
    1 0.63415944 0.36584056 0.41154828 0.58845172 0.28438486 0.71561514 0.0620185 0.9379815
    0.65005434 0.34994566 0.79722767 0.20277233
    """,
)
"""Gambit's reduced normal-form QRE of Kuhn poker at 1/alpha = 10, as realisation plans: a test
vector of OpenSpiel's `mmd_dilated`, in its order of sequences."""

DARK_HEX_QRE = (
    """
    1 0.1997415 0.0630504 0.0320848 0.0309656 0.0320848 0.0309656 0.0696913 0.0669998 0.0334999
    0.0334999 0.0334999 0.0334999 0.0377519 0.0252985 0.0252985 0.0252985 0.0347624 0.0347624
    0.0349289 0.0349289 0.0273 0.0273 0.0396998 0.0273 0.3002587 0.0832425 0.0414444 0.0417981
    0.0414444 0.0417981 0.0983483 0.1186679 0.0423458 0.0408967 0.0423458 0.0408967 0.0397914
    0.0397914 0.0585569 0.0397914 0.047948 0.047948 0.0707199 0.047948 0.3002587 0.1186679
    0.0707199 0.047948 0.047948 0.047948 0.0983483 0.0832425 0.0408967 0.0408967 0.0423458
    0.0585569 0.0397914 0.0397914 0.0397914 0.0423458 0.0417981 0.0417981 0.0414444 0.0414444
    0.1997415 0.0669998 0.0396998 0.0273 0.0273 0.0273 0.0696913 0.0630504 0.0309656 0.0309656
    0.0320848 0.0334999 0.0334999 0.0334999 0.0349289 0.0349289 0.0347624 0.0347624 0.0320848
    0.0334999 0.0252985 0.0252985 0.0377519 0.0252985
    """,
    """
    1 0.22738648 0.07434555 0.0790954 0.03965962 0.03943577 0.07394554 0.03468592 0.03925961
    0.03965962 0.03468592 0.27261352 0.10172918 0.06014879 0.04158039 0.08865251 0.08223183
    0.04230736 0.03992446 0.04171322 0.0405186 0.27261352 0.08223183 0.0405186 0.04171322
    0.08865251 0.03437272 0.05427979 0.10172918 0.04158039 0.06014879 0.22738648 0.08605167
    0.0346029 0.05144877 0.08678769 0.03319034 0.05359735 0.05454711 0.04462109 0.0421666
    0.05454711 0.08678769 0.0421666 0.04462109 0.08605167 0.04355502 0.04249665 0.05083895
    0.11106131 0.05083895 0.06022236 0.11071326 0.05083895 0.05987431 0.03992446 0.04230736
    0.04249665 0.04355502 0.05359735 0.03319034 0.05144877 0.0346029 0.05427979 0.03437272
    0.11071326 0.05987431 0.05083895 0.11106131 0.06022236 0.05083895 0.05083895 0.07394554
    0.0790954 0.03943577 0.03965962 0.07434555 0.03468592 0.03965962 0.03925961 0.03468592
    """,
)
"""The same of 2x2 dark hex (abrupt) at 1/alpha = 2."""

BETS = {
    0: {"J": (1, 0), "Q": (0, 0), "K": (3, 0), "Jpb": (0, 0), "Qpb": (1, 1 / 3), "Kpb": (0, 1)},
    1: {"Jp": 1 / 3, "Jb": 0, "Qp": 0, "Qb": 1 / 3, "Kp": 1, "Kb": 1},
}
"""Kuhn's (1950) equilibria: how often a card bets or calls; player 0's are `slope * bluff + at`."""


@pytest.mark.parametrize("bluff", [0.0, 0.1, 1 / 3])
def test_kuhns_equilibria(bluff: float) -> None:
    """Player 0 bluffs with the jack at any rate up to a third; the value is -1/18."""
    game = kuhn()
    tree = game.tree
    probs = np.ones(tree.sequences)
    bets = {state: slope * bluff + at for state, (slope, at) in BETS[0].items()} | BETS[1]
    for j, label in enumerate(tree.labels):
        probs[tree.offset[j] : tree.offset[j + 1]] = 1 - bets[label], bets[label]
    policy = TreeplexPolicy.from_probs(tree, game.geometry, probs)
    assert float(game.value(policy)) == pytest.approx(-1 / 18, abs=1e-15)
    assert float(game.duality_gap(policy)) == pytest.approx(0.0, abs=1e-15)


def at_gambits(name: str, vectors: tuple[str, str], game: SequenceFormGame) -> TreeplexPolicy:
    pyspiel = pytest.importorskip("pyspiel")
    from open_spiel.python.algorithms.sequence_form_utils import construct_vars

    _, places, *_ = construct_vars(pyspiel.load_game(name))
    plans = [np.array(text.split(), dtype=float) for text in vectors]
    tree, plan = game.tree, np.ones(game.tree.sequences)
    for a in range(2, tree.sequences):
        player = int(tree.owner[a])
        plan[a] = plans[player][
            places[player][f"{tree.labels[tree.state_of[a]]} -=- {tree.actions[a]}"]
        ]
    return game.initial_policy().at(plan)


@pytest.mark.parametrize(
    ("name", "vectors", "alpha"),
    [("kuhn_poker", KUHN_QRE, 1 / 10), (DARK_HEX, DARK_HEX_QRE, 1 / 2)],
)
def test_gambits_qre_stays_where_it_is(name: str, vectors: tuple[str, str], alpha: float) -> None:
    """To the digits printed, which are seven or eight."""
    game = compiled(name)
    policy, centre = at_gambits(name, vectors, game), game.center()
    eta = alpha / float(game.bound) ** 2
    state = mg.MMD(eta, alpha).step(game, mg.State(policy, centre))
    assert np.allclose(state.policy.plan, policy.plan, rtol=1e-6, atol=0)
    assert game.regularised_gap(policy, centre, alpha) < 1e-10
    assert np.allclose(exact.qre(game, alpha, centre).policy.plan, policy.plan, rtol=2e-6, atol=0)
    run = mg.solve(game, mg.MMD(eta, alpha), 4000, magnet=centre)
    assert np.allclose(run.policy.plan, policy.plan, rtol=2e-6, atol=0)
