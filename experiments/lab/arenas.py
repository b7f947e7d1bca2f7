"""The games that experiments share.

Payoffs are scaled to `max |A| = 1`, so that one grid of step sizes means the same in every game;
preferences are not. Games of one shape are one batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import mpo_games as mg
from mpo_games.games import families
from mpo_games.games.catalogue import load
from mpo_games.games.families import random_preferences
from mpo_games.games.noisy import BanditGame, NoisyGame, SampledGame
from mpo_games.method import Batch

START = (0.2, 0.5, 0.3)
"""COMAL's start, where play begins in all games of three actions; an equilibrium of none."""

NAMED = ("rps", "perturbed_rps", "biased_rps", "comal")
"""Four games of rock-paper-scissors kind: each has one equilibrium, with full support."""


def scaled(payoffs: Any) -> mg.MatrixGame:
    """A game or a batch, each divided by its largest payoff."""
    a = np.asarray(payoffs, dtype=np.float64)
    return mg.MatrixGame(a / np.abs(a).max(axis=(-2, -1), keepdims=True))


def comal() -> Any:
    """COMAL's cyclic preferences; the equilibrium is (4, 3, 4) / 11."""
    return load("comal")


def named() -> mg.MatrixGame:
    """The four games of `NAMED` in one batch."""
    return scaled([np.reshape(load(name).payoff, (3, 3)) for name in NAMED])


def random_cycles(seeds: range) -> mg.MatrixGame:
    """For each seed a rock-paper-scissors with random stakes in [1/5, 1].

    The equilibrium of such a game has full support.
    """
    games = []
    for seed in seeds:
        a, b, c = np.random.default_rng(seed).uniform(0.2, 1.0, size=3)
        games.append([[0.0, -a, b], [a, 0.0, -c], [-b, c, 0.0]])
    return scaled(games)


def random_payoffs(seeds: range, n: int = 10) -> Any:
    """`P - 1/2` of EGPO's random preferences, one game per seed, `(seeds, n, n)`."""
    return np.stack([random_preferences(n, np.random.default_rng(s)).payoff[0] for s in seeds])


def start(game: Any) -> mg.TabularPolicy:
    """`START` where there are three actions, else the game's own start."""
    uniform: mg.TabularPolicy = game.initial_policy()
    if uniform.coordinates.shape[-1] != len(START):
        return uniform
    return mg.TabularPolicy.from_probs(np.broadcast_to(START, uniform.coordinates.shape))


def arena(name: str, quick: bool) -> tuple[mg.MatrixGame, mg.MatrixGame]:
    """The games to tune on and the games to report, of `named` or `random`.

    No game is in both.
    """
    few = 4 if quick else 20
    # Functions, so that only the games that are asked for are drawn.
    arenas: Mapping[str, Callable[[], tuple[mg.MatrixGame, mg.MatrixGame]]] = {
        "named": lambda: (random_cycles(range(1000, 1000 + few)), named()),
        "random": lambda: (
            scaled(random_payoffs(range(1000, 1000 + few))),
            scaled(random_payoffs(range(5 * few))),
        ),
    }
    return arenas[name]()


Rng = np.random.Generator


def uniform(size: int, _rng: Rng) -> Any:
    """Uniform play."""
    return np.full(size, 1.0 / size)


def scattered(size: int, rng: Rng) -> Any:
    """A uniformly random policy."""
    return rng.dirichlet(np.ones(size))


def peaked(size: int, rng: Rng) -> Any:
    """99 % on a random action."""
    return 0.99 * (np.arange(size) == rng.integers(size)) + 0.01 / size


@dataclass(frozen=True, slots=True)
class Family:
    """A family of games: instances differ by their seeds."""

    makes: tuple[Callable[[Rng], Any], ...]
    """How an instance is drawn: a function for every shape that the family has."""
    start: Callable[[int, Rng], Any] = uniform
    """How the start of one player with so many actions is drawn."""
    reported: int = 20
    """How many seeds are reported; they begin at 0, those that are tuned on at 1000."""

    def batches(self, seeds: Sequence[int]) -> list[Batch]:
        """For every shape a batch with one instance for each seed."""
        found = []
        for make in self.makes:
            rngs = [np.random.default_rng(seed) for seed in seeds]
            # Before the starts: a seed gives the same game whatever the family's start.
            games = [make(rng) for rng in rngs]
            if isinstance(games[0], mg.PreferenceGame):
                game: Any = mg.PreferenceGame(np.stack([g.preferences for g in games]))
            else:
                game = scaled([g.payoff for g in games])
            rows, size = game.legal.shape[-2:]
            drawn = [[self.start(size, rng) for _ in range(rows)] for rng in rngs]
            found.append((game, mg.TabularPolicy.from_probs(np.stack(drawn))))
        return found

    def arena(self, quick: bool) -> tuple[list[Batch], list[Batch]]:
        """The batches to tune on and those to report; no seed is in both."""
        # About twenty games to tune on, however many shapes there are.
        few = 1 if quick else 20 // len(self.makes)
        count = 2 if quick else self.reported
        return self.batches(range(1000, 1000 + few)), self.batches(range(count))


