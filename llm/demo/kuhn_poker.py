"""A language model learns Kuhn poker, in English, on a CPU: `make llm-poker`.

SmolLM2 is told its card and what was said, and answers "Pass" or "Bet". It plays both seats against
itself. After every step its exploitability is computed exactly. Claim: it comes to play like one of
the equilibria, which bluff with a jack, and now and then pass a king.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tyro

import mpo_games as mg
from mpo_games import plot
from mpo_llm import Adam, Decoding, Following, TokenPolicy, TransformersNetwork, constant, sample
from mpo_llm.config import ModelConfig
from mpo_llm.networks import loading
from mpo_llm.results import page
from mpo_llm.trees import Fit, TextTreeGame, TreePolicy, kuhn, legal

SOLVER = mg.MMD(
    1.0, 0.1, magnet=mg.Every(20, floor=0.05), feedback=mg.optimistic, geometry=mg.smoothed
)
"""Optimistic MPO in the geometry in which actions that were given up come back."""

FIT = Fit(
    Following(
        Adam(12, 1e-3, constant, betas=(0.9, 0.99), clip=1.0, keep_first=True),
        slope=0.02,
        until=0.25,
    ),
    unreached=0.05,
    uniform=0.01,
)
"""A step is fitted until three quarters of the way are gone, by at most twelve gradients."""

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
    folder: Path = Path("runs/poker"),
    steps: int = 30,
    model: str = "smollm2",
    lora_top: int = 10,
    seed: int = 0,
) -> None:
    """Train or resume, and write `page.html`, `found.json` and `play.svg` to FOLDER.

    Args:
        folder: the folder of the run and of the results.
        steps: the number of mirror steps.
        model: a name or folder of a causal language model.
        lora_top: adapters are trained in so many of the uppermost blocks.
        seed: draws the first weights of the adapters.
    """
    folder.mkdir(parents=True, exist_ok=True)
    game, tokenizer = _game(model, lora_top, seed)
    start = game.initial_policy()
    saved = folder / "run.npz"
    taught = None
    if not saved.exists():
        print(_line("start", game, start), flush=True)
        # First of all the answers that the rules allow: uniform play.
        taught = start.towards(game.tree.initial_policy())
        print(_line("uniform", game, taught), flush=True)
    run = mg.solve(
        game,
        SOLVER,
        # What changing the geometry costs is charged as well, at the start and at every move.
        float(steps + 1 + steps // 20),
        policy=taught,
        at=range(2 * steps),
        metrics={"gap": mg.metrics.duality_gap, "legal": legal},
        checkpoint=saved,
        checkpoint_every=0.0,
        resume=True,
        callback=lambda so: print(_line(f"{so.state.step}", game, so.policy), flush=True),
    )
    bets = {
        name: _bets(game, policy) for name, policy in (("before", start), ("after", run.policy))
    }
    record = {
        "exploitability": (0.5 * np.asarray(run.trace.columns["gap"])).tolist(),
        "legal": np.asarray(run.trace.columns["legal"]).tolist(),
        "bets": bets,
    }
    (folder / "found.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    drawn, _ = plot.save(_figure(record["exploitability"], bets), folder / "play")
    text = _page(game, start, run.policy, tokenizer, record, drawn.read_text(encoding="utf-8"))
    (folder / "page.html").write_text(text, encoding="utf-8")
    print(f"page      {folder / 'page.html'}")


def _game(model: str, lora_top: int, seed: int) -> tuple[TextTreeGame, Any]:
    settings = ModelConfig(model, lora_rank=8, lora_top=lora_top)
    module, tokenizer = loading.load(settings, seed)
    describe, say = kuhn().encoded(tokenizer)
    tree = mg.load("kuhn_poker")
    longest = max(len(say(label, action)) for label in QUESTIONS for action in (0, 1))
    start = TokenPolicy.of(TransformersNetwork(module), Decoding(max_tokens=longest))
    return TextTreeGame(tree, start, describe, say, fit=FIT), tokenizer


def _line(name: str, game: TextTreeGame, policy: TreePolicy) -> str:
    exploitability = 0.5 * float(game.duality_gap(policy))
    return f"{name:8} exploitability {exploitability:.4f}, legal {policy.legal.mean():.4f}"


def _bets(game: TextTreeGame, policy: TreePolicy) -> dict[str, float]:
    """How often the policy bets at each information state."""
    # Bet is the second action everywhere.
    last = game.tree.tree.offset[1:] - 1
    return dict(zip(game.tree.tree.labels, policy.probs[last].tolist(), strict=True))


def _page(
    game: TextTreeGame,
    start: TreePolicy,
    policy: TreePolicy,
    tokenizer: Any,
    record: Mapping[str, Any],
    drawn: str,
) -> str:
    labels = list(QUESTIONS)
    prompts = [game.answers.listed[0].prompts[game.tree.tree.labels.index(x)] for x in labels]
    said = []
    for each in (start, policy):
        # The same random numbers for both.
        rows = sample(each.tokens[0], prompts, 8, np.random.default_rng(0))
        texts = [tokenizer.decode(rows.ids(i)).strip() for i in range(len(rows))]
        said.append([", ".join(texts[8 * i : 8 * i + 8]) for i in range(len(labels))])
    told = [kuhn().describe(label) for label in labels]
    # The record begins after the first fit, and the page with the model as it was.
    untaught, learned = 0.5 * float(game.duality_gap(start)), record["exploitability"][-1]
    advantage = game.advantage(policy, start)
    return page.document(
        "A language model learns Kuhn poker",
        {
            "Exploitability after each step, and how often it bets": page.embedded(drawn),
            "In numbers": page.table(
                ("", "before", "after"),
                [
                    ("exploitability, in antes a game", f"{untaught:.4f}", f"{learned:.4f}"),
                    *(
                        (f"legal answers, {name}", f"{a:.4f}", f"{b:.4f}")
                        for name, a, b in (
                            ("mean", start.legal.mean(), policy.legal.mean()),
                            ("least", start.legal.min(), policy.legal.min()),
                        )
                    ),
                    ("wins against the start, antes a game", "0", f"{advantage:+.3f}"),
                ],
            ),
            "What it says, eight draws": page.table(
                ("is told", "before", "after"), list(zip(told, *said, strict=True))
            ),
        },
        f"{SOLVER}\n{FIT}",
    )


def _figure(gaps: list[float], bets: Mapping[str, Mapping[str, float]]) -> Any:
    """The exploitability of each step, and bets beside the equilibrium with the same bluffs."""
    import matplotlib.pyplot as plt

    with plot.theme():
        figure, (left, right) = plt.subplots(1, 2, figsize=(10.0, 4.4), width_ratios=(1.0, 1.4))
        left.plot(np.arange(len(gaps)), gaps, color=plot.BLUE)
        left.axhline(0.05, color=plot.GREY, linestyle="--")
        left.set(xlabel="step", ylabel="exploitability, antes a game", yscale="log")
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
