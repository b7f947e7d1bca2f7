"""The prompts and answers of a tree: one prompt for each information state, one answer an action.

A response of a network may be anything, and the rules allow some of it. So the probability of an
action is that of its answer, divided by the sum over the answers that are legal at the state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from mpo_games.checks import require_callable
from mpo_games.labelled import shown
from mpo_games.policies.tree import Tree
from mpo_games.protocol import Array, Indices
from mpo_llm.policy import TokenPolicy
from mpo_llm.responses import Ids, Responses, require_ids
from mpo_llm.step.scoring import require_producible

Describe = Callable[[str], Ids]
"""`describe(label)`: the prompt of an information state, as token ids."""

Say = Callable[[str, int | str], Ids]
"""`say(label, action)`: the answer that stands for a legal action, as token ids."""

MOST_ANSWERS = 100_000
"""The largest number of legal actions, at all information states together, that is listed."""


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """Every legal action at every information state, as responses to prompts."""

    tree: Tree
    """The information states and their actions."""
    listed: tuple[Responses, ...]
    """The answers that each network gives: one network answers at all states, or each of two at the
    states of its player. In the order of the sequences."""
    sequences: tuple[Indices, ...]
    """The sequence of each answer of each network, `(N,)`."""

    @classmethod
    def of(cls, tree: Tree, seats: int, describe: Describe, say: Say) -> Answers:
        """The answers of a tree that is played by one network, or by `seats = 2` of them.

        `ValueError` for two states with one description, for an action whose answer begins with
        that of another one, and for more than `MOST_ANSWERS` actions.
        """
        require_callable("describe", describe, "a function `label -> prompt ids`")
        require_callable("say", say, "a function `(label, action) -> ids`")
        if tree.sequences > MOST_ANSWERS:
            raise ValueError(
                f"The tree has {tree.sequences} actions at {tree.states} information states, more "
                f"than the {MOST_ANSWERS} that are listed: take a smaller game, such as "
                "`leduc_poker` or `liars_dice(dice_sides=4)`."
            )
        labels, actions = labels_of(tree), actions_of(tree)
        listed, sequences = [], []
        for player in (None,) if seats == 1 else (0, 1):
            first, last = tree.span(player)
            prompts = _prompts(labels[first:last], describe)
            own = np.arange(tree.offset[first], tree.offset[last])
            at = tree.state_of[own] - first
            answers = [
                require_ids("say", say(labels[first + j], actions[s]))
                for j, s in zip(at.tolist(), own.tolist(), strict=True)
            ]
            _require_apart(labels[first:last], at, answers, [actions[s] for s in own])
            listed.append(Responses.of_ids(prompts, at.tolist(), answers))
            sequences.append(own)
        return cls(tree, tuple(listed), tuple(sequences))

    def require_producible(self, tokens: Sequence[TokenPolicy]) -> None:
        """`ValueError` if a policy never draws one of the answers, or has no room for them."""
        for policy, answers in zip(tokens, self.listed, strict=True):
            require_producible(policy.decoding, answers)
            longest, most = int(answers.lengths.max(initial=0)), policy.decoding.max_tokens
            if longest > most:
                raise ValueError(
                    f"An answer has {longest} tokens, but responses have at most {most}: raise "
                    "`max_tokens` of the policy's decoding, or say it shorter."
                )
            sizes = np.array([len(prompt) for prompt in answers.prompts])
            policy.network.require_room(sizes[answers.prompt_of], answers.lengths)

    def played(self, tokens: Sequence[TokenPolicy]) -> tuple[Array, Array]:
        """The behavioural probabilities that networks play, `(sequences,)`, and the probability of
        a legal answer at each information state, `(states,)`."""
        probs, legal = np.ones(self.tree.sequences), np.ones(self.tree.states)
        state_of = self.tree.state_of
        for policy, answers, own in zip(tokens, self.listed, self.sequences, strict=True):
            log_p = policy.log_probs(answers).sum(axis=1)
            state = state_of[own]
            peak = np.full(self.tree.states, -np.inf)
            np.maximum.at(peak, state, log_p)
            power = np.exp(log_p - peak[state])
            total = np.bincount(state, power, self.tree.states)
            probs[own] = power / total[state]
            own_states = np.unique(state)
            legal[own_states] = np.exp(peak[own_states]) * total[own_states]
        # Single precision: a sum may exceed 1 by a rounding error.
        return probs, np.minimum(legal, 1.0)


def labels_of(tree: Tree) -> tuple[str, ...]:
    """The label of each information state; its number, if the tree has no labels."""
    return tree.labels or tuple(map(str, range(tree.states)))


def actions_of(tree: Tree) -> tuple[int | str, ...]:
    """The name of each sequence's last action; its place at its state, if the tree has no names."""
    if tree.actions:
        return tree.actions
    begin = np.repeat(tree.offset[:-1], np.diff(tree.offset))
    return (0, 0, *(np.arange(2, tree.sequences) - begin).tolist())


def _prompts(labels: Sequence[str], describe: Describe) -> list[Ids]:
    """The prompt of each label; `ValueError` if two are the same."""
    prompts = [require_ids("describe", describe(label)) for label in labels]
    known: dict[Ids, str] = {}
    for label, prompt in zip(labels, prompts, strict=True):
        if not prompt:
            raise ValueError(
                f"`describe({shown(label)})` has no token: every information state needs a prompt."
            )
        other = known.setdefault(prompt, label)
        if other is not label:
            raise ValueError(
                f"`describe` must tell all information states apart, but {shown(other)} and "
                f"{shown(label)} have the same description of {len(prompt)} tokens."
            )
    return prompts


def _require_apart(
    labels: Sequence[str], at: Indices, answers: Sequence[Ids], actions: Sequence[int | str]
) -> None:
    """`ValueError` unless a reader of the tokens knows which action of the state is meant."""
    # In the order of the tokens, an answer stands right before those that begin with it.
    order = sorted(range(len(answers)), key=lambda i: (at[i], answers[i]))
    for i in order:
        if not answers[i]:
            raise ValueError(
                f"`say({shown(labels[at[i]])}, {shown(actions[i])})` has no token: an action needs "
                "an answer."
            )
    for i, j in pairwise(order):
        if at[i] == at[j] and answers[j][: len(answers[i])] == answers[i]:
            raise ValueError(
                f"At {shown(labels[at[i]])} the answer of action {shown(actions[j])} begins with "
                f"that of {shown(actions[i])}, which has no end: let `say` end each answer with "
                "the id that ends a response."
            )
