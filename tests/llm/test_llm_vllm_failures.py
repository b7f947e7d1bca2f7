"""A vLLM server that fails: each failure is a sentence, soon, and the key is in none of them."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Timer
from typing import Any

import numpy as np
import pytest

import mpo_llm as ml
import tiny
from fake_model import moved, start
from fake_vllm import COMPLETIONS, LOAD, METRICS, MODELS, RELOAD, RESET, FakeVLLM, serving
from mpo_llm.engines.protocol import EngineError
from mpo_llm.engines.vllm import client, server
from mpo_llm.engines.vllm.hosts import DeliveryError
from mpo_llm.training import checkpoint
from mpo_llm.training.ledger import PASSES
from mpo_llm.training.train import train
from runs import lines, weights

PROMPTS = ((4, 5, 6), (7,), (8, 9))
KEY = "sk-very-secret"


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """All waits are short."""
    monkeypatch.setattr(client, "PAUSE", 0.01)
    monkeypatch.setattr(client, "LOOK", 0.05)
    monkeypatch.setattr(client, "SOON", 1.0)
    monkeypatch.setattr(server, "PATIENCE", 1.0)
    monkeypatch.setattr(server, "FORGETTING", 3)


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeVLLM]:
    start(tmp_path)
    with serving(tmp_path / "model") as found:
        yield found


def engine(fake: FakeVLLM, tmp_path: Path, **settings: Any) -> ml.Server:
    return ml.Server(fake.url, tmp_path / "weights", **settings)


def drawing(found: ml.Server, policy: ml.TokenPolicy) -> ml.Drawn:
    return ml.engines.draw(found, policy, PROMPTS, 2, np.random.default_rng(0))


def nobody() -> str:
    """An address at which nothing listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{found.getsockname()[1]}"


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    p = start(tmp_path)
    with pytest.raises(EngineError, match=r"No vLLM server answers at .* `mpo-llm serve`"):
        drawing(ml.Server(nobody()), p)


def test_a_run_without_its_server_saves_nothing(tmp_path: Path) -> None:
    generation = {"engine": "vllm", "options": {"url": nobody()}}
    with pytest.raises(EngineError, match=r"`generation\.options\.url`"):
        train(tiny.config(tmp_path, generation=generation))
    assert not checkpoint.listed(tmp_path / "run" / "checkpoints")


def test_a_server_that_dies_in_the_middle(fake: FakeVLLM, tmp_path: Path) -> None:
    """The steps before are saved, and the run goes on by another server as if none had died."""
    options = {"url": "$THE_SERVER", "folder": str(tmp_path / "weights")}
    config = tiny.config(
        tmp_path,
        generation={"engine": "vllm", "options": options},
        solver={"feedback": "current"},
        output={"checkpoint_every": 100},
    )
    os.environ["THE_SERVER"] = fake.url
    try:
        fake.lives = 2 * 2 + 1  # two steps of two prompts, and one of the third
        with pytest.raises(EngineError, match="No vLLM server answers") as error:
            train(config)
        assert error.value.__notes__ == ["Step 2 is saved: go on with `--resume`."]
        (own,) = (tmp_path / "weights").iterdir()
        assert not list(own.iterdir())
        with serving(tmp_path / "model") as anew:
            os.environ["THE_SERVER"] = anew.url
            summary = train(config, resume=True)
            whole = tiny.config(
                tmp_path,
                generation={"engine": "vllm", "options": options},
                solver={"feedback": "current"},
                output={"folder": str(tmp_path / "whole")},
            )
            counts = train(whole).counts
    finally:
        del os.environ["THE_SERVER"]
    # The probe is scored by the network once more.
    assert counts.pop("forward_tokens") < summary.counts.pop("forward_tokens")
    assert counts == summary.counts
    ours, theirs = weights(tmp_path / "run", 4), weights(tmp_path / "whole", 4)
    for name, array in ours.items():
        np.testing.assert_array_equal(theirs[name], array, err_msg=name)
    for one, two in zip(lines(tmp_path / "run"), lines(tmp_path / "whole"), strict=True):
        assert {k: v for k, v in one.items() if k not in PASSES} == {
            k: v for k, v in two.items() if k not in PASSES
        }


def test_lost_answers_are_asked_for_again(fake: FakeVLLM, tmp_path: Path) -> None:
    """And are the same: an answer depends on its seed alone."""
    p = start(tmp_path)
    one = drawing(engine(fake, tmp_path), p)
    found = engine(fake, tmp_path)
    fake.loses = 2
    two = drawing(found, p)
    fake.loses = 2
    three = drawing(found, p)
    for other in (two, three):
        np.testing.assert_array_equal(one.responses.tokens, other.responses.tokens)
        np.testing.assert_array_equal(one.log_probs, other.log_probs)
    assert len(fake.draws) == 9 + 4


