"""One trainer of language models on the contest's task, in a process of its own: `llm.py` runs it.

`python benchmarks/llm_entrant.py NAME` reads the task as a line of JSON and prints a line of JSON:
the seconds of each step and the tokens drawn in it, how many completions a step trains on, the peak
of memory, and for our own trainer where the time goes and how many tokens its networks predicted.
Seconds are this process's processor time, and memory is this process's. On a GPU seconds are the
wall's, once the GPU has done its work, and memory is the GPU's. The trainers need different
versions of TRL, so each function imports what its entrant needs.
"""

from __future__ import annotations

import json
import resource
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

ETA, ALPHA, RATE, RANK = 2.0, 0.02, 1e-6, 8
WAITS = (
    "cudaStreamSynchronize",
    "cudaDeviceSynchronize",
    "cudaEventSynchronize",
    "aten::_local_scalar_dense",
    "aten::nonzero",
)
"""Calls in which the host waits until the device has caught up, as the profiler names them. The
last two wait by one of the first, but a CPU has only them."""


@dataclass(frozen=True)
class Task:
    """The work of every entrant: so many steps, with one update in each."""

    model: str
    """The model's folder."""
    dtype: str
    """The type of its weights."""
    lora: bool
    """Whether adapters are trained, or all weights."""
    prompts: Sequence[str]
    at_once: int
    """Prompts a step."""
    samples: int
    """Responses to each prompt, for a trainer that lets one choose."""
    tokens: int
    """The most tokens of a response."""
    rows: int
    """Responses that run forward and backward at once; the gradients of a step are summed."""
    checkpointing: bool
    """Whether activations are computed again in the backward pass, which saves memory."""
    steps: int
    offload: bool = False
    """Whether our trainer keeps its policies in the CPU's memory."""
    profiled: bool = False
    """Whether a step more is run under torch's profiler, which counts where the host waits."""

    @property
    def messages(self) -> list[list[dict[str, str]]]:
        """The prompts as conversations."""
        return [[{"role": "user", "content": x}] for x in self.prompts]


@dataclass
class Meter:
    """The clock and the count of tokens, read between steps."""

    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    tokens: int = 0
    marks: list[tuple[float, int]] = field(default_factory=list)
    profiled: int | None = None
    """The step that is run under the profiler, from 0."""
    profile: Any = None
    """The profiler, when it has been started."""

    def mark(self) -> None:
        """Note the time and the tokens so far: a step begins or has ended."""
        # Before the GPU is waited for here, because that is no wait of the step.
        if self.profile is not None and len(self.marks) - 1 == self.profiled:
            self.profile.stop()
        self._note()
        if len(self.marks) - 1 == self.profiled:
            self.profile = torch.profiler.profile()
            self.profile.start()

    @property
    def waits(self) -> dict[str, int]:
        """How often the host waited for the device in the step that was profiled, by the call."""
        counts = (
            {} if self.profile is None else {e.key: e.count for e in self.profile.key_averages()}
        )
        return {name: counts[name] for name in WAITS if name in counts}

    def _note(self) -> None:
        if self.device == "cuda":
            # The GPU works behind: without this the clock would see steps that are only queued.
            torch.cuda.synchronize()
            now = time.perf_counter()
        else:
            now = time.process_time()
        self.marks.append((now, self.tokens))

    @property
    def peak(self) -> float:
        """The most memory that was in use, in MB."""
        if self.device == "cuda":
            return torch.cuda.max_memory_allocated() / 2**20
        # `ru_maxrss` may begin at the peak of the process that started this one.
        status = Path("/proc/self/status")
        if status.exists():
            return int(status.read_text().partition("VmHWM:")[2].split()[0]) / 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def brevity(text: str) -> float:
    """The judge of this contest costs nothing: the shorter response wins."""
    return -float(len(text))


def shorter() -> Any:
    """The judge of this contest for our trainer, as the configuration of a run names judges."""
    from mpo_llm.preferences import Higher

    return Higher(lambda _, texts: [brevity(text) for text in texts])


