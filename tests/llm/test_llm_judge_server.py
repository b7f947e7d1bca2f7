"""Judges behind HTTP, on a scripted server: what is asked, what is read, what goes wrong."""

from __future__ import annotations

import email.utils
import json
import math
import re
import time
from collections import Counter
from pathlib import Path
from threading import Event, Lock
from typing import Any

import numpy as np
import pytest
import yaml

from fake_server import Reply, chat, serving, texts, tokens
from mpo_llm import judges
from mpo_llm.config import JudgeConfig
from mpo_llm.judges import loading
from mpo_llm.judges.protocol import JudgeError
from mpo_llm.judges.servers import SETTINGS

QUICK = {"pause": 0.0}
"""No pauses, so that tests are quick."""


def prefers(a: str, b: str) -> float:
    """A preference with a cycle, which favours no place."""
    lead = (int(b) - int(a)) % 7
    return 0.5 if lead == 0 else 0.9 if lead <= 3 else 0.1


def honest(path: str, body: Any) -> Reply:
    """Answers by `prefers`, and favours the first place by odds of 3 to 1."""
    _, a, b = texts(body)
    odds = 3.0 * prefers(a, b) / (1.0 - prefers(a, b))
    p = odds / (1.0 + odds)
    letter = "A" if p >= 0.5 else "B"
    top = {"A": math.log(p), "B": math.log1p(-p)}
    return chat(letter, logprobs=tokens((letter, top), ("<|im_end|>", {})))


def expected(a: str, b: str) -> float:
    """The mean of both orders of `honest`."""

    def favoured(p: float) -> float:
        return 3.0 * p / (3.0 * p + 1.0 - p)

    return 0.5 * (favoured(prefers(a, b)) + 1.0 - favoured(prefers(b, a)))


def pairs(count: int) -> tuple[list[str], list[str], list[str]]:
    """That many different comparisons."""
    rows = [(f"prompt {i // 9}", str(i), str(i + 1 + i % 5)) for i in range(count)]
    x, a, b = zip(*rows, strict=True)
    return list(x), list(a), list(b)


def test_a_thousand_comparisons_on_a_bad_server(tmp_path: Path) -> None:
    """It is slow, fails a fifth of the requests and lies about its format: nothing is lost, and
    nothing that is known is asked for again, also after a restart."""
    asked: Counter[str] = Counter()
    answered: Counter[str] = Counter()
    rng, lock = np.random.default_rng(0), Lock()

    def bad(path: str, body: Any) -> Reply:
        name = json.dumps(body)
        with lock:
            asked[name] += 1
            luck = rng.random()
        if luck < 0.02:
            time.sleep(0.05)
        wrong: list[Reply] = [
            (500, "out of order", {}),
            (429, {"error": {"message": "too many"}}, {"Retry-After": "0"}),
            (503, b"", {}),
            (0, b"", {}),
            (200, b"<html><body>Bad gateway. A</body></html>", {}),
            (200, b'{"choices": [{"mess', {}),
            (200, {"choices": []}, {}),
            (200, {"choices": [{"message": "A"}]}, {}),
        ]
        if luck > 0.8:
            return wrong[int((luck - 0.8) / 0.2 * len(wrong))]
        answered[name] += 1
        return honest(path, body)

    comparisons = pairs(1000)
    truth = [expected(a, b) for a, b in zip(*comparisons[1:], strict=True)]
    with serving(bad) as fake:
        options = {"cache": str(tmp_path / "known"), "at_once": 8, **QUICK}
        judge = judges.chat_server(fake.url, "judge", **options)
        np.testing.assert_allclose(np.asarray(judge(*comparisons)), truth, atol=1e-12)
        counts = judges.tally(judge)
        assert counts["failed"] == 0
        assert len(asked) == 2000, "both orders of each"
        assert set(answered.values()) == {1}, "no answer was asked for again"
        assert counts["requests"] == asked.total() == len(fake.seen)
        assert 0.15 < counts["repeated"] / counts["requests"] < 0.25
        assert 1 < fake.at_once <= 8
        np.testing.assert_allclose(np.asarray(judge(*comparisons)), truth, atol=1e-12)
        again = judges.chat_server(fake.url, "judge", **options)
        np.testing.assert_allclose(np.asarray(again(*comparisons)), truth, atol=1e-12)
        assert len(fake.seen) == asked.total() == counts["requests"], "nothing was sent"
        assert judges.tally(again)["known"] == 2000
        # Everything that determines an answer is part of what is remembered.
        few = [column[:3] for column in comparisons]
        for number, other in enumerate(
            ({"rubric": "Which is shorter?"}, {"settings": {"seed": 1}}, {"model": "another"}), 1
        ):
            judges.chat_server(fake.url, **{"model": "judge", **options, **other})(*few)
            assert len(asked) == 2000 + 6 * number


