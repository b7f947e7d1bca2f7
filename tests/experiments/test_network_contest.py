"""The contest of `poker_network`: equal grids, honest counts, and rivals that are what they say."""

import json
from dataclasses import dataclass, field

import numpy as np
import pytest

import mpo_games as mg
from experiments import poker_network as figure
from experiments.lab import harness
from experiments.lab import network_contest as contest
from mpo_games.games.behavioural import counterfactual_values

pytest.importorskip("pyspiel")
torch = pytest.importorskip("torch")

from experiments.lab.self_play import Clipped, Paths, SelfPlay  # noqa: E402
from mpo_llm.step.objectives import Batch  # noqa: E402

RIVALS = figure.RIVALS[figure.SAMPLED]


def test_every_rival_chooses_from_equally_many_settings():
    for rival in RIVALS:
        settings = contest.settings(rival)
        assert len({tuple(s.items()) for s in settings}) == len(settings) == contest.TRIES


def test_rivals_are_tuned_and_reported_with_different_seeds():
    assert contest.DEVELOPED not in range(figure.SEED, figure.SEED + figure.SEEDS)


@pytest.mark.parametrize(
    ("method", "gradients"),
    [("Self-play PG", 8), ("PPO", 16), ("Nash-MD", 64), ("MPO", 64), ("MPO, pooled", 64)],
)
def test_a_run_counts_what_it_spends(method, gradients):
    """256 episodes are 4 steps of 64, and 8 of the policy gradient's."""
    found = contest.race(method, contest.settings(method)[0], "Kuhn", figure.SAMPLED, 256, 0)
    assert found["at"][-1] == 256
    assert found["gradients"] == gradients
    assert all(0.0 < gap < 2.0 for gap in found["gap"])


def test_the_preset_pays_for_its_geometry_too():
    found = contest.race(contest.PRESET, {}, "Kuhn", figure.SAMPLED, 256, 0)
    # The first step looks for the weights of the geometry, which costs as much as episodes do.
    assert found["at"][-1] == 256
    assert found["gradients"] == 48


@dataclass(frozen=True, eq=False)
class Watched(SelfPlay):
    """Keeps what a step would follow, and stays where it is."""

    kept: list = field(default_factory=list)

    def _ascended(self, game, policy, gains, losses, been):
        self.kept.append(gains + losses)
        return policy


@pytest.mark.parametrize("critic", [False, True])
def test_exact_ascent_follows_the_gradient_of_the_payoff(critic):
    """What an action earns is its reach times its counterfactual advantage, up to a factor."""
    game = contest.game_of("Kuhn", 0)
    solver = Watched(Paths.of(game.tree), 1e-3, 0.0, critic=critic)
    state = mg.State(game.initial_policy(), game.initial_policy())
    # The critic has learned the values after one step, and the role's mean is known at once.
    for _ in range(2):
        state = solver.step(game, state, None)
    followed = solver.kept[-1]
    play, shape = state.policy.play, game.tree.tree
    table = mg.BehaviouralGame(game.tree, counterfactual_values)
    probs = play.probs
    rows = np.full(table.initial_policy().probs.shape, 1.0)
    for j in range(shape.states):
        own = slice(shape.offset[j], shape.offset[j + 1])
        rows[j % shape.split, int(j >= shape.split)] = probs[own]
    values = table.feedback(mg.TabularPolicy.from_probs(rows))
    expected = np.zeros(shape.sequences)
    for j in range(shape.states):
        own = slice(shape.offset[j], shape.offset[j + 1])
        q = values[j % shape.split, int(j >= shape.split)]
        expected[own] = play.plan[shape.parent[j]] * probs[own] * (q - probs[own] @ q)
    if not critic:
        # A baseline that is not the state's own value leaves what all its actions have in common,
        # which a distribution does not feel.
        followed = followed.copy()
        for j in range(shape.states):
            own = slice(shape.offset[j], shape.offset[j + 1])
            followed[own] -= probs[own] * followed[own].sum()
    factor = followed @ expected / (expected @ expected)
    assert factor > 0.0
    np.testing.assert_allclose(followed, factor * expected, atol=1e-12)


def test_sampled_ascent_is_exact_in_the_mean():
    exact = contest.game_of("Kuhn", 0)
    sampled = contest.game_of("Kuhn", 0, episodes=200_000, explore=0.0)
    found = []
    for game in (exact, sampled):
        solver = Watched(Paths.of(game.tree), 1e-3, 0.0, critic=True)
        state = mg.State(game.initial_policy(), game.initial_policy())
        for _ in range(2):
            state = solver.step(game, state, np.random.default_rng(0))
        found.append(solver.kept[-1])
    np.testing.assert_allclose(found[1], found[0], atol=0.01)


def test_clipped_ratios_and_entropy():
    """Beyond the clip nothing more is to be gained, and illegal mass does not count."""
    log_p = torch.tensor([[0.5], [0.3]]).log().requires_grad_()
    behaviour = torch.tensor([[0.4], [0.6]]).log()
    ones, none = torch.ones(2), torch.zeros(2)
    batch = Batch(log_p, behaviour, none, [], ones, torch.tensor([0, 0]), None)
    # Of the legal mass .8 the first action has .625: its ratio 1.5625 is beyond the clip.
    gains, losses = torch.tensor([1.0, 0.0]), torch.tensor([0.0, -1.0])
    clipped = Clipped(gains, losses, none, 0.0, 0.2)(batch)
    torch.testing.assert_close(clipped, torch.tensor([-1.2, 0.8]))
    (gradient,) = torch.autograd.grad(clipped.sum(), log_p)
    assert not gradient.any()
    free = Clipped(gains, losses, none, 0.0, float("inf"))(batch)
    torch.testing.assert_close(free, torch.tensor([-1.5625, 0.625]))
    entropy = Clipped(none, none, ones, 1.0, 0.2)(batch).sum()
    p = torch.tensor([0.625, 0.375])
    torch.testing.assert_close(entropy, (p * p.log()).sum())


def test_a_cell_that_is_missing_is_left_out():
    """Tuned rivals need the scores of all their settings; runs may be fewer than asked for."""

    def run(_, cells):
        found = {"at": [1.0], "gap": [0.5], "gradients": 1, "seconds": 1.0}
        return [None if c["method"] == "PPO" or c["seed"] == 1 else found for c in cells]

    results = figure.compute(False, run)
    entries = results["Kuhn"][figure.SAMPLED]
    assert "PPO" not in entries
    assert len(entries[contest.PRESET]["runs"]) == figure.SEEDS - 1
    assert {c.measured for c in figure.claims(results)} == {0.5, 1.0}


def test_the_page_has_the_computed_table():
    stored = harness.HERE / "results" / "poker_network.json"
    table = figure.as_markdown(json.loads(stored.read_text())["results"])
    assert table in (harness.HERE.parent / "docs" / "results.md").read_text(encoding="utf-8")
