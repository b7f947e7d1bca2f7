"""vLLM and the built-in engine side by side on a CPU: `make llm-demo-vllm`.

The program starts two vLLM servers, one after the other: one takes whole models, one takes LoRA
adapters. It measures

1. how far vLLM's log-probabilities are from those that we train with: at the start, after the
   weights have changed, and after they have changed back;
2. the seconds of a delivery of weights, and the tokens a second of both engines;
3. a run drawn by vLLM beside the same run drawn by the built-in engine;
4. a judge behind HTTP, which is the same model: its comparisons a second, how cyclic its answers
   are, and what a mean score loses on them, beside the vote that the run learned from.

FOLDER then holds `vllm.json` with all numbers, the folders of both runs, and the servers' logs. The
last lines say which of the bars were held.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import hypot
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import tyro

from mpo_games.atomic import write_bytes
from mpo_llm.config import Config, JudgeConfig
from mpo_llm.engines import Engine
from mpo_llm.engines.vllm import launch, weights
from mpo_llm.engines.vllm.server import START
from mpo_llm.judges import loading as judge_loading
from mpo_llm.judges.wrappers import tally
from mpo_llm.measures.tournament import meet
from mpo_llm.policy import TokenPolicy
from mpo_llm.prompts import Prompts
from mpo_llm.prompts import load as load_prompts
from mpo_llm.training import assemble, checkpoint, config_file
from mpo_llm.training.train import train

HERE = Path(__file__).parent

FULL, LORA = "full weights", "LoRA"
OURS, VLLM = "built-in", "vLLM"
VOTE, SERVED = "the vote of three criteria", "SmolLM2 behind HTTP"

NATS_A_TOKEN = 1e-4
"""Bar: the largest difference of log-probabilities between vLLM and our scoring, in fp32."""
NATS_A_RESPONSE = 1e-3
"""Bar: the largest mismatch of a training step, in fp32."""

CHANGE = {FULL: 1e-3, LORA: 1e-2}
"""The standard deviation of the noise that changes the weights."""
DRAWN, SAMPLES = 8, 8
"""Prompts and responses to each, where the speed of drawing is measured."""


@dataclass(frozen=True, slots=True)
class Running:
    """A vLLM server."""

    url: str
    session: int
    """The session of its processes."""

    def seconds(self) -> float:
        """The processor seconds that its processes have taken."""
        ticks = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                # The name before it may hold spaces.
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == self.session:
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")


def main(
    python: Path | None = None,
    config: Path = HERE / "vllm.yaml",
    folder: Path = Path("runs/demo-vllm"),
    steps: int | None = None,
    repeats: int = 3,
    judged: int = 4,
    threads: int = 1,
) -> None:
    """Measure all, print a table, and write `FOLDER/vllm.json`.

    Args:
        python: the interpreter of an environment that has vLLM, such as .venv-vllm/bin/python.
        config: the configuration of the run.
        folder: the folder of all results, which does not exist yet.
        steps: the number of mirror steps; as in the configuration when None.
        repeats: how often the speed of drawing is measured; medians count.
        judged: held-out prompts on whose responses the judges are asked.
        threads: the threads of each engine.
    """
    interpreter = launch.interpreter(python)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    torch.set_num_threads(threads)
    run = config_file.load(config)
    if steps is not None:
        run = replace(
            run,
            budget=replace(run.budget, steps=steps),
            # Its last step is evaluated.
            evaluation=replace(run.evaluation, every=steps),
        )
    if folder.exists():
        sys.exit(f"{folder} holds results: remove it, or choose another `--folder`.")
    found: dict[str, Any] = {
        "settings": {"threads": threads, "repeats": repeats, "dtype": run.model.dtype},
        "engines": {},
    }
    whole = replace(run, model=replace(run.model, lora_rank=0))
    with _served(whole, interpreter, folder / "full") as server:
        found["engines"][FULL] = _measured(whole, FULL, server, repeats)
    with _served(run, interpreter, folder / "lora") as server:
        found["engines"][LORA] = _measured(run, LORA, server, repeats)
        drawn = _trained(run, folder / "vllm", server.url)
        found["runs"] = {VLLM: drawn}
        found["judges"] = _judged(run, folder, server, judged)
    found["runs"][OURS] = _trained(run, folder / "built-in", None)
    found["bars"] = bars(found)
    write_bytes(folder / "vllm.json", f"{json.dumps(found, indent=1)}\n".encode())
    print(table(found))
    print(f"written to {folder / 'vllm.json'}")


def table(found: dict[str, Any]) -> str:
    """What was measured, as lines of text."""
    lines = [f"{'':44}{FULL:>14}{LORA:>14}"]
    engines = [found["engines"][name] for name in (FULL, LORA)]
    for label, read in _ENGINE_ROWS.items():
        lines.append(f"{label:44}" + "".join(f"{read(each):>14}" for each in engines))
    lines.append(
        f"{'a run of ' + str(found['runs'][OURS]['steps']) + ' steps':44}{VLLM:>14}{OURS:>14}"
    )
    runs = [found["runs"][name] for name in (VLLM, OURS)]
    for label, read in _RUN_ROWS.items():
        lines.append(f"{label:44}" + "".join(f"{read(each):>14}" for each in runs))
    lines.append("judges on the same responses")
    for name, each in found["judges"].items():
        lines.append(
            f"  {name}: {each['comparisons']} comparisons, {each['comparisons_s']:.3g} a second, "
            f"{each['failures']} failed"
        )
        lines += [f"    {line}" for line in each["averaging"].splitlines()]
    ratios = [
        each["speed"][VLLM]["tokens_cpu_s"] / each["speed"][OURS]["tokens_cpu_s"]
        for each in engines
    ]
    lines.append(
        f"for a processor second vLLM draws {ratios[0]:.2f} ({FULL}) and {ratios[1]:.2f} ({LORA}) "
        "times as many tokens"
    )
    if max(ratios) < 1.1:
        lines.append("it brings no speed on this CPU: here it is a test that all is right")
    lines += [f"{'held' if held else 'MISSED'}: {bar}" for bar, held in found["bars"].items()]
    return "\n".join(lines)


_ENGINE_ROWS: dict[str, Callable[[dict[str, Any]], str]] = {
    "largest difference, nats a token: start": lambda e: f"{e['apart']['start']:.1e}",
    "  after the weights have changed": lambda e: f"{e['apart']['changed']:.1e}",
    "  after going back": lambda e: f"{e['apart']['back']:.1e}",
    "  had nothing been delivered": lambda e: f"{e['undelivered']:.1e}",
    "seconds of a delivery and its check": lambda e: f"{e['delivery_s']:.2f}",
    "vLLM, tokens a second": lambda e: f"{e['speed'][VLLM]['tokens_s']:.0f}",
    "built-in, tokens a second": lambda e: f"{e['speed'][OURS]['tokens_s']:.0f}",
    "vLLM, tokens a processor second": lambda e: f"{e['speed'][VLLM]['tokens_cpu_s']:.0f}",
    "built-in, tokens a processor second": lambda e: f"{e['speed'][OURS]['tokens_cpu_s']:.0f}",
}

_RUN_ROWS: dict[str, Callable[[dict[str, Any]], str]] = {
    "largest mismatch, nats a response": lambda r: f"{max(r['mismatch']):.1e}",
    "largest distance of the ratio from 1": lambda r: f"{r['ratio_off']:.1e}",
    "win rate against the start": lambda r: f"{r['win_rate']['value']:.3f}",
    "  95 % interval": lambda r: "{low:.3f}-{high:.3f}".format(**r["win_rate"]),
    "seconds of drawing": lambda r: f"{r['seconds']['generation']:.0f}",
    "seconds in all": lambda r: f"{sum(r['seconds'].values()):.0f}",
}


@contextmanager
def _served(run: Config, python: Path, place: Path) -> Iterator[Running]:
    """A server of the run's start model, as `mpo-llm serve` starts one."""
    print(f"vLLM starts; its log is {place / 'vllm.log'}", flush=True)
    network, tokenizer = assemble.network(run, torch.device("cpu"))
    weights.write_start(place / "model", network, network.weights())
    tokenizer.save_pretrained(place / "model")
    rank = weights.rank_of(network)
    del network
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # A question to the judge has two responses, beside its rubric.
    longest = run.prompts.max_tokens + 4 * run.generation.max_tokens + 256
    settings = launch.Launch(
        python, (place / "model").absolute(), run.model.dtype, longest, rank, 2, 64, 1.0, port
    )
    with launch.serving(settings, place / "vllm.log") as process:
        yield Running(settings.url, process.pid)
    shutil.rmtree(place / "model")


