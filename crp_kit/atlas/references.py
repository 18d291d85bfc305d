"""Reference samples: what a concept looks like in the data, and where in each image the model saw it."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch

from ..attribution import CondAttribution
from ..concepts import Concept, NeuronConcept
from ..data.samples import Failure, NumberedSamples, fingerprint
from ..errors import AtlasError, InputError
from ..layers import per_sample
from ..observation import layer_concepts
from ..passes import Run
from ..preprocess import Preprocess
from ..rules.presets import Composite
from ..rules.receptive import receptive_field_rules
from ..state import state_digest
from .collect import Normalise
from .job import place_of, preprocessing
from .schema import Kind, LayerInfo
from .tables import SampleRanking

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..plot import ReferenceView
    from .query import ConceptAtlas

__all__ = ["Box", "ConditionedOn", "References", "find_references"]

ConditionedOn = Literal["class", "prediction", "layer"]
Box = tuple[int, int, int, int]
"""Top, left, bottom, right: rows top to bottom - 1, columns left to right - 1."""

_CAPTION = 22
"""Characters in a line above a picture."""
_RANKED_BY: Mapping[Kind, str] = {"relevance": "RelMax", "activation": "ActMax"}
_START: Mapping[ConditionedOn, str] = {
    "class": "from the class",
    "prediction": "from the predicted class",
    "layer": "from the layer itself",
}


@dataclass(frozen=True, eq=False)
class References:
    """The samples in which a concept is strongest, with their conditional heatmaps, best first.

    Parameters
    ----------
    layer : str
    concept : int
    mode : {"relevance", "activation"}
        What ranked the samples.
    conditioned_on : {"class", "prediction", "layer"}
        Where the relevance of the heatmaps starts.
    table : SampleRanking
        Samples, scores, positions, targets.
    identifiers : tuple of str or None
        Names of the samples, such as paths, if the dataset has any.
    labels : tuple of int
        The class that each heatmap starts from; for ``conditioned_on="layer"`` the table's target. -1 for none.
    classes : tuple of str
        Their names; empty for none.
    images : tuple of torch.Tensor
        As the dataset gives them, values in [0, 1]: (channel, height, width).
    heatmaps : tuple of torch.Tensor
        Relevance that passes the concept: (height, width); if receptive fields were asked for, relevance that passes
        the one neuron at the stored position.
    boxes : tuple of (int, int, int, int) or None
        That neuron's receptive field, if asked for: top, left, bottom, right, such that ``image[:, top:bottom,
        left:right]`` is what it sees.
    """

    layer: str
    concept: int
    mode: Kind
    conditioned_on: ConditionedOn
    table: SampleRanking
    identifiers: tuple[str, ...] | None
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    images: tuple[torch.Tensor, ...]
    heatmaps: tuple[torch.Tensor, ...]
    boxes: tuple[Box, ...] | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def names(self) -> tuple[str, ...]:
        """What to call each sample: its identifier, or else its number."""
        return self.identifiers or tuple(f"sample {number}" for number in self.table.sample)

    def crops(self) -> tuple[torch.Tensor, ...]:
        """Return the parts of the images that the neurons see: (channel, height, width).

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
        boxes = zip(self.images, self.boxes, strict=True)
        return tuple(image[:, top:bottom, left:right] for image, (top, left, bottom, right) in boxes)

    @property
    def _words(self) -> str:
        """What the heatmaps show."""
        return _START[self.conditioned_on] + (" through the strongest neuron" if self.boxes is not None else "")

    def view(self) -> ReferenceView:
        """Return what `crp_kit.plot.references` draws."""
        from ..plot import ReferenceView

        return ReferenceView(
            subject=f"{self.layer}, concept {self.concept}",
            ranking=f"{_RANKED_BY[self.mode]}; heatmaps {self._words}",
            images=self.images,
            heatmaps=self.heatmaps,
            captions=[
                "\n".join([_shortened(name), *_wrapped(cls), f"{self.mode} {_digits(score)}"])
                for name, cls, score in zip(self.names, self.classes, self.table.score.tolist(), strict=True)
            ],
            boxes=self.boxes,
        )

    def plot(self, **options: Any) -> Figure:
        """Return a matplotlib Figure; options as in `crp_kit.plot.references`.

        The default style is ``"crop"`` where receptive fields were asked for, else ``"heatmap"``.
        """
        from .. import plot

        return plot.references(self, **{"style": "heatmap" if self.boxes is None else "crop", **options})

    def _repr_png_(self) -> bytes:
        """Show the samples in a notebook."""
        from .. import plot

        return plot.to_png(self.plot())

    def __repr__(self) -> str:
        return (
            f"References of concept {self.concept} of {self.layer!r} by {self.mode}, heatmaps {self._words}:\n"
            f"{self.table!r}"
        )


