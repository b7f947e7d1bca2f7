"""Networks at a game's table: what they play is a point of the tree, what they step to is fitted.

All that a solver does with a policy happens at this point, by the code of the core: the closed form
of the mirror step, distances, norms. Nothing but a fit ever makes a network, and the point is then
measured anew. So a solver never takes for played what a network only should have played.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from torch import Tensor

from mpo_games.labelled import shown
from mpo_games.policies.dilated_entropy import DilatedEntropy
from mpo_games.policies.treeplex import TreeplexPolicy
from mpo_games.protocol import Array, Number
from mpo_llm.networks.base import Network
from mpo_llm.policy import TokenPolicy
from mpo_llm.step.proximal import StepReport
from mpo_llm.trees.answers import Answers
from mpo_llm.trees.fitting import Fit


@dataclass(frozen=True, slots=True, eq=False)
class TreePolicy:
    """Networks that play a tree, and the play of theirs. `TextTreeGame` makes the first one.

    Immutable, like all policies. The arrays of the core, `(sequences,)`, are its feedback.
    """

    answers: Answers
    """The prompts and answers of the tree."""
    fit: Fit
    """How networks are fitted to a step."""
    tokens: tuple[TokenPolicy, ...]
    """The network for both seats, or one a seat."""
    play: TreeplexPolicy
    """What they play, normalised over legal actions, in the geometry of the next step."""
    legal: Array
    """The probability of a legal answer at each information state, `(states,)`."""

    @classmethod
    def measured(
        cls,
        answers: Answers,
        fit: Fit,
        tokens: tuple[TokenPolicy, ...],
        geometry: DilatedEntropy,
    ) -> Self:
        """The play of networks in a geometry. `FloatingPointError` if they return NaN."""
        probs, legal = answers.played(tokens)
        return cls(answers, fit, tokens, _placed(answers, geometry, probs), legal)

    @property
    def network(self) -> Network:
        """The network of the first seat, which is that of both seats if one plays both."""
        return self.tokens[0].network

    @property
    def report(self) -> StepReport | None:
        """What the fit of the last step did, of the first network; None at the start."""
        return self.tokens[0].report

    @property
    def probs(self) -> Array:
        """Behavioural probabilities, `(sequences,)`; 1 for the empty sequences."""
        return self.play.probs

    @property
    def plan(self) -> Array:
        """The realisation plan, `(sequences,)`."""
        return self.play.plan

    def mirror_step(
        self,
        q: Array,
        magnet: Self | None,
        *,
        eta: Number,
        alpha: Number,
        player: int | None = None,
    ) -> Self:
        """The tree's closed form from what is played (`TreeplexPolicy`), and networks fitted to it.

        With a `player` and one network for both seats, the other seat's play is fitted as it is.
        """
        pull = None if magnet is None else magnet.play
        target = self.play.mirror_step(q, pull, eta=eta, alpha=alpha, player=player)
        return self.towards(target, player)

    def towards(self, target: TreeplexPolicy, player: int | None = None) -> Self:
        """The networks after one fit to a point of the tree, such as uniform play: that teaches a
        language model which answers are legal, before it learns which are good."""
        return self._with(self.fit.fitted(self.answers, self.tokens, target, player))

    def penalise(self, q: Array, magnet: Self, *, alpha: Number) -> Array:
        """`q - alpha grad D(self || magnet)`, of what both play."""
        return self.play.penalise(q, magnet.play, alpha=alpha)

    def mix(self, other: Self, weight: float) -> Self:
        """The geometric mixture of the networks' next-token distributions; see `TokenPolicy`."""
        pairs = zip(self.tokens, other.tokens, strict=True)
        return self._with(tuple(own.mix(theirs, weight) for own, theirs in pairs))

    def averaged(self, other: Self, weight: float) -> Self:
        """The networks of weights `(1 - weight) self + weight other`."""
        pairs = zip(self.tokens, other.tokens, strict=True)
        return self._with(tuple(own.averaged(theirs, weight) for own, theirs in pairs))

    def smooth(self, share: float) -> Self:
        """The same networks, of whose actions a `share` is drawn uniformly among the legal ones."""
        return replace(self, play=self.play.smooth(share))

    def snapshot(self) -> Self:
        """The same policy without the optimisers' memory."""
        return replace(self, tokens=tuple(policy.snapshot() for policy in self.tokens))

    def within(self, geometry: DilatedEntropy) -> Self:
        """The same play in another geometry."""
        return replace(self, play=self.play.within(geometry))

    @property
    def point(self) -> Array:
        """The point in which utilities are linear: the realisation plan."""
        return self.play.point

    @property
    def extent(self) -> float:
        """The unit of `distance`."""
        return self.play.extent

    def distance(self, other: Self) -> float:
        """The local distance from what `other` plays."""
        return self.play.distance(other.play)

    def dual_norm(self, q: Array, other: Self) -> float:
        """The length of `q` in the norm dual to `distance`."""
        return self.play.dual_norm(q, other.play)

    def magnitude(self, q: Array) -> float:
        """The length of `|q|` without centring."""
        return self.play.magnitude(q)

    @property
    def kind(self) -> str:
        """The meaning of the arrays, as saved files name it."""
        return f"TreePolicy({len(self.tokens)}, {self.play.kind})"

    def arrays(self) -> dict[str, Any]:
        """What `restored` needs: the networks' arrays and the play's, by name."""
        found = self.numbers()
        for i, policy in enumerate(self.tokens):
            found |= {f"network {i} {name}": array for name, array in policy.arrays().items()}
        return found

    def numbers(self) -> dict[str, Any]:
        """Those of the `arrays` that are no tensors."""
        found: dict[str, Any] = {f"play {n}": array for n, array in self.play.arrays().items()}
        found["legal"], found["gamma"] = self.legal, np.array(self.play.geometry.gamma)
        for i, policy in enumerate(self.tokens):
            found |= {f"network {i} {name}": array for name, array in policy.numbers().items()}
        return found

    def tensors(self) -> dict[str, tuple[str, Tensor]]:
        """The others, as `TokenPolicy.tensors` gives them."""
        pairs = ((f"network {i} ", p.tensors()) for i, p in enumerate(self.tokens))
        return {prefix + name: tensor for prefix, own in pairs for name, tensor in own.items()}

    def array(self, name: str, tensor: Tensor) -> Array | None:
        """The array of one of the `tensors`; see `TokenPolicy.array`."""
        return self.tokens[0].array(name, tensor)

    def restored(self, arrays: Mapping[str, Any]) -> Self:
        """The policy whose `arrays` these are, bit for bit; `ValueError` for another game's."""

        def of(prefix: str) -> dict[str, Any]:
            named = (n for n in arrays if n.startswith(prefix))
            return {n.removeprefix(prefix): arrays[n] for n in named}

        if "legal" not in arrays:
            raise ValueError(f"`legal` must be among the arrays, got {shown(sorted(arrays))}.")
        tokens = tuple(p.restored(of(f"network {i} ")) for i, p in enumerate(self.tokens))
        # Not measured anew: another batch of rows would round differently.
        play, legal = self.play.restored(of("play ")), np.asarray(arrays["legal"])
        # Earlier files leave it to the policy that reads them.
        gamma = float(arrays.get("gamma", play.geometry.gamma))
        geometry = DilatedEntropy(play.geometry.weights, gamma)
        play = TreeplexPolicy(play.tree, geometry, play.coordinates, play.plan)
        return replace(self, tokens=tokens, play=play, legal=legal)

    def _with(self, tokens: tuple[TokenPolicy, ...]) -> Self:
        return self.measured(self.answers, self.fit, tokens, self.play.geometry)


def _placed(answers: Answers, geometry: DilatedEntropy, probs: Array) -> TreeplexPolicy:
    return TreeplexPolicy.from_probs(answers.tree, geometry, probs)
