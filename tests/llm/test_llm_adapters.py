"""Models that already carry adapters: merged into the base, or trained on; the start has them."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import mpo_llm as ml
import tiny
from mpo_llm.config import ModelConfig
from mpo_llm.networks import loading
from mpo_llm.training import assemble
from mpo_llm.training.train import train
from test_llm_export import LAYERS, RESPONSES, lora, read, stepped

TUNED: dict[str, dict[str, Any]] = {
    "LoRA": {"target_modules": LAYERS},
    "rsLoRA": {"target_modules": LAYERS, "use_rslora": True},
    "DoRA": {"target_modules": LAYERS, "use_dora": True},
    "own head": {"target_modules": LAYERS, "modules_to_save": ["lm_head"]},
    "tied head": {"target_modules": ["lm_head"]},
    "tokens": {"target_modules": LAYERS, "trainable_token_indices": [3, 5]},
}


def tune(folder: Path, name: str = "LoRA", **options: Any) -> Path:
    """A folder of PEFT beside its base model `folder/base`."""
    tied = name in ("tied head", "tokens")
    tiny.save(folder / "base", tie_word_embeddings=tied)
    base = transformers.AutoModelForCausalLM.from_pretrained(folder / "base")
    model = lora(base, task_type="CAUSAL_LM", **(TUNED[name] | options))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT says that it saves a head, too.
        model.save_pretrained(folder / "tuned")
    return folder / "tuned"


def expected(folder: Path) -> np.ndarray:
    """Log-probabilities by PEFT alone, of the model with its adapters."""
    base = transformers.AutoModelForCausalLM.from_pretrained(folder / "base")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = peft.PeftModel.from_pretrained(base, str(folder / "tuned")).eval()
    found = np.zeros(RESPONSES.tokens.shape)
    for row in range(len(RESPONSES)):
        prompt, ids = RESPONSES.prompts[RESPONSES.prompt_of[row]], RESPONSES.ids(row)
        with torch.no_grad():
            logp = torch.log_softmax(model(torch.tensor([prompt + ids])).logits[0], -1)
        found[row, : len(ids)] = [logp[len(prompt) - 1 + t, y] for t, y in enumerate(ids)]
    return found


def start(folder: Path, **settings: Any) -> ml.TokenPolicy:
    return assemble.start(tiny.config(folder, model={"name": str(folder / "tuned"), **settings}))[0]


@pytest.mark.parametrize("name", TUNED)
def test_the_start_has_the_adapters(name: str, tmp_path: Path) -> None:
    """Merged with new adapters, merged with all weights, and trained on: never the bare base."""
    tune(tmp_path, name)
    tuned = expected(tmp_path)
    assert np.abs(tuned - read(tmp_path / "base")).max() > 0.05
    for settings in ({"lora_rank": 2}, {}, {"adapters": "continue"}):
        policy = start(tmp_path, **settings)
        np.testing.assert_allclose(policy.log_probs(RESPONSES), tuned, atol=1e-5)
        trained = {part for n in policy.weights for part in n.split(".")}
        assert ("lora_A" in trained) == bool(settings)
        rows = {w.shape[0] for n, w in policy.weights.items() if "lora_A" in n}
        assert rows == ({2} if settings else set())


def test_a_run_goes_on_from_the_adapters(tmp_path: Path) -> None:
    """Trained on: the magnet is the tuned model after the run, and the export has all of it."""
    from mpo_llm.results.export import export

    tune(tmp_path)
    model = {"name": str(tmp_path / "tuned"), "adapters": "continue"}
    solver = {"magnet": "fixed", "alpha": 0.1}
    state = train(tiny.config(tmp_path, model=model, solver=solver)).state
    np.testing.assert_allclose(state.magnet.log_probs(RESPONSES), expected(tmp_path), atol=1e-5)
    assert np.abs(state.policy.log_probs(RESPONSES) - expected(tmp_path)).max() > 1e-3
    export(tmp_path / "run", tmp_path / "folder")
    np.testing.assert_allclose(
        read(tmp_path / "folder"), state.policy.log_probs(RESPONSES), atol=1e-4
    )
    export(tmp_path / "run", tmp_path / "apart", "separate")
    shutil.rmtree(tmp_path / "tuned")
    (tmp_path / "apart").rename(tmp_path / "tuned")
    np.testing.assert_allclose(expected(tmp_path), state.policy.log_probs(RESPONSES), atol=1e-4)


def test_folders_of_other_shapes(tmp_path: Path) -> None:
    """Base and adapters in one folder, adapters upon adapters, tokens that were added for them."""
    tune(tmp_path)
    tuned = expected(tmp_path)
    whole = tmp_path / "whole"
    shutil.copytree(tmp_path / "base", whole)
    shutil.copytree(tmp_path / "tuned", whole, dirs_exist_ok=True)
    model, _ = loading.load(ModelConfig(str(whole)))
    policy, _ = stepped(model)
    np.testing.assert_allclose(policy.log_probs(RESPONSES), tuned, atol=1e-5)

    lower, _ = loading.load(ModelConfig(str(tmp_path / "tuned")))
    upper = lora(lower, task_type="CAUSAL_LM", target_modules=["gate_proj", "q_proj"])
    upper.peft_config["default"].base_model_name_or_path = str(tmp_path / "tuned")
    upper.save_pretrained(tmp_path / "upper", save_embedding_layers=False)
    both, _ = loading.load(ModelConfig(str(tmp_path / "upper"), lora_rank=1))
    ids = torch.tensor([[3, 4, 5]])
    with torch.no_grad():
        torch.testing.assert_close(both(ids).logits, upper(ids).logits, atol=1e-5, rtol=0.0)

    tokenizer = tiny.tokenizer()
    tokenizer.add_tokens(["new", "newer"])
    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    base.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    grown = lora(base, task_type="CAUSAL_LM", target_modules=LAYERS)
    grown.save_pretrained(tmp_path / "grown", save_embedding_layers=True)
    tokenizer.save_pretrained(tmp_path / "grown")
    found, own = loading.load(ModelConfig(str(tmp_path / "grown"), lora_rank=1))
    assert len(own) == len(tokenizer)
    ids = torch.tensor([[3, len(tokenizer) - 1, 5]])
    with torch.no_grad():
        torch.testing.assert_close(found(ids).logits, grown(ids).logits, atol=1e-5, rtol=0.0)


def refusal(**settings: Any) -> str:
    with pytest.raises(ValueError) as error:  # noqa: PT011
        loading.load(ModelConfig(**settings))
    assert "\n" not in str(error.value)
    return str(error.value)


def changed(folder: Path, **changes: Any) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_adapters_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    tuned = tune(tmp_path)
    name = str(tuned)
    base = json.loads((tuned / "adapter_config.json").read_text())["base_model_name_or_path"]
    changed(tuned, base_model_name_or_path=str(tmp_path / "gone"))
    assert f"Cannot load the base model {str(tmp_path / 'gone')!r}" in refusal(name=name)
    for none in (None, "", name):
        changed(tuned, base_model_name_or_path=none)
        assert "names no base model" in refusal(name=name)
    changed(tuned, base_model_name_or_path=base, target_modules=["c_attn"])
    assert "do not fit their base model: " in refusal(name=name)
    changed(tuned, target_modules=["v_proj"])
    assert "there is no place for base_model.model" in refusal(name=name)
    changed(tuned, target_modules=[*LAYERS, "q_proj"])
    assert "the file lacks base_model.model" in refusal(name=name)
    changed(tuned, target_modules=LAYERS, r=3)
    assert "do not fit their base model: " in refusal(name=name)
    changed(tuned, r=2, peft_type="NONSENSE")
    assert "cannot be read" in refusal(name=name)
    changed(tuned, peft_type="LORA")
    weights = load_file(tuned / "adapter_model.safetensors")
    save_file({n: w * torch.nan for n, w in weights.items()}, tuned / "adapter_model.safetensors")
    assert "not finite is" in refusal(name=name)
    (tuned / "adapter_model.safetensors").unlink()
    assert "do not fit their base model" in refusal(name=name)
    assert "needs a folder with adapters" in refusal(name=base, adapters="continue")
    with pytest.raises(ValueError, match=r"`model.lora_rank` must be 0, got 2"):
        ModelConfig(name, lora_rank=2, adapters="continue")


def test_methods_without_a_merged_form_are_refused(tmp_path: Path) -> None:
    """In a sentence that names them; IA3 has one."""
    tiny.save(tmp_path / "base")

    def saved(config: peft.PeftConfig) -> str:
        base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base")
        shutil.rmtree(tmp_path / "tuned", ignore_errors=True)
        peft.get_peft_model(base, config).save_pretrained(tmp_path / "tuned")
        return str(tmp_path / "tuned")

    prompt = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    prefix = peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    for config in (prompt, prefix):
        said = refusal(name=saved(config))
        assert f"prompt tuning ({config.peft_type.value})" in said
    scaled = peft.IA3Config(
        task_type="CAUSAL_LM",
        target_modules=["k_proj", "down_proj"],
        feedforward_modules=["down_proj"],
        init_ia3_weights=False,
    )
    name = saved(scaled)
    model, _ = loading.load(ModelConfig(name))
    policy, _ = stepped(model)
    np.testing.assert_allclose(policy.log_probs(RESPONSES), expected(tmp_path), atol=1e-5)


def test_several_adapters_in_folders_of_their_own(tmp_path: Path) -> None:
    tune(tmp_path)
    several = tmp_path / "several"
    shutil.copytree(tmp_path / "tuned", several / "one")
    shutil.copytree(tmp_path / "tuned", several / "two")
    assert f"choose one, as `model.name: {several / 'one'}`" in refusal(name=str(several))


def test_live_models_with_adapters(tmp_path: Path) -> None:
    """Given to the constructor: trained as they are, or refused where training has no effect."""
    tune(tmp_path)

    def base() -> Any:
        return transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base")

    place = str(tmp_path / "tuned")
    live = peft.PeftModel.from_pretrained(base(), place, is_trainable=True)
    begun, policy = stepped(live)
    np.testing.assert_allclose(begun.log_probs(RESPONSES), expected(tmp_path), atol=1e-5)
    assert np.abs(policy.log_probs(RESPONSES) - begun.log_probs(RESPONSES)).max() > 1e-3
    np.testing.assert_allclose(begun.log_probs(RESPONSES), expected(tmp_path), atol=1e-5)

    frozen = peft.PeftModel.from_pretrained(base(), place)
    mixed_in = transformers.AutoModelForCausalLM.from_pretrained(place)
    tied = tiny.model(tie_word_embeddings=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        upon = peft.get_peft_model(
            peft.PeftModel.from_pretrained(base(), place),
            peft.LoraConfig(target_modules=["q_proj"]),
        )
    joined = peft.get_peft_model(base(), peft.LoraConfig(target_modules=LAYERS))
    joined.merge_adapter()
    off = peft.get_peft_model(base(), peft.LoraConfig(target_modules=LAYERS))
    off.base_model.disable_adapter_layers()
    two = peft.get_peft_model(base(), peft.LoraConfig(target_modules=LAYERS))
    two.add_adapter("second", peft.LoraConfig(target_modules=["q_proj"]))
    for name, p in two.named_parameters():
        p.requires_grad_("second" in name)
    ensured = peft.get_peft_model(
        tied, peft.LoraConfig(target_modules=["embed_tokens", "lm_head"], ensure_weight_tying=True)
    )
    for model, said in (
        (frozen, "The adapters are frozen"),
        (mixed_in, "has loaded the adapters of this model frozen"),
        (upon, "adapters upon adapters"),
        (joined, "are merged, so training them has no effect"),
        (off, "are switched off, so training them has no effect"),
        (two, "The adapter 'second' would be trained, but it is not active"),
        (ensured, "ensure_weight_tying=False"),
    ):
        with pytest.raises(ValueError, match=said):
            raise AssertionError((said, ml.TransformersNetwork(model)))