def _digits(score: float) -> str:
    return f"{score:#.3g}".rstrip(".")


def _shortened(text: str) -> str:
    return text if len(text) <= _CAPTION else f"…{text[1 - _CAPTION :]}"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _CAPTION, max_lines=2, placeholder=" …")


def find_references(
    atlas: ConceptAtlas,
    dataset: Any,
    layer: str,
    concept: int,
    *,
    attribution: CondAttribution,
    composite: Composite | str | None,
    mode: Kind,
    k: int,
    receptive_field: bool,
    conditioned_on: ConditionedOn,
    preprocess: Preprocess | Normalise | None,
    cls: int | str | None,
    concepts: Concept | Mapping[str, Concept] | None,
    batch_size: int,
    check: bool,
) -> References:
    """Return reference samples of a concept; see `ConceptAtlas.references`."""
    if conditioned_on not in get_args(ConditionedOn):
        raise InputError(f"conditioned_on is 'class', 'prediction' or 'layer'; got {conditioned_on!r}")
    scores = atlas[layer].score(mode)
    table = scores.top(concept, k) if cls is None else scores.class_top(concept, cls, k)
    view, normalise = preprocessing(preprocess)
    samples = NumberedSamples(dataset, view)
    if check:
        _check_origin(atlas, attribution, samples)
    images = tuple(_image(samples, number) for number in table.sample.tolist())
    labels = _labels(atlas, table, conditioned_on)
    starts = [None if conditioned_on == "layer" else label for label in labels]
    maps = _Maps(attribution, composite, atlas[layer].info, int(concept), concepts, normalise, batch_size)
    heatmaps: dict[int, torch.Tensor] = {}
    boxes: dict[int, Box] = {}
    for places in _of_one_shape(images):
        inputs = maps.inputs([images[place] for place in places])
        positions = table.position[places].tolist() if receptive_field else None
        found = maps.of(inputs, [starts[place] for place in places], positions)
        heatmaps |= dict(zip(places, found[0], strict=True))
        boxes |= dict(zip(places, found[1], strict=False))
    order = range(len(images))
    return References(
        layer,
        int(concept),
        mode,
        conditioned_on,
        table,
        None if atlas.identifiers is None else tuple(atlas.identifiers[one] for one in atlas.places(table.sample)),
        labels,
        tuple(atlas.classes[one] if one >= 0 else "" for one in labels),
        images,
        tuple(heatmaps[place] for place in order),
        tuple(boxes[place] for place in order) if receptive_field else None,
    )


def _check_origin(atlas: ConceptAtlas, attribution: CondAttribution, samples: NumberedSamples) -> None:
    """Make sure that model and dataset are those that an atlas was made from."""
    if not atlas.header.model_sha256 or not atlas.header.dataset_sha256:
        raise AtlasError(f"{atlas.path} does not say what model and dataset it comes from; check=False trusts yours")
    atlas.check_belongs(model_sha256=state_digest(attribution.model), dataset_sha256=fingerprint(samples))


def _image(samples: NumberedSamples, number: int) -> torch.Tensor:
    read = samples[number]
    if isinstance(read, Failure):
        raise InputError(f"sample {number} cannot be read: {read.reason}")
    if read[1].ndim != 3:
        raise InputError(
            f"references show images (channel, height, width); sample {number} has shape {tuple(read[1].shape)}"
        )
    return read[1]


def _labels(atlas: ConceptAtlas, table: SampleRanking, conditioned_on: ConditionedOn) -> tuple[int, ...]:
    """Return the class that each sample stands for; -1 for none, which only the layer as a start allows."""
    targets: list[int] = table.target.tolist()
    if conditioned_on == "layer":
        return tuple(targets)
    predicted: list[int] = atlas.predictions[atlas.places(table.sample)].tolist()
    if conditioned_on == "prediction":
        labels = predicted
    else:
        labels = [target if target >= 0 else guess for target, guess in zip(targets, predicted, strict=True)]
    if any(label < 0 for label in labels):
        nameless = table.sample[labels.index(min(labels))]
        raise AtlasError(
            f"{atlas.path} knows neither target nor prediction of sample {nameless}, so that no class is there to "
            f"start from; use conditioned_on='layer'"
        )
    return tuple(labels)


def _of_one_shape(images: Sequence[torch.Tensor]) -> Iterator[list[int]]:
    """Yield the places of the images that can go together."""
    for shape in dict.fromkeys(image.shape for image in images):
        yield [place for place, image in enumerate(images) if image.shape == shape]


