"""Pictures of samples for their own pages: the image, and the heatmap of what the sample stands for over it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from PIL import Image

from ...atlas.query.reference_maps import of_one_shape, start_areas
from ...atlas.query.reference_starts import known_labels, reference_starts
from ...attribution.axes import known_class_axis
from ..curve import curve_picture
from ..highlight import outlined
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
        values, (heatmap, area) = source.read(sample), heatmaps.get(sample, (None, None))
        if values.ndim == 2:
            plain = curve_picture(values, source.size, look=source.look)
            over = None if heatmap is None else curve_picture(values, source.size, look=source.look, heatmap=heatmap)
            yield sample, plain, over
            continue
        image, _ = drawn(values)
        over = None if heatmap is None else outlined(source.look.draw_fitting(image, heatmap), area)
        covered = None if over is None else thumbnail(over, source.size)
        yield sample, thumbnail(image, source.size), covered


def _class_heatmaps(
    source: SampleSource, samples: Sequence[int]
) -> dict[int, tuple[torch.Tensor, torch.Tensor | None]]:
    """Return heatmaps (*place), with relevance from the class or target that a sample stands for, and where.

    The second is where relevance starts, (*place), if that is somewhere in particular.
    """
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
    heatmaps: dict[int, tuple[torch.Tensor, torch.Tensor | None]] = {}
    for indices in of_one_shape(images):
        inputs = maps.inputs([images[index] for index in indices])
        shown, stated = zip(*(known[index] for index in indices), strict=True)
        starts = reference_starts(
            source.atlas, stated, source.conditioned_on, samples=source.subject.samples, numbers=shown
        )
        run = maps.run(inputs[:1])
        attr = source.subject.attribution(
            inputs,
            [{"y": [start]} for start in starts],
            source.subject.composite,
            pairing="zip",
            batch_size=min(source.batch_size, run.samples_at_once),
            on_device="cpu",
        )
        areas = start_areas(attr, starts, known_class_axis(run))
        source.outlined |= any(area is not None for area in areas)
        rows = zip(indices, attr.heatmap.detach(), areas, strict=True)
        heatmaps |= {known[index][0]: (row, area) for index, row, area in rows}
    return heatmaps
