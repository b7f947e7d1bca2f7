"""Tries every causal language model of transformers, and writes `docs/tried_models.md`.

A model is tiny and random, with windows that are shorter than its rows. How it is run is chosen by
the probe of a second model, whose windows are long, as those of real models are.

    make tried-models
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

import mpo_llm as ml
import tiny_models

PAGE = Path(__file__).parents[2] / "docs" / "tried_models.md"

PICTURES = (
    "aya_vision",
    "glm4v",
    "idefics3",
    "internvl",
    "llava",
    "llava_next",
    "mistral3",
    "paligemma",
    "qwen2_5_vl",
    "qwen2_vl",
    "qwen3_vl",
    "smolvlm",
)
"""Models of pictures and text that are no causal language models by their name."""

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "phi3, longrope": (
        "phi3",
        {"rope_parameters": tiny_models.LONG_ROPE, "original_max_position_embeddings": 24},
    ),
    "llama, dynamic": (
        "llama",
        {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
    ),
    "llama, yarn": (
        "llama",
        {
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 1e4,
                "factor": 4.0,
                "original_max_position_embeddings": 8,
            }
        },
    ),
    "bert, not a decoder": ("bert", {"is_decoder": False}),
}
"""An architecture under other settings."""

SIZES = (11, 5, 3, 30)
"""Tokens of the prompts."""

STEPS = 9
"""Tokens of a response."""


@dataclass(frozen=True)
class Tried:
    """What was found of an architecture."""

    kind: str
    name: str
    """The class."""
    said: str
    """How the model is run, or the sentence that refuses it."""
    faults: tuple[str, ...] = ()
    """What is wrong all the same; there should be nothing."""

    @property
    def line(self) -> str:
        said = "; ".join((self.said, *(f"**fault: {fault}**" for fault in self.faults)))
        name = f"`{self.name}`" if self.name else "-"
        return f"| `{self.kind}` | {name} | {said} |"


def cases() -> dict[str, tuple[str, dict[str, Any]]]:
    """All that is tried: a label, with the architecture and its settings."""
    kinds = [*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, *PICTURES]
    return {kind: (kind, {}) for kind in kinds} | VARIANTS


def page(found: Sequence[Tried]) -> str:
    """The page with the table."""
    whole = sum(one.said == "in all ways" for one in found)
    refused = sum(one.said.startswith("refused") for one in found)
    untried = sum(one.said.startswith("not tried") for one in found)
    slower = len(found) - whole - refused - untried
    return HEAD.format(
        transformers=transformers.__version__,
        torch=torch.__version__.partition("+")[0],
        count=len(found) - untried,
        whole=whole,
        slower=slower,
        refused=refused,
        untried=untried,
        lines="\n".join(one.line for one in found),
    )


def tried(kind: str, **given: Any) -> Tried:
    """Run an architecture in all ways, against each row alone."""
    try:
        model = tiny_models.build(kind, **given)
    except Exception as error:  # The page says what could not be tried.
        return Tried(kind, "", f"not tried: {type(error).__name__} in its tiny configuration")
    name = type(model).__name__
    try:
        twin = ml.TransformersNetwork(tiny_models.build(kind, tiny_models.WIDE, **given))
    except ValueError as error:
        return Tried(kind, name, f"refused: {error}")
    faults = []
    try:
        network = ml.TransformersNetwork(model)
    except ValueError as error:
        return Tried(kind, name, spoken(twin._ways), (f"narrow refused: {error}",))
    network._ways = twin._ways
    faults += drawing(network) + training(kind, twin._ways, given)
    return Tried(kind, name, spoken(twin._ways), tuple(faults))


def spoken(ways: Any) -> str:
    """How a model is run, in words."""
    if not ways.cached:
        return "drawn without a cache"
    found = [] if ways.together else ["prompts of equal length are drawn together"]
    found += [] if ways.shared else ["a prompt is run again for each response that is scored"]
    return "; ".join(found) or "in all ways"


def prompts() -> list[tuple[int, ...]]:
    generator = np.random.default_rng(0)
    return [tuple(generator.integers(6, 90, size).tolist()) for size in SIZES]


def truth(model: Any, responses: ml.Responses) -> np.ndarray:
    """The log-probability of each token, a row at a time, without padding, mask and cache."""
    takes = inspect.signature(type(model).forward).parameters
    options = {"use_cache": False} if "use_cache" in takes else {}
    found = np.zeros(responses.tokens.shape)
    for n in range(len(responses)):
        prompt, ids = responses.prompts[responses.prompt_of[n]], responses.ids(n)
        row = torch.tensor([(*prompt, *ids[:-1])])
        with torch.no_grad():
            logits = model(input_ids=row, **options).logits[0, len(prompt) - 1 :].float()
        chosen = torch.tensor(ids)[:, None]
        found[n, : len(ids)] = torch.log_softmax(logits, -1).gather(1, chosen)[:, 0].numpy()
    return found


def drawing(network: Any) -> list[str]:
    """Faults of drawing and of scoring."""
    policy = ml.TokenPolicy.of(network, ml.Decoding(STEPS, eos=7, vocabulary=network.vocabulary))
    drawn = [
        ml.Autoregressive(batch)(policy, prompts(), 2, np.random.default_rng(1))
        for batch in (None, 1)
    ]
    faults = []
    one, two = (d.responses for d in drawn)
    if not (np.array_equal(one.lengths, two.lengths) and np.array_equal(one.tokens, two.tokens)):
        faults.append("what is drawn depends on `batch`")
    right = truth(network._model, one)
    for what, found in (("drawing", drawn[0].log_probs), ("scoring", policy.log_probs(one))):
        apart = np.abs(found - right).max()
        if not apart < 2e-3:
            faults.append(f"{what} is {apart:.2g} nats off")
    return faults


def training(kind: str, ways: Any, given: dict[str, Any]) -> list[str]:
    """Faults of a mirror step with gradient checkpointing, of a model with dropout."""
    dropouts = (
        "dropout",
        "attention_dropout",
        "hidden_dropout",
        "resid_pdrop",
        "hidden_dropout_prob",
    )
    model = tiny_models.build(kind, **given)
    text = model.config.get_text_config()
    for module in model.modules():
        for name in dropouts:
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.5)
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    faults = []
    if model.supports_gradient_checkpointing:
        model.gradient_checkpointing_enable()
    network = ml.TransformersNetwork(model)
    network._ways = ways
    decoding = ml.Decoding(STEPS, vocabulary=text.vocab_size)
    start = ml.TokenPolicy.of(network, decoding)
    responses = ml.sample(start, prompts(), 2, np.random.default_rng(2))
    gains = np.linspace(-1.0, 1.0, len(responses))[:, None] * responses.mask
    weights = np.full(len(responses), 1.0 / len(responses))
    q = ml.Rollouts(responses, weights, gains, start.log_probs(responses))
    rises = []
    # Some random models are so steep that only the smaller step goes uphill.
    for rate in (1e-4, 1e-6):
        proximal = ml.Proximal(minimise=ml.Adam(epochs=4, rate=rate))
        stepped = replace(start, proximal=proximal).mirror_step(q, start, eta=1.0, alpha=0.1)
        assert stepped.report is not None
        if not max(map(abs, stepped.report.first_kls)) < 1e-4:
            faults.append(f"KL at the start is {stepped.report.first_kls[0]:.2g}")
        rises.append(((stepped.log_probs(responses) - q.behaviour) * gains).sum())
        if rises[-1] > 0.0:
            break
    else:
        faults.append(f"steps change the gain by {rises[0]:.2g} and {rises[1]:.2g}")
    return faults


HEAD = """# Models that were tried

