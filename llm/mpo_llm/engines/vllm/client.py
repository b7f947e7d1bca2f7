"""An HTTP client of a vLLM server that notices when the server does nothing more."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from queue import Empty, Queue
from threading import Event, Thread
from time import monotonic, sleep

import urllib3

from mpo_llm import http
from mpo_llm.engines.protocol import EngineError

LOOK = 1.0
"""Seconds without an answer after which the server is asked whether it makes tokens."""

SOON = 10.0
"""Seconds within which a server answers what needs no model."""

TRIES = 3
"""How often a request is sent whose connection is lost: an answer depends on its seed alone."""

PAUSE = 0.5
"""Seconds before the first repetition; the next is twice as long."""

HOW = {
    401: ": name the variable that holds its key by the engine's option `key_env`.",
    404: ": was it started by `mpo-llm serve` with this run's file, and not again since?",
}
"""What to do about a status."""

WORDS = 300
"""Characters of a server's words in a message."""

_MADE = re.compile(r"^vllm:(?:generation|prompt)_tokens_total(?:\{[^}]*\})? ([0-9.e+]+)$", re.M)


@dataclass(slots=True, eq=False)
class Client:
    """Sends requests to a server. All errors are `EngineError` in a sentence.

    `ValueError` for a bad address and a key that is missing.
    """

    url: str
    """Its address, without a path."""
    at_once: int = 64
    """The largest number of requests at the same time."""
    timeout: float = 45.0
    """Seconds without an answer and without a new token after which the server has failed."""
    key_env: str | None = None
    """The name of the environment variable that holds the server's key."""
    _pool: urllib3.PoolManager = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.url = http.address(self.url).removesuffix("/v1")
        http.secret(self.key_env)
        self._connect()

    def _connect(self) -> None:
        # `answers` has an eye on the server; a request by itself has its own limit.
        self._pool = http.pool(self.url, self.at_once + 2, None)

    def get(self, path: str) -> bytes:
        """What a path answers that needs no model."""
        return self._sent("GET", path, None, SOON)

    def ask(self, path: str, body: object, timeout: float | None = None) -> object:
        """The JSON that a request is answered with, or its text if it is no JSON."""
        content = self._sent("POST", path, json.dumps(body).encode("ascii"), timeout)
        try:
            found: object = json.loads(content)
        except ValueError:
            return content.decode("utf-8", "replace")
        return found

    def answers(self, path: str, bodies: Sequence[object]) -> list[object]:
        """The answers to several requests, of which `at_once` are sent at the same time."""
        done: Queue[tuple[int, object]] = Queue()
        left = iter(enumerate(bodies))
        # A lock would do, but a queue is safe to be read by many.
        todo: Queue[tuple[int, object]] = Queue()
        for each in left:
            todo.put(each)
        stop = Event()

        def work() -> None:
            while not stop.is_set():
                try:
                    i, body = todo.get_nowait()
                except Empty:
                    return
                try:
                    done.put((i, self.ask(path, body)))
                except BaseException as error:
                    done.put((i, error))

        # Daemons: one that waits for a dead server must not hold up the end of the process.
        for _ in range(min(self.at_once, len(bodies))):
            Thread(target=work, daemon=True).start()
        found: list[object] = [None] * len(bodies)
        try:
            for _ in bodies:
                i, answer = self._next(done)
                if isinstance(answer, BaseException):
                    raise answer
                found[i] = answer
        except BaseException:
            # Requests that nobody waits for any more keep their connections.
            self._connect()
            raise
        finally:
            stop.set()
        return found

    def _next(self, done: Queue[tuple[int, object]]) -> tuple[int, object]:
        """The next answer. `EngineError` if there is none, and no new token, for too long."""
        # Most answers come at once, and the server's counters are not asked for then.
        made, since = None, monotonic()
        while True:
            try:
                return done.get(timeout=min(LOOK, self.timeout))
            except Empty:
                before, made = made, self._made()
                if made is not None and made != before:
                    since = monotonic()
                if monotonic() - since >= self.timeout:
                    raise EngineError(
                        f"The vLLM server at {self.url} has made no token for {self.timeout:g} s: "
                        "start it again, or raise the engine's option `timeout`."
                    ) from None

    def _made(self) -> float | None:
        """The tokens that the server has run so far, if it says."""
        try:
            text = self._once("GET", "/metrics", None, SOON).data.decode("utf-8", "replace")
        except urllib3.exceptions.HTTPError:
            return None
        found = _MADE.findall(text)
        return sum(map(float, found)) if found else None

    def _sent(self, method: str, path: str, body: bytes | None, timeout: float | None) -> bytes:
        pause = PAUSE
        for attempt in range(1, TRIES + 1):
            try:
                response = self._once(method, path, body, timeout)
                break
            except urllib3.exceptions.HTTPError as error:
                late = isinstance(error, urllib3.exceptions.ReadTimeoutError)
                if late or attempt == TRIES:
                    raise EngineError(self._lost(error, late, timeout)) from None
            sleep(pause)
            pause *= 2.0
        if 200 <= response.status < 300:
            return response.data
        said = http.message(response.data)
        # Some servers repeat the key.
        secret = http.secret(self.key_env)
        said = said.replace(secret, "***") if secret else said
        said = " ".join(said.split())[:WORDS].rstrip(".")
        how = HOW.get(response.status, ".")
        raise EngineError(
            f"The vLLM server at {self.url} refuses {path} (status {response.status}, {said}){how}"
        )

    def _once(
        self, method: str, path: str, body: bytes | None, timeout: float | None
    ) -> urllib3.BaseHTTPResponse:
        wait = urllib3.Timeout(connect=http.CONNECT, read=timeout)
        return self._pool.request(
            method,
            self.url + path,
            body=body,
            headers=http.headers(self.key_env),
            timeout=wait,
            retries=False,
        )

    def _lost(self, error: Exception, late: bool, timeout: float | None) -> str:
        if late:
            return (
                f"The vLLM server at {self.url} has not answered within {timeout:.0f} s: start it "
                "again."
            )
        reason = " ".join(str(error).split()).rstrip(".")
        return (
            f"No vLLM server answers at {self.url} ({reason}): start it by `mpo-llm serve`, or set "
            "`generation.options.url`."
        )
