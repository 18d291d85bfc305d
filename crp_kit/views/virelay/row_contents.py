"""Contents of the rows of an export: images, relevance of the row's concept or class, predictions, shares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ...atlas.file.header import LayerInfo
from ...atlas.query.reference_maps import ReferenceLayer, ReferenceMaps, attribute_references, reference_image
from ...attribution.axes import class_axis
from ...attribution.predicted_class import class_scores
from ...attribution.result import Attribution
from ...attribution.subject import Subject
from ...errors import InputError
from ...progress import Progress
from ..image import drawn
from .rows import ProjectRows

__all__ = ["RowContents", "RowSource"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class RowContents:
    """Arrays of an export, by row.

    Parameters
    ----------
    images : array
        Images before normalisation, as bytes: (row, 3, height, width).
    relevance : array
        Input relevance that passes the row's concept, or of its class: (row, 3, height, width).
    prediction : array
        The model's output: (row, class).
    shares : array
        Share of each concept in the relevance of the layer: (row, concept).
    changed : bool
        Whether values or channels of an image are not shown as they are, see `crp_kit.image.drawn`.
    """

    images: Array
    relevance: Array
    prediction: Array
    shares: Array
    changed: bool


@dataclass(frozen=True, eq=False)
class RowSource:
    """Computes the contents of rows."""

    subject: Subject
    info: LayerInfo

    def contents(self, rows: ProjectRows, *, batch_size: int, verbose: bool) -> RowContents:
        """Return the contents of all rows, computed batch by batch."""
        parts = []
        with Progress(len(rows), "export", unit="map", verbose=verbose) as bar:
            for start in range(0, len(rows), batch_size):
                parts.append(self._batch(rows, slice(start, start + batch_size)))
                bar.update(len(parts[-1][0]))
        sizes = {part[0].shape[1:] for part in parts}
        if len(sizes) > 1:
            raise InputError(f"ViRelAy shows images of one size; these have {' and '.join(map(str, sorted(sizes)))}")
        images, relevance, prediction, shares, changed = zip(*parts, strict=True)
        return RowContents(
            np.concatenate(images),
            np.concatenate(relevance),
            np.concatenate(prediction),
            np.concatenate(shares),
            any(changed),
        )

    def _batch(self, rows: ProjectRows, part: slice) -> tuple[Array, Array, Array, Array, bool]:
        """Return the four arrays of some rows, and whether an image was changed to be shown."""
        subject = self.subject
        images = [reference_image(subject.samples, number) for number in rows.sample[part].tolist()]
        if len({image.shape for image in images}) > 1:
            raise InputError("ViRelAy shows images of one size; these differ: let the dataset resize and crop")
        inputs = subject.normalised(torch.stack(images))
        if inputs.shape[2:] != images[0].shape[1:]:
            raise InputError(
                f"an image of {tuple(images[0].shape[1:])} pixels becomes a model input of {tuple(inputs.shape[2:])}, "
                f"and ViRelAy shows both in one size; let the dataset resize and crop, not preprocess"
            )
        layer, axis = self._layer(inputs)
        attr = self._attribution(inputs, rows, part, layer)
        prediction, name = class_scores(attr.prediction, axis), self.info.name
        pictures = [drawn(image) for image in images]
        return (
            np.stack([np.asarray(picture).transpose(2, 0, 1) for picture, _ in pictures]),
            _three_channels(attr.input_relevance).float().numpy(),
            prediction.detach().float().numpy(),
            layer.concept.attribute(attr.by_concept.get(name, attr.relevances[name])).double().numpy(),
            any(changed for _, changed in pictures),
        )

    def _attribution(self, inputs: torch.Tensor, rows: ProjectRows, part: slice, layer: ReferenceLayer) -> Attribution:
        """Return the relevance of rows: what passes their concepts, or all of the class's."""
        starts, batch_size = rows.start[part].tolist(), layer.samples_at_once
        if rows.group == "concept":
            return attribute_references(
                self.subject,
                inputs,
                self.info.name,
                ids=rows.number[part].tolist(),
                starts=starts,
                concept=layer.concept,
                batch_size=batch_size,
                record=True,
            )
        return self.subject.attribution(
            inputs,
            [{"y": [cls]} for cls in starts],
            self.subject.composite,
            record_layer=[self.info.name],
            mask_map={self.info.name: layer.concept},
            pairing="zip",
            batch_size=batch_size,
            on_device="cpu",
        )

    def _layer(self, inputs: torch.Tensor) -> tuple[ReferenceLayer, int]:
        """Return what is known of the layer, and the class axis of the model's output."""
        maps = ReferenceMaps(self.subject, self.info, 0, len(inputs))
        run = maps.run(inputs[:1])
        return maps.layer(run), class_axis(run)


def _three_channels(relevance: torch.Tensor) -> torch.Tensor:
    """Return relevance with three channels, of the same sum: ViRelAy shows the sum, and reads no other number."""
    if relevance.shape[1] == 3:
        return relevance.detach()
    total = relevance.detach().sum(1, keepdim=True)
    return torch.cat([total, torch.zeros_like(total), torch.zeros_like(total)], 1)
