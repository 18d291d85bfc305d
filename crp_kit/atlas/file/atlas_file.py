"""An open atlas file: what it was made from, its samples, classes and layers. Only what is asked for is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ...class_names import class_number
from ...errors import AtlasError, InputError
from ...printable import printable
from .attribute_columns import StoredAttributes
from .header import Header
from .reader import open_atlas, read_classes, read_failures, read_header, read_layers, read_progress, read_seen

__all__ = ["AtlasFile"]

Column = npt.NDArray[Any]
Self = TypeVar("Self", bound="AtlasFile")


class AtlasFile:
    """An atlas file that is open for reading. Many may read at once.

    Parameters
    ----------
    path : str or Path
        The atlas file, or a part of an atlas if `incomplete`.
    incomplete : bool, optional
        Accept a shard, or what an interrupted build has kept (``NAME.partial/checkpoint.h5``).

    Raises
    ------
    AtlasError
        If there is no such file, or it is no sound atlas, of a newer version, or not complete.
    """

    def __init__(self, path: str | Path, *, incomplete: bool = False) -> None:
        self.path = Path(path)
        self.hdf5 = open_atlas(path, incomplete=incomplete)
        self.header: Header = read_header(self.hdf5)
        self._infos = {info.name: (number, info) for number, info in enumerate(read_layers(self.hdf5))}
        progress = read_progress(self.hdf5)
        self._state = "" if self.complete else f" (batches {progress.first} to {progress.done} of {progress.batches})"

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. What was read stays."""
        self._state = " (closed)"
        self.hdf5.close()

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers, in graph order."""
        return tuple(self._infos)

    @property
    def complete(self) -> bool:
        """Whether every sample that was asked for has been looked at."""
        return bool(self.metadata["complete"])

    @cached_property
    def metadata(self) -> Mapping[str, Any]:
        """Everything that the file says of itself: model, rules, data, versions."""
        return self.hdf5.attributes("/")

    @cached_property
    def identity(self) -> str:
        """SHA-256 of what it was made from and how: the same whatever is added to the file later."""
        added = {"matrix", "matrix_dtype"}
        made = {name: value for name, value in self.header.attributes().items() if name not in added}
        layers = [[info.name, info.concept, info.n_concepts, *info.output_shape] for _, info in self._infos.values()]
        return hashlib.sha256(json.dumps([made, layers], sort_keys=True, default=str).encode()).hexdigest()

    @cached_property
    def samples(self) -> Column:
        """Numbers of the samples in the dataset, ascending: (sample,)."""
        samples: Column = self.hdf5.array("/samples/index")[:]
        return samples

    @cached_property
    def targets(self) -> Column:
        """First target of each sample, -1 for none: (sample,). In an atlas without classes all are of one number."""
        return self._class_numbers("target")

    @cached_property
    def predictions(self) -> Column:
        """Predicted class of each sample, -1 where it was not looked at: (sample,)."""
        return self._class_numbers("prediction")

    def _class_numbers(self, name: str) -> Column:
        numbers: Column = self.hdf5.array(f"/samples/{name}")[:]
        if ((numbers < -1) | (numbers >= self.header.n_classes)).any():
            raise AtlasError(f"{self.path} is damaged: a {name} of its samples is no class")
        return numbers

    @cached_property
    def labels(self) -> Column:
        """First label of each sample, -1 for none: (sample,).

        Raises
        ------
        AtlasError
            If relevance started elsewhere than at the labels, and the file is without them, as older ones are.
        """
        if self.hdf5.has("/samples/label"):
            return self._class_numbers("label")
        if self.header.target != "label":
            raise AtlasError(f"{self.path} holds no labels: its targets are {self.header.target!r}; build it anew")
        return self.targets

    @cached_property
    def top_predictions(self) -> tuple[Column, Column]:
        """The five most probable classes of each sample, or all if there are fewer, and their probabilities.

        Both are (sample, rank), the most probable class first; -1 and not-a-number for a sample that was left out. The
        probability is the softmax of the outputs; of outputs with several positions, of their mean over positions.

        Raises
        ------
        AtlasError
            If the file is without them: it is older, or the model has a single output, from which no probability
            follows.
        """
        if not self.hdf5.has("/samples/top_class"):
            reason = "its model has one output" if self.header.n_classes < 2 else "build it anew"
            raise AtlasError(f"{self.path} holds no probabilities of classes: {reason}")
        return self.hdf5.array("/samples/top_class")[:], self.hdf5.array("/samples/top_probability")[:]

    @cached_property
    def energies(self) -> Column:
        """Energy of each sample: minus the logsumexp of the outputs of all classes, (sample,).

        Not-a-number for a sample that was left out, and where classes have no outputs of their own, as of detectors. Of
        outputs with several positions it is that of their mean over positions.

        Raises
        ------
        AtlasError
            If the file is without: it is older, or the model has a single output.
        """
        if not self.hdf5.has("/samples/logsumexp"):
            reason = "its model has one output" if self.header.n_classes < 2 else "build it anew"
            raise AtlasError(f"{self.path} holds no energies: {reason}")
        energies: Column = -self.hdf5.array("/samples/logsumexp")[:]
        return energies

    @cached_property
    def attributes(self) -> Mapping[str, Column]:
        """What else is known of the samples, by name: (sample,) each, in the order of `samples`.

        Truth values are booleans; if some are missing, floats: 1, 0, and not-a-number for those. Numbers are floats,
        not-a-number where missing. Text is strings (an array of objects), empty where missing.
        """
        with self.hdf5.explained():
            return StoredAttributes(self.hdf5)

    @cached_property
    def identifiers(self) -> tuple[str, ...] | None:
        """Names of the samples, such as paths, if the dataset had any."""
        return self.hdf5.strings("/samples/id") if self.hdf5.has("/samples/id") else None

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; their numbers, where no names are known."""
        return read_classes(self.hdf5) or tuple(map(str, range(self.header.n_classes)))

    @cached_property
    def seen(self) -> Column:
        """Numbers of the classes that have samples, ascending; in a file of an older version of all: (class,).

        The rows of rankings and moments by class in `ScoreAtlas.arrays` are those of these classes.
        """
        return read_seen(self.hdf5)

    @cached_property
    def skipped(self) -> Mapping[int, str]:
        """Samples that were left out, and why."""
        return read_failures(self.hdf5)

    def class_number(self, cls: int | str) -> int:
        """Return the number of a class that is named by number, name or part of a name.

        Parameters
        ----------
        cls : int or str
            Number of the class, from 0, or its name.

        Returns
        -------
        int

        Raises
        ------
        ConceptRangeError
            If there is no such number.
        InputError
            If there is no class, or more than one, of this name.
        """
        return class_number(cls, self.classes, self.header.n_classes)

    @property
    def has_classes(self) -> bool:
        """Whether relevance starts from classes, and not from a value, a similarity or a function of every output."""
        return not self.header.no_classes

    def check_classes(self, question: str) -> None:
        """Make sure that relevance starts from classes, which a question is about.

        Parameters
        ----------
        question : str
            What there is none of without classes, such as ``"means by class"``.

        Raises
        ------
        InputError
            If samples have no classes.
        """
        if not self.has_classes:
            raise InputError(
                f"{self.path} has no classes: relevance starts from {printable(self.header.target)} in every sample, "
                f"so that there are no {question}; ask for selections of samples, made by atlas.where(...)"
            )

    def check_belongs(self, *, model_sha256: str | None = None, dataset_sha256: str | None = None) -> None:
        """Make sure that the atlas was made from a model and a dataset.

        Parameters
        ----------
        model_sha256 : str, optional
            SHA-256 of the model's state dict; not compared by default.
        dataset_sha256 : str, optional
            Fingerprint of the dataset; not compared by default.

        Raises
        ------
        AtlasError
            If it was made from others.
        """
        if model_sha256 is not None and model_sha256 != self.header.model_sha256:
            raise AtlasError(
                f"{self.path} was made from a model with other weights ({self.header.model}) than the one given; "
                f"load those, or build an atlas of this model"
            )
        if dataset_sha256 is not None and dataset_sha256 != self.header.dataset_sha256:
            raise AtlasError(
                f"{self.path} was made from another dataset ({self.header.dataset}) than the one given, or from other "
                f"views of its images; give that one, with the same preprocess"
            )

    def places(self, samples: Column) -> Column:
        """Return the indices of samples in `samples`, `targets` and `predictions`.

        Parameters
        ----------
        samples : numpy.ndarray
            Numbers of samples in the dataset, each one in the atlas: (sample,).

        Returns
        -------
        numpy.ndarray
            (sample,).

        Raises
        ------
        AtlasError
            If the atlas has no such sample, as where a ranking in it is damaged.
        """
        indices: Column = np.searchsorted(self.samples, samples)
        strange = samples[~np.isin(samples, self.samples)]
        if len(strange):
            raise AtlasError(f"{self.path} has no sample {strange[0]}: crp-kit atlas verify says whether it is damaged")
        return indices
