"""The shape of a two-player game tree: the information states and sequences of both players.

A *sequence* is a player's own actions from the root to some point. The sequences of both players
share one numbering, so a policy is one vector over all sequences and the shape of a tree is two
arrays. In array shapes, `states` counts the information states of both players, `sequences` their
sequences, and `...` stands for the leading axes of a batch of independent runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from mpo_games.checks import (
    indices,
    normalised,
    require_count,
    require_probabilities,
    slack,
)
from mpo_games.kernels import trees as kernels
from mpo_games.labelled import read
from mpo_games.protocol import Array, Indices
from mpo_games.written import plural


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """The information states and sequences of both players, in flat arrays.

    Sequences 0 and 1 are the players' empty sequences. Information state `j` has the actions
    `offset[j] ... offset[j + 1] - 1`. A state stands after the states above it, and player 0's
    states before player 1's. `ValueError` if the arrays do not describe such a tree.

    >>> Tree(parent=np.array([0, 1]), offset=np.array([2, 4, 6]), split=1)
    Tree: 2 information states, 6 sequences
    """

    parent: Indices
    """The sequence that leads to each information state, `(states,)`."""
    offset: Indices
    """Where the actions of each information state begin, `(states + 1,)`; `offset[0] == 2`."""
    split: int
    """The first information state of player 1."""
    labels: tuple[str, ...] = ()
    """A name for each information state (OpenSpiel's information state string), or nothing."""
    actions: tuple[int | str, ...] = ()
    """A name for the last action of each sequence, or nothing."""
    names: tuple[str, ...] = ()
    """What people call these actions, where that is another name: OpenSpiel's "Bet" for 1."""
    owner: Indices = field(init=False)
    """The player of each sequence, `(sequences,)`."""
    choices: Array = field(init=False)
    """The number of actions at the state of each sequence, `(sequences,)`; 1 at the empty ones."""
    block: Indices = field(init=False)
    """The first state of each block, then the number of states. All states of a block have equally
    many actions, and none is above another. Kernels step a block at a time, so the fewer blocks a
    tree has, the faster they are."""

    def __post_init__(self) -> None:
        for name in ("parent", "offset"):
            object.__setattr__(self, name, indices(name, getattr(self, name)))
        require_count("split", self.split, least=0)
        parent, offset = self.parent, self.offset
        if parent.ndim != 1 or offset.shape != (parent.size + 1,) or offset[0] != 2:
            raise ValueError("`offset` must have one entry more than `parent` and begin with 2.")
        if not (np.diff(offset) >= 1).all():
            raise ValueError("Every information state needs at least one action.")
        # Kernels rely on this order: a pass down the tree is a loop over states, a pass up its
        # reverse.
        if not ((parent >= 0) & (parent < offset[:-1])).all():
            raise ValueError("`parent` must be a sequence that stands before its state's actions.")
        if not 0 <= self.split <= parent.size:
            raise ValueError(f"`split` must lie in [0, {parent.size}], got {self.split}.")
        owner = np.append([0, 1], np.repeat(np.arange(parent.size) >= self.split, np.diff(offset)))
        object.__setattr__(self, "owner", owner.astype(np.int64))
        count = np.diff(offset)
        object.__setattr__(self, "choices", np.append([1.0, 1.0], np.repeat(count, count)))
        object.__setattr__(self, "block", _blocks(parent, offset))
        if (self.owner[parent] != (np.arange(parent.size) >= self.split)).any():
            raise ValueError("`parent` must be a sequence of the state's own player.")

    @property
    def states(self) -> int:
        """The number of information states of both players."""
        return int(self.parent.size)

    @property
    def sequences(self) -> int:
        """The number of sequences of both players, the empty ones included."""
        return int(self.offset[-1])

    @property
    def size(self) -> str:
        """The size of the tree in words."""
        return (
            f"{self.states} {plural(self.states, 'information state')}, {self.sequences} sequences"
        )

    def __repr__(self) -> str:
        return f"Tree: {self.size}"

    def span(self, player: int | None) -> tuple[int, int]:
        """The first information state of `player`, and one after the last; all states for None."""
        return 0 if player != 1 else self.split, self.split if player == 0 else self.states

    def own(self, player: int) -> slice:
        """Where the sequences of `player` stand, without the empty one."""
        middle = self.offset[self.split]
        return slice(2, middle) if player == 0 else slice(middle, None)

    @property
    def state_of(self) -> Indices:
        """The information state of each sequence, `(sequences,)`; -1 for the empty ones."""
        state = np.full(self.sequences, -1, dtype=np.int64)
        state[2:] = np.repeat(np.arange(self.states), np.diff(self.offset))
        return state

    def require_distributions(self, probs: ArrayLike) -> Array:
        """A copy of `probs`, `(..., sequences)`, with 1 at the empty sequences.

        Sums of float32, and of coarser types, need to be 1 up to their rounding only. `ValueError`
        unless they are a distribution at every information state.
        """
        found = read(probs, "probs")
        if found.values.shape[-1:] != (self.sequences,):
            shape = found.values.shape
            raise ValueError(f"`probs` must be (..., {self.sequences}), got shape {shape}.")
        # A copy, because the entries of the empty sequences are overwritten below.
        p = np.array(found.aligned(-1, None, "probs").values)
        p[..., :2] = 1.0
        if not self.states:
            return p
        sizes = np.diff(self.offset)
        allowed = slack(found.rounding, int(sizes.max()))
        p = require_probabilities(p, "probs", allowed)
        with np.errstate(over="ignore"):
            total = np.add.reduceat(p, self.offset[:-1], axis=-1)
        if not (np.abs(total - 1.0) <= allowed).all():
            raise ValueError("`probs` must sum to 1 at every information state.")
        p[..., 2:] = normalised(p[..., 2:], np.repeat(total, sizes, axis=-1), found.rounding)
        return p

    def plan(self, probs: Array) -> Array:
        """The realisation plan of behavioural probabilities, both `(..., sequences)`."""
        lead, (flat,) = runs(probs)
        return kernels.realisation_plan(self.parent, self.offset, flat).reshape(*lead, -1)

    def behaviour(self, plan: Array, spare: Array) -> tuple[Array, Array]:
        """Log-probabilities of a plan, and the plan that they have; all `(..., sequences)`.

        The sums of `plan` need not be exact: it is normalised at every state. At states that the
        plan does not reach, the log-probabilities are those of `spare`.
        """
        lead, (flow, log_p) = runs(plan, spare)
        found = kernels.behaviour(self.parent, self.offset, flow, log_p)
        return _shaped(lead, *found) if lead else found

    def regrets(self, log_p: Array, q: Array, player: int | None) -> Array:
        """Counterfactual regrets of the gradient `q`, `(..., sequences)`; 0 for the other side.

        The regret of an action is its value less the value of its state, where play goes on by
        `log_p`; both are weighted by the reach of chance and the opponent.
        """
        lead, (flat, gradient) = runs(log_p, q)
        first, last = self.span(player)
        found = kernels.regrets(self.parent, self.offset, flat, gradient, first, last)
        return found.reshape(*lead, -1) if lead else found

    def centred(self, probs: Array, values: Array) -> Array:
        """`values - <probs, values>` at every information state, `(..., sequences)`."""
        lead, (flat, worth) = runs(probs, values)
        found = kernels.centred(self.offset, flat, worth)
        return found.reshape(*lead, -1) if lead else found

    def matching(
        self, weights: Array, log_p: Array, plan: Array, player: int | None
    ) -> tuple[Array, Array]:
        """Log-probabilities and plan in proportion to the positive `weights`, `(..., sequences)`.

        They are uniform at states without a positive weight. With a `player`, the other side keeps
        `log_p` and `plan`.
        """
        lead, (push, flat, flow) = runs(weights, log_p, plan)
        first, last = self.span(player)
        found = kernels.matching(self.parent, self.offset, push, flat, flow, first, last)
        return _shaped(lead, *found) if lead else found


def runs(
    *arrays: Array, over: tuple[ArrayLike, ...] = ()
) -> tuple[tuple[int, ...], Sequence[Array]]:
    """The shape of the common batch, and the arrays as kernels take them.

    The batch shape is the broadcast leading axes of the `arrays` with the shapes of `over` (step
    sizes, say). Each array becomes a vector if the batch has no axes, else `(runs, n)`.
    """
    # A single run is by far the most frequent case, and this loop recognises it fastest.
    for array in arrays:
        if array.ndim > 1 or over:
            break
    else:
        return (), arrays
    lead = np.broadcast_shapes(*(a.shape[:-1] for a in arrays), *(np.shape(x) for x in over))
    flat = (-1,) if lead else ()
    # In C order, because the kernels reshape arrays and are compiled anew for another order.
    wide = (np.broadcast_to(a, (*lead, a.shape[-1])) for a in arrays)
    return lead, [np.ascontiguousarray(a).reshape(*flat, a.shape[-1]) for a in wide]


def _blocks(parent: Indices, offset: Indices) -> Indices:
    """`Tree.block`: a state opens a block if its size differs or its parent is in the block."""
    size, begin = np.diff(offset), [0]
    for j in range(1, parent.size):
        if size[j] != size[begin[-1]] or parent[j] >= offset[begin[-1]]:
            begin.append(j)
    # A tree without states has no block, not one that begins at 0.
    return np.array([*begin[: parent.size], parent.size], dtype=np.int64)


def _shaped(lead: tuple[int, ...], log_p: Array, plan: Array) -> tuple[Array, Array]:
    """The results of a kernel, `(runs, sequences)`, with the axes `lead` of the batch."""
    # A single run, the most frequent case, is spared the reshapes.
    return log_p.reshape(*lead, -1), plan.reshape(*lead, -1)