def test_what_is_asked() -> None:
    with serving(honest) as fake:
        judge = judges.chat_server(
            fake.url, "m", rubric="Which is best?", settings={"max_tokens": 9, "logprobs": None}
        )
        judge(["?"], ["1"], ["2"])
    (path, body, headers), (_, other, _) = fake.seen
    assert path == "/v1/chat/completions"
    assert {texts(body), texts(other)} == {("?", "1", "2"), ("?", "2", "1")}
    assert body.pop("messages")[0]["content"].startswith("Which is best?\n\nPrompt:\n?\n")
    kept = {name: value for name, value in SETTINGS.items() if name != "logprobs"}
    assert body == {"model": "m", **kept, "max_tokens": 9}
    assert "Authorization" not in headers


@pytest.mark.parametrize(
    ("reply", "match"),
    [
        ((401, {"error": {"message": "no key"}}, {}), r"refuses the key \(status 401, no key\)"),
        (
            (404, {"message": "The model `m` does not exist."}, {}),
            r"no such model or address \(status 404, The model `m` does not exist",
        ),
        ((302, b"", {"Location": "http://example.com"}), "refuses the request"),
        ((402, {"detail": "no credit"}, {}), r"refuses the request \(status 402, no credit\)"),
        ((200, b"<html>Welcome</html>", {}), r"failed on 1\d requests in a row: its answer is no"),
        ((200, b"[" * 100_000, {}), "its answer is no JSON"),
        ((200, {"text": "A"}, {}), 'its answer has another form: {"text": "A"}'),
        ((400, {"error": "no logprobs"}, {}), "status 400, no logprobs. A field .* left out by"),
        ((500, {"error": None}, {}), r"failed on 1\d requests in a row: status 500"),
        ((0, b"", {}), r"failed on 1\d requests in a row"),
    ],
)
def test_a_broken_server_ends_the_run_in_a_sentence(reply: Reply, match: str) -> None:
    with serving(lambda path, body: reply) as fake:
        judge = judges.chat_server(fake.url, "m", tries=2, pause=0.0)
        with pytest.raises(JudgeError, match=match):
            judge(*pairs(40))
        assert len(fake.seen) < 60, "it was not asked for all of them"


def test_a_dead_and_a_slow_server() -> None:
    with serving(honest) as fake:
        url = fake.url
    judge = judges.chat_server(url, "m", tries=2, pause=0.0)
    with pytest.raises(JudgeError, match=r"in a row: .*refused"):
        judge(*pairs(10))

    def slow(path: str, body: Any) -> Reply:
        time.sleep(0.3)
        return honest(path, body)

    with serving(slow) as fake:
        judge = judges.chat_server(fake.url, "m", tries=1, pause=0.0, timeout=0.05)
        with pytest.raises(JudgeError, match=r"in a row: .*timed out"):
            judge(*pairs(10))


