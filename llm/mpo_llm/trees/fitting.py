r"""How networks are fitted to a point of the tree: by cross-entropy, state by state.

$$\min_p\;\sum_j w_j\,(r_j + \epsilon)\,\mathrm{KL}\big(b_j \,\|\, p_j\big)$$

over the information states j, with $b_j$ the target's probabilities, $r_j$ the target player's own
probability of getting there, and $w_j$ the state's weight in the dilated entropy: to second order
this is the target's divergence from what the network will play. A network that gave an action up
gets its gradient all the same, which a step along the reverse KL does not give it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from mpo_games.checks import require_callable, require_positive, require_share
from mpo_games.policies.treeplex import TreeplexPolicy
from mpo_games.protocol import Array
from mpo_llm.policy import TokenPolicy
from mpo_llm.step.following import Following
from mpo_llm.step.likelihood import CrossEntropy
from mpo_llm.step.minimisers import Minimiser
from mpo_llm.step.proximal import Proximal
from mpo_llm.step.rollouts import Rollouts
from mpo_llm.trees.answers import Answers


@dataclass(frozen=True, slots=True)
class Fit:
    """How a mirror step on a tree becomes a network's. `ValueError` for numbers out of range."""

    minimise: Minimiser = field(default_factory=Following)
    """How the cross-entropy is minimised, from the weights of the last step."""
    unreached: float = 0.01
    """What states count that the target never reaches: they are reached again later."""
    uniform: float = 1e-3
    """The share of uniform play in the target: no network can play a probability of 0."""

    def __post_init__(self) -> None:
        require_callable("minimise", self.minimise, "`Adam()`")
        require_positive("unreached", self.unreached)
        require_share("uniform", self.uniform)

    def fitted(
        self,
        answers: Answers,
        tokens: Sequence[TokenPolicy],
        target: TreeplexPolicy,
        player: int | None = None,
    ) -> tuple[TokenPolicy, ...]:
        """The networks after the step to `target`; with a `player`, only that one's is trained.

        `FloatingPointError` if a loss is not finite.
        """
        probs = self.softened(target)
        weights = np.append(
            [0.0, 0.0], np.repeat(self.shares(target), np.diff(answers.tree.offset))
        )
        found = list(tokens)
        for i, (policy, listed, own) in enumerate(
            zip(tokens, answers.listed, answers.sequences, strict=True)
        ):
            if player is not None and len(found) > 1 and i != player:
                continue
            w = weights[own] * probs[own]
            # An answer's log-probability stands at its first token; what counts is the sum.
            behaviour = np.zeros(listed.tokens.shape)
            behaviour[:, 0] = np.log(np.where(probs[own] > 0.0, probs[own], 1.0))
            q = Rollouts(listed, w / w.sum(), np.zeros(behaviour.shape), behaviour)
            solved = self._proximal(policy).solve(policy, policy.moments, q, ())
            found[i] = replace(
                policy,
                parts=((1.0, solved.weights),),
                moments=solved.moments,
                report=solved.report,
            )
        return tuple(found)

    def softened(self, target: TreeplexPolicy) -> Array:
        """The probabilities that the network is fitted to, `(sequences,)`."""
        probs = (1.0 - self.uniform) * target.probs + self.uniform / target.tree.choices
        return np.asarray(probs)

    def shares(self, target: TreeplexPolicy) -> Array:
        """What each information state counts, `(states,)`."""
        reach = target.plan[target.tree.parent]
        return np.asarray(target.geometry.weights * (reach + self.unreached))

    def _proximal(self, policy: TokenPolicy) -> Proximal:
        # Limits of memory are the policy's; all answers are in each update.
        return replace(
            policy.proximal,
            objective=CrossEntropy(),
            minimise=self.minimise,
            minibatches=1,
            guard=None,
        )
