"""Numbered samples from any map-style dataset, in batches; a sample that cannot be read is a fact, not a crash."""

from __future__ import annotations

import hashlib
import math
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import functional as geometry

from ..errors import CrpKitError, InputError
from ..numerics import count_not_finite

__all__ = ["Batch", "Failure", "NumberedSamples", "batches", "fingerprint"]

_IMAGE_KEYS = ("image", "img", "pixel_values", "input")
_LABEL_KEYS = ("label", "labels", "target", "targets")
_PROBED = 16
"""Samples whose content goes into a fingerprint."""

View = Callable[[Image.Image], torch.Tensor]


@dataclass(frozen=True)
class Failure:
    """A sample that cannot be used, and why.

    Parameters
    ----------
    sample : int
    reason : str
    """

    sample: int
    reason: str


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
    labels: tuple[tuple[int, ...] | None, ...]
    failures: tuple[Failure, ...]

    def parts(self, size: int) -> Iterator[Batch]:
        """Yield the samples that could be read in as few parts as possible: of one size, which is at most `size`."""
        if self.images is not None:
            count = len(self.samples)
            even = -(-count // -(-count // size))
            for first in range(0, count, even):
                some = slice(first, first + even)
                yield Batch(self.samples[some], self.images[some], self.labels[some], ())


@dataclass(frozen=True, eq=False)
class NumberedSamples(Dataset[Any]):
    """A dataset whose samples come as (number, image, label ids), or as a `Failure`.

    Parameters
    ----------
    dataset : map-style dataset
        Gives ``(image, label)`` or a dictionary with both, as Hugging Face datasets do. An image is a tensor (channel,
        height, width), floating point or uint8; a picture of Pillow; or a NumPy array (height, width, channel) of
        uint8. A label is a class id, several of them, or a vector of zeros and ones.
    view : callable, optional
        Makes a tensor with values in [0, 1] from a picture of Pillow.
    """

    dataset: Any
    view: View | None = None

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, number: int) -> tuple[int, torch.Tensor, tuple[int, ...] | None] | Failure:
        try:
            return self._read(number, self.dataset[number])
        except (KeyboardInterrupt, SystemExit, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001 - a dataset may fail in any way
            kind = "" if isinstance(error, CrpKitError) else f"{type(error).__name__}: "
            return Failure(number, _writable(f"{kind}{error}"))

    def __getitems__(self, numbers: Sequence[int]) -> list[Any]:
        """Give several samples, through the dataset's own way of giving several where that works."""
        if hasattr(self.dataset, "__getitems__"):
            try:
                found = self.dataset.__getitems__(list(numbers))
                return [self._read(number, one) for number, one in zip(numbers, found, strict=True)]
            except (KeyboardInterrupt, SystemExit, MemoryError):
                raise
            except Exception:  # noqa: BLE001 - asked again one by one, to find which
                return [self[number] for number in numbers]
        return [self[number] for number in numbers]

    def _read(self, number: int, given: Any) -> tuple[int, torch.Tensor, tuple[int, ...] | None]:
        image, label = _parts(given)
        return number, self._tensor(image), label_ids(label)

    def _tensor(self, image: Any) -> torch.Tensor:
        if isinstance(image, Image.Image):
            image = geometry.to_tensor(image) if self.view is None else self.view(image)
        elif isinstance(image, np.ndarray):
            image = geometry.to_tensor(image) if image.dtype == np.uint8 else torch.from_numpy(image)
        if not isinstance(image, torch.Tensor):
            raise InputError(f"an image is a tensor, a picture of Pillow or an array; got {type(image).__name__}")
        tensor: torch.Tensor = image / 255 if image.dtype == torch.uint8 else image
        bad = count_not_finite(tensor)
        if bad:
            raise InputError(f"the image has {bad} values that are NaN or infinite (of {tensor.numel()})")
        return tensor

    def first_image(self, numbers: Iterable[int] | None = None) -> torch.Tensor:
        """Return the first image that can be read, as a batch: (1, channel, height, width).

        Parameters
        ----------
        numbers : iterable of int, optional
            The samples to look at; all by default.

        Raises
        ------
        InputError
            If none can be read; the message says why of the first.
        """
        reason = ""
        for number in range(len(self)) if numbers is None else numbers:
            sample = self[int(number)]
            if not isinstance(sample, Failure):
                return sample[1][None]
            reason = reason or f"; sample {sample.sample}: {sample.reason}"
        raise InputError(f"no sample can be read{reason}")

    def identifiers(self) -> list[str] | None:
        """Return a name for every sample, such as a path in its folder, or ``None`` where the dataset has none."""
        kept = (getattr(self.dataset, name, None) for name in ("samples", "imgs"))
        files = next((one for one in kept if isinstance(one, Sequence)), ())
        if not files or len(files) != len(self) or not all(_is_file_entry(one) for one in files):
            return None
        root = Path(str(getattr(self.dataset, "root", "")))
        return [_writable(_relative(Path(str(one[0])), root)) for one in files]

    def class_names(self) -> tuple[str, ...]:
        """Return the names of the classes that the dataset has, if it has any."""
        names = getattr(self.dataset, "classes", None)
        several = isinstance(names, Sequence) and not isinstance(names, str)
        return tuple(", ".join(one) if isinstance(one, tuple) else str(one) for one in names or ()) if several else ()


def _is_file_entry(entry: Any) -> bool:
    return isinstance(entry, (tuple, list)) and bool(entry) and isinstance(entry[0], (str, Path))


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def _writable(text: str) -> str:
    """Return a text that can be written as UTF-8, as file names need not be: what cannot is spelt out."""
    return text.encode("utf-8", "backslashreplace").decode()


def _parts(given: Any) -> tuple[Any, Any]:
    """Return image and label of what a dataset gives for a sample."""
    if isinstance(given, Mapping):
        image = next((given[key] for key in _IMAGE_KEYS if key in given), None)
        if image is None:
            raise InputError(
                f"a sample that is a dictionary needs an image under one of {', '.join(_IMAGE_KEYS)}; "
                f"it has {', '.join(map(str, given))}"
            )
        return image, next((given[key] for key in _LABEL_KEYS if key in given), None)
    if isinstance(given, (tuple, list)):
        return given[0], given[1] if len(given) > 1 else None
    return given, None


def label_ids(label: Any) -> tuple[int, ...] | None:
    """Return the class ids that a label means, or ``None`` where there is none.

    A vector of floats or booleans with several entries is read as zeros and ones; a list or a vector of whole numbers
    as class ids. ``None``, a negative number and not-a-number mean that there is no label.
    """
    if label is None or isinstance(label, str):
        if isinstance(label, str):
            raise InputError(f"a label is a class id or several; got the text {label!r}")
        return None
    try:
        values = torch.as_tensor(label)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"a label is a class id or several; got {label!r:.80}") from error
    if values.ndim > 1 and values.numel() > 1:
        raise InputError(f"a label is a class id, several, or a vector of zeros and ones; got {tuple(values.shape)}")
    flat = values.reshape(-1)
    if values.ndim and flat.numel() > 1 and (values.is_floating_point() or values.dtype == torch.bool):
        if not bool(((flat == 0) | (flat == 1)).all()):
            raise InputError("a label vector holds zeros and ones, or whole numbers that are class ids")
        return tuple(flat.nonzero().flatten().tolist())
    numbers = flat.tolist()
    if any(math.isnan(one) or one < 0 for one in numbers):
        return None
    if any(math.isinf(one) or one != int(one) for one in numbers):
        raise InputError(f"a label is a whole number, the class id; got {label!r}")
    return tuple(dict.fromkeys(map(int, numbers)))


