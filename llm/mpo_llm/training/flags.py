"""The settings of a run as flags of the command line: choices, and flags of earlier releases."""

from __future__ import annotations

import re
import typing
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import yaml
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from mpo_llm.config import Choice, Config
from mpo_llm.training import config_file, yaml_lines
from mpo_llm.training.config_file import CHOICES, EARLIER, Choices

NONE = "None"
"""How tyro spells a setting that is None."""

WORDS: Mapping[str, bool | None] = {"null": None, "true": True, "false": False}
"""Values as YAML spells them, which tyro spells otherwise."""

ENGINE = "--generation.engine"
"""The flag of the engine, without which there are no options of one."""

OPTIONS = ("judge", "generation")
"""Sections whose `options` have names that only their factories know."""


KINDS: Mapping[str, str] = {
    r"no type matching (.*) could be instantiated from \[(.*)\]\.": "",
    r"invalid literal for int\(\) with base 10: (.*)": "INT",
    r"could not convert string to float: (.*)": "FLOAT",
}
"""What tyro says of a value of another type, and the type where it does not say that."""


def registry() -> ConstructorRegistry:
    """Rules by which tyro reads choices: `--solver.magnet` takes `fixed`, or `every 50`."""
    found = ConstructorRegistry()
    for choices in CHOICES.values():
        found.primitive_rule(partial(_rule, choices))
    return found


def options(arguments: Sequence[str], config: Config) -> tuple[list[str], Config]:
    """The arguments without `--judge.options` and `--generation.options`, and the configuration
    with what they set.

    `--judge.options name value ...` and `--judge.options.name value` add to the options of the
    file, or replace them one by one; `--judge.options None` takes them away. Values are read as in
    the file; several are a list. `--generation.engine ''` takes the engine away with its options.
    `ValueError` for a name without a value.
    """
    # Tyro reads no names but those that the file has already.
    kept: list[str] = []
    left, engine = _without(arguments, ENGINE)
    # Set together, because options without an engine are refused.
    given: dict[str, Mapping[str, Any]] = {}
    if engine == "":
        given["generation"] = {}
    while left:
        argument = left.pop(0)
        flag, sign, value = argument.partition("=")
        section, _, rest = flag.removeprefix("--").partition(".options")
        if not flag.startswith("--") or section not in OPTIONS or rest[:1] not in ("", "."):
            kept.append(argument)
            continue
        words = [value] if sign else []
        while not sign and left and not left[0].startswith("--"):
            words.append(left.pop(0))
        name = f"{section}.options{rest}"
        if words in ([NONE], ["null"]) and not rest:
            given[section] = {}
            continue
        if not words or (not rest and len(words) % 2):
            raise ValueError(
                f"`--{name}` takes names and values, got {' '.join(words) or 'nothing'}."
            )
        pairs = [(rest[1:], words)] if rest else [(n, [v]) for n, v in _pairs(words)]
        found: Any = given.get(section, getattr(config, section).options)
        for path, texts in pairs:
            values = [None if v == NONE else yaml_lines.value(v, name) for v in texts]
            found = _with(found, path.split("."), values if len(values) > 1 else values[0])
        given[section] = found
    if "judge" in given:
        config = replace(config, judge=replace(config.judge, options=given["judge"]))
    before = config.generation
    drawn = replace(
        before,
        engine=before.engine if engine is None else engine,
        options=given.get("generation", before.options),
    )
    return kept, replace(config, generation=drawn)


def _without(arguments: Sequence[str], flag: str) -> tuple[list[str], str | None]:
    """The arguments without a flag and its value, and the last value; None if it has none."""
    kept: list[str] = []
    value = None
    left = list(arguments)
    while left:
        argument = left.pop(0)
        if argument.startswith(f"{flag}="):
            value = argument.partition("=")[2]
        elif argument == flag and left and not left[0].startswith("--"):
            value = left.pop(0)
        else:
            kept.append(argument)
    return kept, value


def words(arguments: Sequence[str], config: Config) -> tuple[list[str], Config]:
    """The arguments without flags such as `--model.offload null` and `--model.tf32 true`, and the
    configuration with what they set."""
    settings: dict[str, bool | None] = {}
    kept: list[str] = []
    left = list(arguments)
    while left:
        argument = left.pop(0)
        flag, sign, value = argument.partition("=")
        name = flag.removeprefix("--").replace("-", "_")
        word = value if sign else left[0] if left else ""
        if flag.startswith("--") and word in WORDS and _takes(name, WORDS[word]):
            settings[name] = WORDS[word]
            del left[: 0 if sign else 1]
        else:
            kept.append(argument)
    return kept, config_file.changed(config, settings) if settings else config


