"""Games by name, for scripts and the command line: here names become constructors."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from math import exp, lgamma, log
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from mpo_games.checks import require_kind
from mpo_games.games import families
from mpo_games.games.gambit.efg import read_efg
from mpo_games.games.gambit.nfg import read_nfg
from mpo_games.games.matrix import MatrixGame
from mpo_games.games.memory import MAX_MEMORY, require_limit, require_memory
from mpo_games.games.preference import PreferenceGame
from mpo_games.games.sequence_form import SequenceFormGame
from mpo_games.labelled import closest, shown


@dataclass(frozen=True, slots=True)
class Entry:
    """A named game: how it is made and what is known about it."""

    make: Callable[..., MatrixGame | PreferenceGame]
    """The constructor. Its parameters are keywords of type int, float or bool with defaults."""
    description: str
    """One line: what the game is, its source, and its equilibrium."""


def load(
    name: str, *, max_memory: float = MAX_MEMORY, **parameters: Any
) -> MatrixGame | PreferenceGame | SequenceFormGame:
    """The game called `name`, with its own parameters: `load("condorcet", n=5)`.

    A name that is not in the catalogue is looked up in OpenSpiel, if that is installed:
    `load("leduc_poker")`, `load("liars_dice", dice_sides=4)`. While a large one is compiled, a
    terminal shows a progress bar. A game that takes more than `max_memory` GiB is refused. A name
    that ends in `.efg` or `.nfg` is a file of Gambit (`load("game.efg")`), whose player 1 is player
    0 here.

    Raises:
        ValueError: for a file that is no such game; for an unknown name (the message suggests close
            ones); for a parameter that the game does not have, or that has the wrong type or size;
            and for a game that is too large.

    >>> load("condorcet", n=5).preferences.shape
    (1, 5, 5)
    """
    require_kind("name", name, (str, Path), "the name of a game or of a file, as text")
    name = str(name)
    require_limit(max_memory)
    suffix = Path(name).suffix.lower()
    if suffix in (".efg", ".nfg"):
        if parameters:
            raise ValueError(
                f"A file has no parameters, got {', '.join(parameters)} for {shown(name)}."
            )
        return read_efg(Path(name)) if suffix == ".efg" else read_nfg(Path(name))[0]
    if suffix in (".csv", ".tsv", ".npy"):
        raise ValueError(
            f"`name` must be a game's name or a file of Gambit, got {shown(name)}: read its "
            "numbers and pass them to `MatrixGame` or `PreferenceGame`, or use `mpo-games solve`."
        )
    if name not in CATALOGUE:
        # Imported here, since most games are not OpenSpiel's.
        from mpo_games.games import openspiel

        elsewhere = openspiel.names()
        # OpenSpiel's own spelling, with the parameters in the name, is understood too.
        if name.partition("(")[0] in elsewhere:
            return openspiel.compile_game(
                openspiel.spell(name, parameters), progress=True, max_memory=max_memory
            )
        close = closest(name, [*CATALOGUE, *elsewhere])
        hint = f"did you mean {' or '.join(close)}?" if close else f"it has {', '.join(CATALOGUE)}."
        if not elsewhere and not close:
            more = 'poker and the like need OpenSpiel: run `pip install "mpo-games[openspiel]"`.'
            hint = f"{more} Without it {hint}"
        raise ValueError(f"`name`: the catalogue has no game {shown(name)}; {hint}")
    make = CATALOGUE[name].make
    _check(name, make, parameters)
    _require_size(name, make, parameters, max_memory)
    game = make(**parameters)
    settings = ", ".join(f"{key}={value}" for key, value in parameters.items())
    # Made just now, so nobody else has seen it without its name.
    object.__setattr__(game, "name", f"{name}({settings})" if settings else name)
    return game


def names() -> tuple[str, ...]:
    """The names of the catalogue. `load` also knows the games of OpenSpiel."""
    return tuple(CATALOGUE)


def describe() -> Mapping[str, str]:
    """A line for each name of the catalogue: the game, its source, equilibrium and parameters."""
    return {name: f"{e.description}{_defaults(e.make)}" for name, e in CATALOGUE.items()}


def _defaults(make: Callable[..., Any]) -> str:
    known = inspect.signature(make).parameters.values()
    return f" [{', '.join(f'{p.name}={p.default}' for p in known)}]" if known else ""


ACCEPTED: Mapping[type, tuple[type, ...]] = {
    bool: (bool,),
    int: (int, np.integer),
    float: (int, float, np.integer, np.floating),
}
"""The types of argument that a parameter of each type accepts."""


def _check(name: str, make: Callable[..., Any], parameters: Mapping[str, Any]) -> None:
    # `eval_str`, because the __future__ import above leaves annotations as strings.
    known = inspect.signature(make, eval_str=True).parameters
    for key, given in parameters.items():
        if key not in known:
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise ValueError(f"The game {shown(name)} has no parameter `{key}`: {has}.")
        wanted = known[key].annotation
        # In Python True is an int: the second condition refuses it where a number is wanted.
        if not isinstance(given, ACCEPTED[wanted]) or isinstance(given, bool) > (wanted is bool):
            raise ValueError(
                f"`{key}` of the game {shown(name)} must be of type {wanted.__name__}, "
                f"got {shown(given)}."
            )


def _require_size(
    name: str, make: Callable[..., Any], parameters: Mapping[str, Any], max_memory: float
) -> None:
    """Refuse a matrix that is too large before it is made."""
    known = inspect.signature(make).parameters
    given = {key: parameters.get(key, p.default) for key, p in known.items()}
    rows = cells = 0.0
    if "n" in given:
        rows = float(given["n"]) + float(given.get("rank", given.get("k", 0)))
        cells = rows * float(given.get("m", rows))
    elif name == "blotto" and given["fields"] > 0 and given["soldiers"] >= 0:
        fields, soldiers = float(given["fields"]), float(given["soldiers"])
        # All numbers of soldiers in all fields are listed, then those with the right sum kept.
        splits = lgamma(soldiers + fields) - lgamma(soldiers + 1.0) - lgamma(fields)
        cells = exp(min(2.0 * splits, 700.0)) * fields
        # Listing them takes time, not memory: a second for about 1e7.
        cells = max(cells, exp(min(fields * log(soldiers + 1.0), 700.0)))
    # A matrix, and the copies that a constructor makes on the way.
    require_memory(f"The game {name!r} with {given}", 40.0 * cells, max_memory)


def _rps() -> MatrixGame:
    return MatrixGame([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])


def _biased_rps() -> MatrixGame:
    return MatrixGame([[0, -1, 3], [1, 0, -1], [-3, 1, 0]])


def _perturbed_rps(*, normalised: bool = False) -> MatrixGame:
    payoff = np.array([[0.0, -3, 3], [3, 0, -1], [-3, 1, 0]])
    # The smallest payoff is -3, the largest 3.
    return MatrixGame((payoff + 3.0) / 6.0 if normalised else payoff)


def _lizard_spock() -> MatrixGame:
    # A win is worth 1/2 in a preference game and 1 here.
    return MatrixGame(2.0 * families.condorcet_cycle(5).payoff[0])


def _mne() -> MatrixGame:
    return MatrixGame(
        [
            [0, 1, -1, 0, 0],
            [-1, 0, 1, 0, 0],
            [1, -1, 0, 0, 0],
            [1, -1, 0, -2, 1],
            [1, -1, 0, 1, -2],
        ]
    )


def _matching_pennies() -> MatrixGame:
    return MatrixGame([[1, -1], [-1, 1]])


def _blotto(*, fields: int = 3, soldiers: int = 5) -> MatrixGame:
    if fields < 1 or soldiers < 0:
        raise ValueError("`fields` must be at least 1 and `soldiers` at least 0.")
    splits = np.array(
        [s for s in product(range(soldiers + 1), repeat=fields) if sum(s) == soldiers]
    )
    won = np.sign(splits[:, None] - splits).sum(axis=-1)
    return MatrixGame(np.sign(won))


def _comal() -> PreferenceGame:
    return PreferenceGame([[0.5, 0.1, 0.8], [0.9, 0.5, 0.1], [0.2, 0.9, 0.5]])


def _condorcet(*, n: int = 3, strength: float = 1.0) -> PreferenceGame:
    return families.condorcet_cycle(n, strength)


def _random_preferences(*, n: int = 10, seed: int = 0) -> PreferenceGame:
    return families.random_preferences(n, _rng(seed))


def _low_rank_cyclic(
    *, n: int = 20, rank: int = 2, transitivity: float = 1.0, seed: int = 0
) -> PreferenceGame:
    return families.low_rank_cyclic(n, rank, _rng(seed), transitivity)


def _bradley_terry(*, n: int = 10, seed: int = 0) -> PreferenceGame:
    return families.bradley_terry(n, _rng(seed))


def _random_zero_sum(*, n: int = 10, m: int = 10, seed: int = 0) -> MatrixGame:
    return families.random_zero_sum(n, m, _rng(seed))


def _random_antisymmetric(*, n: int = 10, seed: int = 0) -> MatrixGame:
    return families.random_antisymmetric(n, _rng(seed))


def _badly_scaled(*, n: int = 10, seed: int = 0) -> MatrixGame:
    return families.badly_scaled(n, _rng(seed))


def _many_equilibria(*, n: int = 3, k: int = 2, seed: int = 0) -> MatrixGame:
    return families.many_equilibria(n, k, _rng(seed))


def _planted(*, n: int = 10, seed: int = 0) -> MatrixGame:
    if n < 1:
        raise ValueError(f"`n` must be at least 1, got {n}.")
    rng = _rng(seed)
    x, y = rng.dirichlet(np.ones(n), size=2)
    return families.planted_equilibrium(x, y, rng)


def _rng(seed: int) -> np.random.Generator:
    if seed < 0:
        raise ValueError(f"`seed` must be at least 0, got {seed}.")
    return np.random.default_rng(seed)


CATALOGUE: Mapping[str, Entry] = MappingProxyType(
    {
        "matching_pennies": Entry(_matching_pennies, "2x2; unique NE uniform, value 0."),
        "rps": Entry(_rps, "Rock-paper-scissors; unique NE uniform, value 0."),
        "biased_rps": Entry(
            _biased_rps, "RPS of the M2WU and APMD papers (Abe et al.); NE (1/5, 3/5, 1/5)."
        ),
        "perturbed_rps": Entry(
            _perturbed_rps,
            "RPS of the MMD paper (Sokota et al. 2023), raw or min-max normalised to [0, 1]; "
            "NE (1/7, 3/7, 3/7).",
        ),
        "rock_paper_scissors_lizard_spock": Entry(
            _lizard_spock,
            "Rock, scissors, lizard, paper, Spock: each beats the next two; unique NE uniform.",
        ),
        "mne": Entry(
            _mne,
            "M-Ne, 5x5 with a continuum of equilibria (Abe et al. 2023): "
            "row (1/3, 1/3, 1/3, 0, 0), column y1 = y2 = y3 and y4/2 <= y5 <= 2 y4; value 0.",
        ),
        "blotto": Entry(
            _blotto, "Colonel Blotto: the side with more battlefields wins; symmetric, value 0."
        ),
        "comal": Entry(
            _comal, "Cyclic preference of the COMAL paper (Liu et al. 2024); NE (4/11, 3/11, 4/11)."
        ),
        "condorcet": Entry(
            _condorcet, "n responses in a circle, each beats the next (n - 1) // 2; NE uniform."
        ),
        "random_preferences": Entry(
            _random_preferences, "P ~ U[0, 1], the EGPO study's games (Zhou et al. 2025)."
        ),
        "low_rank_cyclic": Entry(
            _low_rank_cyclic, "Skill plus low-rank cyclic logits (Balduzzi et al. 2018, mElo)."
        ),
        "bradley_terry": Entry(
            _bradley_terry, "Transitive control with normal scores; NE pure, the highest score."
        ),
        "random_zero_sum": Entry(_random_zero_sum, "n x m payoffs ~ U[-1, 1]."),
        "random_antisymmetric": Entry(
            _random_antisymmetric, "Symmetric zero-sum game, payoffs ~ U[-1, 1]; value 0."
        ),
        "badly_scaled": Entry(_badly_scaled, "Random payoffs, rows scaled by 10^U[-2, 0]."),
        "many_equilibria": Entry(
            _many_equilibria, "Random games like M-Ne: a continuum of equilibria; value 0."
        ),
        "planted": Entry(
            _planted, "Random payoffs around a planted unique NE of full support; value 0."
        ),
    }
)
"""Every game that has a name here."""
