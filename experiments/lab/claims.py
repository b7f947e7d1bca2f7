"""The claims table: the claims of every experiment, computed from its stored results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import ModuleType
from typing import Any

from experiments.lab.harness import Claim


@dataclass(frozen=True, slots=True)
class Source:
    """Where claims come from, and how many of them fail."""

    name: str
    claims: int
    failed: int


def collect(
    modules: Mapping[str, ModuleType], records: Mapping[str, Any]
) -> dict[str, list[Claim]]:
    """The claims of every experiment that has been run, by the experiment's name."""
    return {name: modules[name].claims(record["results"]) for name, record in records.items()}


def as_rows(table: Mapping[str, Sequence[Claim]]) -> list[dict[str, Any]]:
    """The table as JSON-able rows."""
    return [{"experiment": n, **asdict(claim)} for n, found in table.items() for claim in found]


def failures(table: Mapping[str, Sequence[Claim]]) -> list[tuple[str, Claim]]:
    """The claims that do not hold, each with the experiment's name."""
    return [(name, c) for name, found in table.items() for c in found if not c.holds]


def by_source(table: Mapping[str, Sequence[Claim]]) -> list[Source]:
    """The claims counted by their source: first where most of them fail, then the longest."""
    every = Counter(c.source for found in table.values() for c in found)
    failed = Counter(c.source for _, c in failures(table))
    sources = [Source(name, count, failed[name]) for name, count in every.items()]
    return sorted(sources, key=lambda s: (-s.failed, -s.claims, s.name))


def as_markdown(table: Mapping[str, Sequence[Claim]]) -> str:
    """The count by source, and the table with the failures first, as Markdown."""
    failed = failures(table)
    held = [(name, c) for name, found in table.items() for c in found if c.holds]
    lines = [
        "# Claims, computed",
        "",
        "Written by `python experiments`; every number is computed from `results/`.",
        "",
        f"**{len(failed)} of {len(failed) + len(held)} claims do not hold.** They come first, in "
        "both tables.",
        "",
        "| source of the claim | claims | do not hold |",
        "| --- | --- | --- |",
        *(f"| {s.name} | {s.claims} | {s.failed} |" for s in by_source(table)),
        "",
        "| claim | source | bound | measured | holds? | experiment |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, c in [*failed, *held]:
        # A bar within a cell would end the cell, and stars would be read as emphasis.
        lines.append(
            f"| {_cell(c.statement)} | {c.source} | {_cell(c.bound)} | {c.measured:.3g} "
            f"| {'yes' if c.holds else '**no**'} | {name} |"
        )
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("*", r"\*")
