"""A training run: its parts are assembled from a configuration, it is planned, run and saved.

`train` is the loop, `assemble` makes policy, game and solver, `ledger` counts and times,
`checkpoint` and `config_file` read and write, `plan` estimates a run's cost, and `sweep` varies
settings.
"""
