"""Fingerprints: what a run was begun with, so that a resumed run is the same run.

A checkpoint holds the settings that a run must keep, and a fingerprint of everything that they only
name: prompts, weights, tokenizer, chat template, the files of judge and engine. A fingerprint is a
SHA-256. It is taken of what the run uses, not of the names and times of files.

The fingerprint of the weights reads every byte of every tensor that the run begins with, so that
any other fine-tune of the same model is noticed. A core with instructions for SHA-256 reads one to
two GB a second, and up to eight tensors are read at the same time: a model of 7B parameters takes a
few seconds, less than it takes to load.
"""

from __future__ import annotations

import hashlib
import json
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from mpo_llm.algorithms import completed
from mpo_llm.config import Config
from mpo_llm.networks.base import Network, Weights
from mpo_llm.policy import TokenPolicy
from mpo_llm.prompts import Prompts
from mpo_llm.training import assemble, config_file
from mpo_llm.training.tables import Table

FREE = ("budget", "output", "evaluation")
"""Sections of the settings that may change when a run is resumed."""

NAMES = {
    "weights": "the weights of the base model",
    "architecture": "the settings of the base model, its `config.json`",
    "tokenizer": "the tokenizer",
    "template": "the chat template",
    "ends": "the tokens that end a response",
    "prompts": "the prompts",
    "held_out": "the held-out prompts",
    "judge": "the judge (the file of its factory, or a file or model that its options name)",
    "engine": "the engine (the file of its factory, or a file or model that its options name)",
}
"""What has a fingerprint, in the order in which changes are reported: a cause before its effect."""

PACKAGES = ("mpo-games", "torch", "transformers", "tokenizers", "peft", "numpy")
"""Packages whose versions are kept. With another version the rounding may differ."""

INCIDENTAL = ("_name_or_path", "name_or_path", "transformers_version", "architectures", "dtype")
"""Settings of a model that do not change what it computes, or are settings of the run."""

AT_ONCE = 8
"""Tensors that are read at the same time."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What makes a run this run."""

    settings: str
    """The settings that must stay the same, as YAML."""
    marks: Mapping[str, str]
    """The fingerprints, by the keys of `NAMES`."""
    versions: Mapping[str, str]
    """The versions of `PACKAGES`."""
    changes: Sequence[Mapping[str, Any]] = ()
    """The changes that were accepted: `step`, `name`, and the fingerprints `before` and `after`."""

    def as_json(self) -> dict[str, Any]:
        """For a checkpoint's header."""
        return asdict(self)

    def resumed(self, saved: Identity, step: int, accept: Sequence[str] = ()) -> Identity:
        """The identity of a run that goes on from `step`, where `saved` was its identity.

        `ValueError` if a fingerprint has changed whose name is not in `accept`; it names all that
        have. Other versions of packages are a warning.
        """
        changed = [
            name
            for name in NAMES
            if name in self.marks and name in saved.marks and self.marks[name] != saved.marks[name]
        ]
        refused = [name for name in changed if name not in accept]
        if refused:
            raise ValueError(
                f"The run was begun with other contents of {', '.join(NAMES[n] for n in refused)}: "
                f"restore what it was begun with, or go on with `--accept {' '.join(refused)}`, "
                "which the checkpoints will record."
            )
        other = [
            f"{name} {saved.versions[name]}, now {number}"
            for name, number in self.versions.items()
            if saved.versions.get(name, number) != number
        ]
        if other:
            warnings.warn(
                f"The run was begun with {'; '.join(other)}. It goes on, but perhaps not bit for "
                "bit as it would have.",
                stacklevel=3,
            )
        found = [
            {"step": step, "name": n, "before": saved.marks[n], "after": self.marks[n]}
            for n in changed
        ]
        return replace(self, changes=(*saved.changes, *found))


def identity(
    config: Config,
    start: TokenPolicy,
    tokenizer: Any,
    prompts: Prompts,
    held_out: Prompts | None = None,
) -> Identity:
    """The identity of a run that begins with `start`. All processes of a run must call it."""
    marks = {
        "weights": weights(start),
        "architecture": architecture(start),
        "tokenizer": _of_tokenizer(tokenizer),
        "ends": _of(start.decoding.ends),
        "prompts": _of([prompts.ids, prompts.texts]),
        "judge": _of_factory(config.judge.factory, config.judge.options),
    }
    if config.prompts.chat:
        marks["template"] = _of(getattr(tokenizer, "chat_template", None))
    if held_out is not None:
        marks["held_out"] = _of([held_out.ids, held_out.texts])
    settings = config.generation
    marks["engine"] = _of_factory(settings.engine, settings.options) if settings.engine else ""
    return Identity(fixed(config), marks, _versions())


def of_table(config: Config, table: Table) -> Identity:
    """The identity of a run that plays a game. All processes of a run must call it."""
    (start,), (answers,) = table.game.start, table.game.answers.listed
    told = [answers.prompts, answers.prompt_of.tolist(), answers.tokens.tolist()]
    marks = {
        "weights": weights(start),
        "architecture": architecture(start),
        "ends": _of(start.decoding.ends),
        "prompts": _of(told),
    }
    if table.tokenizer is not None:
        marks["tokenizer"] = _of_tokenizer(table.tokenizer)
        if config.game.chat:
            marks["template"] = _of(getattr(table.tokenizer, "chat_template", None))
    drawn = config.generation
    if drawn.engine:
        marks["engine"] = _of_factory(drawn.engine, drawn.options)
    return Identity(fixed(config), marks, _versions())


