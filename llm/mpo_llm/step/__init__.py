"""The mirror step of a network: scores, KL forms, objectives, minimisers."""
