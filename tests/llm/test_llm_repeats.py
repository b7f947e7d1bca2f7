"""How much a step computes where responses repeat, and where they never do."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mpo_games as mg
import mpo_llm as ml
from languages import FIXED, preferences, transformer
from mpo_games.choices.pull import proximal
from mpo_llm.judges import Higher
from mpo_llm.repeats import ByRepeats
from mpo_llm.step.minimisers import constant
from mpo_llm.step.rollouts import Rollouts
from mpo_llm.visits import Texts, Visits

PROMPTS = ((4,), (5,), (5, 1))


def drawn(draws: tuple[int, ...]) -> Texts:
    """The texts of one visit, which are single tokens."""
    times = Counter(draws)
    count = len(times)
    zeros, ones = np.zeros(count, dtype=np.int64), np.ones(count, dtype=np.int64)
    tokens = np.array(list(times))[:, None]
    visits = Visits(zeros, tokens, ones, np.array(list(times.values())), np.zeros(count), zeros)
    return Texts.of(visits, ((9,),))


def test_the_chance_of_a_new_response_is_estimated_without_bias() -> None:
    """In the mean over all draws it is the chance that one draw is none of the others: the mean of
    `(1 - p)^(n - 1)` over texts of chance p."""
    p, n = np.array([0.5, 0.3, 0.15, 0.05]), 4
    mean = sum(
        float(np.prod(p[list(draws)])) * drawn(draws).unseen()
        for draws in product(range(4), repeat=n)
    )
    assert mean == pytest.approx(float(p @ (1.0 - p) ** (n - 1)), rel=1e-12)
    assert drawn((1, 1, 2, 2)).unseen() == 0.0
    assert drawn((1, 2, 3)).unseen() == 1.0


def test_the_number_grows_with_the_odds() -> None:
    number = ByRepeats(2.0, 8.0)
    assert [number(u) for u in (1.0, 0.5, 0.2, 0.0)] == [2.0, 10.0, 34.0, np.inf]


@dataclass
class Watched:
    """A pull that notes what each step learns from, and how."""

    seen: list[Rollouts]

    def __call__(self, policy: Any, q: Any, magnet: Any, **choices: Any) -> Any:
        self.seen.append(q)
        return proximal(policy, q, magnet, **choices)


def steps(game: Any, count: int, **changes: Any) -> tuple[list[Rollouts], Any]:
    """What each step of the preset learns from, with other values of `Revisited`; the result."""
    watched = Watched([])
    mmd = ml.ON_TOKENS.solver
    assert isinstance(mmd, mg.MMD)
    own = replace(
        mmd,
        feedback=replace(mmd.feedback, **changes),
        pull=replace(
            mmd.pull,
            again=replace(mmd.pull.again, pull=watched),
            new=replace(mmd.pull.new, pull=watched),
        ),
    )
    return watched.seen, mg.solve(game, own, count, metrics={})


def long_texts(samples: int = 6, prompts_per_step: int = 2) -> ml.TextPreferenceGame:
    """Of these texts none is drawn twice: there are 4^14."""
    decoding = ml.Decoding(max_tokens=14, vocabulary=4)
    network = ml.PlainNetwork(ml.SmallTransformer(6, 18, width=8))
    return ml.TextPreferenceGame(
        PROMPTS,
        ml.TokenPolicy.of(network, decoding),
        Higher(lambda prompts, texts: [float(text.count("1")) for text in texts]),
        lambda ids: " ".join(map(str, ids)),
        samples,
        prompts_per_step,
    )


def test_long_texts_are_learnt_from_as_they_are_drawn() -> None:
    """A step learns from its own responses alone, by two updates."""
    torch.manual_seed(0)
    game = long_texts()
    seen, solution = steps(game, 6)
    for q in seen:
        assert q.unseen == 1.0
        assert len(q.responses) == 12
        assert len(np.unique(q.responses.prompt_of)) == 2
        np.testing.assert_allclose(np.bincount(q.responses.prompt_of, q.weights).sum(), 1.0)
    # Each response is in both updates.
    assert solution.policy.report.gradients == 2
    won = game.feedback(solution.policy, game.start, rng=np.random.default_rng(0))
    assert won.unseen is None


def test_long_texts_go_on_from_a_file_bit_for_bit(tmp_path: Path) -> None:
    """The moments of the steps for new texts are in the file."""
    torch.manual_seed(0)
    game = long_texts()
    whole = mg.solve(game, mg.AutoMPO(), 5)
    mg.solve(game, mg.AutoMPO(), 3).save(tmp_path / "run")
    rest = mg.solve(game, mg.AutoMPO(), 5, resume=mg.Solution.load(tmp_path / "run", game))
    assert whole.policy.moments.count == rest.policy.moments.count
    for name, weight in whole.policy.weights.items():
        assert torch.equal(weight, rest.policy.weights[name])
        assert torch.equal(whole.policy.moments.second[name], rest.policy.moments.second[name])


def test_with_room_earlier_visits_come_before_other_prompts() -> None:
    torch.manual_seed(0)
    game = long_texts(prompts_per_step=1)
    # Room for three visits. From the fourth step on a prompt is asked for the second time.
    seen, _ = steps(game, 6, texts=lambda unseen: 3.0)
    sizes = [Counter(q.responses.prompt_of.tolist()) for q in seen]
    assert [sorted(each.values()) for each in sizes[:4]] == [[6], [6, 6], [6, 6, 6], [6, 12]]
    assert all(12 in each.values() and each.total() <= 18 for each in sizes[4:])
    seen, _ = steps(game, 6, texts=lambda unseen: 1.9)
    assert [len(q.responses) for q in seen] == [6] * 6


def test_a_language_whose_responses_come_back_is_learnt_whole() -> None:
    """Bit for bit as without a limit."""
    start = ml.TokenPolicy.of(transformer(), FIXED)
    table = preferences(FIXED, len(PROMPTS))
    game = ml.EnumerableGame(start, PROMPTS, table, 32, 2)
    _, one = steps(game, 5)
    _, other = steps(game, 5, texts=lambda unseen: np.inf)
    assert one.policy.report.gradients == 16
    assert all(torch.equal(w, other.policy.weights[n]) for n, w in one.policy.weights.items())


def test_few_updates_go_further_once_there_is_something_to_average() -> None:
    """The first step goes as far as its own gradients say: it would go too far otherwise."""
    torch.manual_seed(0)
    pull = ml.SolvedBy(ml.Adam(16, 1e-3, constant, keep_first=True), updates=lambda unseen: 2.0)
    tried: list[ml.Adam] = []

    def noted(policy: ml.TokenPolicy, *q: Any, **settings: Any) -> ml.TokenPolicy:
        assert isinstance(policy.proximal.minimise, ml.Adam)
        tried.append(policy.proximal.minimise)
        stepped: ml.TokenPolicy = proximal(policy, *q, **settings)
        return stepped

    solver = mg.MMD(1.0, 0.1, feedback=ml.Revisited(), pull=replace(pull, pull=noted))
    mg.solve(long_texts(), solver, 10, metrics={}, seed=0)
    factors = [adam.schedule(0.0) for adam in tried]
    assert [adam.epochs for adam in tried] == [2] * len(tried)
    np.testing.assert_allclose(factors, np.sqrt(np.minimum(8.0, 1.0 + np.arange(len(tried)))))
    assert len(tried) == 10


@pytest.mark.parametrize(
    "make",
    [
        lambda: ByRepeats(0.0, 1.0),
        lambda: ByRepeats(1.0, -1.0),
        lambda: ml.Revisited(texts=3.0),  # type: ignore[arg-type]
        lambda: ml.SolvedBy(updates=3.0),  # type: ignore[arg-type]
        lambda: ml.SolvedBy(ml.LBFGS(), updates=ByRepeats(2.0, 8.0)),
    ],
)
def test_settings_out_of_range_are_refused(make: Any) -> None:
    with pytest.raises(ValueError, match="must"):
        make()
