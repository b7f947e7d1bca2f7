"""Measurements of policies: reports on one policy, tournaments of several, and length control.

`averaging` says what a mean of a judge's answers loses.

Shapes in this folder: N responses or comparisons, X prompts, n entrants, K responses of an entrant
to a prompt. Probabilities are P, in [0, 1]; payoffs are P - 1/2.
"""

START = "start"
"""The name by which all commands call the model that a run started from."""
