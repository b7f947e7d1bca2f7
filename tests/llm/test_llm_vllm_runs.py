"""Runs whose responses a vLLM server draws: training, evaluation, league, chat, two processes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mpo_llm as ml
import tiny
from fake_model import moved
from fake_vllm import COMPLETIONS, FakeVLLM, agreement, serving
from mpo_llm.engines.protocol import EngineError
from mpo_llm.networks.hugging_face import TransformersNetwork
from mpo_llm.training import config_file
from mpo_llm.training.ledger import PASSES
from mpo_llm.training.sweep import sweep, variants
from mpo_llm.training.train import train
from runs import lines, same, weights
from test_llm_engines import everything
from test_llm_processes import FSDP, SEVERAL, launch, written

PROMPTS = ((4, 5, 6), (7,), (8, 9))


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeVLLM]:
    tiny.config(tmp_path)
    with serving(tmp_path / "model") as found:
        yield found


RUNS: dict[str, dict[str, Any]] = {
    "replayed, average of weights": {"solver": {"pool": 2, "magnet": {"weight_ema": 0.2}}},
    "adapters against the start": {
        "model": {"lora_rank": 2},
        "solver": {"feedback": "against_start"},
        "generation": {"temperature": 0.6},
    },
    "against a mixture": {"solver": {"feedback": {"against_mixture": 0.3}}},
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_by_vllm(name: str, tmp_path: Path) -> None:
    """The engine's log-probabilities are the network's in every step, and the same run again, with
    fewer requests at the same time, is the same run."""
    sections = RUNS[name]
    tiny.config(tmp_path)
    for i, options in enumerate(({}, {"at_once": 1})):
        with serving(tmp_path / "model") as fake:
            engine = {"engine": "vllm", "options": {"url": "$THE_SERVER", **options}}
            generation = {**sections.get("generation", {}), **engine}
            config = tiny.config(
                tmp_path,
                **{**sections, "generation": generation},
                output={"folder": str(tmp_path / f"run-{i}")},
            )
            # The file of a run is all that it is.
            (tmp_path / "run.yaml").write_text(config_file.dump(config))
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("THE_SERVER", fake.url)
                train(config_file.load(tmp_path / "run.yaml"))
        found = lines(tmp_path / f"run-{i}")
        assert len(found) == 4
        for line in found:
            assert line["mismatch"] < 1e-4
            assert line["mismatch_ratio"] == pytest.approx(1.0, abs=1e-5)
        asked = sum(body["n"] for body in fake.draws)
        drawn = found[-1]["samples"]
        # Mixtures alone are drawn here.
        assert asked < drawn if "mixture" in name else asked == drawn
    one, two = lines(tmp_path / "run-0"), lines(tmp_path / "run-1")
    assert one == two
    a, b = (weights(tmp_path / f"run-{i}", 4) for i in (0, 1))
    for key, array in a.items():
        np.testing.assert_array_equal(b[key], array, err_msg=key)


def test_policy_and_opponent_are_one_batch(tmp_path: Path) -> None:
    """With adapters the requests of both go out together in each step, after both deliveries."""
    tiny.config(tmp_path)
    with serving(tmp_path / "model") as fake:
        train(
            tiny.config(
                tmp_path,
                model={"lora_rank": 2},
                solver={"feedback": "against_start"},
                generation={"engine": "vllm", "options": {"url": fake.url}},
            )
        )
    assert fake.paths.count(COMPLETIONS) == 4
    adapters = [body["model"] for body in fake.draws]
    steps = [adapters[at : at + 4] for at in range(0, 16, 4)]
    # The start meets itself, and stays on the server as long as it is met.
    assert [len(set(step)) for step in steps] == [1, 2, 2, 2]
    assert all(adapters.count(name) > 1 and steps[0][0] in step for step in steps for name in step)
    assert fake.held.most == 2


def test_evaluation_league_and_chat(fake: FakeVLLM, tmp_path: Path) -> None:
    """All of them draw by the server; another model, which it does not have, is drawn here."""
    expected = everything(tmp_path, engine="vllm", options={"url": fake.url})
    others = 6 * 4
    assert sum(body["n"] for body in fake.draws) == sum(expected.values()) - others


class Two:
    """One of two processes, which are threads here."""

    size = 2

    def __init__(self, rank: int, barrier: threading.Barrier, table: list[Any]) -> None:
        self.rank, self._barrier, self._table = rank, barrier, table

    def gather(self, part: Any) -> list[Any]:
        self._table[self.rank] = part
        self._barrier.wait(10)
        found = list(self._table)
        self._barrier.wait(10)
        return found

    def largest(self, number: int) -> int:
        return max(self.gather(number))

    def collect(self, tensor: Any) -> list[Any] | None:
        found = self.gather(tensor)
        return found if self.rank == 0 else None

    def add(self, tensors: Any) -> Any:
        raise NotImplementedError


def by_two(work: Callable[[Any], Any], folder: Path) -> list[Any]:
    """What `work` returns or raises for the policy of each of two processes."""
    from transformers import AutoModelForCausalLM

    barrier, table, found = threading.Barrier(2), [None] * 2, [None] * 2
    decoding = ml.Decoding(5, eos=1)

    def one(rank: int) -> None:
        model = AutoModelForCausalLM.from_pretrained(folder / "model").eval()
        network = TransformersNetwork(model, processes=Two(rank, barrier, table))
        try:
            found[rank] = work(ml.TokenPolicy.of(network, decoding))
        except Exception as error:
            found[rank] = error

    threads = [threading.Thread(target=one, args=(rank,)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_two_processes_share_a_server(fake: FakeVLLM, tmp_path: Path) -> None:
    """The first one asks, and both have the same responses and go on with the same numbers."""

    def work(p: ml.TokenPolicy) -> Any:
        engine, rng = ml.Server(fake.url, tmp_path / "weights"), np.random.default_rng(0)
        drawn = ml.engines.draw_each(engine, [p, moved(p)], PROMPTS, 3, rng)
        assert agreement(p, drawn[0]) <= 1e-5
        return drawn, rng.random()

    (one, last), (two, also_last) = by_two(work, tmp_path)
    assert last == also_last
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a.responses.tokens, b.responses.tokens)
        np.testing.assert_array_equal(a.log_probs, b.log_probs)
    assert len(fake.draws) == 2 * 3
    assert len(fake.bodies("/collective_rpc")) == 2


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda fake: setattr(fake.held.faults, "keeps_weights", True), "runs other weights"),
        (lambda fake: fake.replies.update({"/collective_rpc": (500, {}, {})}), "status 500"),
        (lambda fake: fake.replies.update({"/v1/completions": (400, {}, {})}), "status 400"),
        (lambda fake: setattr(fake, "change", lambda path, body, answer: {}), "another form"),
    ],
)
def test_an_error_reaches_both_processes(
    spoil: Any, said: str, fake: FakeVLLM, tmp_path: Path
) -> None:
    """Neither waits for the other."""
    barrier = threading.Barrier(2)

    def work(p: ml.TokenPolicy) -> None:
        engine, rng = ml.Server(fake.url, tmp_path / "weights"), np.random.default_rng(0)
        engine(p, PROMPTS, 2, rng)
        if barrier.wait(10) == 0:
            spoil(fake)
        barrier.wait(10)
        engine(moved(p), PROMPTS, 2, rng)

    for error in by_two(work, tmp_path):
        assert isinstance(error, EngineError)
        assert said in str(error)


@pytest.mark.slow
@pytest.mark.parametrize("options", [["--multi_gpu"], FSDP], ids=["DDP", "FSDP"])
def test_a_run_of_two_processes(options: list[str], fake: FakeVLLM, tmp_path: Path) -> None:
    """It is the run of one process, but for rounding, also if they share the weights."""
    # Adapters first: they need the base model, which a run of whole weights replaces.
    kinds: list[dict[str, Any]] = [{"model": {"lora_rank": 2}}, {}]
    generation = {"engine": "vllm", "options": {"url": fake.url}}
    paths = []
    for i, sections in enumerate(kinds):
        output = {"folder": str(tmp_path / f"alone-{i}")}
        train(tiny.config(tmp_path, **sections, generation=generation, output=output))
        paths.append(
            str(written(tmp_path, tmp_path / f"run-{i}", **sections, generation=generation))
        )
    fake.held.__post_init__()
    script = tmp_path / "several.py"
    script.write_text(SEVERAL)
    launch(options, str(script), *paths, runs=len(kinds))
    for i in range(len(kinds)):
        for one, two in zip(
            lines(tmp_path / f"alone-{i}"), lines(tmp_path / f"run-{i}"), strict=True
        ):
            assert two["mismatch"] < 1e-4
            for key in one.keys() - {"mismatch", *PASSES}:
                # What is not known is None in both.
                known = one[key] is not None
                right = pytest.approx(one[key], rel=1e-3, abs=1e-4) if known else None
                assert two[key] == right, key


def test_a_server_may_serve_one_run_after_another(fake: FakeVLLM, tmp_path: Path) -> None:
    """Each begins by its own start: the same run twice is the same, bit for bit."""
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        train(
            tiny.config(
                tmp_path,
                generation={"engine": "vllm", "options": {"url": fake.url}},
                output={"folder": str(folder), "table_every": 2},
            )
        )
    same(*folders, step=4)


@pytest.mark.parametrize("lora", [0, 2])
def test_a_sweep_on_one_server(lora: int, fake: FakeVLLM, tmp_path: Path) -> None:
    """Runs at the same time would replace each other's weights there, but not their adapters."""
    options = {"url": fake.url}
    config = tiny.config(
        tmp_path,
        model={"lora_rank": lora} if lora else {},
        generation={"engine": "vllm", "options": options},
        budget={"steps": 2},
    )
    configs = variants(config, {"seed": [0, 1]})
    if not lora:
        with pytest.raises(ValueError, match="`--jobs 1`, or train adapters"):
            sweep(configs, jobs=2, backend="threading")
        assert not fake.seen
    assert not any(outcome.failed for outcome in sweep(configs))
