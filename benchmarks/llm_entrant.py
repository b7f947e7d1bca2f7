"""One trainer of language models on the contest's task, in a process of its own: `llm.py` runs it.

Prints a line of JSON: processor seconds of each step, how many completions a step trains on, the
peak memory of the process, and for our own where the time goes. The trainers need different
versions of their package, so this file imports only what its entrant needs.
"""

from __future__ import annotations

import json
import resource
import sys
import time
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

PROMPTS = (
    "How do I stay motivated while learning to code?",
    "What should I cook for dinner tonight?",
    "Explain why the sky is blue.",
    "Give me advice for a job interview.",
    "How can I sleep better?",
    "What is a good way to learn French?",
    "How do plants make food?",
    "How should I start saving money?",
)
AT_ONCE, SAMPLES, TOKENS = 4, 2, 32
"""Prompts a step, responses to each, and tokens of a response at most."""
ETA, ALPHA, RATE, RANK = 2.0, 0.02, 1e-6, 8


def brevity(text: str) -> float:
    """The judge of this contest costs nothing: the shorter response wins."""
    return -float(len(text))


def ours(model: str, lora: bool, steps: int) -> dict[str, Any]:
    """MPO: all pairs judged, token-level objective, exact KL to the magnet, one update a step."""
    import numpy as np

    import mpo_games as mg
    import mpo_llm as ml
    from mpo_llm import assemble, config, ledger, team, watch
    from mpo_llm.prompts import Prompts, written

    settings = config.Config(
        config.ModelConfig(model, lora_rank=RANK if lora else 0),
        generation=config.GenerationConfig(TOKENS),
        solver=config.SolverConfig(SAMPLES, AT_ONCE, ETA, ALPHA),
        step=config.StepConfig(epochs=1, rate=RATE),
    )
    policy, tokenizer = assemble.start(settings)
    ids = tuple(written(tokenizer, [{"role": "user", "content": x}], True) for x in PROMPTS)
    book = ledger.Ledger()
    seen = watch.Watch(book, team.Alone())
    game = assemble.game(
        settings,
        policy,
        tokenizer,
        Prompts(ids, PROMPTS),
        book.judge(ml.preferences.Higher(lambda _, ys: [brevity(y) for y in ys])),
        book.generator(ml.generate.Autoregressive()),
    )
    rng = np.random.default_rng(0)
    marks, began = [], time.perf_counter()
    for state in mg.iterate(seen.game(game), mg.MPO(ETA, ALPHA, 50), rng=rng):
        marks.append(time.process_time())
        if state.step == steps:
            break
    book.seconds["step"] = time.perf_counter() - began - sum(book.seconds.values())
    spent = {name: round(seconds, 2) for name, seconds in book.seconds.items()}
    return {"marks": marks, "trained": AT_ONCE * SAMPLES, "clock": spent}


def grpo(model: str, lora: bool, steps: int) -> dict[str, Any]:
    """TRL's GRPO with the win rate within the group as reward: on two responses, our game."""
    from trl import GRPOConfig, GRPOTrainer

    def win_rate(completions: list[Any], **_: Any) -> list[float]:
        scores = [brevity(c[0]["content"]) for c in completions]
        found = []
        for i, score in enumerate(scores):
            group = range(i - i % SAMPLES, i - i % SAMPLES + SAMPLES)
            wins = [0.5 + 0.5 * ((score > scores[j]) - (score < scores[j])) for j in group]
            found.append(float(sum(wins) - 0.5) / (SAMPLES - 1))
        return found

    settings = GRPOConfig(
        **_common(steps, AT_ONCE * SAMPLES),
        num_generations=SAMPLES,
        max_completion_length=TOKENS,
        beta=ALPHA,
    )
    return _trained(
        lambda **more: GRPOTrainer(reward_funcs=win_rate, args=settings, **more),
        model, lora, AT_ONCE * SAMPLES,
    )  # fmt: skip


