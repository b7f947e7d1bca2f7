"""Games: they give feedback to policies."""
