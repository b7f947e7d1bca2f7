"""`mpo-llm serve`: the command line of vLLM, its start, its end, and what is left of it."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import tempfile
import time
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from mpo_llm import cli
from mpo_llm.engines.protocol import EngineError
from mpo_llm.engines.vllm import client, launch, weights
from mpo_llm.engines.vllm.launch import Launch
from mpo_llm.training import assemble, config_file, serving
from stand_in import free_port, interpreter


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """All waits are short."""
    monkeypatch.setattr(client, "PAUSE", 0.01)
    monkeypatch.setattr(launch, "ENDED", 0.5)
    for module in (launch, serving):
        monkeypatch.setattr(module, "sleep", lambda _: time.sleep(0.02))


def settings(folder: Path, mode: str = "", **changes: Any) -> Launch:
    plain = Launch(
        interpreter(folder, mode), folder / "model", "float32", 96, 0, 2, 7, 0.5, free_port()
    )
    return replace(plain, **changes)


def notes(folder: Path) -> Any:
    return json.loads((folder / "notes.json").read_text())


def refused(wanted: Launch, folder: Path, said: str) -> None:
    """The server does not start, for this reason."""
    with pytest.raises(EngineError, match=said), launch.serving(wanted, folder / "log"):
        pass


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


PLAIN = {
    "--served-model-name": "start",
    "--host": "127.0.0.1",
    "--dtype": "float32",
    "--max-model-len": "96",
    "--max-num-seqs": "7",
    "--logprobs-mode": "processed_logprobs",
    "--generation-config": "vllm",
    "--seed": "0",
}
ON_CPU = {"--kv-cache-memory-bytes": str(2**29), "--max-num-batched-tokens": "96"}
LORA = {"--max-lora-rank": "16", "--max-loras": "3"}


@pytest.mark.parametrize(
    ("device", "changes", "named", "flags"),
    [
        ("cpu", {}, ON_CPU, ["--enforce-eager", "--no-enable-chunked-prefill"]),
        ("cuda", {}, {"--gpu-memory-utilization": "0.5"}, []),
        (
            "rocm",
            {"lora_rank": 9, "slots": 3},
            {"--gpu-memory-utilization": "0.5", **LORA},
            ["--enable-lora"],
        ),
        ("cuda", {"more": ["--a=1", "--b"]}, {"--gpu-memory-utilization": "0.5"}, ["--a=1", "--b"]),
    ],
)
def test_the_command_line(
    device: str, changes: dict[str, Any], named: Any, flags: list[str], tmp_path: Path
) -> None:
    wanted = settings(tmp_path, **changes)
    python, flag, module, *rest = wanted.command(device)
    assert (python, flag) == (str(wanted.python), "-m")
    assert module == "vllm.entrypoints.openai.api_server"
    expected = PLAIN | named | {"--model": str(wanted.folder), "--port": str(wanted.port)}
    pairs, others = rest[: 2 * len(expected)], rest[2 * len(expected) :]
    assert dict(zip(pairs[::2], pairs[1::2], strict=True)) == expected
    assert others == flags


def test_ranks_that_vllm_does_not_know(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="rank up to 512, got 513"):
        settings(tmp_path, lora_rank=513).command("cpu")


def test_which_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The given one, or the environment of `make vllm-server`, or this one."""
    monkeypatch.chdir(tmp_path)
    assert launch.interpreter(None) == Path(sys.executable)
    launch.LOCAL.parent.mkdir(parents=True)
    launch.LOCAL.symlink_to(sys.executable)
    assert launch.interpreter(None) == tmp_path / launch.LOCAL
    with pytest.raises(ValueError, match=r"There is no interpreter '.*mine'"):
        launch.interpreter(Path("mine"))


@pytest.mark.parametrize("python", ["this", "none"])
def test_an_environment_without_vllm(python: str, tmp_path: Path) -> None:
    found = interpreter(tmp_path, "none") if python == "none" else Path(sys.executable)
    with pytest.raises(ValueError, match=r"has no vLLM that starts \(.*vllm.*\): .* by `--python`"):
        launch.device_of(found)


def test_the_device_is_what_vllm_says(tmp_path: Path) -> None:
    assert launch.device_of(interpreter(tmp_path)) == "cpu"


@pytest.mark.parametrize("mode", ["", "stubborn"])
def test_a_server_lives_within_its_context(mode: str, tmp_path: Path) -> None:
    """And not a moment longer, even if it ignores SIGTERM."""
    wanted = settings(tmp_path, mode)
    with launch.serving(wanted, tmp_path / "run" / "vllm.log") as process:
        assert alive(process.pid)
        assert client.Client(wanted.url).get("/health") == b""
        refused(wanted, tmp_path, r"Address already in use.*`--port`")
    assert process.returncode == -(signal.SIGKILL if mode else signal.SIGTERM)
    assert not alive(notes(tmp_path)["pid"])
    assert "INFO loading" in (tmp_path / "run" / "vllm.log").read_text()


def test_a_server_ends_with_its_process_even_by_sigkill(tmp_path: Path) -> None:
    """Nobody is left to end it, but the guard sees that the pipe is closed."""
    wanted = settings(tmp_path)

    def killed() -> None:
        with launch.serving(wanted, tmp_path / "log"):
            os.kill(os.getpid(), signal.SIGKILL)

    child = get_context("fork").Process(target=killed)
    child.start()
    child.join(60.0)
    assert child.exitcode == -signal.SIGKILL
    assert notes(tmp_path)["pid"]
    patience = time.monotonic() + 60.0
    # Not by its number: whoever inherits a process need not remove what is left of it.
    while listening(wanted.port):
        assert time.monotonic() < patience
        time.sleep(0.02)


