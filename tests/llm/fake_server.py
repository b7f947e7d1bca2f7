"""A scripted HTTP server on this machine, for the tests of judges and engines behind HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

Reply = tuple[int, Any, Mapping[str, str]]
"""Status, content (bytes, or what becomes JSON), and further headers."""


@dataclass
class Fake:
    """The server's script, and what it was sent."""

    script: Callable[[str, Any], Reply]
    """`script(path, body)`: what it answers."""
    url: str = ""
    seen: list[tuple[str, Any, dict[str, str]]] = field(default_factory=list)
    """Path, body and headers of each request."""
    at_once: int = 0
    """The largest number of requests at the same time."""


@contextmanager
def serving(script: Callable[[str, Any], Reply]) -> Iterator[Fake]:
    """A server that answers by the script."""
    fake, lock, now = Fake(script), Lock(), [0]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # headers and content in one packet
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self.answer(None)

        def do_POST(self) -> None:
            self.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def answer(self, body: Any) -> None:
            with lock:
                fake.seen.append((self.path, body, dict(self.headers)))
                now[0] += 1
                fake.at_once = max(fake.at_once, now[0])
            status, content, headers = fake.script(self.path, body)
            with lock:
                now[0] -= 1
            if status == 0:
                self.close_connection = True
                return  # the connection is lost
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    class Server(ThreadingHTTPServer):
        request_queue_size = 128
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def chat(text: Any, finish: str = "stop", logprobs: Any = None) -> Reply:
    """A chat completion."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": logprobs}
    return 200, {"object": "chat.completion", "choices": [choice]}, {}


def tokens(*rows: tuple[str, Mapping[str, float]]) -> dict[str, Any]:
    """The log-probabilities of tokens, each with its alternatives."""
    content = []
    for token, top in rows:
        others = [{"token": t, "logprob": p} for t, p in top.items()]
        own = {"token": token, "logprob": top.get(token, 0.0)}
        content.append({**own, "top_logprobs": others})
    return {"content": content}


def texts(body: Any) -> tuple[str, str, str]:
    """The prompt and both responses within the project's question."""
    question = body["messages"][0]["content"]
    _, prompt, a, b = (part.strip() for part in _split(question))
    return prompt, a, b


def _split(question: str) -> list[str]:
    head, rest = question.split("\n\nPrompt:\n")
    prompt, rest = rest.split("\n\nResponse A:\n")
    a, rest = rest.split("\n\nResponse B:\n")
    return [head, prompt, a, rest.split("\n\nAnswer with the letter")[0]]
