"""vLLM in this process: what it is started with, the order of its calls, and what it draws."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mpo_llm as ml
import tiny
from fake_llm import LLM, installed
from fake_model import moved, start
from fake_vllm import agreement
from mpo_llm.engines.protocol import EngineError
from mpo_llm.engines.vllm import colocated
from mpo_llm.engines.vllm.hosts import DeliveryError
from mpo_llm.training import assemble
from mpo_llm.training.train import train
from runs import lines

PROMPTS = ((4, 5, 6), (7,), (8, 9))


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[LLM]]:
    # The engine sets it in this process.
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    monkeypatch.setenv("VLLM_NO_USAGE_STATS", "1")
    with installed() as found:
        yield found


def drawing(engine: Any, policy: ml.TokenPolicy, count: int = 3) -> ml.Drawn:
    return ml.engines.draw(engine, policy, PROMPTS, count, np.random.default_rng(0))


@pytest.mark.parametrize("kind", [{}, {"tied": True}, {"lora": 2}], ids=["full", "tied", "LoRA"])
def test_log_probs_are_the_networks(
    kind: dict[str, Any], started: list[LLM], tmp_path: Path
) -> None:
    p = start(tmp_path, **kind)
    p = replace(p, decoding=ml.Decoding(5, eos=(1, 3), temperature=0.8, vocabulary=14, unused=(5,)))
    engine = ml.Colocated()
    for policy in (p, moved(p), p, moved(p, 2)):
        drawn = drawing(engine, policy)
        assert agreement(policy, drawn) <= 1e-5
    (llm,) = started
    for how in llm.settings:
        assert (how.top_p, how.top_k, how.min_p, how.ignore_eos) == (1.0, 0, 0.0, True)
        assert how.allowed_token_ids == [i for i in range(14) if i != 5]
    both = engine.each([p, moved(p, 3)], PROMPTS, 2, np.random.default_rng(1))
    turns = np.random.default_rng(1)
    for policy, one in zip((p, moved(p, 3)), both, strict=True):
        two = engine(policy, PROMPTS, 2, turns)
        np.testing.assert_array_equal(one.responses.tokens, two.responses.tokens)
        np.testing.assert_array_equal(one.log_probs, two.log_probs)


@pytest.mark.parametrize("lora", [0, 2])
def test_on_a_device_it_sleeps_between_two_draws(
    lora: int, started: list[LLM], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It wakes for a delivery, and sleeps when all is drawn, or when something has failed."""
    waited: list[Any] = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    p = start(tmp_path, lora=lora)
    engine = ml.Colocated()
    drawing(engine, p)
    (llm,) = started
    delivery = ["add"] if lora else ["reload", "reset"]
    assert llm.calls == [*delivery, "probe", "draw"]
    assert engine._host is not None
    engine._host._on_cpu = False
    for policy, sent in (
        (p, []),
        (moved(p), delivery),
        (moved(p, 2), ["remove"] * bool(lora) + delivery),
    ):
        llm.calls.clear()
        drawing(engine, policy)
        woken = ["wake"] if len(waited) > 1 else []
        assert llm.calls == [*woken, *sent, "probe", "draw", "sleep"]
    assert len(waited) == 3
    LLM.fails = "draw"
    with pytest.raises(
        EngineError, match=r"^vLLM failed: RuntimeError: EngineDeadError in draw\.$"
    ):
        drawing(engine, p)
    assert llm.asleep


@pytest.mark.parametrize(
    ("lora", "fails", "said"),
    [
        (0, "reload", "EngineDeadError in reload"),
        (0, "forget", "does not forget"),
        (2, "add", "EngineDeadError in add"),
        (2, "load", "did not load the adapter 'v1'"),
    ],
)
def test_a_delivery_that_fails(
    lora: int, fails: str, said: str, started: list[LLM], tmp_path: Path
) -> None:
    LLM.fails = fails
    with pytest.raises(DeliveryError, match=said):
        drawing(ml.Colocated(), start(tmp_path, lora=lora))


@pytest.mark.parametrize("fault", ["keeps_weights", "keeps_cache", "keeps_head"])
def test_undelivered_weights_are_noticed(fault: str, started: list[LLM], tmp_path: Path) -> None:
    p = start(tmp_path, tied=True)
    engine = ml.Colocated()
    drawing(engine, p)
    setattr(started[0].held.faults, fault, True)
    with pytest.raises(DeliveryError):
        drawing(engine, moved(p))


