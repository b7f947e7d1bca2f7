"""A ranking of models from battles, by the equilibrium, beside Bradley-Terry and win rates."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import combinations
from math import comb
from typing import Any, Literal

import numpy as np

from mpo_games import bradley_terry, cyclicity
from mpo_games.checks import is_number, require_count
from mpo_games.exact import SUPPORT, CertificateError, nash, qre
from mpo_games.games.battles import Battles
from mpo_games.games.preference import PreferenceGame
from mpo_games.labelled import Labels, shown
from mpo_games.policies.tabular import TabularPolicy
from mpo_games.protocol import Array, Indices

ELO = 400.0 / np.log(10.0)
"""Elo points in a unit of Bradley-Terry's log-odds."""

CENTRE = 1000.0
"""The mean of the Elo scores."""

HELD = 0.1
"""The weight of the squared scores where Bradley-Terry has no finite fit: a normal prior whose
standard deviation is 3.2 in log-odds, or 550 Elo points."""

NEAR = 1e-9
"""Win rates against the equilibrium this close to 1/2 are ties with it."""

COLD = 1e-6
"""The temperature at which a quantal response stands for the equilibrium of largest entropy."""

FEW = 8
"""A model with fewer battles has intervals that say little."""


@dataclass(frozen=True, slots=True, eq=False)
class Estimates:
    """One number for each model, `(Y,)`, and its interval, if there are battles to draw from."""

    value: Array
    low: Array | None = None
    high: Array | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """What `rank` found. Arrays are in the order of `models`; `order` lists the models by rank."""

    models: Labels
    order: Indices
    """The indices of the models, best first: by their probability in the equilibrium, and outside
    of it by their win rate against it."""
    equilibrium: Estimates
    """The probability of each model in the maximal lottery."""
    against: Estimates
    """The win rate of each model against the equilibrium: 1/2 where it plays a model, and at most
    1/2 elsewhere."""
    elo: Estimates
    """Bradley-Terry's scores in Elo points, with mean 1000."""
    win_rate: Estimates
    """The share of its battles that a model won; a tie is half a win."""
    battles: Array | None
    """The number of battles of each model, or None for a table of preferences."""
    game: PreferenceGame
    """The preferences `P[i, j]`; 1/2 where two models never met."""
    cyclicity: cyclicity.ContextReport
    """Cycles, Condorcet winner, and the misfit of Bradley-Terry to the preferences."""
    reward_gap: float
    """The duality gap of always choosing the model that Bradley-Terry ranks first."""
    cycle: Labels
    """Three models of which each beats the next one, and the last the first; else nothing."""
    unplayed: tuple[tuple[Hashable, Hashable], ...]
    """The pairs of models that never met."""
    notes: tuple[str, ...]
    """What a reader should know about the numbers, in sentences."""

    @property
    def best(self) -> Hashable:
        """The model that is ranked first."""
        found: Hashable = self.models[self.order[0]]
        return found

    def rows(self) -> list[tuple[str, ...]]:
        """The table of the models, best first, as texts; the first row is the header.

        Probabilities and rates are in per cent. `2: 1071` is the score 1071, the second-best one.
        """
        columns = {
            "equilibrium, %": _texts(self.equilibrium, 100.0),
            "against it, %": [f"{100.0 * rate:.1f}" for rate in self.against.value],
            "Bradley-Terry, Elo": _placed(self.elo, 1.0),
            "win rate, %": _placed(self.win_rate, 100.0),
        }
        if self.battles is not None:
            columns["battles"] = [f"{count:,g}" for count in self.battles]
        return [
            ("rank", "model", *columns),
            *(
                (str(place), str(self.models[i]), *(column[i] for column in columns.values()))
                for place, i in enumerate(self.order, 1)
            ),
        ]

    def findings(self) -> list[str]:
        """What the table does not say: cycles, the best model of each kind, and the notes."""
        triples, names = comb(len(self.models), 3), self.models
        cyclic = round(self.cyclicity.cyclic_share * triples)
        found = []
        if self.cycle:
            a, b, c = self.cycle
            found.append(
                f"Cycles: {cyclic:,} of {triples:,} triples of models; "
                f"{a} beats {b} beats {c} beats {a}."
            )
        elif triples:
            found.append(f"Cycles: none among {triples:,} triples of models.")
        winner = self.cyclicity.condorcet_winner
        if winner is not None:
            found.append(f"{names[winner]} beats every other model.")
        else:
            support = [str(names[i]) for i in self.order if self.equilibrium.value[i] > SUPPORT]
            found.append(
                f"No model beats every other one; the equilibrium mixes {listed(support)}."
            )
        first = int(np.argmax(self.elo.value))
        rates = self.game.preferences[0][:, first]
        rival = int(np.argmax(rates))
        if rates[rival] > 0.5 + NEAR:
            found.append(
                f"Bradley-Terry ranks {names[first]} first, which loses to {names[rival]}: "
                f"{rates[rival]:.1%} prefer {names[rival]}. Duality gap {self.reward_gap:.3g}, of "
                f"the equilibrium {self.cyclicity.equilibrium_gap:.0e}."
            )
        return [*found, *self.notes]

    def __str__(self) -> str:
        return "\n".join([*aligned(self.rows()), "", *self.findings()])

    def plot(self, **options: Any) -> Any:
        """Draw the win rates of each pair and the three rankings; returns the figure."""
        # Matplotlib takes longer to import than most rankings take.
        from mpo_games.plot.ranking import ranking

        return ranking(self, **options)


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
        # A model that has no battle in a resample has no win rate there.
        ends = np.nanquantile(samples, [tail, 1.0 - tail], axis=0)
    equilibrium, against, elo, win_rate = (
        Estimates(value) if ends is None else Estimates(value, *ends[:, i])
        for i, value in enumerate(point)
    )
    order = np.lexsort((-elo.value, -against.value, -equilibrium.value))
    first = game.policy(np.eye(len(models))[int(np.argmax(elo.value))])
    notes = [_on_intervals(found, resamples, level, seed)] if resamples else []
    notes += _on_battles(found)
    if not _is_unique(game, nash(game).policy):
        notes.append("There are several equilibria: the one of largest entropy is shown.")
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
        unplayed=_unplayed(found),
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
    ridge = bradley_terry.RIDGE if _linked(wins).max() == 0 else HELD
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


