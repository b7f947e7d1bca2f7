"""Exports: the folder is the policy, for every precision and kind of adapter, or it is refused."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
import transformers
from safetensors import SafetensorError

import mpo_llm as ml
import tiny
from architectures import rollouts
from mpo_llm.config import ModelConfig
from mpo_llm.networks import adapters, loading
from mpo_llm.results.export import export, export_policy
from mpo_llm.training import checkpoint
from mpo_llm.training.train import train

RESPONSES = ml.Responses.of_ids(
    ((2, 4, 5), (6, 7)), [0, 0, 1, 1], [(3, 5, 1), (6, 1), (9,), (2, 2, 2)]
)
LAYERS = ["v_proj", "o_proj", "up_proj", "down_proj"]
TIED = {"tie_word_embeddings": True}


def lora(model: Any, **options: Any) -> Any:
    """With adapters that already change something."""
    torch.manual_seed(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT warns of tied layers, whose merging is tested here.
        found = peft.get_peft_model(model, peft.LoraConfig(r=2, lora_alpha=8, **options))
    for p in found.parameters():
        if p.requires_grad:
            p.data += 0.2 * torch.randn(p.shape).to(p)
    return found


def stepped(
    model: Any, proximal: ml.Proximal = ml.Proximal(minimise=ml.Adam(3, 0.05))
) -> tuple[ml.TokenPolicy, ml.TokenPolicy]:
    """The start and a policy that is away from it."""
    decoding = ml.Decoding(4, eos=1, vocabulary=len(tiny.WORDS))
    start = ml.TokenPolicy.of(ml.TransformersNetwork(model), decoding, proximal)
    return start, start.mirror_step(rollouts(start, RESPONSES), start, eta=5.0, alpha=0.01)


def read(folder: Path) -> np.ndarray:
    """Log-probabilities of the responses by transformers alone, `(N, T)`."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    found = np.zeros(RESPONSES.tokens.shape)
    for row in range(len(RESPONSES)):
        prompt, ids = RESPONSES.prompts[RESPONSES.prompt_of[row]], RESPONSES.ids(row)
        with torch.no_grad():
            logits = model(torch.tensor([prompt + ids])).logits[0].double()
        logp = torch.log_softmax(logits, -1)
        found[row, : len(ids)] = [logp[len(prompt) - 1 + t, y] for t, y in enumerate(ids)]
    return found


MODELS: dict[str, tuple[Callable[[], Any], float]] = {
    "float32": (lambda: tiny.model(), 1e-5),
    "bfloat16": (lambda: tiny.model().bfloat16(), 2e-2),
    "float16": (lambda: tiny.model().half(), 2e-3),
    "float64": (lambda: tiny.model().double(), 1e-12),
    "tied": (lambda: tiny.model(**TIED), 1e-5),
    "LoRA": (lambda: lora(tiny.model(), target_modules="all-linear", task_type="CAUSAL_LM"), 1e-5),
    "LoRA, bfloat16": (lambda: lora(tiny.model().bfloat16(), target_modules=LAYERS), 2e-2),
    "tied head": (lambda: lora(tiny.model(**TIED), target_modules=["lm_head"]), 1e-5),
    "tied embedding": (lambda: lora(tiny.model(**TIED), target_modules=["embed_tokens"]), 1e-5),
    "both": (lambda: lora(tiny.model(**TIED), target_modules=["embed_tokens", "lm_head"]), 1e-5),
    "own head": (
        lambda: lora(tiny.model(**TIED), target_modules=["q_proj"], modules_to_save=["lm_head"]),
        1e-5,
    ),
    "own embedding": (
        lambda: lora(
            tiny.model(**TIED), target_modules=["q_proj"], modules_to_save=["embed_tokens"]
        ),
        1e-5,
    ),
    "tokens": (
        lambda: lora(tiny.model(**TIED), target_modules=["q_proj"], trainable_token_indices=[3, 5]),
        1e-5,
    ),
    "DoRA": (lambda: lora(tiny.model(), target_modules=LAYERS, use_dora=True), 1e-5),
    "rsLoRA": (lambda: lora(tiny.model(), target_modules=LAYERS, use_rslora=True), 1e-5),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_folder_is_the_policy(name: str, tmp_path: Path) -> None:
    """And not the start; the policy can go on. The magnet's folder is the magnet."""
    build, rounding = MODELS[name]
    start, policy = stepped(build())
    expected = policy.log_probs(RESPONSES)
    before = start.log_probs(RESPONSES)
    assert np.abs(expected - before).max() > 5e-2
    apart = export_policy(policy, tiny.tokenizer(), tmp_path / "policy")
    assert 0.0 <= apart < rounding
    np.testing.assert_allclose(read(tmp_path / "policy"), expected, atol=rounding)
    np.testing.assert_array_equal(policy.log_probs(RESPONSES), expected)
    written = json.loads((tmp_path / "policy" / "config.json").read_text())
    assert written["architectures"] == ["LlamaForCausalLM"]
    dtype = next(iter(policy.network.given.parameters())).dtype  # type: ignore[attr-defined]
    assert written["dtype"] == str(dtype).removeprefix("torch.")
    assert written["tie_word_embeddings"] == (name in ("tied", "tokens"))
    if name in ("bfloat16", "tied head"):
        export_policy(start.snapshot(), tiny.tokenizer(), tmp_path / "magnet")
        np.testing.assert_allclose(read(tmp_path / "magnet"), before, atol=rounding)
        again = policy.mirror_step(rollouts(policy, RESPONSES), start, eta=1.0, alpha=0.1)
        assert np.isfinite(again.log_probs(RESPONSES)).all()


def gpt2() -> Any:
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=len(tiny.WORDS), n_positions=64, n_embd=16, n_layer=2, n_head=2, eos_token_id=1
    )
    return transformers.GPT2LMHeadModel(config)


