"""The factory of vLLM's engines, which a configuration calls `vllm`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from mpo_llm.config import Config
from mpo_llm.engines.autoregressive import Autoregressive
from mpo_llm.engines.protocol import Engine
from mpo_llm.engines.vllm.colocated import Colocated
from mpo_llm.engines.vllm.server import Server


def engine(
    config: Config,
    url: str | None = None,
    dtype: str | None = None,
    folder: str | None = None,
    **options: Any,
) -> Engine:
    """vLLM, as the configuration of a run has it.

    With `url` it is the server there, a `Server`: `dtype` is the precision of its weights if it is
    not `model.dtype`, `folder` is where weights are written for it, and `options` are its remaining
    fields. Without `url` vLLM runs in this process, as `Colocated` with `options` as its fields.
    """
    own = Autoregressive(config.generation.batch)
    if url is None:
        if dtype is not None or folder is not None:
            raise ValueError("`dtype` and `folder` are options of a server: set `url` as well.")
        longest = options.pop("longest", None) or (
            config.prompts.max_tokens + config.generation.max_tokens
        )
        return Colocated(longest, mixtures=own, **options)
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if dtype is not None and dtype not in known:
        raise ValueError(f"`dtype` must be one of {', '.join(known)}, got {dtype!r}.")
    return Server(
        url,
        None if folder is None else Path(folder),
        None if dtype is None else known[dtype],
        mixtures=own,
        **options,
    )
