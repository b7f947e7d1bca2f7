"""A real model whose equilibrium is known: `make llm-demo-rps`.

A response is rock, paper or scissors by the criterion at which it is best: positivity, brevity or
relevance. In every equilibrium a third of the responses is of each class. The model starts with
mostly brief answers.

Claim: on these preferences, which have cycles, MPO moves the shares of the classes towards 1/3
each. On a single reward, the mean of the three scores, the same solver ends in one class.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from mpo_games import plot
from mpo_games.protocol import Array
from mpo_llm.config import Config, JudgeConfig
from mpo_llm.engines import sample
from mpo_llm.estimates import Estimate, clustered
from mpo_llm.judges.named import standardised
from mpo_llm.prompts import load as load_prompts
from mpo_llm.results import page
from mpo_llm.rows import complete_lines
from mpo_llm.training import assemble, checkpoint, config_file
from mpo_llm.training.train import train

HERE = Path(__file__).parent
CLASSES = ("positive", "brief", "relevant")
PREFERENCES, REWARD = "MPO on preferences", "on the mean score"
SMOOTHED = 5
"""Steps in the running mean of the shares in the figure."""


@dataclass(frozen=True, slots=True)
class Shares:
    """The shares of the responses to held-out prompts that are best at each of the criteria."""

    positive: Estimate
    brief: Estimate
    relevant: Estimate

    @property
    def each(self) -> tuple[Estimate, ...]:
        """The three shares, in the order of `CLASSES`."""
        return self.positive, self.brief, self.relevant

    @property
    def apart(self) -> float:
        """The largest distance of a share from 1/3."""
        return max(abs(e.value - 1 / 3) for e in self.each)


def main(
    config: Path = HERE / "rock_paper_scissors.yaml",
    folder: Path = Path("runs/demo-rps"),
    steps: int | None = None,
    samples: int = 8,
) -> None:
    """Train or resume both runs, measure their shares, and write a page about them.

    FOLDER then holds `page.html`, `shares.json`, `shares.svg`, `shares.png` and the folders of both
    runs.

    Args:
        config: the configuration of the run on preferences.
        folder: the folder of all results.
        steps: the number of mirror steps; as in the configuration when None.
        samples: responses of each policy to each held-out prompt, after training.
    """
    run = config_file.load(config)
    if steps is not None:
        run = replace(run, budget=replace(run.budget, steps=steps))
    # The same criteria in the same units: only what the judge makes of them differs.
    score = JudgeConfig("mpo_llm.judges:mean_score", run.judge.options)
    runs = {PREFERENCES: _into(run, folder / "mpo"), REWARD: _into(run, folder / "reward", score)}
    for name, each in runs.items():
        print(f"{name}\n{train(each, resume=True)}", flush=True)
    found, answers = _held_out(runs, samples)
    for name, shares in found.items():
        print(
            f"{name:20} " + ", ".join(f"{c} {e}" for c, e in zip(CLASSES, shares.each, strict=True))
        )
    paths = {name: _on_the_way(each) for name, each in runs.items()}
    record = {"shares": {name: asdict(s) for name, s in found.items()}, "steps": paths}
    (folder / "shares.json").write_text(json.dumps(record, default=np.ndarray.tolist) + "\n")
    drawn, _ = plot.save(_figure(paths), folder / "shares")
    text = _page(run, found, drawn.read_text(encoding="utf-8"), answers)
    (folder / "page.html").write_text(text, encoding="utf-8")
    print(f"page      {folder / 'page.html'}")


def _into(run: Config, folder: Path, judge: JudgeConfig | None = None) -> Config:
    return replace(run, output=replace(run.output, folder=folder), judge=judge or run.judge)


def _on_the_way(run: Config) -> Array:
    """The shares of the classes among the responses of each recorded step, `(steps, 3)`."""
    best_at = standardised(**run.judge.options).best_at
    shares: dict[int, Array] = {}
    for line in complete_lines(run.output.folder / "samples.jsonl"):
        entry = json.loads(line)
        texts = [response["text"] for response in entry["responses"]]
        classes = best_at([entry["prompt"]] * len(texts), texts)
        step = shares.setdefault(entry["step"], np.zeros(len(CLASSES)))
        np.add.at(step, classes, [response["share"] for response in entry["responses"]])
    return np.array([shares[step] / shares[step].sum() for step in sorted(shares)])


def _held_out(
    runs: dict[str, Config], samples: int
) -> tuple[dict[str, Shares], list[tuple[str, ...]]]:
    """The shares of the start model and of both runs on held-out prompts, and sample answers.

    The answers are tuples of a prompt and one response of each policy, with its class.
    """
    run = runs[PREFERENCES]
    start, tokenizer = assemble.start(run)
    asked = load_prompts(replace(run.prompts, source=run.evaluation.source), tokenizer)
    best_at = standardised(**run.judge.options).best_at
    # Every policy draws by the same random numbers, so they do not make the difference.
    policies = {"start": start}
    policies |= {n: checkpoint.policy_of(str(r.output.folder), start) for n, r in runs.items()}
    found, columns = {}, [list(asked.texts)]
    engine = assemble.engine(run)
    for name, policy in policies.items():
        drawn = sample(policy, asked.ids, samples, np.random.default_rng(0), engine)
        texts = [assemble.answer(policy, tokenizer, drawn.ids(i)) for i in range(len(drawn))]
        classes = best_at([asked.texts[x] for x in drawn.prompt_of], texts)
        found[name] = Shares(
            *(clustered((classes == k).astype(float), drawn.prompt_of) for k in range(len(CLASSES)))
        )
        # Responses stand prompt by prompt: the first to each prompt goes into the table.
        columns.append(
            [f"{texts[i]} [{CLASSES[classes[i]]}]" for i in range(0, len(drawn), samples)]
        )
    return found, list(zip(*columns, strict=True))


def _page(run: Config, found: dict[str, Shares], drawn: str, answers: list[tuple[str, ...]]) -> str:
    """The page: the shares at the end, the figure of the shares on the way, and sample answers."""
    rows = [(name, *shares.each, f"{shares.apart:.2f}") for name, shares in found.items()]
    return page.document(
        "Rock, paper, scissors on a language model",
        {
            "Shares on held-out prompts, ± 95 %; in equilibrium each is 1/3": page.table(
                ("", *CLASSES, "largest distance from 1/3"), rows
            ),
            f"Shares during training, means of {SMOOTHED} steps": page.embedded(drawn),
            "Answers, and what each is best at": page.table(("prompt", *found), answers[:8]),
        },
        run,
    )


def _figure(paths: dict[str, Array]) -> Any:
    """The shares of the steps, smoothed, in the triangle of the classes; a panel for each run."""
    import matplotlib.pyplot as plt
    import mpltern  # noqa: F401 (registers the projection)

    with plot.theme():
        figure, axes = plt.subplots(1, 2, figsize=(8.4, 4.2), subplot_kw={"projection": "ternary"})
        for ax, (name, shares) in zip(axes, paths.items(), strict=True):
            window = min(SMOOTHED, len(shares))
            smooth = np.lib.stride_tricks.sliding_window_view(shares, window, axis=0).mean(axis=-1)
            plot.simplex(
                {name: smooth}, ax=ax, points={"1/3 each": np.full(3, 1 / 3)}, corners=CLASSES
            )
            ax.set_title(name, loc="center", pad=30)
    return figure


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