def _linked(wins: Array, connection: Literal["strong", "weak"] = "strong") -> Indices:
    """The group of each model. Of two in one group, each has beaten the other one, or a model that
    did, and so on; with `weak` links it is enough that they met.

    Bradley-Terry has a finite fit if and only if there is a single strong group (Ford 1957).
    """
    from scipy.sparse.csgraph import connected_components

    _, groups = connected_components(wins > 0.0, connection=connection)
    return np.asarray(groups)


def _unplayed(found: Battles) -> tuple[tuple[Hashable, Hashable], ...]:
    """The pairs of models that never met."""
    never = np.triu(found.played == 0.0, 1)
    return tuple((found.models[i], found.models[j]) for i, j in np.argwhere(never))


def _cycle(preferences: Array, order: Indices) -> tuple[int, ...]:
    """Three models of which each beats the next one, and the last the first: the best-ranked."""
    beats = preferences > 0.5 + cyclicity.TIE
    for i, j, k in combinations(order.tolist(), 3):
        for a, b, c in ((i, j, k), (i, k, j)):
            if beats[a, b] and beats[b, c] and beats[c, a]:
                return a, b, c
    return ()


def _on_intervals(found: Battles, resamples: int, level: float, seed: int) -> str:
    if not found.counted:
        return "There are no intervals: win rates do not say how many battles they rest on."
    if not found.whole:
        return "There are no intervals, because the numbers of wins are not whole."
    return (
        f"Brackets hold intervals: {100 * level:g} % of {resamples:,} resamples of the battles "
        f"(seed {seed})."
    )


def _on_battles(found: Battles) -> list[str]:
    """What was assumed where battles are missing or too few."""
    notes, names = [], found.models
    if found.left_out:
        notes.append(f"{found.left_out:,} battles of a model with itself were left out.")
    if unplayed := _unplayed(found):
        pairs = [f"{a} and {b}" for a, b in unplayed]
        notes.append(
            f"{len(pairs)} of {len(names) * (len(names) - 1) // 2} pairs never met: "
            f"{listed(pairs)}. The equilibrium counts them as even; Bradley-Terry and win rates "
            "leave them out."
        )
    groups, parts = _linked(found.scores), _linked(found.scores, "weak")
    if parts.max() > 0:
        apart = [
            listed([str(n) for n, g in zip(names, parts, strict=True) if g == part])
            for part in range(parts.max() + 1)
        ]
        notes.append(
            f"No battle links these groups: {'; '.join(apart)}. Scores of different groups cannot "
            "be compared."
        )
    if groups.max() > 0:
        lost, won = found.scores.sum(axis=0), found.scores.sum(axis=1)
        never = []
        for number, did in ((lost, "lost"), (won, "won")):
            of = [str(n) for n, count in zip(names, number, strict=True) if not count]
            never += [f"{listed(of)} never {did}"] if of else []
        why = " and ".join(never) or "some models never lost to any of the others"
        notes.append(
            f"Bradley-Terry has no finite fit, because {why}: a weak normal prior "
            f"({ELO / HELD**0.5:.0f} Elo points) holds its scores. Intervals do not show the "
            "losses that could have happened."
        )
    few = [str(n) for n, c in zip(names, found.played.sum(axis=1), strict=True) if c < FEW]
    if few and found.counted:
        notes.append(f"Fewer than {FEW} battles, so intervals say little: {listed(few)}.")
    lower = [str(name).lower() for name in names]
    alike = [str(n) for n, low in zip(names, lower, strict=True) if lower.count(low) > 1]
    if alike:
        notes.append(f"These names differ in capitals only: {listed(alike)}.")
    return notes


def _texts(numbers: Estimates, unit: float) -> list[str]:
    """Each number in parts of `unit`, with its interval."""
    value = [f"{unit * v:.{int(unit > 1.0)}f}" for v in numbers.value]
    if numbers.low is None or numbers.high is None:
        return value
    ends = zip(value, unit * numbers.low, unit * numbers.high, strict=True)
    return [f"{text} ({low:.0f} to {high:.0f})" for text, low, high in ends]


def _placed(numbers: Estimates, unit: float) -> list[str]:
    """Each number after its rank; equal numbers share the better rank."""
    better = numbers.value > numbers.value[:, None] + NEAR
    texts = zip(better.sum(axis=1), _texts(numbers, unit), strict=True)
    return [f"{1 + ahead}: {text}" for ahead, text in texts]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines whose cells begin in the same column."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def listed(names: Sequence[str], most: int = 6) -> str:
    """Names in a sentence, the first few of them."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
