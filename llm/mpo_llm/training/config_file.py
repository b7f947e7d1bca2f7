"""Read and write the settings of a run as a YAML file.

Types are checked, and the spellings of earlier releases are translated.
"""

from __future__ import annotations

import re
import types
import typing
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from mpo_games.labelled import shown
from mpo_llm.algorithms import MMD, completed
from mpo_llm.config import Choice, Config, Every, GameConfig, WeightEma
from mpo_llm.spelling import meant
from mpo_llm.training import yaml_lines

C = TypeVar("C")

YAML_BREAKS = "\x85\u2028\u2029"
"""Characters that YAML 1.1 takes for the end of a line, unless they are escaped."""


EMPTY = (
    "The file is empty, and a run needs prompts and a judge: write at least "
    "`prompts: {source: prompts.jsonl}` and `judge: {factory: mpo_llm.judges:everyday}`, each on "
    "a line of its own."
)
"""What a file without settings is told."""


def load(path: str | Path) -> Config:
    """Read a YAML file. `ValueError`, in a sentence with the line, if it is no configuration."""
    said = repr(str(path))
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"Cannot read {said}: {error.strerror or error}.") from error
    try:
        return read(content)
    except yaml_lines.Misplaced as error:
        raise ValueError(f"{said}, line {error.line}: {error}") from error
    except ValueError as error:
        raise ValueError(f"{said}: {error}") from error


def of_run(path: str | Path) -> Config:
    """The configuration of a run, given its folder or one of its checkpoints; the defaults if there
    is none there."""
    place = Path(path)
    files = (folder / "config.yaml" for folder in (place, place.parent.parent))
    found = next((file for file in files if file.is_file()), None)
    return Config() if found is None else load(found)


def read(content: bytes) -> Config:
    """The configuration in the bytes of a YAML file. `ValueError` if there is none."""
    found, lines = yaml_lines.read(content)
    if found is None:  # a file without a value, such as one of comments alone
        raise ValueError(EMPTY)
    try:
        config = parse(Config, found)
        # Values of an algorithm and of the file together may be refused.
        completed(config)
        return config
    except ValueError as error:
        # The first setting that the message names, or the section of it that the file has.
        for name in re.findall(r"`([\w.]+)", str(error)):
            while name:
                if name in lines:
                    raise yaml_lines.Misplaced(str(error), lines[name]) from error
                name = name.rpartition(".")[0]
        raise


def dump(config: Config) -> str:
    """The YAML text from which `load` makes the same configuration."""
    text = str(yaml.safe_dump(plain(config), sort_keys=False, allow_unicode=True))
    if any(mark in text for mark in YAML_BREAKS):
        text = str(yaml.safe_dump(plain(config), sort_keys=False))
    return text


def changed(config: Config, settings: Mapping[str, Any]) -> Config:
    """The configuration with other values of some settings, given by their dotted names.

    `ValueError` for a name that is no setting and for a value of another type.
    """
    # With all sections, of which a file leaves out some.
    found: dict[str, Any] = {f.name: plain(getattr(config, f.name)) for f in fields(config)}
    for name, value in translate(settings, config).items():
        *sections, field = name.split(".")
        place = found
        for section in sections:
            if not isinstance(place.get(section), dict):
                raise ValueError(f"There is no setting {shown(name)} to vary.")
            place = place[section]
        place[field] = value
    return parse(Config, found)


