"""Export: from a checkpoint to a model folder that transformers loads."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from mpo_llm.networks import loading as model_loading
from mpo_llm.networks.hugging_face import TransformersNetwork
from mpo_llm.outputs import require_writable
from mpo_llm.training import assemble, checkpoint


def export(path: str | Path, folder: str | Path) -> None:
    """Write the policy of a checkpoint as a model folder for `from_pretrained`, with its tokenizer.

    `path` is a checkpoint, or a run's folder for its newest checkpoint. LoRA adapters are merged
    into the weights. `ValueError` if `folder` exists.
    """
    target = Path(folder)
    if target.exists():
        raise ValueError(f"{str(target)!r} exists: choose another folder.")
    require_writable(target)
    config = checkpoint.config_of(path)
    model, tokenizer = model_loading.load(config.model, config.seed)
    start = assemble.policy(config, TransformersNetwork(model), tokenizer)
    policy = checkpoint.policy_of(path, start)
    # `save_pretrained` writes the module's weights, so they must be the policy's.
    policy.network.load(policy.weights)
    # `generate` then ends where the policy does.
    model.generation_config.eos_token_id = list(policy.decoding.ends)
    # Only PEFT's models have adapters to merge.
    if hasattr(model, "peft_config"):
        model = model.merge_and_unload()
    target.parent.mkdir(parents=True, exist_ok=True)
    # Written beside the target and renamed when complete, so that no one finds half a model.
    partial = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        # `mkdtemp` makes folders that only their owner can read.
        partial.chmod(0o755)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
