"""Weights that did not reach the engine are noticed at the next draw, and none else suspected."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mpo_llm as ml
import tiny
from fake_model import moved, start
from fake_vllm import FakeVLLM, serving
from mpo_llm.engines.vllm.hosts import DeliveryError
from mpo_llm.engines.vllm.probe import FARTHEST_IN_HALF, IDS, ROWS, Watch
from mpo_llm.training import checkpoint
from mpo_llm.training.train import train

PROMPTS = ((4, 5, 6), (7,), (8, 9))
OTHER = "runs other weights than the policy, or in another precision"
SOME = "Only some of the weights reached the engine"
NONE = "The weights did not reach the engine"


def drawing(engine: ml.Server, policy: ml.TokenPolicy) -> ml.Drawn:
    return ml.engines.draw(engine, policy, PROMPTS, 2, np.random.default_rng(0))


FAULTS: dict[str, dict[str, Any]] = {
    "keeps_weights": {},
    "keeps_head": {"tied": True},
    "keeps_cache": {},
    "keeps_adapter": {"lora": 2},
}
"""What goes wrong on the server, with the model that it is tried on."""


@pytest.mark.parametrize(
    ("fault", "by"),
    [(fault, by) for fault in FAULTS for by in (0.05, 1e-3)]
    # A part that is missing shows above the rounding alone, and all of it always.
    + [(fault, 1e-5) for fault in FAULTS if fault != "keeps_head"],
)
def test_a_fault_of_the_server_is_noticed_at_once(fault: str, by: float, tmp_path: Path) -> None:
    """In the first delivery after it, before anything is drawn."""
    kind = FAULTS[fault]
    p = start(tmp_path, **kind)
    with serving(tmp_path / "model") as fake:
        engine = ml.Server(fake.url, tmp_path / "weights")
        drawing(engine, p)
        setattr(fake.held.faults, fault, True)
        before = len(fake.draws)
        with pytest.raises(DeliveryError, match=f"{NONE}|{OTHER}|{SOME}"):
            drawing(engine, moved(p, by=by))
        assert len(fake.draws) == before


@pytest.mark.parametrize(
    ("fault", "dtype"),
    [(fault, "float32") for fault in FAULTS]
    + [("keeps_weights", "bfloat16"), ("keeps_adapter", "bfloat16")],
)
def test_a_run_ends_with_its_last_whole_step(fault: str, dtype: str, tmp_path: Path) -> None:
    """The server misbehaves from the second step on: the first one is saved, and a note says so."""
    kind = FAULTS[fault]
    tiny.save(tmp_path / "model", tie_word_embeddings=bool(kind.get("tied")))
    tiny.prompts(tmp_path)
    with serving(tmp_path / "model", dtype=getattr(torch, dtype)) as fake:
        plain = tiny.cyclic
        asked = []

        def spoiling(*texts: Any) -> Any:
            asked.append(1)
            if len(asked) == 3:  # two half-steps of the first step, and the start of the second
                setattr(fake.held.faults, fault, True)
            return plain(*texts)

        tiny.judges["spoiling"] = spoiling
        config = tiny.config(
            tmp_path,
            model={"lora_rank": 2} if "lora" in kind else {},
            judge={"options": {"name": "spoiling"}},
            generation={"engine": "vllm", "options": {"url": fake.url, "dtype": dtype}},
            solver={"feedback": "current", "eta": 4.0},
            output={"checkpoint_every": 100},
        )
        with pytest.raises(DeliveryError, match=f"{NONE}|{OTHER}|{SOME}") as error:
            train(config)
    saved = checkpoint.listed(tmp_path / "run" / "checkpoints")
    assert [path.name for path in saved] == ["step-000003"]
    assert error.value.__notes__ == ["Step 3 is saved: go on with `--resume`."]


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeVLLM]:
    start(tmp_path)
    with serving(tmp_path / "model") as found:
        yield found


def test_a_server_that_was_started_anew(fake: FakeVLLM, tmp_path: Path) -> None:
    """It has the start again, and the engine believes that it has the last step."""
    p = start(tmp_path)
    engine = ml.Server(fake.url, tmp_path / "weights")
    drawing(engine, p)
    drawing(engine, moved(p))
    fake.held.__post_init__()
    # Other weights are sent in any case.
    drawing(engine, last := moved(p, 2))
    fake.held.__post_init__()
    with pytest.raises(DeliveryError, match=f"{OTHER}.* for one run at a time"):
        drawing(engine, last)
    # What the server has is not known after an error, so everything is sent again.
    drawing(engine, last)


def test_an_adapter_of_a_server_that_was_started_anew(tmp_path: Path) -> None:
    p = start(tmp_path, lora=2)
    with serving(tmp_path / "model") as fake:
        engine = ml.Server(fake.url, tmp_path / "weights")
        drawing(engine, p)
        fake.held.__post_init__()
        with pytest.raises(ml.engines.EngineError, match=r"404, .*`weights-.*-v1` does not exist"):
            drawing(engine, p)


def test_a_server_that_another_run_uses(fake: FakeVLLM, tmp_path: Path) -> None:
    p = start(tmp_path)
    ours, theirs = (ml.Server(fake.url, tmp_path / "weights") for _ in range(2))
    drawing(ours, p)
    drawing(theirs, moved(p))
    with pytest.raises(DeliveryError, match="for one run at a time"):
        drawing(ours, p)


def test_a_server_of_another_model(fake: FakeVLLM, tmp_path: Path) -> None:
    """Its names are compared, since vLLM itself would only warn of those that it lacks."""
    other = tiny.model(attention_bias=True)
    other.save_pretrained(tmp_path / "other")
    fake.held.folder = tmp_path / "other"
    with pytest.raises(
        DeliveryError, match=r"another model: .* lack 'model.layers.0.*bias', and 8"
    ):
        drawing(ml.Server(fake.url, tmp_path / "weights"), start(tmp_path))
    assert not fake.draws


def test_a_start_of_other_weights_is_replaced(fake: FakeVLLM, tmp_path: Path) -> None:
    """The start is sent like any other weights, so the server's own do not matter."""
    fake.held.reload((n, w + 1.0) for n, w in list(fake.held.weights.items()))
    p = start(tmp_path)
    drawn = drawing(ml.Server(fake.url, tmp_path / "weights"), p)
    np.testing.assert_allclose(drawn.log_probs, p.log_probs(drawn.responses), atol=1e-5)


