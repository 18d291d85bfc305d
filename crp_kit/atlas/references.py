"""Reference samples: what a concept looks like in the data, and where in each image the model saw it."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from ..attribution import CondAttribution
from ..concepts import ChannelConcept, Concept, NeuronConcept
from ..data.samples import Failure, NumberedSamples, fingerprint
from ..engine import Run
from ..errors import AtlasError, InputError
from ..observation import layer_concepts
from ..preprocess import Preprocess
from ..rules.presets import Composite, receptive_composite
from ..state import state_digest
from .collect import Normalise
from .job import place_of, preprocessing
from .schema import LayerInfo
from .tables import SampleRanking

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..plot import ReferenceView
    from .query import ConceptAtlas

__all__ = ["ConditionedOn", "References", "find_references"]

ConditionedOn = Literal["class", "prediction", "layer"]
Box = tuple[int, int, int, int]

_CAPTION = 22


@dataclass(frozen=True, eq=False)
class References:
    """The samples in which a concept is strongest, with their conditional heatmaps, best first.

    Parameters
    ----------
    layer : str
    concept : int
    mode : str
        What ranked them: relevance or activation.
    conditioned_on : str
        Where the relevance of the heatmaps starts: class, prediction or layer.
    table : SampleRanking
        Samples, scores, positions, targets.
    names : tuple of str
        Of the samples.
    classes : tuple of str
        Names of the targets; empty for none.
    images : tuple of torch.Tensor
        As the dataset gives them: (channel, height, width).
    heatmaps : tuple of torch.Tensor
        Relevance that passes the concept: (height, width); of the neuron at the stored position alone, if receptive
        fields were asked for.
    boxes : tuple of (int, int, int, int) or None
        Top, left, bottom and right of the neuron's receptive field, if asked for.
    """

    layer: str
    concept: int
    mode: str
    conditioned_on: str
    table: SampleRanking
    names: tuple[str, ...]
    classes: tuple[str, ...]
    images: tuple[torch.Tensor, ...]
    heatmaps: tuple[torch.Tensor, ...]
    boxes: tuple[Box, ...] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def crops(self) -> tuple[torch.Tensor, ...]:
        """Return the parts of the images that the neurons see: (channel, height, width).

        Raises
        ------
        InputError
            If receptive fields were not asked for.
        """
        return tuple(image[:, top:bottom, left:right] for image, (top, left, bottom, right) in self._boxed(self.images))

    def _boxed(self, parts: Sequence[torch.Tensor]) -> list[tuple[torch.Tensor, Box]]:
        if self.boxes is None:
            raise InputError("no receptive fields: ask for references with receptive_field=True")
        return list(zip(parts, self.boxes, strict=True))

    def view(self) -> ReferenceView:
        """Return what `crp_kit.plot.references` draws: receptive fields, if asked for, or whole images."""
        from ..plot import ReferenceView

        images, heatmaps = self.images, self.heatmaps
        if self.boxes is not None:
            images = self.crops()
            heatmaps = tuple(one[top:bottom, left:right] for one, (top, left, bottom, right) in self._boxed(heatmaps))
        lines = zip(self.names, self.classes, self.table.score.tolist(), strict=True)
        captions = [
            "\n".join([_shortened(name), *textwrap.wrap(cls, _CAPTION)[:2], f"{score:.3g}"])
            for name, cls, score in lines
        ]
        kind = {"relevance": "RelMax", "activation": "ActMax"}[self.mode]
        start = {"class": "from the class", "prediction": "from the prediction", "layer": "from the layer"}
        title = f"{self.layer}, concept {self.concept}: {kind}; heatmaps {start[self.conditioned_on]}"
        return ReferenceView(title, images, heatmaps, captions)

    def plot(self, **options: Any) -> Figure:
        """Return a matplotlib Figure; options as in `crp_kit.plot.references`."""
        from ..plot import references

        return references(self.view(), **options)

    def _repr_png_(self) -> bytes:
        """Show the samples in a notebook."""
        from ..plot import to_png

        return to_png(self.plot())

    def __repr__(self) -> str:
        return (
            f"References of concept {self.concept} of {self.layer!r} by {self.mode}, "
            f"heatmaps from the {self.conditioned_on}:\n{self.table!r}"
        )


def _shortened(text: str) -> str:
    return text if len(text) <= _CAPTION else f"…{text[1 - _CAPTION :]}"


def find_references(
    atlas: ConceptAtlas,
    dataset: Any,
    layer: str,
    concept: int,
    *,
    attribution: CondAttribution,
    composite: Composite | str | None,
    mode: Literal["relevance", "activation"] = "relevance",
    k: int = 8,
    receptive_field: bool = False,
    conditioned_on: ConditionedOn = "class",
    cls: int | str | None = None,
    preprocess: Preprocess | Normalise | None = None,
    concepts: Concept | Mapping[str, Concept] | None = None,
    batch_size: int = 16,
    check: bool = True,
) -> References:
    """Return reference samples of a concept; see `ConceptAtlas.references`."""
    scores = atlas[layer].score(mode)
    table = scores.top(concept, k) if cls is None else scores.class_top(concept, cls, k)
    view, normalise = preprocessing(preprocess)
    samples = NumberedSamples(dataset, view)
    if check:
        check_origin(atlas, attribution, samples)
    images = tuple(_image(samples, int(number)) for number in table.sample)
    device, dtype = place_of(attribution.model)

    def inputs(chosen: Sequence[torch.Tensor]) -> torch.Tensor:
        return normalise(torch.stack(list(chosen))).to(device, dtype)

    found: tuple[torch.Tensor, ...] = ()
    boxes: tuple[Box, ...] | None = None
    if images:
        info = atlas[layer].info
        kind = _concept_of(info, attribution.engine.run(inputs(images[:1]), None), concepts)
        selection = _Selection(layer, concept, kind, info.output_shape)
        ids: list[Any] = [concept] * len(images)
        if receptive_field:
            ids = [selection.neuron(int(position)) for position in table.position]
            selection = _Selection(layer, concept, NeuronConcept(), selection.shape)
            fields = _heatmaps(
                attribution, images, inputs, [{layer: [one]} for one in ids],
                composite=receptive_composite(), start_layer=layer, init_rel=1.0, mask_map={layer: NeuronConcept()},
                batch_size=batch_size,
            )  # fmt: skip
            boxes = tuple(map(_support, fields))
        starts = _starts(atlas, table, conditioned_on)
        conditions = [{layer: [one], **({} if y is None else {"y": [y]})} for one, y in zip(ids, starts, strict=True)]
        found = _heatmaps(
            attribution, images, inputs, conditions,
            composite=composite, start_layer=layer if conditioned_on == "layer" else None,
            mask_map=selection.masks(), batch_size=batch_size,
        )  # fmt: skip
    names = _names(atlas, table)
    classes = tuple(atlas.classes[int(one)] if one >= 0 else "" for one in table.target)
    return References(layer, concept, mode, conditioned_on, table, names, classes, images, found, boxes)


def check_origin(atlas: ConceptAtlas, attribution: CondAttribution, samples: NumberedSamples) -> None:
    """Make sure that model and dataset are those that an atlas was made from.

    Raises
    ------
    AtlasError
        If they are not.
    """
    if not atlas.header.model_sha256 or not atlas.header.dataset_sha256:
        raise AtlasError(f"{atlas.path} does not say what model and dataset it comes from; check=False trusts yours")
    atlas.check_belongs(model_sha256=state_digest(attribution.model), dataset_sha256=fingerprint(samples))


@dataclass(frozen=True)
class _Selection:
    """A concept of a layer, and how its neurons are numbered."""

    layer: str
    concept: int
    kind: Concept
    shape: tuple[int, ...]

    def masks(self) -> dict[str, Concept]:
        return {self.layer: self.kind}

    def neuron(self, position: int) -> int:
        """Return the flat index, in the layer's whole output, of a position in the concept's own map."""
        if isinstance(self.kind, NeuronConcept):
            return self.concept
        if not isinstance(self.kind, ChannelConcept):
            raise InputError(f"receptive fields need channels or neurons as concepts; got {self.kind!r}")
        axis = self.kind.channel_axis(len(self.shape) + 1) - 1
        others = [size for number, size in enumerate(self.shape) if number != axis]
        place: list[int] = []
        for size in reversed(others):
            position, one = divmod(position, size)
            place.insert(0, one)
        place.insert(axis, self.concept)
        index = 0
        for one, size in zip(place, self.shape, strict=True):
            index = index * size + one
        return index


def _concept_of(info: LayerInfo, run: Run, concepts: Concept | Mapping[str, Concept] | None) -> Concept:
    """Return the layer's own concept, as it was when the atlas was made."""
    layer, known = info.name, info.concept
    kind = layer_concepts(run, [layer], concepts)[layer]
    if repr(kind) != known:
        raise AtlasError(
            f"in the atlas a concept of {layer!r} is {known}, and here {kind!r}: say concepts={{{layer!r}: …}}"
        )
    return kind


