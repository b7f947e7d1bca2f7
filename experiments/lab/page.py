"""One self-contained page: every figure with its claim and provenance, and the claims table."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from experiments.lab.harness import Claim

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; color: #222; background: #fff; line-height: 1.55;
  font-family: system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: .5rem 0; }
h2 { font-size: 1.35rem; margin: 0 0 .3rem; }
.lead { font-size: 1.1rem; color: #444; max-width: 44rem; }
.claim { font-weight: 600; margin: .2rem 0 .8rem; }
.how { color: #555; font-size: .95rem; max-width: 46rem; }
nav { columns: 2 16rem; font-size: .95rem; margin: 1.2rem 0 0; }
nav a { display: block; padding: .1rem 0; }
a { color: #0072B2; text-decoration: none; }
a:hover { text-decoration: underline; }
section { padding: 2rem 0 1.2rem; border-top: 1px solid #e6e6e6; margin-top: 1.6rem; }
img { display: block; width: 100%; max-width: 52rem; height: auto; margin: 0 auto 1rem; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem .35rem 0;
  border-bottom: 1px solid #eee; }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
.yes { color: #00714f; font-weight: 600; }
.no { color: #b34700; font-weight: 600; }
details { color: #555; font-size: .85rem; }
code { font-size: .92em; background: #f5f5f5; padding: .05rem .3rem; border-radius: .2rem;
  overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
@media (max-width: 40rem) {
  .claims thead { display: none; }
  .claims tr { display: block; padding: .5rem 0; border-bottom: 1px solid #ddd; }
  .claims td { display: inline-block; border: 0; padding: 0 .8rem 0 0; }
  .claims td:first-child { display: block; }
}
"""


def render(
    modules: Mapping[str, ModuleType],
    records: Mapping[str, Any],
    table: Mapping[str, Sequence[Claim]],
    figures: Path,
) -> str:
    """The page, as HTML without external resources."""
    held = sum(claim.holds for found in table.values() for claim in found)
    total = sum(len(found) for found in table.values())
    links = [f'<a href="#{name}">{_text(modules[name].TITLE)}</a>' for name in records]
    links.append('<a href="#claims">The claims table</a>')
    sections = [
        _section(name, modules[name], record["provenance"], table[name], figures)
        for name, record in records.items()
    ]
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Magnetic preference optimisation: figures and claims</title>
<style>{STYLE}</style>
</head>
<body><main>
<h1>Magnetic preference optimisation, checked</h1>
<p class="lead">Self-play circles. A magnet makes it stop, at the equilibrium of another game. A
magnet that moves walks on to the equilibrium of the game that was meant. Each figure below is
computed by the command beside it; the <a href="#claims">table</a> holds the paper's claims against
what was measured: {held} of {total} lines hold.</p>
<nav>{"".join(links)}</nav>
{"".join(sections)}
<section id="claims"><h2>The claims table</h2>
<p class="how">Computed from the stored results, failures included.</p>
{_table(table)}
</section>
</main></body>
</html>
"""


def _section(
    name: str,
    module: ModuleType,
    provenance: Mapping[str, Any],
    found: Sequence[Claim],
    figures: Path,
) -> str:
    # The docstring's first line is the claim, the rest says how the figure was made.
    claim, _, how = (module.__doc__ or "").strip().partition("\n\n")
    # Within the page, so that it can be sent as one file.
    image = base64.b64encode((figures / f"{name}.svg").read_bytes()).decode()
    versions = ", ".join(f"{k} {v}" for k, v in provenance["versions"].items())
    marks = "".join(
        f"<li>{_text(c.statement)}: <b>{c.measured:.3g}</b> ({_text(c.bound)}) {_mark(c)}</li>"
        for c in found
    )
    return f"""
<section id="{name}"><h2>{_text(module.TITLE)}</h2>
<p class="claim">{_text(claim)}</p>
<img alt="{_text(claim)}" src="data:image/svg+xml;base64,{image}">
<p class="how">{_text(how)}</p>
<details><summary>Measured, and how to recompute it</summary>
<ul>{marks}</ul>
<p><code>{_text(provenance["command"])}</code>; seed {provenance["seed"]};
{provenance["wall_seconds"]:.0f} s on {provenance["workers"]} workers
({_text(provenance["backend"])}, {_text(provenance["machine"])}); {_text(versions)}</p>
</details></section>"""


def _table(table: Mapping[str, Sequence[Claim]]) -> str:
    rows = "".join(
        f"<tr><td>{_text(c.statement)}</td><td>{_text(c.source)}</td><td>{_text(c.bound)}</td>"
        f'<td class="number">{c.measured:.3g}</td><td>{_mark(c)}</td>'
        f'<td><a href="#{name}">figure</a></td></tr>'
        for name, found in table.items()
        for c in found
    )
    return f"""<div class="wide"><table class="claims"><thead><tr><th>claim</th><th>source</th>
<th>bound</th><th>measured</th><th>holds?</th><th></th></tr></thead><tbody>{rows}</tbody></table>
</div>"""


def _mark(claim: Claim) -> str:
    return '<span class="yes">holds</span>' if claim.holds else '<span class="no">fails</span>'


def _text(words: str) -> str:
    return html.escape(words)
