"""Runs' settings: what is read, and what is refused with which words."""

from __future__ import annotations

import ast
import re
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any, get_type_hints

import pytest

import tiny
from mpo_llm import choices, cli, config, game_settings, run_settings
from mpo_llm.algorithms import completed
from mpo_llm.config import Config, SolverConfig
from mpo_llm.training import config_file
from mpo_llm.training.sweep import variants
from mpo_llm.training.train import train

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "found",
    [
        Config(),
        Config(
            model=config.ModelConfig("a", lora_rank=4, lora_targets="q_proj,v_proj"),
            judge=config.JudgeConfig("a.b:c", {"weights": [0.5, 1], "name": "é"}),
            solver=config.SolverConfig(magnet=config.WeightEma(0.01), pool=100, prompts=3),
            step=config.StepConfig(betas=(0.5, 0.75), clip=None, rate=1e-6, micro_batch=None),
            output=config.OutputConfig(Path("x/y"), keep=3, trackers=()),
            seed=7,
        ),
        Config(solver=SolverConfig(magnet=config.Every(50), feedback=config.AgainstMixture(0.125))),
        Config(solver=SolverConfig(magnet=config.WhenGapFell(0.5), feedback="against_mixture")),
    ],
)
def test_yaml_is_read_as_it_was_written(found: Config, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(config_file.dump(found), encoding="utf-8")
    assert config_file.load(path) == found


SHOWN = [
    (page, block)
    for page in ("llm/README.md", "docs/guides/training.md")
    for block in re.findall(r"```yaml\n(.*?)```", (ROOT / page).read_text("utf-8"), re.S)
]


@pytest.mark.parametrize(("page", "block"), SHOWN)
def test_the_settings_that_pages_show_are_settings(page: str, block: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(block)
    config_file.load(path)


def test_exponents_are_numbers(tmp_path: Path) -> None:
    """YAML 1.1 takes 1e-5 for a text."""
    (tmp_path / "a.yaml").write_text("step: {rate: 1e-5}\nsolver: {eta: 1}\n")
    found = config_file.load(tmp_path / "a.yaml")
    assert found.step.rate == 1e-5
    assert type(found.solver.eta) is float


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("solver: {eat: 1}", "no setting `solver.eat`: did you mean `eta`?"),
        ("sover: {}", "no setting `sover`: did you mean `solver`?"),
        ("zzz: 1", "no setting `zzz`: there are model, prompts"),
        ("solver: {eta: fast}", "`solver.eta` must be a float, got 'fast'"),
        ("solver: {samples: 2.5}", "`solver.samples` must be an int, got 2.5"),
        ("solver: {samples: true}", "`solver.samples` must be an int, got True"),
        ("solver: {samples: 1}", "`solver.samples` must be at least 2, got 1"),
        ("solver: {eta: .nan}", "`solver.eta` must be a finite number above 0"),
        ("solver: {alpha: -1}", "`solver.alpha` must be at least 0"),
        ("solver: {magnet_period: 2, magnet_rate: 0.1}", "Only one of"),
        ("solver: {magnet_period: 2, magnet: {every: 3}}", "Only one of `solver.magnet_period`"),
        ("step: {rows: 2, micro_batch: 3}", "Only one of `step.rows` and `step.micro_batch`"),
        ("solver: {method: nash_md, feedback: optimistic}", "`solver.method: nash_md`"),
        ("solver: {method: sppo}", "`solver.method` was one of mmd, nash_md, got 'sppo'"),
        ("solver: {feedback: next}", "must be one of current, optimistic, half_step"),
        ("solver: {feedback: optimstic}", "did you mean `optimistic`?"),
        ("solver: {feedback: {against_mixture: 1.5}}", "must lie in [0, 1], got 1.5"),
        ("solver: {feedback: against_mixture, eta: 9, alpha: 0.2}", "must be below 1, got eta=9.0"),
        ("solver: {magnet: {evry: 50}}", "got {evry: 50}: did you mean `every`?"),
        ("solver: {magnet: {ema: 0.1}}", "did you mean `weight_ema`?"),
        ("solver: {magnet: moving}", "must be one of fixed, every, weight_ema, when_gap_fell, got"),
        ("solver: {magnet: null}", "`solver.magnet` must be one of fixed, every"),
        (
            "solver: {magnet: every}",
            "`solver.magnet: every` needs a number: `solver.magnet: {every",
        ),
        ("solver: {magnet: {fixed: 3}}", "`solver.magnet: fixed` has no number"),
        ("solver: {magnet: {every: 5, weight_ema: 0.1}}", "`solver.magnet` is one choice, got"),
        ("solver: {magnet: {every: 0}}", "`solver.magnet.every` must be at least 1, got 0"),
        ("solver: {magnet: {every: 2.5}}", "`solver.magnet.every` must be an int, got 2.5"),
        ("solver: {magnet: {weight_ema: 2}}", "`solver.magnet.weight_ema` must lie in (0, 1]"),
        (
            "solver: {magnet: {when_gap_fell: 1}}",
            "`solver.magnet.when_gap_fell` must lie in (0, 1)",
        ),
        ("step: {betas: [0.9]}", "`step.betas` must hold 2 values"),
        ("step: {betas: [0.9, 1.0]}", "`step.betas` must lie in [0, 1)"),
        ("step: {objective: squared}", "needs `step.micro_batch: null`"),
        ("budget: {steps: null}", "needs a budget"),
        ("model: 3", "`model` must hold `name: value` lines"),
        ("[1, 2]", "`the file` must hold"),
        ("a: b: c", "is not YAML"),
    ],
)
def test_bad_settings_are_named(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ValueError) as error:  # noqa: PT011
        config_file.load(path)
    assert said in str(error.value)


