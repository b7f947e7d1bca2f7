"""Many prompts, few responses: the preset without settings beside published methods that are tuned.

Languages whose exact gaps are known (`lab/language_families.py`): 64 prompts with 8 responses to
each of 8 prompts a step, 17 prompts held out, or one prompt with 64 responses a step. Gaps are in
units of `2 P - 1`, at most 2. Methods, their tuning rule and the grids are in
`lab/prompt_contest.py`. Above: one family against steps, responses and gradients, the last iterate,
all games. Middle: every family after 300 steps; a line goes from the median to the worst game, a
ring is the median on the prompts that are held out. The preset shows its last iterate, and its
average of weights in a row of its own; each other method shows whichever of the two has the lower
median. Below: the preset with one thing changed; and a judge that answers by a coin, with the
probability that the exact judge gives. Nash-MD is there three times: as published, with a drifting
magnet and kept moments, and with the visits, the magnet and the solve of
the preset. The last is the rival that shows where the lead comes from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from experiments.lab import prompt_contest as contest
from experiments.lab.harness import Claim, Run
from mpo_games import plot as draw

TITLE = "Many prompts, few responses"
CORE = False
SEED = 41_000
"""The first seed of the reported games."""

STEPS = 300
GAMES = {contest.PRESET: 4, contest.FAIR: 2, "Nash-MD, drifting": 2, "Nash-MD": 2, "MPO": 2}
"""Games of a family by method; one for the others, and for what is changed in the preset."""

MANY = ("smooth", "low rank", "unrelated", "smooth, 64 responses")
ONE = ("one prompt, styles", "one prompt, low rank")
LARGE = ("one prompt, styles, 256", "one prompt, low rank, 256")
ABLATED = {
    "smooth": contest.ABLATIONS,
    # With one prompt there are no others.
    "one prompt, styles": tuple(v for v in contest.ABLATIONS if v != "no other prompts"),
}
CURVES = "smooth"

NASH_MD = ("Nash-MD, drifting", "Nash-MD")
JUDGES = ("exact", "coin, anew", "coin, kept")
NOISY = (contest.PRESET, "Nash-MD", "MPO")
AVERAGED = "AutoMPO, average of weights"
ORDER = (contest.PRESET, AVERAGED, contest.FAIR, *contest.PUBLISHED, contest.RECIPE)
"""The rows of tables and panels."""

CURVED = (contest.PRESET, contest.FAIR, *NASH_MD, "MPO", contest.RECIPE)
"""The methods whose curves are drawn."""
DASHES = {contest.FAIR: draw.SOLID, "Nash-MD, drifting": draw.DOTTED}
"""They have the colour of Nash-MD."""


def compute(quick: bool, run: Run) -> dict[str, Any]:
    """Tune the published methods, then race all; change the preset; let the judge toss coins."""
    steps, tuning = (2, 1) if quick else (STEPS, STEPS // 2)
    families = (MANY[0], ONE[0]) if quick else (*MANY, *ONE)
    published = ("Nash-MD", "MPO") if quick else tuple(contest.PUBLISHED)

    def races(
        family: str, method: str, setting: Any = None, judge: str = "exact", games: int = 1
    ) -> list[Any]:
        cells = [
            {
                "method": method,
                "setting": setting or {},
                "family": family,
                "steps": steps,
                "seed": SEED + i,
            }
            | ({} if judge == "exact" else {"judge": judge})
            for i in range(games)
        ]
        return run(contest.race, cells)

    def games(method: str) -> int:
        return 1 if quick else GAMES.get(method, 1)

    found: dict[str, Any] = {}
    for family in families:
        found[family] = {}
        for method in published:
            setting, scores = _tuned(method, family, tuning, run, 2 if quick else None)
            runs = races(family, method, setting, games=games(method))
            found[family][method] = {"setting": setting, "scores": scores, "runs": runs}
        for method in (contest.FAIR, contest.RECIPE):
            found[family][method] = {"runs": races(family, method, games=games(method))}
    for family in families if quick else (*families, *LARGE):
        runs = races(family, contest.PRESET, games=games(contest.PRESET))
        found.setdefault(family, {})[contest.PRESET] = {"runs": runs}
    changed = {
        family: {variant: races(family, variant) for variant in variants[: 1 if quick else None]}
        for family, variants in ABLATED.items()
    }
    noisy = {
        judge: {
            method: races(CURVES, method, found[CURVES][method].get("setting"), judge)
            for method in NOISY
            if method in found[CURVES]
        }
        for judge in JUDGES[1:]
    }
    return {"families": found, "ablations": changed, "noise": noisy}


def _tuned(
    method: str, family: str, steps: int, run: Run, tries: int | None = None
) -> tuple[Any, list[float]]:
    """The setting of a method for a family, of its first `tries` or of all, and their scores."""
    shared = MANY[0] if family in MANY else ONE[0]
    game = family if method in NASH_MD else shared
    grid = contest.PUBLISHED[method].settings()[:tries]
    cells = [
        {
            "method": method,
            "setting": setting,
            "family": game,
            "steps": steps,
            "seed": contest.DEVELOPED,
        }
        for setting in grid
    ]
    scores = [contest.score(found) for found in run(contest.race, cells)]
    return grid[int(np.argmin(scores))], scores


def output(entry: Mapping[str, Any]) -> str:
    """Which of the two outputs of a method has the lower median: `last` or `average`."""
    return min(("last", "average"), key=lambda c: float(np.median(ends(entry["runs"], c))))


def ends(runs: Iterable[Mapping[str, Any]], column: str) -> Any:
    """The last entry of a column in each run."""
    return np.array([run[column][-1] for run in runs], dtype=float)


def rows(entries: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The gaps on the prompts of training and on those held out at the end, `(games,)` each."""
    found = {}
    for name, entry in entries.items():
        if name == contest.PRESET:
            shown = {name: "last", AVERAGED: "average"}
        else:
            shown = {name: output(entry)}
        for label, column in shown.items():
            held = "held" if column == "last" else "held_average"
            found[label] = ends(entry["runs"], column), ends(entry["runs"], held)
    return {name: found[name] for name in ORDER if name in found}


