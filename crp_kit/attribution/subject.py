"""Subject of analyses: a model with its data, preprocessing, rules, concepts and class names."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..class_names import class_number
from ..concepts import Concept
from ..conditions import OUTPUT
from ..data.image_files import warn_of_rotation
from ..data.input_range import input_range
from ..data.labels import label_or_none
from ..data.pixels import refuse_file_name
from ..data.preprocess import Normalise, Preprocess, preprocessing
from ..data.samples import Failure, NumberedSamples
from ..errors import CrpKitWarning, InputError
from ..models.weights import device_and_dtype
from ..rules.presets import BOX, GRADIENT, Composite
from ..targets import Target
from .cond_attribution import CondAttribution

__all__ = ["Subject", "rules_name", "rules_of"]

Concepts = Concept | Mapping[str, Concept] | None
_FARTHEST = 100.0
"""Standard deviations from the mean that no picture with values in [0, 1] reaches."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A model together with its data, preprocessing, rules, concepts and class names.

    Parameters
    ----------
    attribution : CondAttribution
        Of the model.
    composite : zennit Composite or None
        Rules; None for plain gradients.
    rules_name : str
        The name of the composite, for titles.
    dataset : map-style dataset or None
        Gives ``(image, label)`` or dictionaries with both, images before normalisation.
    preprocess : callable, Preprocess or None
        From a batch of such images to model inputs.
    concepts : Concept, dict of str to Concept, or None
        What a concept is, for all layers or by layer; channels by default.
    classes : tuple of str
        Names of the model's classes; empty where none are known.
    classes_are_datas : bool
        Whether these are the dataset's, which are the model's only if they fit.
    """

    attribution: CondAttribution
    composite: Composite | None
    rules_name: str = ""
    dataset: Any = None
    preprocess: Preprocess | Normalise | None = None
    concepts: Concepts = None
    classes: tuple[str, ...] = ()
    classes_are_datas: bool = False

    @property
    def model(self) -> torch.nn.Module:
        """The model itself."""
        return self.attribution.model

    def with_rules(self, composite: Composite | str | None) -> Subject:
        """Return the same subject under other rules.

        Raises
        ------
        CompositeError
            If there is no such composite.
        """
        rules = rules_of(self.attribution, composite, self.preprocess, self.dataset)
        return replace(self, composite=rules, rules_name=rules_name(composite))

    @cached_property
    def normalise(self) -> Normalise:
        """From a batch of images, as the dataset gives them, to model inputs."""
        return preprocessing(self.preprocess)[1]

    @cached_property
    def samples(self) -> NumberedSamples:
        """The dataset's samples by number; a label that is no class is none.

        Raises
        ------
        InputError
            If there is no dataset.
        """
        if self.dataset is None:
            raise InputError("this needs a dataset: make the study with one, Study(model, data, …)")
        return NumberedSamples(self.dataset, preprocessing(self.preprocess)[0], labels=label_or_none)

    def images(self, images: Any) -> Any:
        """Return images as a batch, before normalisation.

        Parameters
        ----------
        images : torch.Tensor, PIL image, array, path, sequence of these, tuple or dict
            A batch; or one image, as the dataset gives it, where the number of axes of a sample is known (from
            `Preprocess` or the dataset). A `Preprocess` opens files, and resizes and crops pictures and arrays of bytes
            (uint8), (height, width, channel). Tuples and dictionaries are inputs of the model's forward and stay as
            they are.

        Raises
        ------
        InputError
            If an image cannot be read, or there is no `Preprocess` that opens files.
        """
        is_photo = self._is_photo(images)
        batch = is_photo and isinstance(images, np.ndarray) and images.ndim == 4
        listed = isinstance(images, Sequence) and not isinstance(images, str) and bool(images)
        if batch or (listed and all(map(self._is_photo, images))):
            images = _stacked([self._read(image) for image in images])
        elif is_photo or isinstance(images, np.ndarray):
            image = self._read(images)
            images = image[None] if is_photo else image
        if not isinstance(images, torch.Tensor):
            return images
        if images.is_meta:
            raise InputError("the image is a meta tensor, which has no values")
        images = images / 255 if images.dtype == torch.uint8 else images
        return images[None] if images.ndim == self._sample_axes else images

    def _is_photo(self, image: Any) -> bool:
        """Return whether this is one picture for certain, whatever its size: its name, or what it holds."""
        is_bytes = isinstance(image, np.ndarray) and image.dtype == np.uint8
        return isinstance(image, (Image.Image, str, Path)) or (is_bytes and isinstance(self.preprocess, Preprocess))

    def _read(self, image: Any) -> torch.Tensor:
        if isinstance(image, (str, Path)) and isinstance(self.preprocess, Preprocess):
            return self.preprocess.read(image)
        refuse_file_name(image)
        warn_of_rotation(image)
        sample = NumberedSamples([(image, None)], preprocessing(self.preprocess)[0])[0]
        if isinstance(sample, Failure):
            raise InputError(sample.reason)
        return sample[1]

    @cached_property
    def _sample_axes(self) -> int | None:
        """Number of axes of one sample, the batch axis not counted, if that is known."""
        if isinstance(self.preprocess, Preprocess):
            return self.preprocess.axes + 1
        return None if self.dataset is None else self.samples.first_image().ndim - 1

    def inputs(self, images: Any) -> Any:
        """Return model inputs, (sample, channel, height, width) for images, on the model's device.

        Raises
        ------
        InputError
            If the preprocessing does not return a batch.
        """
        batch = self.images(images)
        if self.preprocess is None or not isinstance(batch, torch.Tensor):
            return batch
        inputs = self.normalised(batch)
        self._warn_of_range(inputs)
        return inputs

    def _warn_of_range(self, inputs: torch.Tensor) -> None:
        """Warn of inputs so far from the mean that the images were hardly values in [0, 1]."""
        scaled = isinstance(self.preprocess, Preprocess) and self.preprocess.axes == 2 and max(self.preprocess.std) < 1
        farthest = float(inputs.abs().max()) if scaled and inputs.numel() else 0.0
        if farthest > _FARTHEST:
            warnings.warn(
                f"images are up to {farthest:.0f} standard deviations from the mean of the Preprocess, "
                f"whose mean and std are for values in [0, 1]: divide images of 0 to 255 by 255",
                CrpKitWarning,
                stacklevel=3,
            )

    def normalised(self, batch: torch.Tensor) -> torch.Tensor:
        """Return model inputs of a batch of images, as the dataset gives them, of the model's device and dtype.

        Raises
        ------
        InputError
            If the preprocessing does not return a batch.
        """
        inputs = self.normalise(batch)
        if not isinstance(inputs, torch.Tensor) or inputs.shape[:1] != batch.shape[:1]:
            shown = tuple(inputs.shape) if isinstance(inputs, torch.Tensor) else type(inputs).__name__
            raise InputError(f"preprocess takes a batch of images and returns a batch; {len(batch)} gave {shown}")
        return inputs.to(*device_and_dtype(self.model), non_blocking=True)

    def class_number(self, cls: int | str) -> int:
        """Return the number of a class given by number, name, or a part of the name."""
        return class_number(cls, self.classes)

    def conditions(self, conditions: Any) -> Any:
        """Return condition sets in which classes of ``"y"`` given by name have their numbers."""
        if isinstance(conditions, Mapping):
            return {name: self._classes(ids) if name == OUTPUT else ids for name, ids in conditions.items()}
        listed = isinstance(conditions, Sequence) and not isinstance(conditions, str)
        return [self.conditions(condition) for condition in conditions] if listed else conditions

    def _classes(self, ids: Any) -> Any:
        if isinstance(ids, Sequence) and not isinstance(ids, str):
            classes = [self._class(cls) for cls in ids]
            return list(dict.fromkeys(classes)) if any(isinstance(cls, str) for cls in ids) else classes
        return self._class(ids)

    def _class(self, cls: Any) -> Any:
        """Return a class that is named by its number, and a target with the numbers of its classes."""
        if isinstance(cls, Target):
            return cls.numbered(self.class_number)
        return self.class_number(cls) if isinstance(cls, str) else cls


def rules_name(composite: Composite | str | None) -> str:
    """Return the name of rules, for titles."""
    return composite if isinstance(composite, str) else GRADIENT if composite is None else type(composite).__name__


def rules_of(
    attribution: CondAttribution, composite: Composite | str | None, preprocess: Any, data: Any
) -> Composite | None:
    """Return the composite of a name, with the range of the model's inputs where it needs that."""
    if composite != BOX:
        return attribution.resolve_composite(composite)
    device = device_and_dtype(attribution.model)[0]
    low, high = input_range(preprocess, lambda: _first_image(data, preprocess))
    return attribution.resolve_composite(composite, input_range=(low.to(device), high.to(device)))


def _first_image(data: Any, preprocess: Any) -> torch.Tensor:
    """Return the first image of the data, or what images have that are not known: three channels."""
    if data is None:
        return torch.zeros(1, 3, 8, 8)
    return NumberedSamples(data, preprocessing(preprocess)[0]).first_image()


def _stacked(images: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return images as a batch, if they have one shape."""
    shapes = list(dict.fromkeys(tuple(image.shape) for image in images))
    if len(shapes) > 1:
        raise InputError(f"the images of a batch have one shape; got {shapes[0]} and {shapes[1]}: give them one by one")
    return torch.stack(list(images))
