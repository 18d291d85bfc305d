"""Random states of torch, NumPy and Python: kept over a call, and set for the reading of a sample."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["random_state_kept", "seed"]


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Leave the random states of the CPU, and torch's number of threads, as they were before, whatever happens."""
    state, of_numpy, of_python = torch.default_generator.get_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.default_generator.set_state(state)
        np.random.set_state(of_numpy)  # noqa: NPY002
        random.setstate(of_python)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)


def seed(number: int) -> None:
    """Let what draws random numbers draw the same ones for a sample in any batch, order or process.

    Generators of a dataset's own are its own affair. To be called within `random_state_kept`, whose cost (0.5 ms, most
    of it NumPy's) is too high for each sample.
    """
    torch.default_generator.manual_seed(number)  # torch.manual_seed would have those of all devices seeded
    np.random.seed(number & 0xFFFFFFFF)  # noqa: NPY002
    random.seed(number)
