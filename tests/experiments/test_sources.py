"""A cell's key covers what the cell runs; the figures stand beside each other."""

import importlib
import subprocess
import sys

import pytest

from experiments import NAMES
from experiments.lab import harness, sources

MODULES = sources.repository()
FIGURES = {f"experiments.{name}" for name in NAMES}
LAB = {name for name in MODULES if name.startswith("experiments.lab.")}


KNOWN = MODULES.keys() | sources.LIBRARIES.keys()
OUTLINES = {
    name: "".join(f"import {n}\n" for n in sorted(sources.imported(text) & KNOWN)).encode()
    for name, text in MODULES.items()
}
"""What each module imports and nothing else, since a digest of all sources takes a while."""


def edited(*names, of=MODULES):
    return {**of, **{name: of[name] + b"\n# edited\n" for name in names}}


@pytest.mark.parametrize("figure", sorted(FIGURES))
def test_an_edit_changes_the_key_where_it_is_run_and_only_there(figure, monkeypatch):
    # To look up what is installed takes longer than all else.
    monkeypatch.setattr(sources, "version", lambda _: "1")
    before = sources.digest(figure, OUTLINES)
    runs = sources.reached(figure, MODULES)
    assert runs == sources.reached(figure, OUTLINES)
    for name in MODULES:
        changed = sources.digest(figure, edited(name, of=OUTLINES)) != before
        assert changed == (name in runs), name


@pytest.mark.parametrize(
    ("figure", "module"),
    [
        ("leduc", "experiments.lab.tuning"),
        ("hardest", "experiments.lab.tuning"),
        ("noise_budget", "experiments.lab.arenas"),
        ("poker", "experiments.lab.poker_contest"),
        ("simplex", "mpo_games.kernels.tables"),
        ("trees", "mpo_games.games.openspiel"),
        ("transformer_gap", "mpo_llm.step.proximal"),
    ],
)
def test_the_key_covers_code_at_second_hand(figure, module):
    assert module in sources.reached(f"experiments.{figure}", MODULES)


WITH_MODELS = (
    "experiments.transformer",
    "experiments.estimated_gap",
    "experiments.many_prompts",
    "experiments.poker_network",
)
"""How the names of the figures begin that train networks."""


@pytest.mark.parametrize("figure", sorted(FIGURES))
def test_the_key_does_not_cover_drawing_nor_other_figures(figure):
    runs = sources.reached(figure, MODULES)
    assert runs & FIGURES == {figure}
    assert not runs & {"experiments.lab.page", "experiments.lab.command"}
    assert not {name for name in runs if name.startswith("mpo_games.plot")}
    with_models = {name for name in runs if name.startswith("mpo_llm")}
    assert bool(with_models) == figure.startswith(WITH_MODELS)


@pytest.mark.parametrize(
    ("figure", "library", "counts"),
    [
        ("simplex", "numpy", True),
        ("simplex", "scipy", True),
        ("simplex", "numba", True),
        ("simplex", "torch", False),
        ("trees", "open_spiel", True),
        ("transformer_gap", "torch", True),
        ("transformer_gap", "transformers", True),
    ],
)
def test_the_key_covers_the_libraries_that_compute(figure, library, counts, monkeypatch):
    monkeypatch.setattr(sources, "version", lambda _: "1")
    before = sources.digest(f"experiments.{figure}", MODULES)
    monkeypatch.setattr(sources, "version", lambda package: "2" if package == library else "1")
    assert (sources.digest(f"experiments.{figure}", MODULES) != before) == counts


def test_sources_are_read_from_the_folder(tmp_path):
    (tmp_path / "experiments" / "lab").mkdir(parents=True)
    (tmp_path / "llm" / "mpo_llm").mkdir(parents=True)
    for path, text in {
        "experiments/figure.py": "from experiments.lab import shared",
        "experiments/lab/__init__.py": "",
        "experiments/lab/shared.py": "def f():\n    import mpo_llm.far as far\n",
        "llm/mpo_llm/__init__.py": "import numpy, tqdm",
        "llm/mpo_llm/far.py": "",
        "llm/mpo_llm/unused.py": "",
    }.items():
        (tmp_path / path).write_text(text)
    modules = sources.repository(tmp_path)
    assert sources.reached("experiments.figure", modules) == {
        "experiments.figure",
        "experiments.lab",
        "experiments.lab.shared",
        "mpo_llm",
        "mpo_llm.far",
        "numpy",
    }
    with pytest.raises(ValueError, match="line 1 with its whole name"):
        sources.imported(b"from . import shared")


def test_the_runner_finds_a_cell_again_unless_its_code_was_edited(tmp_path, monkeypatch):
    cell = importlib.import_module("experiments.simplex").trajectory
    runner = harness.Runner(cache=tmp_path)

    def path(modules):
        harness._digest.cache_clear()
        monkeypatch.setattr(sources, "repository", lambda: modules)
        return runner._path(cell, {"method": "MD", "steps": 1})

    assert path(MODULES) == path(edited("experiments.leduc", "mpo_games.plot.looks"))
    assert path(MODULES) != path(edited("experiments.lab.arenas"))
    harness._digest.cache_clear()


LOADED = """
import importlib, sys
from experiments.lab import harness
figure = importlib.import_module(sys.argv[1])
figure.compute(True, harness.Runner(cache=None))
ours = ("experiments", "mpo_games", "mpo_llm")
# By their own names: a module may have a second address.
print(*{m.__name__ for name, m in sys.modules.items() if name.split(".")[0] in ours})
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("figure", "needs"),
    [("published", "numpy"), ("leduc", "pyspiel"), ("transformer_exact", "torch")],
)
def test_all_code_that_a_quick_run_loads_is_in_the_key(figure, needs):
    pytest.importorskip(needs)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOADED, f"experiments.{figure}"],
        capture_output=True,
        text=True,
        check=True,
        cwd=sources.ROOT,
    )
    loaded = {name for name in done.stdout.split() if sources.counts(name)}
    assert loaded <= sources.reached(f"experiments.{figure}", MODULES)


def test_no_figure_imports_a_figure():
    for name in FIGURES:
        assert not (sources.imported(MODULES[name]) & FIGURES) - {name}, name


def test_the_lab_imports_no_figure():
    for name in LAB:
        assert not sources.imported(MODULES[name]) & FIGURES, name
