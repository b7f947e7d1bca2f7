"""What is made of a run: evaluations, a page, a conversation, an export."""
