"""Trackers: what TensorBoard and others are told of a run, under which names."""

from __future__ import annotations

import html
import json
import re
import time
import warnings
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import yaml
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker, TensorBoardTracker
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import tiny
from mpo_llm import cli
from mpo_llm.algorithms import completed
from mpo_llm.config import Config, OutputConfig
from mpo_llm.training import config_file, trackers
from mpo_llm.training.trackers import Trackers
from mpo_llm.training.train import train


class Told(GeneralTracker):
    """It keeps all that it is told, and has no network."""

    name = "told"
    requires_logging_directory = False
    made: ClassVar[list[Told]] = []

    def __init__(self, project: str, **options: Any) -> None:
        super().__init__()
        self.project, self.options = project, options
        self.settings: dict[str, Any] = {}
        self.rows: list[tuple[int | None, dict[str, Any]]] = []
        self.events: list[str] = []
        Told.made.append(self)

    @property
    def tracker(self) -> list[str]:
        return self.events

    def start(self) -> None:
        self.events.append("start")

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.settings = values

    def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
        self.rows.append((step, values))

    def finish(self) -> None:
        self.events.append("finish")


class Tables(Told):
    """A tracker with tables, as W&B's."""

    name = "tables"

    def log_table(
        self, table_name: str, columns: list[str], data: list[list[Any]], step: int
    ) -> None:
        self.rows.append((step, {table_name: [columns, *data]}))


@pytest.fixture(autouse=True)
def own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The classes above, as trackers that a program has registered."""
    for kind in (Told, Tables):
        monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, kind.name, kind)
    Told.made.clear()


def lines(run: Path, name: str = "metrics") -> list[Any]:
    return [json.loads(line) for line in (run / f"{name}.jsonl").read_text().splitlines()]


def events(run: Path) -> EventAccumulator:
    found = EventAccumulator(str(run / "tensorboard"))
    found.Reload()
    return found


def test_tensorboard_gets_every_metric_in_its_group(tmp_path: Path) -> None:
    """And nothing that has no group; `metrics.jsonl` keeps its names."""
    held_out = {"source": str(tmp_path / "prompts.jsonl"), "every": 2}
    tiny.prompts(tmp_path, 8)  # fewer have no intervals
    config = tiny.config(
        tmp_path,
        evaluation=held_out,
        output={"trackers": "tensorboard"},
        solver={"prompts": 8},
    )
    train(config)
    rows, found = lines(tmp_path / "run"), events(tmp_path / "run")
    names = {name for row in rows for name in row} - set(trackers.COUNTS)
    assert names <= set(trackers.TAGS)
    assert set(found.Tags()["scalars"]) == {trackers.TAGS[name] for name in names}
    for name in sorted(names):
        expected = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
        told = [(e.step, e.value) for e in found.Scalars(trackers.TAGS[name])]
        np.testing.assert_allclose(told, expected, rtol=1e-6, err_msg=name)
    (settings,) = (tmp_path / "run" / "tensorboard").glob("*/hparams.yml")
    assert yaml.safe_load(settings.read_text(encoding="utf-8")) == trackers.settings(
        completed(config)
    )


def test_names_of_groups() -> None:
    found = [trackers.TAGS[n] for n in ("kl_step", "judge_calls", "seconds_step", "win_rate")]
    assert found == ["step/kl_step", "judge/calls", "seconds/step", "evaluation/win_rate"]
    assert len(set(trackers.TAGS.values())) == len(trackers.TAGS)


def test_tensorboard_shows_the_samples_as_they_are(tmp_path: Path) -> None:
    """Its own page of the table has the cells of `samples.jsonl`."""
    output = {"trackers": "tensorboard", "table_every": 2}
    train(tiny.config(tmp_path, output=output))
    found = events(tmp_path / "run")
    assert found.Tags()["tensors"] == [f"{trackers.TABLE}/text_summary"]
    shown = found.Tensors(f"{trackers.TABLE}/text_summary")
    assert [event.step for event in shown] == [2, 4]
    entries = lines(tmp_path / "run", "samples")
    for event in shown:
        (text,) = event.tensor_proto.string_val
        expected = [
            [entry["prompt"], r["text"], f"{r['advantage']:.3f}", f"{r['share']:.3f}"]
            for entry in entries
            if entry["step"] == event.step
            for r in entry["responses"]
        ]
        assert cells(text.decode())[1:] == expected


def cells(text: str) -> list[list[str]]:
    """The cells of a table of Markdown, as TensorBoard's page shows them."""
    with warnings.catch_warnings():
        # A library that TensorBoard brings along warns of itself.
        warnings.simplefilter("ignore", DeprecationWarning)
        from tensorboard.plugin_util import markdown_to_safe_html

    page = markdown_to_safe_html(text)
    rows = re.findall(r"<tr>(.*?)</tr>", page, re.S)
    found = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S) for row in rows]
    return [[html.unescape(cell.replace("<br>", "\n")) for cell in row] for row in found]


