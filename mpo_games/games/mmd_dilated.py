"""The drop-in's earlier address, kept for scripts that import it from here."""

from mpo_games.compat.mmd_dilated import MMDDilatedEnt as MMDDilatedEnt
