"""A resumed run is the run that was begun: what has changed is refused by its name."""

from __future__ import annotations

import datetime
import json
import shutil
import typing
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers.utils import chat_template_utils

import mpo_llm as ml
import tiny
from mpo_llm import cli
from mpo_llm.config import Config
from mpo_llm.results.evaluation import evaluate_run
from mpo_llm.training import assemble, checkpoint, config_file, fingerprint
from mpo_llm.training.train import Summary, train

JUDGE = """
from pathlib import Path

def make(path, bonus=0.0):
    share = float(Path(path).read_text()) + bonus
    return lambda prompts, a, b: [0.5 + share * (len(x) > len(y)) - share * (len(x) < len(y))
                                  for x, y in zip(a, b)]

def score(model):
    return make(Path(model) / "share")
"""

ENGINE = """
import mpo_llm

def make(config):
    return mpo_llm.Autoregressive()
"""


def begun(folder: Path, steps: int = 1, **sections: Any) -> Config:
    """The configuration of a run whose parts all lie in the folder."""
    if not (folder / "judge.py").exists():
        (folder / "judge.py").write_text(JUDGE)
        (folder / "share").write_text("0.25")
        (folder / "engine.py").write_text(ENGINE)
        tiny.save(folder / "model")
        tiny.prompts(folder)
        shutil.copy(folder / "prompts.jsonl", folder / "held_out.jsonl")
    options = {"path": str(folder / "share"), "bonus": 0.125}
    judge = {"factory": f"{folder}/judge.py:make", "options": options}
    found = {
        "judge": judge,
        "generation": {"engine": f"{folder}/engine.py:make"},
        "evaluation": {"source": str(folder / "held_out.jsonl"), "every": 50},
        "budget": {"steps": steps},
    }
    return tiny.config(folder, **(found | sections))


def reordered(path: Path) -> None:
    path.write_text("".join(reversed(path.read_text().splitlines(keepends=True))))


