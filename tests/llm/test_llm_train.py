"""The trainer on a tiny model: budgets, records, checkpoints, resuming, and every way to fail."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.numpy import load_file

import tiny
from mpo_llm import cli
from mpo_llm.config import Config, ModelConfig
from mpo_llm.engines import sample
from mpo_llm.networks import loading as models
from mpo_llm.results import chat, page
from mpo_llm.results.evaluation import evaluate_run
from mpo_llm.results.export import export
from mpo_llm.training import assemble, checkpoint, config_file
from mpo_llm.training.ledger import PASSES
from mpo_llm.training.plan import plan
from mpo_llm.training.sweep import variants
from mpo_llm.training.train import Interrupted, train

HERE = Path(__file__).parent


def weights(run: Path, step: int) -> dict[str, np.ndarray]:
    """All arrays of a checkpoint."""
    folder = run / "checkpoints" / f"step-{step:06d}"
    found = load_file(folder / checkpoint.STATE)
    aliases = json.loads((folder / checkpoint.HEADER).read_text())["aliases"]
    return found | {key: found[other] for key, other in aliases.items()}


def lines(run: Path, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    """Without times and memory, which differ from run to run."""
    rows = [json.loads(line) for line in (run / name).read_text().splitlines()]
    spent = ("seconds", "peak_memory")
    return [{k: v for k, v in row.items() if not k.startswith(spent)} for row in rows]


def same(one: Path, two: Path, step: int) -> None:
    """The two runs have equal checkpoints and records, bit for bit."""
    a, b = weights(one, step), weights(two, step)
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name, strict=True)
    headers = [
        json.loads((run / "checkpoints" / f"step-{step:06d}" / checkpoint.HEADER).read_text())
        for run in (one, two)
    ]
    for header in headers:
        del header["seconds"]
    assert headers[0] == headers[1]
    assert lines(one) == lines(two)
    assert lines(one, "samples.jsonl") == lines(two, "samples.jsonl")


SETTINGS: dict[str, dict[str, Any]] = {
    "optimistic MPO": {},
    "recipe with LoRA": {
        "model": {"lora_rank": 2},
        "solver": {"magnet": {"weight_ema": 0.1}, "pool": 3},
    },
    "sequence level, half steps": {
        "solver": {"feedback": "half_step"},
        "step": {"objective": "sequence", "minimiser": "lbfgs"},
    },
    "MPO-RT, minibatches": {
        "solver": {"pull": "in_reward", "feedback": "current"},
        "step": {"minibatches": 2, "kl": "k1_in_reward", "micro_batch": 2},
    },
    "regression in parts": {
        "solver": {"pool": 2, "magnet": {"every": 1}},
        "step": {"objective": "squared", "micro_batch": None},
    },
    "Nash-MD": {"solver": {"feedback": "against_mixture", "magnet": "fixed", "eta": 1.0}},
    "another mixture, moving magnet, pool": {
        "solver": {"feedback": {"against_mixture": 0.25}, "pool": 2, "pull": "in_reward"}
    },
    "bfloat16": {"model": {"dtype": "bfloat16"}},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_resumed_run_is_the_uninterrupted_one(name: str, tmp_path: Path) -> None:
    """Stopped after 2 and after 3 steps, between which there is no regular checkpoint."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    sections = SETTINGS[name] | {"evaluation": {"source": str(tmp_path / "prompts.jsonl")}}

    def config(folder: Path, steps: int) -> Config:
        output = {"folder": str(folder), "checkpoint_every": 2, "table_every": 1, "trackers": []}
        return tiny.config(
            tmp_path,
            **sections,
            budget={"steps": steps},
            output=output,
        )

    train(config(whole, 5))
    for steps in (2, 3, 5):
        train(config(parts, steps), resume=True)
    same(whole, parts, 5)


