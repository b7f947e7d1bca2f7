"""A headless Chromium, driven through its debugging pipe: no port, no server, no other package."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

PATIENCE = 300
"""Seconds of silence after which a browser is given up, so that no test waits for ever."""


def found() -> str | None:
    """The browser: the one that `$CHROMIUM` names, or the first of the usual names on the path."""
    return os.environ.get("CHROMIUM") or next((p for p in map(shutil.which, NAMES) if p), None)


class Browser:
    """A browser with one page. `with Browser(profile) as browser:` ends it again."""

    def __init__(self, profile: Path) -> None:
        program = found()
        if program is None:
            raise FileNotFoundError("There is no Chromium here: install Debian's `chromium`.")
        # The browser reads commands from its file descriptor 3 and answers on 4. Ours may have
        # these numbers already, so a shell gives them.
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        flags = [
            "--headless=new",
            "--no-sandbox",  # which root may not have; the pages are the project's own
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--no-first-run",
            "--remote-debugging-pipe",
            f"--user-data-dir={profile}",
            "about:blank",
        ]
        command = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
        self._process = subprocess.Popen(
            ["bash", "-c", command, "chromium", program, *flags],
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._count, self._left, self._session = 0, b"", ""
        self.errors: list[str] = []
        """What the page's scripts raised, and what it failed to load."""
        self.requests: list[str] = []
        """Every address that the page asked for."""

    def __enter__(self) -> Self:
        page = self.send("Target.createTarget", url="about:blank")["targetId"]
        session = self.send("Target.attachToTarget", targetId=page, flatten=True)
        self._session = session["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Accessibility"):
            self.send(f"{domain}.enable")
        return self

    def __exit__(self, *exception: object) -> None:
        self._session = ""
        try:
            self.send("Browser.close")
            self._process.wait(20)
        except (OSError, RuntimeError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        os.close(self._in)
        os.close(self._out)

    def send(self, method: str, **parameters: Any) -> Any:
        """A command of the DevTools protocol, and its result; `RuntimeError` if it is refused."""
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._count:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def open(self, address: str, wait: float = 0.0) -> None:
        """Load a page, and return when it has loaded and its scripts have run."""
        self.send("Page.navigate", url="about:blank")
        self.errors.clear()
        self.requests.clear()
        self.send("Page.navigate", url=address)
        ready = (
            "document.readyState === 'complete' ? done() : addEventListener('load', () => done())"
        )
        self.run(f"new Promise(done => {{{ready}}})")
        if wait:
            self.run(f"new Promise(done => setTimeout(done, {1000 * wait}))")

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression in the page, awaited if it is a promise."""
        found = self.send(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in found:
            raise RuntimeError(str(found["exceptionDetails"]))
        return found["result"].get("value")

    def view(self, width: int, height: int, *, dark: bool = False, calm: bool = True) -> None:
        """Show pages in a window of this size; a narrow one is a phone, with touch."""
        phone = width < 600
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )
        self.send("Emulation.setTouchEmulationEnabled", enabled=phone)
        features = {
            "prefers-color-scheme": "dark" if dark else "light",
            "prefers-reduced-motion": "reduce" if calm else "no-preference",
        }
        media = [{"name": name, "value": value} for name, value in features.items()]
        self.send("Emulation.setEmulatedMedia", features=media)

    def press(self, key: str) -> None:
        """A key, down and up."""
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, **_code(key))

    def drag(self, start: tuple[float, float], end: tuple[float, float], touch: bool) -> None:
        """A drag from one place of the window to another, by mouse or by finger."""
        middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
        if touch:
            touches = ("Start", [start]), ("Move", [middle]), ("Move", [end]), ("End", [])
            for kind, places in touches:
                fingers = [{"x": x, "y": y} for x, y in places]
                self.send("Input.dispatchTouchEvent", type=f"touch{kind}", touchPoints=fingers)
                # Pages hear of moves once a frame.
                self.run("new Promise(done => requestAnimationFrame(() => setTimeout(done)))")
            return
        mouse = {"button": "left", "buttons": 1, "clickCount": 1}
        steps = ("Pressed", start), ("Moved", middle), ("Moved", end), ("Released", end)
        for kind, (x, y) in steps:
            self.send("Input.dispatchMouseEvent", type=f"mouse{kind}", x=x, y=y, **mouse)

    def picture(self, path: Path, *, whole: bool = True) -> None:
        """Write what the page looks like, as PNG."""
        shot = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def _receive(self) -> dict[str, Any]:
        """The next message; events are kept on the way."""
        while b"\0" not in self._left:
            if not select.select([self._in], [], [], PATIENCE)[0]:
                raise RuntimeError(f"The browser has said nothing for {PATIENCE} seconds.")
            some = os.read(self._in, 1 << 20)
            if not some:
                raise RuntimeError("The browser has ended.")
            self._left += some
        line, _, self._left = self._left.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, event: str, said: Mapping[str, Any]) -> None:
        if event == "Runtime.exceptionThrown":
            self.errors.append(str(said["exceptionDetails"].get("exception", said)))
        elif event == "Network.loadingFailed":
            self.errors.append(said["errorText"])
        elif event == "Network.requestWillBeSent":
            self.requests.append(said["request"]["url"])


def _code(key: str) -> dict[str, Any]:
    codes = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Tab": 9}
    codes |= {"Enter": 13, " ": 32}
    code = {"windowsVirtualKeyCode": codes[key]}
    return code | ({"text": "\r"} if key == "Enter" else {})