def mixtral() -> Any:
    """Whose experts have other names and shapes on the disk."""
    torch.manual_seed(0)
    config = transformers.MixtralConfig(
        **tiny.model().config.to_diff_dict()
        | {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2}
    )
    return transformers.MixtralForCausalLM(config)


@pytest.mark.parametrize("build", [gpt2, mixtral])
def test_other_architectures(build: Callable[[], Any], tmp_path: Path) -> None:
    """With all weights in half precision, and with adapters of the head, which may be tied."""
    for number, (model, rounding) in enumerate(
        [(build().bfloat16(), 2e-2), (lora(build(), target_modules=["lm_head"]), 1e-5)]
    ):
        _, policy = stepped(model)
        folder = tmp_path / str(number)
        assert 0.0 <= export_policy(policy, tiny.tokenizer(), folder) < rounding
        np.testing.assert_allclose(read(folder), policy.log_probs(RESPONSES), atol=rounding)


@pytest.mark.parametrize("build", [tiny.model, lambda: tiny.model().bfloat16()])
@pytest.mark.parametrize("accurate", [False, True])
def test_the_module_has_the_weights_of_the_last_step(build: Any, accurate: bool) -> None:
    """Who saves the module itself gets the policy, in every precision and by every minimiser."""
    model = build()
    proximal = ml.Proximal(ml.SequenceLevel(), ml.LBFGS(3) if accurate else ml.Adam(3, 0.05))
    start, policy = stepped(model, proximal)
    for name, p in model.named_parameters():
        assert torch.equal(p.detach(), policy.weights[name].to(p.dtype)), name
    with start.network.holding(start.weights) as held:
        assert all(torch.equal(p, start.weights[n]) for n, p in held.named_parameters())
    start.network.load(start.weights)
    assert all(torch.equal(p, start.weights[n]) for n, p in model.named_parameters())


def test_a_run_in_half_precision_is_exported(tmp_path: Path) -> None:
    """The example of the fault: it wrote the untrained start."""
    summary = train(tiny.config(tmp_path, model={"dtype": "bfloat16"}))
    export(tmp_path / "run", tmp_path / "folder")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "folder")
    trained = summary.state.policy.weights
    for name, p in model.named_parameters():
        assert torch.equal(p.detach(), trained[name].bfloat16()), name
    moved = [n for n, w in trained.items() if not torch.equal(w, w.bfloat16().float())]
    assert moved
    with pytest.raises(ValueError, match="no adapters to keep separate"):
        export(tmp_path / "run", tmp_path / "other", "separate")


def test_separate_adapters_are_a_folder_of_peft(tmp_path: Path) -> None:
    """On the base that they name; a base that is on no disk is refused."""
    summary = train(tiny.config(tmp_path, model={"lora_rank": 2}))
    export(tmp_path / "run", tmp_path / "folder", "separate")
    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    model = peft.PeftModel.from_pretrained(base, str(tmp_path / "folder"))
    ids = torch.tensor([[3, 7, 2]])
    with torch.no_grad():
        expected = torch.log_softmax(model(input_ids=ids).logits[0, -1].double(), -1)
    policy = summary.state.policy
    one = ml.Responses.of_ids(((3, 7, 2),), [0] * 3, [(4,), (5,), (6,)])
    np.testing.assert_allclose(policy.log_probs(one)[:, 0], expected[4:7], atol=1e-6)
    _, unnamed = stepped(lora(tiny.model(), target_modules=["q_proj"]))
    with pytest.raises(ValueError, match="on no disk"):
        export_policy(unnamed, tiny.tokenizer(), tmp_path / "other", "separate")
    upon = loading.load(ModelConfig(str(tmp_path / "folder"), lora_rank=2))[0]
    _, merged = stepped(upon)
    with pytest.raises(ValueError, match="on no disk"):
        export_policy(merged, tiny.tokenizer(), tmp_path / "other", "separate")