def online_dpo(model: str, lora: bool, steps: int) -> dict[str, Any]:
    """TRL's online DPO: two responses to a prompt, the one of higher reward is chosen."""
    from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer

    def reward(completions: list[Any], **_: Any) -> list[float]:
        return [brevity(c if isinstance(c, str) else c[0]["content"]) for c in completions]

    settings = OnlineDPOConfig(**_common(steps, AT_ONCE), max_new_tokens=TOKENS, beta=ALPHA)
    return _trained(
        lambda **more: OnlineDPOTrainer(reward_funcs=reward, args=settings, **more),
        model, lora, 2 * AT_ONCE,
    )  # fmt: skip


def nash_md(model: str, lora: bool, steps: int) -> dict[str, Any]:
    """TRL's Nash-MD: a response of the policy against one of its mixture with the reference."""
    from trl.experimental.judges import BasePairwiseJudge
    from trl.experimental.nash_md import NashMDConfig, NashMDTrainer

    class Shorter(BasePairwiseJudge):  # type: ignore[misc, unused-ignore]
        def judge(self, _: Any, completions: Any, **__: Any) -> list[float]:
            """The probability that the first is better: what this trainer asks for."""
            gains = [brevity(a) - brevity(b) for a, b in completions]
            return [0.5 + 0.5 * ((gain > 0) - (gain < 0)) for gain in gains]

    settings = NashMDConfig(**_common(steps, AT_ONCE), max_new_tokens=TOKENS, beta=ALPHA)
    return _trained(
        lambda **more: NashMDTrainer(judge=Shorter(), args=settings, **more),
        model, lora, AT_ONCE,
    )  # fmt: skip


def _common(steps: int, batch: int) -> dict[str, Any]:
    return {
        "output_dir": "/tmp/unused",
        "max_steps": steps,
        "per_device_train_batch_size": batch,
        "learning_rate": RATE,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "temperature": 1.0,
        "report_to": [],
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
    }


def _trained(make: Callable[..., Any], model: str, lora: bool, trained: int) -> dict[str, Any]:
    """A trainer of TRL, its steps timed by a callback."""
    import datasets
    import torch
    from transformers import AutoModelForCausalLM, TrainerCallback

    marks: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc, unused-ignore]
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            if not marks:
                marks.append(time.process_time())

        def on_step_end(self, *_: Any, **__: Any) -> None:
            marks.append(time.process_time())

    more: dict[str, Any] = {}
    if lora:
        from peft import LoraConfig

        more["peft_config"] = LoraConfig(r=RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    rows = [{"prompt": [{"role": "user", "content": x}]} for x in PROMPTS]
    trainer = make(
        model=AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
        train_dataset=datasets.Dataset.from_list(rows * 50),
        processing_class=_tokenizer(Path(model)),
        callbacks=[Clock()],
        **more,
    )
    trainer.train()
    return {"marks": marks, "trained": trained}


def _tokenizer(folder: Path) -> Any:
    """From the tokenizer itself: the files around it differ between versions of transformers."""
    from transformers import PreTrainedTokenizerFast

    settings = json.loads((folder / "tokenizer_config.json").read_text())
    template = folder / "chat_template.jinja"
    tokens = {name: settings[name] for name in ("eos_token", "pad_token") if settings.get(name)}
    return PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"),
        chat_template=template.read_text() if template.exists() else settings["chat_template"],
        padding_side="left",
        **tokens,
    )


ENTRANTS = {"ours": ours, "grpo": grpo, "online_dpo": online_dpo, "nash_md": nash_md}


def main(name: str, model: str, lora: bool, steps: int) -> None:
    """Run the entrant and print what was measured."""
    import torch

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    found = ENTRANTS[name](model, lora, steps)
    marks = found.pop("marks")
    found["seconds"] = [round(b - a, 3) for a, b in pairwise(marks)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if Path("/proc/self/status").exists():
        status = Path("/proc/self/status").read_text()
        peak = int(status.partition("VmHWM:")[2].split()[0]) / 1024
    print(json.dumps({**found, "peak_mb": round(peak)}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3] == "lora", int(sys.argv[4]))
