"""The package: what importing it loads, its earlier names, and its types."""

from __future__ import annotations

import importlib
from importlib.resources import files

import pytest

import mpo_llm as ml
from mpo_llm.config import JudgeConfig
from mpo_llm.judges import loading, named


def test_importing_the_core_loads_no_torch() -> None:
    import subprocess
    import sys

    program = "import mpo_games, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "False"


def test_earlier_names_go_on_working() -> None:
    """Those by which scripts for release 0.1.0 find what has another name or place today."""
    assert ml.Generator is ml.Engine
    assert ml.divergence is ml.kl_forms
    assert importlib.import_module("mpo_llm.divergence") is ml.kl_forms
    found = importlib.import_module("mpo_llm.checkpoint")
    assert found.load_policy is importlib.import_module("mpo_llm.training.checkpoint").load_policy
    assert ml.preferences.Reader is ml.judges.Encoder
    # Today `ml.judges` has the factories of these two names, which are what configurations name.
    criteria = {"everyday", "second_opinion"}
    judges = {name for name in vars(ml.preferences) if name[0] != "_"} - criteria - {"Reader"}
    assert {"BradleyTerry", "LanguageModelJudge", "PreferenceModel", "majority"} <= judges
    for name in judges:
        assert getattr(ml.preferences, name) is getattr(ml.judges, name)


@pytest.mark.parametrize(
    "name",
    [
        "everyday",
        "second_opinion",
        "rock_paper_scissors",
        "mean_score",
        "reward_model",
        "score",
        "preference_model",
        "language_model",
    ],
)
def test_a_configuration_names_a_judge_as_before(name: str) -> None:
    """`mpo_llm.judges` was a module of factories, and saved configurations name them in it."""
    assert getattr(ml.judges, name) is getattr(named, name)


def test_the_factory_everyday_is_called_with_its_options() -> None:
    with pytest.raises(ValueError, match="must be majority or mean, got 'median'"):
        loading.load(JudgeConfig("mpo_llm.judges:everyday", {"vote": "median"}))


@pytest.mark.parametrize("package", ["mpo_games", "mpo_llm"])
def test_the_packages_are_typed(package: str) -> None:
    assert files(package).joinpath("py.typed").is_file()


def test_a_star_brings_every_name() -> None:
    """A module whose names come when asked for has to list them."""
    names: dict[str, object] = {}
    exec("from mpo_llm import *", names)
    assert {"TokenPolicy", "TextPreferenceGame", "judges", "sample"} <= names.keys()
    assert names["TokenPolicy"] is ml.TokenPolicy