@pytest.mark.parametrize("lora", [0, 2])
def test_a_delivery_that_fails(lora: int, tmp_path: Path) -> None:
    p = start(tmp_path, lora=lora)
    path = LOAD if lora else RELOAD
    with serving(tmp_path / "model") as fake:
        found = engine(fake, tmp_path)
        drawing(found, p)
        fake.replies[path] = 500, {"error": {"message": "no such tensor 'a'\n"}}, {}
        said = rf"^The weights could not be delivered\. .* refuses {path} \(status 500, no such"
        with pytest.raises(DeliveryError, match=said):
            drawing(found, moved(p))
        assert not fake.draws[3:]
        del fake.replies[path]
        drawing(found, moved(p))


def test_a_folder_that_the_server_does_not_see(tmp_path: Path) -> None:
    """It runs elsewhere: vLLM answers 404 for an adapter, and 500 for a whole model."""
    p = start(tmp_path, lora=2)
    with serving(tmp_path / "model") as fake:
        missing: Any = lambda folder: str(folder).replace("weights", "elsewhere")  # noqa: E731
        answered = fake._answered

        def elsewhere(path: str, body: Any) -> Any:
            if path == LOAD:
                body = {**body, "lora_path": missing(body["lora_path"])}
            return answered(path, body)

        fake._answered = elsewhere  # type: ignore[method-assign]
        with pytest.raises(DeliveryError, match="status 404, No adapter found for"):
            drawing(engine(fake, tmp_path), p)