@pytest.mark.parametrize(
    ("after", "seconds"),
    [("7", 7.0), ("date", 7.0), ("3600", 60.0), ("soon", 2.0), ("-3", 2.0), ("", 2.0)],
)
def test_the_server_says_when_to_come_back(
    after: str, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its word the pauses double. None is longer than a minute."""
    waited: list[float] = []

    class Clock(Event):
        def wait(self, timeout: float | None = None) -> bool:
            waited.append(timeout or 0.0)
            return False

    monkeypatch.setattr("mpo_llm.judges.endpoint.Event", Clock)
    date = email.utils.formatdate(time.time() + 7.5, usegmt=True)
    replies = [
        (429, b"", {"Retry-After": date if after == "date" else after}),
        *((503, b"", {}) for _ in range(6)),
        (200, {"score": 1.0}, {}),
    ]
    with serving(lambda path, body: replies.pop(0)) as fake:
        score = judges.server_score(fake.url, pause=2.0, tries=8)
        assert np.asarray(score(["?"], ["x"])) == [1.0]
    assert waited[0] == pytest.approx(seconds, abs=0.6)
    assert waited[1:] == [4.0, 8.0, 16.0, 32.0, 60.0, 60.0]


def test_the_key_is_written_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JUDGE_KEY", "sk-very-secret")

    def repeats(path: str, body: Any) -> Reply:
        return 401, {"error": {"message": "Incorrect key sk-very-secret"}}, {}

    with serving(honest) as fake:
        judge = judges.chat_server(fake.url, "m", key_env="JUDGE_KEY", cache=str(tmp_path))
        judge(["?"], ["1"], ["2"])
        assert fake.seen[0][2]["Authorization"] == "Bearer sk-very-secret"
        assert "secret" not in repr(judge)
        assert "secret" not in "".join(p.read_text() for p in tmp_path.iterdir())
        assert "secret" not in json.dumps([body for _, body, _ in fake.seen])
    with serving(repeats) as fake:
        judge = judges.chat_server(fake.url, "m", key_env="JUDGE_KEY")
        with pytest.raises(JudgeError, match=r"Incorrect key \*\*\*") as caught:
            judge(["?"], ["1"], ["2"])
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"url": "127.0.0.1:8000"}, "`url` must be an address"),
        ({"url": "ftp://host/v1"}, "`url` must be an address"),
        ({"url": "http://me:secret@host/v1"}, "`url` must not hold a password"),
        ({"url": "https://host/v1?key=secret"}, "`url` must not hold a password"),
        ({"url": "$NO_SUCH_JUDGE"}, "'NO_SUCH_JUDGE', which is not set"),
        ({"url": 5}, "`url` must be"),
        ({"key_env": "sk-secret"}, "must be the name of an environment variable"),
        ({"key_env": "SECRET_ABSENT"}, "names is not set"),
        ({"key_env": "SECRET_ODD"}, "beyond ASCII"),
        ({"at_once": 0}, "`at_once`"),
        ({"tries": 0}, "`tries`"),
        ({"timeout": 0.0}, "`timeout`"),
        ({"pause": -1.0}, "`pause`"),
        ({"question": "A or B?"}, "must have the fields {a} and {b}"),
        ({"question": "{a} or {b} or {c}?"}, "other braces twice"),
        ({"settings": [1]}, "`settings` must be"),
        ({"model": None}, "`model` must be"),
        ({"colour": "red"}, "colour"),
        ({"cache": "/proc/none"}, "`cache` cannot be written"),
    ],
)
def test_refusals(options: dict[str, Any], match: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_ODD", "se\u20accret")
    settings = {"url": "http://127.0.0.1:8000/v1", "model": "m", **options}
    with pytest.raises(ValueError, match=match) as caught:
        loading.load(JudgeConfig("mpo_llm.judges:chat_server", settings))
    if "key_env" in options:
        assert "secret" not in str(caught.value).lower()


def test_the_address_may_be_a_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """So that a run that goes on elsewhere has the same settings, and the same answers."""
    for _ in range(2):
        with serving(honest) as fake:
            monkeypatch.setenv("JUDGE_URL", f"{fake.url}/")
            judge = judges.chat_server("$JUDGE_URL", "m", cache=str(tmp_path))
            judge(["?"], ["1"], ["2"])
            sent = len(fake.seen)
    assert sent == 0


def test_a_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is used, except for a server on this machine."""
    with serving(honest) as proxy, serving(honest) as here:
        monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/v1"))
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        judges.chat_server("http://judge.invalid/v1", "m")(["?"], ["1"], ["2"])
        judges.chat_server(here.url, "m")(["?"], ["1"], ["2"])
    assert {path for path, *_ in proxy.seen} == {"http://judge.invalid/v1/chat/completions"}
    assert {path for path, *_ in here.seen} == {"/v1/chat/completions"}


def test_scores_of_servers(tmp_path: Path) -> None:
    def rate(path: str, body: Any) -> Reply:
        if path == "/v1/classify" or path == "/score":
            return 404, {"detail": "Not Found"}, {}
        if path == "/classify":
            assert body["use_activation"] is False
            assert [m["role"] for m in body["messages"]] == ["user", "assistant"]
            score = len(body["messages"][1]["content"])
            return 200, {"data": [{"index": 0, "label": None, "probs": [score]}]}, {}
        if body["response"] == "text":
            return 200, {"score": "3"}, {}
        return 200, {"score": len(body["response"]) - 2.5}, {}

    with serving(rate) as fake:
        plain = judges.server_score(f"{fake.url}/reward", pause=0.0, cache=str(tmp_path))
        np.testing.assert_allclose(plain(["?", "?"], ["a", "abc"]), [-1.5, 0.5])
        assert np.isnan(plain(["?"], ["text"])).all()
        served = judges.server_score(fake.url, "reward", cache=str(tmp_path))
        np.testing.assert_allclose(served(["?", "?"], ["a", "abc"]), [1.0, 3.0])
        judge = judges.reward_server(fake.url, "reward", scale=2.0)
        np.testing.assert_allclose(judge(["?"], ["a"], ["abc"]), [1 / (1 + math.e)])
        assert judges.tally(judge)["requests"] == 2


def test_too_many_failures_say_why() -> None:
    """What the server said last is in the sentence that ends a run."""

    def refuses(path: str, body: Any) -> Reply:
        return chat("A") if "0" in texts(body)[1:] else chat("I refuse.")

    with serving(refuses) as fake:
        judge = judges.chat_server(fake.url, "m", pause=0.0)
        with pytest.raises(JudgeError, match=r"failed on 1\d of 20 .*The last failure: .*I refuse"):
            judge(["?"] * 20, [str(i) for i in range(20)], [str(i + 20) for i in range(20)])


GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "judge_server.md"


def test_the_configurations_of_the_guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each YAML of the guide makes a judge, which asks the server that it names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JUDGE_API_KEY", "secret")
    Path("rubric.md").write_text("Which is kinder?\n")
    blocks = re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.S)
    assert len(blocks) == 3

    def any_server(path: str, body: Any) -> Reply:
        if path == "/classify":
            return 200, {"data": [{"probs": [len(body["messages"][1]["content"])]}]}, {}
        return honest(path, body)

    with serving(any_server) as fake:
        for block in blocks:
            settings = yaml.safe_load(block)["judge"]
            options = {**settings["options"], "url": fake.url}
            judge = loading.load(JudgeConfig(settings["factory"], options))
            assert np.shape(judge(["?"], ["1"], ["2"])) == (1,)
    first, _, second = (fake.seen[i] for i in (0, 1, 2))
    assert first[1]["chat_template_kwargs"] == {"enable_thinking": False}
    assert second[1]["messages"][0]["content"].startswith("Which is kinder?\n\n")
    assert second[2]["Authorization"] == "Bearer secret"
    assert [path for path, *_ in fake.seen[4:]] == ["/classify"] * 2
    assert sorted(p.name for p in Path("runs").iterdir()) == ["answers", "scores"]
