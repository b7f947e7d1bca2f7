"""Algorithms by name: the settings of each, where a configuration leaves them open.

All but `auto` are magnetic mirror descent, so each is a line here. The numbers that no paper gives
are those of `mmd`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

from mpo_llm.choices import Algorithm, Every, WeightEma
from mpo_llm.config import CLIP, Config, SolverConfig, StepConfig

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

ALGORITHMS: Mapping[Algorithm, Named] = {
    "mmd": Named(),
    # Wang et al. 2025. Its own numbers are not public.
    "mpo": Named({"magnet": MOVING}),
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


def completed(config: Config) -> Config:
    """The configuration with a named algorithm, and its value for every setting left open.

    Without a name it is `auto`; or `mmd`, if a setting has a value that `auto` decides by itself.
    What `auto` decides stays None. `ValueError` for values that do not go together.
    """
    given = decided(config)
    name = config.solver.algorithm or ("mmd" if given else "auto")
    if name == "auto":
        if given:
            names = ", ".join(f"`{name}`" for name in given)
            verb, it = ("is", "it") if len(given) == 1 else ("are", "them")
            raise ValueError(
                f"{names} {verb} decided by `solver.algorithm: auto`: leave {it} out, or choose an "
                f"algorithm that takes {it}, such as `solver.algorithm: mmd`."
            )
        return replace(config, solver=replace(config.solver, algorithm="auto"))
    algorithm = ALGORITHMS[name]
    solver = _filled(config.solver, {**MMD.solver, **algorithm.solver, "algorithm": name})
    return replace(config, solver=solver, step=_filled(config.step, {**MMD.step, **algorithm.step}))


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
