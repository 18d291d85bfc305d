"""Some samples at one layer: their forward, relevance and activation by concept, and outputs for other values of it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from ..attribution.axes import check_class_output
from ..attribution.layer_concepts import layer_concepts
from ..attribution.layer_relevance import Choice, observe
from ..attribution.layer_values import find_layer, is_folded
from ..attribution.masks import broadcast_stack, concept_mask
from ..attribution.mixed_layers import concept_activation
from ..attribution.subject import Subject
from ..concepts import MixedConcept
from ..data.batches import Batch
from ..errors import ConditionError, InputError
from ..propagation.suffix import Suffix
from .measure import Output, measure_of
from .sample_choice import SampleChoice

__all__ = ["Baseline", "LayerBatch"]

Baseline = Literal["mean", "zero", "own"]
Floats = npt.NDArray[np.float64]

_MOST = 1 << 24
"""Values of the masks of all concepts that are kept."""


class LayerBatch:
    """Some samples at one layer.

    Parameters
    ----------
    subject : Subject
    layer : str
    batch : Batch
        With images.
    choice : SampleChoice
    inputs : torch.Tensor, optional
        Of the model; by default those of the images.

    Attributes
    ----------
    samples : tuple of int
        Their numbers in the dataset.
    run : Run
        Their recorded forward.
    inputs : torch.Tensor
        Of the model, for these samples.
    value : torch.Tensor
        The layer's, (sample, *shape).
    starts : list of (int or Target)
        By sample, the class or target that is measured.
    concept : Concept
        Of the layer.
    """

    def __init__(
        self, subject: Subject, layer: str, batch: Batch, choice: SampleChoice, *, inputs: torch.Tensor | None = None
    ) -> None:
        assert batch.images is not None
        self._subject, self._layer, self._batch, self._choice = subject, layer, batch, choice
        self.samples = batch.samples
        self.inputs = subject.normalised(batch.images) if inputs is None else inputs
        # Canonizers change a private copy of the model, whose layers have other values than the user's.
        self._has_canonizers = bool(subject.composite is not None and subject.composite.canonizers)
        self.run = subject.attribution.engine.run(self.inputs, None if self._has_canonizers else subject.composite)
        check_class_output(self.run)
        self._ref = find_layer(self.run, layer)
        self.value = self.run.recording.value(self._ref)
        self._measure = measure_of(self.run, batch, choice.target)
        self.starts = self._measure.starts
        self.concept = layer_concepts(self.run, [layer], subject.concepts)[layer]

    def of_inputs(self, inputs: torch.Tensor) -> LayerBatch:
        """Return the same samples with other inputs of the model."""
        return LayerBatch(self._subject, self._layer, self._batch, self._choice, inputs=inputs)

    # ------------------------------------------------------------------ scores of concepts

    def shares(self, *starts: Sequence[Choice]) -> list[Floats]:
        """Return the share of each concept in relevance, (sample, concept) for each class or target by sample."""
        run = (
            self._subject.attribution.engine.run(self.inputs, self._subject.composite)
            if self._has_canonizers
            else self.run
        )
        targets = list(zip(*starts, strict=True))
        recorded = observe(run, lambda _: targets, concepts={self._layer: self.concept}).relevances[self._layer]
        return [self.concept.attribute(slot, abs_norm=True).double().cpu().numpy() for slot in recorded]

    @cached_property
    def relevance(self) -> Floats:
        """The share of each concept in the relevance of what is measured: (sample, concept)."""
        return self.shares(self.starts)[0]

    @cached_property
    def activation(self) -> Floats:
        """The activation of each concept: (sample, concept)."""
        values = concept_activation(self.run, self._layer, self.concept)
        activation: Floats = self.concept.attribute(values, abs_norm=False).double().cpu().numpy()
        return activation

    @property
    def n_concepts(self) -> int:
        return int(self.activation.shape[1])

    # ------------------------------------------------------------------ other values of the layer

    @cached_property
    def suffix(self) -> Suffix:
        """The part of the forward behind the layer.

        Raises
        ------
        ConditionError
            If the output does not depend on the layer, or its samples cannot be changed one by one.
        """
        if is_folded(self.run.graph, self._ref):
            raise ConditionError(
                f"{self._layer!r} keeps windows or heads in its batch axis: flip a layer that does not"
            )
        suffix = Suffix(self.run, self._ref)
        if not suffix.nodes:
            raise ConditionError(
                f"the model's output does not depend on {self._layer!r}, or {self._layer!r} is the output itself"
            )
        return suffix

    @property
    def positions(self) -> list[int]:
        """The axes of the layer that are neither samples nor channels; none if its channels are not known."""
        channels = self.run.channel_axes.get(self._ref)
        return [] if channels is None else [axis for axis in range(1, self.value.ndim) if axis != channels]

    def summed(self) -> torch.Tensor:
        """Return the layer's values summed over samples, by channel as means over positions; else by neuron."""
        values, over = self.value.double(), self.positions
        return (values.mean(over, keepdim=True) if over else values).sum(0)

    def masks(self, members: npt.NDArray[np.bool_]) -> torch.Tensor:
        """Return 1 where the concepts of a row are: (*row, *shape of a sample, or 1), of members (*row, concept)."""
        rows = members.reshape(-1, self.n_concepts)
        if self._apart is not None:
            apart = self._apart
            masks = torch.from_numpy(rows).to(apart) @ apart.flatten(1)
        else:
            distinct, number = np.unique(rows, axis=0, return_inverse=True)
            apart = broadcast_stack([self._mask(np.flatnonzero(row).tolist()) for row in distinct])
            masks = apart[torch.from_numpy(number.ravel()).to(apart.device)]
        return masks.reshape(*members.shape[:-1], *apart.shape[1:])

    def _mask(self, ids: Sequence[int]) -> torch.Tensor:
        return concept_mask(self.run, self._layer, ids, self.concept.mask) if ids else torch.zeros_like(self._mask([0]))

    @cached_property
    def _apart(self) -> torch.Tensor | None:
        """The mask of each concept, (concept, *shape), if that of some of them is the sum of theirs, and they fit."""
        whole = self._mask(range(self.n_concepts))
        if whole.numel() * self.n_concepts > _MOST:
            return None
        apart = broadcast_stack([self._mask([number]) for number in range(self.n_concepts)])
        is_indicator = bool(((apart == 0) | (apart == 1)).all())
        return apart if is_indicator and torch.equal(apart.sum(0), whole.expand(apart.shape[1:])) else None

    def replacement(self, baseline: Baseline, mean: torch.Tensor | None) -> torch.Tensor:
        """Return what replaced concepts have, as it broadcasts to the layer's values; `mean` as of `LayerPass.mean`.

        Raises
        ------
        ConditionError
            If the layer's concepts mix its channels.
        InputError
            If the mean of a concept's own is asked for and the layer has no positions.
        """
        if isinstance(self.concept, MixedConcept):
            raise ConditionError(
                f"{self.concept.noun}s of {self._layer!r} mix its channels and cannot be replaced one by one: make "
                f"the study with channels or neurons as concepts of this layer"
            )
        if baseline == "zero":
            return self.value.new_zeros([1] * self.value.ndim)
        if mean is not None:
            return mean.to(self.value)[None]
        if not self.positions:
            raise InputError(f"{self._layer!r} has no positions for a mean of a concept's own; choose another baseline")
        return self.value.mean(self.positions, keepdim=True)

    def replaced(self, members: npt.NDArray[np.bool_], replacement: torch.Tensor) -> torch.Tensor:
        """Return values of the layer in which some concepts are replaced: (row, sample, *shape).

        Parameters
        ----------
        members : numpy.ndarray
            (row, sample, concept), or (row, 1, concept) for all samples alike.
        replacement : torch.Tensor
            It broadcasts to the layer's values.
        """
        masks = self.masks(members).to(self.value)
        masks = masks.expand(len(masks), len(self.value), *masks.shape[2:])
        return torch.lerp(self.value, replacement.expand_as(self.value), masks)

    def measured(self, outputs: torch.Tensor, output: Output) -> Floats:
        """Return what is measured of each sample, (sample, row), of outputs (row, sample, ...)."""
        return self._measure(outputs, output)