def ours(task: Task, meter: Meter) -> dict[str, Any]:
    """MPO: all pairs judged, token-level objective, exact KL to the magnet, one update a step."""
    import numpy as np

    import mpo_games as mg
    from mpo_llm.training.ledger import PASSES

    game, solver, book = trainer(task, meter.device)
    states = mg.iterate(game, solver, rng=np.random.default_rng(0))
    # The first state is the start, before any step.
    next(states)
    meter.mark()
    passes = []
    for _ in range(task.steps):
        with book.passes(game.start.network), book.time("scoring"):
            next(states)
        meter.tokens = book.counts["tokens"]
        meter.mark()
        passes.append([book.counts[name] for name in PASSES])
    return {
        "trained": task.at_once * task.samples,
        "clock": {name: round(seconds, 2) for name, seconds in book.seconds.items()},
        "parameters": game.start.network.parameters,
        "passes": np.diff([[0, 0], *passes], axis=0).tolist(),
    }


def trainer(task: Task, device: str) -> tuple[Any, Any, Any]:
    """Our game and solver, and the ledger of both; on a CPU it counts processor seconds."""
    import mpo_games as mg
    import mpo_llm as ml
    from mpo_llm import config
    from mpo_llm.prompts import Prompts, encode
    from mpo_llm.training import assemble, ledger

    settings = config.Config(
        config.ModelConfig(
            task.model,
            "float32" if task.dtype == "float32" else "bfloat16",
            lora_rank=RANK if task.lora else 0,
            gradient_checkpointing=task.checkpointing,
            offload=task.offload,
        ),
        generation=config.GenerationConfig(task.tokens),
        solver=config.SolverConfig(task.samples, task.at_once, ETA, ALPHA),
        step=config.StepConfig(epochs=1, rate=RATE, micro_batch=task.rows),
    )
    policy, tokenizer = assemble.start(settings, torch.device(device))
    ids = tuple(encode(tokenizer, x, True) for x in task.messages)
    book = ledger.Ledger(clock=time.process_time if device == "cpu" else time.perf_counter)
    game = assemble.game(
        settings,
        policy,
        tokenizer,
        Prompts(ids, tuple(task.prompts)),
        book.judge(shorter()),
        book.engine(ml.Autoregressive()),
    )
    return game, book.solver(mg.MPO(ETA, ALPHA, 50)), book


def grpo(task: Task, meter: Meter, weights: str | None = None) -> dict[str, Any]:
    """TRL's GRPO with the win rate within the group as reward; with two responses that is our game.

    The weights and their updates have the task's type, or the type `weights`; then they are rounded
    to the task's type when they run.
    """
    from trl import GRPOConfig, GRPOTrainer

    size = task.samples

    def win_rate(completions: list[Any], completion_ids: list[Any], **_: Any) -> list[float]:
        meter.tokens += sum(map(len, completion_ids))
        scores = [brevity(c[0]["content"]) for c in completions]
        found = []
        for i, score in enumerate(scores):
            group = range(i - i % size, i - i % size + size)
            wins = [0.5 + 0.5 * ((score > scores[j]) - (score < scores[j])) for j in group]
            found.append(float(sum(wins) - 0.5) / (size - 1))
        return found

    settings = GRPOConfig(
        **_common(task, meter, task.at_once * size, 1),
        num_generations=size,
        max_completion_length=task.tokens,
        beta=ALPHA,
    )
    return _trained(
        lambda **more: GRPOTrainer(reward_funcs=win_rate, args=settings, **more),
        replace(task, dtype=weights or task.dtype), meter, task.at_once * size,
    )  # fmt: skip


def grpo_mixed(task: Task, meter: Meter) -> dict[str, Any]:
    """GRPO with weights in single precision, which is TRL's default."""
    return grpo(task, meter, "float32")


def online_dpo(task: Task, meter: Meter) -> dict[str, Any]:
    """TRL's online DPO: of two responses to a prompt the one of higher reward is chosen."""
    from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer

    def reward(completions: list[Any], completion_ids: list[Any], **_: Any) -> list[float]:
        meter.tokens += sum(map(len, completion_ids))
        return [brevity(c if isinstance(c, str) else c[0]["content"]) for c in completions]

    settings = OnlineDPOConfig(
        **_common(task, meter, task.at_once, 2), max_new_tokens=task.tokens, beta=ALPHA
    )
    return _trained(
        lambda **more: OnlineDPOTrainer(reward_funcs=reward, args=settings, **more),
        task, meter, 2 * task.at_once,
    )  # fmt: skip


