"""vLLM itself: a tiny model, drawn by a real server. `make vllm-server` installs it.

Without that environment these tests are skipped; `VLLM_PYTHON` names another interpreter.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

import mpo_games as mg
import mpo_llm as ml
import tiny
from mpo_llm.config import ModelConfig
from mpo_llm.engines import EngineError
from mpo_llm.engines.vllm import launch, server, weights
from mpo_llm.engines.vllm.hosts import DeliveryError
from mpo_llm.networks import adapters
from mpo_llm.responses import Ids

ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("VLLM_PYTHON", ROOT / launch.LOCAL))
VOCABULARY = 24
"""The model has four ids more, which have no text."""
DECODING = ml.Decoding(12, eos=(1, 5), temperature=0.7, vocabulary=VOCABULARY, unused=(7,))
PROMPTS: tuple[Ids, ...] = ((4,), (5, 6, 8), tuple(range(3, 23)) * 2, (9, 9))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.vllm,
    pytest.mark.skipif(not PYTHON.exists(), reason="`make vllm-server` installs vLLM"),
]


def model() -> transformers.LlamaForCausalLM:
    """A Llama whose head is its embedding. Smaller heads of attention have no kernel there."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY + 4,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=128,
        eos_token_id=1,
        pad_token_id=0,
        bos_token_id=None,
        initializer_range=0.2,
        tie_word_embeddings=True,
    )
    return transformers.LlamaForCausalLM(config)


def policy(rank: int = 0) -> ml.TokenPolicy:
    found = model()
    if rank:
        found = adapters.fresh(found, ModelConfig(lora_rank=rank), 0)
    return ml.TokenPolicy.of(ml.TransformersNetwork(found), DECODING)