def test_what_is_counted(tmp_path: Path) -> None:
    """By hand: 2 prompts of 4 samples, and the pairs of distinct texts among them."""
    asked = []

    def count(prompts: Any, a: Any, b: Any) -> Any:
        asked.append(len(prompts))
        assert all(x != y for x, y in zip(a, b, strict=True))
        return [0.5] * len(prompts)

    tiny.judges["counting"] = count
    config = tiny.config(
        tmp_path, judge={"options": {"name": "counting"}}, solver={"feedback": "current"}
    )
    summary = train(config)
    rows = lines(tmp_path / "run")
    assert [row["steps"] for row in rows] == [1, 2, 3, 4]
    assert [row["samples"] for row in rows] == [8, 16, 24, 32]
    assert [row["gradient_steps"] for row in rows] == [2, 4, 6, 8]
    assert summary.counts["judge_calls"] == sum(asked)
    tokens, forward, backward = (
        np.diff([row[name] for row in [dict.fromkeys(rows[0], 0), *rows]])
        for name in ("tokens", "forward_tokens", "backward_tokens")
    )
    np.testing.assert_allclose(tokens, [8 * row["length"] for row in rows])
    # Distinct responses are read by who drew them, by the magnet, and in both epochs.
    apart = backward // 2
    np.testing.assert_array_equal(forward, 2 + tokens - 8 + 2 * apart + backward)
    assert (apart <= tokens).all()
    full = [row["distinct"] == 8 for row in rows]
    assert any(full)
    np.testing.assert_array_equal(apart[full], tokens[full])


def test_gradients_of_half_steps_count(tmp_path: Path) -> None:
    """The half step's policy stays nowhere, but its two gradients were computed."""
    summary = train(tiny.config(tmp_path, solver={"feedback": "half_step"}, budget={"steps": 2}))
    assert [row["gradient_steps"] for row in lines(tmp_path / "run")] == [4, 8]
    assert summary.seconds["step"] > 0.0
    assert summary.seconds["scoring"] > 0.0


@pytest.mark.parametrize(
    ("name", "limit", "steps"),
    [("samples", 17, 3), ("gradient_steps", 4, 2), ("tokens", 1, 1), ("judge_calls", 1, 1)],
)
def test_every_budget_ends_a_run(name: str, limit: int, steps: int, tmp_path: Path) -> None:
    """At the first step that reaches it, with a checkpoint there."""
    summary = train(tiny.config(tmp_path, budget={"steps": None, name: limit}))
    assert summary.reached == name
    assert summary.state.step == steps
    assert summary.saved.name == f"step-{steps:06d}"


def test_old_checkpoints_go(tmp_path: Path) -> None:
    train(tiny.config(tmp_path, output={"checkpoint_every": 1, "keep": 2}))
    found = checkpoint.listed(tmp_path / "run" / "checkpoints")
    assert [p.name for p in found] == ["step-000003", "step-000004"]


def test_held_out_prompts_are_evaluated(tmp_path: Path) -> None:
    other = tmp_path / "held_out.jsonl"
    other.write_text('{"prompt": "h g"}\n{"prompt": "c"}\n')
    train(tiny.config(tmp_path, evaluation={"source": str(other), "every": 2}))
    rows = lines(tmp_path / "run")
    assert ["win_rate" in row for row in rows] == [False, True, False, True]
    assert rows[1]["win_rate_low"] <= rows[1]["win_rate"] <= rows[1]["win_rate_high"]
    assert rows[1]["samples"] == 16  # those of the evaluation are not on the bill


