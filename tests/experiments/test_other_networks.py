"""Languages with other networks: adapters begin at the same policy of the same game."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.lab import other_networks


def test_adapters_begin_at_the_same_policy_of_the_same_game() -> None:
    plain, lora = (other_networks.language_of("smooth", 1, 8, rank) for rank in (0, 2))
    for one, other in ((plain.game, lora.game), (plain.held_out, lora.held_out)):
        np.testing.assert_allclose(one.payoff, other.payoff, atol=1e-15)
        same = other.start.log_probs(one.every)
        assert one.start.log_probs(one.every) == pytest.approx(same, abs=1e-6)
    assert (lora.game.sampled.samples, lora.game.sampled.prompts_per_step) == (8, 8)
    assert all("lora" in name for name in lora.game.start.weights)


def test_a_constant_rate_is_that_of_every_step() -> None:
    adam = other_networks.at_rate(1e-3).solver.pull.again.minimise
    assert adam.rate == 1e-3
    assert other_networks.at_rate(None).solver.pull.again.minimise.epochs == adam.epochs


def test_the_rule_on_a_table_is_exact() -> None:
    """With a weak pull it comes close to the equilibrium, without a network."""
    game = other_networks.language_of("one prompt, styles", 41_000, 8).game
    found = other_networks.on_table(game, 0.02, 300)
    assert [step for step, _ in found] == list(range(25, 301, 25))
    assert found[-1][1] < 0.003
