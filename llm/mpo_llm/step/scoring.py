"""Log-probabilities and exact KLs of the tokens of responses, a chunk of positions at a time.

The networks are run once over all rows and give a state before each of the M tokens. Logits
`(M, V)` of all of them would be the largest tensor of a run, so they are made, used and dropped for
a few positions at a time, in the backward pass too. Padding has no states and no terms.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mpo_games.protocol import Array
from mpo_llm.networks.base import Head, Network, Weights
from mpo_llm.networks.inputs import Inputs, to_device
from mpo_llm.networks.processes import in_step, share
from mpo_llm.responses import Decoding, Responses
from mpo_llm.step.parts import Limits
from mpo_llm.step.terms import table

CHUNK = 40 * 2**20
"""Bytes of the logits that are in memory at the same time, on a CPU. Arrays below 32 MiB lie in the
heap, and scatter there; far larger ones are no faster."""

KEPT = 6
"""The most arrays of that size that are kept for the backward pass. Others are computed again."""

DEVICE = 8
"""How many times larger chunks are on other devices: each adds to the gradient of the whole head,
which is several gigabytes of traffic in a large model."""

AT_ONCE = 2**16
"""Tokens whose states are kept while several policies are run over them, one after the other."""

Parts = tuple[tuple[float, Weights | None], ...]
"""Exponents and weights of a geometric mixture of networks. None stands for the weights of the
network's workbench, which are the ones that gradients change."""

WORKBENCH: Parts = ((1.0, None),)
"""The parts of the policy that a mirror step looks for: the workbench alone."""


class Scorable(Protocol):
    """What the terms of tokens need of a policy."""

    @property
    def network(self) -> Network:
        """The network that runs all its parts."""
        ...

    @property
    def decoding(self) -> Decoding:
        """How logits become probabilities."""
        ...

    @property
    def parts(self) -> Parts:
        """Exponents and weights."""
        ...

    @property
    def limits(self) -> Limits:
        """How many responses are run at the same time."""
        ...


def same_parts(one: Parts, other: Parts) -> bool:
    """Whether two policies have the same weights with the same exponents."""
    # Identity, not equality: weights are never written to, so the same tensors are the same
    # weights, and comparing their numbers would take as long as a pass over them.
    return len(one) == len(other) and all(
        a == b and mine is theirs for (a, mine), (b, theirs) in zip(one, other, strict=True)
    )


@dataclass(frozen=True, slots=True, eq=False)
class TokenTerms:
    """What losses are made of: `(M,)` tensors in nats, one number for each token."""

    log_probs: Tensor
    """Log-probabilities of the tokens."""
    log_ratios: tuple[Tensor, ...]
    """For each reference r the log-ratios `log p - log r` of the tokens."""
    kls: tuple[Tensor, ...]
    """For each reference r the KLs `KL(p || r)` of the next-token distributions, over all V ids."""


@dataclass(frozen=True, slots=True, eq=False)
class HiddenStates:
    """The states of a policy's networks before each token of some responses."""

    network: Network
    decoding: Decoding
    parts: Parts
    states: tuple[Tensor, ...]
    """The states of each part, `(M, d)`: a row a token, response after response."""
    heads: tuple[Head | None, ...]
    """The head of each part; None for the workbench."""

    @classmethod
    def of(cls, network: Network, decoding: Decoding, parts: Parts, inputs: Inputs) -> HiddenStates:
        """Run each part over the inputs. Only states of the workbench have gradients, if any."""
        (found,) = cls.of_each(network, decoding, parts, [inputs])
        return found

    @classmethod
    def of_each(
        cls, network: Network, decoding: Decoding, parts: Parts, several: Sequence[Inputs]
    ) -> list[HiddenStates]:
        """Run each part over several inputs, one part after the other: it is put in once."""
        columns, heads = [], []
        for _, weights in parts:
            with torch.set_grad_enabled(weights is None and torch.is_grad_enabled()):
                columns.append([network.states(inputs, weights) for inputs in several])
            heads.append(None if weights is None else network.head(weights))
        rows = zip(*columns, strict=True)
        return [cls(network, decoding, parts, states, tuple(heads)) for states in rows]

    def take(self, tokens: Tensor) -> HiddenStates:
        """The states before some of the tokens, given by their indices `(m,)`."""
        return replace(self, states=tuple(states[tokens] for states in self.states))

    def joined(self, others: Sequence[HiddenStates]) -> HiddenStates:
        """These states, then those of the same policy over other responses."""
        if not others:
            return self
        columns = zip(self.states, *(other.states for other in others), strict=True)
        return replace(self, states=tuple(torch.cat(states) for states in columns))

    def scores(self, positions: slice) -> Tensor:
        """Unnormalised next-token log-probabilities at some of the positions, `(positions, V)`."""
        logits = [
            self.network.logits(states[positions], head)
            for states, head in zip(self.states, self.heads, strict=True)
        ]
        return scores(self.decoding, self.parts, logits)

    def log_softmax(self, positions: slice) -> Tensor:
        """Next-token log-probabilities at some of the positions, `(positions, V)`."""
        return torch.log_softmax(self.scores(positions), dim=-1)

    def terms(self, tokens: Tensor, references: Sequence[HiddenStates] = ()) -> TokenTerms:
        """Terms of the `tokens` `(M,)` after these states; differentiable if the states are.

        `references` are the states of other policies before the same tokens. `FloatingPointError`
        if a term is NaN, unless there are gradients; then who has the loss looks at it once.
        """
        found = _table(self, tokens, references)
        return _from_table(found if found.requires_grad else _checked(found))