def _image(samples: NumberedSamples, number: int) -> torch.Tensor:
    read = samples[number]
    if isinstance(read, Failure):
        raise InputError(f"sample {number} cannot be read: {read.reason}")
    return read[1]


def _starts(atlas: ConceptAtlas, table: SampleRanking, conditioned_on: str) -> list[int | None]:
    """Return the class from which the relevance of each heatmap starts, or ``None`` for the layer."""
    if conditioned_on == "layer":
        return [None] * len(table)
    predicted = atlas.predictions[atlas.places(table.sample)].tolist()
    if conditioned_on == "prediction":
        starts = predicted
    elif conditioned_on == "class":
        starts = [one if one >= 0 else guess for one, guess in zip(table.target.tolist(), predicted, strict=True)]
    else:
        raise InputError(f"conditioned_on is 'class', 'prediction' or 'layer'; got {conditioned_on!r}")
    if any(one < 0 for one in starts):
        raise AtlasError(f"{atlas.path} knows no class of some of the samples; use conditioned_on='layer'")
    return list(starts)


def _heatmaps(
    attribution: CondAttribution,
    images: Sequence[torch.Tensor],
    inputs: Callable[[Sequence[torch.Tensor]], torch.Tensor],
    conditions: Sequence[Mapping[str, Any]],
    **options: Any,
) -> tuple[torch.Tensor, ...]:
    """Return one conditional heatmap for each image; images of one shape go together."""
    found: dict[int, torch.Tensor] = {}
    for shape in dict.fromkeys(image.shape for image in images):
        places = [place for place, image in enumerate(images) if image.shape == shape]
        attr = attribution(
            inputs([images[place] for place in places]),
            [conditions[place] for place in places],
            pairing="zip",
            on_device="cpu",
            **options,
        )
        found |= dict(zip(places, attr.heatmap.detach(), strict=True))
    return tuple(found[place] for place in range(len(images)))


def _support(heatmap: torch.Tensor) -> Box:
    """Return the smallest box around everything that is not zero, or the whole if all is."""
    rows, columns = ((heatmap != 0).any(axis).nonzero().flatten().tolist() for axis in (1, 0))
    if not rows:
        return 0, 0, heatmap.shape[0], heatmap.shape[1]
    return rows[0], columns[0], rows[-1] + 1, columns[-1] + 1


def _names(atlas: ConceptAtlas, table: SampleRanking) -> tuple[str, ...]:
    if atlas.identifiers is None:
        return tuple(f"sample {number}" for number in table.sample)
    return tuple(atlas.identifiers[place] for place in atlas.places(table.sample))
