"""Episodes that an engine draws token by token: what the model says, not what is computed of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np

from mpo_games.checks import require_callable
from mpo_games.games.sequence_form import SequenceFormGame
from mpo_games.games.sequence_tree import ChanceNode, DecisionNode, nodes_of
from mpo_games.policies.treeplex import TreeplexPolicy
from mpo_games.protocol import Array, Indices
from mpo_llm.engines.protocol import Engine, draw
from mpo_llm.policy import TokenPolicy
from mpo_llm.responses import Ids
from mpo_llm.trees.answers import Answers


@dataclass(slots=True, eq=False)
class Speaker:
    """An engine that draws what is said at the decisions of episodes, and a count of it.

    All episodes are played at the same time, move by move. Before a move the engine is asked at
    most once for each power of two in the numbers of episodes. An answer that the rules do not
    allow is counted, and in its place an action is drawn from the play over the legal ones. So
    episodes have the distribution of that play, however much of what is said is illegal.
    """

    engine: Engine
    """It draws answers of at most so many tokens as the longest one has."""
    answers: int = 0
    """Answers that were drawn."""
    illegal: int = 0
    """Those among them that the rules do not allow."""

    def __post_init__(self) -> None:
        require_callable("engine", self.engine, "`Autoregressive()`")

    def endings(
        self,
        game: SequenceFormGame,
        answers: Answers,
        tokens: Sequence[TokenPolicy],
        play: TreeplexPolicy,
        explore: float,
        count: int,
        rng: np.random.Generator,
    ) -> Array:
        """How often each ending is reached in `count` episodes, `(entries,)`.

        Both seats are played by `tokens`, whose play over the legal actions is `play`, and at every
        decision uniformly with the probability `explore`.
        """
        nodes = _nodes(game)
        seen = np.zeros(game.payoff.size)
        here = Counter({0: count})
        while here:
            ahead: Counter[int] = Counter()
            asked: dict[int, list[tuple[_Node, int]]] = {}
            for number, n in here.items():
                node = nodes[number]
                if not node.following:
                    if node.entry >= 0:
                        seen[node.entry] += n
                    continue
                drawn = n
                if node.state >= 0:
                    drawn = int(rng.binomial(n, explore))
                    asked.setdefault(node.state, []).append((node, n - drawn))
                for child, times in zip(
                    node.following, rng.multinomial(drawn, node.odds), strict=True
                ):
                    ahead[child] += int(times)
            numbers = {state: sum(n for _, n in waiting) for state, waiting in asked.items()}
            said = self._said(numbers, answers, tokens, play, rng)
            for state, waiting in asked.items():
                begin = 0
                for node, n in waiting:
                    places = said[state][begin : begin + n] - game.tree.offset[state]
                    for place in places.tolist():
                        ahead[node.following[place]] += 1
                    begin += n
            here = +ahead
        return seen

    def _said(
        self,
        numbers: Mapping[int, int],
        answers: Answers,
        tokens: Sequence[TokenPolicy],
        play: TreeplexPolicy,
        rng: np.random.Generator,
    ) -> dict[int, Indices]:
        """For each information state the sequences of so many actions, in the order of drawing."""
        tree = answers.tree
        found: dict[int, list[int]] = {state: [] for state in numbers}
        for policy, listed, own in zip(tokens, answers.listed, answers.sequences, strict=True):
            # The prompts of a network are its states in their order.
            base = int(tree.state_of[own[0]])
            here = [s for s in sorted(numbers) if base <= s < base + len(listed.prompts)]
            known = {(int(x), listed.ids(i)): int(own[i]) for i, x in enumerate(listed.prompt_of)}
            for bit in range(max((numbers[s] for s in here), default=0).bit_length()):
                some = [s for s in here if numbers[s] >> bit & 1]
                if not some:
                    continue
                prompts = [listed.prompts[s - base] for s in some]
                drawn = draw(self.engine, policy, prompts, 2**bit, rng).responses
                for i, x in enumerate(drawn.prompt_of.tolist()):
                    state, ids = some[x], drawn.ids(i)
                    action = _action(known, state - base, ids)
                    self.answers += 1
                    if action is None:
                        self.illegal += 1
                        own_actions = np.arange(tree.offset[state], tree.offset[state + 1])
                        action = int(rng.choice(own_actions, p=play.probs[own_actions]))
                    found[state].append(action)
        return {state: np.array(actions, dtype=np.int64) for state, actions in found.items()}


def _action(known: Mapping[tuple[int, Ids], int], prompt: int, ids: Ids) -> int | None:
    """The sequence of the answer with which a response begins; None if no answer does."""
    # No answer begins with another one, so there is one at most.
    beginnings = (known.get((prompt, ids[:k])) for k in range(1, len(ids) + 1))
    return next((action for action in beginnings if action is not None), None)


@dataclass(frozen=True, slots=True, eq=False)
class _Node:
    """A node of the tree."""

    following: list[int]
    """The numbers of the nodes that follow; none at an ending."""
    odds: Array
    """Their probabilities by chance, or those of uniform play."""
    state: int
    """The information state of a decision; -1 for others."""
    entry: int
    """The entry of the payoffs at an ending; -1 where it has none."""


_NODES: WeakKeyDictionary[SequenceFormGame, list[_Node]] = WeakKeyDictionary()


def _nodes(game: SequenceFormGame) -> list[_Node]:
    """The nodes of the tree, the root first."""
    found = _NODES.get(game)
    if found is None:
        found = _NODES[game] = _built(game)
    return found


def _built(game: SequenceFormGame) -> list[_Node]:
    tree = game.tree
    rows = np.repeat(np.arange(tree.sequences), np.diff(game.row)).tolist()
    pairs = zip(rows, game.column.tolist(), strict=True)
    entry_of = {pair: entry for entry, pair in enumerate(pairs)}
    found: list[_Node] = []
    # What is to come: the node above and each player's sequence there. The next is the last.
    ahead: list[tuple[int, tuple[int, int]]] = [(-1, (0, 1))]
    for i, node in enumerate(nodes_of(game)):
        above, at = ahead.pop()
        if above >= 0:
            found[above].following.append(i)
        if isinstance(node, ChanceNode):
            odds = np.array([float(p) for p in node.probabilities])
            found.append(_Node([], odds, -1, -1))
            ahead += [(i, at)] * len(odds)
        elif isinstance(node, DecisionNode):
            j = node.state
            own = range(tree.offset[j], tree.offset[j + 1])
            found.append(_Node([], np.full(len(own), 1.0 / len(own)), j, -1))
            ahead += [(i, (s, at[1]) if j < tree.split else (at[0], s)) for s in reversed(own)]
        else:
            found.append(_Node([], np.ones(0), -1, entry_of.get(at, -1)))
    return found
