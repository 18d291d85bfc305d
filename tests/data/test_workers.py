"""Workers that read samples: the same batches as without, whatever is drawn at random and however a worker ends."""

from __future__ import annotations

import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from processes import CONTEXT
from torch.utils.data import DataLoader, Dataset, get_worker_info

from crp_kit.data.batches import batches
from crp_kit.data.random_state import random_state_kept, seed
from crp_kit.data.samples import Failure, Form, NumberedSamples
from crp_kit.data.sources import load_data
from crp_kit.errors import InputError

FORM = Form((1, 2, 2), torch.float32)
GRID = [[0, 1, 2], [3, 4, 5], [6, 7]]


class Made(Dataset[Any]):
    """Eight samples that a function makes of their numbers."""

    def __init__(self, make: Callable[[int], Any]) -> None:
        self.make = make

    def __len__(self) -> int:
        return 8

    def __getitem__(self, number: int) -> Any:
        return self.make(number)


def constant(number: int) -> tuple[torch.Tensor, int]:
    return torch.full((1, 2, 2), float(number)), number


def read(make: Callable[[int], Any], workers: int = 0, **options: Any) -> list[Any]:
    samples = NumberedSamples(Made(make), form=options.pop("form", FORM))
    return list(batches(samples, GRID, workers=workers, **options))


def content(found: list[Any]) -> list[Any]:
    return [
        (one.samples, one.labels, one.failures, None if one.images is None else one.images.tolist()) for one in found
    ]


def drawn(number: int) -> tuple[torch.Tensor, int]:
    values = torch.rand(1, 2, 2) + float(np.random.random()) + random.random()  # noqa: NPY002
    return values, number


def states() -> list[Any]:
    of_numpy = np.random.get_state()  # noqa: NPY002
    return [
        torch.get_rng_state().tolist(), of_numpy[1].tolist(), of_numpy[2:], random.getstate(), torch.get_num_threads(),
        [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)],
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_random_numbers_of_a_sample_depend_on_its_number_alone(workers: int) -> None:
    np.random.standard_normal()  # noqa: NPY002 - which keeps a second number for later
    before = states()
    found = content(read(drawn, workers))
    assert states() == before
    samples = NumberedSamples(Made(drawn))
    alone = [samples[number][1].tolist() for number in (7, 3)]  # type: ignore[index]
    assert alone == [found[2][3][1], found[1][3][0]]
    assert states() == before
    assert len({str(image) for batch in found for image in batch[3]}) == 8


def test_a_state_is_kept_after_an_error_too() -> None:
    before = states()

    @random_state_kept()
    def fail() -> None:
        seed(7)
        drawn(7)
        torch.set_num_threads(2)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert states() == before


def with_gradient(number: int) -> tuple[torch.Tensor, int]:
    return torch.full((1, 2, 2), float(number)) * torch.ones(1, requires_grad=True), number


class Marked(torch.Tensor):
    """A tensor of somebody's own class."""


def marked(number: int) -> tuple[torch.Tensor, int]:
    return torch.full((1, 2, 2), float(number)).as_subclass(Marked), number


def stranger(number: int) -> tuple[torch.Tensor, int]:
    return torch.full((2, 2), float(number)).t().expand(1, 2, 2), np.int64(number)  # type: ignore[return-value]


@pytest.mark.slow
@pytest.mark.parametrize("make", [with_gradient, marked, stranger])
def test_tensors_of_any_kind_travel_as_plain_ones(make: Callable[[int], Any]) -> None:
    expected = content(read(constant))
    for workers in (0, 2):
        found = read(make, workers)
        assert content(found) == expected
        assert all(type(one.images) is torch.Tensor and not one.images.requires_grad for one in found)


def strange(number: int) -> Any:
    eye = torch.eye(2)
    return [eye.to_sparse(), eye + 1j, eye.to("meta"), torch.quantize_per_tensor(eye, 0.1, 0, torch.qint8)][number % 4]


@pytest.mark.filterwarnings("ignore")
def test_tensors_that_are_no_real_numbers_are_a_failure_each() -> None:
    for workers in (0, 1):
        failures = [one for batch in read(strange, workers) for one in batch.failures]
        assert [one.sample for one in failures] == list(range(8))
        assert all("an image is a dense tensor of real numbers; got" in one.reason for one in failures)


def of_two_types(number: int) -> tuple[torch.Tensor, int]:
    return torch.full((1, 2, 2), number / 3, dtype=torch.float64 if number % 2 else torch.float32), number


def test_the_type_of_a_batch_is_that_of_the_data_not_of_what_is_in_it() -> None:
    for batch in read(of_two_types):
        assert batch.images.dtype == torch.float32
        assert torch.equal(batch.images[:, 0, 0, 0], torch.tensor([n / 3 for n in batch.samples], dtype=torch.float32))
    failure = read(lambda number: (torch.full((1, 2, 2), number), 0))[0].failures[0]
    assert failure == Failure(0, "its values are torch.int64 and those of the other samples torch.float32")


def mortal(number: int) -> tuple[torch.Tensor, int]:
    if number == 4 and get_worker_info() is not None:
        os.kill(os.getpid(), signal.SIGKILL)
    return constant(number)


def exiting(number: int) -> tuple[torch.Tensor, int]:
    if number == 4 and get_worker_info() is not None:
        os._exit(3)
    return constant(number)


@pytest.mark.parametrize(("make", "how"), [(mortal, "was killed by SIGKILL"), (exiting, "ended with status 3")])
def test_a_worker_that_ends_is_one_sentence_with_the_sample_that_it_read(make: Callable[[int], Any], how: str) -> None:
    before = states()
    source = batches(NumberedSamples(Made(make), form=FORM), GRID, workers=2)
    assert next(source).samples == (0, 1, 2)
    expected = rf"^a worker process {how} while it read sample 4, perhaps for want of memory: .*; resume continues from"
    with pytest.raises(InputError, match=expected) as caught:
        list(source)
    assert states() == before
    assert multiprocessing.active_children() == [], caught.traceback


