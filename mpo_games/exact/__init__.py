"""Exact oracles: Nash and quantal response equilibria, each with its certificate.

Shapes: a table's policy is `(rows, actions)`, a tree's is `(sequences,)`, payoffs are `(n, m)`.
Utilities, gaps and `alpha` are in units of payoff, divergences and residuals in nats.
"""

from mpo_games.exact import trees as trees
from mpo_games.exact.tables import DOUBT as DOUBT
from mpo_games.exact.tables import GAP_LIMIT as GAP_LIMIT
from mpo_games.exact.tables import RESIDUAL_LIMIT as RESIDUAL_LIMIT
from mpo_games.exact.tables import SUPPORT as SUPPORT
from mpo_games.exact.tables import CertificateError as CertificateError
from mpo_games.exact.tables import Equilibrium as Equilibrium
from mpo_games.exact.tables import QuantalResponse as QuantalResponse
from mpo_games.exact.tables import nash as nash
from mpo_games.exact.tables import qre as qre
