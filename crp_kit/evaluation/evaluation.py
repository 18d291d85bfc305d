"""Evaluation of the concepts of a study: flipping and insertion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..attribution.subject import Subject
from ..targets import Target
from .curves import FlippingCurves
from .flipping import Baseline, FlippingOptions, Output, flipping_curves, start_of
from .orders import RANDOM, OrderFunction

__all__ = ["Evaluation"]


class Evaluation:
    """Evaluations of a study. `Study.evaluate` returns it.

    Parameters
    ----------
    subject : Subject
        What is evaluated: model, data, rules and concepts.
    """

    def __init__(self, subject: Subject) -> None:
        self._subject = subject

    def flipping(
        self,
        layer: str,
        *,
        orders: Sequence[str] | Mapping[str, OrderFunction | str] = ("relevance", "activation", RANDOM),
        baseline: Baseline = "mean",
        output: Output = "logit",
        target: str | Target = "prediction",
        steps: int | None = 32,
        repeats: int = 10,
        limit: int | None = None,
        batch_size: int = 16,
        seed: int = 0,
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
            ``"random"``; in a dictionary by a name of your own also a function of relevance and activation, (sample,
            concept) each, that returns concepts in their order.
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
        ConditionError
            If the model's output does not depend on the layer, or is not one number for each class.

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
        start = start_of(self._subject, target)
        options = FlippingOptions("deletion", baseline, output, start, steps, repeats, limit, batch_size, seed)
        return flipping_curves(self._subject, layer, orders, options, verbose=verbose)

    def insertion(
        self,
        layer: str,
        *,
        orders: Sequence[str] | Mapping[str, OrderFunction | str] = ("relevance", "activation", RANDOM),
        baseline: Baseline = "mean",
        output: Output = "logit",
        target: str | Target = "prediction",
        steps: int | None = 32,
        repeats: int = 10,
        limit: int | None = None,
        batch_size: int = 16,
        seed: int = 0,
        verbose: bool = False,
    ) -> FlippingCurves:
        """Begin with all concepts of a layer replaced, give them back one after the other, and return how it rises.

        Parameters, errors and references as for `flipping`. The area is that under the rise.

        Returns
        -------
        FlippingCurves
        """
        start = start_of(self._subject, target)
        options = FlippingOptions("insertion", baseline, output, start, steps, repeats, limit, batch_size, seed)
        return flipping_curves(self._subject, layer, orders, options, verbose=verbose)
