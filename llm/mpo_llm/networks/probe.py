"""What a model of transformers does right, tried on a few short rows when its network is made.

The truth is a row that is run alone: without other rows, padding, mask or cache. A faster way of
running rows is taken only if it agrees with the truth. A model that no way is right for is refused
before a run begins. This takes nine passes forward and three backward, over 21 tokens at most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from mpo_llm.networks.decoders import Decoder
from mpo_llm.networks.inputs import Inputs
from mpo_llm.responses import Responses, left_aligned

SIZES = (5, 1)
"""Tokens of the prompts that are tried."""

PROMPT_OF = (0, 0, 1)
"""The prompt of each response that is tried."""

STEPS = 3
"""Tokens of each response."""

FLOOR = 1e-3
"""The smallest difference that counts, relative to the spread of the logits: some layers of models
in double precision compute in single precision."""

ROUNDING = 32.0
"""The smallest difference that counts, in units of the precision's last digit. Rounding alone made
.11 in bfloat16 (14 units) in a model of 30 layers; a token that is seen or counted wrongly makes
more than .3."""


class Probed(Protocol):
    """The ways to run a model, and its settings."""

    @property
    def name(self) -> str:
        """What errors call the model."""
        ...

    @property
    def room(self) -> int | None:
        """The largest number of tokens in a row; None if there is no limit."""
        ...

    @property
    def relative(self) -> bool:
        """Whether no layer counts columns, so that padding before a row does not matter."""
        ...

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        ...

    @property
    def words(self) -> Sequence[int]:
        """Token ids that stand for text, without ends, pads and pictures."""
        ...

    @property
    def trainable(self) -> Mapping[str, nn.Parameter]:
        """The weights that are trained."""
        ...

    def training(self) -> AbstractContextManager[None]:
        """The context of a mirror step, in which gradient checkpointing works."""
        ...

    def alone(self, row: Tensor) -> Tensor:
        """Logits `(W, V)` of a row `(W,)`, as the model itself computes them."""
        ...

    def whole(self, inputs: Inputs) -> Tensor:
        """Logits `(M, V)` of rows padded on the right."""
        ...

    def branching(self, inputs: Inputs) -> Tensor:
        """Logits `(M, V)` when each prompt is run once for all its rows."""
        ...

    def cached(self, rows: Tensor, lengths: Tensor) -> Decoder:
        """The decoder that has a cache."""
        ...


@dataclass(frozen=True, slots=True)
class Ways:
    """The ways in which a model is run."""

    cached: bool = False
    """Whether rows are drawn with a cache. Otherwise they are run again for every token."""
    together: bool = True
    """Whether prompts of unlike lengths are drawn together."""
    shared: bool = False
    """Whether a prompt is run once for all its rows when responses are scored."""


@dataclass(frozen=True, slots=True, eq=False)
class _Case:
    """The rows that are tried, and what is right for them."""

    responses: Responses
    inputs: Inputs
    truth: Tensor
    """Logits `(N, STEPS, V)` before each token of the responses."""

    def rows_of(self, prompts: Sequence[int]) -> list[int]:
        """The responses to some of the prompts."""
        return [n for x in prompts for n, own in enumerate(PROMPT_OF) if own == x]


def ways(model: Probed) -> Ways:
    """The fastest ways to run the model that are right.

    `ValueError` if no way is: the model is not causal, a row depends on the rows beside it, dropout
    cannot be switched off, or gradients do not flow.
    """
    room = model.room
    # A model without room for the rows is run in the ways that need no trial.
    if room is not None and room < min(SIZES) + STEPS:
        return Ways()
    with refusal(model.name, "cannot be run on token ids alone"):
        case = _case(model)
    with refusal(model.name, "cannot be trained"):
        gradient = _trained(model, case)
    together = model.relative and _draws(model, case, [range(len(SIZES))])
    cached = together or _draws(model, case, [[x] for x in range(len(SIZES))])
    # The cache has run the prompts by themselves; without it this is still to be tried.
    if not cached:
        _require_causal(model, case)
    return Ways(cached, together or not cached, together and _shares(model, case, gradient))


def _case(model: Probed) -> _Case:
    """Random rows, and what is right for them."""
    generator, words = torch.Generator().manual_seed(0), model.words

    def drawn(count: int) -> tuple[int, ...]:
        chosen = torch.randint(len(words), (count,), generator=generator).tolist()
        return tuple(words[i] for i in chosen)

    most = max(SIZES) if model.room is None else model.room - STEPS
    responses = Responses.of_ids(
        [drawn(min(size, most)) for size in SIZES], PROMPT_OF, [drawn(STEPS) for _ in PROMPT_OF]
    )
    rows = [(*responses.prompts[x], *responses.ids(n)[:-1]) for n, x in enumerate(PROMPT_OF)]
    with torch.no_grad():
        alone = [model.alone(torch.tensor(row, device=model.device))[-STEPS:] for row in rows]
    return _Case(responses, Inputs.of_responses(responses, model.device), torch.stack(alone))


def _trained(model: Probed, case: _Case) -> Tensor:
    """A gradient through whole rows in training. `ValueError` if they differ from the truth."""
    with model.training():
        logits, gradient = _gradient(model, model.whole, case)
    truth = case.truth.flatten(0, 1)
    if not _agree(logits, truth):
        with torch.no_grad():
            evaluated = model.whole(case.inputs)
        if _agree(evaluated, truth):
            raise ValueError(
                f"{model.name} computes other log-probabilities when it is trained, because "
                "gradient checkpointing switches its dropout on: use "
                "`model.gradient_checkpointing: false`."
            )
        _require_causal(model, case)
        raise ValueError(
            f"In {model.name} the log-probabilities of a row depend on the rows beside it, or on "
            "padding behind it. Another kernel may be right: `model.attention: eager`."
        )
    if not torch.isfinite(gradient).all():
        raise ValueError(
            f"{model.name} has a gradient that is not finite. Another kernel may be right: "
            "`model.attention: eager`."
        )
    return gradient


def _require_causal(model: Probed, case: _Case) -> None:
    """`ValueError` if what follows a prompt changes the logits after it."""
    for x, prompt in enumerate(case.responses.prompts):
        with torch.no_grad():
            after = model.alone(torch.tensor(prompt, device=model.device))[-1]
        if not _agree(after, case.truth[PROMPT_OF.index(x), 0]):
            raise ValueError(
                f"{model.name} is not causal: its logits after a prompt depend on what follows. "
                "(Some architectures need `is_decoder: true` in the model's `config.json`.)"
            )


def _draws(model: Probed, case: _Case, batches: Sequence[Sequence[int]]) -> bool:
    """Whether the decoder with a cache is right, for prompts in these batches."""
    tokens = torch.from_numpy(case.responses.tokens).to(model.device)
    try:
        with torch.no_grad():
            for prompts in batches:
                rows, lengths = left_aligned([case.responses.prompts[x] for x in prompts])
                decoder = model.cached(
                    *(torch.from_numpy(a).to(model.device) for a in (rows, lengths))
                )
                kept = [i for i, x in enumerate(prompts) for own in PROMPT_OF if own == x]
                which = case.rows_of(prompts)
                logits = [decoder.next(None)[kept]]
                decoder.keep(torch.tensor(kept, device=model.device))
                logits += [decoder.next(tokens[which, t]) for t in range(STEPS - 1)]
                if not _agree(torch.stack(logits, 1), case.truth[which]):
                    return False
    except torch.OutOfMemoryError:
        raise
    except Exception:  # Models without a cache, or with one of their own, fail in many ways.
        return False
    return True


def _shares(model: Probed, case: _Case, gradient: Tensor) -> bool:
    """Whether a prompt can be run once for all its rows, also where gradients are needed."""
    try:
        logits, found = _gradient(model, model.branching, case)
    except torch.OutOfMemoryError:
        raise
    except Exception:  # Caches that are written in place have no gradient, for example.
        return False
    right = _agree(logits, case.truth.flatten(0, 1))
    return right and _agree(found, gradient, logits.dtype)


def _gradient(model: Probed, run: Callable[[Inputs], Tensor], case: _Case) -> tuple[Tensor, Tensor]:
    """Logits, and the gradient of their log-probabilities by a few small weights of early layers.

    It flows through all layers and needs little memory.
    """
    early = list(model.trainable.values())[: 1 + len(model.trainable) // 4]
    few = sorted(early, key=Tensor.numel)[:4]
    with torch.enable_grad():
        logits = run(case.inputs)
        tokens = torch.from_numpy(case.responses.tokens).to(model.device).flatten()[:, None]
        loss = torch.log_softmax(logits.float(), -1).gather(1, tokens).sum()
        parts = torch.autograd.grad(loss, few, allow_unused=True)
    known = [part.float().flatten() for part in parts if part is not None]
    return logits.detach(), torch.cat(known or [torch.zeros(1)])


def _agree(found: Tensor, truth: Tensor, precision: torch.dtype | None = None) -> bool:
    """Whether two tensors `(..., V)` are equal except for rounding; False if one has NaN.

    They have been computed in `precision`; None is their own.
    """
    most = max(FLOOR, ROUNDING * torch.finfo(precision or truth.dtype).eps)
    one, two = found.double(), truth.double()
    # Equal infinities forbid a token in both.
    apart = torch.where(one == two, 0.0, one - two).square().mean(-1).sqrt()
    known = torch.isfinite(two)
    centre = two.where(known, 0.0).sum(-1, keepdim=True) / known.sum(-1, keepdim=True)
    spread = (two - centre).where(known, 0.0).square().mean(-1).sqrt()
    # NaN fails the comparison.
    return bool((apart <= most * spread).all())


@contextmanager
def refusal(name: str, what: str) -> Iterator[None]:
    """Errors from inside the model of that `name` become a `ValueError` that says `what` fails."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        # Our own sentences begin with the name, or have it in them.
        if isinstance(error, ValueError) and name in str(error):
            raise
        said = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{name} {what}: {said.partition('. ')[0].rstrip('.')[:300]}.") from error
