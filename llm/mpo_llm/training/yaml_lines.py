"""YAML with the lines of its names, and without what a configuration must not have.

YAML allows a name twice, of which the last would count in silence. It also allows values that hold
themselves, or each other so often that no memory has room for them.
"""

from __future__ import annotations

import re
from itertools import accumulate
from typing import Any

import yaml

MOST_VALUES = 100_000
"""Values in the largest file that is read; one that is used twice counts twice."""

MOST_DEPTH = 100
"""Brackets that may be open at the same time."""

MERGE = "tag:yaml.org,2002:merge"
"""The tag of `<<`, which takes over the names of another mapping."""


class Misplaced(ValueError):
    """An error in a line of a file."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line
        """The line, from 1."""


def read(content: bytes) -> tuple[Any, dict[str, int]]:
    """The value in the bytes of a YAML file, and the line of each dotted name, from 1.

    `ValueError` for anything but YAML, mostly as `Misplaced`.
    """
    lines: dict[str, int] = {}
    # The parser takes seconds to find that out.
    if _depth(content) > MOST_DEPTH:
        raise ValueError("This is not YAML: it is nested too deeply.")
    try:
        # As `safe_load` does, with the tree at hand: to parse it takes longer than all else.
        loader = yaml.SafeLoader(content)
        tree = loader.get_single_node()
        if tree is None:
            return None, lines
        # Before the values are built, which may take all memory.
        _walk(tree, "", lines, {})
        return loader.construct_document(tree), lines
    except Misplaced:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = " ".join(str(part) for part in (error.context, error.problem) if part)
        hint = ": YAML is indented by spaces" if "'\\t'" in said else ""
        line = mark.line + 1 if mark else 1
        raise Misplaced(f"This is not YAML: {said}{hint}.", line) from error
    except yaml.reader.ReaderError as error:
        line = content[: int(error.position or 0)].count(b"\n") + 1
        said = f"{error.reason} ({error.encoding})"
        raise Misplaced(f"This is not YAML: {said}. Save the file as UTF-8.", line) from error
    except RecursionError as error:
        raise ValueError("This is not YAML: it is nested too deeply.") from error
    # Values that cannot be built, such as the 30th of February.
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise ValueError(f"This is not YAML: {error}.") from error


def value(text: str, name: str) -> Any:
    """The value of a text such as `0.5` or `[a, b]`. `ValueError` names the setting `name`."""
    try:
        return read(text.encode())[0]
    except ValueError as error:
        raise ValueError(f"`{name}` must be written as in a YAML file, got {text!r}.") from error


def _depth(content: bytes) -> int:
    """The largest number of open brackets."""
    steps = (1 if bracket in b"[{" else -1 for bracket in re.findall(rb"[\[\]{}]", content))
    return max(accumulate(steps), default=0)


def _walk(node: yaml.Node, where: str, lines: dict[str, int], sizes: dict[int, int]) -> int:
    """Note the lines of all names; returns the number of values. `sizes` are those known so far."""
    line = node.start_mark.line + 1
    if id(node) in sizes:
        # 0 stands for a node whose values are being counted.
        if sizes[id(node)] == 0:
            raise Misplaced(f"`{where}` holds itself by an alias.", line)
        return sizes[id(node)]
    sizes[id(node)] = 0
    size = 1
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, item in node.value:
            name = f"{where}.{key.value}" if where else str(key.value)
            at = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and key.tag != MERGE:
                if key.value in seen:
                    raise Misplaced(f"`{name}` is set twice.", at)
                seen.add(key.value)
            lines.setdefault(name, at)
            size += _walk(item, name, lines, sizes)
    elif isinstance(node, yaml.SequenceNode):
        size += sum(_walk(item, where, lines, sizes) for item in node.value)
    if size > MOST_VALUES:
        raise Misplaced(f"`{where}` holds more than {MOST_VALUES} values.", line)
    sizes[id(node)] = size
    return size
