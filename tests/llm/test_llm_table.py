"""A run that plays a game of hidden information: training, results, and what is refused."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mpo_games as mg
from mpo_games.games import openspiel
from mpo_llm import ON_EPISODES, ON_TREES, cli
from mpo_llm.config import Config
from mpo_llm.results import tables as results
from mpo_llm.training import checkpoint, config_file, tables
from mpo_llm.training.plan import plan
from mpo_llm.training.sweep import sweep, variants
from mpo_llm.training.train import Run, train
from mpo_llm.trees import Pooled
from poker import config
from runs import lines, same
from spoken import END, speller

ROOT = Path(__file__).parents[2]
GUIDE, DEMO = ROOT / "docs" / "guides" / "poker_table.md", ROOT / "llm" / "demo"

SETTINGS: dict[str, dict[str, Any]] = {
    "auto": {},
    "auto, episodes": {"game": {"name": "kuhn_poker", "episodes": 50, "explore": 0.4}},
    "optimistic MPO": {"solver": {"algorithm": "optimistic_mpo", "magnet": {"every": 2}}},
    "MPO-RT, episodes": {
        "game": {"name": "kuhn_poker", "episodes": 50, "estimate": "balanced"},
        "solver": {"algorithm": "mpo_rt", "magnet": {"every": 2}},
    },
    "auto, episodes by an engine": {
        "game": {"name": "kuhn_poker", "episodes": 20, "draws": "engine"}
    },
    "Nash-MD": {"solver": {"algorithm": "nash_md"}},
    "half steps, drifting magnet": {
        "solver": {"feedback": "half_step", "magnet": {"weight_ema": 0.1}}
    },
    "MMD, when the gap fell": {"solver": {"magnet": {"when_gap_fell": 0.9}, "eta": 2.0}},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps, with three checkpoints."""
    folder = tmp_path_factory.mktemp("table") / "run"
    for steps in (1, 4):
        train(config(folder, steps), resume=True)
    return folder


