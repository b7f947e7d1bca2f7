"""Algorithms by name: the settings of each, where a configuration leaves them open.

All but `auto` are magnetic mirror descent, so each is a line here. The numbers that no paper gives
are those of `mmd`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import mpo_games as mg
from mpo_games.choices.pull import Pull
from mpo_games.games import openspiel
from mpo_games.games.catalogue import CATALOGUE
from mpo_llm.choices import Algorithm, Every, WeightEma
from mpo_llm.config import CLIP, Config, GameConfig, SolverConfig, StepConfig
from mpo_llm.game_settings import SMALL, require_english
from mpo_llm.spelling import meant

S = TypeVar("S", SolverConfig, StepConfig)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Named:
    """An algorithm: the settings in which it differs from `MMD`."""

    solver: Mapping[str, Any] = field(default_factory=dict)
    """Those of the section `solver`."""
    step: Mapping[str, Any] = field(default_factory=dict)
    """Those of the section `step`."""


MMD = Named(
    {
        "eta": 2.0,
        "alpha": 0.01,
        "magnet": "fixed",
        "feedback": "current",
        "pool": 0,
        "pull": "proximal",
        "truncation": 4.0,
    },
    {
        "objective": "token",
        "kl": "exact_unbiased",
        "minimiser": "adam",
        "epochs": 4,
        "minibatches": 1,
        "rate": 1e-5,
        "schedule": "falling",
        "betas": (0.9, 0.999),
        "keep_first": False,
    },
)
"""Magnetic mirror descent (Sokota et al. 2023) with a fixed magnet: every open setting."""

MOVING = Every(50)
"""The magnet of MPO."""

PULLS: Mapping[str, Pull[Any]] = {"proximal": mg.proximal, "in_reward": mg.in_reward}
"""The values of `solver.pull`."""

ALGORITHMS: Mapping[Algorithm, Named] = {
    "mmd": Named(),
    # Wang et al. 2025. Its own numbers are not public.
    "mpo": Named({"magnet": MOVING}),
    "optimistic_mpo": Named({"magnet": MOVING, "feedback": "optimistic"}),
    "mpo_rt": Named({"magnet": MOVING, "pull": "in_reward"}, {"kl": "k1_in_reward"}),
    # Munos et al. 2024.
    "nash_md": Named({"feedback": "against_mixture"}),
    # Swamy et al. 2024, SPO: no magnet.
    "self_play": Named({"alpha": 0.0}),
    # Wu et al. 2024.
    "sppo": Named({"alpha": 0.0}, {"objective": "squared"}),
    # Zhang et al. 2024.
    "inpo": Named({}, {"objective": "squared"}),
    "iterative_dpo": Named({"alpha": 0.0}, {"objective": "logistic"}),
    # Liu et al. 2024: `llm/configs/general.yaml` explains its numbers.
    "comal": Named(
        {"eta": 750.0, "alpha": 6.67e-4, "magnet": Every(12)},
        {"objective": "squared", "epochs": 3, "rate": 5e-7},
    ),
    # For one prompt, or few, with some hundred responses a step.
    "recipe": Named(
        {"magnet": WeightEma(0.01), "feedback": "optimistic", "pool": 100},
        {"objective": "sequence", "minimiser": "lbfgs", "epochs": 20},
    ),
}
"""All algorithms but `auto`."""

GAME: Mapping[str, Any] = {
    "eta": 1.0,
    "alpha": 0.1,
    "magnet": "fixed",
    "feedback": "current",
    "pull": "proximal",
    "floor": 0.0,
}
"""Magnetic mirror descent where the model plays a game, in units of payoff: every open setting."""

ROUNDS: Mapping[str, Any] = {"magnet": Every(20), "floor": 0.05}
"""The magnet of MPO there, as tried on Kuhn poker."""

ON_GAMES: Mapping[Algorithm, Mapping[str, Any]] = {
    "mmd": {},
    "mpo": ROUNDS,
    "optimistic_mpo": {**ROUNDS, "feedback": "optimistic"},
    "mpo_rt": {**ROUNDS, "pull": "in_reward"},
    "nash_md": {"feedback": "against_mixture"},
    "self_play": {"alpha": 0.0},
}
"""The algorithms that play games: those that say nothing of how a step on texts is solved."""


def completed(config: Config) -> Config:
    """The configuration with a named algorithm, and its value for every setting left open.

    Without a name it is `auto`; or `mmd`, if a setting has a value that `auto` decides by itself.
    What `auto` decides stays None. `ValueError` for values that do not go together.
    """
    if config.game.name:
        return at_table(config)
    _require_texts(config)
    given = decided(config)
    name = config.solver.algorithm or ("mmd" if given else "auto")
    if name == "auto":
        _require_open(given)
        return replace(config, solver=replace(config.solver, algorithm="auto"))
    algorithm = ALGORITHMS[name]
    solver = _filled(config.solver, {**MMD.solver, **algorithm.solver, "algorithm": name})
    _require_numbers(solver)
    return replace(config, solver=solver, step=_filled(config.step, {**MMD.step, **algorithm.step}))


def at_table(config: Config) -> Config:
    """`completed` for a run that plays a game: its own numbers, and nothing that is for texts."""
    _require_game_alone(config)
    given = [f"solver.{name}" for name in GAME if getattr(config.solver, name) is not None]
    name = config.solver.algorithm or ("mmd" if given else "auto")
    if name == "auto":
        _require_open(given)
        return replace(config, solver=replace(config.solver, algorithm="auto"))
    if name not in ON_GAMES:
        raise ValueError(
            f"`solver.algorithm: {name}` is a method for texts: for a game choose one of auto, "
            f"{', '.join(ON_GAMES)}."
        )
    values = {**GAME, **ON_GAMES[name], "algorithm": name}
    solver = _filled(config.solver, values)
    _require_numbers(solver)
    return replace(config, solver=solver)


def _require_numbers(settings: SolverConfig) -> None:
    """`ValueError` for numbers that the solver refuses, such as a step too long for its pull."""
    eta, alpha, pull = known(settings.eta), known(settings.alpha), known(settings.pull)
    try:
        mg.MMD(eta, alpha, pull=PULLS[pull])
    except ValueError as error:
        raise ValueError(f"`solver.eta: {eta:g}` with `solver.pull: {pull}`: {error}") from error


def _require_game_alone(config: Config) -> None:
    """`ValueError` for a setting that has no place in a run that plays a game."""
    default, drawn = Config(), config.game.draws == "engine"
    allowed = {
        "prompts": (),
        "judge": (),
        "generation": ("end", "temperature", *(ENGINE if drawn else ())),
        "step": () if config.model.name == SMALL else ("micro_batch", "micro_tokens"),
        "evaluation": ("every",),
        "solver": ("algorithm", *GAME),
        "budget": (
            "steps",
            "gradient_steps",
            "episodes",
            *(("samples", "tokens") if drawn else ()),
        ),
    }
    for section, names in allowed.items():
        ours, theirs = getattr(config, section), getattr(default, section)
        for f in fields(ours):
            if f.name not in names and getattr(ours, f.name) != getattr(theirs, f.name):
                why = INSTEAD.get(section, "it is for texts")
                raise ValueError(
                    f"`{section}.{f.name}` cannot be set together with `game.name`: {why}."
                )
    if config.budget.episodes is not None and config.game.episodes is None:
        raise ValueError(
            "`budget.episodes` counts episodes, and there are none where feedback is exact: set "
            "`game.episodes`, too."
        )
    if config.model.name == SMALL:
        for f in fields(config.model):
            if f.name != "name" and getattr(config.model, f.name) != getattr(default.model, f.name):
                raise ValueError(f"`model.name: {SMALL}` has no `model.{f.name}`: leave it out.")
    needed = "compact" if config.model.name == SMALL else "english` or `verbatim"
    close = "" if config.model.name == SMALL else meant(config.model.name, (SMALL,))
    if config.game.wording is not None and config.game.wording not in needed:
        raise ValueError(
            f"`game.wording: {config.game.wording}` is not for the model {config.model.name!r}: "
            f"it reads `{needed}`{f'; {close}' if close else '.'}"
        )
    if config.model.name != SMALL and config.game.wording != "verbatim" and _is_tree(config.game):
        require_english(config.game.name)


def _is_tree(game: GameConfig) -> bool:
    """Whether the name is that of a tree, which may take minutes to list. Others load at once."""
    path = Path(game.name)
    if path.suffix.lower() == ".efg":
        return path.is_file()
    return game.name not in CATALOGUE and game.name.partition("(")[0] in openspiel.names()


ENGINE = ("batch", "engine", "options")
"""Settings of what draws tokens."""

INSTEAD: Mapping[str, str] = {
    "prompts": "a game takes the place of `prompts` and `judge`",
    "judge": "a game takes the place of `prompts` and `judge`",
    "generation": "answers are as long as the game's words, and without `game.draws: engine` no "
    "token is drawn",
    "step": "how the model is fitted to a step of a game is said by `fit`",
    "evaluation": "a game has no held-out prompts, and its distances are exact",
}
"""Why a section's settings are refused beside a game."""


