"""Settings for all tests."""

import os

import torch

torch.set_num_threads(1)  # small tensors: more threads cost more than they gain
os.environ.setdefault("OMP_NUM_THREADS", "1")  # also in the commands that tests start
