"""Settings and fixtures for all tests."""

import gc
import json
import os
from collections.abc import Generator
from pathlib import Path

import pytest
import torch
from processes import ended_seconds
from sampling import TABLE, read, thin

torch.set_num_threads(1)  # small tensors: more threads cost more than they gain
os.environ.setdefault("OMP_NUM_THREADS", "1")  # also in the commands that tests start


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--nightly", action="store_true", help="every case of every test, and thousands of random ones")
    parser.addoption("--measure", metavar="FILE", help="append the CPU seconds of each case as a line of JSON")


@pytest.hookimpl(tryfirst=True)  # before -m looks at the marks
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Choose cases of tests that have many, and leave the others out but at night."""
    thin(items, read(TABLE.read_text(encoding="utf-8")))
    if not config.getoption("--nightly"):
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("nightly")])
        items[:] = [item for item in items if not item.get_closest_marker("nightly")]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, None, None]:
    """Measure a case with what it sets up, and the processes that it starts and ends."""
    begin, path = cpu_seconds(), item.config.getoption("--measure")
    yield
    if path:
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps([item.nodeid, round(cpu_seconds() - begin, 3)]) + "\n")


def cpu_seconds() -> float:
    """Return the CPU seconds of this process, and of those that it has started and that have ended."""
    return sum(os.times()[:4]) + ended_seconds()


def pytest_collection_finish() -> None:
    """Let garbage collections leave out modules and collected tests, which stay anyway."""
    gc.collect()
    gc.freeze()


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
