"""What the tests of the dilated entropy share: its weights, random feedback, and closeness."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from mpo_games.games.sequence_form import SequenceFormGame
from mpo_games.policies import dilation

SEEDS = st.integers(0, 2**32 - 1)
WEIGHTS = (dilation.unit, dilation.kroer, dilation.farina, dilation.payoff_scaled)
WEIGHINGS = st.sampled_from(WEIGHTS)


def close(a: Any, b: Any, tol: float = 1e-12) -> bool:
    return np.allclose(a, b, rtol=tol, atol=tol)


def push(game: SequenceFormGame, rng: np.random.Generator) -> np.ndarray:
    return np.asarray(rng.normal(size=game.tree.sequences))
