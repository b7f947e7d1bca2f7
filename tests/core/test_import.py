"""Importing the package is light, and what it offers is there."""

import importlib
import inspect
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from mpo_games.games.mmd_dilated import MMDDilatedEnt

import mpo_games as mg
from mpo_games.compat import mmd_dilated
from mpo_games.games import tree_builder

HEAVY = ("torch", "pyspiel", "open_spiel", "scipy.optimize", "matplotlib", "tyro", "tqdm", "joblib")

PROGRAM = f"""
import sys, time
began = time.perf_counter()
import mpo_games
seconds = time.perf_counter() - began
print(f"import mpo_games: {{seconds:.3f}} s", file=sys.stderr)
print(*[name for name in {HEAVY!r} if name in sys.modules])
"""


def test_import_loads_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60
    )
    print(done.stderr)
    assert done.stdout.split() == []


def test_public_names_are_the_package_s_own() -> None:
    public = [name for name in vars(mg) if not name.startswith("_")]
    assert {"solve", "iterate", "MatrixGame", "PreferenceGame", "MMD", "MPO"} <= set(public)
    for name in public:
        thing = getattr(mg, name)
        home = getattr(thing, "__module__", getattr(thing, "__name__", ""))
        assert home.startswith("mpo_games"), f"{name} comes from {home}"


def test_star_import_gives_the_public_names() -> None:
    scope: dict[str, object] = {}
    exec("from mpo_games import *", scope)
    assert scope.keys() - {"__builtins__"} == set(mg.__all__)
    assert len(mg.__all__) == len(set(mg.__all__))


def test_the_public_names_are_no_internals() -> None:
    """They are the names that the reference lists, and the modules that it names."""
    modules = {name for name in mg.__all__ if inspect.ismodule(getattr(mg, name))}
    assert modules == {
        "builders", "catalogue", "cyclicity", "dilation", "exact", "families", "metrics", "plot",
        "theory",
    }  # fmt: skip
    earlier = {"AverageOf", "Mixed", "WhenSettled", "WhenSolved", "build", "describe", "names"}
    assert not (earlier | {"exact_trees"}) & set(mg.__all__)
    assert all(hasattr(mg, name) for name in earlier)
    # Everything else that `import mpo_games` defines by name is public.
    things = {n for n, v in vars(mg).items() if n[0] != "_" and not inspect.ismodule(v)}
    assert things - earlier == set(mg.__all__) - modules


def test_the_version_is_that_of_the_project() -> None:
    root = Path(__file__).parents[2]
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    assert mg.__version__ == project["project"]["version"]
    assert f"\nversion: {mg.__version__}\n" in (root / "CITATION.cff").read_text(encoding="utf-8")
    package = (root / "llm" / "mpo_llm" / "__init__.py").read_text(encoding="utf-8")
    assert "from mpo_games import __version__ as __version__" in package


def test_the_drop_in_is_found_at_its_earlier_address() -> None:
    assert MMDDilatedEnt is mmd_dilated.MMDDilatedEnt


@pytest.mark.parametrize(
    ("earlier", "today"),
    [
        ("magnets", "choices.magnets"),
        ("solvers.feedback", "choices.feedback"),
        ("solvers.pull", "choices.pull"),
    ],
)
def test_documented_modules_are_found_at_their_earlier_addresses(earlier: str, today: str) -> None:
    found = importlib.import_module(f"mpo_games.{earlier}")
    assert found is importlib.import_module(f"mpo_games.{today}")


def test_earlier_names_take_their_earlier_parameters() -> None:
    leaf = tree_builder.Payoff
    root = tree_builder.Decision(0, "only", {"a": leaf(1.0), "b": leaf(0.0)})
    game = mg.build(root, weights=mg.dilation.kroer)
    np.testing.assert_array_equal(game.scale, [2.0])
    trace = mg.solve(
        mg.MatrixGame(np.eye(2)),
        mg.AutoMPO(),
        20,
        metrics={"now": mg.metrics.step_size, "before": mg.metrics.Remembered("eta", 0.0)},
    ).trace
    np.testing.assert_array_equal(trace["before"], trace["now"])
