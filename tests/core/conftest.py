"""Fixtures of the core's tests."""

import pytest
from command_line import Run

from mpo_games import cli


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        try:
            code = cli.main([str(argument) for argument in arguments])
        except SystemExit as stop:  # usage errors and --help
            code = int(stop.code or 0)
        return (code, *capsys.readouterr())

    return call
