"""Another kind of object than a function asks for is refused in a sentence, by every member."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_edge_games import RPS, tree_of

import mpo_games as mg
from mpo_games import metrics
from mpo_games.games.behavioural import BehaviouralGame
from mpo_games.solution import Solution

GAMES: dict[str, Any] = {
    "table": mg.MatrixGame(RPS),
    "preferences": mg.load("comal"),
    "tree": tree_of(RPS),
    "view": BehaviouralGame(tree_of(RPS)),
}
WRONG = (mg.Entropy(), None, 3.0, "uniform", [0.2, 0.3, 0.5], object(), mg.load("rps"), mg.MPO)
ASKED = {
    "feedback": 1,
    "duality_gap": 1,
    "best_response": 1,
    "value": 1,
    "average": 1,
    "divergence": 2,
}


SENTENCE = r"\A[^\n]+\.\Z"


@pytest.mark.parametrize("verb", [*ASKED, "smoothed", "regularised_gap"])
@pytest.mark.parametrize("name", GAMES)
def test_games_ask_for_policies(name: str, verb: str) -> None:
    game = GAMES[name]
    if not hasattr(game, verb):
        return
    for wrong in (*WRONG, GAMES["tree" if name != "tree" else "table"].initial_policy()):
        arguments = (
            (wrong, wrong, 0.1) if verb == "regularised_gap" else (wrong,) * ASKED.get(verb, 1)
        )
        with pytest.raises(ValueError, match=SENTENCE):
            getattr(game, verb)(*arguments)


@pytest.mark.parametrize(
    "verb", ["kl", "divergence", "distance", "within", "penalise", "mix", "with_side"]
)
@pytest.mark.parametrize("name", ["table", "tree"])
def test_policies_ask_for_policies(name: str, verb: str) -> None:
    policy = GAMES[name].initial_policy()
    if not hasattr(policy, verb):
        return
    q = np.zeros(policy.coordinates.shape)
    for wrong in WRONG:
        if verb == "within" and isinstance(wrong, mg.Entropy) and name == "table":
            continue  # the right kind
        more = {"mix": (0.5,), "with_side": (0,)}.get(verb, ())
        arguments = (q, wrong) if verb == "penalise" else (wrong, *more)
        with pytest.raises(ValueError, match=SENTENCE):
            getattr(policy, verb)(*arguments, **({"alpha": 0.1} if verb == "penalise" else {}))


METRICS = (
    metrics.duality_gap,
    metrics.exploitability,
    metrics.average_gap,
    metrics.better_gap,
    metrics.magnet_divergence,
    metrics.step_size,
    metrics.last_move,
    metrics.magnet_weight,
    metrics.entropy,
)


@pytest.mark.parametrize("metric", METRICS)
def test_metrics_ask_for_states(metric: Any) -> None:
    game = GAMES["table"]
    for wrong in (*WRONG, game.initial_policy()):
        with pytest.raises(ValueError, match="`state` must be a state of a solver"):
            metric(game, wrong)
    state = next(iter(mg.iterate(game, mg.MPO(0.1, 0.1, 5))))
    metric(game, state)
    if metric in METRICS[:5]:
        with pytest.raises(ValueError, match="`game` must have"):
            metric("rps", state)


def test_oracles_take_a_game_by_name_and_nothing_else() -> None:
    game = GAMES["table"]
    assert mg.exact.nash(game=game).value == mg.exact.nash(game).value
    named = mg.exact.qre(game=game, alpha=0.3).policy.probs
    np.testing.assert_array_equal(named, mg.exact.qre(game, 0.3).policy.probs)
    for wrong in WRONG[:-2]:
        for oracle in (mg.exact.nash, lambda wrong: mg.exact.qre(game=wrong, alpha=0.1)):
            with pytest.raises(ValueError, match=r"There is no `.*` oracle for a"):
                oracle(wrong)


def test_mixtures_and_files() -> None:
    policy = GAMES["table"].initial_policy()
    for policies, weights in ((policy, (1.0,)), ((policy,), 1.0), (None, None)):
        with pytest.raises(ValueError, match="a tuple of policies and a tuple of their weights"):
            mg.Mixture(policies, weights)  # type: ignore[arg-type]
    for wrong in (None, 3, ["run.npz"], object()):
        with pytest.raises(ValueError, match="`path` must be the path of a file"):
            Solution.load(wrong, GAMES["table"])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`game` must be a game like"):
        Solution.load("run.npz", "rps")  # type: ignore[arg-type]


OTHERS: dict[str, Any] = {
    "table": mg.MatrixGame(np.eye(5)),
    "preferences": mg.load("rps"),
    "tree": tree_of(np.eye(5)),
    "view": BehaviouralGame(tree_of(np.eye(5))),
}
PAIRED = {
    "mirror_step": lambda p, o, q: p.mirror_step(q, o, eta=0.1, alpha=0.1),
    "penalise": lambda p, o, q: p.penalise(q, o, alpha=0.1),
    "mix": lambda p, o, q: p.mix(o, 0.5),
    "with_side": lambda p, o, q: p.with_side(o, 0),
    "distance": lambda p, o, q: p.distance(o),
}


@pytest.mark.parametrize("verb", PAIRED)
@pytest.mark.parametrize("name", OTHERS)
def test_policies_of_another_game(name: str, verb: str) -> None:
    """Kernels trust the sizes of what they are given."""
    policy, other = GAMES[name].initial_policy(), OTHERS[name].initial_policy()
    if name == "preferences":  # of as many responses, but the policies of a table have two rows
        other = GAMES["table"].initial_policy()
    q = np.zeros_like(policy.probs)
    for one, two in ((policy, other), (other, policy)):
        with pytest.raises(ValueError, match=r"of different games\.|of another tree\."):
            PAIRED[verb](one, two, q if one is policy else np.zeros_like(other.probs))


@pytest.mark.parametrize("name", GAMES)
@pytest.mark.parametrize("shape", [(), (1,), (7, 9, 11), (3, 2)])
def test_feedback_of_another_shape(name: str, shape: tuple[int, ...]) -> None:
    policy, q = GAMES[name].initial_policy(), np.zeros(shape)
    for call in (
        lambda: policy.mirror_step(q, None, eta=0.1, alpha=0.0),
        lambda: policy.dual_norm(q, policy),
        lambda: policy.magnitude(q),
    ):
        with pytest.raises(ValueError, match=r"`q` must"):
            call()


def test_whole_numbers_that_numpy_keeps_as_objects() -> None:
    for number in (2**63, 10**400):
        for solver in (lambda n: mg.MPO_RT(0.1, n, 5), lambda n: mg.MPO(n, 0.1, 5)):
            with pytest.raises(ValueError, match="must be a finite number"):
                solver(number)


def test_flags_names_and_ranks() -> None:
    with pytest.raises(ValueError, match="`progress` must be True or False"):
        mg.solve(GAMES["table"], mg.MPO(0.1, 0.1, 5), 5, progress=np.zeros(2))  # type: ignore[arg-type]
    assert mg.builders.from_function(lambda a, b: 0.5, [set()]).responses == ()
    with pytest.raises(ValueError, match="`rank` must be at most"):
        mg.families.low_rank_cyclic(3, 2**29, np.random.default_rng(0))
