"""YAML that is no configuration is refused in a sentence with its line."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import mpo_games as mg
import tiny
from mpo_llm import cli
from mpo_llm.config import Config, PromptsConfig
from mpo_llm.training import config_file
from mpo_llm.training.sweep import variants
from mpo_llm.training.train import Run

BOMB = "judge:\n  options:\n    a0: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9]\n" + "".join(
    f"    a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30)
)
MERGES = "a0: &a0 {x: 1}\n" + "".join(
    f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 30)
)

BAD: dict[str, tuple[bytes, int | None, str]] = {
    "an unknown name": (b"seed: 1\nsolver:\n  eta: 1\n  eat: 2\n", 4, "no setting `solver.eat`"),
    "an unknown section": (b"seed: 1\n\nsover: {}\n", 3, "no setting `sover`"),
    "a wrong type": (b"solver:\n  # fast\n  eta: fast\n", 3, "`solver.eta` must be a float"),
    "a value out of range": (b"solver:\n  eta: 1\n  samples: 1\n", 3, "at least 2, got 1"),
    "a wrong choice": (b"solver:\n  magnet:\n    evry: 5\n", 2, "did you mean `every`?"),
    "a choice out of range": (b"solver:\n  magnet:\n    every: 0\n", 3, "at least 1, got 0"),
    "a section of another kind": (b"seed: 1\nmodel: 3\n", 2, "`model` must hold `name: value`"),
    "a name twice": (b"solver:\n  eta: 1\n  alpha: 1\n  eta: 2\n", 4, "`solver.eta` is set twice"),
    "a section twice": (b"seed: 1\nsolver: {}\nsolver: {}\n", 3, "`solver` is set twice"),
    "an option twice": (
        b"judge:\n  options:\n    a: {b: 1,\n      b: 2}\n",
        4,
        "`judge.options.a.b` is set twice",
    ),
    "a tab": (b"solver:\n\teta: 1\n", 2, "indented by spaces"),
    "a bracket": (b"seed: 1\nstep: {rate: [1\n", 3, "This is not YAML: while parsing a flow"),
    "two values": (b"seed: 1\na: b: c\n", 2, "mapping values are not allowed here"),
    "two documents": (b"seed: 1\n---\nseed: 2\n", 2, "another document"),
    "an unknown anchor": (b"seed: 1\nmodel: *model\n", 2, "undefined alias"),
    "an anchor in itself": (b"seed: 1\nmodel: &a\n  b: *a\n", 2, "holds itself by an alias"),
    "anchors of anchors": (BOMB.encode(), 8, "more than 100000 values"),
    "merges of merges": (MERGES.encode(), 6, "more than 100000 values"),
    "an object": (b"seed: !!python/object:os.system 1\n", 1, "could not determine a constructor"),
    "Latin-1": ("seed: 1\njudge: {factory: é}\n".encode("latin-1"), 2, "Save the file as UTF-8"),
    "a zero byte": (b"seed: 1\n\0\n", 2, "special characters are not allowed"),
    "no such day": (b"judge: {options: {a: 2024-02-31}}\n", None, "day is out of range"),
    "depth": (b"[" * 5000, None, "nested too deeply"),
    "a long number": (b"seed: " + b"1" * 5000, None, "This is not YAML"),
    "a huge number": (b"seed: 1\nsolver: {eta: 1" + b"0" * 400 + b"}", 2, "`solver.eta` is too"),
    "a negative seed": (b"seed: -1", 1, "`seed` must be at least 0"),
    "nothing": (
        b"",
        None,
        "The file is empty, and a run needs prompts and a judge: write at least",
    ),
    "comments": (b"# nothing\n---\n", None, "The file is empty, and a run needs prompts"),
    "a game without words": (
        b"seed: 1\ngame: tic_tac_toe\n",
        2,
        "There are no English words for 'tic_tac_toe', only for kuhn_poker, leduc_poker, liars_",
    ),
    "a model's name": (
        b"model: {name: small_transfomer}\ngame: {name: kuhn_poker, wording: compact}\n",
        2,
        "it reads `english` or `verbatim`; did you mean `small_transformer`?",
    ),
    "a list": (b"- seed\n", None, "`the file` must hold"),
    "an end that is no token": (b"generation: {end: 3}\n", 1, "must be a str, got 3"),
}


@pytest.mark.parametrize("case", BAD)
def test_the_line_is_named(case: str, tmp_path: Path) -> None:
    content, line, said = BAD[case]
    path = tmp_path / "run.yaml"
    path.write_bytes(content)
    began = time.perf_counter()
    with pytest.raises(ValueError) as error:  # noqa: PT011
        config_file.load(path)
    assert time.perf_counter() - began < 5.0
    place = repr(str(path)) if line is None else f"{str(path)!r}, line {line}"
    assert str(error.value).startswith(f"{place}: ")
    assert said in str(error.value)


def test_what_the_solver_refuses_is_told_with_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sentence of the library about numbers, some of which are the algorithm's own."""

    def refuse(solver: mg.MMD) -> None:
        assert solver.pull is mg.in_reward
        raise ValueError(f"too far: eta={solver.eta} and alpha={solver.alpha}.")

    monkeypatch.setattr(mg.MMD, "__post_init__", refuse)
    path = tmp_path / "run.yaml"
    for start, alpha in (("seed: 1", 0.01), ("game: kuhn_poker", 0.1)):
        path.write_text(f"{start}\nsolver:\n  algorithm: mpo_rt\n  eta: 20\n")
        with pytest.raises(ValueError) as error:  # noqa: PT011
            config_file.load(path)
        where = "line 4: `solver.eta: 20` with `solver.pull: in_reward`"
        said = f"{where}: too far: eta=20.0 and alpha={alpha}."
        assert str(error.value) == f"{str(path)!r}, {said}"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_that_say_what_they_are(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes("prompts: {system: é}\n".encode(encoding))
    assert config_file.load(path).prompts.system == "é"


@pytest.mark.parametrize("text", ["é\u2028b", "\u0085a", "a\u2029", "a\nb\r\nc\x0bd", "'\"", " a "])
def test_any_text_is_read_as_it_was_written(text: str) -> None:
    """A resumed run compares its settings with those that were written."""
    config = Config(prompts=PromptsConfig(system=text))
    assert config_file.read(config_file.dump(config).encode()) == config


def test_anchors_and_merges_are_read(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("judge:\n  options: {a: &a {b: 1, c: 2}, d: {<<: *a, b: 3}, e: [*a, *a]}\n")
    a = {"b": 1, "c": 2}
    found = config_file.load(path).judge.options
    assert found == {"a": a, "d": {"b": 3, "c": 2}, "e": [a, a]}


@pytest.mark.parametrize(
    ("text", "flags", "end"),
    [
        ("<end>", ["<end>"], "<end>"),
        ("[<end>, <bot>]", ["<end>", "<bot>"], ("<end>", "<bot>")),
        ("null", ["None"], None),
    ],
)
def test_ends_in_files_and_flags(
    text: str,
    flags: list[str],
    end: str | tuple[str, ...] | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(f"generation: {{end: {text}}}\n")
    assert config_file.load(path).generation.end == end
    assert config_file.read(config_file.dump(config_file.load(path)).encode()).generation.end == end
    seen: list[Config] = []
    monkeypatch.setattr("mpo_llm.training.plan.plan", lambda settings: seen.append(settings) or "")
    path.write_text(tiny.RUNNABLE)
    assert cli.main(["train", str(path), "--dry-run", "--generation.end", *flags]) == 0
    assert seen[0].generation.end == end


def test_a_sweep_reads_values_as_a_file_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[Config] = []
    monkeypatch.setattr(
        "mpo_llm.training.sweep.sweep", lambda configs, *_: seen.extend(configs) or []
    )
    path = tmp_path / "run.yaml"
    path.write_text("seed: 1\n")
    vary = ["step.betas=[0.5,0.75],[0.25,0.5]", "solver.eta=1e-1,2"]
    assert cli.main(["sweep", str(path), "--vary", *vary]) == 0
    assert [(c.step.betas, c.solver.eta) for c in seen] == [
        ((0.5, 0.75), 0.1),
        ((0.5, 0.75), 2.0),
        ((0.25, 0.5), 0.1),
        ((0.25, 0.5), 2.0),
    ]
    for bad in ("solver.eta", "solver.eta=", "=1", "solver.eta=[1", "solver.eta={"):
        assert cli.main(["sweep", str(path), "--vary", bad]) == 2
        assert "solver.eta" in (said := capsys.readouterr().err) or "=1" in said
    assert variants(Config(), {"solver.eta": [1.0]})


@pytest.mark.parametrize("section", ["prompts", "evaluation"])
def test_a_prompt_without_room_is_refused_before_anything_is_drawn(
    section: str, tmp_path: Path
) -> None:
    """Trained on or held out; the model's context is 64."""
    (tmp_path / "long.txt").write_text("a b\n" + "a " * 60 + "\n")
    source = {section: {"source": str(tmp_path / "long.txt")}}
    with pytest.raises(ValueError, match=r"Row 2 of .*long.txt.* context is 64: shorten"):
        Run.of(tiny.config(tmp_path, **source))