@dataclass(frozen=True, eq=False)
class _Maps:
    """Makes the heatmaps of one concept."""

    attribution: CondAttribution
    composite: Composite | str | None
    info: LayerInfo
    concept: int
    concepts: Concept | Mapping[str, Concept] | None
    normalise: Normalise
    batch_size: int

    def inputs(self, images: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return model inputs: (sample, channel, height, width)."""
        made = self.normalise(torch.stack(list(images)))
        if made.ndim != 4:
            raise InputError(
                f"references show heatmaps (height, width), from model inputs (sample, channel, height, width); "
                f"preprocess gives {tuple(made.shape)}"
            )
        return made.to(*place_of(self.attribution.model))

    def of(
        self, inputs: torch.Tensor, starts: Sequence[int | None], positions: Sequence[int] | None
    ) -> tuple[torch.Tensor, list[Box]]:
        """Return heatmaps (sample, height, width) of the concept, or of its neurons at positions, and those' boxes."""
        layer = self.info.name
        run = self.attribution.engine.run(inputs[:1], self.attribution.resolve_composite(self.composite))
        kind = self._kind(run)
        ids, boxes = [self.concept] * len(inputs), []
        if positions is not None:
            shape = per_sample(run.graph, run.recording.value(run.graph.find(layer))).shape[1:]
            ids, kind = _neurons(kind, self.info, self.concept, shape=shape, positions=positions), NeuronConcept()
            boxes = self._boxes(inputs[:1], ids)
        conditions = [
            {layer: [one]} if start is None else {layer: [one], "y": [start]}
            for one, start in zip(ids, starts, strict=True)
        ]
        attr = self.attribution(
            inputs,
            conditions,
            self.composite,
            mask_map={layer: kind},
            start_layer=layer if starts[0] is None else None,
            pairing="zip",
            batch_size=self.batch_size,
            on_device="cpu",
        )
        return attr.heatmap.detach(), boxes

    def _kind(self, run: Run) -> Concept:
        """Return the layer's own concept, if it still is what it was when the atlas was made."""
        layer, known = self.info.name, self.info.concept
        kind = layer_concepts(run, [layer], self.concepts)[layer]
        if _placeless(repr(kind)) != _placeless(known):
            raise AtlasError(
                f"in the atlas a concept of {layer!r} is {known}, here it would be {kind!r}; "
                f"pass concepts={{{layer!r}: …}} as it was when the atlas was built"
            )
        return kind

    def _boxes(self, like: torch.Tensor, neurons: Sequence[int]) -> list[Box]:
        """Return the receptive fields of neurons, for an input of one shape.

        They belong to the architecture, so one sample is enough, and noise shows them best: no value of it is zero.
        """
        layer = self.info.name
        noise = torch.rand(like.shape, generator=torch.Generator().manual_seed(0)).to(like)
        distinct = list(dict.fromkeys(neurons))
        parts = self.attribution.generate(
            noise,
            [{layer: [neuron]} for neuron in distinct],
            receptive_field_rules(),
            mask_map={layer: NeuronConcept()},
            start_layer=layer,
            init_rel=1.0,
            batch_size=self.batch_size,
            on_device="cpu",
        )
        seen = torch.cat([part.input_relevance.ne(0).any(1) for part in parts])
        found = {neuron: _box(one, layer) for neuron, one in zip(distinct, seen, strict=True)}
        return [found[neuron] for neuron in neurons]


def _placeless(text: str) -> str:
    """Take out addresses in memory, which Python's own repr of an object has."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)


def _neurons(kind: Concept, info: LayerInfo, concept: int, *, shape: torch.Size, positions: Sequence[int]) -> list[int]:
    """Return flat indices into a layer's output of the neurons that lie at positions in the concept's own map.

    A concept's own map is the neurons that its mask lets pass, in the order of the output.
    """
    mask = kind.mask([concept], shape, layer_name=info.name).expand(shape).flatten()
    own = mask.nonzero().flatten().tolist()
    if not bool(((mask == 0) | (mask == 1)).all()):
        raise InputError(
            f"receptive fields belong to neurons, and {kind!r} weighs those of {info.name!r} instead of choosing some; "
            f"use receptive_field=False"
        )
    if max(positions) >= len(own):
        raise InputError(
            f"position {max(positions)} of concept {concept} of {info.name!r} lies outside of its {len(own)} neurons: "
            f"the layer's output is {tuple(shape)} here and {info.output_shape} in the atlas; preprocess as it was"
        )
    return [own[position] for position in positions]


def _box(seen: torch.Tensor, layer: str) -> Box:
    """Return the smallest box around what is seen: (height, width), boolean."""
    rows, columns = (seen.any(axis).nonzero().flatten().tolist() for axis in (1, 0))
    if not rows:
        raise InputError(f"a neuron of {layer!r} sees nothing of the input, only padding; use receptive_field=False")
    return rows[0], columns[0], rows[-1] + 1, columns[-1] + 1
