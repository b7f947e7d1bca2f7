"""What a finished run is good for: evaluations, a page about it, a conversation, an export."""