def test_what_it_is_started_with_on_a_cpu(started: list[LLM], tmp_path: Path) -> None:
    """The folder of the start is gone when it has been read."""
    p = start(tmp_path, lora=3)
    drawing(ml.Colocated(48, memory=0.5, rows=7, slots=3), p)
    (llm,) = started
    assert llm.options == {
        "dtype": "float32",
        "enforce_eager": True,
        "max_model_len": 48,
        "max_num_seqs": 7,
        "logprobs_mode": "processed_logprobs",
        "generation_config": "vllm",
        "skip_tokenizer_init": True,
        "seed": 0,
        "disable_log_stats": True,
        "max_lora_rank": 8,
        "enable_lora": True,
        "max_loras": 3,
        "kv_cache_memory_bytes": 2**29,
        "enable_chunked_prefill": False,
    }
    assert not llm.held.folder.exists()
    with pytest.raises(ValueError, match="up to 49 tokens, and the engine has room for 48"):
        drawing(ml.Colocated(48), replace(p, decoding=replace(p.decoding, max_tokens=46)))


class OnGPU:
    """A network that says that it is on a GPU."""

    device = torch.device("cuda")

    def __init__(self, network: Any) -> None:
        self._network = network

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)


def test_what_it_is_started_with_on_a_gpu(started: list[LLM], tmp_path: Path) -> None:
    p = start(tmp_path)
    network: Any = OnGPU(p.network)
    colocated._started(network, p.weights, ml.Colocated(memory=0.4), tmp_path / "start")
    options = started[0].options
    assert options["gpu_memory_utilization"] == 0.4
    assert options["enable_sleep_mode"] is True
    assert options["enforce_eager"] is False
    assert options["max_model_len"] == 64
    assert not {"kv_cache_memory_bytes", "enable_chunked_prefill", "enable_lora"} & set(options)


def test_without_vllm_a_sentence_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    monkeypatch.setenv("VLLM_NO_USAGE_STATS", "1")
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ImportError, match=r"pip install vllm, or .* `mpo-llm serve`"):
        drawing(ml.Colocated(), start(tmp_path))


def test_llvmlite_is_hidden_while_it_starts(
    started: list[LLM], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is there again, also if the start has failed."""
    module = importlib.import_module("llvmlite.binding.ffi")
    drawing(ml.Colocated(), start(tmp_path))
    assert not started[0].seen_llvmlite
    assert sys.modules["llvmlite.binding.ffi"] is module

    def fail(self: LLM, *_: Any, **options: Any) -> None:
        raise TypeError("no such option")

    monkeypatch.setattr(LLM, "__init__", fail)
    with pytest.raises(EngineError, match="TypeError: no such option"):
        drawing(ml.Colocated(), start(tmp_path))
    assert sys.modules["llvmlite.binding.ffi"] is module


def test_bad_settings_are_refused() -> None:
    for settings, said in (
        ({"rows": 0}, "`rows`"),
        ({"slots": 0}, "`slots`"),
        ({"longest": 0}, "`longest`"),
        ({"memory": 0.0}, "`memory`"),
    ):
        with pytest.raises(ValueError, match=said):
            ml.Colocated(**settings)  # type: ignore[arg-type]


def test_a_configuration_chooses_it(started: list[LLM], tmp_path: Path) -> None:
    """Without `url`; a run by it is a run by a server, number for number."""
    from fake_vllm import serving

    folders = []
    start(tmp_path)
    with serving(tmp_path / "model") as fake:
        for i, options in enumerate(({"rows": 9}, {"url": fake.url})):
            folders.append(tmp_path / f"run-{i}")
            train(
                tiny.config(
                    tmp_path,
                    generation={"engine": "vllm", "options": options},
                    output={"folder": str(folders[-1])},
                )
            )
    assert [llm.options["max_num_seqs"] for llm in started] == [9]
    assert lines(folders[0]) == lines(folders[1])
    for options, said in (
        ({"dtype": "float32"}, "options of a server: set `url`"),
        ({"url": "http://a", "dtype": "int8"}, "must be one of float32, bfloat16, float16"),
        ({"url": "http://a", "rows": 3}, "rows"),
        ({"seats": 3}, "seats"),
    ):
        with pytest.raises(ValueError, match=said):
            assemble.engine(
                tiny.config(tmp_path, generation={"engine": "vllm", "options": options})
            )