def test_tokens_that_were_added_are_in_the_folder(tmp_path: Path) -> None:
    """With their template, and with the token that ends the policy's responses."""
    tokenizer, model = tiny.tokenizer(), tiny.model()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<user>", "<bot>", "<stop>"]})
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    stop = tokenizer.convert_tokens_to_ids("<stop>")
    decoding = ml.Decoding(4, eos=stop, vocabulary=len(tokenizer))
    policy = ml.TokenPolicy.of(ml.TransformersNetwork(model), decoding)
    export_policy(policy, tokenizer, tmp_path / "folder")
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "folder")
    assert again.convert_tokens_to_ids("<stop>") == stop
    assert again.chat_template == tiny.TEMPLATE
    settings = transformers.GenerationConfig.from_pretrained(tmp_path / "folder")
    assert settings.eos_token_id == stop
    assert transformers.AutoConfig.from_pretrained(tmp_path / "folder").vocab_size == stop + 1


def refusal(folder: Path, policy: ml.TokenPolicy, error: Any = ValueError) -> str:
    with pytest.raises(error) as raised:
        export_policy(policy, tiny.tokenizer(), folder / "folder")
    assert list(folder.iterdir()) == []
    return str(raised.value)


def test_a_folder_that_is_not_the_policy_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever went wrong: weights of the start, a tie that merging broke, a lost template."""
    start, policy = stepped(tiny.model())
    save = transformers.LlamaForCausalLM.save_pretrained

    def wrong(model: Any, *arguments: Any, **options: Any) -> None:
        with start.network.holding(start.weights):
            save(model, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(transformers.LlamaForCausalLM, "save_pretrained", wrong)
        assert "it has another weight 'model." in refusal(tmp_path, policy)
    _, tied = stepped(lora(tiny.model(**TIED), target_modules=["lm_head"]))
    with monkeypatch.context() as patch:
        patch.setattr(adapters, "_untie", lambda _: None)
        assert "distributions would change" in refusal(tmp_path, tied)
        patch.setattr(adapters, "variation", lambda one, other: 0.3)
        patch.setattr(adapters, "merged", lambda given: given.unload())
        assert "differ from the policy's by 0.3" in refusal(tmp_path, tied)
    with monkeypatch.context() as patch:
        kind = transformers.PreTrainedTokenizerFast
        keep = kind.save_pretrained

        def untemplated(tokenizer: Any, folder: Path, **options: Any) -> Any:
            tokenizer.chat_template = None
            found = keep(tokenizer, folder, **options)
            tokenizer.chat_template = tiny.TEMPLATE
            return found

        patch.setattr(kind, "save_pretrained", untemplated)
        assert "another chat template" in refusal(tmp_path, policy)


def test_what_cannot_be_exported_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, policy = stepped(tiny.model())
    assert "mixture of 2 networks" in refusal(tmp_path, policy.mix(start, 0.5))
    plain = ml.PlainNetwork(ml.SmallTransformer(6, 5, width=16))
    other = ml.TokenPolicy.of(plain, ml.Decoding(2))
    assert "Only models of transformers" in refusal(tmp_path, other)
    quantised = lora(tiny.model(), target_modules=["q_proj"])
    _, adapted = stepped(quantised)
    quantised.get_base_model().is_quantized = True
    assert "is quantised" in refusal(tmp_path, adapted)
    for full in (OSError(28, "No space left on device"), SafetensorError("No space left")):

        def fail(*_: Any, error: Exception = full, **__: Any) -> None:
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(transformers.LlamaForCausalLM, "save_pretrained", fail)
            said = refusal(tmp_path, policy, OSError)
        assert said.startswith("Cannot write")
        assert "No space left" in said


def test_a_checkpoint_is_exported_by_its_name(tmp_path: Path) -> None:
    """An earlier one, not only the last."""
    train(tiny.config(tmp_path))
    first = tmp_path / "run" / "checkpoints" / "step-000002"
    export(first, tmp_path / "folder")
    policy, _ = checkpoint.load_policy(first)
    last, _ = checkpoint.load_policy(tmp_path / "run")
    found = read(tmp_path / "folder")
    expected = replace(policy, decoding=ml.Decoding(5)).log_probs(RESPONSES)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(found - last.log_probs(RESPONSES)).max() > 1e-3
