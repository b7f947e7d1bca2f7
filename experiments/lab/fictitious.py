"""Neural fictitious self-play as OpenSpiel has it, measured on the library's tree.

An agent a seat: a Q-network learns to answer, and another network learns the average of the
answers, which is the output (Heinrich & Silver 2016). Perceptrons of one hidden layer of 128, Adam,
the anticipatory parameter and the exploration of OpenSpiel's example for Kuhn poker. It needs the
package `dm-tree`, which `pip install -e ".[experiments]"` brings.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

import mpo_games as mg


def race(
    name: str, setting: Mapping[str, float], budget: float, looks: Iterable[float], seed: int
) -> dict[str, Any]:
    """Exploitability of the average policy after so many episodes, and the seconds of one core.

    `ImportError` without `dm-tree`.
    """
    from open_spiel.python import rl_environment
    from open_spiel.python.pytorch import nfsp

    tree = mg.load(name)
    env = rl_environment.Environment(name)
    env.seed(seed)
    agents = [
        nfsp.NFSP(
            seat,
            state_representation_size=env.observation_spec()["info_state"][0],
            num_actions=env.action_spec()["num_actions"],
            hidden_layers_sizes=[128],
            reservoir_buffer_capacity=2_000_000,
            anticipatory_param=0.1,
            rl_learning_rate=setting["rate"],
            sl_learning_rate=setting["rate"],
            learn_every=int(setting["every"]),
            optimizer_str="adam",
            replay_buffer_capacity=200_000,
            epsilon_start=0.06,
            epsilon_end=0.001,
            epsilon_decay_duration=int(budget),
            # The agent seeds the global generators, from which it draws.
            seed=10 * seed + seat,
        )
        for seat in (0, 1)
    ]
    known = _states(env)
    ahead = list(looks)
    at: list[float] = []
    gaps: list[float] = []
    seconds, since = 0.0, time.process_time()
    for episode in range(1, int(budget) + 1):
        now = env.reset()
        while not now.last():
            output = agents[now.observations["current_player"]].step(now)
            now = env.step([output.action])
        for agent in agents:
            agent.step(now)
        if ahead and episode >= ahead[0]:
            seconds += time.process_time() - since
            at.append(float(episode))
            gaps.append(0.5 * float(tree.duality_gap(_average(tree, agents, known, nfsp))))
            while ahead and episode >= ahead[0]:
                ahead.pop(0)
            since = time.process_time()
    # Both agents' updates of two networks.
    gradients = sum(2 * (agent.step_counter // int(setting["every"])) for agent in agents)
    return {"at": at, "gap": gaps, "gradients": gradients, "seconds": seconds}


def _states(env: Any) -> dict[str, Any]:
    """What the agents see at each information state, by its string."""
    found: dict[str, Any] = {}

    def visit(state: Any) -> None:
        if state.is_terminal():
            return
        if not state.is_chance_node():
            seat, label = state.current_player(), state.information_state_string()
            found.setdefault(label, (state.information_state_tensor(), state.legal_actions(), seat))
        for action in state.legal_actions():
            visit(state.child(action))

    visit(env.game.new_initial_state())
    return found


def _average(tree: Any, agents: list[Any], known: Mapping[str, Any], nfsp: Any) -> Any:
    """The average policies of both agents, as a point of the tree."""
    from open_spiel.python import rl_environment

    shape, probs = tree.tree, np.ones(tree.tree.sequences)
    # Looking must not change what the agents draw next.
    drawn = np.random.get_state()  # noqa: NPY002
    for j, label in enumerate(shape.labels):
        seen, legal, seat = known[label]
        observations = {
            "info_state": [seen, seen],
            "legal_actions": [legal, legal],
            "current_player": seat,
            "serialized_state": [],
        }
        step = rl_environment.TimeStep(
            observations, [0.0, 0.0], [1.0, 1.0], rl_environment.StepType.MID
        )
        with agents[seat].temp_mode_as(nfsp.MODE.AVERAGE_POLICY):
            said = agents[seat].step(step, is_evaluation=True).probs
        own = slice(shape.offset[j], shape.offset[j + 1])
        probs[own] = said[[int(a) for a in shape.actions[own]]]
        probs[own] /= probs[own].sum()
    np.random.set_state(drawn)  # noqa: NPY002
    return mg.TreeplexPolicy.from_probs(shape, tree.geometry, probs)
