"""Reference samples: what a concept looks like in the data, and where in each image the model saw it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import torch

from ...attribution.subject import Subject
from ...drawing import plots, png_of
from ...errors import InputError
from ...printable import printable
from ...result_table import Framed
from ...targets import Target
from ..file.header import Mode
from .layer_atlas import LayerAtlas
from .rankings import SampleRanking
from .reference_maps import (
    Box,
    ReferenceMaps,
    check_origin,
    of_one_shape,
    reference_sample,
)
from .reference_starts import ConditionedOn, reference_labels, reference_starts

if TYPE_CHECKING:
    from ...drawing import Figure

__all__ = ["Box", "ConditionedOn", "References", "find_references"]

_START: Mapping[str, str] = {
    "class": "from the class",
    "prediction": "from the predicted class",
    "layer": "from the layer itself",
}


@dataclass(frozen=True, eq=False)
class References(Framed):
    """The samples in which a concept is strongest, with their conditional heatmaps, best first.

    Its data frame has a row for each sample: the columns of the ranking, name and label.

    Parameters
    ----------
    layer : str
    concept : int
    mode : {"relevance", "activation"}
        What ranked the samples.
    conditioned_on : {"class", "prediction", "layer"} or str
        Where the relevance of the heatmaps starts; of a target its identity.
    table : SampleRanking
        Samples, scores, positions, targets.
    identifiers : tuple of str or None
        Names of the samples, such as paths, if the dataset has any.
    labels : tuple of int
        The class that each heatmap starts from; for ``conditioned_on="layer"`` the table's target. -1 for none.
    classes : tuple of str
        Their names; empty for none.
    images : tuple of torch.Tensor
        As the dataset gives them, values in [0, 1]: (channel, height, width); signals (channel, time) and volumes
        (channel, depth, height, width) in their own units.
    heatmaps : tuple of torch.Tensor
        Relevance that passes the concept: (height, width), or (*place); if receptive fields were asked for, relevance
        that passes the one neuron at the stored position.
    boxes : tuple of tuple of int, or None
        That neuron's receptive field, if asked for: top, left, bottom, right, such that ``image[:, top:bottom,
        left:right]`` is what it sees; of a signal start and end, of a volume three starts and three ends.
    areas : tuple of (torch.Tensor or None), or None
        Where relevance starts, of a region or a box: bool, of the shape of the heatmap.
    concept_name : str
        Name of the concept that is kept beside the atlas; empty for none.
    """

    layer: str
    concept: int
    mode: Mode
    conditioned_on: str
    table: SampleRanking
    identifiers: tuple[str, ...] | None
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    images: tuple[torch.Tensor, ...]
    heatmaps: tuple[torch.Tensor, ...]
    boxes: tuple[Box, ...] | None = None
    areas: tuple[torch.Tensor | None, ...] | None = None
    concept_name: str = ""

    def __len__(self) -> int:
        return len(self.images)

    @property
    def names(self) -> tuple[str, ...]:
        """What to call each sample: its identifier, or else its number."""
        return self.identifiers or tuple(f"sample {number}" for number in self.table.sample)

    def taken(self, rows: Sequence[int]) -> References:
        """Return some of the samples, by their places in the ranking.

        Parameters
        ----------
        rows : sequence of int
        """

        def some(values: tuple[Any, ...] | None) -> Any:
            return None if values is None else tuple(values[row] for row in rows)

        by_sample = ("identifiers", "labels", "classes", "images", "heatmaps", "boxes", "areas")
        parts = {name: some(getattr(self, name)) for name in by_sample}
        return replace(self, table=self.table.taken(np.array(rows, np.int64)), **parts)

    def crops(self) -> tuple[torch.Tensor, ...]:
        """Return the parts of the images that the neurons see: (channel, height, width), or (channel, *place).

        Raises
        ------
        InputError
            If receptive fields were not asked for, or the preprocessing changes the size of the images, so that places
            in the model's input are none in the images.
        """
        if self.boxes is None:
            raise InputError("no receptive fields to cut out: ask for references with receptive_field=True")
        for image, heatmap in zip(self.images, self.heatmaps, strict=True):
            if image.shape[1:] != heatmap.shape:
                raise InputError(
                    f"an image of {tuple(image.shape[1:])} pixels becomes a model input of {tuple(heatmap.shape)}, so "
                    f"what a neuron sees cannot be cut out of it; let the dataset resize and crop, not preprocess"
                )
        return tuple(image[(slice(None), *_slices(box))] for image, box in zip(self.images, self.boxes, strict=True))

    @property
    def shown(self) -> str:
        """What the heatmaps show, in words: where their relevance starts and what it passes."""
        return _START.get(self.conditioned_on, f"from {self.conditioned_on}") + (
            " through the strongest neuron" if self.boxes is not None else ""
        )

    def _framed(self) -> dict[str, Any]:
        return {**self.table.columns(), "name": self.names, "label": self.labels}

    def plot(self, **options: Any) -> Figure:
        """Return a matplotlib Figure; options as in `crp_kit.views.plot.references`.

        The default style is ``"crop"`` where receptive fields were asked for.
        """
        style = None if self.boxes is None else "crop"
        figure: Figure = plots().references(self, **{"style": style, **options})
        return figure

    def _repr_png_(self) -> bytes:
        """Show the samples in a notebook."""
        return png_of(self.plot())

    def __repr__(self) -> str:
        called = f" ({printable(self.concept_name)})" if self.concept_name else ""
        return (
            f"References of concept {self.concept}{called} of {self.layer!r} by {self.mode}, heatmaps {self.shown}:\n"
            f"{self.table!r}"
        )


def _slices(box: Box) -> tuple[slice, ...]:
    """Return what cuts a box out of an array: starts and ends by axis."""
    axes = len(box) // 2
    return tuple(map(slice, box[:axes], box[axes:]))


def find_references(
    subject: Subject,
    layer: LayerAtlas,
    concept: int,
    *,
    mode: Mode = "relevance",
    k: int,
    receptive_field: bool = False,
    conditioned_on: ConditionedOn | Target = "class",
    cls: int | str | None = None,
    batch_size: int = 16,
    check: bool = True,
) -> References:
    """Return reference samples of a concept; see `crp_kit.Study.references`."""
    if isinstance(conditioned_on, Target):
        conditioned_on = conditioned_on.numbered(subject.class_number)
    elif conditioned_on not in get_args(ConditionedOn):
        raise InputError(f"conditioned_on is 'class', 'prediction' or 'layer', or a target; got {conditioned_on!r}")
    scores, atlas = layer.score(mode), layer.file
    table = scores.top(concept, k) if cls is None else scores.class_top(concept, cls, k)
    if check:
        check_origin(atlas, subject)
    images = tuple(reference_sample(subject.samples, number) for number in table.sample.tolist())
    labels = reference_labels(atlas, table, conditioned_on)
    numbers = table.sample.tolist()
    starts = reference_starts(atlas, labels, conditioned_on, samples=subject.samples, numbers=numbers)
    maps = ReferenceMaps(subject, layer.info, int(concept), batch_size)
    heatmaps: dict[int, torch.Tensor] = {}
    boxes: dict[int, Box] = {}
    areas: dict[int, torch.Tensor | None] = {}
    for places in of_one_shape(images):
        inputs = maps.inputs_of([images[row] for row in places], int(table.sample[places[0]]))
        positions = table.position[places].tolist() if receptive_field else None
        drawn = maps.of(inputs, [starts[row] for row in places], positions)
        heatmaps |= dict(zip(places, drawn[0], strict=True))
        boxes |= dict(zip(places, drawn[1], strict=False))
        areas |= dict(zip(places, drawn[2], strict=True))
    order = range(len(images))
    return References(
        layer.name,
        int(concept),
        mode,
        str(conditioned_on),
        table,
        None if atlas.identifiers is None else tuple(atlas.identifiers[index] for index in atlas.places(table.sample)),
        labels,
        tuple(atlas.classes[index] if index >= 0 else "" for index in labels),
        images,
        tuple(heatmaps[row] for row in order),
        tuple(boxes[row] for row in order) if receptive_field else None,
        tuple(areas[row] for row in order) if any(area is not None for area in areas.values()) else None,
        layer.names.get(int(concept), ""),
    )