def scores(decoding: Decoding, parts: Parts, logits: Sequence[Tensor]) -> Tensor:
    """Unnormalised next-token log-probabilities `(..., V)` of a mixture, from its parts' logits.

    Drawing and scoring both come here: vocabulary, mixture and temperature enter nowhere else. It
    may be the logits themselves, so it must not be written to.
    """
    whole: Tensor | None = None
    for (exponent, _), part in zip(parts, logits, strict=True):
        # Passes over all ids take time, so those that would change nothing are left out.
        size = part.shape[-1]
        kept = part if (decoding.vocabulary or size) >= size else part[..., : decoding.vocabulary]
        # In half precision a sum over the vocabulary would lose its small terms.
        kept = kept.to(torch.promote_types(kept.dtype, torch.float32))
        kept = kept if exponent == 1.0 else exponent * kept
        whole = kept if whole is None else whole + kept
    assert whole is not None
    if decoding.unused:
        whole = whole.index_fill(-1, _on(whole.device, decoding.unused), -torch.inf)
    return whole if decoding.temperature == 1.0 else whole / decoding.temperature


def log_softmax(decoding: Decoding, parts: Parts, logits: Sequence[Tensor]) -> Tensor:
    """The next-token log-probabilities `(..., V)` of a mixture, from the logits of its parts."""
    return torch.log_softmax(scores(decoding, parts, logits), dim=-1)


@lru_cache(maxsize=16)
def _on(device: torch.device, ids: tuple[int, ...]) -> Tensor:
    """The ids on the device, where they stay: sending them for every chunk would be waiting."""
    return torch.tensor(ids, device=device)


def hidden_states(policy: Scorable, responses: Responses) -> HiddenStates:
    """The states of `policy` before each token of the responses, without gradients.

    `ValueError` if a prompt and its response are longer than the network's context.
    """
    split = policy.limits.split(responses, shared=policy.network.shares_prompts)
    first, *rest = states_of_each(policy, [responses.take(rows) for rows in split])
    found = first.joined(rest)
    order = np.concatenate(split)
    if (np.diff(order) > 0).all():
        return found
    # Parts have been sorted by length; their states go back to the places of their tokens.
    back = np.argsort(responses.tokens_of(order))
    return found.take(torch.from_numpy(back).to(policy.network.device))


def states_of_each(policy: Scorable, parts: Sequence[Responses]) -> list[HiddenStates]:
    """The states of `policy` before each token of some parts of responses, without gradients.

    Each part is run at once. Errors are those of `hidden_states`.
    """
    network = policy.network
    for responses in parts:
        sizes = np.array([len(prompt) for prompt in responses.prompts])
        network.require_room(sizes[responses.prompt_of], responses.lengths)
    inputs = [Inputs.of_responses(responses, network.device) for responses in parts]
    return HiddenStates.of_each(network, policy.decoding, policy.parts, inputs)


def log_probs_and_states(
    policy: Scorable, responses: Responses
) -> tuple[Array, HiddenStates | None]:
    """Log-probabilities of the tokens, `(N, T)`, and the states that they come from.

    With several processes there are no states, since each of them runs a part of the responses.
    Errors are those of `token_terms`.
    """
    if policy.network.processes.size > 1:
        return per_token(responses, token_terms(policy, responses).log_probs), None
    require_producible(policy.decoding, responses)
    tokens = torch.from_numpy(responses.tokens[responses.mask]).to(policy.network.device)
    hidden = hidden_states(policy, responses)
    with torch.no_grad():
        return per_token(responses, hidden.terms(tokens).log_probs), hidden


