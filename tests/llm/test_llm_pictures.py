"""Models of pictures and text, through the command line: only their text is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import mpo_llm as ml
import tiny
import tiny_models
from mpo_llm import cli
from mpo_llm.training import checkpoint, config_file

PROCESSOR = {"image_processor_type": "Gemma3ImageProcessor", "size": {"height": 224, "width": 224}}


def gemma3(folder: Path) -> Path:
    """A folder as Gemma 3 has it, with the settings of its processor of pictures."""
    model = tiny_models.build("gemma3", text_config={"vocab_size": len(tiny.WORDS)})
    model.save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    return folder


@pytest.mark.parametrize("settings", [{}, {"lora_rank": 2}], ids=["all weights", "LoRA"])
def test_a_run_from_training_to_the_folder(
    settings: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder has the weights of the policy, the pictures' part as it was, and its processor."""
    start = gemma3(tmp_path / "model")
    run, out, held_out = tmp_path / "run", tmp_path / "out", tmp_path / "held_out.jsonl"
    tiny.prompts(tmp_path)
    held_out.write_text('{"prompt": "a b"}\n{"prompt": "h"}\n')
    config = tiny.config(
        tmp_path,
        model={"name": str(start), **settings},
        evaluation={"source": str(held_out), "every": 2},
        step={"rate": 0.05},
        budget={"steps": 2},
    )
    path = tmp_path / "run.yaml"
    path.write_text(config_file.dump(config))
    assert cli.main(["train", str(path)]) == 0
    assert cli.main(["evaluate", str(run), "--against", "start", str(start)]) == 0
    assert cli.main(["export", str(run), str(out)]) == 0
    said = capsys.readouterr().out
    assert "ended by  budget.steps" in said
    assert f"against {start}" in said
    assert json.loads((out / "preprocessor_config.json").read_text()) == PROCESSOR
    assert transformers.AutoTokenizer.from_pretrained(out).get_vocab() == dict(
        zip(tiny.WORDS, range(99), strict=False)
    )
    models = [
        transformers.AutoModelForImageTextToText.from_pretrained(folder) for folder in (start, out)
    ]
    assert {type(m).__name__ for m in models} == {"Gemma3ForConditionalGeneration"}
    old, new = (m.state_dict() for m in models)
    assert old.keys() == new.keys()
    text = {name for name in old if "language_model" in name or "lm_head" in name}
    assert text < old.keys()
    assert not all(torch.equal(old[name], new[name]) for name in text)
    assert all(torch.equal(old[name], new[name]) for name in old.keys() - text)
    policy, _ = checkpoint.load_policy(run)
    again = ml.TokenPolicy.of(ml.TransformersNetwork(models[1]), policy.decoding)
    responses = ml.sample(policy, ((2, 4, 5), (6, 7)), 2, np.random.default_rng(0))
    np.testing.assert_allclose(
        again.log_probs(responses), policy.log_probs(responses), rtol=1e-5, atol=1e-5
    )
