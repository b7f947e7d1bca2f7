"""What a training run loads: models, judges and prompts, and what it refuses to load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from mpo_llm.config import ModelConfig
from mpo_llm.networks import loading as models
from mpo_llm.training.train import train


def refusal(folder: Path, **sections: Any) -> str:
    with pytest.raises(ValueError) as error:  # noqa: PT011
        train(tiny.config(folder, **sections))
    assert not (folder / "run").exists()
    return str(error.value)


def test_models_that_are_not_to_be_had(tmp_path: Path) -> None:
    assert "Cannot load the model" in refusal(tmp_path, model={"name": str(tmp_path / "none")})
    assert "no file" in refusal(tmp_path, model={"name": "none.gguf"})
    said = refusal(tmp_path, model={"lora_rank": 2, "lora_targets": "nonsense"})
    assert said.startswith("`model.lora_targets`: 'nonsense' is no layer of the model")
    assert "no token '<stop>'" in refusal(tmp_path, generation={"end": "<stop>"})


def test_a_model_with_code_of_its_own_is_not_run(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "foreign")
    found = json.loads((folder / "config.json").read_text())
    found |= {"model_type": "foreign", "auto_map": {"AutoConfig": "foreign.Config"}}
    (folder / "config.json").write_text(json.dumps(found))
    (folder / "foreign.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    assert "Cannot load the model" in refusal(tmp_path, model={"name": str(folder)})
    assert not (tmp_path / "ran").exists()


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
