"""What is made of a training run: exported models, chats and the page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

import tiny
from mpo_llm.engines import sample
from mpo_llm.results import chat, page
from mpo_llm.results.evaluation import evaluate_run
from mpo_llm.results.export import export
from mpo_llm.training import assemble, checkpoint
from mpo_llm.training.train import train


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
