"""Trackers, such as TensorBoard and W&B: programs that show the metrics and samples of a run.

All are Accelerate's. A tracker gets the metrics under `TAGS`, in groups, and the settings of the
run. Those that show tables or texts get the table of samples too.
"""

from __future__ import annotations

import difflib
import json
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from mpo_games.atomic import write_bytes
from mpo_llm.config import Config
from mpo_llm.training import config_file

GROUPS: Mapping[str, tuple[str, ...]] = {
    "step": (
        "kl_step",
        "kl_magnet",
        "advantage_std",
        "alpha",
        "noise",
        "rate",
        "kept",
        "eta",
        "loss",
        "moved_at",
    ),
    "responses": (
        "length",
        "longest",
        "entropy",
        "distinct",
        "unseen",
        "mismatch",
        "mismatch_ratio",
        "estimated_gap",
        "estimated_gap_low",
        "estimated_gap_high",
    ),
    "judge": ("judge_calls", "judge_failures"),
    "evaluation": (
        "win_rate",
        "win_rate_low",
        "win_rate_high",
        "kl_start",
        "held_out_length",
        "held_out_gap",
        "held_out_gap_low",
        "held_out_gap_high",
        "cyclic_share",
        "averaged_exploitability",
        "averaging_loss",
        "exploitability",
        "iterate_exploitability",
        "legal",
        "least_legal",
    ),
    "spent": (
        "samples",
        "episodes",
        "evaluations",
        "tokens",
        "gradient_steps",
        "forward_tokens",
        "backward_tokens",
        "peak_memory",
    ),
    "seconds": ("seconds_generation", "seconds_judging", "seconds_scoring", "seconds_step"),
}
"""The metrics of `metrics.jsonl` by the groups in which trackers show them."""

TAGS: Mapping[str, str] = {
    name: f"{group}/{name.removeprefix(f'{group}_')}"
    for group, names in GROUPS.items()
    for name in names
}
"""The names of the metrics in trackers: `judge_calls` is `judge/calls`."""

COUNTS = ("step", "steps")
"""Metrics that are the horizontal axis, and no curve over it."""

COLUMNS = ("prompt", "response", "advantage", "share")
"""The columns of the table of samples. A model that thinks has one more, `thoughts`."""

TABLE = "samples"
"""The name of the table of samples."""

RUN_NAMES: Mapping[str, str] = {
    "wandb": "name",
    "trackio": "name",
    "swanlab": "experiment_name",
    "mlflow": "run_name",
    "clearml": "task_name",
}
"""The arguments by which trackers with projects are told the name of a run."""

IDENTITY = "tracker_id"
"""The file in the run's folder by which W&B goes on with the same run after `--resume`."""


def named(trackers: str | Sequence[str] | None) -> tuple[str, ...]:
    """The names in `output.trackers`, each once: a word, a list of words, or nothing.

    `ValueError` for a tracker that Accelerate does not know, or whose package is missing.
    """
    words = [trackers] if isinstance(trackers, str) else list(trackers or ())
    words = [word for word in words if word not in ("", "none")]
    if not words:
        return ()
    # Accelerate itself leaves out a tracker that is not installed, without a word.
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, LoggerType, get_available_trackers

    known = sorted(LOGGER_TYPE_TO_CLASS)
    # A class that a program has registered needs no package.
    own = set(known) - {str(kind) for kind in LoggerType}
    here = own | {str(tracker) for tracker in get_available_trackers()}
    for word in words:
        if word == "all":  # Accelerate's word for all that are installed
            continue
        if word not in known:
            close = difflib.get_close_matches(word, known, 1)
            hint = f"did you mean {close[0]!r}?" if close else "`none` is no tracker."
            raise ValueError(
                f"`output.trackers`: there is no tracker {word!r}, only {', '.join(known)}: {hint}"
            )
        if word not in here:
            # Packages are called as their trackers are.
            raise ValueError(
                f"`output.trackers`: the tracker {word!r} is not installed: pip install {word}, or "
                "leave it out."
            )
    several = (sorted(here) if word == "all" else [word] for word in words)
    return tuple(dict.fromkeys(name for names in several for name in names))


