"""The checkpoints' earlier address, kept for scripts that import `load_policy` from here."""

from mpo_llm.training.checkpoint import load_policy as load_policy
