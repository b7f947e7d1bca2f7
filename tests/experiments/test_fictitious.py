"""OpenSpiel's NFSP on the library's tree: its gap is the one that OpenSpiel itself computes."""

import numpy as np
import pytest

import mpo_games as mg

pytest.importorskip("pyspiel")
pytest.importorskip("torch")
pytest.importorskip("tree")

from open_spiel.python import policy, rl_environment
from open_spiel.python.algorithms.exploitability import exploitability
from open_spiel.python.pytorch import nfsp

from experiments.lab import fictitious
from experiments.lab import network_contest as contest


class Joint(policy.Policy):
    """The average policies of two agents, as OpenSpiel asks for them."""

    def __init__(self, env, agents):
        super().__init__(env.game, [0, 1])
        self.agents = agents

    def action_probabilities(self, state, player_id=None):
        seat, legal = state.current_player(), state.legal_actions()
        seen = state.information_state_tensor(seat)
        observed = {"info_state": [seen] * 2, "legal_actions": [legal] * 2, "current_player": seat}
        observed["serialized_state"] = []
        step = rl_environment.TimeStep(observed, None, None, rl_environment.StepType.MID)
        with self.agents[seat].temp_mode_as(nfsp.MODE.AVERAGE_POLICY):
            # Single precision adds up to 1 but for rounding.
            probs = np.float64(self.agents[seat].step(step, is_evaluation=True).probs)[legal]
        return dict(zip(legal, probs / probs.sum(), strict=True))


def test_its_average_has_the_gap_that_openspiel_computes(monkeypatch):
    env = rl_environment.Environment("kuhn_poker")
    met = []
    own = fictitious._average

    def average(tree, agents, known, module):
        met.append((agents, own(tree, agents, known, module)))
        return met[-1][1]

    monkeypatch.setattr(fictitious, "_average", average)
    setting = contest.settings("NFSP")[0]
    found = fictitious.race("kuhn_poker", setting, 200, [100, 200], 0)
    assert found["at"] == [100.0, 200.0]
    agents, played = met[-1]
    theirs = exploitability(env.game, Joint(env, agents))
    assert found["gap"][-1] == pytest.approx(theirs, abs=1e-9)
    assert 0.5 * float(mg.load("kuhn_poker").duality_gap(played)) == found["gap"][-1]


def test_to_look_changes_nothing_that_is_drawn():
    setting = contest.settings("NFSP")[-1]
    often = fictitious.race("kuhn_poker", setting, 120, np.arange(10, 121, 10), 3)
    once = fictitious.race("kuhn_poker", setting, 120, [120], 3)
    assert often["gap"][-1] == once["gap"][-1]
    assert often["gradients"] == once["gradients"]