@pytest.mark.slow
@pytest.mark.parametrize("used_before", [False, True])
def test_the_end_of_a_worker_raises_nothing_where_a_batch_is_used(used_before: bool) -> None:
    if used_before:  # after which torch's handler is there
        list(DataLoader(Made(constant), num_workers=1, collate_fn=list))
    before = states()
    source = batches(NumberedSamples(Made(mortal), form=FORM), GRID, workers=2)
    next(source)
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        time.sleep(0.01)  # meanwhile the worker with the second batch ends
    with pytest.raises(InputError, match="a worker process was killed by SIGKILL while it read sample 4"):
        next(source)
    assert states() == before


def test_workers_end_when_batches_are_closed_though_a_traceback_refers_to_them() -> None:
    def fail() -> None:
        with closing(batches(NumberedSamples(Made(constant), form=FORM), GRID, workers=2)) as source:
            next(source)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        fail()
    assert multiprocessing.active_children() == [], caught.traceback


def test_the_end_of_another_child_process_changes_nothing() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGCHLD, lambda number, frame: seen.append(number))
    try:
        source = batches(NumberedSamples(Made(constant), form=FORM), GRID, workers=1)
        next(source)
        subprocess.run(["true"], check=True)
        assert len(list(source)) == 2
        assert seen
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_a_worker_that_ends_is_noticed_outside_of_the_main_thread_too(monkeypatch: pytest.MonkeyPatch) -> None:
    look = torch.utils.data.dataloader._MultiProcessingDataLoaderIter._try_get_data
    monkeypatch.setattr(look, "__defaults__", (0.1,))  # seconds between two looks of torch at its workers, else five
    errors: list[str] = []

    def consume() -> None:
        try:
            read(mortal, workers=1)
        except InputError as error:
            errors.append(str(error))

    thread = threading.Thread(target=consume)
    thread.start()
    thread.join()
    assert len(errors) == 1
    assert re.match("a worker process (ended unexpectedly|was killed by SIGKILL) while it read sample 4", errors[0])


def broken(*_: Any) -> None:
    raise ConnectionResetError(104, "Connection reset by peer")


def test_a_connection_that_breaks_is_the_end_of_its_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.multiprocessing.reductions, "rebuild_storage_fd", broken)
    with pytest.raises(InputError, match="a worker process was killed by SIGKILL while it read sample 4"):
        read(mortal, workers=1)
    with pytest.raises(InputError, match=r"^samples 0 to 2 cannot be read: \[Errno 104\] Connection reset by peer; "):
        read(constant, workers=1)


class Closed(Made):
    """Cannot be sent to a process that starts afresh."""

    def __getstate__(self) -> Any:
        raise TypeError("a handle cannot be pickled")


def test_data_that_cannot_be_sent_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.multiprocessing, "Process", multiprocessing.get_context("spawn").Process)
    with pytest.raises(
        InputError,
        match=r"^worker processes cannot be started \(TypeError: a handle cannot be pickled\); .* 0 workers$",
    ):
        list(batches(NumberedSamples(Closed(constant), form=FORM), GRID, workers=1))


FACTORY = """
from torch.utils.data import Dataset
import torch

class Numbers(Dataset):
    def __init__(self):
        self.offset = torch.ones(1)
    def __len__(self):
        return 8
    def __getitem__(self, number):
        return torch.full((1, 2, 2), float(number)) * self.offset, number

def data():
    return Numbers()
"""


@pytest.mark.slow
def test_what_a_factory_made_travels_to_processes_that_start_afresh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [tmp_path / name / "sets.py" for name in ("a", "b")]
    for file in files:
        file.parent.mkdir()
        file.write_text(FACTORY)
    first, second = (load_data(f"{file}:data") for file in files)
    assert type(first) is not type(second)
    assert type(load_data(f"{files[0]}:data")) is type(first), "a file that has not changed runs once"
    for name in ("Process", "Queue", "Event"):
        monkeypatch.setattr(torch.multiprocessing, name, getattr(CONTEXT, name))
    expected = content(read(constant))
    assert content(list(batches(NumberedSamples(first, form=FORM), GRID, workers=1))) == expected


def test_a_file_that_has_changed_runs_again(tmp_path: Path) -> None:
    file = tmp_path / "sets.py"
    file.write_text(FACTORY)
    first = load_data(f"{file}:data")
    file.write_text(FACTORY + "\n# changed\n")
    assert type(load_data(f"{file}:data")) is not type(first)


class Stuck:
    """Never gives its later samples."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __len__(self) -> int:
        return 8

    def __getitem__(self, number: int) -> Any:
        if number > 1:
            (self.folder / str(os.getpid())).touch()
            time.sleep(60)
        return constant(number)


def read_all(folder: Path) -> None:
    list(batches(NumberedSamples(Stuck(folder), form=FORM), [[number] for number in range(8)], workers=2))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread sees to it, as soon as it may run")
def test_workers_end_with_their_parent_while_they_read(tmp_path: Path) -> None:
    process = CONTEXT.Process(target=read_all, args=(tmp_path,))
    process.start()
    assert eventually(lambda: len(list(tmp_path.iterdir())) == 2)
    workers = [int(file.name) for file in tmp_path.iterdir()]
    assert all(map(runs, workers))
    process.kill()
    process.join()
    assert eventually(lambda: not any(map(runs, workers)))


def eventually(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + 60
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
