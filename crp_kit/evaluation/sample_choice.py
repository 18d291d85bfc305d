"""Samples that an evaluation is of: which ones, in which batches, and what is measured of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..attribution.subject import Subject
from ..checks import check_integer
from ..data.batches import Batch, batches
from ..data.labels import label_ids, label_or_none
from ..data.samples import Form
from ..errors import InputError
from ..targets import Target
from .measure import Start, start_of

__all__ = ["SampleChoice", "check_concept_ids"]


@dataclass(frozen=True)
class SampleChoice:
    """Samples that an evaluation is of, checked.

    Parameters
    ----------
    target : {"prediction", "label"} or Target
        Which class of a sample is measured, or which target of each; see `of`.
    limit : int or None
        The first so many samples only.
    batch_size : int
        Samples that share a forward.
    """

    target: Start | Target = "prediction"
    limit: int | None = None
    batch_size: int = 16

    def __post_init__(self) -> None:
        if self.limit is not None:
            check_integer("limit", self.limit, low=1)
        check_integer("batch_size", self.batch_size, low=1)

    @classmethod
    def of(cls, subject: Subject, target: str | Target, limit: int | None, batch_size: int) -> SampleChoice:
        """Return the choice in which a target is as a user gives it: a word, a text, or with classes by name.

        Raises
        ------
        InputError
            If there is no such target, or a number is out of range.
        """
        return cls(start_of(subject, target), limit, batch_size)

    def numbers(self, subject: Subject) -> list[int]:
        """Return the numbers of the samples.

        Raises
        ------
        InputError
            If there is no data.
        """
        count = len(subject.samples)
        if not count:
            raise InputError("the dataset is empty")
        return list(range(count if self.limit is None else min(count, self.limit)))

    def batches(self, subject: Subject, numbers: Sequence[int]) -> Iterator[Batch]:
        """Yield samples in batches.

        Raises
        ------
        InputError
            If one cannot be used.
        """
        reader = label_ids if self.target == "label" else label_or_none
        samples = replace(subject.samples, form=Form.usual([subject.samples.first_image()[0]]), labels=reader)
        size = self.batch_size
        for batch in batches(samples, [numbers[start : start + size] for start in range(0, len(numbers), size)]):
            if batch.failures:
                raise InputError(f"sample {batch.failures[0].sample} cannot be used: {batch.failures[0].reason}")
            yield batch


def check_concept_ids(concept_ids: Sequence[int] | None) -> None:
    """Make sure that at least one concept is chosen; None means all.

    Raises
    ------
    InputError
        If there is none, or it is no sequence.
    """
    if concept_ids is None:
        return
    if isinstance(concept_ids, (str, bytes)) or not isinstance(concept_ids, (Sequence, np.ndarray, range)):
        raise InputError(f"concept_ids is numbers of concepts, such as [3, 8]; got {concept_ids!r}")
    if not len(concept_ids):
        raise InputError("concept_ids is empty; name at least one concept, or leave it out for all")
