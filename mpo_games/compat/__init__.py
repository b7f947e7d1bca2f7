"""The verbs of other libraries, over this one's games and solvers."""
