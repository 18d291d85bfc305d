"""Batches of numbered samples, in this process or read by workers, which end with it."""

from __future__ import annotations

import os
import pickle
import re
import warnings
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.reduction import ForkingPickler
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from ..errors import InputError
from ..escapes import one_line
from ..factory_spec import factory_files, load_factory_files
from .labels import LabelIds
from .samples import Failure, NumberedSamples, Sample
from .worker_process import WorkerWatch, become_worker, without_torchs_handler

__all__ = ["Batch", "batches"]

_PID, _FIRST, _LAST = range(3)


@dataclass(frozen=True, eq=False)
class Batch:
    """Samples of a dataset that can be used together.

    Parameters
    ----------
    samples : tuple of int
        Their numbers in the dataset.
    images : torch.Tensor or None
        As the dataset gives them: (sample, channel, height, width); ``None`` if no sample could be read.
    labels : tuple of (tuple of int or None)
        Class ids of each sample, ``None`` where the dataset says nothing of it.
    failures : tuple of Failure
    """

    samples: tuple[int, ...]
    images: torch.Tensor | None
    labels: tuple[LabelIds, ...]
    failures: tuple[Failure, ...]

    def parts(self, size: int) -> Iterator[Batch]:
        """Yield the samples that could be read in as few parts as possible: of one size, which is at most `size`."""
        if self.images is not None:
            count = len(self.samples)
            even = -(-count // -(-count // size))
            for first in range(0, count, even):
                some = slice(first, first + even)
                yield Batch(self.samples[some], self.images[some], self.labels[some], ())


def batches(
    samples: NumberedSamples, grid: Sequence[Sequence[int]], *, workers: int = 0, pin: bool = False
) -> Generator[Batch, None, None]:
    """Yield the batches of a grid of sample numbers, in its order, whatever the number of workers.

    Where an error may end the loop over them, they are to be closed, which ends the workers.

    Parameters
    ----------
    samples : NumberedSamples
        With a form, so that it does not depend on the batch which samples can be used.
    grid : sequence of sequence of int
    workers : int, optional
        Processes that read; 0 for this one.
    pin : bool, optional
        Keep the images in page-locked memory.

    Raises
    ------
    InputError
        If a worker ends, or the dataset cannot be sent to workers.
    """
    watched = _Watched(replace(samples, interruptible=False), torch.zeros(max(workers, 1), 3, dtype=torch.long))
    if workers:
        watched.reading.share_memory_()  # type: ignore[no-untyped-call]
    loader: DataLoader[Any] = DataLoader(
        watched,
        batch_sampler=[list(numbers) for numbers in grid],
        num_workers=workers,
        collate_fn=_collated,
        pin_memory=pin,
        worker_init_fn=become_worker if workers else None,
        generator=torch.Generator(),  # without one of its own, a loader draws the seed of its workers from torch's
    )
    with without_torchs_handler() as settle:
        source = _started(loader)
        settle()
        watch = WorkerWatch(watched.reading[:, _PID].tolist)
        try:
            for numbers in grid:
                try:
                    with watch:
                        batch = next(source)
                except Exception as error:
                    if workers and isinstance(error, (OSError, EOFError)):
                        watch.wait(seconds=1)  # a broken connection: its worker ends
                    raise InputError(_ended(error, watch, watched.reading, numbers)) from error
                yield batch
        finally:
            _end_workers(source)
            del source


def _end_workers(source: Iterator[Batch]) -> None:
    """End the workers of a loader, if it has any.

    They would end with their iterator, which lives as long as a traceback refers to it; and if it is the garbage
    collector that ends them, torch waits five seconds for each.
    """
    end = getattr(source, "_shutdown_workers", None)
    if end is not None:
        end()


def _started(loader: DataLoader[Any]) -> Iterator[Batch]:
    """Start the workers of a loader.

    Raises
    ------
    InputError
        If the dataset cannot be sent to them.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own words for the error
            return iter(loader)
    except Exception as error:
        raise InputError(
            f"worker processes cannot be started ({type(error).__name__}: {one_line(str(error))}); read the samples "
            f"with 0 workers"
        ) from error


@dataclass(frozen=True, eq=False)
class _Watched(Dataset[Any]):
    """Samples that note what each worker reads, (worker, pid / first sample / last sample), for the case that it ends.

    Parameters
    ----------
    samples : NumberedSamples
    reading : torch.Tensor
        In memory that all processes share.
    """

    samples: NumberedSamples
    reading: torch.Tensor

    def __len__(self) -> int:
        return len(self.samples)

    def __getitems__(self, numbers: Sequence[int]) -> list[Sample | Failure]:
        worker = get_worker_info()
        if worker is None:
            return self.samples.__getitems__(numbers)
        row = self.reading[worker.id]
        row[_PID] = os.getpid()

        def note(first: int, last: int) -> None:
            row[_FIRST], row[_LAST] = first, last

        return self.samples.read(numbers, note)

    def __reduce__(self) -> Any:
        """Pickle for a process that is started afresh, where modules of ``file.py:factory`` have to be loaded first."""
        return _unpickled, (factory_files(), bytes(ForkingPickler.dumps((self.samples, self.reading))))


def _unpickled(files: list[str], pickled: bytes) -> _Watched:
    load_factory_files(files)
    return _Watched(*pickle.loads(pickled))


def _collated(items: list[Sample | Failure]) -> Batch:
    """Stack what could be read."""
    good = [item for item in items if not isinstance(item, Failure)]
    images = torch.stack([image for _, image, _ in good]) if good else None
    if images is not None and get_worker_info() is not None:
        # Here an error can still be handed to the main process; where the batch is sent it would be lost.
        images = images.cpu().share_memory_()  # type: ignore[no-untyped-call]
    return Batch(
        tuple(number for number, _, _ in good),
        images,
        tuple(label for _, _, label in good),
        tuple(item for item in items if isinstance(item, Failure)),
    )


def _ended(error: Exception, watch: WorkerWatch, reading: torch.Tensor, numbers: Sequence[int]) -> str:
    """Return the sentence about an error of the loader itself: a worker has ended, or the batch cannot be made."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    pids = [watch.ended] if watch.ended else [int(pid) for pid in re.findall(r"pid(?:\(s\))? (\d+)", lines[0])]
    if not pids:
        return f"{_span(numbers[0], numbers[-1])} cannot be read: {one_line(lines[-1])}; resume continues from there"
    notes = [row for row in reading.tolist() if row[_PID] in pids]
    first, last = (notes[0][_FIRST], notes[0][_LAST]) if notes else (numbers[0], numbers[-1])
    return (
        f"a worker process {watch.how} while it read {_span(first, last)}, perhaps for want of memory: fewer workers "
        f"need less; resume continues from there"
    )


def _span(first: int, last: int) -> str:
    return f"sample {first}" if first == last else f"samples {first} to {last}"
