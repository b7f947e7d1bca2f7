"""The settings of baselines are those that the figures chose."""

import json

import pytest

import mpo_games as mg
from experiments.lab import harness
from mpo_games.baselines import CLASSICS_ON_TREES, DEFAULTS_ON_TABLES, DEFAULTS_ON_TREES


def stored(name):
    text = (harness.HERE / "results" / f"{name}.json").read_text(encoding="utf-8")
    return json.loads(text)["results"]


def test_untuned_settings_are_those_of_the_figures():
    tables = {n: m["setting"] for n, m in stored("random_games")["methods"].items()}
    family = stored("last_iterate")["families"]["zero-sum 10 x 10"]
    tables |= {n: m["setting"] for n, m in family.items()}
    assert {n: s for n, s in tables.items() if s} == DEFAULTS_ON_TABLES
    trees = {n: m["setting"] for n, m in stored("trees")["methods"].items() if m["setting"]}
    classics = {m.name for m in CLASSICS_ON_TREES if m.grid}
    assert {n: s for n, s in DEFAULTS_ON_TREES.items() if n not in classics} == trees
    assert classics <= DEFAULTS_ON_TREES.keys()


@pytest.mark.parametrize("name", mg.baselines())
def test_an_untuned_setting_is_one_of_twelve_and_has_a_look(name):
    baseline = mg.baselines()[name]
    assert mg.plot.style(name) is not None
    for method in (baseline.tables, baseline.trees):
        if method is not None:
            assert method.default in method.settings()
            assert len(method.settings()) in (1, 12)
            assert hasattr(method.solver(method.default), "step")
