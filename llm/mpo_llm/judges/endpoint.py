"""An HTTP endpoint that answers questions with numbers: many at once, with retries and a memory."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from threading import Event, Lock
from time import time

import numpy as np
import urllib3

from mpo_games.checks import require_count, require_positive, require_weight
from mpo_games.protocol import Array
from mpo_llm import http
from mpo_llm.judges.answers import Answers, key
from mpo_llm.judges.protocol import JudgeError
from mpo_llm.judges.wrappers import GRACE

Body = Mapping[str, object]
"""What is sent: an object of JSON."""

Reader = Callable[[object], float | None]
"""From the JSON of an answer to its number, None if it holds none. What else it raises says that
the answer has not the form that the endpoint should have."""

LONGEST_PAUSE = 60.0
"""Seconds. Neither the back-off nor the server's own `Retry-After` makes a request wait longer."""

LONGEST_WORDS = 200
"""Characters of a server's words in a message."""

AGAIN = (408, 409, 425, 429)
"""Statuses below 500 that say: ask again."""

ABOUT_THE_TEXT = (400, 403, 413, 422)
"""Statuses that may refuse one text and not the next: too long, or not allowed."""

STRANGE = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)
"""What is raised where an answer has another form than expected."""


class _Failed(Exception):
    """A request that failed and may be repeated, and after how many seconds the server wants it."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class _Refused(Exception):
    """The server refuses a request, and would refuse it again."""


@dataclass(slots=True, eq=False)
class Endpoint:
    """An HTTP endpoint that takes an object of JSON and answers with one, from which one number is
    read.

    A request is repeated after a lost or refused connection, a time-out, a status that asks for it
    (429, and 500 and above), and an answer of another form, such as a page of HTML. The pauses
    double, and are as long as a `Retry-After` says, up to `LONGEST_PAUSE`. An answer is remembered
    by everything that was sent, and is not asked for again. So is a refusal of one request (status
    400 and the like, such as for a text that is too long), until the process ends.

    `JudgeError` once the server refuses the key, the address or the model, after `GRACE` requests
    in a row have failed with all their repetitions, and if it refuses the first `GRACE` requests.
    `ValueError` for a bad address, a key that is missing, and settings out of range.
    """

    url: str
    """The whole address."""
    key_env: str | None = None
    """The *name* of the environment variable that holds the key, which is sent as a bearer token.
    It is read for each request, and is never written anywhere."""
    at_once: int = 16
    """The largest number of requests at the same time."""
    timeout: float = 120.0
    """Seconds without a byte of an answer after which a request has failed."""
    tries: int = 6
    """How often a request is sent before it has failed."""
    pause: float = 1.0
    """Seconds before the first repetition."""
    answers: Answers = field(default_factory=Answers)
    """What has been answered."""
    counts: Counter[str] = field(default_factory=Counter)
    """`requests`, all that were sent; `repeated`, those among them that were repetitions; `known`,
    those that were not sent because the answer was known."""
    refused: set[str] = field(default_factory=set, init=False, repr=False)
    """The keys of the requests that the server has refused."""
    reason: str = field(default="", init=False, repr=False)
    """Why the last request that failed did, or nothing."""
    _in_a_row: int = field(default=0, init=False, repr=False)
    """Requests that failed since the last answer."""
    _answered: bool = field(default=False, init=False, repr=False)
    """Whether the server has ever answered as it should."""
    _address: str = field(init=False, repr=False)
    _pool: urllib3.PoolManager = field(init=False, repr=False)
    _lock: Lock = field(default_factory=Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        require_count("at_once", self.at_once)
        require_count("tries", self.tries)
        require_positive("timeout", self.timeout)
        require_weight("pause", self.pause)
        self._address = http.address(self.url)
        # A key that is missing is found out before anything is sent.
        http.secret(self.key_env)
        self._pool = http.pool(self._address, self.at_once, self.timeout)

    def numbers(self, kind: str, bodies: Sequence[Body], read: Reader) -> Array:
        """The numbers `(N,)` that `read` finds in the answers to N requests; NaN for a failure.

        `kind` names what is read. Equal requests are sent once.
        """
        names = [key(kind, body) for body in bodies]
        self.answers.refresh()
        new = {
            name: body
            for name, body in zip(names, bodies, strict=True)
            if self.answers.get(name) is None and name not in self.refused
        }
        self.counts["known"] += len(names) - len(new)
        stop = Event()
        with ThreadPoolExecutor(self.at_once) as pool:
            jobs = [pool.submit(self._ask, name, body, read, stop) for name, body in new.items()]
            try:
                for job in jobs:
                    job.result()
            finally:
                # After an error or an interrupt nothing more is sent. The answers so far are kept.
                stop.set()
        found = (self.answers.get(name) for name in names)
        return np.array([np.nan if each is None else each for each in found])

    def _ask(self, name: str, body: Body, read: Reader, stop: Event) -> None:
        """Ask until there is an answer, and remember it."""
        pause, attempt = self.pause, 0
        while not stop.is_set():
            attempt += 1
            with self._lock:
                self.counts["requests"] += 1
                self.counts["repeated"] += attempt > 1
            try:
                self._keep(name, self._number(self._send(body), read))
                return
            except _Refused as refusal:
                self._fail(str(refusal), stop, name)
                return
            except _Failed as failure:
                if attempt == self.tries:
                    self._fail(str(failure), stop)
                    return
                stop.wait(min(max(pause, failure.wait), LONGEST_PAUSE))
                pause *= 2.0
            except BaseException:
                stop.set()
                raise

    def _number(self, answer: object, read: Reader) -> float:
        """The number in an answer; NaN if it has the right form and holds none."""
        try:
            number = read(answer)
        except STRANGE:
            said = self._clean(json.dumps(answer))
            raise _Failed(f"its answer has another form: {said}") from None
        if number is not None and math.isfinite(number):
            return number
        self.reason = f"nothing can be read from its answer: {self._clean(json.dumps(answer))}"
        return math.nan

    def _keep(self, name: str, number: float) -> None:
        with self._lock:
            self._answered, self._in_a_row = True, 0
        if not math.isnan(number):
            self.answers.add(name, number)

    def _fail(self, reason: str, stop: Event, refused: str | None = None) -> None:
        """Count a request that has failed to the end. `JudgeError` if too many have, in a row."""
        with self._lock:
            self.reason = reason
            if refused is not None:
                self.refused.add(refused)
            # A refusal is about one text, unless the server has refused everything so far.
            self._in_a_row += refused is None or not self._answered
            broken = self._in_a_row >= GRACE
        if broken:
            stop.set()
            how = f"Start or repair it, or raise `tries`, now {self.tries}."
            if refused is not None:
                how = (
                    "A field that it does not take is left out by `settings: {field: null}`; the "
                    "variable that holds a key is named by `key_env`."
                )
            raise JudgeError(
                f"The judge's server at {self._address} failed on {self._in_a_row} requests in a "
                f"row: {reason}. {how}"
            )

    def _send(self, body: Body) -> object:
        """The JSON of the answer."""
        content = json.dumps(body, ensure_ascii=True).encode("ascii")
        try:
            response = self._pool.request(
                "POST", self._address, body=content, headers=http.headers(self.key_env)
            )
        except urllib3.exceptions.HTTPError as error:
            raise _Failed(self._clean(str(error) or type(error).__name__)) from None
        status, said = response.status, self._clean(http.message(response.data))
        if status in AGAIN or status >= 500:
            wait = _seconds(response.headers.get("Retry-After", ""))
            raise _Failed(f"status {status}, {said}", wait)
        if status in ABOUT_THE_TEXT:
            raise _Refused(f"status {status}, {said}")
        if not 200 <= status < 300:
            raise JudgeError(self._refusal(status, said))
        try:
            found: object = json.loads(response.data)
        except (ValueError, RecursionError):
            raise _Failed(f"its answer is no JSON: {said}") from None
        return found

    def _refusal(self, status: int, said: str) -> str:
        where = f"The judge's server at {self._address}"
        if status == 401:
            how = (
                "set the environment variable that `key_env` names"
                if self.key_env
                else "name the environment variable that holds the key by `key_env`"
            )
            return f"{where} refuses the key (status {status}, {said}): {how}."
        if status == 404:
            return f"{where} has no such model or address (status 404, {said})."
        return f"{where} refuses the request (status {status}, {said})."

    def _clean(self, text: str) -> str:
        """What a server said, on one short line, without the key, which some servers repeat."""
        secret = http.secret(self.key_env)
        text = text.replace(secret, "***") if secret else text
        line = " ".join(text.split())
        return line if len(line) <= LONGEST_WORDS else f"{line[:LONGEST_WORDS]}..."


def _seconds(after: str) -> float:
    """The seconds of a `Retry-After`, which is a number or a date; 0 for anything else."""
    try:
        seconds = float(after) if after.strip().isdigit() else _until(after)
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return max(0.0, seconds)


def _until(date: str) -> float:
    return parsedate_to_datetime(date).timestamp() - time()
