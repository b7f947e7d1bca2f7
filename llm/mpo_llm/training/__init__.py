"""A training run: its parts are assembled from a configuration, it is planned, run and saved.

`train` is the loop, `assemble` makes policy, game and solver, `ledger` counts and times,
`checkpoint` and `config_file` read and write (`yaml_lines` knows the lines of YAML, `flags` the
command line), `journal` and `saving` keep records and checkpoints on a disk that may be full,
`fingerprint` recognises a run, `lock` keeps its folder to one run, `plan` estimates a run's cost,
and `sweep` varies settings.
"""