def plot(results: dict[str, Any]) -> Any:
    """Curves of one family, then the ends of all, then what is changed."""
    import matplotlib.pyplot as plt

    with draw.theme():
        lower = bool(results["ablations"] or results["noise"])
        heights = (1.0, 1.25, 1.25, 1.0)[: 3 + lower]
        figure = plt.figure(figsize=(11.0, 3.7 * sum(heights)))
        grid = figure.add_gridspec(len(heights), 6, height_ratios=heights)
        _curves(figure, grid, results["families"][CURVES])
        table = _table(results)
        for i, (family, found) in enumerate(table.items()):
            row, column = divmod(i, 3)
            ax = figure.add_subplot(grid[1 + row, 2 * column : 2 * column + 2])
            _ends(ax, found, _names(table), named=column == 0)
            ax.set_title(family)
        for i, (family, variants) in enumerate(results["ablations"].items()):
            whole = results["families"][family][contest.PRESET]["runs"]
            every = {"the preset": whole, **variants}
            ax = figure.add_subplot(grid[3, 2 * i : 2 * i + 2])
            gaps = {n: (ends(r, "last"), ends(r, "held")) for n, r in every.items()}
            _ends(ax, gaps, list(gaps), named=True, colour=draw.WINE)
            ax.set_title(f"changed: {family}")
        if results["noise"]:
            ax = figure.add_subplot(grid[3, 4:])
            noisy = _noisy(results)
            _ends(ax, noisy, list(noisy), named=True)
            ax.set_title("a judge that tosses coins")
    return figure


