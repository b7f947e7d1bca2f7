"""A transformer learns poker by self-play: the preset comes close, policy gradient stays away.

Exploitability of the last iterate, but for NFSP, whose output is its average network. Methods,
their grids and the one tuning rule are in `lab/network_contest.py`: the preset has nothing to tune,
each other method has the best of four settings. Left: exact feedback, by evaluations. Right:
sampled self-play, by episodes that were played, the same number for all. A line is the median over
seeds, a band reaches from the best to the worst. The preset counts the deals of all its episodes
after they are over, and it knows the payoffs at stake for its geometry; "MPO, pooled" shares the
first of both. The stored results are a part of what `compute` asks for: cells that were not
computed in time are left out, and the number behind a name says how many seeds are there. `python
experiments poker_network` computes the rest, NFSP if the extra `experiments` is installed.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np

from experiments.lab import network_contest as contest
from experiments.lab.harness import Claim, Run
from experiments.lab.network_contest import EXACT, PRESET, SAMPLED
from mpo_games import plot as draw

TITLE = "A transformer learns poker by self-play"
CORE = False
SEED = 0
"""The first seed of the reported runs."""

SEEDS = 5
ASCENTS = ("Self-play PG", "PPO")
"""The policy gradients."""

RIVALS = {
    EXACT: (*ASCENTS, "Nash-MD", "MPO"),
    SAMPLED: (*ASCENTS, "Nash-MD", "MPO", "MPO, pooled", "NFSP"),
}
BOUNDS = {"Kuhn": (0.02, 0.04), "Leduc": (0.12, 0.2)}
"""The bounds on the preset's median and on its worst seed, from samples."""

FLOOR = 1e-4
TITLES = {"Kuhn": "Kuhn poker", "Leduc": "Leduc poker", "liar's dice(4)": "Liar's dice, four sides"}


def compute(quick: bool, run: Run) -> dict[str, Any]:
    """Tune every rival at every table and race all; what `run` answers with None is left out."""
    tables = ("Kuhn",) if quick else tuple(contest.TABLES)
    seeds = 1 if quick else SEEDS
    found: dict[str, Any] = {}
    for table in tables:
        for feedback, rivals in RIVALS.items():
            sizes = contest.TABLES[table]
            whole = sizes.episodes if feedback == SAMPLED else sizes.evaluations
            budget = (256 if feedback == SAMPLED else 6) if quick else whole
            for method in (PRESET, *(rivals[:1] if quick else rivals)):
                # OpenSpiel's agent imports it, and OpenSpiel does not bring it along.
                if method == "NFSP" and find_spec("tree") is None:
                    continue
                entry = _raced(method, table, feedback, budget, seeds, run)
                if entry["runs"]:
                    found.setdefault(table, {}).setdefault(feedback, {})[method] = entry
    return found


