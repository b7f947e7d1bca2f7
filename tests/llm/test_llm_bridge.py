"""From the table to the network: with exact feedback and the objective itself, the same steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import mpo_games as mg
import mpo_llm as ml
from languages import ENDED, FIXED, PROMPTS, game, table_network, transformer

EXACT = ml.Proximal(ml.SequenceLevel(), ml.LBFGS(500, 1e-7))

SOLVERS = {
    "MD": mg.MirrorDescent(1.5),
    "MMD": mg.MMD(1.0, 0.3),
    "MPO": mg.MPO(1.0, 0.3, 2),
    "optimistic MPO": mg.OptimisticMPO(1.0, 0.3, 2),
    "MPO-RT": mg.MPO_RT(1.0, 0.3, 2),
    "EGPO": mg.EGPO(1.0, 0.3),
    "Popov": mg.MMD(1.0, 0.3, feedback=mg.popov),
}


@pytest.mark.parametrize("name", SOLVERS)
def test_gradient_steps_are_the_closed_form(name: str) -> None:
    """Both walk four steps by the same solver; the network's distribution is the table's."""
    language = game(table_network(), ENDED, EXACT, prompts=PROMPTS)
    network = mg.solve(language, SOLVERS[name], 4)
    table = mg.solve(language.twin, SOLVERS[name], 4, policy=language.table(language.start))
    walked = np.abs(table.policy.probs - language.table(language.start).probs).max()
    assert walked > 0.02
    np.testing.assert_allclose(language.table(network.policy).probs, table.policy.probs, atol=1e-5)


@pytest.mark.parametrize("solver", [mg.MPO(1.0, 0.3, 1), mg.MPO_RT(1.0, 0.3, 1)])
def test_so_do_those_of_a_transformer(solver: Any) -> None:
    language = game(transformer(), FIXED, EXACT)
    network = mg.solve(language, solver, 1)
    table = mg.solve(language.twin, solver, 1, policy=language.table(language.start))
    np.testing.assert_allclose(language.table(network.policy).probs, table.policy.probs, atol=1e-4)
