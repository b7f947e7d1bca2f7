"""Compiled inner loops; each is tested against the NumPy equation in its docstring."""
