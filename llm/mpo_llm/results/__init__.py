"""The results of a run: evaluations, a page about it, a conversation with it, an export."""
