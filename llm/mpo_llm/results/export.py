"""Export: from a policy to a model folder that transformers, PEFT and other programs load.

What is written is loaded again and compared with the policy. A folder that differs is not kept.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

from mpo_llm.config import ModelConfig
from mpo_llm.engines import sample
from mpo_llm.networks import adapters as peft_adapters
from mpo_llm.networks import loading
from mpo_llm.networks.errors import first_sentence
from mpo_llm.networks.hugging_face import TransformersNetwork
from mpo_llm.networks.processes import by_first
from mpo_llm.outputs import require_writable
from mpo_llm.policy import TokenPolicy
from mpo_llm.responses import Responses
from mpo_llm.step.scoring import hidden_states, log_softmax
from mpo_llm.training import checkpoint

PROCESSOR = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")
"""The files that say how a model reads pictures."""

Adapters = Literal["merged", "separate"]
"""What becomes of LoRA adapters: part of the weights, or a folder of PEFT on their base model."""


def export(
    path: str | Path,
    folder: str | Path,
    adapters: Adapters = "merged",
    *,
    average: bool = False,
) -> float:
    """Write the policy of a checkpoint as a model folder, with its tokenizer.

    `path` is a checkpoint, or a run's folder for its newest checkpoint. With `average` it is the
    average of the weights that the run has played. For the rest see `export_policy`.
    """
    # Before the model is loaded, which may take minutes.
    _require_free(Path(folder))
    policy, tokenizer = checkpoint.load_policy(path, average)
    return export_policy(policy, tokenizer, folder, adapters)


def export_policy(
    policy: TokenPolicy, tokenizer: Any, folder: str | Path, adapters: Adapters = "merged"
) -> float:
    """Write a policy as a model folder, with its tokenizer, chat template and generation settings.

    LoRA adapters are `merged` into the weights, for `from_pretrained`, or stay `separate`, a folder
    of PEFT that names the base model. The policy can be any of a run: a state's policy or magnet,
    during training too; the network stays as it is. If several processes share a run, all of them
    must call it; the first one writes.

    Returns the total variation of the next-token distributions of the policy and of the folder,
    loaded again, in the mean over some of the policy's own responses. `ValueError` if they differ
    by more than rounding, if `folder` exists, for a mixture of several networks, for weights that
    processes share, and for adapters that cannot be merged. `OSError` if the disk is full. After an
    error there is no folder.
    """
    network, target = policy.network, Path(folder)
    if not isinstance(network, TransformersNetwork):
        raise ValueError(
            f"Only models of transformers can be exported, got a {type(network).__name__}: save "
            "the policy by `mg.Solution.save`, or the module within "
            "`network.holding(policy.weights)`."
        )
    if len(policy.parts) > 1:
        raise ValueError(
            f"The policy is a mixture of {len(policy.parts)} networks, and a folder holds one: "
            "export a policy that a step has returned, or average weights (`mpo_llm.WeightEma`)."
        )
    if adapters == "separate":
        _require_base(network.given)
    _require_free(target)
    # The temperature would hide differences, or magnify them.
    policy = replace(policy, decoding=replace(policy.decoding, temperature=1.0))
    responses = _probe(policy)
    expected = _distributions(policy, responses)
    return by_first(
        network.processes,
        lambda: _write(policy, network, tokenizer, target, adapters, responses, expected),
    )


def _require_free(target: Path) -> None:
    if target.exists():
        raise ValueError(f"{str(target)!r} exists: choose another folder.")
    require_writable(target)


def _require_base(given: Any) -> None:
    """`ValueError` unless the model has adapters whose base model has a name."""
    if not hasattr(given, "peft_config"):
        raise ValueError("The policy has no adapters to keep separate: all weights are trained.")
    if not all(c.base_model_name_or_path for c in given.peft_config.values()):
        raise ValueError(
            "The base model of the adapters is on no disk (it was made in memory, or other "
            "adapters were merged into it), so a folder of adapters could not name it: export them "
            "merged."
        )


def _write(
    policy: TokenPolicy,
    network: TransformersNetwork,
    tokenizer: Any,
    target: Path,
    adapters: Adapters,
    responses: Responses,
    expected: Tensor,
) -> float:
    """Write the folder beside the target, compare it, and rename it; returns the difference."""
    import transformers

    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    except OSError as error:
        raise OSError(f"Cannot write {str(target)!r}: {first_sentence(error)}") from error
    try:
        try:
            _save(policy, network, partial, adapters)
            tokenizer.save_pretrained(partial)
            _copy_processor(network, partial)
            _set_ends(partial, policy.decoding.ends)
        except (OSError, SafetensorError) as error:
            raise OSError(f"Cannot write {str(target)!r}: {first_sentence(error)}") from error
        _compare_tokenizers(partial, tokenizer)
        apart = _compare(policy, network, partial, adapters, responses, expected)
        # `mkdtemp` makes folders that only their owner can read.
        partial.chmod(0o755)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return apart


def _save(
    policy: TokenPolicy, network: TransformersNetwork, partial: Path, adapters: Adapters
) -> None:
    """Write the weights and the configuration of the policy."""
    if adapters == "separate":
        with network.holding(policy.weights):
            # "auto" would ask the hub whether the vocabulary has grown.
            grown = _vocabulary_grew(network.given)
            network.given.save_pretrained(str(partial), save_embedding_layers=grown)  # type: ignore[operator]
        return
    with peft_adapters.standalone(network, network.given, policy.weights) as model:
        model.save_pretrained(partial)


def _vocabulary_grew(given: Any) -> bool:
    """Whether the base model has other embeddings in memory than on the disk."""
    base = given.get_base_model()
    file = Path(base.config._name_or_path) / "config.json"
    if not file.is_file():
        return False
    written = json.loads(file.read_text(encoding="utf-8"))
    return bool(written.get("vocab_size", base.config.vocab_size) != base.config.vocab_size)


def _copy_processor(network: TransformersNetwork, partial: Path) -> None:
    """Copy how pictures are read, which programs need that load a model of pictures and text."""
    from transformers.models.auto import modeling_auto as names
    from transformers.utils.hub import cached_file

    source = network.config._name_or_path
    # A model that was made in memory has no source.
    if (
        not source
        or network.config.model_type not in names.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    ):
        return
    for name in PROCESSOR:
        found = cached_file(
            source,
            name,
            _raise_exceptions_for_gated_repo=False,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        if found is not None:
            shutil.copyfile(found, partial / name)


def _set_ends(partial: Path, ends: tuple[int, ...]) -> None:
    """Let the generation settings stop where a response of the policy does."""
    file = partial / "generation_config.json"
    if ends and file.is_file():
        written = json.loads(file.read_text(encoding="utf-8"))
        written["eos_token_id"] = list(ends) if len(ends) > 1 else ends[0]
        file.write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")


def _probe(policy: TokenPolicy) -> Responses:
    """A few short responses of the policy itself: there its distributions matter."""
    vocabulary = policy.decoding.vocabulary or policy.network.config.vocab_size  # type: ignore[attr-defined]
    rng = np.random.default_rng(0)
    prompts = [tuple(ids) for ids in rng.integers(vocabulary, size=(4, 3)).tolist()]
    room = (policy.network.context or 1024) - 3
    short = replace(policy.decoding, max_tokens=max(1, min(policy.decoding.max_tokens, 12, room)))
    return sample(replace(policy, decoding=short), prompts, 1, rng)


def _distributions(policy: TokenPolicy, responses: Responses) -> Tensor:
    """The policy's next-token log-probabilities before each token of the responses, `(M, V)`."""
    with torch.no_grad():
        states = hidden_states(policy, responses)
        return states.log_softmax(slice(None)).double().cpu()


