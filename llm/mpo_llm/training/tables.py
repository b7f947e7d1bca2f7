"""Make the game, the model at its table, and the solver of a run from its configuration."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch

import mpo_games as mg
from mpo_games.checks import require_kind
from mpo_games.choices.feedback import Feedback
from mpo_games.games.sequence_form import SequenceFormGame
from mpo_games.protocol import MagnetSchedule, Solver
from mpo_llm.algorithms import completed
from mpo_llm.config import Config, Every, FitConfig, GameConfig
from mpo_llm.engines import Engine
from mpo_llm.game_settings import ENGLISH, SMALL, require_english
from mpo_llm.networks import loading as model_loading
from mpo_llm.networks.plain import PlainNetwork
from mpo_llm.networks.processes import OneProcess, Processes
from mpo_llm.networks.small_transformer import SmallTransformer
from mpo_llm.policy import TokenPolicy
from mpo_llm.responses import Ids
from mpo_llm.step.following import Following
from mpo_llm.training import assemble
from mpo_llm.trees import english
from mpo_llm.trees.answers import Describe, Say, actions_of, labels_of
from mpo_llm.trees.drawing import Speaker
from mpo_llm.trees.episodes import Estimate, balanced, counted_deals, own_ratios
from mpo_llm.trees.fitting import Fit
from mpo_llm.trees.game import TextTreeGame
from mpo_llm.trees.selfplay import Pooled
from mpo_llm.trees.wording import Compact, Wording, compact, verbatim

ESTIMATES: Mapping[str, Estimate] = {
    "counted_deals": counted_deals,
    "balanced": balanced,
    "own_ratios": own_ratios,
}
SIGNS: Mapping[str, Callable[[str], Any]] = {
    "kuhn_poker": tuple,
    "leduc_poker": english.leduc_signs,
    "liars_dice": str.split,
}
"""The few words that tell an information state apart, for compact tokens."""


@dataclass(frozen=True, eq=False)
class Table:
    """A game with the model that plays it, and how people read its states and answers."""

    name: str
    """The game's name, as the configuration has it."""
    game: TextTreeGame
    """The game; its policy is the model as it is loaded."""
    tokenizer: Any
    """The model's tokenizer; None for a small transformer."""
    told: Callable[[str], str]
    """What a player is told at an information state, by its label."""
    said: Callable[[str, int | str], str]
    """What a player says, by the label and the action."""


def table(
    config: Config,
    device: torch.device | None = None,
    processes: Processes = OneProcess(),
    *,
    shard: bool = False,
    meter: Callable[[Engine], Engine] = lambda engine: engine,
) -> Table:
    """The table of a run's configuration; the model is on `device`, as in `assemble.start`.

    `meter` wraps the engine that draws episodes, where one does, such as to count what it draws.
    `ValueError` for a game that does not exist, is no two-player zero-sum tree, or has no wording
    of this kind, and for a model that cannot be loaded or cannot give the answers.
    """
    config = completed(config)
    settings, device = config.game, device or model_loading.device()
    try:
        tree = mg.load(settings.name)
    except ValueError as error:
        reason = str(error).removeprefix("`name`: ")
        raise ValueError(f"`game.name: {settings.name}`: {reason}") from error
    if not isinstance(tree, SequenceFormGame):
        raise ValueError(
            f"`game.name: {settings.name}` is no game of moves and hidden information: name one of "
            f"OpenSpiel's, such as {', '.join(ENGLISH)}, or a file of Gambit (`.efg`)."
        )
    engine = meter(assemble.engine(config)) if settings.draws == "engine" else None
    # Before the model is loaded, which takes longer than to find that words are missing.
    if config.model.name == SMALL:
        return _small(config, tree, engine, device, processes)
    wording = _wording(settings, tree)
    network, tokenizer = assemble.network(config, device, processes, shard=shard)
    describe, say = wording.encoded(tokenizer, chat=settings.chat)
    states = dict(zip(labels_of(tree.tree), _actions(tree), strict=True))
    said = {(label, a): say(label, a) for label, actions in states.items() for a in actions}
    start = assemble.policy(config, network, tokenizer)
    ends = start.decoding.ends
    if _beginnings(said.values()):
        # The token by which the model ends a turn makes answers that begin alike differ.
        said = {at: (*ids, ends[0]) for at, ids in said.items()}
    else:
        ends = ()
    longest = max(map(len, said.values()))
    decoding = replace(start.decoding, max_tokens=longest, eos=ends)
    start = replace(start, decoding=decoding)
    game = _game(config, tree, start, describe, lambda *at: said[at], engine)
    return Table(settings.name, game, tokenizer, wording.describe, wording.say)


