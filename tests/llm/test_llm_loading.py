"""What a training run loads: models, judges and prompts, and what it refuses to load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

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
    assert "There is no model" in refusal(tmp_path, model={"name": str(tmp_path / "none")})
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
        ({"factory": "everyday"}, "got 'everyday': did you mean `mpo_llm.judges:everyday`?"),
        ({"factory": "mpo_llm.judges:evryday"}, "': did you mean `mpo_llm.judges:everyday`?"),
        ({"factory": "no.such:thing"}, "cannot import 'no.such'"),
        ({"factory": "no_such.py:thing"}, "no file 'no_such.py'"),
        ({"factory": "math:thing"}, "no function 'thing' in 'math'"),
        ({"options": {"wrong": 1}}, "`judge.options` do not suit"),
        ({"factory": "math:floor", "options": {}}, "do not suit"),
    ],
)
def test_judges_that_are_not_to_be_had(judge: dict[str, Any], said: str, tmp_path: Path) -> None:
    assert said in refusal(tmp_path, judge=judge)


def rewritten(folder: Path, change: Any, **settings: Any) -> str:
    """The refusal of the tiny model after `change` of its weights by name."""
    tiny.save(folder / "model", **settings)
    file = folder / "model" / "model.safetensors"
    weights = change(load_file(file))
    save_file(weights, file, metadata={"format": "pt"})
    return refusal(folder, model={"name": str(folder / "model")})


def test_checkpoints_that_lack_weights(tmp_path: Path) -> None:
    """Also those of a base model or of a classifier; foreign weights and shapes, and cut files."""

    def without(part: str) -> Any:
        return lambda weights: {n: w for n, w in weights.items() if part not in n}

    said = rewritten(tmp_path / "1", without("lm_head"))
    assert "is not one of a LlamaForCausalLM: it lacks lm_head.weight." in said
    said = rewritten(tmp_path / "2", without("down_proj"), tie_word_embeddings=True)
    assert "it lacks model.layers.0.mlp.down_proj.weight, model.layers.1.mlp" in said
    said = rewritten(tmp_path / "3", lambda found: found | {"v_head.weight": torch.ones(2)})
    assert "it has, without a place for them, v_head.weight." in said
    wide = {"lm_head.weight": torch.ones(3, 16)}
    assert "Cannot load the model" in rewritten(tmp_path / "4", lambda found: found | wide)
    for number, kind in (
        ("5", transformers.LlamaModel),
        ("6", transformers.LlamaForSequenceClassification),
    ):
        folder = tiny.save(tmp_path / number / "model")
        kind(tiny.model().config).save_pretrained(folder)
        said = refusal(tmp_path / number, model={"name": str(folder)})
        assert "it lacks lm_head.weight" in said
        assert ("score.weight" in said) == (number == "6")
    file = tiny.save(tmp_path / "7" / "model") / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    assert "Cannot load the model" in refusal(tmp_path / "7", model={"name": str(file.parent)})


def test_tied_heads_are_not_missing(tmp_path: Path) -> None:
    """In a checkpoint of the base model, too; a head of its own is kept, whatever is configured."""
    tied = tiny.model(tie_word_embeddings=True)
    tiny.save(tmp_path / "one", tie_word_embeddings=True)
    tiny.save(tmp_path / "two")
    tied.model.save_pretrained(tmp_path / "two")
    for name in ("one", "two"):
        model, _ = models.load(ModelConfig(str(tmp_path / name)))
        assert model.lm_head.weight is model.model.embed_tokens.weight
        assert torch.equal(model.lm_head.weight, tied.lm_head.weight)
    own = tiny.save(tmp_path / "own")
    written = json.loads((own / "config.json").read_text())
    (own / "config.json").write_text(json.dumps(written | {"tie_word_embeddings": True}))
    model, _ = models.load(ModelConfig(str(own)))
    assert not torch.equal(model.lm_head.weight, model.model.embed_tokens.weight)
    assert not model.config.tie_word_embeddings


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        ("q_prj", "'q_prj' is no layer of the model: write `all-linear`, or names such as q_proj"),
        ("q_proj, qproj", "'qproj' is no layer"),
        ("q_proj,", "'' is no layer"),
        ("self_attn", "'self_attn' is no layer but a LlamaAttention"),
        ("c_attn", "c_attn' is no layer of the model"),
        ("all_linear", "'all_linear' is no layer"),
    ],
)
def test_lora_targets_that_name_no_layer(targets: str, said: str, tmp_path: Path) -> None:
    """Each of them must: PEFT would pass over the others."""
    model = {"lora_rank": 2, "lora_targets": targets}
    assert said in refusal(tmp_path, model=model)


def test_lora_targets_that_name_layers(tmp_path: Path) -> None:
    folder = str(tiny.save(tmp_path / "model"))
    for targets, count in (("q_proj", 4), ("self_attn.q_proj, lm_head", 6), ("all-linear", 28)):
        model, _ = models.load(ModelConfig(folder, lora_rank=1, lora_targets=targets))
        assert sum(p.requires_grad for p in model.parameters()) == count


def test_adapters_in_half_precision_are_the_rounding_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The draw is the same. It leaves the caller's random numbers alone, and those of GPUs."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: pytest.fail("asked for GPUs"))
    folder, before = tiny.config(tmp_path).model.name, torch.get_rng_state()
    halves, singles = (
        {
            n: p
            for n, p in models.load(
                ModelConfig(folder, "bfloat16", lora_rank=2, lora_dtype=dtype), seed=1
            )[0].named_parameters()
            if p.requires_grad
        }
        for dtype in ("bfloat16", "float32")
    )
    assert torch.equal(torch.get_rng_state(), before)
    for name, p in halves.items():
        assert (p.dtype, singles[name].dtype) == (torch.bfloat16, torch.float32)
        assert torch.equal(p, singles[name].bfloat16())
    model = {"dtype": "bfloat16", "lora_rank": 2, "lora_dtype": "bfloat16"}
    trained = train(tiny.config(tmp_path, model=model, budget={"steps": 1})).state.policy
    assert {w.dtype for w in trained.weights.values()} == {torch.float32}


def test_trackers_that_are_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named before the model is loaded."""
    monkeypatch.setattr(models, "load", lambda *_: pytest.fail("loaded"))
    for name, said in (
        ("wandb", "'wandb' is not installed: pip install wandb"),
        ("comet_ml", "pip install comet_ml"),
        ("wandbb", "there is no tracker 'wandbb', only aim,"),
    ):
        monkeypatch.setattr("accelerate.tracking._available_trackers", [])
        output = {"folder": str(tmp_path / "run"), "trackers": [name]}
        assert said in refusal(tmp_path, output=output)


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


