"""Pictures of samples for their own pages: the image, and the heatmap of what the sample stands for over it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from PIL import Image

from ...atlas.query.reference_maps import of_one_shape
from ...atlas.query.reference_starts import known_labels, reference_starts
from ..image import drawn
from .samples import SampleSource
from .sprite_sheets import thumbnail

__all__ = ["sample_pictures"]


def sample_pictures(
    source: SampleSource, samples: Sequence[int]
) -> Iterator[tuple[int, Image.Image, Image.Image | None]]:
    """Yield each sample as a picture, with the heatmap of its class over it; None where it has no class."""
    heatmaps = _class_heatmaps(source, samples)
    for sample in samples:
        (image, _), heatmap = drawn(source.read(sample)), heatmaps.get(sample)
        covered = None if heatmap is None else thumbnail(source.look.draw_fitting(image, heatmap), source.size)
        yield sample, thumbnail(image, source.size), covered


def _class_heatmaps(source: SampleSource, samples: Sequence[int]) -> dict[int, torch.Tensor]:
    """Return heatmaps (height, width), with relevance from the class or target that a sample stands for."""
    if source.conditioned_on == "layer":
        return {}
    numbers = np.array(samples)
    targets = source.atlas.targets[source.atlas.places(numbers)].tolist()
    labels = known_labels(source.atlas, numbers, targets, source.conditioned_on)
    known = [(sample, label) for sample, label in zip(samples, labels, strict=True) if label >= 0]
    if not known:
        return {}
    maps = source.reference_maps(next(iter(source.atlas)))
    images = [source.read(sample) for sample, _ in known]
    heatmaps: dict[int, torch.Tensor] = {}
    for indices in of_one_shape(images):
        inputs = maps.inputs([images[index] for index in indices])
        shown, stated = zip(*(known[index] for index in indices), strict=True)
        starts = reference_starts(
            source.atlas, stated, source.conditioned_on, samples=source.subject.samples, numbers=shown
        )
        attr = source.subject.attribution(
            inputs,
            [{"y": [start]} for start in starts],
            source.subject.composite,
            pairing="zip",
            batch_size=min(source.batch_size, maps.run(inputs[:1]).samples_at_once),
            on_device="cpu",
        )
        heatmaps |= {known[index][0]: row for index, row in zip(indices, attr.heatmap.detach(), strict=True)}
    return heatmaps