def batches(
    samples: NumberedSamples, grid: Sequence[Sequence[int]], *, workers: int = 0, pin: bool = False
) -> Iterator[Batch]:
    """Yield the batches of a grid of sample numbers, in its order, whatever the number of workers."""
    loader: DataLoader[Any] = DataLoader(
        samples,
        batch_sampler=[list(numbers) for numbers in grid],
        num_workers=workers,
        collate_fn=_collated,
        pin_memory=pin,
        worker_init_fn=_ignore_interrupt if workers else None,
    )
    yield from loader


def _ignore_interrupt(_: int) -> None:
    """Leave Ctrl-C to the main process, which ends its workers when it has saved what there is."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _collated(read: list[Any]) -> Batch:
    """Stack what could be read; an image of another shape than the first cannot be used in its batch."""
    good = [one for one in read if not isinstance(one, Failure)]
    failures = [one for one in read if isinstance(one, Failure)]
    fitting = [one for one in good if one[1].shape == good[0][1].shape]
    failures += [
        Failure(number, f"its shape is {tuple(image.shape)} and that of its batch {tuple(good[0][1].shape)}")
        for number, image, _ in good
        if image.shape != good[0][1].shape
    ]
    return Batch(
        tuple(number for number, _, _ in fitting),
        torch.stack([image for _, image, _ in fitting]) if fitting else None,
        tuple(label for _, _, label in fitting),
        tuple(failures),
    )


def fingerprint(samples: NumberedSamples) -> str:
    """Return a SHA-256 of a dataset: its length, its samples' names, and images and labels of a few, evenly spread."""
    digest = hashlib.sha256(f"{len(samples)}\n".encode())
    for name in samples.identifiers() or ():
        digest.update(f"{name}\n".encode())
    numbers = np.unique(np.linspace(0, len(samples) - 1, min(_PROBED, len(samples))).astype(int)).tolist()
    for read in (samples[number] for number in numbers):
        if isinstance(read, Failure):
            digest.update(f"{read.sample} cannot be read\n".encode())
        else:
            number, image, label = read
            digest.update(f"{number} {tuple(image.shape)} {image.dtype} {label}\n".encode())
            digest.update(image.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