@pytest.mark.parametrize("name", SETTINGS)
def test_a_resumed_run_is_the_uninterrupted_one(name: str, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(config(whole, 4, **SETTINGS[name]))
    # A checkpoint at the third step is no regular one.
    for steps in (3, 4):
        train(config(parts, steps, **SETTINGS[name]), resume=True)
    same(whole, parts, 4)


def test_a_step_that_fails_loses_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(config(whole))
    found = Run.of(config(parts))
    found.open()
    row = type(found.subject).row

    def stop(self: Any, state: Any, ledger: Any) -> Any:
        if state.step == 3:
            raise KeyboardInterrupt
        return row(self, state, ledger)

    monkeypatch.setattr(type(found.subject), "row", stop)
    with pytest.raises(KeyboardInterrupt) as error:
        found.go()
    assert "Step 2 is saved" in error.value.__notes__[0]
    monkeypatch.undo()
    train(config(parts), resume=True)
    same(whole, parts, 3)


def test_a_run_takes_the_steps_of_the_core(tmp_path: Path) -> None:
    """`mg.solve` from the same start, after the same lesson, records the same gaps."""
    settings = config(tmp_path, 4, solver={"algorithm": "optimistic_mpo", "magnet": {"every": 2}})
    train(settings)
    table = tables.table(settings)
    game = table.game
    taught = game.initial_policy().towards(game.tree.initial_policy())
    solver = mg.MMD(
        1.0, 0.1, magnet=mg.Every(2, floor=0.05), feedback=mg.optimistic, geometry=mg.smoothed
    )
    assert tables.chosen(settings, game) == solver
    states = mg.iterate(game, solver, policy=taught)
    # The record begins after the lesson.
    assert [row["step"] for row in lines(tmp_path)] == [0, 1, 2, 3, 4]
    for row in lines(tmp_path):
        state = next(states)
        assert row["exploitability"] == 0.5 * float(game.duality_gap(state.policy))
        assert row["legal"] == float(np.mean(state.policy.legal))
        assert row["evaluations"] == state.evaluations
        assert row["gradient_steps"] == 3 * (state.step + 1)


def test_what_a_solver_is_on_a_game(tmp_path: Path) -> None:
    exact, episodes = {"name": "kuhn_poker"}, {"name": "kuhn_poker", "episodes": 9}

    def chosen(game: dict[str, Any], **solver: Any) -> Any:
        settings = config(tmp_path, game=game, solver=solver)
        return tables.chosen(settings, tables.table(settings).game)

    assert chosen(exact) == ON_TREES
    assert chosen(episodes) == ON_EPISODES
    assert chosen(exact, eta=2.0) == mg.MMD(2.0, 0.1, geometry=mg.smoothed)
    mixed = mg.NashMD(0.5, 0.1)
    assert chosen(exact, algorithm="nash_md", eta=0.5) == replace(mixed, geometry=mg.smoothed)
    pooled = chosen(episodes, algorithm="optimistic_mpo")
    assert pooled.feedback == Pooled(mg.optimistic)


def test_episodes_are_counted_and_limited(tmp_path: Path) -> None:
    game = {"name": "kuhn_poker", "episodes": 30}
    summary = train(config(tmp_path, game=game, budget={"steps": None, "episodes": 70}))
    assert summary.reached == "episodes"
    assert [row["episodes"] for row in lines(tmp_path)] == [0, 30, 60, 90]
    assert "samples" not in summary.counts


def test_exploitability_is_that_of_the_exported_table(run: Path) -> None:
    """By the core, and by OpenSpiel."""
    found = results.evaluate(str(run))
    tree = mg.load("kuhn_poker")
    probs = np.array([1.0, 1.0, *(move.probability for move in found.moves)])
    table = mg.TreeplexPolicy.from_probs(tree.tree, tree.geometry, probs)
    assert found.exploitability == pytest.approx(0.5 * float(tree.duality_gap(table)), abs=1e-9)
    assert found.exploitability == lines(run)[-1]["exploitability"]
    exploit = pytest.importorskip("open_spiel.python.algorithms.exploitability")
    theirs = openspiel.to_openspiel("kuhn_poker", tree, table)
    said = exploit.exploitability(openspiel.turn_based("kuhn_poker"), theirs)
    assert found.exploitability == pytest.approx(float(said), abs=1e-9)
    # Against the start: the value of the two tables, seat by seat.
    before = np.array([1.0, 1.0, *(move.before for move in found.moves)])
    start = mg.TreeplexPolicy.from_probs(tree.tree, tree.geometry, before)
    first = float(table.plan @ tree.feedback(table, start, player=0))
    second = -float(start.plan @ tree.feedback(start, table, player=0))
    opponent = found.opponents["start"]
    assert opponent.seats == pytest.approx((first, second), abs=1e-12)
    assert opponent.payoff == pytest.approx(0.5 * (first + second), abs=1e-12)


def test_a_league_is_antisymmetric_up_to_seats(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    train(config(other, 2, seed=7))
    found = results.league(str(run), (str(other),))
    last = "step-000004"
    assert found.names == ("start", str(other), "step-000001", "step-000002", last)
    payoffs, first = np.array(found.payoffs), np.array(found.first_seat)
    np.testing.assert_array_equal(payoffs, -payoffs.T)
    # What one seat wins, the other loses: so against itself a policy has its value, and wins 0.
    np.testing.assert_array_equal(payoffs, 0.5 * (first - first.T))
    assert first[-1, -1] == pytest.approx(results.evaluate(str(run)).value, abs=1e-12)
    # The entrant that the pool's equilibrium needs is beaten by no entrant, up to rounding.
    mass = np.array([found.equilibrium[name] for name in found.names])
    assert (mass @ payoffs).min() >= -1e-9
    # A best response of all policies wins at least what the best rival does.
    for j, name in enumerate(found.names):
        assert payoffs[:, j].max() <= found.exploitability[name] + 1e-12
    assert found.mixture >= 0.0
    every = results.league(str(run), every=2)
    assert every.names == ("start", "step-000001", last)


def test_the_command_line(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*words: str, code: int = 0) -> str:
        assert cli.main(list(words)) == code
        out, errors = capsys.readouterr()
        return errors if code else out

    text = said("evaluate", str(run), "--out", str(tmp_path / "found.json"))
    assert f"{run}: kuhn_poker, 12 information states; all numbers are exact" in text
    assert "against start" in text
    assert len([line for line in text.splitlines() if "Bet " in line]) == 12
    assert json.loads((tmp_path / "found.json").read_text())["legal"] == pytest.approx(1.0)
    text = said("league", str(run), "--every", "3")
    assert "start is" not in text
    assert text.splitlines()[-1].startswith("step-000004 ")
    said("page", str(run), "--out", str(tmp_path / "page.html"), "--league")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 1
    # There is no language to speak.
    assert "What it says" not in page
    assert "Its checkpoints against each other" in page
    # What has no meaning for a game is refused.
    assert "`--samples` is for runs on texts" in said(
        "evaluate", str(run), "--samples", "9", code=2
    )
    assert "does not chat" in said("chat", str(run), code=2)
    assert "Only models of transformers" in said("export", str(run), str(tmp_path / "x"), code=2)


def test_a_dry_run_and_a_sweep(tmp_path: Path) -> None:
    settings = config(tmp_path / "run", 1)
    found = plan(settings)
    assert (found.gradients, found.steps) == (3, 1)
    assert "12 information states with 24 answers" in str(found)
    assert not (tmp_path / "run").exists()
    runs = sweep(variants(settings, {"game.lessons": [0, 1]}), backend="threading")
    assert [", exploitability" in run.said for run in runs] == [True, True]


def test_leduc_and_dice_in_tokens_of_their_own(tmp_path: Path) -> None:
    for name, states in (("leduc_poker", 936), ("liars_dice(dice_sides=2)", 32)):
        table = tables.table(config(tmp_path, game={"name": name}))
        assert table.game.tree.tree.states == states
        # Not every action is legal everywhere, and the first policy does not know where.
        assert table.game.initial_policy().legal.min() < 0.9


def test_answers_that_begin_alike_are_ended(tmp_path: Path) -> None:
    """A game of one's own, as a file of Gambit, told by its own words."""
    bob = mg.Decision(1, "Bob", {"Bet": mg.Payoff(1), "Bet more": mg.Payoff(-1)})
    game = mg.build_tree(mg.Decision(0, "Ann", {"Pass": mg.Payoff(0), "Bet": bob}))
    path = tmp_path / "own.efg"
    path.write_text(mg.to_efg(game, "own", players=("Ann", "Bob")))
    model = {"name": str(speller(tmp_path / "model"))}
    own = {"name": str(path), "wording": "verbatim"}
    table = tables.table(config(tmp_path / "run", model=model, game=own))
    (answers,) = table.game.answers.listed
    assert {answers.ids(i)[-1] for i in range(len(answers))} == {END}
    assert table.game.start[0].decoding.ends == (END,)
    assert {table.said("Bob", a) for a in ("Bet", "Bet more")} == {"Bet", "Bet more"}
    # "Pass" and "Bet" need no end, and the measured runs of the demo have none.
    table = tables.table(config(tmp_path / "run", model=model))
    assert table.game.start[0].decoding.ends == ()
    assert table.game.start[0].decoding.max_tokens == 4


def test_the_guide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its file and its three commands, on a tiny model and with fewer steps."""
    text = GUIDE.read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    speller(tmp_path / "model")
    file = re.findall(r"```yaml\n(.*?)```", text, re.S)[0]
    assert len(file.splitlines()) <= 12
    # The same settings as in the demo, which have been measured.
    demo = config_file.load(DEMO / "kuhn_poker.yaml")
    ours = config_file.read(file.encode())
    for name in ("model", "game", "solver", "fit", "budget", "evaluation"):
        assert getattr(ours, name) == getattr(demo, name), name
    for old, new in (
        ("smollm2", "model"),
        ("lora_top: 10", "lora_top: 1"),
        ("steps: 30", "steps: 2"),
    ):
        assert old in file
        file = file.replace(old, new)
    Path("poker.yaml").write_text(file)
    commands = re.findall(r"```sh\n(.*?)```", text, re.S)[0].splitlines()
    assert len(commands) == 3
    for command in commands:
        program, *words = shlex.split(command)
        assert program == "mpo-llm"
        assert cli.main(words) == 0, capsys.readouterr().err
        assert "exploitability" in capsys.readouterr().out
    page = Path("runs/poker/page.html").read_text(encoding="utf-8")
    assert "What it says, 8 draws" in page
    # Twice for its moves, once for what is said.
    assert page.count("<td>Your card: king. The other player bet. Pass or bet?") == 3
    rows = lines(Path("runs/poker"))
    # Of all the characters that could be said, "Pass" and "Bet" are hardly any at first.
    assert rows[0]["legal"] < rows[-1]["legal"]
    # The settings in its table, one by one.
    for row in re.findall(r"^\| .* \| (.*) \|$", text, re.M):
        for setting in re.findall(r"`(\w+: .+?)`", row):
            name = "" if "episodes: 20000" not in setting else "game: {name: x, episodes: 9}\n"
            base = "" if setting.startswith("game") else name or "game: x\n"
            config_file.read(f"{base}{setting}\n".encode())


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "prompts": ({"prompts": {"source": "x.jsonl"}}, "takes the place of `prompts` and `judge`"),
    "a judge": ({"judge": {"factory": "a:b"}}, "takes the place of `prompts` and `judge`"),
    "a step": ({"step": {"epochs": 3}}, "is said by `fit`"),
    "held-out prompts": ({"evaluation": {"source": "x"}}, "no held-out prompts"),
    "a pool": ({"solver": {"pool": 3}}, "`solver.pool` cannot be set together with `game.name`"),
    "an engine": ({"generation": {"engine": "vllm"}}, "`generation.engine` cannot be set"),
    "a method for texts": ({"solver": {"algorithm": "sppo"}}, "choose one of auto, mmd, mpo, "),
    "what auto decides": ({"solver": {"algorithm": "auto", "eta": 1.0}}, "is decided by"),
    "no episodes": ({"budget": {"episodes": 9}}, "set `game.episodes`, too"),
    "exploration": ({"game": {"name": "kuhn_poker", "explore": 0.1}}, "set `game.episodes`, too"),
    "a game without a name": ({"game": {"episodes": 9}}, "set `game.name`"),
    "words": ({"game": {"name": "kuhn_poker", "wording": "english"}}, "it reads `compact`"),
    "compact": (
        {"model": {"name": "smollm2"}, "game": {"name": "kuhn_poker", "wording": "compact"}},
        "it reads `english` or `verbatim`",
    ),
    "adapters": ({"model": {"name": "small_transformer", "lora_rank": 2}}, "has no `model.lora_r"),
    "a fit without a game": ({"game": {}, "model": {}}, "`fit` is for a game"),
    "a floor without a game": (
        {"game": {}, "model": {}, "fit": {}, "solver": {"floor": 0.1}},
        "`solver.floor` is for a game",
    ),
    "a small model without a game": ({"game": {}, "fit": {}}, "is for a game of hidden"),
    "an unknown game": ({"game": "kuhn_pokre"}, "did you mean kuhn_poker"),
    "a matrix": ({"game": "biased_rps"}, "no game of moves and hidden information"),
    "three players": ({"game": "kuhn_poker(players=3)"}, "players"),
    "no English": (
        {"game": "go_fish(ranks=2,suits=2,initial_cards=1)", "model": {"name": "smollm2"}},
        "no English words for",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str, tmp_path: Path) -> None:
    sections, message = REFUSED[case]
    with pytest.raises(ValueError, match=message) as error:
        Run.of(config(tmp_path / "run", **sections))
    assert str(error.value).endswith((".", "?"))
    assert not (tmp_path / "run").exists()


def test_another_game_and_another_seat_are_refused(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "dice"
    train(config(other, 1, game="liars_dice(dice_sides=2)"))
    with pytest.raises(ValueError, match="only players of the same game can meet"):
        results.evaluate(str(run), (str(other),))
    with pytest.raises(ValueError, match=r"begun with another `game.name`"):
        train(config(run, 5, game="liars_dice(dice_sides=2)"), resume=True)
    with pytest.raises(ValueError, match="begun with another `seed`"):
        train(config(run, 5, seed=3), resume=True)


def test_a_file_names_the_game_in_a_word(tmp_path: Path) -> None:
    settings = config_file.read(b"model: {name: small_transformer}\ngame: leduc_poker\n")
    assert settings.game.name == "leduc_poker"
    assert config_file.read(config_file.dump(settings).encode()) == settings
    # Files of runs on texts stay as they were.
    assert "game" not in config_file.plain(Config())
    path = tmp_path / "both.yaml"
    path.write_text("seed: 1\ngame: kuhn_poker\njudge: {factory: a}\n")
    with pytest.raises(ValueError, match=r"line 3: `judge.factory` cannot"):
        config_file.load(path)


def test_the_policy_of_a_checkpoint(run: Path) -> None:
    torch.set_num_threads(1)
    policy, tokenizer = checkpoint.load_policy(run)
    assert tokenizer is None
    table = tables.table(checkpoint.config_of(run))
    assert 0.5 * float(table.game.duality_gap(table.game.played(policy))) == pytest.approx(
        lines(run)[-1]["exploitability"], abs=1e-7
    )