def _small(
    config: Config,
    tree: SequenceFormGame,
    engine: Engine | None,
    device: torch.device,
    processes: Processes,
) -> Table:
    words: Compact = compact(tree, _signs(config.game.name))
    torch.manual_seed(config.seed)
    module = SmallTransformer(words.vocabulary, words.context).to(device)
    network = PlainNetwork(module, context=words.context, prefixes=True, processes=processes)
    decoding = replace(words.decoding, temperature=config.generation.temperature)
    # Without limits: tokens that answers begin with alike are then run once.
    start = TokenPolicy.of(network, decoding)
    game = _game(config, tree, start, words.describe, words.say, engine)
    names = _names(tree)

    def said(label: str, action: int | str) -> str:
        return names.get((label, action), str(action))

    return Table(config.game.name, game, None, str, said)


def _game(
    config: Config,
    tree: SequenceFormGame,
    start: TokenPolicy,
    describe: Describe,
    say: Say,
    engine: Engine | None,
) -> TextTreeGame:
    settings = config.game
    return TextTreeGame(
        tree,
        start,
        describe,
        say,
        settings.episodes,
        explore=settings.explore,
        estimate=ESTIMATES[settings.estimate],
        fit=fit(config.fit),
        speaker=None if engine is None else Speaker(engine),
    )


def fit(settings: FitConfig) -> Fit:
    """How the model is fitted to a step: `Fit()`, with the settings that have a value."""
    found = Fit()
    following = found.minimise
    require_kind("Fit().minimise", following, Following, "a `Following()`")
    assert isinstance(following, Following)
    names = {"epochs": "updates", "rate": "rate", "betas": "betas", "clip": "clip"}
    adam = replace(following.adam, **_given(settings, names))
    own = _given(settings, {"slope": "slope", "until": "until"})
    own_fit = _given(settings, {"unreached": "unreached", "uniform": "uniform"})
    return replace(found, minimise=replace(following, adam=adam, **own), **own_fit)


def _given(settings: FitConfig, names: Mapping[str, str]) -> dict[str, Any]:
    """The settings that have a value, by their names in the library."""
    values = ((name, getattr(settings, setting)) for name, setting in names.items())
    return {name: value for name, value in values if value is not None}


def chosen(config: Config, game: TextTreeGame) -> Solver:
    """The solver that the configuration chooses, in the smoothed geometry of trees."""
    settings = completed(config).solver
    if settings.algorithm == "auto":
        return game.self_tuning
    by_name = assemble.solver(replace(settings, floor=None))
    feedback: Feedback = by_name.feedback
    if game.episodes is not None:
        feedback = Pooled(feedback)
    magnet: MagnetSchedule = by_name.magnet
    if isinstance(settings.magnet, Every):
        magnet = mg.Every(settings.magnet.period, floor=settings.floor or 0.0)
    return replace(by_name, feedback=feedback, magnet=magnet, geometry=mg.smoothed)


def _wording(settings: GameConfig, tree: SequenceFormGame) -> Wording:
    """The game in the words that are asked for. `ValueError` for a game that has none."""
    kind = settings.name.partition("(")[0]
    names = _names(tree)

    def say(label: str, action: int | str) -> str:
        return names.get((label, action), str(action))

    if settings.wording == "verbatim":
        labels = labels_of(tree.tree)
        if not all(labels):
            raise ValueError(f"`game.wording: verbatim`: a label of {settings.name!r} is empty.")
        return Wording(verbatim, say)
    require_english(settings.name)
    if kind == "kuhn_poker":
        return english.kuhn()
    if kind == "leduc_poker":
        return english.leduc()
    sides = re.search(r"dice_sides=(\d+)", settings.name)
    return english.liars_dice(int(sides[1]) if sides else 6)


def _signs(name: str) -> Callable[[str], Any] | None:
    return SIGNS.get(name.partition("(")[0])


def _actions(tree: SequenceFormGame) -> list[tuple[int | str, ...]]:
    """The actions of each information state."""
    names, offset = actions_of(tree.tree), tree.tree.offset.tolist()
    return [tuple(names[a:b]) for a, b in pairwise(offset)]


def _names(tree: SequenceFormGame) -> dict[tuple[str, int | str], str]:
    """What people call an action, by the label of its state."""
    named, offset = tree.tree.names, tree.tree.offset.tolist()
    if not named:
        return {}
    return {
        (label, action): named[offset[j] + k]
        for j, (label, actions) in enumerate(zip(labels_of(tree.tree), _actions(tree), strict=True))
        for k, action in enumerate(actions)
    }


def _beginnings(answers: Any) -> bool:
    """Whether one of the answers is the beginning of another one."""
    known: set[Ids] = set(answers)
    return any(ids[:k] in known for ids in known for k in range(1, len(ids)))