@pytest.mark.parametrize(
    "text",
    [
        "a | b || c",
        "**bold** _it_ `code` [x](http://y.z) ![i](j) <b>h</b> <script>1</script>",
        "<think>\nwhy?\n</think>\n\n# Title\n- one\n* two\n\n```py\nx = 1 | 2\n```",
        "1\\. \\| &amp; &#65; ~~no~~ $x_1$ $$y$$ é 😀 | ---",
        "",
    ],
)
def test_marks_of_markdown_and_html_within_a_text_are_shown(text: str) -> None:
    found = cells(trackers.markdown([list(trackers.COLUMNS), [text, "b", 0.25, -1.0]]))
    assert found == [list(trackers.COLUMNS), [text, "b", "0.250", "-1.000"]]


def test_thoughts_have_a_column_where_there_are_any() -> None:
    plain = {"text": "a", "advantage": 0.5, "share": 0.25}
    assert trackers.table([{"prompt": "x", "responses": [plain]}]) == [
        list(trackers.COLUMNS),
        ["x", "a", 0.5, 0.25],
    ]
    found = trackers.table([{"prompt": "x", "responses": [plain, plain | {"thoughts": "hm"}]}])
    assert found == [
        [*trackers.COLUMNS, "thoughts"],
        ["x", "a", 0.5, 0.25, ""],
        ["x", "a", 0.5, 0.25, "hm"],
    ]


def test_a_tracker_gets_project_settings_metrics_and_tables_where_it_has_them(
    tmp_path: Path,
) -> None:
    output = {"trackers": ["told", "tables"], "table_every": 4, "project": "mine"}
    config = tiny.config(tmp_path, output=output)
    train(config)
    plain, tables = Told.made
    for tracker in (plain, tables):
        assert (tracker.project, tracker.options) == ("mine", {})
        assert tracker.events == ["start", "finish"]
        assert tracker.settings["solver.eta"] == 2.0
        assert tracker.settings["solver.magnet.every"] == 2
        assert tracker.settings["judge.options.name"] == "cyclic"
        assert tracker.settings["step.betas"] == "[0.9, 0.999]"
        assert tracker.settings["prompts.system"] == "null"
        assert {type(v) for v in tracker.settings.values()} <= {str, int, float, bool}
    assert [step for step, _ in plain.rows] == [1, 2, 3, 4]
    (step, shown) = tables.rows[-1]
    assert [row for row in tables.rows if row[1].keys() != {trackers.TABLE}] == plain.rows
    table = shown[trackers.TABLE]
    assert step == 4
    assert table[0] == list(trackers.COLUMNS)
    assert table[1:] == [
        [entry["prompt"], r["text"], r["advantage"], r["share"]]
        for entry in lines(tmp_path / "run", "samples")
        for r in entry["responses"]
    ]


@pytest.mark.parametrize("word", ["none", "", None, (), ("none",)])
def test_no_tracker(word: Any, tmp_path: Path) -> None:
    assert trackers.named(word) == ()
    config = tiny.config(tmp_path, output={"trackers": word}, budget={"steps": 1})
    train(config)
    assert not (tmp_path / "run" / "tensorboard").exists()
    assert len(lines(tmp_path / "run")) == 1


def test_words_that_name_trackers() -> None:
    assert trackers.named("tensorboard") == ("tensorboard",)
    assert trackers.named(["told", "tensorboard", "told"]) == ("told", "tensorboard")
    assert {"told", "tensorboard"} <= set(trackers.named("all"))
    with pytest.raises(ValueError, match=r"no tracker 'tensorbord'.*: did you mean 'tensorboard'"):
        trackers.named("tensorbord")
    with pytest.raises(ValueError, match=r"no tracker 'xyz'.*: `none` is no tracker"):
        trackers.named("xyz")


