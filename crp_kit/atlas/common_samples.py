"""Samples that two atlases have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .file.atlas_file import AtlasFile

__all__ = ["CommonSamples", "common_samples"]

Rows = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True, eq=False)
class CommonSamples:
    """The same samples in two atlases.

    Parameters
    ----------
    rows_a, rows_b : numpy.ndarray
        (sample,): where each is in the samples of either atlas; the first ascending.
    """

    rows_a: Rows
    rows_b: Rows

    def __len__(self) -> int:
        return len(self.rows_a)


def common_samples(a: AtlasFile, b: AtlasFile) -> CommonSamples:
    """Return the samples that two atlases have in common.

    In atlases of one dataset, by its fingerprint, they have the same numbers. Elsewhere they have the same names, or
    without names the same numbers where the digests of their content agree.
    """
    if a.header.dataset_sha256 != b.header.dataset_sha256:
        if a.identifiers is not None and b.identifiers is not None:
            return _common(np.array(a.identifiers), np.array(b.identifiers))
        if not _same_content(a, b):
            return CommonSamples(np.zeros(0, int), np.zeros(0, int))
    return _common(a.samples, b.samples)


def _common(keys_a: npt.NDArray[Any], keys_b: npt.NDArray[Any]) -> CommonSamples:
    """Return where the keys are that both have; a key that is not unique belongs to no sample."""
    unique_a, unique_b = _unique(keys_a), _unique(keys_b)
    _, in_a, in_b = np.intersect1d(keys_a[unique_a], keys_b[unique_b], assume_unique=True, return_indices=True)
    rows_a, rows_b = unique_a[in_a], unique_b[in_b]
    order = np.argsort(rows_a)
    return CommonSamples(rows_a[order], rows_b[order])


def _unique(keys: npt.NDArray[Any]) -> Rows:
    _, first, count = np.unique(keys, return_index=True, return_counts=True)
    return np.asarray(first[count == 1])


def _same_content(a: AtlasFile, b: AtlasFile) -> bool:
    """Return whether samples of one number have one content, as far as digests are known."""
    known_a, known_b = (
        dict(pair.split(":", 1) for pair in file.header.sample_digests.split() if ":" in pair) for file in (a, b)
    )
    shared = known_a.keys() & known_b.keys()
    return bool(shared) and all(known_a[number] == known_b[number] for number in shared)
