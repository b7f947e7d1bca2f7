"""An engine that notes what its process holds and what it can do, for the tests of processes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from mpo_llm.config import Config
from mpo_llm.engines import Autoregressive, Drawn, Engine
from mpo_llm.policy import TokenPolicy
from mpo_llm.responses import Ids


def engine(config: Config) -> Engine:
    """The built-in engine. In the second step, each process writes its notes to the run's folder:
    bytes by what they hold, the tokens of a mixture with its passes, and the `arrays`."""
    seen: list[TokenPolicy] = []
    usual = Autoregressive(config.generation.batch)

    def weighed(
        policy: TokenPolicy, prompts: Sequence[Ids], count: int, rng: np.random.Generator
    ) -> Drawn:
        if seen and seen[0].weights is not policy.weights and len(seen) < 2:
            notes = _held(policy) | _mixture(seen[0], policy, prompts, count)
            notes["arrays"] = {key: a.nbytes for key, a in policy.arrays().items()}
            rank = policy.network.processes.rank
            (Path(config.output.folder) / f"notes-{rank}.json").write_text(json.dumps(notes))
            seen.append(policy)
        elif not seen:
            seen.append(policy)
        return usual(policy, prompts, count, rng)

    return weighed


def notes(run: Path) -> list[dict[str, Any]]:
    """What each process has noted."""
    return [json.loads(path.read_text()) for path in sorted(run.glob("notes-*.json"))]


def _held(policy: TokenPolicy) -> dict[str, Any]:
    network = policy.network
    module = {**network.trainable, **network.frozen}
    return {
        "bytes": {
            "module": _bytes(module.values()),
            "policy": _bytes(policy.weights.values()),
            "moments": _bytes(policy.moments.second.values()),
        },
        "whole": [n for n in network.trainable if n not in network.sharded],
    }


def _bytes(tensors: Any) -> int:
    own: list[Tensor] = [t.to_local() if hasattr(t, "to_local") else t for t in tensors]
    return sum(t.numel() * t.element_size() for t in own)


def _mixture(
    one: TokenPolicy, two: TokenPolicy, prompts: Sequence[Ids], count: int
) -> dict[str, Any]:
    """Draws from a mixture whose responses end soon, one prompt at a time."""
    network: Any = two.network
    ends = replace(two.decoding, eos=tuple(range(4, 16)), max_tokens=40)
    mixture = replace(one, decoding=ends).mix(replace(two, decoding=ends), 0.5)
    passes = []
    layer = network._model.model.layers[0]
    hook = layer.register_forward_hook(lambda *_: passes.append(1))
    before = network.tokens_passed.copy()
    drawn = Autoregressive(batch=1)(mixture, prompts, count, np.random.default_rng(0))
    network.tokens_passed[:] = before
    hook.remove()
    return {"tokens": drawn.responses.tokens.tolist(), "passes": len(passes)}
