"""Settings and fixtures for all tests."""

import gc
import os
from collections import Counter
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)  # small tensors: more threads cost more than they gain
os.environ.setdefault("OMP_NUM_THREADS", "1")  # also in the commands that tests start


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--programs", type=int, default=180, help="random programs of the fuzzer, such as 5000 at night")
    parser.addoption("--mutations", type=int, default=300, help="damaged atlas files, such as 10000 at night")


@pytest.hookimpl(tryfirst=True)  # before -m looks at the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all but every nth case of a test slow that is marked ``sampled(n)``."""
    cases: Counter[str] = Counter()
    for item in items:
        mark = item.get_closest_marker("sampled")
        if mark is not None:
            test = item.nodeid.partition("[")[0]
            if cases[test] % mark.args[0]:
                item.add_marker(pytest.mark.slow)
            cases[test] += 1


def pytest_collection_finish() -> None:
    """Let garbage collections leave out modules and collected tests, which stay anyway."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def programs(request: pytest.FixtureRequest) -> int:
    """Number of random programs that the fuzzer tries."""
    return int(request.config.getoption("--programs"))


@pytest.fixture(scope="session")
def mutations(request: pytest.FixtureRequest) -> int:
    """Number of damaged atlas files that are tried."""
    return int(request.config.getoption("--mutations"))


@pytest.fixture(scope="session")
def shapes_atlas_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Atlas of one layer of the demo model on its own images, for tests that only read it."""
    from atlas_case import shapes_atlas

    path = tmp_path_factory.mktemp("shapes") / "atlas.h5"
    shapes_atlas(path).close()
    return path


@pytest.fixture(scope="session")
def odd_atlas_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Atlas of the model with odd names, for tests that only read it."""
    from report_case import odd_atlas

    path = tmp_path_factory.mktemp("odd") / "atlas.h5"
    odd_atlas(path).close()
    return path
