"""How a tree is told: as texts for a tokenizer, or as a few tokens of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpo_games.checks import require_callable, require_kind
from mpo_games.games.sequence_form import SequenceFormGame
from mpo_games.policies.tree import Tree
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
    """A tree in tokens of its own: few of them tell its information states apart.

    A prompt begins with the player to move, an answer is one token.
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


Signs = Callable[[str], Sequence[str]]
"""`signs(label)`: the few words that tell an information state apart from the others."""


def compact(game: SequenceFormGame, signs: Signs | None = None) -> Compact:
    """Compact tokens for any tree; every different one of the `signs` is a token.

    Without `signs` labels need not be texts: a prompt is then what the player saw and did, in turn,
    and what is seen after a move is numbered. A network learns more from signs that mean the same
    everywhere: `leduc_signs`, `str.split` for liar's dice, `tuple` for Kuhn poker. `ValueError` if
    two information states have the same label.
    """
    require_kind("game", game, SequenceFormGame, "a tree, like `load('kuhn_poker')`")
    if signs is not None:
        # A class will do, such as `tuple`.
        require_callable("signs", signs if not isinstance(signs, type) else len, "`str.split`")
    tree = game.tree
    labels, actions = labels_of(tree), actions_of(tree)
    if len(set(labels)) < len(labels):
        raise ValueError(
            "Two information states have the same label, and `describe` gets nothing else: tell "
            "them apart in `tree.labels`."
        )
    told = _histories(tree) if signs is None else [tuple(signs(label)) for label in labels]
    names = list(dict.fromkeys(actions[2:]))
    words: dict[object, int] = {}
    first = len(names) + 2
    prompts = {
        label: (
            len(names) + int(j >= tree.split),
            *(first + words.setdefault(word, len(words)) for word in told[j]),
        )
        for j, label in enumerate(labels)
    }
    ids = {name: i for i, name in enumerate(names)}

    def say(label: str, action: int | str) -> Ids:  # noqa: ARG001
        return (ids[action],)

    longest = max(map(len, prompts.values()), default=1)
    return Compact(prompts.__getitem__, say, first + len(words), len(names), longest + 1)


def _histories(tree: Tree) -> list[tuple[object, ...]]:
    """For each information state, what its player saw and did, in turn."""
    actions, state_of = actions_of(tree), tree.state_of
    count = np.zeros(tree.sequences, dtype=np.int64)
    told: list[tuple[object, ...]] = []
    for parent in tree.parent.tolist():
        # What is seen after a move is numbered: the states that follow, in their order.
        seen = ("saw", int(count[parent]))
        count[parent] += 1
        before = () if parent < 2 else (*told[state_of[parent]], ("did", actions[parent]))
        told.append((*before, seen))
    return told
