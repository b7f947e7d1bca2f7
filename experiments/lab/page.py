"""One self-contained page: every figure with its claim and provenance, and the claims table.

The animation comes first, and beside the page lies the playground (`experiments/playground.html`).
"""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from experiments.lab.claims import Source, by_source, failures
from experiments.lab.harness import Claim

STYLE = """
:root { color-scheme: light dark; --ink: #222; --soft: #555; --line: #e3e3e3; --paper: #fff;
  --code: #f3f3f3; --link: #0072B2; --yes: #00714f; --no: #b34700; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --soft: #b5b5b5; --line: #3a3d40;
  --paper: #16181a; --code: #26292c; --link: #6cb8e6; --yes: #4fc79c; --no: #f0925c; } }
* { box-sizing: border-box; }
html { scroll-padding-top: .5rem; }
body { margin: 0; color: var(--ink); background: var(--paper); line-height: 1.55;
  font-family: system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 1.2rem 1rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: .3rem 0 .8rem; }
h2 { font-size: 1.35rem; line-height: 1.25; margin: 0 0 .3rem; }
.lead { font-size: 1.1rem; max-width: 44rem; }
.claim { font-weight: 600; margin: .2rem 0 .8rem; }
.how { color: var(--soft); font-size: .95rem; max-width: 46rem; }
nav { columns: 2 16rem; font-size: .95rem; margin: 1.2rem 0 0; }
nav a { display: block; padding: .25rem 0; }
a { color: var(--link); text-decoration: none; }
a:hover { text-decoration: underline; }
section { padding: 2rem 0 1.2rem; border-top: 1px solid var(--line); margin-top: 1.6rem; }
/* Figures are drawn for white paper, and keep it in the dark. On a phone a wide one is scrolled. */
.figure { overflow-x: auto; background: #fff; border-radius: .4rem; margin: 0 auto 1rem;
  max-width: 53rem; }
.figure img { display: block; width: 100%; height: auto; padding: .3rem; }
@media (max-width: 40rem) { .figure img { min-width: var(--least, 0); } }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
.counts { max-width: 34rem; margin: 1rem 0 2rem; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem .35rem 0;
  border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
.yes { color: var(--yes); font-weight: 600; }
.no { color: var(--no); font-weight: 600; }
details { color: var(--soft); font-size: .88rem; }
summary { cursor: pointer; padding: .3rem 0; }
code { font-size: .92em; background: var(--code); padding: .05rem .3rem; border-radius: .2rem;
  overflow-wrap: anywhere; }
@media (max-width: 40rem) {
  .claims thead { display: none; }
  .claims tr { display: block; padding: .5rem 0; border-bottom: 1px solid var(--line); }
  .claims td { display: inline-block; border: 0; padding: 0 .8rem 0 0; }
  .claims td:first-child { display: block; }
}
"""

FIRST = "flow"
"""The experiment whose animation opens the page."""


def render(
    modules: Mapping[str, ModuleType],
    records: Mapping[str, Any],
    table: Mapping[str, Sequence[Claim]],
    figures: Path,
) -> str:
    """The page, as HTML without external resources."""
    links = [f'<a href="#{name}">{_text(modules[name].TITLE)}</a>' for name in records]
    links.append('<a href="#claims">What holds and what fails</a>')
    sections = [
        _section(name, modules[name], record["provenance"], table[name], figures)
        for name, record in records.items()
    ]
    failed = len(failures(table))
    total = sum(len(found) for found in table.values())
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
{_opening(figures)}
<p class="lead">Self-play circles. With a fixed magnet the policy comes to rest, at the equilibrium
of another game. With a magnet that moves it arrives at the equilibrium of the game that was meant.
<a href="playground.html">The playground</a> beside this page lets you try it.</p>
<p class="lead">Each figure below is computed by the command under it. Of {total} claims,
<a href="#claims">{failed} fail</a>; these come first in the table.</p>
<nav>{"".join(links)}</nav>
{"".join(sections)}
<section id="claims"><h2>What holds and what fails</h2>
<p class="how">Every number is computed from the stored results, and no entry is typed by hand. The
gap is the duality gap (NashConv), the sum of what both players gain by best responses.
Exploitability, which the figures of poker and of other trees show, is half of it.</p>
{_counts(by_source(table))}
{_table(table)}
</section>
</main></body>
</html>
"""


def _opening(figures: Path) -> str:
    """The animation; readers who asked for less motion get its last frame's figure."""
    moving, still = figures / f"{FIRST}.gif", figures / f"{FIRST}.png"
    # A page of a few quick experiments has no animation.
    if not moving.exists():
        return ""
    words = (
        "Forty policies over three answers: under mirror descent they circle, with a fixed magnet "
        "they stop short of the equilibrium, with a moving magnet they arrive."
    )
    return f"""<picture class="figure" style="display: block">
<source media="(prefers-reduced-motion: reduce)" srcset="{_embedded(still)}">
<img alt="{words}" src="{_embedded(moving)}"></picture>"""


