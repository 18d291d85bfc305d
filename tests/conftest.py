"""Settings for all tests."""

import torch

torch.set_num_threads(1)  # small tensors: more threads cost more than they gain
