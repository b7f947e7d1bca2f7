"""The solvers that the command line offers, their settings and defaults."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields, make_dataclass
from enum import Enum, member
from typing import TYPE_CHECKING, Annotated, Any, Union

import tyro

import mpo_games as mg
from mpo_games.choices import pull
from mpo_games.protocol import Solver


class FollowedFeedback(Enum):
    """The choices of `--feedback`."""

    # Without `member` a function in an enumeration is a method of it, not a choice.
    current = member(mg.current)
    optimistic = member(mg.optimistic)
    popov = member(mg.popov)
    half_step = member(mg.half_step)
    alternating = member(mg.alternating)


class MagnetPull(Enum):
    """The choices of `--pull`."""

    proximal = member(pull.proximal)
    in_reward = member(pull.in_reward)
    squared = member(pull.squared)
    mutation = member(pull.mutation)


SOLVERS: Mapping[str, tuple[str, Callable[..., Solver], Mapping[str, Any]]] = {
    "mmd": (
        "MMD",
        mg.MMD,
        {
            "eta": 0.15,
            "alpha": 0.2,
            "feedback": FollowedFeedback.current,
            "pull": MagnetPull.proximal,
            "magnet": mg.Fixed(),
        },
    ),
    "mpo": ("MPO", mg.MPO, {"eta": 0.15, "alpha": 0.2, "period": 50}),
    "optimistic-mpo": (
        "Optimistic MPO",
        mg.OptimisticMPO,
        {"eta": 0.5, "alpha": 0.2, "period": 20},
    ),
    "mpo-rt": ("MPO-RT", mg.MPO_RT, {"eta": 0.15, "alpha": 0.2, "period": 50}),
    "mirror-descent": ("MD", mg.MirrorDescent, {"eta": 0.15}),
    "auto": ("AutoMPO", mg.AutoMPO, {}),
    "optimistic-md": ("Optimistic MD", mg.OptimisticMD, {"eta": 0.5}),
    "extragradient": ("Extragradient", mg.Extragradient, {"eta": 0.5}),
    "egpo": ("EGPO", mg.EGPO, {"eta": 0.5, "alpha": 0.02}),
    "annealed-mmd": ("Annealed MMD", mg.AnnealedMMD, {"eta": 0.5, "alpha": 2.0, "power": 0.5}),
    "nash-md": ("Nash-MD", mg.NashMD, {"eta": 0.05, "alpha": 0.04}),
    "apmd": ("APMD", mg.APMD, {"eta": 0.15, "alpha": 0.6, "period": 100}),
    "m2wu": ("M2WU", mg.M2WU, {"eta": 0.15, "alpha": 0.2, "period": 50}),
    "fictitious-play": ("Fictitious play", mg.FictitiousPlay, {}),
    "gradient-ascent": ("GDA", mg.GradientAscent, {"eta": 0.05}),
    "regret-matching": ("RM", mg.RegretMatching, {"plus": False, "predictive": False}),
    "cfr": ("CFR", mg.CFR, {}),
    "cfr-plus": ("CFR+", mg.CFRPlus, {}),
    "dcfr": ("DCFR", mg.DCFR, {}),
    "pcfr-plus": ("PCFR+", mg.PCFRPlus, {}),
}
"""For each name on the command line: the name in figures, the constructor, the defaults.

Defaults of `eta` are in units of `1 / L` and those of `alpha` in units of `L = max |payoff|`: then
one default fits every game. `build` scales them.
"""

SETTINGS: Mapping[str, tuple[str, str]] = {
    "eta": ("Step size, in units of 1 / payoff.", " / L, L = max |payoff|"),
    "alpha": ("Weight of the KL to the magnet, in units of payoff.", " L, L = max |payoff|"),
    "period": ("The magnet moves to the policy every so many steps.", ""),
    "feedback": ("Which feedback is followed.", ""),
    "pull": ("How the magnet pulls.", ""),
    "magnet": ("When the magnet moves.", ""),
    "power": ("eta and alpha fall like (step + 1)^-power.", ""),
    "plus": ("Cut the regrets at 0 after every step (RM+).", ""),
    "predictive": ("Add the last regret as the guess of the next (PRM).", ""),
}
"""What each setting means, and the unit of its default; empty where that is a plain value."""


def _command(name: str) -> Any:
    """The subcommand of a solver of `SOLVERS`: a dataclass of its settings."""
    _, constructor, defaults = SOLVERS[name]
    options: list[tuple[str, Any, Any]] = []
    for setting, default in defaults.items():
        meaning, unit = SETTINGS[setting]
        if unit:
            # The default depends on the game: it is None here, and `build` computes it.
            arg = tyro.conf.arg(
                help=meaning, metavar="FLOAT", help_behavior_hint=f"(default: {default}{unit})"
            )
            options.append((setting, Annotated[float | None, arg], None))
        else:
            kind = Magnet if setting == "magnet" else type(default)
            options.append((setting, Annotated[kind, tyro.conf.arg(help=meaning)], default))
    return Annotated[
        make_dataclass(name, options, frozen=True),
        tyro.conf.subcommand(name, description=summary(constructor)),
    ]


def summary(constructor: Callable[..., Solver]) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join(inspect.cleandoc(constructor.__doc__ or "").partition("\n\n")[0].split())


def _schedule(name: str, schedule: type) -> Any:
    """The subcommand of a magnet schedule, whose fields are its settings."""
    return Annotated[schedule, tyro.conf.subcommand(name, description=summary(schedule))]


COMMANDS: Mapping[str, Any] = {}
"""The subcommand of each solver, for tyro."""

# tyro reads these unions at run time; a type checker cannot, since their members are computed.
if TYPE_CHECKING:
    Magnet = Any
    Chosen = Any
else:
    Magnet = Union[  # noqa: UP007
        _schedule("fixed", mg.Fixed),
        _schedule("every", mg.Every),
        _schedule("ema", mg.Ema),
        _schedule("when-gap-fell", mg.WhenGapFell),
    ]
    COMMANDS = {name: _command(name) for name in SOLVERS}
    Chosen = Union[tuple(COMMANDS.values())]  # noqa: UP007


def build(chosen: Chosen, bound: float) -> tuple[str, Solver, dict[str, Any]]:
    """Name in figures, solver and settings of the subcommand `chosen`.

    Defaults are scaled to `bound`, the game's `max |payoff|`; settings that were given are not.
    """
    label, constructor, defaults = SOLVERS[type(chosen).__name__]
    # In a game whose payoffs are all 0 there is no unit, and any setting will do.
    scale = {"eta": 1.0 / (bound or 1.0), "alpha": bound or 1.0}
    settings = {}
    for part in fields(chosen):
        given = getattr(chosen, part.name)
        if given is None:
            given = defaults[part.name] * scale[part.name]
        settings[part.name] = given.value if isinstance(given, Enum) else given
    return label, constructor(**settings), settings