def _compare(
    policy: TokenPolicy,
    network: TransformersNetwork,
    partial: Path,
    adapters: Adapters,
    responses: Responses,
    expected: Tensor,
) -> float:
    """The difference of the folder from the policy. `ValueError` if it is more than rounding."""
    dtype = network.config.dtype
    dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    attention = network.config._attn_implementation
    if adapters == "separate":
        settings = ModelConfig(str(partial), str(dtype).removeprefix("torch."), attention)  # type: ignore[arg-type]
        model, _ = loading.load(settings)
    else:
        kind = loading.loader(str(partial), str(partial))
        # "auto" is what programs read that are told no type.
        model = loading.checked(kind, str(partial), dtype="auto", attn_implementation=attention)
        if not hasattr(network.given, "peft_config"):
            _compare_weights(model, policy.weights)
    model = model.to(network.device).eval()
    found = []
    with torch.no_grad():
        for row in range(len(responses)):
            prompt, answer = responses.prompts[responses.prompt_of[row]], responses.ids(row)
            ids = torch.tensor([prompt + answer], device=network.device)
            logits = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1]
            found.append(log_softmax(policy.decoding, policy.parts, [logits]).double().cpu())
    apart = peft_adapters.variation(expected, torch.cat(found))
    limit = peft_adapters.rounding(model.dtype)
    if not apart <= limit:
        raise ValueError(
            "The folder would not be the policy, so it was not written: loaded again, its "
            f"next-token distributions differ from the policy's by {apart:.2g} in total "
            f"variation, and at most {limit:.2g} is rounding in {model.dtype}."
        )
    return apart


def _compare_weights(model: Any, weights: Mapping[str, Tensor]) -> None:
    """`ValueError` unless the model has these weights to the last bit, in its own precision."""
    written = dict(model.named_parameters(remove_duplicate=False))
    for name, weight in weights.items():
        if name not in written or not torch.equal(
            written[name].cpu(), weight.to(written[name].dtype).cpu()
        ):
            raise ValueError(
                "The folder would not be the policy, so it was not written: loaded again, it has "
                f"another weight {name!r}."
            )


def _compare_tokenizers(partial: Path, tokenizer: Any) -> None:
    """`ValueError` unless the written tokenizer is the given one."""
    import transformers

    again = transformers.AutoTokenizer.from_pretrained(partial, trust_remote_code=False)
    text = str(tokenizer.decode(list(range(min(64, len(tokenizer))))))
    for what, of in (
        ("vocabulary", lambda t: t.get_vocab()),
        ("end token", lambda t: t.eos_token_id),
        ("special tokens", lambda t: sorted(map(str, t.all_special_tokens))),
        ("chat template", lambda t: getattr(t, "chat_template", None)),
        ("ids of a text", lambda t: list(t(text)["input_ids"])),
    ):
        if of(again) != of(tokenizer):
            raise ValueError(
                f"The folder was not written: loaded again, its tokenizer has another {what}."
            )