def _require_texts(config: Config) -> None:
    """`ValueError` for a setting that only a run that plays a game has."""
    default, given = Config(), []
    given += ["fit"] if config.fit != default.fit else []
    given += ["solver.floor"] if config.solver.floor is not None else []
    given += ["budget.episodes"] if config.budget.episodes is not None else []
    given += [f"model.name: {SMALL}"] if config.model.name == SMALL else []
    if given:
        raise ValueError(
            f"`{given[0]}` is for a game of hidden information: set `game.name`, too, such as "
            "`kuhn_poker`, or leave it out."
        )


def _require_open(given: Sequence[str]) -> None:
    """`ValueError` if a setting has a value that `auto` decides by itself."""
    if given:
        names = ", ".join(f"`{name}`" for name in given)
        verb, it = ("is", "it") if len(given) == 1 else ("are", "them")
        raise ValueError(
            f"{names} {verb} decided by `solver.algorithm: auto`: leave {it} out, or choose an "
            f"algorithm that takes {it}, such as `solver.algorithm: mmd`."
        )


def decided(config: Config) -> tuple[str, ...]:
    """The settings, by their dotted names, that have a value and that `auto` decides by itself."""
    found = [
        f"{name}.{f.name}"
        for name, section in (("solver", config.solver), ("step", config.step))
        for f in fields(section)
        if "open" in f.metadata and getattr(section, f.name) is not None
    ]
    return (*found, *(["step.clip"] if config.step.clip != CLIP else []))


def known(value: T | None) -> T:
    """The value of an open setting, in a completed configuration of any algorithm but `auto`."""
    if value is None:
        raise ValueError("A setting is left open: pass `algorithms.completed(config)`.")
    return value


def _filled(section: S, values: Mapping[str, Any]) -> S:
    unset = (f.name for f in fields(section) if getattr(section, f.name) is None)
    return replace(section, **{name: values[name] for name in unset if name in values})
