"""The machinery that figures share: it imports no figure, and no figure imports another."""
