"""A page about a run, as HTML: its win rates, its curves, and answers before and after."""

from __future__ import annotations

import html
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mpo_games import plot
from mpo_llm.config import Config
from mpo_llm.engines import sample
from mpo_llm.estimates import FEWEST, Estimate
from mpo_llm.prompts import load as load_prompts
from mpo_llm.results.outcomes import START, Evaluation, League
from mpo_llm.training import assemble, checkpoint, config_file

CURVES = {
    "length": "tokens a response",
    "entropy": "entropy, nats a response",
    "win_rate": "win rate against the start, held out",
    "held_out_gap": "estimated gap, held out",
    "estimated_gap": "estimated gap, responses of the step",
    "kl_magnet": "KL to the magnet, nats a response",
}
"""The columns of `metrics.jsonl` that are drawn, if they were recorded, with the curves' titles."""

STYLE = """
body { margin: 0 auto; max-width: 60rem; padding: 1.5rem 1rem 4rem; color: #222; line-height: 1.55;
  font-family: system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
svg { width: 100%; height: auto; }
table { border-collapse: collapse; display: block; overflow-x: auto; font-size: .92rem; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem .35rem 0;
  border-bottom: 1px solid #eee; }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
details { color: #555; font-size: .85rem; }
"""


def render(
    run: str | Path,
    evaluations: Mapping[str, Evaluation],
    standings: League | None = None,
    answers: Sequence[tuple[str, str, str]] | None = None,
    *,
    held_out: bool = True,
) -> str:
    """The page about a run's last checkpoint, as HTML that loads nothing from elsewhere.

    `evaluations` are named by their judges; each must have the start model among its opponents.
    `standings` is the league of the run's checkpoints. `answers` are those of `sample_answers`,
    which is called if they are None. `held_out` says whether the evaluations are on prompts that
    were not trained on.
    """
    config = checkpoint.config_of(run)
    kind = "held-out prompts" if held_out else "prompts that it was trained on"
    sections = {
        f"Against the model that it started from, on {kind}": _rates(evaluations),
        "What a mean score would lose": _averaging(evaluations),
        "The run": _curves(checkpoint.metrics(run)),
        "Before and after": table(("prompt", "before", "after"), answers or sample_answers(run)),
    }
    if standings is not None:
        sections["Its checkpoints against each other"] = league(standings)
    return document(f"{Path(config.model.name).name}, aligned by self-play", sections, config)


def document(title: str, sections: Mapping[str, str], settings: Config | str) -> str:
    """A page of sections, HTML by their titles, and the settings of the run at its end."""
    shown = settings if isinstance(settings, str) else config_file.dump(settings)
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width'>",
        f"<title>{_text(title)}</title><style>{STYLE}</style>",
        f"<h1>{_text(title)}</h1>",
        *(f"<h2>{_text(name)}</h2>\n{section}" for name, section in sections.items()),
        f"<details><summary>Settings</summary><pre>{_text(shown)}</pre></details>",
    ]
    return "\n".join(parts)


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """An HTML table. A cell shows the text of its object, escaped."""
    lines = ["".join(f"<th>{_text(cell)}</th>" for cell in head)]
    lines += ["".join(f"<td>{_text(cell)}</td>" for cell in row) for row in rows]
    return "<table>" + "\n".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def league(found: League) -> str:
    """The HTML table of a league: win rates, equilibrium, exploitability."""
    rows = [
        (
            name,
            *(f"{rate:.2f}" for rate in rates),
            f"{found.equilibrium[name]:.2f}",
            found.exploitability[name].with_interval(".2f"),
        )
        for name, rates in zip(found.names, found.win_rates, strict=True)
    ]
    return table(("win rate of", *found.names, "equilibrium", "exploitability"), rows)


def drawing(figure: Any) -> str:
    """A matplotlib figure as SVG for a page. The figure is closed."""
    import matplotlib.pyplot as plt

    content = io.StringIO()
    # No date, so that equal figures are equal files.
    figure.savefig(content, format="svg", metadata={"Date": None})
    plt.close(figure)
    return embedded(content.getvalue())


def embedded(svg: str) -> str:
    """The text of an SVG file, without the XML header that has no place inside HTML."""
    return svg[svg.index("<svg") :]


