"""The drop-in's earlier address, kept for scripts that import it from here."""

from importlib import import_module


def __getattr__(name: str) -> object:
    # Found by name, since games stand below `compat` and may not import it.
    return getattr(import_module("mpo_games.compat.mmd_dilated"), name)