@dataclass(slots=True)
class Trackers:
    """The trackers of a run. What one of them raises is a `ValueError` of one sentence."""

    names: Sequence[str]
    """Accelerate's names of them, from `named`."""
    config: Config
    """The run's settings, which each tracker is told."""
    started: list[Any] = field(default_factory=list)
    """Accelerate's `GeneralTracker` objects."""

    def start(self, step: int = 0) -> None:
        """Begin to track a run that has taken `step` steps, in the process that writes its files.

        TensorBoard drops what it was told of later steps, which are taken again.
        """
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        with self._said():
            for name in self.names:
                kind = LOGGER_TYPE_TO_CLASS[name]
                project, options = self._place(name, step)
                folder = [self.config.output.folder] if kind.requires_logging_directory else []
                tracker = kind(project, *map(str, folder), **options)
                # In earlier releases of Accelerate a tracker starts when it is made.
                getattr(tracker, "start", lambda: None)()
                self.started.append(tracker)
                tracker.store_init_configuration(settings(self.config))

    def log(self, row: Mapping[str, Any], step: int) -> None:
        """Tell all trackers the metrics of a step, by their names in `metrics.jsonl`."""
        told = {
            TAGS.get(name, f"other/{name}"): value
            for name, value in row.items()
            if value is not None and name not in COUNTS
        }
        with self._said():
            for tracker in self.started:
                tracker.log(told, step=step)

    def show(self, entries: Sequence[Mapping[str, Any]], step: int) -> None:
        """Show the entries of `samples.jsonl` of a step, where a tracker has tables or texts."""
        from accelerate.tracking import TensorBoardTracker

        if not entries:
            return
        columns, *rows = table(entries)
        with self._said():
            for tracker in self.started:
                if hasattr(tracker, "log_table"):
                    tracker.log_table(TABLE, columns=columns, data=rows, step=step)
                elif isinstance(tracker, TensorBoardTracker):
                    tracker.tracker.add_text(TABLE, markdown([columns, *rows]), global_step=step)
                    tracker.tracker.flush()

    def end(self) -> None:
        """Let all trackers write what they hold."""
        with self._said():
            for tracker in self.started:
                tracker.finish()

    def _place(self, name: str, step: int) -> tuple[str, dict[str, Any]]:
        """What a tracker calls the project, and its further arguments."""
        output = self.config.output
        run = output.folder.absolute().name
        if name == "tensorboard":
            # A folder within the run's.
            return name, {"purge_step": step + 1} if step else {}
        if name == "aim":
            return run, {"experiment": output.project}
        options = {RUN_NAMES[name]: run} if name in RUN_NAMES else {}
        if name == "wandb":
            options |= {"dir": str(output.folder), "id": self._identity(step), "resume": "allow"}
        if name == "dvclive":
            options |= {"dir": str(output.folder / name)}
        return output.project, options

    def _identity(self, step: int) -> str:
        """A name of this run that no other has, kept in the run's folder."""
        path = self.config.output.folder / IDENTITY
        if step == 0 or not path.is_file():
            write_bytes(path, uuid.uuid4().hex[:12].encode())
        return path.read_text(encoding="utf-8")

    @contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        # Each tracker has errors of its own.
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".: ")
            raise ValueError(
                f"A tracker of `output.trackers` ({', '.join(self.names)}) failed: {reason}."
            ) from error


def settings(config: Config) -> dict[str, str | int | float | bool]:
    """The settings of a run by their dotted names, as values that every tracker takes."""

    def flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
        if isinstance(value, Mapping) and value:
            for inner, item in value.items():
                yield from flat(f"{name}.{inner}" if name else str(inner), item)
        elif isinstance(value, str | bool | int | float):
            yield name, value
        else:
            yield name, json.dumps(value, ensure_ascii=False)

    return dict(flat("", config_file.plain(config)))


def table(entries: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    """The table of samples: the names of its columns, then a row for each response."""
    responses = [(entry["prompt"], r) for entry in entries for r in entry["responses"]]
    rows = [[prompt, r["text"], r["advantage"], r["share"]] for prompt, r in responses]
    if not any("thoughts" in r for _, r in responses):
        return [list(COLUMNS), *rows]
    more = [r.get("thoughts", "") for _, r in responses]
    rows = [[*row, thoughts] for row, thoughts in zip(rows, more, strict=True)]
    return [[*COLUMNS, "thoughts"], *rows]


def markdown(rows: Sequence[Sequence[Any]]) -> str:
    """A table of Markdown whose first row is its head; texts are shown as they are."""
    head, *body = ([_shown(cell) for cell in row] for row in rows)
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _shown(cell: Any) -> str:
    if isinstance(cell, float):
        return f"{cell:.3f}"
    # Entities, because marks of Markdown and HTML within a text are part of it.
    text = re.sub(r"[^\w ,;:.?'-]|_", lambda found: f"&#{ord(found[0])};", str(cell))
    return text.replace("&#13;&#10;", "<br>").replace("&#10;", "<br>")
