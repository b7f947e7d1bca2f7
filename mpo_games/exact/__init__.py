"""Exact oracles: Nash and quantal response equilibria, each with its certificate."""

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
