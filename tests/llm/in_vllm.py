"""A program for the environment of vLLM: how far `Colocated` is from the network, as JSON."""

from __future__ import annotations

import json
import sys

import numpy as np

import mpo_llm as ml
from test_llm_vllm_for_real import PROMPTS, apart, changed, policy


def main(rank: int) -> None:
    engine, start = ml.Colocated(128, memory=2**-6, rows=16), policy(rank)
    new, rng = changed(start, 0.05), np.random.default_rng(0)
    found: dict[str, list[float]] = {"apart": [], "other": []}
    for p, other in ((start, new), (new, start), (start, new)):
        drawn = engine(p, PROMPTS, 20, rng)
        found["apart"].append(apart(p, drawn))
        found["other"].append(apart(other, drawn))
    for p, drawn in zip([new, start], engine.each([new, start], PROMPTS, 5, rng), strict=True):
        found["apart"].append(apart(p, drawn))
    print(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]))