def translate(settings: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """The settings that override those of `config`, by their dotted names, in today's spelling.

    A choice may be part of the name: `solver.magnet.every` with 50 is `solver.magnet` with
    `{every: 50}`. The names of earlier releases are translated with a `FutureWarning`.
    """
    sections: dict[str, dict[str, Any]] = {}
    for name, value in _as_meant(settings, config).items():
        section, _, field = name.rpartition(".")
        if section in CHOICES:
            value = {field: value}
            section, _, field = section.rpartition(".")
        sections.setdefault(section, {})[field] = value
    return {
        f"{section}.{field}" if section else field: value
        for section, found in sections.items()
        for field, value in _translated(section, found).items()
    }


def parse(kind: type[C], found: Any, where: str = "") -> C:
    """A dataclass from a mapping, its types checked. `ValueError` names the field."""
    if kind is GameConfig and isinstance(found, str):
        found = {"name": found}
    if not isinstance(found, Mapping):
        raise ValueError(
            f"`{where or 'the file'}` must hold `name: value` lines, got {shown(found)}."
        )
    hints = typing.get_type_hints(kind)
    names = [f.name for f in fields(typing.cast(Any, kind))]
    values = {}
    for name, value in _translated(where, found).items():
        path = f"{where}.{name}" if where else str(name)
        if name not in names:
            hint = meant(name, names) or f"there are {', '.join(names)}."
            path = path if path.isprintable() else shown(path)
            raise ValueError(f"There is no setting `{path}`: {hint}")
        values[name] = _value(hints[name], value, path)
    return kind(**values)


def _value(hint: Any, value: Any, where: str) -> Any:
    """`value` with the type that `hint` asks for."""
    if is_dataclass(hint):
        return parse(typing.cast(type[Any], hint), {} if value is None else value, where)
    choices = Choices.of(hint, where)
    if choices is not None:
        return choices.parse(value)
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    # Python has two kinds of unions, and one with a `Literal` is the other.
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in parts:
            return None
        present = [p for p in parts if p is not type(None)]
        several = isinstance(value, list | tuple)
        fits = (p for p in present if (typing.get_origin(p) is tuple) == several)
        return _value(next(fits, present[0]), value, where)
    if origin is Literal:
        # An array compares with each part to an array.
        if not any(isinstance(value, type(part)) and value == part for part in parts):
            raise ValueError(
                f"`{where}` must be one of {', '.join(map(str, parts))}, got {shown(value)}."
            )
        return value
    if origin is tuple and isinstance(value, list | tuple):
        kinds = parts[:1] * len(value) if parts[-1] is Ellipsis else parts
        if len(kinds) != len(value):
            raise ValueError(f"`{where}` must hold {len(kinds)} values, got {shown(value)}.")
        return tuple(_value(kind, item, where) for kind, item in zip(kinds, value, strict=True))
    if origin is Mapping and isinstance(value, Mapping):
        return dict(value)
    if hint is float and isinstance(value, str):  # YAML 1.1 reads 1e-5 as a text.
        try:
            return float(value)
        except ValueError:
            pass
    # True is an int in Python, but `eta: true` is a mistake.
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError as error:
            raise ValueError(f"`{where}` is too large for a number.") from error
    if hint is Path and isinstance(value, str):
        return Path(value)
    if isinstance(hint, type) and type(value) is hint:
        return value
    kind = getattr(hint, "__name__", "list")
    article = "an" if kind[0] in "aeiou" else "a"
    wanted = "true or false" if hint is bool else f"{article} {kind}"
    raise ValueError(f"`{where}` must be {wanted}, got {shown(value)}.")


def plain(value: Any) -> Any:
    """Mappings, lists and scalars, as YAML writes them."""
    if isinstance(value, Choice):
        (number,) = vars(value).values()
        return {value.word(): number}
    if is_dataclass(value):
        each = ((f, getattr(value, f.name)) for f in fields(value))
        return {f.name: plain(v) for f, v in each if v != f.default or "open" not in f.metadata}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    return str(value) if isinstance(value, Path) else value


def _inline(value: Any) -> str:
    """A value as YAML on one line."""
    # In a list, because YAML puts a line with three dots after a bare scalar.
    try:
        text: str = yaml.safe_dump([value], default_flow_style=True, width=float("inf"))
    except yaml.YAMLError:  # nothing that a YAML file can hold
        return shown(value)
    return text.strip()[1:-1]


# ---------------------------------------------------------------------------------------- choices


@dataclass(frozen=True, slots=True)
class Choices:
    """The choices of a setting such as `solver.magnet`."""

    where: str
    """The setting's dotted name."""
    words: tuple[str, ...]
    """Choices without a number."""
    kinds: Mapping[str, type[Choice]]
    """Choices with one, by their words."""

    @classmethod
    def of(cls, hint: Any, where: str) -> Choices | None:
        """The choices that a type hint allows; None if it is no union with a kind of `Choice`."""
        parts = typing.get_args(hint)
        kinds = [p for p in parts if isinstance(p, type) and issubclass(p, Choice)]
        words = [w for p in parts if p not in kinds for w in typing.get_args(p)]
        return cls(where, tuple(words), {k.word(): k for k in kinds}) if kinds else None

    @property
    def names(self) -> tuple[str, ...]:
        """All words, each once."""
        return tuple(dict.fromkeys((*self.words, *self.kinds)))

    def number(self, word: str) -> type:
        """The type of a choice's number."""
        (kind,) = typing.get_type_hints(self.kinds[word]).values()
        return typing.cast(type, kind)

    def parse(self, value: Any) -> str | Choice:
        """A choice from its YAML, `word` or `{word: number}`. `ValueError` for anything else."""
        if isinstance(value, Mapping) and len(value) > 1:
            raise ValueError(f"`{self.where}` is one choice, got {_inline(dict(value))}.")
        numbered = isinstance(value, Mapping) and len(value) == 1
        word, number = next(iter(value.items())) if numbered else (value, None)
        if word not in self.names:
            hint = meant(word, self.names)
            raise ValueError(
                f"`{self.where}` must be one of {', '.join(self.names)}, got {_inline(value)}"
                + (f": {hint}" if hint else ".")
            )
        if not numbered and word in self.words:
            return str(word)
        if not numbered:
            wanted = self.number(word).__name__
            raise ValueError(
                f"`{self.where}: {word}` needs a number: `{self.where}: {{{word}: {wanted}}}`."
            )
        if word not in self.kinds:
            raise ValueError(f"`{self.where}: {word}` has no number, got {_inline(value)}.")
        choice: Any = self.kinds[word]
        found: Choice = choice(_value(self.number(word), number, f"{self.where}.{word}"))
        return found


def _choices() -> Iterator[Choices]:
    for section, kind in typing.get_type_hints(Config).items():
        if is_dataclass(kind):
            for field, hint in typing.get_type_hints(kind).items():
                found = Choices.of(hint, f"{section}.{field}")
                if found is not None:
                    yield found


CHOICES: Mapping[str, Choices] = {choices.where: choices for choices in _choices()}
"""The settings that are choices, by their dotted names."""


# ----------------------------------------------------------------------------- earlier spellings


def _magnet(solver: Mapping[str, Any]) -> Mapping[str, Any]:
    names = ("magnet_period", "magnet_rate", "magnet")
    _only_one(f"`solver.{name}`" for name in names if solver.get(name) is not None)
    if solver.get("magnet_period") is not None:
        return {"magnet": {"every": solver["magnet_period"]}}
    if solver.get("magnet_rate") is not None:
        return {"magnet": {"weight_ema": solver["magnet_rate"]}}
    return {"magnet": solver.get("magnet", "fixed")}


def _feedback(solver: Mapping[str, Any]) -> Mapping[str, Any]:
    method, feedback = solver["method"], solver.get("feedback", "current")
    if method == "mmd":
        # Without any other choice the default would be another algorithm.
        alone = not any(name in solver for name in MMD.solver)
        return {"algorithm": "mmd"} if alone else {}
    if method != "nash_md":
        raise ValueError(f"`solver.method` was one of mmd, nash_md, got {method!r}.")
    # Release 0.1.0 wrote `feedback: current` beside `method: nash_md`, and ignored `pull`.
    if feedback != "current":
        _only_one(("`solver.method: nash_md`", f"`solver.feedback: {_inline(feedback)}`"))
    proximal = {} if solver.get("pull", "proximal") == "proximal" else {"pull": "proximal"}
    return {"feedback": "against_mixture", **proximal}


def _micro_batch(step: Mapping[str, Any]) -> Mapping[str, Any]:
    _only_one(f"`step.{name}`" for name in ("rows", "micro_batch") if name in step)
    return {"micro_batch": step["rows"]}


@dataclass(frozen=True, slots=True)
class Earlier:
    """Settings of an earlier release."""

    section: str
    names: tuple[str, ...]
    today: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    """From all settings of the section to those that replace `names`; empty if none is needed."""


EARLIER = (
    Earlier("solver", ("magnet_period", "magnet_rate"), _magnet),
    Earlier("solver", ("method",), _feedback),
    Earlier("step", ("rows",), _micro_batch),
)
"""Every setting that has been renamed since release 0.1.0."""


def _as_meant(settings: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """Settings without the earlier spellings whose meaning depends on what they override."""
    found, solver = dict(settings), config.solver
    # `magnet_rate: null` took back a rate, and left a period as it was.
    for name, kind in (("solver.magnet_period", Every), ("solver.magnet_rate", WeightEma)):
        if found.get(name, "") is None and not isinstance(solver.magnet, str | kind | None):
            del found[name]
            warnings.warn(f"`{name}: null` can be left out.", FutureWarning, stacklevel=3)
    # `method: mmd` took back Nash-MD, which is a feedback today.
    if found.get("solver.method") == "mmd" and solver.mixes and "solver.feedback" not in found:
        del found["solver.method"]
        found["solver.feedback"] = "current"
        said = "`solver.method: mmd` is now `solver.feedback: current`."
        warnings.warn(said, FutureWarning, stacklevel=3)
    return found


def _translated(section: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a section in today's spelling, with a warning for each earlier one."""
    found = dict(settings)
    for earlier in EARLIER:
        old = {n: found[n] for n in earlier.names if earlier.section == section and n in found}
        if old:
            new = earlier.today(found)
            found = {**{n: v for n, v in found.items() if n not in old}, **new}
            verb = "are" if len(old) > 1 else "is"
            now = f"{verb} now {_said(section, new)}" if new else "can be left out"
            warnings.warn(f"{_said(section, old)} {now}.", FutureWarning, stacklevel=2)
    return found


def _said(section: str, settings: Mapping[str, Any]) -> str:
    return " and ".join(f"`{section}.{n}: {_inline(v)}`" for n, v in settings.items())


def _only_one(names: Iterable[str]) -> None:
    said = list(names)
    if len(said) > 1:
        raise ValueError(f"Only one of {' and '.join(said)} can be set.")
