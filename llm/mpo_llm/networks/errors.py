"""Errors of other libraries in a sentence."""

from __future__ import annotations


def first_sentence(error: Exception) -> str:
    """The first sentence of an error message, on one line."""
    said = " ".join(str(error).split()) or type(error).__name__
    return said.partition(". ")[0].rstrip(".:") + "."