@pytest.mark.parametrize(
    ("line", "flags", "names"),
    [
        ("trackers: told", [], ("told",)),
        ("trackers: [told, tensorboard]", [], ("told", "tensorboard")),
        ("trackers: none", [], ()),
        ("trackers: null", [], ()),
        ("trackers: []", [], ()),
        ("keep: 3", [], ("tensorboard",)),
        ("trackers: none", ["told"], ("told",)),
        ("trackers: none", ["tables", "told"], ("tables", "told")),
        ("trackers: told", ["none"], ()),
        ("trackers: told", ["null"], ()),
    ],
)
def test_one_word_in_the_file_or_on_the_command_line(
    line: str,
    flags: list[str],
    names: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And the file that a run writes says the same."""
    seen: list[Config] = []
    monkeypatch.setattr("mpo_llm.training.plan.plan", lambda settings: seen.append(settings) or "")
    path = tmp_path / "run.yaml"
    path.write_text(f"output: {{{line}}}\n{tiny.RUNNABLE}")
    given = ["--output.trackers", *flags] if flags else []
    assert cli.main(["train", str(path), "--dry-run", *given]) == 0
    (config,) = seen
    assert trackers.named(config.output.trackers) == names
    again = config_file.read(config_file.dump(config).encode())
    assert trackers.named(again.output.trackers) == names


def test_a_resumed_run_goes_on_in_the_same_curves(tmp_path: Path) -> None:
    """Steps after the checkpoint are taken again: TensorBoard shows each of them once."""
    output = {"trackers": "tensorboard", "checkpoint_every": 2}
    calls = iter(range(10**6))

    def judge(*asked: Any) -> Any:
        if next(calls) == 3:
            raise RuntimeError("connection lost")
        return tiny.cyclic(*asked)

    tiny.judges["failing"] = judge
    named = {"options": {"name": "failing"}}
    config = tiny.config(tmp_path, output=output, judge=named)
    with pytest.raises(Exception, match="connection lost"):
        train(config)
    # TensorBoard reads files in the order of their names, which count seconds.
    time.sleep(1.1)
    # As if the process had been killed after a step that no checkpoint has.
    writer = TensorBoardTracker("tensorboard", config.output.folder)
    writer.start()
    writer.log({"responses/entropy": -1.0}, step=4)
    writer.finish()
    time.sleep(1.1)
    train(config, resume=True)
    told = [(e.step, e.value) for e in events(tmp_path / "run").Scalars("responses/entropy")]
    expected = [(row["step"], row["entropy"]) for row in lines(tmp_path / "run")]
    np.testing.assert_allclose(told, expected, rtol=1e-6)


def test_each_tracker_learns_the_names_of_project_and_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the arguments of its own; W&B goes on with the run after a resume, in its folder."""
    folder = tmp_path / "eta1"
    folder.mkdir()
    config = Config(output=OutputConfig(folder, project="mine"))
    made: dict[str, tuple[Any, ...]] = {}

    def start(name: str, step: int) -> tuple[Any, ...]:
        class Fake(Told):
            requires_logging_directory = name in ("tensorboard", "aim")

            def __init__(self, *place: str, **options: Any) -> None:
                super().__init__("")
                made[name] = (*place, options)

        monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, name, Fake)
        Trackers((name,), config).start(step)
        return made[name]

    assert start("tensorboard", 0) == ("tensorboard", str(folder), {})
    assert start("tensorboard", 3) == ("tensorboard", str(folder), {"purge_step": 4})
    assert start("aim", 0) == ("eta1", str(folder), {"experiment": "mine"})
    assert start("mlflow", 0) == ("mine", {"run_name": "eta1"})
    assert start("trackio", 0) == ("mine", {"name": "eta1"})
    assert start("swanlab", 0) == ("mine", {"experiment_name": "eta1"})
    assert start("clearml", 0) == ("mine", {"task_name": "eta1"})
    assert start("comet_ml", 0) == ("mine", {})
    assert start("dvclive", 0) == ("mine", {"dir": str(folder / "dvclive")})
    project, first = start("wandb", 0)
    assert (project, first["name"], first["dir"]) == ("mine", "eta1", str(folder))
    assert first["resume"] == "allow"
    assert start("wandb", 5) == (project, first)
    assert start("wandb", 0)[1]["id"] != first["id"]