def _curves(figure: Any, grid: Any, entries: Mapping[str, Any]) -> None:
    """The gap against three costs."""
    first: Any = None
    labels: list[tuple[str, float, str]] = []
    for i, cost in enumerate(("steps", "samples", "gradients")):
        ax = figure.add_subplot(grid[0, 2 * i : 2 * i + 2], sharey=first)
        first = first or ax
        for name in (n for n in CURVED if n in entries):
            runs = entries[name]["runs"]
            look = draw.style(name) or draw.Style(draw.GREY)
            dash = DASHES.get(name, look.dash)
            gaps = np.array([run["last"] for run in runs], dtype=float)
            at = np.asarray(runs[0]["at"], dtype=float)
            if cost != "steps":
                at = at / at[-1] * np.mean([run[cost] for run in runs])
            middle = np.median(gaps, axis=0)
            ax.plot(at, middle, color=look.color, linestyle=dash)
            ax.fill_between(
                at, gaps.min(axis=0), gaps.max(axis=0), color=look.color, alpha=0.12, linewidth=0
            )
            if i == 2:
                labels.append((SHORT.get(name, name), float(middle[-1]), look.color))
        ax.set(yscale="log", ylim=(0.03, 2.2), xlabel="responses" if i == 1 else cost)
        ax.set_xscale("log" if cost == "gradients" else "linear")
        ax.tick_params(labelleft=i == 0)
    first.set(ylabel="duality gap", title=f"{CURVES}, last iterate")
    draw.label_ends(ax, labels)


def _ends(
    ax: Any,
    entries: Mapping[str, tuple[Any, Any]],
    names: list[str],
    *,
    named: bool,
    colour: str | None = None,
) -> None:
    """A point at the median with a line to the worst game, and a ring for prompts held out."""
    names = names[::-1]
    for row, name in enumerate(names):
        if name not in entries:
            continue
        trained, held = entries[name]
        look = draw.style(name)
        color = colour or (look.color if look else draw.GREY)
        middle = float(np.median(trained))
        ax.plot([middle, trained.max()], [row, row], color=color, alpha=0.35, linewidth=5)
        ax.plot(middle, row, "o", color=color, markersize=7)
        if np.isfinite(held).all():
            ax.plot(
                np.median(held), row, "o", color=color, markersize=7, fillstyle="none", zorder=1
            )
    ax.set_yticks(range(len(names)), [SHORT.get(n, n) for n in names] if named else [])
    ax.set(xscale="log", xlim=(0.002, 2.4), ylim=(-0.6, len(names) - 0.4), xlabel="duality gap")
    ax.tick_params(axis="y", length=0)


