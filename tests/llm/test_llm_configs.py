"""The paper's experiments, end to end on a tiny model and the bundled data of the same format."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import transformers
import yaml

import mpo_games as mg
import tiny
from mpo_llm import cli
from mpo_llm.feedback import against_start
from mpo_llm.training import checkpoint, config_file

CONFIGS = Path(__file__).parents[2] / "llm" / "configs"
DATA = CONFIGS.parent / "data"
LARGE = ("safety.yaml", "general.yaml")

TABLE = re.findall(r"^\| ([^|`]+) \| `(--[^`]+)` \|$", (CONFIGS / "README.md").read_text(), re.M)
METHODS = {name: shlex.split(options) for name, options in TABLE}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, and what `fit-preferences` makes of the bundled comparisons."""
    folder = tmp_path_factory.mktemp("paper")
    tiny.save(folder / "model")
    arguments = [str(DATA / "safety_pairs.jsonl"), str(folder / "preferences")]
    settings = ["--model", str(folder / "model"), "--label", "safer_response_id"]
    fit = ["--fit.planes", "1", "--fit.held-out", "0.2", "--fit.epochs", "3"]
    assert cli.main(["fit-preferences", *arguments, *settings, *fit]) == 0
    return folder


def small(bench: Path, name: str, run: str) -> Path:
    """The configuration as it is, but for the weights, the data and the size."""
    found: dict[str, Any] = yaml.safe_load((CONFIGS / name).read_text())
    found["model"] = {"name": str(bench / "model"), "lora_rank": found["model"].get("lora_rank", 0)}
    found["prompts"] |= {"source": str(DATA / "safety_pairs.jsonl"), "split": "train"}
    found["generation"]["max_tokens"] = 4
    found["solver"] |= {"samples": 4, "prompts": 2}
    found["judge"] = {
        "factory": "mpo_llm.judges:preference_model",
        "options": {"path": str(bench / "preferences" / "pairwise"), "device": "cpu"},
    }
    found["budget"] = {"steps": 2}
    found["evaluation"] = {"source": str(DATA / "safety_prompts.jsonl"), "every": 2, "limit": 2}
    found["output"] = {"folder": str(bench / run), "checkpoint_every": 1, "trackers": []}
    path = bench / f"{run}.yaml"
    path.write_text(yaml.safe_dump(found))
    return path


@pytest.mark.parametrize("name", [*LARGE, "safety-small.yaml"])
def test_the_settings_are_settings(name: str) -> None:
    config_file.load(CONFIGS / name)


@pytest.mark.parametrize("name", LARGE)
def test_every_value_names_its_source(name: str) -> None:
    lines = (CONFIGS / name).read_text().splitlines()
    assert [line for line in lines if re.match("  [a-z]", line) and " # " not in line] == []


def test_all_methods_are_there() -> None:
    assert set(METHODS) >= {"MPO", "MPO-RT", "no self-play", "SPPO", "INPO", "iterative DPO"}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains(method: str, bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps that move the policy, each other method elsewhere."""
    # The tests below draw the curves of the page, which takes longer than a run.
    monkeypatch.setattr("mpo_llm.results.page.drawing", lambda figure: plt.close(figure) or "")
    run = "run-" + re.sub(r"\W", "-", method)
    assert cli.main(["train", str(small(bench, "safety.yaml", run)), *METHODS[method]]) == 0
    rows = [json.loads(line) for line in (bench / run / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 2
    assert np.isfinite([row["kl_step"] for row in rows]).all()
    assert "win_rate" in rows[-1]


def test_without_self_play_a_best_response_is_learned() -> None:
    """In a table: to the start, which is Borda's winner, however it is exploited."""
    cycle = [[0.5, 0.9, 0.2], [0.1, 0.5, 0.9], [0.8, 0.1, 0.5]]
    game = mg.PreferenceGame(cycle)
    solver = mg.MMD(1.0, 0.0, feedback=against_start)
    solution = mg.solve(game, solver, budget=1000)
    winner = mg.cyclicity.report(game).contexts[0].borda_winner
    assert solution.policy.probs[0, winner] > 0.999
    assert solution.gap / 2 == pytest.approx(max(0.5 - p for p in cycle[winner]), abs=1e-3)


def test_general(bench: Path) -> None:
    assert cli.main(["train", str(small(bench, "general.yaml", "general"))]) == 0
    exported = bench / "general-hf"
    assert cli.main(["export", str(bench / "general"), str(exported)]) == 0
    transformers.AutoModelForCausalLM.from_pretrained(exported)


def test_the_evaluation_of_safety(bench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Categories, lengths, costs, and the league of a run and a baseline."""
    for run, options in (("mpo", []), ("rt", METHODS["MPO-RT"])):
        path = small(bench, "safety-small.yaml", run)
        assert cli.main(["train", str(path), *options]) == 0
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(tiny.WORDS), hidden_size=16, intermediate_size=24, num_labels=1,
        num_hidden_layers=1, num_attention_heads=2, pad_token_id=0,
    )  # fmt: skip
    transformers.LlamaForSequenceClassification(config).save_pretrained(bench / "cost")
    tiny.tokenizer().save_pretrained(bench / "cost")
    out = bench / "safety.json"
    arguments = ["evaluate", str(bench / "mpo"), "--against", "start", str(bench / "rt")]
    prompts = ["--prompts", str(DATA / "safety_prompts.jsonl"), "--category", "category"]
    cost = ["--score", "mpo_llm.judges:score", "--score-options", f"path={bench / 'cost'}"]
    device = ["device=cpu"]
    settings = ["--samples", "2", "--limit", "16", "--out", str(out)]
    assert cli.main([*arguments, *prompts, *cost, *device, *settings]) == 0
    found = json.loads(out.read_text())
    kinds = {
        json.loads(row)["category"]
        for row in (DATA / "safety_prompts.jsonl").read_text().splitlines()
    }
    assert len(kinds) == 8
    for opponent in found["opponents"].values():
        assert set(opponent["categories"]) == kinds
    assert set(found["scores"]) == {str(bench / "mpo"), "start", str(bench / "rt")}
    for score in found["scores"].values():
        shares = [score["categories"][kind]["value"] for kind in kinds]
        assert np.mean(shares) == pytest.approx(score["positive"]["value"])
    assert "score of start: mean" in capsys.readouterr().out
    assert cli.main(["league", str(bench / "mpo"), "--others", str(bench / "rt")]) == 0
    assert checkpoint.last(bench / "mpo").name in capsys.readouterr().out
