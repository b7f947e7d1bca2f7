"""One thread: tiny networks are fastest so, and the same everywhere."""

import torch

torch.set_num_threads(1)
