"""A program that stands for the interpreter of vLLM's environment, for the tests of `serve`."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

PROGRAM = """#!{python} -IS
import json, os, pathlib, signal, sys, time
mode, notes = {mode!r}, pathlib.Path({notes!r})
if sys.argv[1] == "-c":
    if mode == "none":
        raise SystemExit("ModuleNotFoundError: No module named 'vllm'")
    print("INFO something else")
    print("device", "cpu")
    raise SystemExit
from http.server import BaseHTTPRequestHandler, HTTPServer
flags = dict(zip(sys.argv[3::2], sys.argv[4::2]))
folder = pathlib.Path(flags["--model"])
print("INFO loading", flush=True)
notes.write_text(json.dumps({{
    "pid": os.getpid(),
    "arguments": sys.argv[1:],
    "files": sorted(p.name for p in folder.iterdir()) if folder.is_dir() else [],
    "variables": {{n: v for n, v in os.environ.items() if n.startswith(("VLLM", "PYTHON"))}},
}}))
if mode == "dies":
    print("ValueError: no kernel for heads of 4", "INFO the end", sep=chr(10))
    raise SystemExit(1)
if mode == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
        if mode == "short":
            os._exit(3)
    def log_message(self, *_):
        pass

HTTPServer((flags["--host"], int(flags["--port"])), Handler).serve_forever()
"""


def interpreter(folder: Path, mode: str = "") -> Path:
    """The program in a folder. Modes: `none` has no vLLM, `dies` at its start, `short` soon after,
    `stubborn` ignores SIGTERM. What it was given stands in the file `notes.json` beside it."""
    path = folder / "python"
    notes = str(folder / "notes.json")
    path.write_text(PROGRAM.format(python=sys.executable, mode=mode, notes=notes))
    path.chmod(0o755)
    return path


def free_port() -> int:
    """A port at which nothing listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