def edited(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def other_weights(folder: Path) -> None:
    """One number of one tensor differs by its last bit."""
    model = tiny.model()
    with torch.no_grad():
        w = model.model.layers[1].mlp.up_proj.weight
        w[3, 5] = torch.nextafter(w[3, 5], torch.tensor(9.0))
    model.save_pretrained(folder / "model")


CHANGES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "prompts reversed": ("prompts", lambda f: reordered(f / "prompts.jsonl")),
    "a prompt in other words": ("prompts", lambda f: edited(f / "prompts.jsonl", "a b c", "a c b")),
    "a prompt more": (
        "prompts",
        lambda f: (f / "prompts.jsonl").write_text(
            (f / "prompts.jsonl").read_text() + '{"prompt": "h"}\n'
        ),
    ),
    "held-out prompts reversed": ("held_out", lambda f: reordered(f / "held_out.jsonl")),
    "another weight": ("weights", other_weights),
    "another word": (
        "tokenizer",
        lambda f: edited(f / "model" / "tokenizer.json", '"scissors"', '"shears"'),
    ),
    "another chat template": (
        "template",
        lambda f: edited(f / "model" / "chat_template.jinja", "'bot' if", "'bot'  if"),
    ),
    "another end": (
        "ends",
        lambda f: (f / "model" / "generation_config.json").write_text('{"eos_token_id": [1, 5]}'),
    ),
    "another judge's file": ("judge", lambda f: edited(f / "judge.py", "0.5 +", "0.50 +")),
    "another file of an option": ("judge", lambda f: (f / "share").write_text("0.125")),
    "another engine's file": ("engine", lambda f: edited(f / "engine.py", "return", "return  ")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_refused_or_accepted_and_recorded(change: str, tmp_path: Path) -> None:
    name, make = CHANGES[change]
    train(begun(tmp_path))
    make(tmp_path)
    with pytest.raises(ValueError, match=f"--accept {name}`") as error:
        train(begun(tmp_path, 2), resume=True)
    assert fingerprint.NAMES[name] in str(error.value)
    assert [p.name for p in checkpoint.listed(tmp_path / "run/checkpoints")] == ["step-000001"]
    other = next(n for n in fingerprint.NAMES if n != name)
    with pytest.raises(ValueError, match="was begun with other contents"):
        train(begun(tmp_path, 2), resume=True, accept=(other,))
    found = train(begun(tmp_path, 2), resume=True, accept=(name,))
    (change_,) = found.changes
    assert (change_["name"], change_["step"]) == (name, 1)
    assert change_["before"] != change_["after"]
    assert f"changed   {name}, accepted at step 1" in str(found)
    header = json.loads((found.saved / checkpoint.HEADER).read_text())
    assert header["run"]["changes"] == [change_]
    # From now on this is the run, and it keeps the record.
    assert train(begun(tmp_path, 3), resume=True).changes == (change_,)


def test_nothing_changed_is_nothing_refused(tmp_path: Path) -> None:
    """Files of the same content elsewhere in time are the same."""
    train(begun(tmp_path))
    for path in (tmp_path / "prompts.jsonl", tmp_path / "judge.py", tmp_path / "share"):
        path.write_text(path.read_text())
    tiny.save(tmp_path / "model")
    assert train(begun(tmp_path, 2), resume=True).changes == ()


def test_several_changes_are_named_together(tmp_path: Path) -> None:
    train(begun(tmp_path))
    reordered(tmp_path / "prompts.jsonl")
    other_weights(tmp_path)
    with pytest.raises(ValueError, match=r"`--accept weights prompts`"):
        train(begun(tmp_path, 2), resume=True)
    flags = ["--accept", "weights", "prompts"]
    path = tmp_path / "run.yaml"
    path.write_text(config_file.dump(begun(tmp_path, 2)))
    assert cli.main(["train", str(path), "--resume", *flags]) == 0
    assert len(train(begun(tmp_path, 2), resume=True).changes) == 2


def test_a_template_that_writes_the_date_makes_other_prompts_tomorrow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on(day: int) -> None:
        clock = SimpleNamespace(now=lambda: datetime.datetime(2026, 5, day))
        monkeypatch.setattr(chat_template_utils, "datetime", clock)

    begun(tmp_path)
    template = tmp_path / "model" / "chat_template.jinja"
    date = "{{ 'a ' if strftime_now('%d') == '01' else 'b ' }}"
    template.write_text(date + template.read_text())
    on(1)
    train(begun(tmp_path))
    on(2)
    with pytest.raises(ValueError, match=r"`--accept prompts held_out`"):
        train(begun(tmp_path, 2), resume=True)
    found = train(begun(tmp_path, 2), resume=True, accept=("prompts", "held_out"))
    assert [c["name"] for c in found.changes] == ["prompts", "held_out"]


def test_other_held_out_prompts_may_be_asked_for(tmp_path: Path) -> None:
    """They judge the run and do not change it."""
    train(begun(tmp_path))
    (tmp_path / "new.jsonl").write_text('{"prompt": "h"}\n')
    evaluation = {"source": str(tmp_path / "new.jsonl"), "every": 50}
    found = train(begun(tmp_path, 2, evaluation=evaluation), resume=True)
    assert [c["name"] for c in found.changes] == ["held_out"]
    assert train(begun(tmp_path, 3, evaluation={}), resume=True).state.step == 3


def test_an_edited_configuration_is_not_that_of_the_run(tmp_path: Path) -> None:
    train(begun(tmp_path))
    file = tmp_path / "run" / "config.yaml"
    file.write_text(file.read_text().replace("eta: 2.0", "eta: 1.0"))
    with pytest.raises(ValueError, match=r"begun with another `solver\.eta`"):
        train(replace(config_file.load(file)), resume=True)


def test_a_name_that_cannot_be_accepted(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"`accept` takes weights, architecture, .*, got everything"
    ):
        train(begun(tmp_path), resume=True, accept=("everything",))
    assert typing.get_args(cli.Accepted) == tuple(fingerprint.NAMES)


def test_other_versions_are_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(begun(tmp_path))
    monkeypatch.setattr(fingerprint, "_versions", lambda: {"torch": "0.1"})
    with pytest.warns(UserWarning, match=rf"torch {torch.__version__.split('+')[0]}.*, now 0\.1"):
        found = train(begun(tmp_path, 2), resume=True)
    assert found.state.step == 2


def without_fingerprints(saved: Path) -> None:
    """A checkpoint as release 0.1.0 wrote it."""
    header = json.loads((saved / checkpoint.HEADER).read_text())
    del header["run"]
    (saved / checkpoint.HEADER).write_text(json.dumps(header))


def test_a_checkpoint_without_fingerprints_goes_on(tmp_path: Path) -> None:
    """With a sentence, and with fingerprints from then on."""
    without_fingerprints(train(begun(tmp_path)).saved)
    reordered(tmp_path / "prompts.jsonl")
    checkpoint.load_policy(tmp_path / "run")
    with pytest.warns(UserWarning, match="release without fingerprints"):
        train(begun(tmp_path, 2), resume=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(begun(tmp_path, 3), resume=True)
    reordered(tmp_path / "prompts.jsonl")
    with pytest.raises(ValueError, match="other contents of the prompts"):
        train(begun(tmp_path, 4), resume=True)


@pytest.mark.parametrize("model", [{}, {"lora_rank": 2}])
def test_a_policy_is_not_read_onto_other_weights(model: dict[str, Any], tmp_path: Path) -> None:
    """Of a LoRA run it would be another policy, and `start` would be another model."""
    trained: Summary = train(begun(tmp_path, model={"name": str(tmp_path / "model"), **model}))
    checkpoint.load_policy(trained.saved)
    other_weights(tmp_path)
    with pytest.raises(ValueError, match="has other weights today"):
        checkpoint.load_policy(trained.saved)
    with pytest.raises(ValueError, match="has other weights today"):
        evaluate_run(str(tmp_path / "run"), samples=4)


# --------------------------------------------------------------------- the fingerprint of weights


def mark(**weights: torch.Tensor) -> str:
    module = torch.nn.Module()
    for name, tensor in weights.items():
        module.register_parameter(name, torch.nn.Parameter(tensor, tensor.is_floating_point()))
    network = ml.PlainNetwork(ml.SmallTransformer(vocabulary=3, context=4))
    network._module = module
    network.workbench.parameters = {}
    return fingerprint.weights(ml.TokenPolicy(network, ml.Decoding(1), ((1.0, {}),)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_every_change_of_a_tensor_changes_the_fingerprint(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    w = torch.randn(301, 333).to(dtype)
    known = {mark(a=w)}
    for i, j in ((0, 0), (300, 332), (17, 5), (150, 331)):
        one = w.clone()
        one[i, j] = -one[i, j]
        known.add(mark(a=one))
    # Changes that cancel in a plain sum: of two signs, and of the same amount up and down.
    signs = w.clone()
    signs[10, 1:300:4] *= -1.0
    exchanged = w.clone()
    exchanged[[3, 200]] = exchanged[[200, 3]]
    known |= {mark(a=exchanged), mark(a=w.flip(0)), mark(a=w.T), mark(a=w.reshape(333, 301))}
    known |= {mark(a=signs), mark(a=w + 1.0), mark(a=w.double())} - {mark(a=w)}
    known |= {mark(b=w), mark(a=w[:, 1:]), mark(a=w, b=w), mark(a=torch.zeros_like(w))}
    assert len(known) == 15 + (dtype != torch.float64)


def test_the_fingerprint_does_not_depend_on_the_place_in_memory() -> None:
    torch.manual_seed(0)
    wide = torch.randn(20, 7)
    for view in (wide[:, 3], wide[3:, 1:5], wide.T, wide.reshape(-1)[1:]):
        assert mark(a=view) == mark(a=view.clone()) == mark(a=view.contiguous())


def test_training_does_not_change_the_fingerprint_of_its_start(tmp_path: Path) -> None:
    config = begun(tmp_path)
    before, _ = assemble.start(config)
    found = train(config)
    network = found.state.policy.network
    start = ml.TokenPolicy(network, before.decoding, ((1.0, before.weights),))
    assert fingerprint.weights(start) == fingerprint.weights(before)
    assert any(
        not np.array_equal(w.numpy(), before.weights[n].numpy())
        for n, w in found.state.policy.weights.items()
    )
