"""Numbered samples from any map-style dataset; a sample that cannot be read is a fact, not a crash."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset
from torchvision.transforms import functional as geometry

from ..errors import CrpKitError, InputError
from ..escapes import one_line
from ..numerics import count_not_finite
from .dataset_names import class_names, sample_names
from .labels import LabelIds, LabelReader, label_ids
from .random_state import random_state_kept, seed

__all__ = ["Failure", "Form", "NumberedSamples", "Sample"]

_IMAGE_KEYS = ("image", "img", "pixel_values", "input")
_LABEL_KEYS = ("label", "labels", "target", "targets")

Sample = tuple[int, torch.Tensor, LabelIds]
"""Number, image and label ids."""
View = Callable[[Any], torch.Tensor]


@dataclass(frozen=True)
class Failure:
    """A sample that cannot be used, and why.

    Parameters
    ----------
    sample : int
    reason : str
        In one line.
    fatal : bool
        Whether it is no fault of the sample, such as a want of memory, so that leaving it out would make the result
        depend on the circumstances.
    """

    sample: int
    reason: str
    fatal: bool = False


@dataclass(frozen=True)
class Form:
    """What all samples of a pass have in common.

    Samples of several sizes could be passed one at a time, but not in batches: which samples a result is of would
    depend on the batch size, and positions in maps of several sizes could not be compared.

    Parameters
    ----------
    shape : tuple of int
        (channel, height, width) of images.
    dtype : torch.dtype
    """

    shape: tuple[int, ...]
    dtype: torch.dtype

    @classmethod
    def usual(cls, images: Sequence[torch.Tensor], preferred: tuple[int, ...] | None = None) -> Form:
        """Return the form that most of some images have.

        Parameters
        ----------
        images : sequence of torch.Tensor
            At least one.
        preferred : tuple of int, optional
            The shape that counts where as many images have it as another; else the shape of the first image does.
        """
        shapes = Counter(tuple(image.shape) for image in images)
        shape = max(shapes, key=lambda one: (shapes[one], one == preferred))
        dtypes = Counter(image.dtype for image in images if tuple(image.shape) == shape)
        return cls(shape, max(dtypes, key=lambda one: dtypes[one]))

    def fitted(self, image: torch.Tensor) -> torch.Tensor:
        """Return an image in this form: of another floating-point type it is cast.

        Raises
        ------
        InputError
            If it has another shape, or its numbers are of another kind.
        """
        if tuple(image.shape) != self.shape:
            resized = image.ndim == len(self.shape) > 1 and len(image) == self.shape[0]
            hint = "; give all one size, by a transform of the dataset, or of pictures by crp_kit.data.Preprocess"
            raise InputError(
                f"its shape is {tuple(image.shape)} and that of the other samples {self.shape}{hint if resized else ''}"
            )
        if image.dtype != self.dtype and not (image.is_floating_point() and self.dtype.is_floating_point):
            raise InputError(f"its values are {image.dtype} and those of the other samples {self.dtype}")
        return image.to(self.dtype)


@dataclass(frozen=True, eq=False)
class NumberedSamples(Dataset[Any]):
    """A dataset whose samples come as (number, image, label ids), or as a `Failure`.

    Random numbers that a dataset draws from the generators of torch, NumPy or Python depend on the number of the sample
    alone, and the states of these generators stay as they are.

    Parameters
    ----------
    dataset : map-style dataset
        Gives ``(image, label)`` or a dictionary with both, as Hugging Face datasets do. An image is a tensor (channel,
        height, width), floating point or uint8; a picture of Pillow; or a NumPy array (height, width, channel) of
        uint8. A label is a class id, several of them, or a vector of zeros and ones.
    view : callable, optional
        Makes a tensor with values in [0, 1] from a picture of Pillow, and from an array of uint8.
    labels : callable, optional
        From a label, as the dataset gives it, to class ids.
    form : Form, optional
        A sample of another one is a failure.
    interruptible : bool, optional
        Whether ``KeyboardInterrupt`` is the user's, not an error of the dataset.
    """

    dataset: Any
    view: View | None = None
    labels: LabelReader = label_ids
    form: Form | None = None
    interruptible: bool = True

    def __len__(self) -> int:
        try:
            return len(self.dataset)
        except Exception as error:
            raise InputError(f"the dataset has no length: {_reason(error)}") from error

    def __getitem__(self, number: int) -> Sample | Failure:
        with random_state_kept():
            return self._sample(number)

    def __getitems__(self, numbers: Sequence[int]) -> list[Sample | Failure]:
        """Give several samples, through the dataset's own way of giving several where that works."""
        return self.read(numbers, lambda first, last: None)

    def read(self, numbers: Sequence[int], note: Callable[[int, int], object]) -> list[Sample | Failure]:
        """Give several samples, and say of each, or of all at once, what is read next: the first and last number."""
        with random_state_kept():
            items = self._several(numbers, note) if hasattr(self.dataset, "__getitems__") and numbers else None
            if items is not None:
                return items
            items = []
            for number in numbers:
                note(number, number)
                items.append(self._sample(number))
            return items

    def _several(self, numbers: Sequence[int], note: Callable[[int, int], object]) -> list[Sample | Failure] | None:
        """Give several samples as the dataset does; None where that fails, since it does not say for which."""
        note(numbers[0], numbers[-1])
        seed(numbers[0])
        try:
            items = self.dataset.__getitems__(list(numbers))
            return [self._read(number, item) for number, item in zip(numbers, items, strict=True)]
        except KeyboardInterrupt:
            if self._is_interrupted():
                raise
        except BaseException:  # noqa: BLE001 - each is read alone then, with its own reason
            pass
        return None

    def _sample(self, number: int) -> Sample | Failure:
        seed(number)
        try:
            return self._read(number, self.dataset[number])
        except KeyboardInterrupt as error:
            if self._is_interrupted():
                raise KeyboardInterrupt(f"interrupted while sample {number} was read") from error
            return Failure(number, _reason(error), fatal=True)
        except BaseException as error:  # noqa: BLE001 - a dataset may fail in any way
            return Failure(number, _reason(error), fatal=isinstance(error, MemoryError) or not _is_usual(error))

    def _is_interrupted(self) -> bool:
        """Return whether Ctrl-C raises KeyboardInterrupt here: it does not where signals are noted or ignored."""
        return self.interruptible or signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def _read(self, number: int, item: Any) -> Sample:
        image, label = _parts(item)
        tensor = self._tensor(image)
        return number, tensor if self.form is None else self.form.fitted(tensor), self.labels(label)

    def _tensor(self, image: Any) -> torch.Tensor:
        if isinstance(image, Image.Image):
            image = geometry.to_tensor(image) if self.view is None else self.view(image)
        elif isinstance(image, np.ndarray):
            if image.dtype == np.uint8:
                image = geometry.to_tensor(image) if self.view is None else self.view(image)
            else:
                image = torch.from_numpy(_native(image))
        if not isinstance(image, torch.Tensor):
            raise InputError(f"an image is a tensor, a picture of Pillow or an array; got {type(image).__name__}")
        if image.layout != torch.strided or image.is_complex() or image.is_quantized or image.is_meta:
            kind = "a meta tensor" if image.is_meta else f"{image.layout}, {image.dtype}"
            raise InputError(f"an image is a dense tensor of real numbers; got {kind}")
        # What a dataset computed with gradients cannot be sent from a worker, and means nothing to a pass.
        tensor = image.detach().as_subclass(torch.Tensor)
        tensor = tensor / 255 if tensor.dtype == torch.uint8 else tensor
        bad = count_not_finite(tensor)
        if bad:
            raise InputError(f"the image has {bad} values that are NaN or infinite (of {tensor.numel()})")
        return tensor

    def first_image(self) -> torch.Tensor:
        """Return the first image that can be read, as a batch: (1, channel, height, width).

        Raises
        ------
        InputError
            If none can be read; the message says why of the first.
        """
        return self.first()[1][None]

    def first(self, numbers: Iterable[int] | None = None) -> Sample:
        """Return the first sample that can be read.

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
                return sample
            reason = reason or f"; sample {sample.sample}: {sample.reason}"
        raise InputError(f"no sample can be read{reason}")

    def identifiers(self) -> list[str] | None:
        """Return a name for every sample, such as a path in its folder, or ``None`` where the dataset has none."""
        return sample_names(self.dataset, len(self))

    def class_names(self) -> tuple[str, ...]:
        """Return the names of the classes that the dataset has, if it has any."""
        return class_names(self.dataset)


def _native(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return an array as torch takes it: in the byte order of the machine (FITS has another), and no view of a file."""
    usable = array.dtype.isnative and array.flags.writeable and min(array.strides, default=0) >= 0
    return array if usable else array.astype(array.dtype.newbyteorder("="), order="C")


def _is_usual(error: BaseException) -> bool:
    """Return whether an error is one that a sample may cause, not an exit."""
    return isinstance(error, Exception)


def _reason(error: BaseException) -> str:
    """Return the message of an error as one line, with the name of its class where it is not crp-kit's own."""
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - of somebody else's class
        message = "its message cannot be shown"
    kind = "" if isinstance(error, CrpKitError) else type(error).__name__
    return one_line(": ".join(filter(None, [kind, message])))


def _parts(item: Any) -> tuple[Any, Any]:
    """Return image and label of what a dataset gives for a sample."""
    if isinstance(item, Mapping):
        image = next((item[key] for key in _IMAGE_KEYS if key in item), None)
        if image is None:
            raise InputError(
                f"a sample that is a dictionary needs an image under one of {', '.join(_IMAGE_KEYS)}; "
                f"it has {', '.join(map(str, item)) or 'nothing'}"
            )
        return image, next((item[key] for key in _LABEL_KEYS if key in item), None)
    if isinstance(item, (tuple, list)):
        if not item:
            raise InputError("a sample is an image, or an image and its label; got an empty tuple or list")
        return item[0], item[1] if len(item) > 1 else None
    return item, None
