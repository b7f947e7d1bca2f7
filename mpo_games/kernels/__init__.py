"""Compiled inner loops. Each is tested against the NumPy equation in its docstring.

Shapes: a table is `(rows, actions)`, a matrix game's payoffs are `(n, m)`. A vector over a tree is
`(sequences,)` or `(states,)`, where "states" are the information states of both players; a batch of
trees is `(runs, sequences)`. Payoffs and `q` have the game's unit, logarithms are natural.

NaN and infinity keep their meaning everywhere. A division by 0 gives them, as in NumPy
(`error_model="numpy"`).
"""
