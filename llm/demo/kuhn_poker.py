"""A language model learns Kuhn poker, in English, on a CPU: `make llm-poker`.

SmolLM2 is told its card and what was said, and answers "Pass" or "Bet". It plays both seats against
itself. After every step its exploitability is computed exactly. Claim: it comes to play like one of
the equilibria, which bluff with a jack, and now and then pass a king. It is a run of `mpo-llm
train`, by `kuhn_poker.yaml`; only the picture is this script's own.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tyro

from mpo_games import plot
from mpo_llm.results import page, table_page, tables
from mpo_llm.training import checkpoint, config_file
from mpo_llm.training.played import Played
from mpo_llm.training.train import train

HERE = Path(__file__).parent

QUESTIONS = {
    "0": ("first: bets a jack (a bluff)", lambda a: a),
    "1": ("first: bets a queen", lambda _: 0.0),
    "2": ("first: bets a king", lambda a: 3.0 * a),
    "0pb": ("first: calls with a jack", lambda _: 0.0),
    "1pb": ("first: calls with a queen", lambda a: a + 1.0 / 3.0),
    "2pb": ("first: calls with a king", lambda _: 1.0),
    "0p": ("second: bets a jack (a bluff)", lambda _: 1.0 / 3.0),
    "1p": ("second: bets a queen", lambda _: 0.0),
    "2p": ("second: bets a king", lambda _: 1.0),
    "0b": ("second: calls with a jack", lambda _: 0.0),
    "1b": ("second: calls with a queen", lambda _: 1.0 / 3.0),
    "2b": ("second: calls with a king", lambda _: 1.0),
}
"""For each information state, what its bet means and how often each equilibrium bets there. The
equilibria are a family, with `a` between 0 and 1/3 (Kuhn 1950)."""


def main(
    config: Path = HERE / "kuhn_poker.yaml",
    folder: Path = Path("runs/poker"),
    steps: int | None = None,
    model: str | None = None,
    lora_top: int | None = None,
    seed: int | None = None,
) -> None:
    """Train or resume, and write `page.html`, `found.json` and `play.svg` to FOLDER.

    Args:
        config: the configuration of the run; what the others leave out is as it says.
        folder: the folder of the run and of the results.
        steps: the number of mirror steps.
        model: a name or folder of a causal language model.
        lora_top: adapters are trained in so many of the uppermost blocks.
        seed: draws the first weights of the adapters.
    """
    given = {
        "output.folder": str(folder),
        "budget.steps": steps,
        "model.name": model,
        "model.lora_top": lora_top,
        "seed": seed,
    }
    run = config_file.load(config)
    run = config_file.changed(run, {n: value for n, value in given.items() if value is not None})
    summary = train(run, resume=True, attended=True)
    found = summary.comparison
    if not isinstance(found, Played):  # a warning has said why
        sys.exit(1)
    print(summary, flush=True)
    print(tables.report(str(folder), found), flush=True)
    rows = checkpoint.metrics(folder)
    record = {
        "gradients": rows[-1]["gradient_steps"],
        "exploitability": [row["exploitability"] for row in rows],
        "legal": [row["legal"] for row in rows],
        "bets": _bets(found),
        "payoff": found.opponents["start"].payoff,
    }
    (folder / "found.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    drawn, _ = plot.save(_figure(rows, record["bets"]), folder / "play")
    text = table_page.render(folder, found, figure=page.embedded(drawn.read_text(encoding="utf-8")))
    (folder / "page.html").write_text(text, encoding="utf-8")
    print(f"page      {folder / 'page.html'}")


def _bets(found: Played) -> dict[str, dict[str, float]]:
    """How often the model bets at each information state, before and after."""
    bets = [move for move in found.moves if move.said == "Bet"]
    return {
        "before": {move.state: move.before for move in bets},
        "after": {move.state: move.probability for move in bets},
    }


def _figure(rows: Sequence[Mapping[str, Any]], bets: Mapping[str, Mapping[str, float]]) -> Any:
    """The exploitability of each step, and bets beside the equilibrium with the same bluffs."""
    import matplotlib.pyplot as plt

    with plot.theme():
        figure, (left, right) = plt.subplots(1, 2, figsize=(10.0, 4.4), width_ratios=(1.0, 1.4))
        table_page.curve(left, rows)
        left.axhline(0.05, color=plot.GREY, linestyle="--")
        left.set(ylabel="exploitability, antes a game")
        after, before = bets["after"], bets["before"]
        bluff = min(after["0"], 1.0 / 3.0)
        for y, (label, (_, equilibrium)) in enumerate(QUESTIONS.items()):
            ends = sorted((equilibrium(0.0), equilibrium(1.0 / 3.0)))
            right.plot(ends, [y, y], color=plot.GREY, lw=6, alpha=0.4, solid_capstyle="round")
            right.plot(equilibrium(bluff), y, "|", color="black", ms=12)
            right.plot(before[label], y, "o", color=plot.ORANGE, mfc="none")
            right.plot(after[label], y, "o", color=plot.BLUE)
        for mark, name, color, fill in (
            ("o", "before", plot.ORANGE, "none"),
            ("o", "after", plot.BLUE, plot.BLUE),
            ("|", "equilibrium with its bluffs", "black", "black"),
        ):
            right.plot([], [], mark, color=color, mfc=fill, label=name)
        right.plot([], [], color=plot.GREY, lw=6, alpha=0.4, label="all equilibria")
        right.set(xlabel="probability", xlim=(-0.03, 1.03))
        right.set_yticks(range(len(QUESTIONS)), [name for name, _ in QUESTIONS.values()])
        right.invert_yaxis()
        right.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
    return figure


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
