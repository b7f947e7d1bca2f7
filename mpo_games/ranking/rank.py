"""A ranking of models from battles, by the equilibrium, beside Bradley-Terry and win rates."""

from __future__ import annotations

import warnings
from contextlib import suppress
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np

from mpo_games import bradley_terry, cyclicity
from mpo_games.checks import is_number, require_count
from mpo_games.exact import SUPPORT, CertificateError, nash, qre
from mpo_games.games.battles import Battles
from mpo_games.games.preference import PreferenceGame
from mpo_games.labelled import shown
from mpo_games.policies.tabular import TabularPolicy
from mpo_games.protocol import Array, Indices
from mpo_games.ranking.evidence import ELO, HELD, linked, on_battles, on_intervals, unplayed
from mpo_games.ranking.result import NEAR, Estimates, Ranking

CENTRE = 1000.0
"""The mean of the Elo scores."""

COLD = 1e-6
"""The temperature at which a quantal response stands for the equilibrium of largest entropy."""


def rank(
    battles: Any,
    *,
    prior: float = 0.0,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Ranking:
    r"""Rank models by the equilibrium of their battles, beside Bradley-Terry and win rates.

    The equilibrium is the maximal lottery of the win rates (Kreweras 1965; Fishburn 1984): a choice
    among the models to which no model is preferred. If one model beats every other one, it is this
    model. If the best ones beat each other in a cycle, it mixes them, while every score ranks one
    of them first.

    Args:
        battles: a table or a list of `(model_a, model_b, winner)`, as `Battles.of` reads it;
            `Battles`; or a `PreferenceGame` of one context, for which there are no intervals.
        prior: pseudo-wins for either side of each pair in the equilibrium. With 0 a pair that met
            once is as certain as one that met a hundred times.
        resamples: how often the battles are drawn anew, with replacement, for the intervals; with 0
            there are none.
        level: the share of the resamples that an interval covers (percentile bootstrap).
        seed: the seed of the resamples.

    Two models that never met count as even, 1/2, in the equilibrium; Bradley-Terry and win rates
    leave such a pair out. If Bradley-Terry has no finite fit, as where a model never lost, a weak
    normal prior holds its scores. `notes` says each of these where it happened. `ValueError` for
    what is no battles.

    >>> ranking = rank([("tea", "milk", "a")] * 3 + [("milk", "tea", "a"), ("tea", "milk", "tie")])
    >>> ranking.best, float(ranking.win_rate.value[1])
    ('tea', 0.7)
    """
    require_count("resamples", resamples, least=0)
    require_count("seed", seed, least=0)
    if not (is_number(level) and 0.0 < level < 1.0):
        raise ValueError(f"`level` must lie between 0 and 1, like 0.95, got {shown(level)}.")
    found = _read(battles)
    game, models = found.game(prior), found.models
    point = _numbers(game, found.scores)
    ends = None
    if found.whole and resamples:
        rng = np.random.default_rng(seed)
        again = (found.resampled(rng) for _ in range(resamples))
        samples = [_numbers(drawn.game(prior), drawn.scores, point[2]) for drawn in again]
        tail = 0.5 - level / 2.0
        # A model that has no battle in a resample has no win rate there; one without any has none.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "All-NaN", RuntimeWarning)
            ends = np.nanquantile(samples, [tail, 1.0 - tail], axis=0)
    equilibrium, against, elo, win_rate = (
        Estimates(value) if ends is None else Estimates(value, *ends[:, i])
        for i, value in enumerate(point)
    )
    order = np.lexsort((-elo.value, -against.value, -equilibrium.value))
    first = game.policy(np.eye(len(models))[int(np.argmax(elo.value))])
    notes = [on_intervals(found, resamples, level, seed)] if resamples else []
    notes += on_battles(found)
    if not _is_unique(game, nash(game).policy):
        notes.append(
            "There are several equilibria: the one of largest entropy is shown, to six digits."
        )
    return Ranking(
        models=models,
        order=order,
        equilibrium=equilibrium,
        against=against,
        elo=elo,
        win_rate=win_rate,
        battles=found.played.sum(axis=1) if found.counted else None,
        game=game,
        cyclicity=cyclicity.report(game).contexts[0],
        reward_gap=float(game.duality_gap(first)),
        cycle=tuple(models[i] for i in _cycle(game.preferences[0], order)),
        unplayed=unplayed(found),
        notes=tuple(notes),
    )


def _read(battles: Any) -> Battles:
    """What `rank` was given, as battles."""
    if isinstance(battles, PreferenceGame):
        if battles.preferences.ndim != 3 or len(battles.preferences) != 1:
            raise ValueError("`battles` is a game of several contexts: rank them one by one.")
        found = Battles.of_shares(battles.preferences[0])
        return replace(found, models=battles.responses or found.models)
    return battles if isinstance(battles, Battles) else Battles.of(battles)


def _numbers(game: PreferenceGame, scores: Array, elo: Array | None = None) -> Array:
    """Of each model: its probability in the equilibrium, its win rate against that, its Elo score
    and its win rate, `(4, Y)`. The fit of Elo scores begins at `elo`."""
    wins = np.where(np.eye(len(scores), dtype=bool), 0.0, scores)
    total = (wins + wins.T).sum(axis=1)
    policy = _equilibrium(game)
    start = None if elo is None else (elo - CENTRE) / ELO
    ridge = bradley_terry.RIDGE if linked(wins).max() == 0 else HELD
    return np.stack(
        [
            policy.probs[0],
            0.5 + game.feedback(policy)[0],
            CENTRE + ELO * bradley_terry.fit(wins, ridge, start),
            np.divide(wins.sum(axis=1), total, out=np.full(len(wins), np.nan), where=total > 0),
        ]
    )


def _equilibrium(game: PreferenceGame) -> TabularPolicy:
    """The equilibrium; of several, nearly the one of largest entropy, which favours nobody."""
    policy: TabularPolicy = nash(game).policy
    if not _is_unique(game, policy):
        # As `alpha` falls to 0, a QRE goes to the equilibrium of largest entropy.
        with suppress(CertificateError):
            policy = qre(game, COLD).policy
    return policy


def _is_unique(game: PreferenceGame, policy: TabularPolicy) -> bool:
    """Whether the game has no other equilibrium.

    It has none if and only if every model outside the support loses to the equilibrium (strict
    complementarity, Goldman & Tucker 1956), and one mixture alone ties with all within it.
    """
    played = policy.probs[0] > SUPPORT
    rank_within = np.linalg.matrix_rank(game.payoff[0][np.ix_(played, played)], tol=NEAR)
    loses = game.feedback(policy)[0, ~played] < -NEAR
    return bool(loses.all()) and int(rank_within) == int(played.sum()) - 1


def _cycle(preferences: Array, order: Indices) -> tuple[int, ...]:
    """Three models of which each beats the next one, and the last the first: the best-ranked."""
    beats = preferences > 0.5 + cyclicity.TIE
    for i, j, k in combinations(order.tolist(), 3):
        for a, b, c in ((i, j, k), (i, k, j)):
            if beats[a, b] and beats[b, c] and beats[c, a]:
                return a, b, c
    return ()
