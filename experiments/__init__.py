"""The figures and the claims table: one file per figure. `python experiments --help`."""

NAMES = (
    "simplex",
    "flow",
    "poker",
    "beyond_poker",
    "last_iterate",
    "hardest",
    "trees",
    "leduc",
    "ingredients",
    "linear_rate",
    "original_equilibrium",
    "random_games",
    "tree_size",
    "magnet_period",
    "averages",
    "noise",
    "noise_budget",
    "inexact",
    "reward_in_kl",
    "published",
    "cyclicity",
    "transformer_gap",
    "transformer_ablation",
    "transformer_exact",
)
"""Every experiment, in the order of the page."""