def refusal(said: str) -> str | None:
    """The sentence about a refused value in what tyro has printed; None if it is about others."""
    # Tyro prints a box, whose lines end anywhere, and names its own and Python's inner objects.
    text = " ".join(word for line in said.splitlines() for word in line.strip(" │|").split())
    found = re.search(r"Error parsing (\S+): (.*?) *(?:[─-]{4,}|$)", text)
    if found is None:
        return None
    flag, why = found.groups()
    if flag.startswith("__") or why.startswith("`"):  # a check of the settings themselves
        return why
    for pattern, kind in KINDS.items():
        refused = re.fullmatch(pattern, why.partition(" Got errors:")[0])
        if refused:
            *kinds, got = refused.groups()
            return (
                f"`{flag}` takes {(kinds or [kind])[0].replace('{None}|', 'None or ')}, got {got}."
            )
    return f"`{flag}`: {why}"


def _takes(name: str, value: bool | None) -> bool:
    """Whether a setting, by its dotted name, may have this value."""
    section, _, field = name.partition(".")
    inner = typing.get_type_hints(Config).get(section)
    hint = typing.get_type_hints(inner).get(field) if inner is not None else None
    return type(value) in (typing.get_args(hint) or (hint,))


def _pairs(words: Sequence[str]) -> list[tuple[str, str]]:
    return list(zip(words[::2], words[1::2], strict=True))


def _with(options: Any, path: Sequence[str], value: Any) -> dict[str, Any]:
    """Options in which `value` stands at `path`."""
    before = dict(options) if isinstance(options, Mapping) else {}
    name, *rest = path
    return {**before, name: _with(before.get(name), rest, value) if rest else value}


def translate(arguments: Sequence[str], config: Config) -> list[str]:
    """The arguments in the spelling that tyro reads; they override the settings of `config`.

    `--solver.magnet.every 50` becomes `--solver.magnet every 50`, and so does the
    `--solver.magnet-period 50` of earlier releases, with a `FutureWarning`.
    """
    renamed = {f"{earlier.section}.{name}" for earlier in EARLIER for name in earlier.names}
    kept: list[str] = []
    settings: dict[str, Any] = {}
    left = list(arguments)
    while left:
        argument = left.pop(0)
        flag, _, value = argument.partition("=")
        name = flag.removeprefix("--").replace("-", "_")
        if not flag.startswith("--") or not (name in renamed or name.rpartition(".")[0] in CHOICES):
            kept.append(argument)
            continue
        # No value begins with two dashes. A flag without a value fails where its type is checked.
        if "=" not in argument:
            value = left.pop(0) if left and not left[0].startswith("--") else ""
        settings[name] = _number(value)
    # Translated together: `--solver.magnet-period None --solver.magnet-rate 0.1` is one choice.
    for name, value in config_file.translate(settings, config).items():
        kept += [f"--{name}", *_words(value)]
    return kept


def _rule(choices: Choices, info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """How tyro reads and shows a choice; None for settings of another type."""
    # Tyro tells a rule the type of a field, but not its name.
    if Choices.of(info.type, choices.where) != choices:
        return None

    def parse(words: list[str]) -> str | Choice:
        word, *number = words
        return choices.parse({word: _number(number[0])} if number else word)

    numbered = (f"{word} {choices.number(word).__name__.upper()}" for word in choices.kinds)
    return PrimitiveConstructorSpec(
        nargs=(1, 2),
        metavar=f"{{{','.join((*choices.words, *numbered))}}}",
        instance_from_str=parse,
        # None is a choice that the algorithm makes.
        is_instance=lambda value: value in (None, *choices.words) or isinstance(value, Choice),
        str_from_instance=lambda value: _words(config_file.plain(value)),
    )


def _words(value: Any) -> list[str]:
    """A value as arguments."""
    if isinstance(value, Mapping):
        return [str(part) for item in value.items() for part in item]
    return [str(value)]


def _number(text: str) -> Any:
    """The value that a YAML file would have in the argument's place; the text if it is no YAML."""
    try:
        return None if text == NONE else yaml.safe_load(text)
    except yaml.YAMLError:
        return text
