"""A missing library, a missing cache folder or a damaged cache: a sentence, or no matter at all."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

import mpo_games

NEEDED = ("torch", "transformers", "accelerate", "peft", "safetensors", "yaml")
PACKAGE = Path(mpo_games.__file__).parent


def run(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
    )


def without(*names: str) -> str:
    """The beginning of a program in which modules of these names cannot be found."""
    return f"""
import sys
from importlib import util

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Hidden())
found = util.find_spec
util.find_spec = lambda name, *more: None if name in {names!r} else found(name, *more)
"""


@pytest.mark.parametrize(
    ("missing", "arguments"),
    [(("torch",), ["--help"]), (("peft", "yaml"), ["train", "run.yaml"])],
)
def test_the_adapter_names_what_it_lacks(missing: tuple[str, ...], arguments: list[str]) -> None:
    program = without(*missing) + "from mpo_games.cli import language_models as door\n"
    done = run(program + "sys.exit(door.main())", *arguments)
    # What this environment lacks is named as well.
    lacking = [name for name in NEEDED if name in missing or find_spec(name) is None]
    sentence = f'`mpo_llm` needs {", ".join(lacking)}: run `pip install "mpo-games[llm]"`.'
    assert done.stderr == f"mpo-llm: {sentence}\n"
    assert done.returncode == 2
    done = run(without(*missing) + "import mpo_llm")
    assert done.stderr.splitlines()[-1] == f"ImportError: {sentence}"


@pytest.mark.parametrize("game", ["kuhn_poker", "leduc_poker(players=2)"])
def test_the_core_names_openspiel(game: str) -> None:
    program = without("pyspiel", "open_spiel") + "from mpo_games import cli\n"
    done = run(program + "sys.exit(cli.main())", "solve", game)
    assert 'pip install "mpo-games[openspiel]"' in done.stderr
    assert done.stderr.startswith("mpo-games: ")
    assert done.stderr.count("\n") == 1
    assert done.returncode == 2


def test_the_core_runs_without_its_extras() -> None:
    program = without("pyspiel", "open_spiel", "torch", "transformers")
    done = run(
        program + "from mpo_games import cli\nassert cli.main(['list']) == 0\n"
        "sys.exit(cli.main(['solve', 'comal', '--budget', '100']))"
    )
    assert done.returncode == 0, done.stderr


# ---------------------------------------------------------------------------- the compiled kernels

KERNEL = """
from mpo_games.kernels.caching import njit

@njit(cache=True, error_model="numpy")
def twice(x):
    return 2.0 * x
"""
# How often the function had to be compiled, since no file of the cache served.
CALL = "import kernel; print(kernel.twice(3.0), sum(kernel.twice.stats.cache_misses.values()))"
# Numba tries each place by this method.
NOWHERE = """
from numba.core import caching

def refuse(self):
    raise OSError("Read-only file system")

caching._CacheLocator.ensure_cache_path = refuse
"""


@pytest.fixture
def kernel(tmp_path: Path) -> dict[str, str]:
    """The environment of a program that can import `kernel`, a compiled function of ours."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "kernel.py").write_text(KERNEL)
    paths = [str(tmp_path / "code"), str(PACKAGE.parent)]
    return {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": os.pathsep.join(paths)}


def test_a_container_without_a_cache_folder_imports_and_says_it_once() -> None:
    done = run(NOWHERE + "import mpo_games; from mpo_games import exact; print('imported')")
    assert done.stdout == "imported\n", done.stderr
    assert done.stderr.count("Compiled code cannot be kept on disk") == 1
    assert "NUMBA_CACHE_DIR" in done.stderr


def test_without_a_cache_folder_kernels_run(kernel: dict[str, str]) -> None:
    assert run(NOWHERE + CALL, **kernel).stdout.split()[0] == "6.0"


def test_an_import_from_a_zip_file(tmp_path: Path) -> None:
    """As some clusters ship code to their workers."""
    with zipfile.ZipFile(tmp_path / "code.zip", "w") as archive:
        for path in sorted(PACKAGE.rglob("*.py")):
            archive.write(path, Path("mpo_games") / path.relative_to(PACKAGE))
    program = f"import sys; sys.path.insert(0, {str(tmp_path / 'code.zip')!r})\n"
    done = run(
        program + "import mpo_games; print(mpo_games.load('comal').preferences.shape)",
        NUMBA_CACHE_DIR=str(tmp_path / "cache"),
        PYTHONPATH="",
    )
    assert done.stdout == "(1, 3, 3)\n", done.stderr


@pytest.mark.slow
def test_a_damaged_cache_is_replaced(kernel: dict[str, str], tmp_path: Path) -> None:
    """One process compiles anew; the next one reads the mended cache."""
    assert run(CALL, **kernel).stdout.split() == ["6.0", "1"]
    for keep, more in ((0.5, b""), (0.0, b""), (0.0, b"x")):  # truncated, emptied, foreign
        for file in [*(tmp_path / "cache").rglob("*.nbi"), *(tmp_path / "cache").rglob("*.nbc")]:
            whole = file.read_bytes()
            file.write_bytes(whole[: int(keep * len(whole))] + more)
        mended = run(CALL, **kernel)
        assert (mended.stdout.split()[0], mended.stderr) == ("6.0", "")
    assert run(CALL, **kernel).stdout.split() == ["6.0", "0"]


def test_a_full_disk_costs_the_cache_alone(kernel: dict[str, str]) -> None:
    full = """
from numba.core import caching

def refuse(self, path):
    raise OSError(28, "No space left on device")

caching.IndexDataCacheFile._open_for_write = refuse
"""
    assert run(full + CALL, **kernel).stdout.split()[0] == "6.0"
