"""In three more games MPO is exact with unit weights; so is optimism without a magnet, and sooner.

The methods, the tuning and the drawing are those of `poker`. The games are liar's dice with one
four-sided die each, 2 x 2 dark hex (abrupt: a blocked move loses the turn), and goofspiel with four
cards in descending order and hidden bids. Liar's dice is as large as Leduc, so what is hard in
Leduc is not its size. By evaluations AutoMPO arrives first on liar's dice and goofspiel; on dark
hex optimism alone needs fewer.
"""

from __future__ import annotations

from typing import Any

from experiments.lab import poker_contest, poker_panels
from experiments.lab.harness import Claim, Run

TITLE = "Three more games on trees"
CORE = False
SEED = 0
"""Nothing is random here."""

GAMES = ("liar's dice(4)", "dark hex", "goofspiel(4)")


def compute(quick: bool, run: Run) -> dict[str, Any]:
    """The contests."""
    return {"games": poker_contest.contests(GAMES, 100.0 if quick else 20_000.0, run)}


def plot(results: dict[str, Any]) -> Any:
    """A row per game."""
    return poker_panels.figure(results["games"])


def claims(results: dict[str, Any]) -> list[Claim]:
    """The last iterates after 20000 evaluations: the worst or the best of the three games."""

    def ends(method: str) -> list[float]:
        return [poker_panels.reached(found[method], 20_000) for found in results["games"].values()]

    exact = {
        "MPO": "MPO's last iterate",
        "Optimistic MPO, weighted": "optimistic MPO's last iterate with payoff-scaled weights",
        "Optimistic MD": "optimistic mirror descent's last iterate, without a magnet",
    }
    where = "Liar's dice, dark hex, goofspiel: "
    auto = max(ends("AutoMPO"))
    plain, fixed = min(ends("MD") + ends("GDA, policy gradient")), min(ends("MMD"))
    return [
        *(
            Claim("MPO", f"{where}{words}", "exploitability < 1e-12", worst, worst < 1e-12)
            for method, words in exact.items()
            for worst in [max(ends(method))]
        ),
        Claim(
            "ours",
            f"{where}AutoMPO's last iterate stays where it arrived",
            "exploitability < 1e-12",
            auto,
            auto < 1e-12,
        ),
        Claim(
            "MPO",
            f"{where}mirror descent and policy gradient do not arrive (the lowest)",
            "exploitability > 0.01",
            plain,
            plain > 1e-2,
        ),
        Claim(
            "MPO",
            f"{where}MMD with a fixed magnet stops short (the lowest)",
            "exploitability > 1e-3",
            fixed,
            fixed > 1e-3,
        ),
    ]
