"""Directions in the channel space of a layer as concepts: of PCA, PRCA, or concept activation vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..errors import ConditionError, InputError
from .direction_arrays import checked_array, checked_directions, digest_of
from .mixed import MixedConcept
from .split import LinearCode, Places, VirtualSplit, concept_values

__all__ = ["DirectionConcept"]


class DirectionConcept(MixedConcept):
    """A concept is a direction in the channel space of a layer: a component of PCA or PRCA, or a CAV.

    Relevance is divided as if ``z = encoder @ (a - mean)`` and ``directions.T @ z + mean`` ran behind the layer, at
    every position. ``"mean"`` is the share of the mean, which absorbs it, and ``"rest"`` that of what the directions do
    not span; the shares of all are the layer's relevance. Where a BatchNorm behind a convolution is one unit with it,
    the directions are those of the convolution's output, and the BatchNorm's shift is part of the mean; without a mean
    it is divided as the activation is.

    Parameters
    ----------
    directions : array
        (direction, channel), what each direction adds to the channels.
    mean : array, optional
        (channel,), what is subtracted from the activation; zero by default.
    encoder : array, optional
        (direction, channel), how each direction is read from the channels; by default `directions`, which should then
        be orthonormal.
    names : sequence of str, optional
        Names of the directions, which are ids beside their numbers.
    axis : int, optional
        Axis that enumerates the channels, the row axis counted; by default that of the recorded graph.

    Raises
    ------
    InputError
        If the arrays do not fit each other, have values that are not finite, or a direction is zero everywhere.

    References
    ----------
    Chormai et al., "Disentangled explanations of neural network predictions by finding relevant subspaces", IEEE
    Transactions on Pattern Analysis and Machine Intelligence 46, 2024.

    Examples
    --------
    >>> from crp_kit import CondAttribution
    >>> from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
    >>> image, label = ShapesDataset(1)[0]
    >>> pair = DirectionConcept(torch.eye(32)[[3, 5]], names=["third", "fifth"])
    >>> attr = CondAttribution(demo_resnet())(
    ...     demo_preprocess(image)[None],
    ...     [{"layer2.1.relu_1": ["third"], "y": [label]}],
    ...     "epsilon_plus",
    ...     mask_map=pair,
    ...     record_layer=["layer2.1.relu_1"],
    ... )
    >>> attr.heatmap.shape
    torch.Size([1, 64, 64])
    >>> pair.attribute(attr.by_concept["layer2.1.relu_1"]).shape   # third, fifth, mean and rest
    torch.Size([1, 4])
    """

    def __init__(
        self,
        directions: Any,
        *,
        mean: Any = None,
        encoder: Any = None,
        names: Sequence[str] | None = None,
        axis: int | None = None,
    ) -> None:
        super().__init__(axis, names)
        self.directions = checked_directions("directions", directions)
        count, width = self.directions.shape
        self.mean = torch.zeros(width, dtype=torch.float64) if mean is None else checked_array("mean", mean)
        self.encoder = self.directions if encoder is None else checked_directions("encoder", encoder)
        if self.mean.shape != (width,):
            raise InputError(f"mean has a value for each of {width} channels; got shape {tuple(self.mean.shape)}")
        if self.encoder.shape != self.directions.shape:
            raise InputError(
                f"encoder and directions are both (direction, channel); got {tuple(self.encoder.shape)} and "
                f"{tuple(self.directions.shape)}"
            )
        if self.names and len(self.names) != count:
            raise InputError(f"there are {count} directions and {len(self.names)} names: give a name for each")

    @property
    def identity(self) -> str:
        count, width = self.directions.shape
        digest = digest_of([self.directions, self.mean, self.encoder])
        return f"DirectionConcept({count} of {width} channels, axis={self.axis}, sha256={digest})"

    @property
    def has_mean(self) -> bool:
        return bool(self.mean.any())

    def count(self, width: int, *, layer_name: str) -> int:
        if width != self.directions.shape[1]:
            raise ConditionError(
                f"the directions are for {self.directions.shape[1]} channels, and {layer_name!r} has {width}: take "
                f"those of this layer, or name the layer that they are for, as in {{layer: concept}}"
            )
        return len(self.directions)

    def _stored(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        arrays = {"directions": self.directions, "mean": self.mean, "encoder": self.encoder}
        return {"made": "directions"}, arrays

    def values(self, activation: torch.Tensor) -> torch.Tensor:
        places = Places(self.channels(activation.ndim), activation.shape)
        flat = places.flat(activation)
        return concept_values(self._code(flat), flat, places)

    def split(self, relevance: torch.Tensor, activation: torch.Tensor) -> VirtualSplit:
        places = Places(self.channels(activation.ndim), activation.shape)
        flat = places.flat(activation)
        return VirtualSplit(self, self._code(flat), flat, places.flat(relevance.flatten(0, 1)), places)

    def _code(self, activation: torch.Tensor) -> LinearCode:
        """Return the code of activations, (sample, channel, position)."""
        self.count(activation.shape[1], layer_name="the layer")
        return LinearCode.of(activation, *(part.to(activation) for part in (self.encoder, self.directions, self.mean)))