def _noisy(results: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The gaps by method and judge, the lower one of both outputs."""
    found = {}
    for method in NOISY:
        for judge in JUDGES:
            if judge == "exact":
                entry = results["families"][CURVES].get(method)
            else:
                runs = results["noise"][judge].get(method)
                entry = runs and {"runs": runs}
            if entry:
                column = "last" if method == contest.PRESET else output(entry)
                held = "held" if column == "last" else "held_average"
                label = f"{method}, {judge}"
                found[label] = ends(entry["runs"], column), ends(entry["runs"], held)
    return found


SHORT = {
    contest.FAIR: "Nash-MD, preset's parts",
    AVERAGED: "AutoMPO, average",
    "no visits: own responses only": "no visits",
} | {f"{contest.FAIR}, {judge}": f"Nash-MD, preset's, {judge}" for judge in JUDGES}
"""Short names for the axes."""


def claims(results: dict[str, Any]) -> list[Claim]:
    """The bounds that were set before these games were played."""
    families = results["families"]
    preset = {
        name: entries[contest.PRESET]["runs"]
        for name, entries in families.items()
        if contest.PRESET in entries
    }

    def bounded(statement: str, bound: float, measured: Any) -> Claim:
        number = float(measured)
        return Claim("ours", f"AutoMPO, {statement}", f"<= {bound:g}", number, number <= bound)

    found = []
    for samples, names in ((64, ONE), (256, LARGE)):
        known = [ends(preset[n], "last") for n in names if n in preset]
        if known:
            what = f"one prompt, {samples} responses a step"
            middle = max(float(np.median(gaps)) for gaps in known)
            found += [
                bounded(f"{what}: the median gap, larger one of two families", 0.04, middle),
                bounded(f"{what}: the worst gap", 0.08, np.concatenate(known).max()),
            ]
    for name, column, bounds in (
        ("smooth", "last", (0.09, 0.13, 0.2)),
        ("low rank", "last", (0.13, 0.16, 0.27)),
        ("unrelated", "average", (0.22, None, None)),
        ("smooth, 64 responses", "last", (0.22, None, 0.35)),
    ):
        if name not in preset:
            continue
        what = f"{name}, {'last iterate' if column == 'last' else 'average of weights'}"
        gaps = ends(preset[name], column)
        held = ends(preset[name], "held" if column == "last" else "held_average")
        for label, bound, measured in (
            ("the median gap", bounds[0], np.median(gaps)),
            ("the worst gap", bounds[1], np.max(gaps)),
            ("the median gap on prompts held out", bounds[2], np.median(held)),
        ):
            if bound is not None:
                found.append(bounded(f"{what}: {label}", bound, measured))
    late = max(
        gap
        for runs in preset.values()
        for run in runs
        for at, gap in zip(run["at"], run["last"], strict=True)
        if at >= 2 / 3 * run["at"][-1]
    )
    seconds = max(run["seconds"] for runs in preset.values() for run in runs)
    found += [
        bounded("every family: the largest gap from step 200 on", 0.5, late),
        bounded("every family: seconds of the longest run on one core", 120.0, seconds),
    ]
    for name in MANY:
        rivals = [families[name][n] for n in NASH_MD if n in families.get(name, {})]
        if rivals and name in preset:
            theirs = min(float(np.median(ends(r["runs"], output(r)))) for r in rivals)
            column = "average" if name == "unrelated" else "last"
            ratio = float(np.median(ends(preset[name], column))) / theirs
            found.append(
                bounded(
                    f"{name}: the median gap over tuned Nash-MD's on its own responses", 0.5, ratio
                )
            )
    return found


def as_markdown(results: dict[str, Any]) -> str:
    """The table of `docs/language_models.md`: median / worst, then the median on others."""
    table = _table(results)
    lines = [f"| | {' | '.join(table)} |", "| --- " * (1 + len(table)) + "|"]
    for name in _names(table):
        cells = [_cell(*found[name]) if name in found else "" for found in table.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def costs(results: dict[str, Any]) -> str:
    """What a run on the family of the curves costs: medians."""
    head = ("", "responses", "gradients", "judged pairs", "seconds of one core")
    lines = [f"| {' | '.join(head)} |", "| --- " * len(head) + "|"]
    for name, entry in results["families"][CURVES].items():
        medians = [
            float(np.median([run[c] for run in entry["runs"]]))
            for c in ("samples", "gradients", "judge_calls", "seconds")
        ]
        # Thousands apart by spaces, as elsewhere in the documentation.
        numbers = [f"{m:_.0f}".replace("_", " ") for m in medians]
        lines.append(f"| {name} | {' | '.join(numbers)} |")
    return "\n".join(lines) + "\n"


def _table(results: Mapping[str, Any]) -> dict[str, dict[str, tuple[Any, Any]]]:
    """The rows of each family."""
    known = results["families"]
    return {family: rows(known[family]) for family in (*MANY, *ONE) if family in known}


def _names(table: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The methods that played any of the families, in their order."""
    return [name for name in ORDER if any(name in found for found in table.values())]


def _cell(trained: Any, held: Any) -> str:
    """`median / worst` or the only gap, and after a comma the median on the prompts held out."""
    own = f"{np.median(trained):.3f}"
    if len(trained) > 1:
        own += f" / {trained.max():.3f}"
    return f"{own}, {np.median(held):.3f}" if np.isfinite(held).all() else own