def token_terms(
    policy: Scorable, responses: Responses, references: Sequence[Scorable] = ()
) -> TokenTerms:
    """Terms of the responses' tokens by `policy`, and its ratios and KLs to `references`.

    On the CPU, without gradients; as many responses as `limits` allows are run at a time, and the
    processes share the work. `ValueError` for tokens that are never drawn and for rows longer than
    the context, `FloatingPointError` if the network returns NaN.
    """
    require_producible(policy.decoding, responses)
    network = policy.network
    mine = np.arange(len(responses))[share(network.processes, len(responses))]
    own = responses.take(mine)
    split = [mine[rows] for rows in policy.limits.split(own, shared=network.shares_prompts)]
    # States that are logits are too large to be kept. Processes that put weights together for each
    # pass must run the same policy at the same time, whatever they have to run it over.
    room = AT_ONCE if network.has_head and not network.in_step else 0
    # What the extra passes compute is dropped.
    missing = len(in_step(network.processes, split)) - len(split) if network.in_step else 0
    made: list[Tensor] = []
    for several in _runs([responses.take(rows) for rows in split], room):
        made += _tables_of(policy, several, references)
    for _ in range(missing):
        _tables_of(policy, [responses.take(slice(0, 1))], references)
    # One copy from the device, and one tensor to the others: a view is sent with all that it shows.
    ours = (np.concatenate(split), torch.cat(made, dim=1).cpu()) if made else None
    found = [theirs for theirs in network.processes.gather(ours) if theirs is not None]
    # Without a response there is no table.
    dtype = found[0][1].dtype if found else torch.float32
    whole = torch.zeros(1 + 2 * len(references), *responses.mask.shape, dtype=dtype)
    for rows, values in found:
        row, t = np.nonzero(responses.mask[rows])
        whole[:, rows[row], t] = values
    return _from_table(_checked(whole[:, responses.mask]))


def per_token(responses: Responses, values: Tensor) -> Array:
    """Values of the responses' tokens `(M,)` as `(N, T)` in double precision, 0 at padding."""
    found = np.zeros(responses.tokens.shape)
    found[responses.mask] = values.double().cpu().numpy()
    return found


def require_producible(decoding: Decoding, responses: Responses) -> None:
    """`ValueError` if the responses hold ids that are never drawn."""
    limit = decoding.vocabulary
    if limit is not None and len(responses) and responses.tokens.max() >= limit:
        raise ValueError(f"The responses hold ids that are never produced (at least {limit}).")
    unused = np.isin(responses.tokens[responses.mask], decoding.unused)
    if unused.any():
        raise ValueError("The responses hold ids for which the tokenizer has no token.")


def _runs(parts: Sequence[Responses], room: int) -> Iterator[list[Responses]]:
    """Runs of consecutive parts that have at most `room` tokens together, or of one part."""
    run: list[Responses] = []
    tokens = 0
    for part in parts:
        tokens += int(part.lengths.sum())
        if run and tokens > room:
            yield run
            run, tokens = [], int(part.lengths.sum())
        run.append(part)
    if run:
        yield run


def _tables_of(
    policy: Scorable, parts: Sequence[Responses], references: Sequence[Scorable]
) -> list[Tensor]:
    """The table of each part of the responses, `(1 + 2 K, M)`, without gradients."""
    with torch.no_grad():
        # One policy after the other, so that the weights of each are put in once.
        read = [states_of_each(p, parts) for p in (policy, *references)]
        tables = []
        for responses, states, *others in zip(parts, *read, strict=True):
            (tokens,) = to_device([responses.tokens[responses.mask]], policy.network.device)
            tables.append(_table(states, tokens, others))
        return tables


def _table(states: HiddenStates, tokens: Tensor, references: Sequence[HiddenStates]) -> Tensor:
    """Log-probabilities, then log-ratio and KL of each reference, `(1 + 2 K, M)`."""
    with torch.no_grad():
        none = states.scores(slice(0, 0))
    scale = 1 if none.device.type == "cpu" else DEVICE
    size = max(1, scale * CHUNK // (none.shape[-1] * none.element_size()))
    # The last positions are kept: the backward pass comes to them first, so they are gone when
    # it computes the others again.
    kept = KEPT * size // (1 + len(references))
    pieces = []
    for start in range(0, len(tokens), size):
        chunk = slice(start, min(start + size, len(tokens)))
        if torch.is_grad_enabled() and len(tokens) - start > kept:
            # Nothing is random here, so no random state needs to be kept.
            pieces.append(
                checkpoint(
                    *(_chunk, states, tokens, references, chunk),
                    use_reentrant=False,
                    preserve_rng_state=False,
                )
            )
        else:
            pieces.append(_chunk(states, tokens, references, chunk))
    return torch.cat(pieces, dim=1)


def _chunk(
    states: HiddenStates, tokens: Tensor, references: Sequence[HiddenStates], chunk: slice
) -> Tensor:
    """Some columns of the table."""
    others = [partial(reference.scores, chunk) for reference in references]
    compiled = states.network.compiled
    return table(states.scores(chunk), tokens[chunk], others, compiled=compiled)


def _checked(found: Tensor) -> Tensor:
    # NaN is refused here, because it would pass unnoticed into weights and advantages.
    if torch.isnan(found).any():
        raise FloatingPointError("The network returned NaN: lower the learning rate, or `eta`.")
    return found


def _from_table(table: Tensor) -> TokenTerms:
    log_probs, *rest = table
    return TokenTerms(log_probs, tuple(rest[::2]), tuple(rest[1::2]))
