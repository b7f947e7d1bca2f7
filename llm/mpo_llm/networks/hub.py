"""Whether a model is there at all: a folder, or a name in the cache or on the hub of Hugging Face.

Transformers asks the hub again and again before it says that a name is wrong.
"""

from __future__ import annotations

from pathlib import Path

from mpo_llm.game_settings import SMALL
from mpo_llm.spelling import meant

SMOLLM2 = "smollm2"
"""The name of the offline default, which is in a package."""

PATIENCE = 10.0
"""Seconds within which the hub must answer."""

FILES = ("config.json", "adapter_config.json")
"""A model has one of these files at least."""


def require_model(name: str) -> None:
    """`ValueError`, at once, for the name of a model that is neither here nor on the hub.

    Nothing is asked of the network if there is a folder or file of this name, or a model in the
    cache.
    """
    # Models in packages and GGUF files are found by their own ways.
    if Path(name).exists() or name == SMOLLM2 or name.endswith(".gguf"):
        return
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    # A name with a slash is one of the hub, or a path.
    close = "" if "/" in name else meant(name, (SMOLLM2, SMALL))
    lacking = (
        f"There is no model {name!r}{close and f' ({close})'}: no folder of this name is here,"
    )
    try:
        kept = (huggingface_hub.try_to_load_from_cache(name, file) for file in FILES)
        if any(isinstance(path, str) for path in kept):
            return
        huggingface_hub.HfApi().model_info(name, timeout=PATIENCE)
    except RepositoryNotFoundError as error:
        raise ValueError(
            f"{lacking} and the Hugging Face hub has no public one (for others: `hf auth login`)."
        ) from error
    except HFValidationError as error:
        raise ValueError(f"{lacking} and no model on the hub can have this name.") from error
    # The library that asks changed with the hub's release 1, and so did its errors.
    except Exception as error:
        raise ValueError(
            f"{lacking} none is in the cache of the Hugging Face hub, and it cannot be reached."
        ) from error