def fixed(config: Config) -> str:
    """The settings that must stay the same when a run is resumed, as YAML."""
    default = Config()
    return config_file.dump(replace(config, **{name: getattr(default, name) for name in FREE}))


def require_same_settings(ours: Config, theirs: Config, accept: Sequence[str]) -> None:
    """`ValueError` if a setting differs that must stay the same when a run is resumed."""
    # Files of earlier releases name no algorithm.
    ours, theirs = completed(ours), completed(theirs)
    if "engine" in accept:
        ours, theirs = assemble.own_engine(ours), assemble.own_engine(theirs)
    for name in (f.name for f in fields(ours) if f.name not in FREE):
        one, other = getattr(ours, name), getattr(theirs, name)
        if one == other:
            continue
        if is_dataclass(one):
            parts = (f.name for f in fields(one))
            name = next(f"{name}.{n}" for n in parts if getattr(one, n) != getattr(other, n))
        engine = name in ("generation.engine", "generation.options")
        how = ", or go on with `--accept engine`" if engine else ""
        raise ValueError(
            f"The run was begun with another `{name}`: resume it with the settings of its "
            f"`config.yaml`{how}."
        )


def weights(start: TokenPolicy) -> str:
    """The fingerprint of all tensors of a plain policy, trained or not. All processes must call it:
    the first one reads the tensors and tells the others."""
    network = start.network
    known = _known.get(network)
    # A league reads many checkpoints onto one start.
    if known is not None and known[0] is start.weights:
        return known[1]
    found = _digest(start)
    found, *_ = network.processes.gather(found)
    _known[network] = start.weights, found
    return found


def _digest(start: TokenPolicy) -> str:
    network = start.network
    held = {**start.weights, **network.frozen}
    names = sorted(held)
    digest = hashlib.sha256()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        # Not all at once, because the whole of all sharded tensors may not fit into memory.
        for i in range(0, len(names), AT_ONCE):
            several = names[i : i + AT_ONCE]
            wholes = [network.whole(name, held[name]) for name in several]
            if network.processes.rank > 0:
                continue
            tensors = [whole.detach().cpu() for whole in wholes if whole is not None]
            for name, tensor, mark in zip(
                several, tensors, pool.map(_of_tensor, tensors), strict=True
            ):
                digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} {mark}\n".encode())
    return digest.hexdigest()


def architecture(start: TokenPolicy) -> str:
    """The fingerprint of the settings by which a model uses its weights, such as an activation."""
    config = getattr(start.network, "config", None)
    return "" if config is None else _of(_essential(config.to_dict()))


def _essential(settings: Any) -> Any:
    """Settings without those that say where a model came from and not what it computes."""
    if isinstance(settings, Mapping):
        kept = ((str(k), v) for k, v in settings.items() if k not in INCIDENTAL)
        return sorted((k, _essential(v)) for k, v in kept)
    if isinstance(settings, list | tuple):
        return [_essential(v) for v in settings]
    plain = settings is None or isinstance(settings, bool | int | float | str)
    return settings if plain else str(settings)


_known: WeakKeyDictionary[Network, tuple[Weights, str]] = WeakKeyDictionary()
"""The last fingerprint of the weights of each network's start."""


def _of_tensor(tensor: Tensor) -> str:
    # NumPy has no bfloat16, so the bytes are passed on.
    content = tensor.contiguous().reshape(-1).view(torch.uint8)
    return hashlib.sha256(content.numpy().data).hexdigest()


def _of_tokenizer(tokenizer: Any) -> str:
    """The fingerprint of the pieces and ids of a tokenizer, and of how it makes texts of them."""
    # How it cuts texts shows in the ids of the prompts.
    backend = getattr(tokenizer, "backend_tokenizer", None)
    decoder = None if backend is None else json.loads(backend.to_str()).get("decoder")
    return _of(
        [
            sorted(tokenizer.get_vocab().items(), key=lambda item: (item[1], item[0])),
            sorted(tokenizer.all_special_ids),
            decoder,
        ]
    )


def _of_factory(factory: str, options: Mapping[str, Any]) -> str:
    """The fingerprint of the file of a factory, and of what its options name on the disk."""
    place = factory.rpartition(":")[0]
    found: dict[str, str] = {}
    if place.endswith(".py"):
        found["factory"] = _of_path(Path(place))
    # The package's own judges change with its version, which is kept.
    elif place.partition(".")[0] != __name__.partition(".")[0]:
        # A built-in module has no file.
        source = getattr(sys.modules.get(place), "__file__", None)
        if source is not None:
            found["factory"] = _of_path(Path(source))
    for number, text in enumerate(_texts(options)):
        mark = _of_path(Path(text))
        if mark:
            found[f"option {number}"] = mark
    return _of(found)


def _texts(value: Any) -> Iterable[str]:
    """All texts within options that may be paths."""
    if isinstance(value, str):
        # No file has a longer path, and a rubric is often longer.
        if value and len(value) < 1024 and "\n" not in value and "\0" not in value:
            yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def _of_path(path: Path) -> str:
    """The fingerprint of a file, or of the files in the folder of a model; empty for others.

    Any other folder may be one that the judge writes to.
    """
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    if path.is_dir() and any(path.glob("*config.json")):
        return _of({p.name: _of_path(p) for p in sorted(path.iterdir()) if p.is_file()})
    return ""


def _of(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


@cache
def _versions() -> Mapping[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
