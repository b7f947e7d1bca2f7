"""The five choices of `MMD`, one file each."""
