"""What an export shows: reference samples of concepts, and the relevance that passes these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from ...atlas.file.schema import Kind, LayerInfo
from ...atlas.query.reference_maps import attribute_references, own_concept, reference_image, reference_labels
from ...attribution.axes import class_axis
from ...attribution.predicted_class import class_scores
from ...attribution.subject import Subject
from ...errors import InputError
from ...models.weights import device_and_dtype

if TYPE_CHECKING:
    from ...atlas import ConceptAtlas

__all__ = ["Maker", "Rows", "Shown", "choose_rows"]

Array = npt.NDArray[Any]

_FEWEST = 3
_MOST_CLASSES = 1 << 16


@dataclass(frozen=True, eq=False)
class Rows:
    """What is shown: every row is a sample as the reference of a concept.

    Parameters
    ----------
    concept, sample, start, label : array
        The concept; the sample's number in the dataset; the class that the relevance starts from; the sample's own
        class, or the predicted one where that is not known: (row,).
    score : array
        In the concept's ranking: (row,).
    """

    concept: Array
    sample: Array
    start: Array
    label: Array
    score: Array

    def __len__(self) -> int:
        return len(self.concept)


@dataclass(frozen=True, eq=False)
class Shown:
    """What is shown of each row.

    Parameters
    ----------
    images, relevance : array
        What the model saw, as bytes; input relevance that passes the row's concept: (row, channel, height, width).
    prediction : array
        The model's output: (row, class).
    shares : array
        Of each concept of the layer in the layer's relevance: (row, concept).
    """

    images: Array
    relevance: Array
    prediction: Array
    shares: Array


@dataclass(frozen=True, eq=False)
class Maker:
    """Computes what is shown."""

    subject: Subject
    info: LayerInfo

    def shown(self, rows: Rows, *, batch_size: int, verbose: bool) -> Shown:
        """Return what is shown of all rows, batch by batch."""
        parts = []
        with tqdm(total=len(rows), unit="map", disable=not verbose) as bar:
            for start in range(0, len(rows), batch_size):
                parts.append(self._batch(rows, slice(start, start + batch_size)))
                bar.update(len(parts[-1][0]))
        sizes = {part[0].shape[1:] for part in parts}
        if len(sizes) > 1:
            raise InputError(f"ViRelAy shows images of one size; these have {' and '.join(map(str, sorted(sizes)))}")
        return Shown(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def _batch(self, rows: Rows, part: slice) -> tuple[Array, Array, Array, Array]:
        subject = self.subject
        images = [reference_image(subject.samples, number) for number in rows.sample[part].tolist()]
        if len({one.shape for one in images}) > 1:
            raise InputError("ViRelAy shows images of one size; these differ: let the dataset resize and crop")
        inputs = subject.normalise(torch.stack(images)).to(*device_and_dtype(subject.model))
        if inputs.shape[2:] != images[0].shape[1:]:
            raise InputError(
                f"an image of {tuple(images[0].shape[1:])} pixels becomes a model input of {tuple(inputs.shape[2:])}, "
                f"and ViRelAy shows both in one size; let the dataset resize and crop, not preprocess"
            )
        layer, run = self.info.name, subject.attribution.engine.run(inputs[:1], subject.composite)
        kind = own_concept(run, self.info, subject.concepts)
        ids, starts = rows.concept[part].tolist(), rows.start[part].tolist()
        attr = attribute_references(
            subject, inputs, layer, ids=ids, starts=starts, concept=kind, batch_size=len(inputs), record=True
        )
        prediction = class_scores(attr.prediction, class_axis(run))
        return (
            np.stack([np.asarray(_pixels(one)) for one in images]),
            _three(attr.input_relevance).float().numpy(),
            prediction.detach().float().numpy(),
            kind.attribute(attr.relevances[layer]).double().numpy(),
        )


def _pixels(image: torch.Tensor) -> Array:
    """Return an image as bytes: (3, height, width). ViRelAy would guess the range of other values."""
    plain = (image.detach().cpu().double().clamp(0, 1) * 255).round().to(torch.uint8)
    return (plain if len(plain) == 3 else plain[:1].expand(3, -1, -1)).numpy()


def _three(relevance: torch.Tensor) -> torch.Tensor:
    """Return relevance with three channels, of the same sum: ViRelAy shows the sum, and knows no other number."""
    if relevance.shape[1] == 3:
        return relevance.detach()
    total = relevance.detach().sum(1, keepdim=True)
    return torch.cat([total, torch.zeros_like(total), torch.zeros_like(total)], 1)


def choose_rows(
    atlas: ConceptAtlas,
    layer: str,
    concepts: Sequence[int] | None,
    *,
    top: int,
    k: int,
    mode: Kind,
    conditioned_on: Literal["class", "prediction"],
) -> Rows:
    """Return the reference samples of all concepts, concept by concept, best first."""
    scores = atlas[layer].score(mode)
    if concepts is None:
        concepts = scores.statistics().sorted("mean", top).concept.tolist()
    if not len(concepts) or len(set(concepts)) != len(concepts):
        raise InputError(f"concepts are at least one number, each named once; got {list(concepts)}")
    if atlas.header.n_classes > _MOST_CLASSES:
        raise InputError(f"ViRelAy knows at most {_MOST_CLASSES} classes, and the atlas has {atlas.header.n_classes}")
    parts = []
    for concept in concepts:
        table = scores.top(concept, min(k, atlas.header.k))
        if len(table) < _FEWEST:
            raise InputError(
                f"concept {concept} of {layer!r} has {len(table)} reference samples; an embedding needs {_FEWEST}"
            )
        places = atlas.places(table.sample)
        own, guess = atlas.targets[places], atlas.predictions[places]
        start = np.array(reference_labels(atlas, table, conditioned_on))
        label = np.where(own >= 0, own, np.where(guess >= 0, guess, start))
        parts.append((np.full(len(table), concept), table.sample, start, label, table.score))
    return Rows(*(np.concatenate(column) for column in zip(*parts, strict=True)))