def _drawing(run: Config, url: str) -> Config:
    """The run with responses drawn by the server at `url`."""
    return replace(run, generation=replace(run.generation, engine="vllm", options={"url": url}))


def _prompts(run: Config, policy: TokenPolicy, tokenizer: Any) -> Prompts:
    return load_prompts(run.prompts, tokenizer, assemble.room(policy))


def _changed(policy: TokenPolicy, by: float, seed: int) -> TokenPolicy:
    """The policy with noise on every weight."""
    generator = torch.Generator().manual_seed(seed)
    ((_, old),) = policy.parts
    new = {n: w + by * torch.randn(w.shape, generator=generator) for n, w in old.items()}
    return replace(policy, parts=((1.0, new),))


def _measured(run: Config, kind: str, server: Running, repeats: int) -> dict[str, Any]:
    """Agreement, seconds of a delivery, and speed of vLLM and of the built-in engine."""
    policy, tokenizer = assemble.start(run, torch.device("cpu"))
    prompts = _prompts(run, policy, tokenizer).ids[:DRAWN]
    ours, vllm = assemble.engine(run), assemble.engine(_drawing(run, server.url))
    other = _changed(policy, CHANGE[kind], 0)
    apart, undelivered = {}, []
    for name, p, q in (
        ("start", policy, other),
        ("changed", other, policy),
        ("back", policy, other),
    ):
        drawn = vllm(p, prompts, 2, np.random.default_rng(0))
        apart[name] = float(np.abs(drawn.log_probs - p.log_probs(drawn.responses)).max())
        undelivered.append(float(np.abs(drawn.log_probs - q.log_probs(drawn.responses)).max()))
        print(f"{kind}, {name}: {apart[name]:.1e} nats a token", flush=True)
    return {
        "apart": apart,
        "undelivered": min(undelivered),
        "delivery_s": _delivery(policy, vllm, prompts[0], CHANGE[kind], repeats),
        "speed": _speed(policy, {OURS: ours, VLLM: vllm}, prompts, server, repeats),
    }