def sample_answers(run: str | Path, *, count: int = 8, seed: int = 0) -> list[tuple[str, str, str]]:
    """Triples of a prompt, the start model's response, and that of the run's last checkpoint.

    The first `count` held-out prompts are used, or training prompts if the run has none held out.
    Both models draw with the same random numbers.
    """
    config = checkpoint.config_of(run)
    start, tokenizer = assemble.start(config)
    source = config.held_out if config.evaluation.source else config.prompts
    source = replace(source, limit=count)
    prompts = load_prompts(source, tokenizer, assemble.room(start))
    engine = assemble.engine(config)
    # A new generator for each, so that the answers differ by the policies and not by the draws.
    drawn = [
        sample(policy, prompts.ids, 1, np.random.default_rng(seed), engine)
        for policy in (start, checkpoint.policy_of(run, start))
    ]
    texts = [
        [
            assemble.answer(start, tokenizer, responses.ids(i), prompts.opened)
            for i in range(len(prompts))
        ]
        for responses in drawn
    ]
    return list(zip(prompts.texts, *texts, strict=True))


def _rates(evaluations: Mapping[str, Evaluation]) -> str:
    """The HTML table of the win rates against the start model, a row for each judge."""

    def interval(e: Estimate) -> str:
        low, high = e.interval
        ends = "unknown" if math.isnan(low) else f"{low:.3f} to {high:.3f}"
        return f"{e.value:.3f} ({ends})"

    rows = []
    for judge, found in evaluations.items():
        other = found.opponents[START]
        kl = "" if other.kl is None else f"{other.kl}"
        rates = interval(other.win_rate), interval(other.length_controlled)
        gap = "" if found.gap is None else interval(found.gap)
        rows.append((judge, *rates, f"{found.length} / {other.length}", kl, gap))
    head = (
        "judge",
        "win rate (95 %)",
        "at equal lengths",
        "characters, after / before",
        "KL, nats",
        "estimated gap (95 %)",
    )
    fewest = min((found.prompts for found in evaluations.values()), default=FEWEST)
    few = f"<p>Intervals are unknown: they need at least {FEWEST} prompts, here are {fewest}.</p>"
    return table(head, rows) + (few if fewest < FEWEST else "")


def _averaging(evaluations: Mapping[str, Evaluation]) -> str:
    """The HTML table of what averaging a judge's answers would lose, a row for each judge."""
    rows = []
    for judge, found in evaluations.items():
        a = found.averaging
        rates = (f"{0.5 + e.value:.3f}" for e in (a.averaged, a.equilibrium))
        rows.append((judge, a.cyclic.with_interval(".3f"), *rates, a.lost.with_interval(".3f")))
    head = (
        "judge",
        "share of cyclic triples",
        "the response with the best mean win rate is beaten with",
        "the equilibrium with",
        "lost",
    )
    return table(head, rows)


def _curves(records: Sequence[Mapping[str, Any]]) -> str:
    """The recorded `CURVES` over the steps, with 95 % bands where they were recorded, as SVG."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import MaxNLocator

    # Not every run has held-out prompts, or a magnet that pulls.
    names = [name for name in CURVES if any(record.get(name) is not None for record in records)]
    if not names:
        return "<p>It has taken no step.</p>"
    with plot.theme():
        columns = min(2, len(names))
        rows = math.ceil(len(names) / columns)
        height = max(5.0, 2.5 * rows)
        figure, axes = plt.subplots(rows, columns, figsize=(8.0, height), squeeze=False)
        for ax, name in zip(axes.flat, names, strict=False):
            points = [(r["step"], r[name]) for r in records if r.get(name) is not None]
            ax.plot(*zip(*points, strict=True), color=plot.BLUE)
            ends = [f"{name}_low", f"{name}_high"]
            known = (r for r in records if r.get(ends[0]) is not None)
            band = [[r["step"], *(r[end] for end in ends)] for r in known]
            if band:
                ax.fill_between(*zip(*band, strict=True), color=plot.BLUE, alpha=0.15)
            ax.set_title(CURVES[name], loc="left", fontsize="medium")
            ax.set_xlabel("step")
            ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        # An odd number of curves leaves one place of the grid empty.
        for ax in axes.flat[len(names) :]:
            ax.set_visible(False)
        return drawing(figure)


def _text(value: object) -> str:
    # Prompts and answers may hold markup, which must be shown and not take effect.
    return html.escape(str(value))
