r"""A preference model with the shape of the game: antisymmetric, and able to represent cycles.

$$\mathrm{logit}\,P(a \succ b \mid x) = r(a) - r(b) + v(a)^\top R\, v(b),\qquad R = -R^\top$$

with a score r and, for every plane, two coordinates of v that R turns by 90 degrees (Zhang et al.
2024; every skew-symmetric matrix is a sum of such planes). Without planes it is a Bradley-Terry
reward model. Each response is read once, however many it meets.
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
from mpo_llm.judges.encoding import Tokenizer, batches, load_tokenizer, written

WIDTH = 128
"""Units of the head's hidden layer."""


class Head(nn.Module):
    """From a reading of prompt and response to its coordinates `(1 + 2 planes,)`: r, then v."""

    def __init__(self, inputs: int, planes: int) -> None:
        super().__init__()
        self.planes = planes
        self.layers = nn.Sequential(
            nn.LayerNorm(inputs),
            nn.Linear(inputs, WIDTH),
            nn.GELU(),
            nn.Linear(WIDTH, 1 + 2 * planes),
        )

    def forward(self, readings: Tensor) -> Tensor:
        coordinates: Tensor = self.layers(readings)
        return coordinates


def log_odds(a: Tensor, b: Tensor) -> Tensor:
    """Of a over b, from their coordinates `(..., 1 + 2 planes)`; exactly antisymmetric."""
    (r, u, v), (s, w, z) = ((c[..., 0], c[..., 1::2], c[..., 2::2]) for c in (a, b))
    return r - s + (u * z - v * w).sum(-1)


@dataclass(frozen=True, slots=True, eq=False)
class Reader:
    """A transformer that makes one vector of a prompt and its response.

    Of a causal model it is the state of the last token, of any other the mean over the tokens.
    """

    model: Any
    tokenizer: Tokenizer
    longest: int = 512
    """Tokens of prompt and response together."""
    batch: int = 32

    @classmethod
    def load(cls, path: str | Path, *, device: str = "cpu", **settings: Any) -> Self:
        """The transformer of a model folder or name, without its head, in single precision."""
        from transformers import AutoModel

        model = (
            AutoModel.from_pretrained(path, dtype=torch.float32, trust_remote_code=False)
            .to(device)
            .eval()
        )
        return cls(model, load_tokenizer(path), **settings)

    @property
    def width(self) -> int:
        """The length of the vector."""
        return int(self.model.config.hidden_size)

    def causal(self) -> bool:
        """Whether a later token leaves the states before it as they are: asked of the model."""
        with torch.no_grad():
            rows = torch.tensor([[0, 1], [0, 2]], device=self.model.device)
            first, second = self.model(input_ids=rows)[0][:, 0]
        return torch.allclose(first, second)

    def read(self, prompts: Sequence[str], responses: Sequence[str]) -> Tensor:
        """`(N, width)`, differentiable where gradients are enabled."""
        rows = written(self.tokenizer, prompts, responses, self.longest)
        causal, found, order = self.causal(), [], []
        for which, batch in batches(self.tokenizer, rows, self.batch, self.model.device):
            states, mask = self.model(**batch)[0], batch["attention_mask"]
            if causal:
                last = mask.sum(1) - 1
                found.append(states[torch.arange(len(states), device=states.device), last])
            else:
                weights = mask[..., None].to(states)
                found.append((weights * states).sum(1) / weights.sum(1))
            order.append(which)
        back = torch.from_numpy(np.argsort(np.concatenate(order)))
        return torch.cat(found).float()[back.to(self.model.device)]


@dataclass(frozen=True, slots=True, eq=False)
class PreferenceModel:
    """A judge that was learned: a reader and a head. Saved as a folder of safetensors."""

    reader: Reader
    head: Head

    def __call__(self, prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Array:
        return np.asarray(expit(self.log_odds(prompts, a, b)))

    def log_odds(self, prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Array:
        """Of each a over its b, `(N,)`."""
        rows = [*zip(prompts, a, strict=True), *zip(prompts, b, strict=True)]
        distinct = {row: i for i, row in enumerate(dict.fromkeys(rows))}
        with torch.no_grad():
            coordinates = self.head(self.reader.read(*zip(*distinct, strict=True))).double()
        where = [distinct[row] for row in rows]
        odds = log_odds(coordinates[where[: len(a)]], coordinates[where[len(a) :]])
        return np.asarray(odds.cpu().numpy())

    def save(self, folder: str | Path) -> None:
        """Reader and tokenizer as transformers saves them, the head beside them."""
        path = Path(folder)
        self.reader.model.save_pretrained(path)
        self.reader.tokenizer.save_pretrained(path)
        save_file(self.head.state_dict(), path / "head.safetensors")
        shape = {"planes": self.head.planes, "longest": self.reader.longest}
        (path / "preferences.json").write_text(json.dumps(shape) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path, *, device: str = "cpu", batch: int = 32) -> Self:
        """What `save` wrote. `ValueError` for a folder without a preference model."""
        path = Path(folder)
        if not (path / "preferences.json").exists():
            raise ValueError(f"{path} holds no preference model (no preferences.json).")
        shape: Mapping[str, int] = json.loads((path / "preferences.json").read_text("utf-8"))
        reader = Reader.load(path, device=device, longest=shape["longest"], batch=batch)
        head = Head(reader.width, shape["planes"]).to(device)
        head.load_state_dict(load_file(path / "head.safetensors", device=device))
        return cls(reader, head)