def _embedded(file: Path) -> str:
    """The file within the page, so that it can be sent as one."""
    kind = {".svg": "svg+xml"}.get(file.suffix, file.suffix[1:])
    return f"data:image/{kind};base64,{base64.b64encode(file.read_bytes()).decode()}"


def _section(
    name: str,
    module: ModuleType,
    provenance: Mapping[str, Any],
    found: Sequence[Claim],
    figures: Path,
) -> str:
    # The docstring's first line is the claim, the rest says how the figure was made.
    claim, _, how = (module.__doc__ or "").strip().partition("\n\n")
    image = figures / f"{name}.svg"
    versions = ", ".join(f"{k} {v}" for k, v in provenance["versions"].items())
    marks = "".join(
        f"<li>{_text(c.statement)}: <b>{c.measured:.3g}</b> ({_text(c.bound)}) {_mark(c)}</li>"
        for c in found
    )
    return f"""
<section id="{name}"><h2>{_text(module.TITLE)}</h2>
<p class="claim">{_prose(claim)}</p>
<div class="figure" style="--least: {_least(image)}rem"><img alt="{_text(_plain(claim))}"
src="{_embedded(image)}"></div>
{"".join(f'<p class="how">{_prose(part)}</p>' for part in how.split(chr(10) * 2))}
<details><summary>Measured, and how to recompute it</summary>
<ul>{marks}</ul>
<p><code>{_text(provenance["command"])}</code>; seed {provenance["seed"]};
{provenance["wall_seconds"]:.0f} s on {provenance["workers"]} workers
({_text(provenance["backend"])}, {_text(provenance["machine"])}); {_text(versions)}</p>
</details></section>"""


def _least(image: Path) -> int:
    """How narrow a figure may get on a phone, in rem: half its own width, at least a phone's."""
    width = re.search(r'<svg[^>]* width="([\d.]+)pt"', image.read_text(encoding="utf-8"))
    # A point is 4/3 pixels, a rem is 16 of them.
    return max(20, round(0.5 * float(width[1]) * 4 / 3 / 16)) if width else 20


def _counts(sources: Sequence[Source]) -> str:
    """How many claims of each source fail, those with failures first."""
    rows = "".join(
        f'<tr><td>{_text(s.name)}</td><td class="number">{s.claims}</td><td class="number">'
        f"{_failed(s.failed)}</td></tr>"
        for s in sources
    )
    return f"""<table class="counts"><thead><tr><th>source of the claim</th><th>claims</th>
<th>fail</th></tr></thead><tbody>{rows}</tbody></table>"""


def _failed(count: int) -> str:
    return f'<span class="no">{count}</span>' if count else "0"


def _table(table: Mapping[str, Sequence[Claim]]) -> str:
    held = [(name, c) for name, found in table.items() for c in found if c.holds]
    rows = "".join(
        f"<tr><td>{_text(c.statement)}</td><td>{_text(c.source)}</td><td>{_text(c.bound)}</td>"
        f'<td class="number">{c.measured:.3g}</td><td>{_mark(c)}</td>'
        f'<td><a href="#{name}">figure</a></td></tr>'
        for name, c in [*failures(table), *held]
    )
    return f"""<table class="claims"><thead><tr><th>claim</th><th>source</th>
<th>bound</th><th>measured</th><th>holds?</th><th></th></tr></thead><tbody>{rows}</tbody></table>"""


def _mark(claim: Claim) -> str:
    return '<span class="yes">holds</span>' if claim.holds else '<span class="no">fails</span>'


def _text(words: str) -> str:
    return html.escape(words)


def _prose(words: str) -> str:
    """The few marks of a docstring as HTML: code between backticks, emphasis between stars."""
    code = re.split(r"`([^`]+)`", words)
    for i, part in enumerate(code):
        if i % 2:
            code[i] = f"<code>{_text(part)}</code>"
        else:
            code[i] = re.sub(r"\*([^*\n]+)\*", r"<em>\1</em>", _text(part))
    return "".join(code)


def _plain(words: str) -> str:
    """The words without marks, for readers who hear a figure."""
    return re.sub(r"[`*]", "", words)
