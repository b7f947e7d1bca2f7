"""What is read from the answers of a chat model: preferences, or no verdict."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fake_server import Reply, chat, serving, tokens
from mpo_llm import judges
from mpo_llm.judges.verdicts import parse


@pytest.mark.parametrize(
    ("reply", "preference"),
    [
        (chat("A"), 1.0),
        (chat("**B**"), 0.0),
        (chat(" b. "), 0.0),
        (chat("Answer: B."), 0.0),
        (chat("tie"), 0.5),
        (chat('{"reason": "Response A is better", "verdict": "B"}'), 0.0),
        (chat("<think>Perhaps A is better.</think>\n\nB"), 0.0),
        (chat("Both are good, but Response B is better than Response A."), 0.0),
        (chat([{"type": "thinking"}, {"type": "text", "text": "B"}]), 0.0),
        # The weights of both letters at the place of the verdict.
        (chat("A", logprobs=tokens(("A", {"A": math.log(0.6), " B": math.log(0.2)}))), 0.75),
        (
            chat(
                '{"verdict": "B"}',
                logprobs=tokens(
                    ('{"verdict', {"A": -1.0}),
                    ('": "', {}),
                    ("B", {"B": math.log(0.5), "A": math.log(0.3), "tie": math.log(0.2)}),
                    ('"}', {}),
                ),
            ),
            0.4,
        ),
        # The thoughts are among the tokens and not in the text.
        (
            chat(
                "A",
                logprobs=tokens(
                    ("<think>", {}),
                    ("B is better", {"B is better": -0.1}),
                    ("</think>", {}),
                    ("A", {"A": math.log(0.9), "B": math.log(0.1)}),
                ),
            ),
            0.9,
        ),
        # Without weights that make sense the text counts.
        (chat("A", logprobs={"content": None}), 1.0),
        (chat("A", logprobs={"content": [{"token": "A", "logprob": None}]}), 1.0),
        (chat("A", logprobs=tokens(("A", {"A": math.nan, "B": -1.0}))), 1.0),
        (chat("A", logprobs=tokens(("A", {"A": 5.0, "B": -1.0}))), 1.0),
        (chat("B", logprobs=tokens(("A", {"A": -0.1, "B": -3.0}))), 0.0),
        (chat("B", logprobs=["B"]), 0.0),
        (chat("B", logprobs={"content": [{"token": "B", "logprob": 10**400}]}), 0.0),
        (chat("answer " * 3000 + "is B"), 0.0),
    ],
)
def test_verdicts(reply: Reply, preference: float) -> None:
    with serving(lambda path, body: reply) as fake:
        endpoint = judges.Endpoint(f"{fake.url}/chat/completions", pause=0.0)
        judge = judges.ChatJudge(endpoint, "m")
        np.testing.assert_allclose(judge(["?"], ["x"], ["y"]), [preference], atol=1e-12)


@pytest.mark.parametrize(
    "reply",
    [
        chat(""),
        chat(None),
        chat("I'm sorry, I cannot compare these."),
        chat("A good response is short."),
        chat("Neither A nor B is better."),
        chat("<think>A is better because", "length"),
        chat("Let me see. Response A is better at", "length"),
        (400, {"error": {"message": "the maximum context length is 8192 tokens"}}, {}),
        (200, b'{"choices": [{"message": {"content": NaN}}]}', {}),
    ],
)
def test_no_verdict_is_a_counted_tie(reply: Reply) -> None:
    with serving(lambda path, body: reply) as fake:
        judge = judges.chat_server(fake.url, "m", tries=2, pause=0.0)
        np.testing.assert_array_equal(judge(["?"], ["x"], ["y"]), [0.5])
        assert judges.tally(judge)["failed"] == 1
        if reply[0] == 400:
            assert len(fake.seen) == 2, "a refusal is final"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("(B)", "B"),
        ("_A_", "A"),
        ("[[C]]", "tie"),
        ("\\boxed{B}", "B"),
        ("It is a tie.", "tie"),
        ("ANSWER: tie", "tie"),
        ("Response A", "A"),
        ("A\n\nBecause it is short.", "A"),
        ("A (the first response)", "A"),
        ("Final answer:\n\nA", "A"),
        ("I choose B because it is short.", "B"),
        ("Response B is the better response.", "B"),
        ("Response A is not better than Response B.", None),
        ("Answer: A good one is short", None),
        ("As an AI language model, I cannot say.", None),
        ("<html><body>A bad gateway</body></html>", None),
    ],
)
def test_words(text: str, word: str | None) -> None:
    found = parse(text)
    assert (found and found.word) == word
    if found is not None:
        begins = {"A": "A", "B": "B", "tie": "tC"}[found.word]
        assert text[found.at] in begins
