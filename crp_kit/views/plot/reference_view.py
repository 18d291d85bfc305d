"""Reference samples as they are drawn: headings, captions, images and heatmaps of `crp_kit.atlas` references."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from ...atlas.query.references import References
from ...data.pixels import finite
from ...errors import InputError
from ..highlight import check_same_size
from ..image import stretched
from .labels import significant

__all__ = ["Box", "ReferenceView", "reference_view"]

Box: TypeAlias = tuple[int, ...]
"""Top, left, bottom and right of an image; of others all starts, then all ends."""

_CAPTION = 22
"""Characters in a line above a picture."""
_RANKED_BY: Mapping[str, str] = {"relevance": "RelMax", "activation": "ActMax"}


@dataclass(frozen=True, eq=False)
class ReferenceView:
    """Reference samples of one concept, ready to be drawn.

    Parameters
    ----------
    subject : str
        The concept and its layer.
    ranking : str
        What ranked the samples, and where the relevance of the heatmaps starts.
    images : sequence of torch.Tensor or array
        Values in [0, 1]: (channel, height, width); or signals (channel, time), or volumes (channel, depth, height,
        width), of any range.
    heatmaps : sequence of torch.Tensor or array
        Signed relevance: (height, width), (time,) or (depth, height, width).
    captions : sequence of str
        Sample, class and score of each.
    boxes : sequence of tuple of int, or None
        Top, left, bottom and right of what the strongest neuron sees of each image; of others all starts, then all
        ends.
    areas : sequence of (array or None), or None
        Where relevance starts in each image, to be outlined: bool, (height, width).
    """

    subject: str
    ranking: str
    images: Sequence[Any]
    heatmaps: Sequence[Any]
    captions: Sequence[str]
    boxes: Sequence[Box] | None = None
    areas: Sequence[Any] | None = None

    def cropped(self) -> ReferenceView:
        """Return the parts of images and heatmaps inside the boxes.

        Raises
        ------
        InputError
            If there are no boxes, or an image has not the size of its heatmap.
        """
        if self.boxes is None:
            raise InputError(
                f"no receptive fields of {self.subject} to cut out: ask for references with receptive_field=True"
            )
        for image, heatmap in zip(self.images, self.heatmaps, strict=True):
            check_same_size(image.shape[-heatmap.ndim :], heatmap.shape)
        images, heatmaps = (
            [_cut(array, box) for array, box in zip(arrays, self.boxes, strict=True)]
            for arrays in (self.images, self.heatmaps)
        )
        return replace(self, images=images, heatmaps=heatmaps, boxes=None, areas=None)

    def sliced(self) -> ReferenceView:
        """Return volumes as one slice each, the one with most of the relevance by magnitude, in greys of their own.

        Raises
        ------
        InputError
            If a volume has not the size of its heatmap.
        """
        images, heatmaps, captions = [], [], []
        for image, heatmap, caption in zip(self.images, self.heatmaps, self.captions, strict=True):
            relevance, volume = finite(heatmap), finite(image)
            if volume.shape[-3:] != relevance.shape:
                raise InputError(
                    f"a volume {volume.shape[-3:]} has a heatmap {relevance.shape}; let the dataset resize it"
                )
            depth = int(np.abs(relevance).sum((1, 2)).argmax())
            images.append(stretched(volume.reshape(-1, *relevance.shape).mean(0))[depth])
            heatmaps.append(relevance[depth])
            captions.append(f"{caption}\ndepth {depth} of {len(relevance)}")
        return replace(self, images=images, heatmaps=heatmaps, captions=captions)


def reference_view(references: References) -> ReferenceView:
    """Return reference samples with their headings and captions, ready to be drawn."""
    called = f" ({_shortened(references.concept_name)})" if references.concept_name else ""
    return ReferenceView(
        subject=f"{references.layer}, concept {references.concept}{called}",
        ranking=f"{_RANKED_BY[references.mode]}; heatmaps {references.shown}",
        images=references.images,
        heatmaps=references.heatmaps,
        captions=[
            "\n".join([_shortened(name), *_wrapped(cls), f"{references.mode} {significant(score)}"])
            for name, cls, score in zip(
                references.names, references.classes, references.table.score.tolist(), strict=True
            )
        ],
        boxes=references.boxes,
        areas=references.areas,
    )


def _cut(array: Any, box: Box) -> Any:
    """Return the part of an array, (..., *axis), inside a box."""
    axes = len(box) // 2
    return array[(..., *map(slice, box[:axes], box[axes:]))]


def _shortened(text: str) -> str:
    return text if len(text) <= _CAPTION else f"…{text[1 - _CAPTION :]}"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _CAPTION, max_lines=2, placeholder=" …")