def _matrix(game: Any) -> mg.MatrixGame:
    """A game of a single payoff matrix, without its batch axes."""
    return mg.MatrixGame(game.payoff.reshape(game.payoff.shape[-2:]))


def _many_equilibria(rng: Rng) -> mg.MatrixGame:
    """M-Ne, or a random game of its kind."""
    game = families.many_equilibria(3, 2, rng)
    return _matrix(load("mne")) if rng.random() < 0.25 else game


FAMILIES: Mapping[str, Family] = {
    "RPS variants": Family((lambda rng: _matrix(load(NAMED[rng.integers(4)])),), scattered),
    "Condorcet cycles": Family(
        # `n=n` binds the size of this turn of the loop.
        tuple(lambda _, n=n: families.condorcet_cycle(n) for n in (3, 7, 21, 51)),
        scattered,
        reported=5,
    ),
    "EGPO, n = 10": Family((lambda rng: random_preferences(10, rng),), reported=100),
    "EGPO, n = 30": Family((lambda rng: random_preferences(30, rng),), reported=100),
    "EGPO, n = 100": Family((lambda rng: random_preferences(100, rng),)),
    "zero-sum 10 x 10": Family((lambda rng: families.random_zero_sum(10, 10, rng),)),
    "zero-sum 50 x 50": Family((lambda rng: families.random_zero_sum(50, 50, rng),)),
    "badly scaled": Family((lambda rng: families.badly_scaled(10, rng),)),
    "skill and cycles": Family((lambda rng: families.low_rank_cyclic(20, 2, rng),)),
    "many equilibria": Family((_many_equilibria,), scattered),
    "peaked starts": Family((lambda rng: random_preferences(10, rng),), peaked),
}
"""The families of `last_iterate`."""

FEEDBACKS: Mapping[str, Callable[[Any], Any]] = {
    "noisy": lambda game: NoisyGame(game, 0.1),
    "sampled": lambda game: SampledGame(game, 8),
    "bandit": lambda game: BanditGame(game, 8, exploration=0.1, duels=True),
}
"""A game whose feedback is estimated, by the kind of estimate."""

TREES: Mapping[str, str] = {
    "Kuhn": "kuhn_poker",
    "dark hex": "dark_hex(board_size=2,gameversion=adh)",
    "goofspiel(4)": "goofspiel(num_cards=4,imp_info=True,points_order=descending)",
    "liar's dice(4)": "liars_dice(dice_sides=4)",
    "Leduc, suits alike": "leduc_poker(suit_isomorphism=True)",
    "Leduc": "leduc_poker",
    "liar's dice(5)": "liars_dice(dice_sides=5)",
    "goofspiel(5)": "goofspiel(num_cards=5,imp_info=True,points_order=descending)",
}
"""The trees by size, with OpenSpiel's names."""

MORE_TREES: Mapping[str, str] = {
    "battleship": "battleship(board_width=2,board_height=2,ship_sizes=[1],ship_values=[1.0],"
    "num_shots=2)",
    "oshi-zumo": "oshi_zumo(coins=4,size=1,horizon=4)",
    "liar's dice(6)": "liars_dice(dice_sides=6)",
}
"""Trees that only some figures show."""

TUNED_TREES = ("Kuhn", "goofspiel(4)", "Leduc, suits alike")
"""The trees that are tuned on, perturbed with seed 1000."""

PERTURBED: Mapping[str, int] = {
    "goofspiel(4)": 3,
    "liar's dice(4)": 3,
    "Leduc, suits alike": 5,
    "Leduc": 5,
    "liar's dice(5)": 1,
    "goofspiel(5)": 3,
}
"""How many perturbations of each tree are reported, with seeds from 0: twenty games in all."""


def tree(name: str, seed: int | None = None) -> mg.SequenceFormGame:
    """One of `TREES` or `MORE_TREES`, its payoffs perturbed where there is a seed."""
    game: Any = load({**TREES, **MORE_TREES}[name])
    return game if seed is None else families.perturbed(game, np.random.default_rng(seed))


def tuned_trees(quick: bool) -> list[Batch]:
    """The trees to tune on."""
    return [(tree(name, 1000), None) for name in TUNED_TREES[: 1 if quick else None]]


def reported_trees(quick: bool) -> list[tuple[str, int | None]]:
    """Names and seeds of the trees to report; a seed of None is the tree as it is."""
    plain: list[tuple[str, int | None]] = [(name, None) for name in TREES]
    perturbed = [(name, seed) for name, count in PERTURBED.items() for seed in range(count)]
    return [*plain[:2], *perturbed[:1]] if quick else [*plain, *perturbed]
