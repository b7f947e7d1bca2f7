"""The settings of a run that plays a game of hidden information: sections `game` and `fit`.

They stand in the place of `prompts`, `judge` and `step`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Literal

from mpo_games.checks import require_count, require_positive, require_share

SMALL = "small_transformer"
"""The `model.name` of a transformer that has no language: it plays in tokens of the game's own."""

ENGLISH = ("kuhn_poker", "leduc_poker", "liars_dice")
"""Games that are told in sentences."""

OPEN: Mapping[str, bool] = {"open": True}
"""Marks a setting that is the library's where it is None, and that a file then leaves out."""


def require_english(name: str) -> None:
    """`ValueError` unless this game, by the name that OpenSpiel reads, is told in sentences."""
    if name.partition("(")[0] not in ENGLISH:
        raise ValueError(
            f"There are no English words for {name!r}, only for {', '.join(ENGLISH)}: set "
            "`game.wording: verbatim`, which tells OpenSpiel's own strings, or "
            f"`model.name: {SMALL}`, which needs no words."
        )


@dataclass(frozen=True)
class GameConfig:
    """The game that the model plays against itself, instead of answering prompts for a judge.

    In a file `game: kuhn_poker` is short for `game: {name: kuhn_poker}`.
    """

    name: str = ""
    """A two-player zero-sum game, as `mpo_games.load` spells it: `kuhn_poker`, `leduc_poker`,
    `liars_dice(dice_sides=3)`, or a file of Gambit. Empty is no game."""
    wording: Literal["english", "verbatim", "compact"] | None = field(default=None, metadata=OPEN)
    """How the game is told. `english`: in sentences, for Kuhn poker, Leduc poker and liar's dice.
    `verbatim`: an information state is OpenSpiel's own string, an action its name. `compact`: in a
    few tokens of the game's own, which only `model.name: small_transformer` reads. None is
    `compact` for that model and `english` for all others."""
    chat: bool = True
    """Tell the game by the model's chat template, if it has one."""
    lessons: int = 1
    """Fits to uniform play before the first step, which teach the answers that the rules allow."""
    episodes: int | None = None
    """Episodes of self-play from which the feedback of a step is estimated; None (`null`) is exact
    feedback. All earlier episodes count as well."""
    explore: float = 0.5
    """The share of uniform play in episodes, at every decision, in [0, 1]."""
    draws: Literal["table", "engine"] = "table"
    """What draws episodes. `table`: the play that is computed, without a token. `engine`: that of
    `generation` draws every answer; in the place of an illegal one, which is counted, an action is
    drawn from the play over the legal ones."""
    estimate: Literal["counted_deals", "balanced", "own_ratios"] = "counted_deals"
    """What is made of the episodes. `counted_deals`: what was dealt is counted, which needs to be
    known after an episode. `balanced`: how often an ending was seen, over how often all policies so
    far would have led there. `own_ratios`: each episode by its own probabilities."""

    def __post_init__(self) -> None:
        require_count("game.lessons", self.lessons, least=0)
        if self.episodes is not None:
            require_count("game.episodes", self.episodes)
        require_share("game.explore", self.explore)
        if self.episodes is None:
            for name in ("explore", "draws", "estimate"):
                if getattr(self, name) != getattr(GameConfig, name):
                    raise ValueError(
                        f"`game.{name}` is about episodes, and feedback is exact without them: set "
                        "`game.episodes`, too."
                    )
        if not self.name:
            for f in fields(self):
                if getattr(self, f.name) != f.default:
                    raise ValueError(
                        f"`game.{f.name}` needs a game: set `game.name`, such as `kuhn_poker`."
                    )


@dataclass(frozen=True)
class FitConfig:
    """How the model is fitted to a mirror step of the game, by Adam on a cross-entropy.

    A setting that is None is that of `mpo_llm.trees.Fit()`.
    """

    updates: int | None = field(default=None, metadata=OPEN)
    """The most gradients of a step."""
    rate: float | None = field(default=None, metadata=OPEN)
    """The largest learning rate."""
    slope: float | None = field(default=None, metadata=OPEN)
    """The learning rate in units of the root of the loss: it falls as steps become small."""
    until: float | None = field(default=None, metadata=OPEN)
    """The share of the loss at which a step ends before all its updates are made."""
    betas: tuple[float, float] | None = field(default=None, metadata=OPEN)
    """Adam's decay of the first and the second moment, both over all steps."""
    clip: float | None = field(default=None, metadata=OPEN)
    """Largest norm of a gradient; a longer one is scaled down."""
    unreached: float | None = field(default=None, metadata=OPEN)
    """What states count that the step's target never reaches."""
    uniform: float | None = field(default=None, metadata=OPEN)
    """The share of uniform play in the target, in [0, 1]."""

    def __post_init__(self) -> None:
        if self.updates is not None:
            require_count("fit.updates", self.updates)
        for name in ("rate", "slope", "clip", "unreached"):
            if getattr(self, name) is not None:
                require_positive(f"fit.{name}", getattr(self, name))
        for name in ("until", "uniform"):
            if getattr(self, name) is not None:
                require_share(f"fit.{name}", getattr(self, name))
        for beta in self.betas or ():
            if not 0.0 <= beta < 1.0:
                raise ValueError(f"`fit.betas` must lie in [0, 1), got {beta}.")