def _raced(
    method: str, table: str, feedback: str, budget: int, seeds: int, run: Run
) -> dict[str, Any]:
    """The setting of a method, the scores of all its settings, and its runs."""

    def cell(setting: Mapping[str, float], budget: int, seed: int) -> dict[str, Any]:
        return {
            "method": method,
            "setting": setting,
            "table": table,
            "feedback": feedback,
            "budget": budget,
            "seed": seed,
        }

    setting: dict[str, float] = {}
    scores: list[float] = []
    if method != PRESET:
        grid = contest.settings(method)
        tried = run(contest.race, [cell(s, budget // 2, contest.DEVELOPED) for s in grid])
        if any(result is None for result in tried):
            return {"runs": []}
        scores = [contest.score(result) for result in tried]
        setting = grid[int(np.argmin(scores))]
    runs = run(contest.race, [cell(setting, budget, SEED + i) for i in range(seeds)])
    return {"setting": setting, "scores": scores, "runs": [r for r in runs if r is not None]}


def ends(entry: Mapping[str, Any]) -> Any:
    """The exploitability at the end of each run."""
    return np.array([run["gap"][-1] for run in entry["runs"]], dtype=float)


def plot(results: dict[str, Any]) -> Any:
    """A row for each game, a column for each kind of feedback."""
    import matplotlib.pyplot as plt

    rows = [table for table in contest.TABLES if table in results]
    with draw.theme():
        figure, axes = plt.subplots(
            len(rows), 2, figsize=(12.4, 4.2 * len(rows)), squeeze=False, sharey="row"
        )
        for table, row in zip(rows, axes, strict=True):
            for feedback, ax in zip(RIVALS, row, strict=True):
                _panel(ax, results[table].get(feedback, {}), table, feedback)
            row[0].set_ylabel("exploitability")
        # Labels stand where the limits of the axes put them, which are known after drawing.
        figure.canvas.draw()
        for table, row in zip(rows, axes, strict=True):
            for feedback, ax in zip(RIVALS, row, strict=True):
                entries = results[table].get(feedback, {})
                draw.label_ends(
                    ax,
                    [
                        (f"{name} ({len(e['runs'])})", _floored(np.median(ends(e))), _look(name)[0])
                        for name, e in entries.items()
                    ],
                )
    return figure


def _panel(ax: Any, entries: Mapping[str, Any], table: str, feedback: str) -> None:
    what = "exact feedback" if feedback == EXACT else "sampled self-play"
    ax.set(xscale="log", yscale="log", title=f"{TITLES[table]}, {what}")
    ax.set_xlabel("evaluations" if feedback == EXACT else "episodes")
    if not entries:
        ax.text(0.5, 0.5, "not stored", color=draw.GREY, ha="center", transform=ax.transAxes)
        return
    for name, entry in entries.items():
        color, dash = _look(name)
        runs = entry["runs"]
        # Seeds of a method are looked at after the same number of steps, up to a refresh.
        looks = min(len(run["gap"]) for run in runs)
        gaps = _floored([run["gap"][-looks:] for run in runs])
        at = np.median([run["at"][-looks:] for run in runs], axis=0)
        width = 3.4 if name == PRESET else 2.0
        ax.plot(at, np.median(gaps, axis=0), color=color, linestyle=dash, linewidth=width)
        ax.fill_between(at, gaps.min(0), gaps.max(0), color=color, alpha=0.12, linewidth=0)


def _look(name: str) -> tuple[str, draw.Dash]:
    """The colour and dash of a method; that of MPO in another dash if its episodes are pooled."""
    look = draw.style(name) or draw.Style(draw.GREY)
    return look.color, draw.DASHED if name == "MPO, pooled" else look.dash


def _floored(gaps: Any) -> Any:
    return np.maximum(np.asarray(gaps, dtype=float), FLOOR)


def claims(results: dict[str, Any]) -> list[Claim]:
    """The bounds that were set before these runs, for the games that are stored."""
    found = []
    for table, (middle, worst) in BOUNDS.items():
        entries = results.get(table, {}).get(SAMPLED, {})
        if PRESET not in entries:
            continue
        ours = ends(entries[PRESET])
        size = contest.TABLES[table].episodes
        what = f"a transformer plays {TITLES[table]}, {size} episodes of self-play"
        found += [
            _bounded(f"{what}: AutoMPO's median exploitability", middle, np.median(ours)),
            _bounded(f"{what}: AutoMPO's worst of {ours.size} seeds", worst, ours.max()),
        ]
        theirs = [np.median(ends(entries[name])) for name in ASCENTS if name in entries]
        if theirs:
            ratio = np.median(ours) / min(theirs)
            found.append(
                _bounded(f"{what}: AutoMPO's median over the best policy gradient's", 0.25, ratio)
            )
    return found


def _bounded(statement: str, bound: float, measured: Any) -> Claim:
    number = float(measured)
    return Claim("ours", statement, f"<= {bound:g}", number, number <= bound)


def as_markdown(results: dict[str, Any]) -> str:
    """The table of `docs/results.md`: median / worst exploitability, seeds in brackets."""
    columns = [(t, f) for t in contest.TABLES for f in RIVALS if f in results.get(t, {})]
    names = [n for n in (PRESET, *RIVALS[SAMPLED]) if any(n in results[t][f] for t, f in columns)]
    lines = [
        f"| | {' | '.join(f'{TITLES[t]}, {f}' for t, f in columns)} |",
        "| --- " * (1 + len(columns)) + "|",
    ]
    for name in names:
        cells = [_cell(results[t][f].get(name)) for t, f in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(entry: Mapping[str, Any] | None) -> str:
    if entry is None:
        return ""
    gaps = ends(entry)
    own = f"{np.median(gaps):.2g}" + (f" / {gaps.max():.2g}" if gaps.size > 1 else "")
    return f"{own} ({gaps.size})"
