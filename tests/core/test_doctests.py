"""Examples in docstrings are executed, with the package's own names at hand."""

import doctest
import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import pytest

import mpo_games


def modules() -> Iterator[str]:
    yield from (m.name for m in pkgutil.walk_packages(mpo_games.__path__, "mpo_games."))


def test_every_example_gives_what_it_says() -> None:
    public = {name: getattr(mpo_games, name) for name in dir(mpo_games)}
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner()
    for name in modules():
        module = importlib.import_module(name)
        for example in finder.find(module, extraglobs=public | vars(module)):
            runner.run(example)
    assert runner.failures == 0
    assert runner.tries >= 100


@pytest.mark.parametrize("name", mpo_games.__all__)
def test_every_public_name_has_an_example(name: str) -> None:
    thing = getattr(mpo_games, name)
    assert thing.__doc__
    assert inspect.ismodule(thing) or ">>> " in thing.__doc__