def _delivery(
    policy: TokenPolicy, engine: Engine, prompt: tuple[int, ...], by: float, repeats: int
) -> float:
    """By how many seconds a draw takes longer if weights are delivered first."""
    one = replace(policy, decoding=replace(policy.decoding, max_tokens=1))
    taken = []
    for seed in range(1, repeats + 1):
        new = _changed(one, by, seed)
        seconds = []
        for _ in range(2):
            began = time.perf_counter()
            engine(new, [prompt], 1, np.random.default_rng(0))
            seconds.append(time.perf_counter() - began)
        taken.append(seconds[0] - seconds[1])
    return median(taken)


def _speed(
    policy: TokenPolicy,
    engines: dict[str, Engine],
    prompts: tuple[tuple[int, ...], ...],
    server: Running,
    repeats: int,
) -> dict[str, dict[str, float]]:
    """Tokens a second of both engines, which draw in turn; medians."""
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in engines}
    for engine in engines.values():
        engine(policy, prompts, 1, np.random.default_rng(0))
    for seed in range(repeats):
        for name, engine in engines.items():
            began, before = time.perf_counter(), _processor(server)
            drawn = engine(policy, prompts, SAMPLES, np.random.default_rng(seed))
            seconds, processor = time.perf_counter() - began, _processor(server) - before
            tokens = int(drawn.responses.lengths.sum())
            rates[name].append((tokens / seconds, tokens / processor))
            print(f"{name}: {tokens} tokens in {seconds:.1f} s", flush=True)
    return {
        name: dict(
            zip(("tokens_s", "tokens_cpu_s"), map(median, zip(*each, strict=True)), strict=True)
        )
        for name, each in rates.items()
    }


def _processor(server: Running) -> float:
    """Processor seconds of this process and of the server: the one waits while the other draws."""
    return time.process_time() + server.seconds()


