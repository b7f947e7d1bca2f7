r"""A learned judge that is antisymmetric by construction and can represent cycles.

$$\mathrm{logit}\,P(a \succ b \mid x) = r(a) - r(b) + v(a)^\top R\, v(b),\qquad R = -R^\top$$

r is a score. v has two coordinates for each plane, and R turns every plane by 90 degrees (Zhang et
al. 2024). Every skew-symmetric matrix is a sum of such planes, so with enough of them the model can
represent any preferences. Without planes it is a Bradley-Terry reward model.

Each response is encoded once, however many rivals it has. Shapes: d is the width of the encoder,
and C = 1 + 2 planes counts the coordinates of a response: r, then v.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from scipy.special import expit
from torch import Tensor, nn

from mpo_games.protocol import Array
from mpo_llm.judges.encoding import (
    Tokenizer,
    batches,
    context,
    encode,
    load_encoder,
    load_tokenizer,
)

WIDTH = 128
"""Units in the hidden layer of the head."""


class Head(nn.Module):
    """A small network from embeddings `(N, d)` to coordinates `(N, C)`."""

    def __init__(self, inputs: int, planes: int) -> None:
        super().__init__()
        self.planes = planes
        self.layers = nn.Sequential(
            nn.LayerNorm(inputs),
            nn.Linear(inputs, WIDTH),
            nn.GELU(),
            nn.Linear(WIDTH, 1 + 2 * planes),
        )

    def forward(self, embeddings: Tensor) -> Tensor:
        coordinates: Tensor = self.layers(embeddings)
        return coordinates


def log_odds(a: Tensor, b: Tensor) -> Tensor:
    """The log-odds `(...)` that a is preferred to b, in nats, from coordinates `(..., C)`."""
    # Exactly antisymmetric: exchanging a and b only flips the sign of every rounded difference.
    (r, u, v), (s, w, z) = ((c[..., 0], c[..., 1::2], c[..., 2::2]) for c in (a, b))
    return r - s + (u * z - v * w).sum(-1)


@dataclass(frozen=True, slots=True, eq=False)
class Encoder:
    """A transformer that embeds a prompt together with its response as one vector.

    The vector is the last hidden state of the last token if the model is causal, and the mean of
    the tokens' last hidden states if it is not.
    """

    model: Any
    """A model of transformers without a head (`AutoModel`)."""
    tokenizer: Tokenizer
    longest: int = 512
    """The largest number of tokens of prompt and response together; `encode` cuts longer ones. A
    model with a smaller context has that limit."""
    batch: int = 32
    """Responses in one forward pass."""

    @classmethod
    def load(cls, path: str | Path, *, device: str = "cpu", **settings: Any) -> Self:
        """Load the transformer from a folder, or by name, without its head, in single precision.

        `settings` are the remaining fields.
        """
        model = load_encoder(path, device, dtype=torch.float32)
        return cls(model, load_tokenizer(path), **settings)

    @property
    def width(self) -> int:
        """The number of components d of an embedding."""
        return int(self.model.config.hidden_size)

    def causal(self) -> bool:
        """Whether the state of a token is independent of the tokens after it."""
        # Found by a forward pass: no field of transformers' configurations says it reliably.
        with torch.no_grad():
            rows = torch.tensor([[0, 1], [0, 2]], device=self.model.device)
            first, second = self.model(input_ids=rows)[0][:, 0]
        return torch.allclose(first, second)

    def embed(self, prompts: Sequence[str], responses: Sequence[str]) -> Tensor:
        """The embeddings `(N, d)` of N responses to their prompts, float32.

        Differentiable in the model's parameters where gradients are enabled.
        """
        longest = min(self.longest, context(self.model, self.model.config))
        rows = encode(self.tokenizer, prompts, responses, longest)
        causal, found, order = self.causal(), [], []
        for which, batch in batches(rows, self.batch, self.model.device):
            states, mask = self.model(**batch)[0], batch["attention_mask"]
            if causal:
                # Only the last token has seen the whole text.
                last = mask.sum(1) - 1
                found.append(states[torch.arange(len(states), device=states.device), last])
            else:
                weights = mask[..., None].to(states)
                found.append((weights * states).sum(1) / weights.sum(1))
            order.append(which)
        # The batches are sorted by length; this puts the embeddings back into the given order.
        back = torch.from_numpy(np.argsort(np.concatenate(order)))
        return torch.cat(found).float()[back.to(self.model.device)]


@dataclass(frozen=True, slots=True, eq=False)
class PreferenceModel:
    """A learned judge: an encoder and a head. It is saved as a folder of safetensors."""

    encoder: Encoder
    head: Head

    def __call__(self, prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Array:
        return np.asarray(expit(self.log_odds(prompts, a, b)))

    def log_odds(self, prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Array:
        """The log-odds `(N,)` that each `a` is preferred to its `b`, in nats."""
        rows = [*zip(prompts, a, strict=True), *zip(prompts, b, strict=True)]
        distinct = {row: i for i, row in enumerate(dict.fromkeys(rows))}
        with torch.no_grad():
            # In double precision, P(a, b) + P(b, a) is 1 to within 1e-15.
            coordinates = self.head(self.encoder.embed(*zip(*distinct, strict=True))).double()
        where = [distinct[row] for row in rows]
        odds = log_odds(coordinates[where[: len(a)]], coordinates[where[len(a) :]])
        return np.asarray(odds.cpu().numpy())

    def save(self, folder: str | Path) -> None:
        """Write the model into `folder`, which is created.

        Encoder and tokenizer are saved as transformers does it. The head is `head.safetensors`;
        `preferences.json` holds its planes and the encoder's `longest`.
        """
        path = Path(folder)
        self.encoder.model.save_pretrained(path)
        self.encoder.tokenizer.save_pretrained(path)
        save_file(self.head.state_dict(), path / "head.safetensors")
        shape = {"planes": self.head.planes, "longest": self.encoder.longest}
        (path / "preferences.json").write_text(json.dumps(shape) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path, *, device: str = "cpu", batch: int = 32) -> Self:
        """Load a model that `save` wrote. `ValueError` for a folder without a preference model.

        `batch` is the number of responses in one forward pass.
        """
        path = Path(folder)
        if not (path / "preferences.json").exists():
            raise ValueError(f"{path} holds no preference model: there is no preferences.json.")
        shape: Mapping[str, int] = json.loads((path / "preferences.json").read_text("utf-8"))
        encoder = Encoder.load(path, device=device, longest=shape["longest"], batch=batch)
        head = Head(encoder.width, shape["planes"]).to(device)
        head.load_state_dict(load_file(path / "head.safetensors"))
        return cls(encoder, head)
