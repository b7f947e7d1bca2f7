"""Any command line and any configuration runs, or ends in a sentence with exit code 2."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import right_words
import yaml
from hypothesis import given
from hypothesis import strategies as st
from strange import anything, changed, tables
from verdict import inputs, tried

from mpo_games import cli
from mpo_llm import prompts
from mpo_llm.config import Config, PromptsConfig
from mpo_llm.judges.protocol import judged
from mpo_llm.judges.scores import scored
from mpo_llm.training import config_file, flags

GAMES = [
    "rps",
    "comal",
    "condorcet:n=3",
    "condorcet:n=x",
    "kuhn_poker",
    "no_such_game",
    "x.csv",
    "",
]
SOLVERS = [
    "auto",
    "mmd",
    "mpo",
    "mirror-descent",
    "regret-matching",
    "fictitious-play",
    "nash-md",
    "cfr-plus",
]
FLAGS = [
    "--eta",
    "--alpha",
    "--budget",
    "--tol",
    "--start",
    "--noise",
    "--seed",
    "--period",
    "--kind",
    "--average",
    "--restarts",
    "--strategy",
    "--feedback",
    "--save",
    "--plot",
    "--resume",
    "every",
    "--help",
]
VALUES = [
    "0.1",
    "1",
    "0",
    "-1",
    "nan",
    "inf",
    "1e-300",
    "x",
    "",
    "0.5,0.5",
    ".2,.3,.5/.2,.3,.5",
    "optimistic",
    "matrix",
    "no/such/folder/x.npz",
    "x.png",
    "\u2028",
]


def run(arguments: list[str]) -> tuple[int, str]:
    said = StringIO()
    with redirect_stdout(StringIO()), redirect_stderr(said):
        try:
            code = cli.main(arguments)
        except SystemExit as stop:  # usage, by the parser of arguments
            return int(stop.code or 0), "usage"
    return code, said.getvalue()


@inputs(30)
@given(
    st.sampled_from(GAMES),
    st.sampled_from(SOLVERS),
    st.lists(st.tuples(st.sampled_from(FLAGS), st.sampled_from(VALUES)), max_size=3),
)
def test_command_lines(
    tmp_path_factory: pytest.TempPathFactory, game: str, solver: str, options: Any
) -> None:
    words = [word for option in options for word in option]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("run"))
        found = tried(lambda: run(["solve", game, solver, "--budget", "40", *words]))
    assert found is not None
    code, said = found
    assert code in {0, 2}
    assert (
        code == 0 or said == "usage" or (said.startswith("mpo-games: ") and said.count("\n") == 1)
    )


# ----------------------------------------------------------------------------- language models


def names(value: Any, prefix: str = "") -> list[str]:
    """The dotted names of all settings and sections."""
    if not isinstance(value, dict):
        return [prefix]
    return [prefix, *(n for k, v in value.items() for n in names(v, f"{prefix}.{k}".lstrip(".")))]


PLAIN = config_file.plain(Config())
SETTINGS = [name for name in names(PLAIN) if name]
choices = st.one_of(
    anything, st.sampled_from([{"every": 3}, {"every": 0}, {"weight_ema": 2}, "fixed", "adam", {}])
)


@inputs(150)
@given(
    st.dictionaries(st.one_of(st.sampled_from(SETTINGS), st.text(max_size=5)), choices, max_size=2)
)
def test_settings(changes: dict[str, Any]) -> None:
    tried(lambda: config_file.changed(Config(), changes))


def line(pair: tuple[str, str]) -> str:
    *section, name = pair[0].split(".")
    return f"{'.'.join(section) or name}: {{{name}: {pair[1]}}}"


@inputs(100)
@given(
    st.one_of(
        st.text(max_size=40),
        st.lists(st.tuples(st.sampled_from(SETTINGS), st.sampled_from(VALUES)), max_size=3).map(
            lambda pairs: "\n".join(map(line, pairs))
        ),
        st.recursive(
            st.one_of(st.none(), st.integers(), st.floats(), st.text(max_size=4)),
            lambda inner: st.dictionaries(st.sampled_from([*PLAIN, "every"]), inner, max_size=3),
            max_leaves=5,
        ).map(lambda value: yaml.safe_dump(value)),
    )
)
def test_configurations(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("configuration") / "run.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    tried(lambda: config_file.load(path))


@inputs(30)
@given(
    st.lists(st.sampled_from(SETTINGS), max_size=2), st.lists(st.sampled_from(VALUES), max_size=2)
)
def test_flags(settings: list[str], values: list[str]) -> None:
    words = [w for s, v in zip(settings, values, strict=False) for w in (f"--{s}", v)]
    tried(lambda: flags.translate(["train", *words], Config()))


ROWS = [
    '{"prompt": "a"}',
    '{"prompt": [{"role": "user", "content": "b"}]}',
    '{"prompt": null}',
    "[]",
    '{"other": 1}',
    "{",
    '{"prompt": NaN}',
    '{"prompt": "\u2028"}',
    '{"prompt": "\\ud800"}',
    "",
    '{"prompt": [{"role": 1}]}',
    '{"prompt": {"role": "user"}}',
    "prompt\na",
    "a,b\n1,2",
]


class Words:
    """A tokenizer in which a letter is a token."""

    chat_template, eos_token_id, bos_token_id, name_or_path = None, 1, None, "words"

    def __call__(self, text: str, **options: Any) -> dict[str, list[int]]:
        return {"input_ids": [2 + ord(c) % 50 for c in text]}

    def __len__(self) -> int:
        return 60


@inputs(75)
@given(
    st.lists(st.one_of(st.sampled_from(ROWS), st.text(max_size=5)), max_size=4),
    st.sampled_from(["x.jsonl", "x.csv", "x.json", "x.txt", "x.parquet", "x.jsonl.gz", "x.JSONL"]),
    st.sampled_from(["utf-8", "utf-16", "latin-1", "utf-8-sig"]),
)
def test_files_of_prompts(
    tmp_path_factory: pytest.TempPathFactory, rows: list[str], name: str, encoding: str
) -> None:
    path: Path = tmp_path_factory.mktemp("prompts") / name
    path.write_bytes("\n".join(rows).encode(encoding, "replace"))
    tried(lambda: list(prompts.records(PromptsConfig(str(path)))))


@inputs(150)
@given(changed(right_words.constructors, st.one_of(tables, anything, st.lists(anything))))
def test_constructors(call: Callable[[], Any]) -> None:
    tried(call)


@inputs(100)
@given(anything | st.lists(anything, min_size=2, max_size=2), st.booleans())
def test_answers_of_judges(answers: Any, score: bool) -> None:
    texts = ["a", "b"]
    if score:
        tried(lambda: scored(lambda x, y: answers, texts, texts) * 0.0 is None)
    else:
        tried(lambda: judged(lambda x, a, b: answers, texts, texts, texts))
