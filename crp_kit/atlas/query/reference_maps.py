"""Parts of reference samples: images, the classes they stand for, conditional heatmaps, receptive fields."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from ...attribution.axes import known_class_axis
from ...attribution.layer_concepts import layer_concepts
from ...attribution.layer_values import per_sample
from ...attribution.result import Attribution
from ...attribution.subject import Subject
from ...concepts import Concept, MixedConcept, NeuronConcept
from ...data.fingerprints import fingerprint
from ...data.samples import Failure, NumberedSamples
from ...errors import AtlasError, InputError
from ...models.state_dict import state_digest
from ...propagation.plan_description import describe_plan
from ...propagation.run import Run
from ...rules.receptive_field import receptive_field_rules
from ...targets import Target
from ..file.atlas_file import AtlasFile
from ..file.header import LayerInfo

__all__ = [
    "Box",
    "ReferenceLayer",
    "ReferenceMaps",
    "attribute_references",
    "check_origin",
    "neurons_at",
    "of_one_shape",
    "own_concept",
    "reference_image",
    "reference_sample",
]

Box = tuple[int, ...]
"""Top, left, bottom, right: rows top to bottom - 1, columns left to right - 1; in general all starts, then all ends."""
_SHOWN = ("signal", "image", "volume")
"""Layouts of heatmaps that references can show."""


def check_origin(atlas: AtlasFile, subject: Subject) -> None:
    """Make sure that model and dataset of a study are those that an atlas was made from."""
    if not atlas.header.model_sha256 or not atlas.header.dataset_sha256:
        raise AtlasError(f"{atlas.path} does not say what model and dataset it comes from; check=False trusts yours")
    atlas.check_belongs(model_sha256=state_digest(subject.model), dataset_sha256=fingerprint(subject.samples))


def reference_image(samples: NumberedSamples, number: int) -> torch.Tensor:
    """Return a sample as its dataset gives it: an image (channel, height, width)."""
    return _read(samples, number, axes=(3,))


def reference_sample(samples: NumberedSamples, number: int) -> torch.Tensor:
    """Return a sample as its dataset gives it: an image, a signal (channel, time), or a volume with a channel axis."""
    return _read(samples, number, axes=(2, 3, 4))


def _read(samples: NumberedSamples, number: int, *, axes: tuple[int, ...]) -> torch.Tensor:
    """Return a sample that has one of these numbers of axes; it is read once."""
    read = samples[number]
    if isinstance(read, Failure):
        raise InputError(f"sample {number} cannot be read: {read.reason}")
    if read[1].ndim not in axes:
        raise InputError(
            f"references show images (channel, height, width); sample {number} has shape {tuple(read[1].shape)}"
        )
    return read[1]


def of_one_shape(images: Sequence[torch.Tensor]) -> Iterator[list[int]]:
    """Yield the places of the images that can go together."""
    for shape in dict.fromkeys(image.shape for image in images):
        yield [row for row, image in enumerate(images) if image.shape == shape]


@dataclass(frozen=True, eq=False)
class ReferenceLayer:
    """What the forward of one sample shows of a layer.

    Parameters
    ----------
    concept : Concept
    shape : torch.Size
        Of the layer's output for one sample.
    samples_at_once : int
        How many samples go through the model at once.
    rules : str
        Rules of the model's nodes, as an atlas keeps them.
    """

    concept: Concept
    shape: torch.Size
    samples_at_once: int
    rules: str


def start_areas(
    attr: Attribution, starts: Sequence[int | Target | None], class_axis: int | None
) -> list[torch.Tensor | None]:
    """Return where the relevance of each row starts, bool (*place); None where that is nowhere in particular.

    `class_axis` is that of the model's output, counted with the batch axis.
    """
    own = None if class_axis is None else class_axis - 1
    return [
        start.area(attr.prediction[sample], class_axis=own, size=attr.heatmap.shape[1:])
        if isinstance(start, Target)
        else None
        for start, sample in zip(starts, attr.samples, strict=True)
    ]


@dataclass(frozen=True, eq=False)
class ReferenceMaps:
    """Makes the heatmaps of one concept."""

    subject: Subject
    info: LayerInfo
    concept: int
    batch_size: int

    def inputs(self, images: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return model inputs: (sample, channel, height, width), or one axis more than the samples have."""
        batch = self.subject.normalised(torch.stack(list(images)))
        if batch.ndim != images[0].ndim + 1:
            raise InputError(
                f"references show heatmaps (height, width), from model inputs (sample, channel, height, width); "
                f"preprocess gives {tuple(batch.shape)}"
            )
        return batch

    def inputs_of(self, images: Sequence[torch.Tensor], number: int) -> torch.Tensor:
        """Return model inputs of samples of one shape, of which `number` is the first; the model has to take them.

        Raises
        ------
        InputError
            If these are no images and the preprocessing or the model fails.
        """
        if images[0].ndim == 3:
            return self.inputs(images)
        try:
            inputs = self.inputs(images)
            self.subject.attribution.graph(inputs[:1], self.subject.composite)
        except Exception as error:  # a preprocessing may fail in any way
            raise InputError(
                f"references show signals (channel, time), volumes (channel, depth, height, width) and images "
                f"(channel, height, width); sample {number} has shape {tuple(images[0].shape)}, which the model "
                f"does not take: {error}"
            ) from error
        return inputs

    def of(
        self, inputs: torch.Tensor, starts: Sequence[int | Target | None], positions: Sequence[int] | None
    ) -> tuple[torch.Tensor, list[Box], list[torch.Tensor | None]]:
        """Return heatmaps (sample, *place) of the concept, or of its neurons at positions, and those' boxes.

        The third is where relevance of each sample starts, (*place), if that is somewhere in particular.
        """
        run = self.run(inputs[:1])
        layer, axis = self.layer(run), known_class_axis(run)
        del run
        ids, boxes, passed = [self.concept] * len(inputs), [], layer.concept
        if positions is not None:
            ids = neurons_at(layer.concept, self.info, self.concept, shape=layer.shape, positions=positions)
            passed = NeuronConcept()
            boxes = self.boxes(inputs[:1], ids)
        attr = attribute_references(
            self.subject,
            inputs,
            self.info.name,
            ids=ids,
            starts=starts,
            concept=passed,
            batch_size=layer.samples_at_once,
        )
        if attr.layout not in _SHOWN:
            raise InputError(
                f"references show images, signals and volumes; heatmaps of this model are of {attr.layout}"
            )
        return attr.heatmap.detach(), boxes, start_areas(attr, starts, axis)

    def run(self, like: torch.Tensor) -> Run:
        """Return the forward of one sample."""
        return self.subject.attribution.engine.run(like, self.subject.composite)

    def layer(self, run: Run) -> ReferenceLayer:
        """Return what is known of the layer from the forward of one sample, which need not stay in memory."""
        return ReferenceLayer(
            own_concept(run, self.info, self.subject.concepts),
            per_sample(run.graph, run.recording.value(run.graph.find(self.info.name))).shape[1:],
            min(self.batch_size, run.samples_at_once),
            json.dumps(describe_plan(run.graph, run.plan)),
        )

    def boxes(self, like: torch.Tensor, neurons: Sequence[int]) -> list[Box]:
        """Return the receptive fields of neurons, for an input of one shape.

        They belong to the architecture, so one sample is enough, and noise shows them best: no value of it is zero.
        """
        layer = self.info.name
        noise = torch.rand(like.shape, generator=torch.Generator().manual_seed(0)).to(like)
        distinct = list(dict.fromkeys(neurons))
        parts = self.subject.attribution.generate(
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
        fields = {neuron: _box(mask, layer) for neuron, mask in zip(distinct, seen, strict=True)}
        return [fields[neuron] for neuron in neurons]


def attribute_references(
    subject: Subject,
    inputs: torch.Tensor,
    layer: str,
    *,
    ids: Sequence[int],
    starts: Sequence[int | Target | None],
    concept: Concept,
    batch_size: int,
    record: bool = False,
) -> Attribution:
    """Return the conditional attribution of reference samples, on the CPU.

    Parameters
    ----------
    subject : Subject
        Model and rules.
    inputs : torch.Tensor
        (sample, channel, height, width), or with other axes behind the channels: a sample for each row, or one for all.
    layer : str
    ids : sequence of int
        By row, which concept of the layer relevance passes.
    starts : sequence of int, Target or None
        By row, the class or target that relevance starts from; None for all if it starts at the layer.
    concept : Concept
        What the ids mean.
    batch_size : int
    record : bool, optional
        Whether the layer's relevance is returned too.
    """
    at_layer = starts[0] is None
    pairs = zip(ids, starts, strict=True)
    return subject.attribution(
        inputs,
        [{layer: [number]} if at_layer else {layer: [number], "y": [cls]} for number, cls in pairs],
        subject.composite,
        record_layer=[layer] if record else (),
        mask_map={layer: concept},
        start_layer=layer if at_layer else None,
        pairing="zip" if len(inputs) == len(ids) else "product",
        batch_size=batch_size,
        on_device="cpu",
    )


def own_concept(run: Run, info: LayerInfo, concepts: Concept | Mapping[str, Concept] | None) -> Concept:
    """Return a layer's own concept, if it still is what it was when the atlas was made.

    Parameters
    ----------
    run : Run
    info : LayerInfo
    concepts : Concept or dict, optional
        As for `crp_kit.Study`.

    Raises
    ------
    AtlasError
        If it is another one.
    """
    layers_concept = layer_concepts(run, [info.name], concepts)[info.name]
    if layers_concept.identity != info.concept:
        raise AtlasError(
            f"in the atlas a concept of {info.name!r} is {info.concept}, here it would be {layers_concept.identity}; "
            f"pass concepts={{{info.name!r}: …}} (--concept on the command line) as it was when the atlas was built"
        )
    return layers_concept


def neurons_at(
    layers_concept: Concept, info: LayerInfo, concept: int, *, shape: torch.Size, positions: Sequence[int]
) -> list[int]:
    """Return flat indices into a layer's output of the neurons that lie at positions in the concept's own map.

    A concept's own map is the neurons that its mask lets pass, in the order of the output.
    """
    if isinstance(layers_concept, MixedConcept):
        raise InputError(
            f"receptive fields belong to neurons, and a {layers_concept.noun} of {info.name!r} mixes many: use "
            f"receptive_field=False"
        )
    mask = layers_concept.mask([concept], shape, layer_name=info.name).expand(shape).flatten()
    own = mask.nonzero().flatten().tolist()
    if not bool(((mask == 0) | (mask == 1)).all()):
        raise InputError(
            f"receptive fields belong to neurons, and {layers_concept!r} weighs those of {info.name!r} instead "
            f"of choosing some; use receptive_field=False"
        )
    if max(positions) >= len(own):
        raise InputError(
            f"position {max(positions)} of concept {concept} of {info.name!r} lies outside of its {len(own)} neurons: "
            f"the layer's output is {tuple(shape)} here and {info.output_shape} in the atlas; preprocess as it was"
        )
    return [own[position] for position in positions]


def _box(seen: torch.Tensor, layer: str) -> Box:
    """Return the smallest box around what is seen: (*place), boolean."""
    if not bool(seen.any()):
        raise InputError(f"a neuron of {layer!r} sees nothing of the input, only padding; use receptive_field=False")
    reached = seen.nonzero()
    return (*reached.amin(0).tolist(), *(reached.amax(0) + 1).tolist())
