"""The machinery that the figures share."""
