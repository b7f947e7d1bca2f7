"""Episodes whose answers an engine draws."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mpo_llm.engines import Drawn
from mpo_llm.responses import Ids, Responses
from mpo_llm.training import tables
from mpo_llm.training.train import train
from mpo_llm.trees import Speaker
from mpo_llm.trees.episodes import rows_of
from poker import config
from runs import lines


def test_an_engine_draws_the_same_episodes(tmp_path: Path) -> None:
    """Their endings have the probabilities of the play, legal or not; what was said is counted."""
    game = {"name": "liars_dice(dice_sides=2)", "episodes": 3000, "explore": 0.3, "draws": "engine"}
    found = tables.table(config(tmp_path / "run", game=game)).game
    tree, policy, speaker = found.tree, found.initial_policy(), found.speaker
    assert speaker is not None
    log = found.play(policy, np.random.default_rng(0))
    behaviour = policy.play.smooth(0.3)
    reach = tree.chance * (behaviour.plan[rows_of(tree)] * behaviour.plan[tree.column])
    assert log.episodes == 3000
    # Each within five standard deviations.
    spread = np.sqrt(3000 * reach * (1.0 - reach))
    assert (np.abs(log.seen - 3000 * reach) <= 5.0 * spread + 1e-9).all()
    # The probabilities that estimates divide by are those of episodes from the table.
    np.testing.assert_allclose(log.expected * tree.chance, 3000 * reach)
    share = speaker.illegal / speaker.answers
    assert 1.0 - policy.legal.max() < share < 1.0 - policy.legal.min()
    # It is not asked about the three tenths of the decisions that are explored.
    assert speaker.answers < 0.75 * 5 * 3000


def test_an_engine_is_heard(tmp_path: Path) -> None:
    """What it says is played: if it always bets, both players do, and somebody wins two antes."""
    game = tables.table(config(tmp_path / "run")).game
    bets = Speaker(_Always(game.answers.listed[0].ids(1)))
    play, rng = game.initial_policy().play, np.random.default_rng(0)
    seen = bets.endings(game.tree, game.answers, game.start, play, 0.0, 50, rng)
    assert (bets.answers, bets.illegal, seen.sum()) == (100, 0, 50)
    won = game.tree.payoff[seen > 0] / game.tree.chance[seen > 0]
    assert set(np.round(won, 9)) == {-2.0, 2.0}


class _Always:
    """An engine that says one thing."""

    def __init__(self, ids: Ids) -> None:
        self.ids = ids

    def __call__(self, policy: Any, prompts: Any, count: int, rng: Any) -> Drawn:
        at = np.repeat(np.arange(len(prompts)), count)
        responses = Responses.of_ids(prompts, at.tolist(), [self.ids] * len(at))
        return Drawn(responses, np.zeros(responses.tokens.shape))


def test_what_an_engine_draws_is_counted(tmp_path: Path) -> None:
    game = {"name": "kuhn_poker", "episodes": 20, "draws": "engine"}
    summary = train(config(tmp_path, 2, game=game, budget={"steps": 9, "samples": 20}))
    assert summary.reached == "samples"
    rows = lines(tmp_path)
    assert rows[0]["samples"] == 0 < rows[1]["samples"]
    assert rows[-1]["tokens"] == rows[-1]["samples"]
    # Both words of the game's own tokens are legal everywhere in Kuhn poker.
    assert rows[-1]["illegal"] == 0
