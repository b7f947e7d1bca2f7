"""The claims table: the claims of every experiment, computed from its stored results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from types import ModuleType
from typing import Any

from experiments.lab.harness import Claim


def collect(
    modules: Mapping[str, ModuleType], records: Mapping[str, Any]
) -> dict[str, list[Claim]]:
    """The claims of every experiment that has been run, by the experiment's name."""
    return {name: modules[name].claims(record["results"]) for name, record in records.items()}


def as_rows(table: Mapping[str, Sequence[Claim]]) -> list[dict[str, Any]]:
    """The table as JSON-able rows."""
    return [{"experiment": n, **asdict(claim)} for n, found in table.items() for claim in found]


def as_markdown(table: Mapping[str, Sequence[Claim]]) -> str:
    """The table as Markdown."""
    lines = [
        "# Claims, computed",
        "",
        "Written by `python experiments`; every number is computed from `results/`.",
        "",
        "| claim | source | bound | measured | holds? | experiment |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, found in table.items():
        # A bar within a cell would end the cell.
        lines += [
            f"| {c.statement.replace('|', chr(92) + '|')} | {c.source} "
            f"| {c.bound.replace('|', chr(92) + '|')} | {c.measured:.3g} "
            f"| {'yes' if c.holds else '**no**'} | {name} |"
            for c in found
        ]
    return "\n".join(lines) + "\n"
