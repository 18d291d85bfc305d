"""Splitting of a concept into virtual units, by what its reference samples use in a lower layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from ..atlas.query.layer_atlas import LayerAtlas
from ..atlas.query.reference_maps import own_concept
from ..atlas.query.references import References
from ..attribution.layer_concepts import layer_concepts
from ..attribution.subject import Subject
from ..checks import check_integer
from ..concepts import MixedConcept
from ..drawing import plots
from ..errors import ConditionError, InputError
from ..result_table import Column, Table
from ..statistics.clarity import silhouette, unit_clusters
from .shown import ShownResult

if TYPE_CHECKING:
    from ..drawing import Figure

__all__ = ["SplitConcept", "UnitTable", "split_concept"]

Floats = npt.NDArray[np.float64]
_SHOWN = 3


@dataclass(frozen=True, eq=False, repr=False)
class UnitTable(Table):
    """Virtual units of a concept.

    Parameters
    ----------
    unit : numpy.ndarray
        Number of the unit, the largest first.
    n : numpy.ndarray
        Its reference samples.
    lower_concepts : numpy.ndarray
        The lower concepts of which the unit uses more than the others do, most first, as text.
    """

    unit: Column
    n: Column
    lower_concepts: Column


@dataclass(frozen=True, eq=False, repr=False)
class SplitConcept(ShownResult):
    """A concept as virtual units, each with its own reference samples.

    Parameters
    ----------
    references : References
        Of the concept as a whole.
    lower_layer : str
    vectors : numpy.ndarray
        (reference, lower concept), shares of the concept's relevance in the lower layer.
    unit : numpy.ndarray
        (reference,), the number of the virtual unit, the largest first.
    """

    references: References
    lower_layer: str
    vectors: Floats
    unit: npt.NDArray[np.int64]

    @property
    def heading(self) -> str:
        of = self.references
        return f"SplitConcept: concept {of.concept} of {of.layer!r} by {self.lower_layer!r}"

    @property
    def settings(self) -> Mapping[str, str]:  # type: ignore[override]
        """How well its units are apart, in words."""
        return {"separation": f"{self.separation:.2f}"}

    @property
    def separation(self) -> float:
        """Mean silhouette of the units, from -1 to 1: near 0 the concept is one."""
        return silhouette(self.vectors, self.unit)

    @property
    def centres(self) -> Floats:
        """Mean shares of each unit: (unit, lower concept)."""
        return np.stack([self.vectors[self.unit == number].mean(0) for number in range(self.unit.max() + 1)])

    def of_unit(self, number: int) -> References:
        """Return the reference samples of one unit.

        Parameters
        ----------
        number : int

        Raises
        ------
        InputError
            If there is no such unit.
        """
        check_integer("a unit", number, low=0, high=int(self.unit.max()))
        return self.references.taken(np.flatnonzero(self.unit == number).tolist())

    @property
    def table(self) -> UnitTable:
        """Units with the lower concepts that set them apart."""
        units = np.arange(self.unit.max() + 1)
        texts = []
        for number in units:
            apart = self.vectors[self.unit == number].mean(0) - self.vectors[self.unit != number].mean(0)
            texts.append(", ".join(str(concept) for concept in np.argsort(-apart, kind="stable")[:_SHOWN]))
        return UnitTable(units, np.bincount(self.unit), np.array(texts))

    def plot(self) -> Figure:
        """Return a figure of the reference samples of all units, one block below the other."""
        figure: Figure = plots().split_concept(self)
        return figure


def split_concept(
    subject: Subject, references: References, layer: LayerAtlas, lower_layer: str, *, n: int, seed: int
) -> SplitConcept:
    """Return the virtual units of a concept; see `crp_kit.evaluation.Evaluation.split_concept`."""
    check_integer("n", n, low=2)
    check_integer("seed", seed, low=0)
    shapes = {tuple(image.shape) for image in references.images}
    if len(shapes) > 1:
        raise InputError(f"reference samples of {len(shapes)} shapes share no batch; let the dataset resize them")
    inputs = subject.normalised(torch.stack(list(references.images)))
    run = subject.attribution.engine.run(inputs[:1], subject.composite)
    lower = layer_concepts(run, [lower_layer], subject.concepts)[lower_layer]
    attribution = subject.attribution(
        inputs,
        [{layer.name: [references.concept]}] * len(inputs),
        subject.composite,
        record_layer=[lower_layer],
        mask_map={lower_layer: lower, layer.name: own_concept(run, layer.info, subject.concepts)},
        start_layer=layer.name,
        pairing="zip",
        on_device="cpu",
    )
    if isinstance(lower, MixedConcept) and lower_layer not in attribution.by_concept:
        raise ConditionError(f"gradients have no shares of {lower.noun}s of {lower_layer!r}: take a composite for LRP")
    recorded = attribution.by_concept.get(lower_layer, attribution.relevances[lower_layer])
    vectors: Floats = lower.attribute(recorded, abs_norm=True).double().numpy()
    return SplitConcept(references, lower_layer, vectors, unit_clusters(vectors, n, seed=seed))