def test_the_command_line_overrides_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Config] = []
    monkeypatch.setattr("mpo_llm.training.plan.plan", lambda settings: seen.append(settings) or "")
    path = tmp_path / "run.yaml"
    path.write_text(f"solver: {{eta: 0.5, alpha: 0.25}}\nseed: 3\n{tiny.RUNNABLE}")
    options = ["--solver.eta", "1e-3", "--step.micro-batch", "None"]
    options += ["--output.trackers", "wandb", "aim"]
    assert cli.main(["train", str(path), "--dry-run", *options]) == 0
    expected = Config(
        solver=config.SolverConfig(eta=1e-3, alpha=0.25),
        step=config.StepConfig(micro_batch=None),
        output=config.OutputConfig(trackers=("wandb", "aim")),
        prompts=config.PromptsConfig("prompts.jsonl"),
        judge=config.JudgeConfig("tiny:judge"),
        seed=3,
    )
    assert seen == [expected]


def test_every_setting_is_documented() -> None:
    modules = (config, choices, game_settings, run_settings)
    files = [Path(module.__file__ or "") for module in modules]
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in files]
    classes = [node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)]
    assert {c.name for c in classes} == {
        "Config",
        "Choice",
        *(k.__name__ for n, k in get_type_hints(Config).items() if n != "seed"),
        *(k.__name__ for c in config_file.CHOICES.values() for k in c.kinds.values()),
    }
    for c in classes:
        for field, after in pairwise([*c.body, None]):
            if isinstance(field, ast.AnnAssign) and c.name != "Config":
                assert isinstance(after, ast.Expr), f"{c.name}.{ast.unparse(field)}"


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--solver.magnet", "fixed"], {"magnet": "fixed"}),
        (["--solver.magnet", "every", "50"], {"magnet": config.Every(50)}),
        (["--solver.magnet.every", "50"], {"magnet": config.Every(50)}),
        (["--solver.magnet.weight-ema=1e-2"], {"magnet": config.WeightEma(0.01)}),
        (["--solver.feedback", "against_mixture"], {"feedback": "against_mixture"}),
        (
            ["--solver.feedback.against-mixture", "0.25"],
            {"feedback": config.AgainstMixture(0.25)},
        ),
    ],
)
def test_choices_on_the_command_line(
    flags: list[str], expected: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert told(flags, tmp_path, monkeypatch) == SolverConfig(
        **{"magnet": config.Every(12), **expected}
    )


def told(flags: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> SolverConfig:
    """The solver's settings of a file and flags."""
    seen: list[Config] = []
    monkeypatch.setattr("mpo_llm.training.plan.plan", lambda settings: seen.append(settings) or "")
    path = folder / "run.yaml"
    path.write_text(f"solver: {{magnet: {{every: 12}}}}\n{tiny.RUNNABLE}")
    assert cli.main(["train", str(path), "--dry-run", *flags]) == 0
    return seen[0].solver


def meant(settings: SolverConfig) -> SolverConfig:
    """The settings, with a value for each that they leave open."""
    return completed(Config(solver=settings)).solver


def test_a_wrong_choice_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    for flags, said in (
        (["--solver.magnet", "evry", "5"], "did you mean `every`?"),
        (["--solver.magnet.evry", "5"], "did you mean `every`?"),
        (["--solver.magnet", "every"], "needs a number"),
        (["--solver.magnet.every", "{"], "`solver.magnet.every` must be an int, got '{'"),
    ):
        assert cli.main(["train", *flags]) == 2
        assert said in capsys.readouterr().err


def test_the_help_shows_choices(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    shown = capsys.readouterr().out
    assert "--solver.magnet {fixed,every INT,weight_ema FLOAT,when_gap_fell FLOAT}" in shown
    assert "--solver.magnet.every 50" in shown


def test_choices_are_swept(tmp_path: Path) -> None:
    base = Config(output=config.OutputConfig(tmp_path))
    found = variants(base, {"solver.magnet.every": [5, 10], "solver.feedback": ["half_step"]})
    assert [c.solver.magnet for c in found] == [config.Every(5), config.Every(10)]
    assert found[0].output.folder == tmp_path / "every=5,feedback=half_step"
    moving = Config(solver=SolverConfig(magnet=config.WeightEma(0.1)))
    (stays,) = variants(moving, {"solver.magnet": ["fixed"]})
    assert stays.solver.magnet == "fixed"
    (other,) = variants(moving, {"solver.magnet.every": [3]})
    assert other.solver.magnet == config.Every(3)
    with pytest.raises(ValueError, match="did you mean `every`"):
        variants(base, {"solver.magnet.evry": [3]})


EARLIER: list[tuple[str, str, dict[str, Any]]] = [
    (
        "solver: {magnet_period: 50}",
        "`solver.magnet_period: 50` is now `solver.magnet: {every: 50}`.",
        {"solver": {"magnet": {"every": 50}}},
    ),
    (
        "solver: {magnet_rate: 0.1}",
        "`solver.magnet_rate: 0.1` is now `solver.magnet: {weight_ema: 0.1}`.",
        {"solver": {"magnet": {"weight_ema": 0.1}}},
    ),
    (
        "solver: {magnet_period: null, magnet_rate: 0.1}",
        "`solver.magnet_period: null` and `solver.magnet_rate: 0.1` are now "
        "`solver.magnet: {weight_ema: 0.1}`.",
        {"solver": {"magnet": {"weight_ema": 0.1}}},
    ),
    (
        "solver: {magnet_period: null}",
        "`solver.magnet_period: null` is now `solver.magnet: fixed`.",
        {"solver": {"magnet": "fixed"}},
    ),
    (
        "solver: {method: nash_md, feedback: current, eta: 1.0}",
        "`solver.method: nash_md` is now `solver.feedback: against_mixture`.",
        {"solver": {"feedback": "against_mixture", "eta": 1.0}},
    ),
    (
        "solver: {method: nash_md, pull: in_reward}",
        "`solver.method: nash_md` is now `solver.feedback: against_mixture` and "
        "`solver.pull: proximal`.",
        {"solver": {"feedback": "against_mixture"}},
    ),
    (
        "solver: {method: mmd, feedback: optimistic}",
        "`solver.method: mmd` can be left out.",
        {"solver": {"feedback": "optimistic"}},
    ),
    (
        "solver: {method: mmd}",
        "`solver.method: mmd` is now `solver.algorithm: mmd`.",
        {"solver": {"algorithm": "mmd"}},
    ),
    (
        "step: {rows: 2}",
        "`step.rows: 2` is now `step.micro_batch: 2`.",
        {"step": {"micro_batch": 2}},
    ),
]


@pytest.mark.parametrize(("text", "said", "today"), EARLIER)
def test_earlier_spellings_are_read(
    text: str, said: str, today: dict[str, Any], tmp_path: Path
) -> None:
    """With a warning that names the new one, and written anew without one."""
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.warns(FutureWarning, match=f"^{re.escape(said)}$"):
        found = config_file.load(path)
    assert completed(found) == completed(config_file.parse(Config, today))
    path.write_text(config_file.dump(found))
    assert config_file.load(path) == found


def test_every_earlier_spelling_is_tried() -> None:
    tried = " ".join(text for text, _, _ in EARLIER)
    assert all(f"{n}:" in tried for earlier in config_file.EARLIER for n in earlier.names)


@pytest.mark.parametrize(
    ("flags", "magnet", "feedback"),
    [
        (["--solver.magnet-period", "50"], config.Every(50), "current"),
        (["--solver.magnet_period=50"], config.Every(50), "current"),
        (["--solver.magnet-period", "None"], "fixed", "current"),
        (
            ["--solver.magnet-rate", "0.1", "--solver.magnet-period", "None"],
            config.WeightEma(0.1),
            "current",
        ),
        (
            ["--solver.method", "nash_md", "--solver.magnet-period", "None"],
            "fixed",
            "against_mixture",
        ),
    ],
)
def test_earlier_flags(
    flags: list[str],
    magnet: Any,
    feedback: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.warns(FutureWarning, match="now `solver"):
        found = told(flags, tmp_path, monkeypatch)
    assert meant(found) == meant(SolverConfig(magnet=magnet, feedback=feedback))


@pytest.mark.parametrize(
    ("settings", "found", "said"),
    [
        (
            {"solver.method": "mmd"},
            SolverConfig(magnet=config.Every(7)),
            "`solver.method: mmd` is now `solver.feedback: current`.",
        ),
        (
            {"solver.method": "mmd", "solver.feedback": "optimistic"},
            SolverConfig(magnet=config.Every(7), feedback="optimistic"),
            "`solver.method: mmd` can be left out.",
        ),
        (
            {"solver.magnet_rate": None},
            SolverConfig(magnet=config.Every(7), feedback="against_mixture"),
            "`solver.magnet_rate: null` can be left out.",
        ),
        (
            {"solver.magnet_period": None},
            SolverConfig(feedback="against_mixture"),
            "`solver.magnet_period: null` is now `solver.magnet: fixed`.",
        ),
        (
            {"solver.magnet_period": None, "solver.magnet_rate": 0.1},
            SolverConfig(magnet=config.WeightEma(0.1), feedback="against_mixture"),
            "are now `solver.magnet: {weight_ema: 0.1}`.",
        ),
    ],
)
def test_earlier_spellings_override_what_they_did(
    settings: dict[str, Any], found: SolverConfig, said: str
) -> None:
    base = Config(solver=SolverConfig(magnet=config.Every(7), feedback="against_mixture"))
    with pytest.warns(FutureWarning, match=f"{re.escape(said)}$"):
        assert meant(config_file.changed(base, settings).solver) == meant(found)


def test_an_earlier_name_is_swept(tmp_path: Path) -> None:
    """Into the folders that it had."""
    base = Config(output=config.OutputConfig(tmp_path))
    with pytest.warns(FutureWarning, match="is now `solver.magnet: {every: 7}`"):
        (found,) = variants(base, {"solver.magnet_period": [7]})
    assert found.solver.magnet == config.Every(7)
    assert found.output.folder == tmp_path / "magnet_period=7"


def test_a_run_in_the_earlier_spelling_is_resumed(tmp_path: Path) -> None:
    """By a file in the new one; a setting that differs is named as it is now."""
    run = tiny.config(tmp_path, budget={"steps": 1})
    train(run)
    record = tmp_path / "run" / "config.yaml"
    old = record.read_text().replace("micro_batch: 16", "rows: 16")
    old = old.replace("  magnet:\n    every: 2\n", "  magnet_period: 2\n  magnet_rate: null\n")
    assert "rows: 16" in old
    assert "magnet_period: 2" in old
    record.write_text(old)
    with pytest.warns(FutureWarning, match=r"now `s(olver\.magnet|tep\.micro_batch)"):
        train(tiny.config(tmp_path, budget={"steps": 2}), resume=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        today = completed(tiny.config(tmp_path, budget={"steps": 2}))
        assert config_file.load(record) == today
    other = tiny.config(tmp_path, solver={"magnet": {"every": 3}})
    with pytest.raises(ValueError, match=r"another `solver\.magnet`"):
        train(other, resume=True)