def test_a_place_for_weights_that_cannot_be_written(fake: FakeVLLM, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        drawing(ml.Server(fake.url, tmp_path / "file" / "weights"), start(tmp_path))


def test_a_server_that_does_not_forget(fake: FakeVLLM, tmp_path: Path) -> None:
    fake.busy = 100
    with pytest.raises(DeliveryError, match=r"does not forget .* one server for each run"):
        drawing(engine(fake, tmp_path), start(tmp_path))
    assert len(fake.bodies(RESET)) == 3


def test_a_reload_that_takes_for_ever(
    fake: FakeVLLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "PATIENCE", 0.1)
    reload = fake.held.reload
    fake.held.reload = lambda pairs: (fake.free.wait(5), reload(pairs))[1]  # type: ignore[method-assign]
    with pytest.raises(DeliveryError, match="has not answered within 0 s: start it again"):
        drawing(engine(fake, tmp_path), start(tmp_path))
    assert not list((next((tmp_path / "weights").iterdir())).iterdir())


def test_a_slow_server_that_makes_tokens_is_waited_for(fake: FakeVLLM, tmp_path: Path) -> None:
    """Far longer than `timeout`."""
    p = start(tmp_path)
    found = engine(fake, tmp_path, timeout=0.5)
    drawing(found, p)
    fake.hangs = fake.progresses = True
    Timer(1.2, fake.free.set).start()
    began = time.monotonic()
    drawing(found, p)
    assert time.monotonic() - began > 1.0
    assert fake.bodies(METRICS)


def test_a_server_that_makes_no_tokens_is_given_up(fake: FakeVLLM, tmp_path: Path) -> None:
    """Once, and not the next time, when it has come to itself."""
    p = start(tmp_path)
    found = engine(fake, tmp_path, timeout=0.5, at_once=1)
    drawing(found, p)
    for _ in range(4):
        fake.hangs = True
        fake.free.clear()
        began = time.monotonic()
        with pytest.raises(EngineError, match=r"has made no token for 0\.5 s: .*`timeout`"):
            drawing(found, p)
        assert time.monotonic() - began < 6.0, "once, not for each of some seventeen requests"
        fake.hangs = False
    drawing(found, p)


def test_a_server_without_counters_is_given_up(fake: FakeVLLM, tmp_path: Path) -> None:
    p = start(tmp_path)
    found = engine(fake, tmp_path, timeout=0.5)
    drawing(found, p)
    fake.hangs, fake.replies[METRICS] = True, (404, {}, {})
    with pytest.raises(EngineError, match="has made no token"):
        drawing(found, p)


def test_answers_that_come_at_once_cost_no_further_request(
    fake: FakeVLLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "LOOK", 5.0)
    drawing(engine(fake, tmp_path), start(tmp_path))
    assert not fake.bodies(METRICS)


def deeper(change: Any) -> Any:
    """The change of the choices of an answer to a draw."""

    def changed(path: str, body: Any, answer: Any) -> Any:
        if path == COMPLETIONS and "logprob_token_ids" not in body:
            change(answer["choices"])
        return answer

    return changed


def early(choices: Any) -> None:
    choices[0]["token_ids"], choices[0]["logprobs"]["token_logprobs"] = [4], [-1.0]


def late(choices: Any) -> None:
    choices[0]["token_ids"] = [4, 1, 4]
    choices[0]["logprobs"]["token_logprobs"] = [-1.0] * 3


def long(choices: Any) -> None:
    choices[0]["token_ids"] = [4] * 6
    choices[0]["logprobs"]["token_logprobs"] = [-1.0] * 6


def forbidden(choices: Any) -> None:
    choices[0]["token_ids"] = [4, 5, 15, 4, 4]
    choices[0]["logprobs"]["token_logprobs"] = [-1.0] * 5


FORM = "answers in another form than vLLM does"
STRANGE: list[tuple[Any, str]] = [
    (lambda choices: choices.pop(), "asked for 2 responses to each of 3 prompts, and gave 3"),
    (lambda choices: choices.append(choices[0]), "gave 9"),
    (early, r"must end with the first of the tokens \(1,\), or after 5 tokens, .* of 1 tokens"),
    (late, "one of 3 tokens that does not"),
    (long, "one of 6 tokens that does not"),
    (lambda choices: choices[0].update(token_ids=[]), "numbers for 0 tokens|of 0 tokens"),
    (lambda choices: choices[0]["token_ids"].append(1), "numbers for"),
    (forbidden, "may not be produced"),
    (
        lambda choices: choices[0]["logprobs"]["token_logprobs"].__setitem__(0, float("nan")),
        "finite",
    ),
    (lambda choices: choices[0]["logprobs"]["token_logprobs"].__setitem__(0, None), FORM),
    (lambda choices: choices[0].pop("token_ids"), FORM),
    (lambda choices: choices[0].pop("index"), FORM),
    (lambda choices: choices[0].update(logprobs=None), FORM),
]


@pytest.mark.parametrize(("change", "said"), STRANGE)
def test_answers_that_were_not_asked_for(
    change: Any, said: str, fake: FakeVLLM, tmp_path: Path
) -> None:
    p = start(tmp_path)
    p = replace(p, decoding=ml.Decoding(5, eos=1, vocabulary=15))
    fake.change = deeper(change)
    with pytest.raises(EngineError, match=said):
        drawing(engine(fake, tmp_path), p)


@pytest.mark.parametrize("answer", [b"<html>", [], {"choices": []}, {"object": "error"}])
@pytest.mark.parametrize("path", [MODELS, COMPLETIONS, RELOAD])
def test_a_server_of_another_kind(path: str, answer: Any, fake: FakeVLLM, tmp_path: Path) -> None:
    p = start(tmp_path)
    fake.replies[path] = 200, answer, {}
    with pytest.raises(EngineError, match=rf"{FORM}|answered '<html>'|answered (\[\]|{{)"):
        drawing(engine(fake, tmp_path), p)


def test_a_key_is_sent_and_never_told(
    fake: FakeVLLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by a server that repeats it, and not in the files of a run."""
    monkeypatch.setenv("THE_KEY", KEY)
    options = {"url": fake.url, "key_env": "THE_KEY"}
    config = tiny.config(
        tmp_path,
        generation={"engine": "vllm", "options": options},
        output={"checkpoint_every": 1},
    )
    train(config)
    assert {sent["Authorization"] for _, _, sent in fake.seen} == {f"Bearer {KEY}"}
    for file in (tmp_path / "run").rglob("*"):
        assert file.is_dir() or KEY.encode() not in file.read_bytes()
    for path in (MODELS, RELOAD, COMPLETIONS):
        found = engine(fake, tmp_path, key_env="THE_KEY")
        fake.replies = {path: (401, {"error": {"message": f"Bad key {KEY}"}}, {})}
        said = r"\(status 401, Bad key \*\*\*\): .* `key_env`"
        with pytest.raises(EngineError, match=said) as error:
            drawing(found, start(tmp_path))
        assert KEY not in repr(error.value) + repr(found)


def test_keys_and_addresses_are_checked_when_the_engine_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("THE_SERVER", "http://127.0.0.1:9/v1")
    assert ml.Server("$THE_SERVER").hosted.host.client.url == "http://127.0.0.1:9"  # type: ignore[attr-defined]
    assert "127.0.0.1" not in repr(ml.Server("$THE_SERVER"))
    for options, said in (
        ({"url": "$NO_SERVER"}, "names the environment variable 'NO_SERVER', which is not set"),
        ({"url": "127.0.0.1:8000"}, "must be an address such as"),
        ({"url": "http://a:b@c"}, "must not hold a password"),
        ({"url": "http://a", "key_env": "NO_KEY"}, "`key_env` names is not set"),
        ({"url": "http://a", "key_env": KEY}, "must be the name of an environment variable"),
        ({"url": "http://a", "at_once": 0}, "`at_once`"),
        ({"url": "http://a", "slots": 0}, "`slots`"),
        ({"url": "http://a", "timeout": 0.0}, "`timeout`"),
    ):
        with pytest.raises(ValueError, match=said) as error:
            ml.Server(**options)  # type: ignore[arg-type]
        assert KEY not in str(error.value)


@pytest.mark.parametrize("lora", [0, 2])
def test_a_place_that_cannot_be_written_is_named(lora: int, tmp_path: Path) -> None:
    """And the option by which another one is chosen."""
    p = start(tmp_path, lora=lora)
    (tmp_path / "weights").write_text("a file")
    with serving(tmp_path / "model") as fake:
        said = r"cannot be written to '.*weights' \(File exists\): .* option `folder`"
        with pytest.raises(OSError, match=said):
            drawing(engine(fake, tmp_path), p)
        assert not fake.draws