def test_half_precision_must_be_said(tmp_path: Path) -> None:
    """A server in half precision is far from a network in single precision, unless it is named."""
    tiny.save(tmp_path / "model", initializer_range=0.5)
    tiny.prompts(tmp_path)
    p = start(tmp_path)
    with serving(tmp_path / "model", dtype=torch.bfloat16) as fake:
        with pytest.raises(DeliveryError, match=r"half precision, say so by .*`dtype`"):
            drawing(ml.Server(fake.url, tmp_path / "weights"), p)
        engine = ml.Server(fake.url, tmp_path / "weights", torch.bfloat16)
        for policy in (p, moved(p), moved(p, by=1e-3), p):
            drawing(engine, policy)


@pytest.mark.parametrize("by", [1e-4, 1e-6, 1e-8])
@pytest.mark.parametrize("kind", [{}, {"lora": 2}], ids=["full", "LoRA"])
def test_steps_that_half_precision_rounds_away_are_no_fault(
    kind: dict[str, Any], by: float, tmp_path: Path
) -> None:
    """The network's numbers change, and the engine has delivered all the same."""
    p = start(tmp_path, **kind)
    with serving(tmp_path / "model", dtype=torch.bfloat16) as fake:
        engine = ml.Server(fake.url, tmp_path / "weights", torch.bfloat16)
        drawing(engine, p)
        for seed in range(3):
            drawing(engine, moved(p, seed, by))


SHAPE = (ROWS, IDS)


def numbers(seed: int, size: float = 1.0) -> np.ndarray:
    return size * np.random.default_rng(seed).normal(size=SHAPE)


def watching(dtype: torch.dtype, noise: float) -> tuple[Watch, np.ndarray]:
    """A watch after its first delivery, and the network's scores then."""
    watch, network = Watch(dtype), numbers(0) - 5.0
    watch.require_delivered(network + numbers(1, noise), network)
    return watch, network


@pytest.mark.parametrize(("dtype", "noise"), [(torch.float32, 4e-5), (torch.bfloat16, 0.04)])
@pytest.mark.parametrize("size", [1.0, 0.1, 1e-3, 1e-5, 1e-7, 0.0])
def test_what_is_delivered_is_never_suspected(dtype: Any, noise: float, size: float) -> None:
    """Noise of rounding that changes from delivery to delivery, and steps of any size."""
    watch, network = watching(dtype, noise)
    for seed in range(2, 40):
        network = network + numbers(seed, size)
        watch.require_delivered(network + numbers(seed + 100, noise), network)
    if size >= 0.1:
        assert watch.slope == pytest.approx(1.0, abs=0.1)
    if size < 1e-6:
        assert watch.slope is None