def test_trackers_are_told(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(tiny.config(tmp_path, output={"trackers": ["tensorboard"]}))
    events = EventAccumulator(str(tmp_path / "run" / "tracker"))
    events.Reload()
    expected = [(row["step"], row["entropy"]) for row in lines(tmp_path / "run")]
    told = [(e.step, e.value) for e in events.Scalars("entropy")]
    np.testing.assert_allclose(told, expected, rtol=1e-6)


# ------------------------------------------------------------------------------ interruptions


def started(folder: Path, *arguments: str, **sections: Any) -> subprocess.Popen[str]:
    """`mpo-llm train` in a process of its own."""
    config = tiny.config(folder, **sections)
    path = folder / "run.yaml"
    path.write_text(config_file.dump(config))
    return subprocess.Popen(
        [sys.executable, "-m", "mpo_llm.cli", "train", str(path), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=HERE,
    )


def wait_for(path: Path, rows: int) -> None:
    """Until a file has so many lines."""
    for _ in range(6000):
        if path.is_file() and len(path.read_bytes().splitlines()) >= rows:
            return
        time.sleep(0.01)
    raise AssertionError(f"{path} did not grow.")


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_was_stopped_goes_on_as_if_nothing_had_been(
    signum: signal.Signals, tmp_path: Path
) -> None:
    """SIGINT and SIGTERM save and exit; SIGKILL leaves the last checkpoint."""
    long = {"steps": 100_000}
    every = {"checkpoint_every": 3}
    process = started(tmp_path, budget=long, output=every)
    wait_for(tmp_path / "run" / "metrics.jsonl", 8)
    process.send_signal(signum)
    _, said = process.communicate(timeout=100)
    saved = checkpoint.last(tmp_path / "run")
    step = int(saved.name.removeprefix("step-"))
    done = lines(tmp_path / "run")[-1]["step"]
    if signum == signal.SIGKILL:
        assert process.returncode == -signum
        assert done - 3 <= step <= done
    else:
        assert process.returncode == 128 + signum
        assert f"stopped at step {step} and saved" in said
        assert step == done
    last = step + 4
    train(tiny.config(tmp_path, budget={"steps": last}, output=every), resume=True)
    train(
        tiny.config(
            tmp_path, budget={"steps": last}, output={**every, "folder": str(tmp_path / "whole")}
        )
    )
    same(tmp_path / "run", tmp_path / "whole", last)


def test_a_signal_within_a_step_lets_it_finish(tmp_path: Path) -> None:
    def interrupt(prompts: Any, a: Any, b: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return [0.5] * len(prompts)

    tiny.judges["interrupting"] = interrupt
    before = signal.getsignal(signal.SIGTERM)
    config = tiny.config(tmp_path, judge={"options": {"name": "interrupting"}})
    with pytest.raises(Interrupted, match="stopped at step 1 and saved") as stop:
        train(config)
    assert stop.value.signum == signal.SIGTERM
    assert checkpoint.last(tmp_path / "run").name == "step-000001"
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk."""
    config = tiny.config(tmp_path, budget={"steps": 2})
    train(config)
    saved = weights(tmp_path / "run", 2)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, limits[1]))
    try:
        with pytest.raises(OSError, match=r"Cannot write .*step-000004"):
            train(tiny.config(tmp_path), resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    folder = tmp_path / "run" / "checkpoints"
    assert [p.name for p in folder.iterdir()] == ["step-000002"]
    for name, array in weights(tmp_path / "run", 2).items():
        np.testing.assert_array_equal(array, saved[name])
    assert train(tiny.config(tmp_path), resume=True).state.step == 4


# ------------------------------------------------------------------------------------ failures


def refusal(folder: Path, **sections: Any) -> str:
    with pytest.raises(ValueError) as error:  # noqa: PT011
        train(tiny.config(folder, **sections))
    assert not (folder / "run").exists()
    return str(error.value)


def test_a_run_is_not_begun_twice(tmp_path: Path) -> None:
    train(tiny.config(tmp_path))
    with pytest.raises(ValueError, match="go on with `--resume`"):
        train(tiny.config(tmp_path))
    with pytest.raises(ValueError, match=r"another `solver\.eta`"):
        train(tiny.config(tmp_path, solver={"eta": 0.5}), resume=True)


def test_models_that_are_not_to_be_had(tmp_path: Path) -> None:
    assert "Cannot load the model" in refusal(tmp_path, model={"name": str(tmp_path / "none")})
    assert "no file" in refusal(tmp_path, model={"name": "none.gguf"})
    said = refusal(tmp_path, model={"lora_rank": 2, "lora_targets": "nonsense"})
    assert said.startswith("`model.lora_targets`: Target modules")
    assert "no token '<stop>'" in refusal(tmp_path, generation={"end": "<stop>"})


def test_a_model_with_code_of_its_own_is_not_run(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "foreign")
    found = json.loads((folder / "config.json").read_text())
    found |= {"model_type": "foreign", "auto_map": {"AutoConfig": "foreign.Config"}}
    (folder / "config.json").write_text(json.dumps(found))
    (folder / "foreign.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    assert "Cannot load the model" in refusal(tmp_path, model={"name": str(folder)})
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("said", [None, float("nan"), 1.2, -1])
def test_a_judge_that_fails_ends_the_run(said: Any, tmp_path: Path) -> None:
    """With what it said, and nothing saved of the step."""
    tiny.judges["failing"] = lambda prompts, a, b: [said] * len(prompts)
    with pytest.raises(ValueError, match="The judge must return"):
        train(tiny.config(tmp_path, judge={"options": {"name": "failing"}}))
    assert not checkpoint.listed(tmp_path / "run" / "checkpoints")


@pytest.mark.parametrize(
    ("judge", "said"),
    [
        ({"factory": ""}, "must read `module:function`"),
        ({"factory": "no.such:thing"}, "cannot import 'no.such'"),
        ({"factory": "no_such.py:thing"}, "no file 'no_such.py'"),
        ({"factory": "math:thing"}, "no function 'thing' in 'math'"),
        ({"options": {"wrong": 1}}, "`judge.options` do not suit"),
        ({"factory": "math:floor", "options": {}}, "do not suit"),
    ],
)
def test_judges_that_are_not_to_be_had(judge: dict[str, Any], said: str, tmp_path: Path) -> None:
    assert said in refusal(tmp_path, judge=judge)


def test_more_prompts_than_there_are(tmp_path: Path) -> None:
    assert "`solver.prompts` is 9, but there are 4" in refusal(tmp_path, solver={"prompts": 9})


def test_nan_weights_end_the_run(tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        train(tiny.config(tmp_path, step={"rate": 1e30, "clip": None}))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
        MemoryError(),
    ],
)
def test_out_of_memory_says_what_to_turn(
    error: Exception, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(prompts: Any, a: Any, b: Any) -> Any:
        raise error

    tiny.judges["exhausted"] = fail
    path = tmp_path / "run.yaml"
    path.write_text(
        config_file.dump(tiny.config(tmp_path, judge={"options": {"name": "exhausted"}}))
    )
    assert cli.main(["train", str(path)]) == 2
    said = capsys.readouterr().err
    assert "step.micro_batch" in said
    assert "gradient_checkpointing" in said


def test_the_cpu_says_that_it_has_no_memory_so() -> None:
    """The words that are looked for."""
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**60)
    assert cli._out_of_memory(error.value)


def test_a_plan_says_what_the_run_then_takes(tmp_path: Path) -> None:
    """Counts to the digit; the arithmetic of memory where it can be checked."""
    config = tiny.config(tmp_path, budget={"steps": None, "samples": 20})
    found = plan(config)
    assert not (tmp_path / "run").exists()
    summary = train(config)
    assert found.steps == summary.counts["steps"] == 3
    assert found.responses * 3 == summary.counts["samples"]
    assert found.gradients * 3 == summary.counts["gradient_steps"]
    assert found.tokens * 3 >= summary.counts["tokens"]
    assert 3 * found.comparisons >= summary.counts["judge_calls"]
    policy = sum(w.numel() * 4 for w in summary.state.policy.weights.values())
    assert found.memory["policies"] == 4 * policy  # old, start, magnet, previous
    assert found.memory["model"] == policy
    assert set(found.seconds) == set(summary.seconds)
    assert "a step    2 prompts, 8 responses of at most 40 tokens" in str(found)


# ------------------------------------------------------------------------------ after training


@pytest.mark.parametrize("rank", [0, 2])
def test_an_export_is_the_policy(rank: int, tmp_path: Path) -> None:
    """Loaded by transformers alone, it gives the policy's log-probabilities."""
    summary = train(tiny.config(tmp_path, model={"lora_rank": rank}))
    export(tmp_path / "run", tmp_path / "exported")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "exported")
    ids = (3, 7, 2, 9)
    with torch.no_grad():
        expected = torch.log_softmax(model(torch.tensor([ids])).logits[0].double(), -1)
    policy, tokenizer = checkpoint.load_policy(tmp_path / "run")
    for found in (policy, summary.state.policy):
        q = sample(found, [ids], 3, np.random.default_rng(0))
        first = found.log_probs(q)[:, 0]
        np.testing.assert_allclose(first, expected[-1, q.tokens[:, 0]], atol=1e-5)
    assert tokenizer.eos_token_id == 1
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "exported")
    assert again.chat_template == tiny.TEMPLATE
    with pytest.raises(ValueError, match="exists"):
        export(tmp_path / "run", tmp_path / "exported")


def test_a_chat_keeps_what_was_said(tmp_path: Path) -> None:
    """The second answer is the policy's to the whole conversation so far."""
    train(tiny.config(tmp_path))
    policy, tokenizer, engine = chat.load(str(tmp_path / "run"), 4, 0.5)
    rng = np.random.default_rng(0)
    one, two = chat.converse(policy, tokenizer, ["a b", "c"], rng, "d", engine)
    rng = np.random.default_rng(0)
    sample(
        policy, [(2, *tokenizer.convert_tokens_to_ids(["d", "<user>", "a", "b", "<bot>"]))], 1, rng
    )
    text = f"<user> d <user> a b <bot> {one} <user> c <bot>"
    ids = tuple(tokenizer(text)["input_ids"])
    again = sample(policy, [ids], 1, rng)
    assert tokenizer.decode(again.ids(0), skip_special_tokens=True) == two


def test_a_sweep_runs_every_combination_and_what_fails_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny.config(tmp_path, budget={"steps": 2})
    path = tmp_path / "sweep.yaml"
    path.write_text(config_file.dump(config))
    found = variants(config, {"solver.eta": [1.0, 2.0], "step.rate": [0.01, 1e30], "seed": [3]})
    folders = [str(c.output.folder.relative_to(tmp_path)) for c in found]
    assert folders[1] == "run/eta=1.0,rate=1e+30,seed=3"
    assert [c.solver.eta for c in found] == [1.0, 1.0, 2.0, 2.0]
    options = ["--vary", "step.rate=0.01,1.0e+30", "--seeds", "0", "1", "--backend", "threading"]
    assert cli.main(["sweep", str(path), *options]) == 0
    said = capsys.readouterr().out.splitlines()
    assert ["2 steps" in line for line in said] == [True, True, False, False]
    assert all("failed: The " in line for line in said[2:])
    assert lines(tmp_path / "run" / "rate=0.01,seed=1")[-1]["step"] == 2
    with pytest.raises(ValueError, match=r"no setting `solver\.eat`"):
        variants(config, {"solver.eat": [1]})
    with pytest.raises(ValueError, match=r"no setting `sover\.eta` to vary"):
        variants(config, {"sover.eta": [1]})


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(config_file.dump(tiny.config(tmp_path)))
    assert cli.main(["train", str(path), "--budget.steps", "1"]) == 0
    assert "ended by  budget.steps" in capsys.readouterr().out
    assert cli.main(["train", str(path)]) == 2
    assert "--resume" in capsys.readouterr().err
    assert cli.main(["train", str(path), "--resume"]) == 0
    assert cli.main(["export", str(tmp_path / "run"), str(tmp_path / "out")]) == 0
    assert cli.main(["chat", str(tmp_path / "nothing")]) == 2
    assert cli.main(["train", str(tmp_path / "none.yaml")]) == 2
    assert "Cannot read" in capsys.readouterr().err


@pytest.mark.slow
def test_the_small_model_is_converted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And says what a language model says."""
    model, tokenizer = models.load(ModelConfig())
    folder = Path(models.folder("smollm2"))
    before = folder.stat().st_mtime_ns
    assert models.folder("smollm2") == str(folder)
    assert folder.stat().st_mtime_ns == before
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())
    ids = tokenizer("The capital of France is", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        assert tokenizer.decode(model(ids).logits[0, -1].argmax()).strip() == "Paris"


# ------------------------------------------------------------------------------ more processes


def launched(folder: Path, options: list[str], *arguments: str, **sections: Any) -> Path:
    """A run of two processes, started by `accelerate launch`; its folder."""
    run = folder / "two"
    config = tiny.config(folder, **sections, output={"folder": str(run), "trackers": []})
    path = folder / "two.yaml"
    path.write_text(config_file.dump(config))
    command = "accelerate.commands.launch --num_processes 2 --num_machines 1 --dynamo_backend no"
    program = [sys.executable, "-m", *command.split(), "--mixed_precision", "no", *options]
    # The launcher starts `mpo_llm.cli` as anyone would.
    done = subprocess.run(
        [*program, "-m", "mpo_llm.cli", "train", str(path), *arguments],
        capture_output=True,
        text=True,
        cwd=HERE,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    kind = "2 FSDP processes" if options == FSDP else "2 processes"
    assert done.stdout.count(f"run by    {kind}") == 1
    return run


SHARED: dict[str, dict[str, Any]] = {
    "full": {"solver": {"prompts": 3, "pool": 2, "magnet": {"weight_ema": 0.1}}},
    "LoRA": {"model": {"lora_rank": 2}, "solver": {"prompts": 3}, "step": {"minibatches": 2}},
    "regression, checkpointed": {
        "model": {"gradient_checkpointing": True},
        "solver": {"prompts": 3, "feedback": "current"},
        "step": {"objective": "squared", "micro_batch": None},
    },
}


FSDP = ["--use_fsdp", "--fsdp_version", "2"]
"""Weights are shared too."""


@pytest.mark.slow
@pytest.mark.parametrize("name", SHARED)
@pytest.mark.parametrize("options", [["--multi_gpu"], FSDP], ids=["DDP", "FSDP"])
def test_two_processes_are_one(name: str, options: list[str], tmp_path: Path) -> None:
    """The same prompts, draws, judgements and gradients, but for rounding: three prompts for two
    processes, whose groups are never split."""
    train(tiny.config(tmp_path, **SHARED[name]))
    run = launched(tmp_path, options, **SHARED[name])
    for one, two in zip(lines(tmp_path / "run"), lines(run), strict=True):
        assert one.keys() == two.keys()
        for key in one.keys() - {"mismatch", *PASSES}:
            assert two[key] == pytest.approx(one[key], rel=1e-3, abs=1e-4), key
        for key in PASSES:  # processes that share work read what they drew once more
            assert one[key] <= two[key] <= 1.5 * one[key], key
    ours, theirs = weights(tmp_path / "run", 4), weights(run, 4)
    assert ours.keys() == theirs.keys()
    for key, array in ours.items():
        np.testing.assert_allclose(theirs[key], array, atol=1e-4, err_msg=key)


@pytest.mark.slow
def test_a_run_goes_on_with_other_processes(tmp_path: Path) -> None:
    """A checkpoint holds whole weights: begun by one process, ended by two that share them."""
    train(tiny.config(tmp_path))
    shared = tiny.config(tmp_path, budget={"steps": 2}, output={"folder": str(tmp_path / "two")})
    train(shared)
    run = launched(tmp_path, FSDP, "--resume")
    ours, theirs = weights(tmp_path / "run", 4), weights(run, 4)
    for key, array in ours.items():
        np.testing.assert_allclose(theirs[key], array, atol=1e-4, err_msg=key)


def test_the_page_shows_curves_rates_and_what_was_said(tmp_path: Path) -> None:
    held_out = {"source": str(tmp_path / "prompts.jsonl"), "every": 2}
    train(tiny.config(tmp_path, evaluation=held_out))
    run = str(tmp_path / "run")
    rows = page.sample_answers(run, count=3, seed=1)
    start, tokenizer = assemble.start(checkpoint.config_of(run))
    policy = checkpoint.policy_of(run, start)
    asked = tuple(tokenizer(f"<user> {text} <bot>")["input_ids"] for text, _, _ in rows)
    for p, column in ((start, 1), (policy, 2)):
        drawn = sample(p, [tuple(ids) for ids in asked], 1, np.random.default_rng(1))
        texts = [tokenizer.decode(drawn.ids(i), skip_special_tokens=True) for i in range(3)]
        assert [row[column] for row in rows] == texts
    text = page.render(run, {"the <vote>": evaluate_run(run)})
    assert text.count("<svg") == 1
    assert "the &lt;vote&gt;" in text
    assert "win rate against the start" in text
    assert not any(outside in text for outside in ("src=", "<link", "<script", "url(http"))
