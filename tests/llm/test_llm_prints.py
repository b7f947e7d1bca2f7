"""The adapter's objects print on one short line, without weights and addresses."""

from __future__ import annotations

from typing import Any

import pytest

import mpo_games as mg
import mpo_llm as ml
from languages import FIXED, game, table_network, transformer
from mpo_llm import judges

EXACT, SAMPLED = game(transformer()), game(table_network(), samples=4)
RUN = mg.solve(EXACT, mg.MPO(eta=1.0, alpha=0.1, period=5), 1)
CHOICES = ml.ON_TOKENS.solver.pull
THINGS: dict[str, Any] = {
    "network": EXACT.start.network,
    "decoding": FIXED,
    "policy": RUN.policy,
    "mixture": EXACT.start.mix(RUN.policy, 0.5),
    "exact game": EXACT,
    "sampled game": SAMPLED,
    "text game": SAMPLED.texts,
    "step": EXACT.start.proximal,
    "preset": ml.ON_TOKENS,
    "exact preset": ml.ON_EXACT_TOKENS,
    "pulls": CHOICES,
    "pull": CHOICES.again,
    "minimiser": CHOICES.again.minimise,
    "judge": judges.OrderDebiased(judges.Higher(judges.brevity)),
    "solution": RUN,
    "state": RUN.state,
    "trace": RUN.trace,
}


@pytest.mark.parametrize("thing", THINGS.values(), ids=THINGS)
def test_it_prints_on_one_line(thing: Any) -> None:
    text = repr(thing)
    assert len(text.splitlines()) == 1
    assert len(text) < 300
    assert " at 0x" not in text


def test_what_the_lines_say() -> None:
    assert "PlainNetwork(SmallTransformer), " in repr(RUN.policy)
    assert repr(EXACT) == "EnumerableGame: 27 responses, prompts: 1, exact feedback"
    assert repr(SAMPLED) == "EnumerableGame: 27 responses, prompts: 1, 4 samples"
    method = "MPO(eta=1.0, alpha=0.1, period=5)"
    assert repr(RUN).startswith(f"{method} on a language of 27 responses: gap ")
    assert "WeightAveraged(MMD(eta=1.6" in repr(ml.ON_TOKENS)
    with pytest.raises(ValueError, match="A TokenPolicy has no table"):
        RUN.table()


def test_an_average_of_weights_stands_beside_the_answer() -> None:
    solver = ml.WeightAveraged(mg.MPO(eta=1.0, alpha=0.1, period=5), 0.5)
    found = mg.solve(EXACT, solver, 2)
    assert found.policy is found.iterate is found.state.policy
    assert found.policy is not found.state.memory["average"]