class Words:
    """What a stand-in for transformers has read: the content of a file."""

    def __init__(self, content: str) -> None:
        self.content, self.config = content, None

    def save_pretrained(self, folder: Path) -> None:
        (folder / "content").write_text(self.content)


def test_files_of_one_name_and_size_are_converted_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(source: str, gguf_file: str) -> Words:
        return Words((Path(source) / gguf_file).read_text())

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(
        models, "checked", lambda _, source, __, gguf_file, dtype: read(source, gguf_file)
    )
    monkeypatch.setattr(
        models, "tokenizer_of", lambda source, _, gguf_file: read(source, gguf_file)
    )
    file = tmp_path / "model.gguf"
    for content in ("one", "two", "one"):
        file.write_text(content)
        found = Path(models.folder(str(file)))
        assert (found / "content").read_text() == content
    assert len(list(found.parent.iterdir())) == 2


@pytest.mark.parametrize("name", ["cuda:99", "no such device", "cpux", ""])
def test_devices_that_are_not_to_be_had(name: str) -> None:
    with pytest.raises(ValueError, match=r"^The device '.*' cannot be used: .+\.$"):
        models.usable(name)
    assert models.usable("cpu") == "cpu"


def test_an_attention_that_a_model_does_not_have_names_the_setting(tmp_path: Path) -> None:
    config = transformers.GPTNeoConfig(
        vocab_size=16, hidden_size=8, num_layers=1, num_heads=2, attention_types=[[["local"], 1]]
    )
    transformers.GPTNeoForCausalLM(config).save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    for attention in ("sdpa", "flash_attention_2"):
        with pytest.raises(ValueError, match=r"Set `model\.attention: eager`"):
            models.load(ModelConfig(str(tmp_path), attention=attention))
    models.load(ModelConfig(str(tmp_path), attention="eager"))