Every causal language model of transformers {transformers}, on torch {torch}, in single precision on
the CPU. `make tried-models` computes this page on tiny random models, and a test
computes a part of it again.

Many models look back over a limited number of tokens only, a window or a chunk. The library chooses
how to run a model by a trial on short rows, which are shorter than the windows of real models. The
same is done here. Each tiny model is made twice: with windows longer than all rows, to choose how
it is run, and with windows of four tokens. The second one is then run in the chosen ways, on rows
that are longer than its windows.

What must hold:

- The log-probabilities of a row are those of the row when it is run alone, without padding, mask
  and cache (to 2e-3 nats a token).
- What is drawn does not depend on `generation.batch`. The log-probabilities with which it is drawn
  are those with which it is scored.
- With gradient checkpointing, and with dropout in the model, the KL to the old policy is 0 at the
  start of a mirror step, and the step raises the gain.

**{count} were tried: {whole} are run in all ways, {slower} in slower ways, {refused} are refused.**
{untried} more were not tried, because no tiny configuration of them could be made.

"In all ways" means: prompts of unlike lengths are drawn together, with a cache, and a prompt is run
once for all its responses. The other ways give the same numbers, but take longer. "Drawn without a
cache" means that all rows are run again for every token.

In three architectures transformers computes long rows wrongly. So the rows of `doge` must not be
longer than `keep_window_size`, those of `hy_v4` not longer than `index_topk`, and those of `moshi`
not longer than `sliding_window`.

[Language models](language_models.md#any-causal-language-model) tells how the ways are chosen.

| architecture | class | how it is run |
| --- | --- | --- |
{lines}
"""


def main() -> None:
    """Write the page, and show each line as it is found."""
    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    found = []
    for label, (kind, given) in cases().items():
        one = replace(tried(kind, **given), kind=label)
        sys.stdout.write(one.line + "\n")
        sys.stdout.flush()
        found.append(one)
    PAGE.write_text(page(found), encoding="utf-8")


if __name__ == "__main__":
    main()
