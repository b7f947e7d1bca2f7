"""How a tree is told: as texts for a tokenizer, or as a few tokens of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpo_games.checks import require_callable, require_kind
from mpo_games.games.sequence_form import SequenceFormGame
from mpo_llm.responses import Decoding, Ids
from mpo_llm.templates import Template
from mpo_llm.trees.answers import Describe, Say, actions_of, labels_of


@dataclass(frozen=True, slots=True)
class Wording:
    """A game told in texts. `encoded` makes of it what `TextTreeGame` takes."""

    describe: Callable[[str], str]
    """From the label of an information state to what its player is told."""
    say: Callable[[str, int | str], str]
    """From a label and a legal action to what the player says."""
    rules: str = ""
    """What the player is told first of all, as the system's message; nothing if empty."""

    def __post_init__(self) -> None:
        require_callable("describe", self.describe, "a function `label -> text`")
        require_callable("say", self.say, "a function `(label, action) -> text`")

    def messages(self, label: str) -> list[dict[str, str]]:
        """The conversation that a player is asked to go on with."""
        rules = [{"role": "system", "content": self.rules}] if self.rules else []
        return [*rules, {"role": "user", "content": self.describe(label)}]

    def encoded(self, tokenizer: Any, *, chat: bool = True) -> tuple[Describe, Say]:
        """`describe` and `say` in token ids, by the tokenizer's chat template, if it has one.

        If an answer of one action begins with that of another, end both: with `eos_token`.
        """
        template = Template.of(tokenizer, chat=chat)

        def describe(label: str) -> Ids:
            return template.encode(self.messages(label))

        def say(label: str, action: int | str) -> Ids:
            ids = tokenizer(self.say(label, action), add_special_tokens=False)["input_ids"]
            return tuple(ids)

        return describe, say


def verbatim(label: str) -> str:
    """The label itself: OpenSpiel's own string, as a `describe` of `Wording`."""
    return label


@dataclass(frozen=True, slots=True)
class Compact:
    """A tree in tokens of its own: the fewest that tell its information states apart.

    A prompt is the player, then what was seen and what was done, in turn. An answer is one token.
    """

    describe: Describe
    """The prompt of a label."""
    say: Say
    """The answer of an action."""
    vocabulary: int
    """Ids in all."""
    actions: int
    """Ids of answers, which are the first ones."""
    context: int
    """Tokens of the longest prompt and its answer."""

    @property
    def decoding(self) -> Decoding:
        """One token, which names an action."""
        return Decoding(max_tokens=1, vocabulary=self.actions)


def compact(game: SequenceFormGame) -> Compact:
    """Compact tokens for any tree, whose labels need not be texts.

    `ValueError` if two information states have the same label.
    """
    require_kind("game", game, SequenceFormGame, "a tree, like `load('kuhn_poker')`")
    tree = game.tree
    labels, actions = labels_of(tree), actions_of(tree)
    names = list(dict.fromkeys(actions[2:]))
    done = {name: i for i, name in enumerate(names)}
    seats = len(names)
    # What a player sees after each action is numbered: the states that follow, in their order.
    seen = np.zeros(tree.states, dtype=np.int64)
    count = np.zeros(tree.sequences, dtype=np.int64)
    for j, parent in enumerate(tree.parent.tolist()):
        seen[j] = count[parent]
        count[parent] += 1
    observations = seats + 2
    prompts: list[Ids] = []
    state_of = tree.state_of
    for j, parent in enumerate(tree.parent.tolist()):
        if parent < 2:
            before: Ids = (seats + int(j >= tree.split),)
        else:
            before = (*prompts[state_of[parent]], done[actions[parent]])
        prompts.append((*before, observations + int(seen[j])))
    if len(set(labels)) < len(labels):
        raise ValueError(
            "Two information states have the same label, and `describe` gets nothing else: tell "
            "them apart in `tree.labels`."
        )
    told = dict(zip(labels, prompts, strict=True))
    longest = max((len(prompt) for prompt in prompts), default=1)
    vocabulary = observations + int(count.max(initial=1))

    def say(label: str, action: int | str) -> Ids:  # noqa: ARG001
        return (done[action],)

    return Compact(told.__getitem__, say, vocabulary, len(names), longest + 1)
