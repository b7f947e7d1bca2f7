"""From a checkpoint to a model that anyone can load."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from mpo_llm.networks import loading as models
from mpo_llm.networks.hugging_face import TransformersNetwork
from mpo_llm.training import assemble, checkpoint


def export(path: str | Path, folder: str | Path) -> None:
    """Write the policy of a checkpoint, or of a run's newest one, for `from_pretrained`.

    Adapters are merged into the weights. `ValueError` if the folder exists.
    """
    target = Path(folder)
    if target.exists():
        raise ValueError(f"{str(target)!r} exists: choose another folder.")
    config = checkpoint.config_of(path)
    model, tokenizer = models.load(config.model, config.seed)
    start = assemble.policy(config, TransformersNetwork(model), tokenizer)
    policy = checkpoint.policy_of(path, start)
    policy.network.load(policy.weights)
    if hasattr(model, "peft_config"):
        model = model.merge_and_unload()
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        partial.chmod(0o755)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
