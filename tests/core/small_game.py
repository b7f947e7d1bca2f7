"""A game of 4 by 3 actions, a start without ties, and the states of a solver's run."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np

import mpo_games as mg

A = np.array([[0.0, -1.0, 3.0], [1.0, 0.5, -1.0], [-3.0, 1.0, 0.0], [0.2, 0.1, -0.3]])
GAME = mg.MatrixGame(A)
# No round numbers: fictitious play must not meet a tie that rounding decides.
START = GAME.policy(*(np.random.default_rng(0).dirichlet(np.ones(n)) for n in A.shape))


def states(solver: Any, steps: int = 12, game: Any = GAME, policy: Any = START, magnet: Any = None):
    return list(islice(mg.iterate(game, solver, policy=policy, magnet=magnet), steps + 1))
