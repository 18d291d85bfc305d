"""Settings for all tests."""

import os

import pytest
import torch

torch.set_num_threads(1)  # small tensors: more threads cost more than they gain
os.environ.setdefault("OMP_NUM_THREADS", "1")  # also in the commands that tests start


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--programs", type=int, default=180, help="random programs of the fuzzer, such as 5000 at night")


@pytest.fixture(scope="session")
def programs(request: pytest.FixtureRequest) -> int:
    """Number of random programs that the fuzzer tries."""
    return int(request.config.getoption("--programs"))
