"""Arrays of ``/samples`` with one row for each sample: types, widths, and the values that stand for nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .header import Array, Header

__all__ = ["SAMPLE_ARRAYS", "SAMPLE_RANKS", "SampleArray", "sample_arrays"]

SAMPLE_RANKS = 5
"""How many of the most probable classes are kept; fewer, where a model has no more."""


@dataclass(frozen=True)
class SampleArray:
    """One array of ``/samples``.

    Parameters
    ----------
    name : str
    dtype : str
    fill : float
        Of a sample that was not looked at.
    ranked : bool
        Whether it has an axis for the most probable classes behind that for samples.
    by_class : bool
        Whether it needs more than one class.
    optional : bool
        Whether a file without it is sound: older ones are, and those of other programs' rankings.
    """

    name: str
    dtype: str
    fill: float
    ranked: bool = False
    by_class: bool = False
    optional: bool = False

    @property
    def path(self) -> str:
        return f"/samples/{self.name}"

    def shape(self, header: Header, samples: int) -> tuple[int, ...]:
        """Return the shape in a file of so many samples."""
        return (samples, min(SAMPLE_RANKS, header.n_classes)) if self.ranked else (samples,)

    def empty(self, header: Header, samples: int) -> Array:
        """Return an array of samples that were not looked at."""
        return np.full(self.shape(header, samples), self.fill, self.dtype)


SAMPLE_ARRAYS = (
    SampleArray("target", "i8", -1),
    SampleArray("prediction", "i8", -1),
    SampleArray("label", "i8", -1, optional=True),
    SampleArray("top_class", "i4", -1, ranked=True, by_class=True, optional=True),
    SampleArray("top_probability", "f4", np.nan, ranked=True, by_class=True, optional=True),
    SampleArray("logsumexp", "f4", np.nan, by_class=True, optional=True),
)


def sample_arrays(header: Header) -> Iterator[SampleArray]:
    """Yield the arrays that a file has, or may have: one output gives no probabilities and no energy."""
    yield from (array for array in SAMPLE_ARRAYS if header.n_classes > 1 or not array.by_class)