def changed(p: ml.TokenPolicy, by: float, seed: int = 1) -> ml.TokenPolicy:
    """The policy with other weights, every one of them."""
    generator = torch.Generator().manual_seed(seed)
    new = {n: w + by * torch.randn(w.shape, generator=generator) for n, w in p.weights.items()}
    return replace(p, parts=((1.0, new),))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of a server, and a folder for versions. It takes whole models and adapters."""
    place = tmp_path_factory.mktemp("vllm")
    weights.write_start(place / "model", policy().network, policy().weights)  # type: ignore[arg-type]
    tiny.tokenizer().save_pretrained(place / "model")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = launch.Launch(
        PYTHON.absolute(), place / "model", "float32", 128, 4, 2, 16, 2**-6, port
    )
    with launch.serving(settings, place / "log") as process:
        (place / "process").write_text(str(process.pid))
        yield settings.url, place


def apart(p: ml.TokenPolicy, drawn: ml.Drawn) -> float:
    """The largest difference of engine and network, in nats a token."""
    return float(np.abs(drawn.log_probs - p.log_probs(drawn.responses)).max())


@pytest.mark.parametrize(("rank", "long"), [(0, 10_000), (4, 10_000), (4, 0)])
def test_engine_and_network_agree(
    rank: int, long: int, served: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the start, after a step, after going back: to 1e-4 nats a token, and 1e-6 is usual.

    Ids that may not be produced are left out of a list, or as in large vocabularies get a bias.
    """
    monkeypatch.setattr(server, "LONG", long)
    url, place = served
    engine, start = ml.Server(url, place / "weights"), policy(rank)
    new = changed(start, 0.05)
    rng = np.random.default_rng(0)
    for p, other in ((start, new), (new, start), (start, new)):
        drawn = engine(p, PROMPTS, 20, rng)
        assert apart(p, drawn) < 1e-4
        # Had nothing been delivered, this would be seen.
        assert apart(other, drawn) > 0.05
        assert (drawn.responses.tokens < VOCABULARY).all()
        assert not (drawn.responses.tokens[drawn.responses.mask] == 7).any()
        assert {1, 5} <= {drawn.responses.ids(i)[-1] for i in range(80)}
    one, two = (engine(start, PROMPTS, 3, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(one.responses.tokens, two.responses.tokens)
    assert not list((place / "weights").glob("*/v*/model.safetensors"))


def test_the_first_tokens_have_the_networks_distribution(served: tuple[str, Path]) -> None:
    url, _ = served
    p = policy()
    one = replace(p, decoding=replace(DECODING, max_tokens=1))
    drawn = ml.Server(url)(one, PROMPTS[:1], 4000, np.random.default_rng(0)).responses
    ids = [i for i in range(VOCABULARY) if i != 7]
    every = ml.Responses.of_ids(PROMPTS[:1], [0] * len(ids), [(i,) for i in ids])
    expected = np.exp(one.log_probs(every)[:, 0])
    found = np.bincount(drawn.tokens[:, 0], minlength=VOCABULARY)[ids] / 4000
    np.testing.assert_allclose(expected.sum(), 1.0)
    # Four standard errors.
    assert (np.abs(found - expected) <= 4 * np.sqrt(expected * (1 - expected) / 4000) + 1e-3).all()


def test_policy_and_opponent_draw_in_one_batch(served: tuple[str, Path]) -> None:
    """Adapters of both are there, and the result is that of drawing in turn."""
    url, _ = served
    engine, start = ml.Server(url), policy(4)
    several = [changed(start, 0.05), start]
    both = engine.each(several, PROMPTS, 5, np.random.default_rng(0))
    rng = np.random.default_rng(0)
    for p, drawn in zip(several, both, strict=True):
        assert apart(p, drawn) < 1e-4
        alone = engine(p, PROMPTS, 5, rng)
        np.testing.assert_array_equal(alone.responses.tokens, drawn.responses.tokens)


@pytest.mark.parametrize("rank", [0, 4])
def test_a_run_of_steps(rank: int, served: tuple[str, Path]) -> None:
    """Four steps of MMD: the mismatch stays below 1e-3 nats a response. The judge likes short
    responses, and they get shorter."""

    def judge(prompts: list[str], a: list[str], b: list[str]) -> np.ndarray:
        return np.array([0.5 + 0.4 * np.tanh(len(y) - len(x)) for x, y in zip(a, b, strict=True)])

    url, _ = served
    game = ml.TextPreferenceGame(
        PROMPTS,
        replace(policy(rank), proximal=ml.Proximal(minimise=ml.Adam(4, 1e-2 if rank else 1e-3))),
        judge,
        lambda ids: "x" * len(ids),
        8,
        engine=ml.Server(url),
    )
    states = mg.iterate(game, mg.MMD(1.0, 0.05), rng=np.random.default_rng(0))
    for _, state in zip(range(5), states, strict=False):
        last = state
    q = game.feedback(last.policy, rng=np.random.default_rng(2))
    assert q.mismatch < 1e-3
    assert abs(q.mismatch_ratio - 1.0) < 1e-3
    before = game.feedback(game.start, rng=np.random.default_rng(2))
    assert q.weights @ q.responses.lengths < before.weights @ before.responses.lengths - 0.5


@pytest.mark.parametrize("rank", [0, 4])
def test_what_is_not_delivered_is_noticed(
    rank: int, served: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the first step: the server says that all is well, and keeps the old weights."""
    url, _ = served
    engine, start = ml.Server(url), policy(rank)
    engine(start, PROMPTS, 2, np.random.default_rng(0))
    ask = server._Served._delivered

    def lost(self: server._Served, path: str, body: object, *rest: float) -> object:
        if path == "/collective_rpc":
            return {"results": [None]}
        if path == "/v1/load_lora_adapter":
            # The new name, with the old adapter.
            old = next(iter(self._folders.values()))
            body = {"lora_name": body["lora_name"], "lora_path": str(old)}  # type: ignore[index]
        return ask(self, path, body, *rest)

    monkeypatch.setattr(server._Served, "_delivered", lost)
    with pytest.raises(DeliveryError, match="weights"):
        engine(changed(start, 1e-4), PROMPTS, 2, np.random.default_rng(0))


@pytest.mark.parametrize("rank", [0, 4])
def test_a_missing_folder_is_a_sentence(
    rank: int, served: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And after it the engine delivers again."""
    url, _ = served
    engine, p = ml.Server(url), policy(rank)
    with monkeypatch.context() as patched:
        for name in ("write_model", "write_adapter"):
            patched.setattr(weights, name, lambda folder, given: None)
        with pytest.raises(DeliveryError, match="could not be delivered"):
            engine(p, PROMPTS, 2, np.random.default_rng(0))
    assert apart(p, engine(p, PROMPTS, 2, np.random.default_rng(0))) < 1e-4


def test_in_this_process(tmp_path: Path) -> None:
    """`Colocated` in the environment of vLLM: the same agreement, for whole models and adapters."""
    paths = os.pathsep.join(str(ROOT / p) for p in (".", "llm", "tests/llm"))
    for rank in (0, 4):
        done = subprocess.run(
            [str(PYTHON), str(ROOT / "tests/llm/in_vllm.py"), str(rank)],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": paths, "VLLM_CPU_OMP_THREADS_BIND": "nobind"},
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        found = json.loads(done.stdout.strip().splitlines()[-1])
        assert max(found["apart"]) < 1e-4
        assert min(found["other"]) > 0.05


def test_a_server_that_dies_is_a_sentence(tmp_path: Path, served: tuple[str, Path]) -> None:
    """Also in the midst of drawing. It is the last test, since there is one server for all."""
    url, place = served
    engine, p = ml.Server(url), policy()
    engine(p, PROMPTS, 2, np.random.default_rng(0))
    long = replace(p, decoding=ml.Decoding(80, temperature=0.7, vocabulary=VOCABULARY))
    process = int((place / "process").read_text())
    killer = threading.Timer(1.0, os.killpg, (process, signal.SIGKILL))
    killer.start()
    with pytest.raises(EngineError, match="No vLLM server answers at"):
        engine(long, PROMPTS[:2], 500, np.random.default_rng(0))
    killer.join()
    with pytest.raises(EngineError, match="start it by `mpo-llm serve`"):
        engine(p, PROMPTS, 2, np.random.default_rng(0))