def listening(port: int) -> bool:
    with socket.socket() as asked:
        return asked.connect_ex(("127.0.0.1", port)) == 0


def test_its_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the doors for weights, and without the paths of this one; what is set stays."""
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "0-3")
    with launch.serving(settings(tmp_path), tmp_path / "log"):
        found = notes(tmp_path)["variables"]
    assert "PYTHONPATH" not in found
    assert found["VLLM_CPU_OMP_THREADS_BIND"] == "0-3"
    assert found["VLLM_SERVER_DEV_MODE"] == found["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1"


def test_a_server_that_dies_at_its_start_has_last_words(tmp_path: Path) -> None:
    said = r"server ended: ValueError: no kernel for heads of 4\. The whole log is in '.*log'"
    refused(settings(tmp_path, "dies"), tmp_path, said)


def test_a_server_that_does_not_start_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "STARTED", 0.3)
    elsewhere = settings(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        monkeypatch.setattr(launch, "_require_free", lambda _: None)
        monkeypatch.setattr(client, "SOON", 0.1)
        port = mute.getsockname()[1]
        refused(replace(elsewhere, port=port), tmp_path, "did not start in 0 s|ended: .*in use")


def test_a_server_is_not_waited_for_after_an_interrupt(tmp_path: Path) -> None:
    with launch.serving(settings(tmp_path), tmp_path / "log", lambda: True) as process:
        pass
    assert process.returncode is not None


@pytest.mark.parametrize(("lora", "sent"), [(0, signal.SIGTERM), (2, signal.SIGINT)])
def test_serve_serves_the_start_of_a_run(lora: int, sent: int, tmp_path: Path) -> None:
    """Model, tokenizer, precision, rank and room come from the configuration; a signal ends it."""
    config = tiny.config(tmp_path, model={"lora_rank": lora} if lora else {})
    said: list[str] = []

    def ready(words: str) -> None:
        said.append(words)
        os.kill(os.getpid(), sent)

    port = free_port()
    serving.serve(config, python=interpreter(tmp_path), port=port, rows=5, ready=ready)
    found = notes(tmp_path)
    flags = dict(zip(found["arguments"][2::2], found["arguments"][3::2], strict=False))
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(found["files"])
    assert (flags["--max-model-len"], flags["--max-num-seqs"]) == ("64", "5")
    assert ("--enable-lora" in found["arguments"]) == bool(lora)
    assert f"options: {{url: http://127.0.0.1:{port}}}" in said[0]
    assert not Path(flags["--model"]).exists()
    assert not alive(found["pid"])


def test_a_server_that_ends_by_itself(tmp_path: Path) -> None:
    config = tiny.config(tmp_path)
    with pytest.raises(EngineError, match=r"has ended \(status 3\): see '.*vllm\.log'"):
        serving.serve(
            config, python=interpreter(tmp_path, "short"), port=free_port(), ready=lambda _: None
        )


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An error is a sentence and status 2, and further arguments reach vLLM."""
    path = tmp_path / "run.yaml"
    path.write_text(config_file.dump(tiny.config(tmp_path)))
    words = ["serve", str(path), "--port", str(free_port()), "--python"]
    more = ["--more", "tensor-parallel-size=2", "enable-x"]
    assert cli.main([*words, str(interpreter(tmp_path, "dies")), *more]) == 2
    assert "no kernel for heads of 4" in capsys.readouterr().err
    assert notes(tmp_path)["arguments"][-2:] == ["--tensor-parallel-size=2", "--enable-x"]
    assert cli.main([*words, str(tmp_path / "nowhere")]) == 2
    assert "There is no interpreter" in capsys.readouterr().err


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_before_the_start_leaves_no_model(
    sent: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes while the model is written, and does what it always does, once that is removed."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    left: list[list[Path]] = []
    before = signal.signal(sent, lambda *_: left.append(list(place.iterdir())))
    write = weights.write_start

    def interrupted(folder: Path, *rest: Any) -> None:
        write(folder, *rest)
        os.kill(os.getpid(), sent)

    monkeypatch.setattr(weights, "write_start", interrupted)
    try:
        serving.serve(
            tiny.config(tmp_path),
            python=interpreter(tmp_path),
            port=free_port(),
            ready=lambda _: os.kill(os.getpid(), signal.SIGINT),
        )
    finally:
        signal.signal(sent, before)
    assert left == [[]]
    assert not (tmp_path / "notes.json").exists()


def test_an_address_of_the_sixth_version(tmp_path: Path) -> None:
    """It stands in brackets."""
    wanted = settings(tmp_path, host="::1")
    assert wanted.url == f"http://[::1]:{wanted.port}"
    assert client.Client(wanted.url).url == wanted.url
    assert wanted.command("cpu")[wanted.command("cpu").index("--host") + 1] == "::1"


def test_an_interrupt_at_the_terminal_does_not_reach_the_question_for_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would look like an environment without vLLM."""
    python = interpreter(tmp_path)
    python.write_text(f"#!{sys.executable} -IS\nimport os\nprint('device', os.getsid(0))\n")
    assert launch.device_of(python) != str(os.getsid(0))


@pytest.mark.parametrize("named", [None, ["LlamaModel"]])
def test_the_served_model_is_of_the_class_that_the_run_uses(
    named: list[str] | None, tmp_path: Path
) -> None:
    """The model's own file may name none, or another, which vLLM would not draw from."""
    config = tiny.config(tmp_path)
    path = tmp_path / "model" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "architectures": named}))
    network, _ = assemble.network(config, torch.device("cpu"))
    weights.write_start(tmp_path / "served", network, network.weights())
    found = json.loads((tmp_path / "served" / "config.json").read_text())
    assert found["architectures"] == ["LlamaForCausalLM"]
    assert network.config.architectures == named