def nash_md(task: Task, meter: Meter) -> dict[str, Any]:
    """TRL's Nash-MD: a response of the policy against one of its mixture with the reference.

    The mixture's response is not trained on and not counted.
    """
    from trl.experimental.judges import BasePairwiseJudge
    from trl.experimental.nash_md import NashMDConfig, NashMDTrainer

    class Shorter(BasePairwiseJudge):  # type: ignore[misc, unused-ignore]
        def judge(self, _: Any, completions: Any, **__: Any) -> list[float]:
            """The probability that the first response is better, which this trainer asks for."""
            gains = [brevity(a) - brevity(b) for a, b in completions]
            return [0.5 + 0.5 * ((gain > 0) - (gain < 0)) for gain in gains]

    class Counting(NashMDTrainer):  # type: ignore[misc, unused-ignore]
        def _process_completions(self, model_output: Any, mixture: Any, prompts: Any) -> Any:
            own, other = super()._process_completions(model_output, mixture, prompts)
            responses = own["attention_mask"][:, prompts["input_ids"].shape[1] :]
            meter.tokens += int(responses.sum())
            return own, other

    settings = NashMDConfig(
        **_common(task, meter, task.at_once, 1), max_new_tokens=task.tokens, beta=ALPHA
    )
    return _trained(
        lambda **more: Counting(judge=Shorter(), args=settings, **more),
        task, meter, task.at_once,
    )  # fmt: skip


def _common(task: Task, meter: Meter, items: int, rows: int) -> dict[str, Any]:
    """Settings of a trainer whose step takes `items`, each of which is `rows` responses."""
    batch = min(items, task.rows // rows)
    if items % batch:
        raise ValueError(f"`rows` must part a step evenly: {items} into {batch}.")
    return {
        "output_dir": "/tmp/unused",
        "max_steps": task.steps,
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": items // batch,
        "learning_rate": RATE,
        "use_cpu": meter.device == "cpu",
        "bf16": task.dtype == "bfloat16",
        "gradient_checkpointing": task.checkpointing,
        "temperature": 1.0,
        "report_to": [],
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
    }


def _trained(make: Callable[..., Any], task: Task, meter: Meter, trained: int) -> dict[str, Any]:
    """Run a trainer of TRL; a callback times its steps."""
    import datasets
    from transformers import AutoModelForCausalLM, TrainerCallback

    class Clock(TrainerCallback):  # type: ignore[misc, unused-ignore]
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            # The end of a step is the beginning of the next.
            if not meter.marks:
                meter.mark()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            meter.mark()

    more: dict[str, Any] = {}
    if task.lora:
        from peft import LoraConfig

        more["peft_config"] = LoraConfig(r=RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    rows = [{"prompt": x} for x in task.messages]
    trainer = make(
        model=AutoModelForCausalLM.from_pretrained(
            task.model, dtype=getattr(torch, task.dtype), attn_implementation="sdpa"
        ),
        train_dataset=datasets.Dataset.from_list(rows * 50),
        processing_class=_tokenizer(Path(task.model)),
        callbacks=[Clock()],
        **more,
    )
    trainer.train()
    return {"trained": trained}


def _tokenizer(folder: Path) -> Any:
    """The tokenizer from `tokenizer.json`: other files differ between versions of transformers."""
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


ENTRANTS = {
    "ours": ours,
    "grpo": grpo,
    "grpo_mixed": grpo_mixed,
    "online_dpo": online_dpo,
    "nash_md": nash_md,
}


def main(name: str, task: Task) -> None:
    """Run the entrant and print what was measured."""
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    meter = Meter(profiled=task.steps if task.profiled else None)
    if meter.device == "cpu":
        torch.set_num_threads(1)
    found = ENTRANTS[name](replace(task, steps=task.steps + task.profiled), meter)
    # The profiler makes its step slower, so that step is not timed.
    steps = list(pairwise(meter.marks))[: task.steps]
    if task.profiled:
        found["waits"] = meter.waits
    found["seconds"] = [round(b - a, 3) for (a, _), (b, _) in steps]
    found["tokens"] = [b - a for (_, a), (_, b) in steps]
    found["device"] = torch.cuda.get_device_name() if meter.device == "cuda" else "CPU"
    print(json.dumps({**found, "peak_mb": round(meter.peak)}))


if __name__ == "__main__":
    main(sys.argv[1], Task(**json.loads(sys.stdin.readline())))