def _trained(run: Config, folder: Path, url: str | None) -> dict[str, Any]:
    """What a run recorded: mismatch of its steps, seconds, and its win rate at the end."""
    run = replace(run, output=replace(run.output, folder=folder))
    summary = train(run if url is None else _drawing(run, url))
    print(summary, flush=True)
    records = checkpoint.metrics(folder)
    last = next(row for row in records[::-1] if "win_rate" in row)
    return {
        "steps": last["step"],
        "mismatch": [row["mismatch"] for row in records if "mismatch" in row],
        "ratio_off": max(abs(row["mismatch_ratio"] - 1.0) for row in records if "mismatch" in row),
        "win_rate": {
            "value": last["win_rate"],
            "low": last["win_rate_low"],
            "high": last["win_rate_high"],
        },
        "seconds": dict(summary.seconds),
    }


def _judged(run: Config, folder: Path, server: Running, count: int) -> dict[str, Any]:
    """The vote and the judge behind HTTP on all responses of the start and of the trained policy.

    The judge is the base model of the same server.
    """
    drawing = _drawing(run, server.url)
    start, tokenizer = assemble.start(drawing, torch.device("cpu"))
    source = replace(run.prompts, source=run.evaluation.source, limit=count)
    asked = load_prompts(source, tokenizer, assemble.room(start))
    engine, texts = assemble.engine(drawing), {}
    policies = {"start": start, "trained": checkpoint.policy_of(str(folder / "vllm"), start)}
    for seed, (name, policy) in enumerate(policies.items()):
        drawn = engine(policy, asked.ids, 4, np.random.default_rng(seed)).responses
        answers = [assemble.answer(policy, tokenizer, drawn.ids(i)) for i in range(len(drawn))]
        texts[name] = [answers[i : i + 4] for i in range(0, len(answers), 4)]
    options = {
        "url": f"{server.url}/v1",
        "model": START,
        "cache": str(folder / "answers"),
        "settings": _letters(tokenizer),
    }
    settings = {VOTE: run.judge, SERVED: JudgeConfig("mpo_llm.judges:chat_server", options)}
    # Equal texts tie unasked.
    different = [len({*a, *b}) for a, b in zip(*texts.values(), strict=True)]
    comparisons = sum(n * (n - 1) // 2 for n in different)
    found = {}
    for name, each in settings.items():
        judge, began = judge_loading.load(each), time.perf_counter()
        meeting = meet(judge, asked.texts, texts)
        seconds, counts = time.perf_counter() - began, tally(judge)
        averaging = meeting.averaging(texts)
        found[name] = {
            "comparisons": comparisons,
            "comparisons_s": comparisons / seconds,
            "requests": counts["requests"],
            "failures": counts["failed"],
            "win_rate": meeting.win_rate("trained", "start").value,
            "cyclic": averaging.cyclic.value,
            "lost": averaging.lost.value,
            "averaging": str(averaging),
        }
        print(f"{name}: {comparisons} comparisons in {seconds:.1f} s", flush=True)
    return found


def _letters(tokenizer: Any) -> dict[str, Any]:
    """Settings by which the judge's first token is a verdict: so small a model often gives none."""
    ids = [tokenizer.convert_tokens_to_ids(letter) for letter in ("A", "B")]
    return {"max_tokens": 1, "logit_bias": {str(i): 100 for i in ids}}


def bars(found: dict[str, Any]) -> dict[str, bool]:
    """The bars, and whether they were held."""
    most = max(max(e["apart"].values()) for e in found["engines"].values())
    runs = found["runs"]
    one, other = (runs[name]["win_rate"] for name in (VLLM, OURS))
    apart = abs(one["value"] - other["value"])
    interval = hypot(*((rate["high"] - rate["low"]) / 2 for rate in (one, other)))
    failed = found["judges"][SERVED]["failures"]
    return {
        f"vLLM and our scoring differ by at most {NATS_A_TOKEN} nats a token": most < NATS_A_TOKEN,
        f"the mismatch of all steps is below {NATS_A_RESPONSE} nats a response": (
            max(runs[VLLM]["mismatch"]) < NATS_A_RESPONSE
        ),
        "the win rates of both runs agree within their intervals": apart <= interval,
        "the judge behind HTTP failed on no comparison": failed == 0,
    }


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