@pytest.mark.parametrize(
    ("dtype", "noise", "size"),
    [(torch.float32, 4e-5, size) for size in (1e-2, 1e-4, 1e-6)]
    + [(torch.bfloat16, 0.04, size) for size in (1e-1, 1e-2, 1e-3)],
)
def test_an_engine_that_did_not_change_at_all(dtype: Any, noise: float, size: float) -> None:
    """Far below the difference of engine and network: by its own numbers nothing has happened."""
    watch, network = watching(dtype, noise)
    engine = network + numbers(1, noise)
    with pytest.raises(DeliveryError, match=f"{NONE}|{OTHER}"):
        watch.require_delivered(engine, network + numbers(2, size))


def test_a_step_that_changes_nothing_is_no_fault() -> None:
    """Nor one so small that only a few of the network's numbers are rounded otherwise."""
    watch, network = watching(torch.float32, 4e-5)
    engine = network + numbers(1, 4e-5)
    watch.require_delivered(engine, network)
    few = np.zeros(SHAPE)
    few[0, :8] = 1e-7
    watch.require_delivered(engine, network + few)
    assert watch.slope is None


@pytest.mark.parametrize("share", [0.0, 0.5, 0.85, 1.2])
def test_an_engine_that_has_half_of_a_step(share: float) -> None:
    """Small steps, which a threshold on the difference would let pass."""
    watch, network = watching(torch.float32, 4e-5)
    change = numbers(2, 8e-4)
    with pytest.raises(DeliveryError, match=SOME):
        watch.require_delivered(network + share * change + numbers(3, 4e-5), network + change)


def test_steps_that_are_lost_in_half_precision_add_up() -> None:
    """Each is below the noise of rounding; their sum since the first delivery is not."""
    watch, network = watching(torch.bfloat16, 0.004)
    stale, change = network.copy(), numbers(2, 0.01)
    watch.require_delivered(stale + numbers(100, 0.004), network + change)
    with pytest.raises(DeliveryError, match=SOME):  # noqa: PT012
        for step in range(2, 30):
            watch.require_delivered(stale + numbers(100 + step, 0.004), network + step * change)


@pytest.mark.parametrize(
    ("dtype", "apart", "refused"),
    [
        (torch.float32, 2e-3, True),
        (torch.float32, 5e-4, False),
        (torch.bfloat16, 0.5, True),
        (torch.bfloat16, 0.1, False),
        (torch.float16, 0.1, False),
        (torch.float32, np.nan, True),
        (torch.bfloat16, np.inf, True),
    ],
)
def test_how_far_engine_and_network_may_be_apart(dtype: Any, apart: float, refused: bool) -> None:
    network = numbers(0)
    watch = Watch(dtype)
    if not refused:
        watch.require_near(network + apart, network)
        return
    with pytest.raises(DeliveryError, match=f"differ by {apart:.2g} nats a token"):
        watch.require_near(network + apart, network)
    assert FARTHEST_IN_HALF < 0.5


def test_a_small_change_after_scores_that_agreed_by_chance() -> None:
    """Zero adapters may be scored alike to the last bit; what follows is rounded all the same."""
    rng = np.random.default_rng(0)
    start = -3.0 + rng.standard_normal((ROWS, IDS))
    watch = Watch(torch.float32)
    watch.require_delivered(start, start)
    change = 1e-7 * rng.standard_normal(start.shape)
    watch.require_delivered(start + 0.7 * change, start + change)
    assert watch.slope is None


@pytest.mark.parametrize("rate", [1e-8, 1e-7])
def test_a_run_of_adapters_at_a_small_rate(rate: float, tmp_path: Path) -> None:
    """Its steps are as small as the rounding."""
    tiny.config(tmp_path)
    with serving(tmp_path / "model") as fake:
        generation = {"engine": "vllm", "options": {"url": fake.url}}
        step = {"rate": rate, "epochs": 2}
        train(
            tiny.config(tmp_path, model={"lora_rank": 2}, step=step, generation=generation),
        )
