"""A second device in CPU memory, and the checks of the adapter that run on it."""
