"""Fingerprints of datasets."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch

from .samples import Failure, NumberedSamples, Sample

__all__ = ["evenly_spread", "fingerprint", "names_fingerprint", "sample_digests", "short_digest", "tensor_bytes"]

_PROBED = 16
"""Samples whose content goes into the fingerprint of a dataset."""
_WHOLE, _MOST = 64, 500
"""Up to so many samples of a pass all have a digest; of more, a tenth, and at most so many: they are read for it."""


def evenly_spread(numbers: Sequence[int], count: int = _PROBED) -> list[int]:
    """Return at most `count` of some numbers, evenly spread, the first and the last included."""
    places = np.unique(np.linspace(0, len(numbers) - 1, min(count, len(numbers))).astype(int))
    return [int(numbers[position]) for position in places]


def fingerprint(samples: NumberedSamples) -> str:
    """Return a SHA-256 of a dataset: its length, its samples' names, and images and labels of a few, evenly spread."""
    digest = _names_digest(samples)
    for number in evenly_spread(range(len(samples))):
        digest.update(_content(samples[number]))
    return digest.hexdigest()


def names_fingerprint(samples: NumberedSamples) -> str:
    """Return a SHA-256 of how many samples a dataset has, and of their names."""
    return _names_digest(samples).hexdigest()


def _names_digest(samples: NumberedSamples) -> hashlib._Hash:
    digest = hashlib.sha256(f"{len(samples)}\n".encode())
    for name in samples.identifiers() or ():
        digest.update(f"{name}\n".encode())
    return digest


def sample_digests(samples: NumberedSamples, index: Sequence[int]) -> dict[int, str]:
    """Return digests of the content of samples of a pass by number: up to 64 of all of them, of more of a tenth.

    Which ones is the same for each shard. Those that cannot be read have none, so that they may be mended, and a pass
    be resumed. Neither times of files count, since copies on another machine have others, nor the folder they are in.

    Parameters
    ----------
    samples : NumberedSamples
    index : sequence of int
        Numbers of all samples of the pass, those of other shards included.
    """
    read = (samples[number] for number in _part(index))
    return {sample[0]: short_digest(_content(sample)) for sample in read if not isinstance(sample, Failure)}


def short_digest(data: bytes) -> str:
    """Return the first 48 bits of a SHA-256, for content that nobody makes up."""
    return hashlib.sha256(data).hexdigest()[:12]


def _part(index: Sequence[int]) -> list[int]:
    """Return the numbers of the samples whose content counts, the same ones in each process."""
    count = min(len(index), max(_WHOLE, min(len(index) // 10, _MOST)))
    if count == len(index):
        return [int(number) for number in index]
    chosen = np.random.default_rng(0).choice(len(index), count, replace=False, shuffle=False)
    # With those of the dataset's own fingerprint, which a mended sample may change, so that digests decide instead.
    return sorted({int(index[position]) for position in chosen} | set(evenly_spread(index)))


def _content(read: Sample | Failure) -> bytes:
    """Return what a sample adds to a fingerprint."""
    if isinstance(read, Failure):
        return f"{read.sample} cannot be read\n".encode()
    number, image, label = read
    return f"{number} {tuple(image.shape)} {image.dtype} {label}\n".encode() + tensor_bytes(image)


def tensor_bytes(image: torch.Tensor) -> bytes:
    """Return the values of a tensor."""
    data: bytes = image.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return data
