"""Evaluations of what concepts do to the output: flipping, insertion, impact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt

from ..attribution.call_signature import parameters_of
from ..targets import Target
from .base import EvaluationBase
from .curves import FlippingCurves
from .flipping import FlippingOptions, Mode, flipping_curves
from .impact import ConceptImpact, ImpactOptions, concept_impact
from .layer_batch import Baseline
from .measure import Output
from .orders import RANDOM, OrderFunction, Orders

__all__ = ["EffectEvaluations"]


class EffectEvaluations(EvaluationBase):
    """Evaluations of what concepts do to the output."""

    _mode: Mode = "deletion"

    def flipping(
        self,
        layer: str,
        *,
        orders: Sequence[str] | Mapping[str, OrderFunction | npt.ArrayLike | str] = ("relevance", "activation", RANDOM),
        baseline: Baseline = "mean",
        output: Output = "logit",
        target: str | Target = "prediction",
        steps: int | None = 32,
        repeats: int = 10,
        limit: int | None = None,
        batch_size: int = 16,
        seed: int = 0,
        shard: tuple[int, int] | str | None = None,
        verbose: bool = False,
    ) -> FlippingCurves:
        """Replace the concepts of a layer one after the other, and return how the output falls.

        The concepts that the model needs most lower its output most: the earlier an order has them, the larger the area
        over its curve. The forward up to the layer runs once for each sample, and the part behind it for all numbers of
        flipped concepts together.

        Parameters
        ----------
        layer : str
            Name of the node whose concepts are flipped.
        orders : sequence of str, or dict, optional
            ``"relevance"`` and ``"activation"`` (highest first), ``"least_relevant"`` (lowest relevance first),
            ``"prototype"`` (highest mean relevance in the other samples of the class first, of a target in all other
            samples), ``"random"``. In a dictionary by a name of your own also an array of concepts in their order,
            (concept,) or (sample, concept) for all evaluated samples, or a function of relevance and activation,
            (sample, concept) each, that returns one.
        baseline : {"mean", "zero", "own"}, optional
            What a flipped concept is replaced by: its mean over the data and all positions, 0, or its own mean over the
            positions of the sample. Zero is far from what a layer ever gives, and can turn orders around.
        output : {"logit", "probability"}, optional
            What is measured of the class; a target says it itself.
        target : {"prediction", "label"} or Target, optional
            The class that relevance starts from and that is measured; or a target of `crp_kit.targets`, or its text
            such as ``"contrast:281,285"``: its logit, difference of logits, value, cosine or function is measured, over
            the region or at the box that it has before anything is flipped.
        steps : int, optional
            Numbers of flipped concepts at which the output is measured, evenly spread, none and all included; None for
            every number.
        repeats : int, optional
            Random orders, which are the same for all samples.
        limit : int, optional
            The first so many samples only.
        batch_size : int, optional
            Samples that share a forward.
        seed : int, optional
            Of the random orders.
        shard : (int, int) or str, optional
            ``(i, n)`` or ``"i/n"``, from 0: only this part of the samples, to be saved and joined by
            `crp_kit.evaluation.joined_curves`. Means and prototypes are of all samples in each.
        verbose : bool, optional
            Show progress on stderr.

        Returns
        -------
        FlippingCurves
            ``aoc["relevance"]``, ``to_frame()`` with the columns order, k, mean, low, high, ``plot()``.

        Raises
        ------
        InputError
            If there is no data, an order, baseline, output or target is not known, or a sample cannot be used.
        UnknownLayerError, ConceptAxisError
            If there is no such layer, or it is not known what its concepts are.
        UnreachableLayerError
            If an order needs relevance and none arrives at the layer.
        ConditionError
            If the model's output does not depend on the layer or is not one number for each class, or the concepts mix
            the channels of the layer.

        References
        ----------
        W. Samek et al., Evaluating the visualization of what a deep neural network has learned, IEEE Transactions on
        Neural Networks and Learning Systems 28, 2017; of concepts: J. Vielhaben et al., Multi-dimensional concept
        discovery, 2023.

        Examples
        --------
        >>> import crp_kit as crp
        >>> from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
        >>> study = crp.Study(demo_resnet(), ShapesDataset(32), preprocess=demo_preprocess)
        >>> curves = study.evaluate.flipping("layer3.1.conv2", orders=("relevance", "least_relevant"), steps=8)
        >>> curves.aoc["relevance"] > curves.aoc["least_relevant"]
        True
        """
        data = self._pass(layer, target, limit, batch_size)
        options = FlippingOptions(self._mode, baseline, output, steps, repeats, seed, shard)
        return flipping_curves(data, Orders(orders), options, verbose=verbose)

    @parameters_of(flipping)
    def insertion(self, *args: Any, **options: Any) -> FlippingCurves:
        """Begin with all concepts of a layer replaced, give them back one after the other, and return how it rises.

        The area is that under the rise.

        Returns
        -------
        FlippingCurves
        """
        return _Insertion(self._subject, self._checkpoint).flipping(*args, **options)

    def impact(
        self,
        layer: str,
        *,
        concept_ids: Sequence[int] | None = None,
        baseline: Baseline = "mean",
        output: Output = "logit",
        target: str | Target = "prediction",
        limit: int | None = None,
        batch_size: int = 16,
        verbose: bool = False,
    ) -> ConceptImpact:
        """Replace each concept of a layer alone, and compare how the output falls with the concept's relevance.

        Relevance that says what the model uses is large where the output falls much: the correlation over the concepts
        of a sample, averaged over samples, says how well it does, beside the same of activation.

        Parameters
        ----------
        layer : str
            Name of the node whose concepts are replaced.
        concept_ids : sequence of int, optional
            These concepts only.
        baseline, output, target, limit, batch_size, verbose : optional
            As for `flipping`.

        Returns
        -------
        ConceptImpact
            ``summary`` has the correlations, ``table`` the concepts; ``plot()``.

        Raises
        ------
        InputError
            If there is no data, a setting is not known, or a sample cannot be used.
        UnknownLayerError, UnreachableLayerError, ConceptAxisError, ConceptRangeError
            If there is no such layer or concept, or no relevance arrives there.
        ConditionError
            If the model's output does not depend on the layer or is not one number for each class, or the concepts mix
            the channels of the layer.

        Examples
        --------
        >>> import crp_kit as crp
        >>> from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
        >>> study = crp.Study(demo_resnet(), ShapesDataset(16), preprocess=demo_preprocess)
        >>> impact = study.evaluate.impact("layer3.1.conv2")
        >>> bool(impact.agreement("relevance").mean() > impact.agreement("activation").mean())
        True
        """
        data = self._pass(layer, target, limit, batch_size)
        return concept_impact(data, concept_ids, ImpactOptions(baseline, output), verbose=verbose)


class _Insertion(EffectEvaluations):
    _mode = "insertion"
