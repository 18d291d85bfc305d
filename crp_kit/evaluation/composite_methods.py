"""Evaluations that compare composites."""

from __future__ import annotations

from collections.abc import Sequence

from ..targets import Target
from .base import EvaluationBase
from .composite_table import CompositeTable
from .composites import CompositeMeasures, Composites, compared_composites
from .flipping import FlippingOptions
from .layer_batch import Baseline
from .part_masks import MaskFunction, PartMasks, masks_of

__all__ = ["CompositeEvaluations"]


class CompositeEvaluations(EvaluationBase):
    """Evaluations that compare composites."""

    def composites(
        self,
        layer: str,
        composites: Composites = None,
        *,
        masks: MaskFunction | None = None,
        parts: Sequence[str] | None = None,
        baseline: Baseline = "mean",
        steps: int | None = 16,
        repeats: int = 10,
        stages: int = 4,
        seed: int = 0,
        target: str | Target = "prediction",
        limit: int | None = 64,
        batch_size: int = 16,
        verbose: bool = False,
    ) -> CompositeTable:
        """Return what composites give on the same samples, as one table: which rules to choose for a model.

        No measure alone decides. Flipping says whether the concepts matter to the model, localisation whether heatmaps
        are on the objects, randomisation whether relevance depends on class and weights; conservation and the reached
        share say what of the start arrives.

        Parameters
        ----------
        layer : str
            Name of the node whose concepts are flipped, and share the relevance.
        composites : sequence of str or Composite, or dict, optional
            Names of presets, or composites of your own, in a dictionary by names; by default all presets.
        masks, parts : optional
            As for `localisation`; without masks the columns of localisation are not-a-number.
        baseline, steps, repeats : optional
            As for `flipping`. Random orders are the same for all composites.
        stages : int, optional
            As for `randomisation`.
        seed, target, limit, batch_size, verbose : optional
            As for `flipping`.

        Returns
        -------
        CompositeTable
            A row for each composite, the one that flipping finds best first; ``plot()``.

        Raises
        ------
        InputError
            If there are no data, a setting is not known, two composites have one name, or a sample cannot be used.
        CompositeError
            If a composite that is named does not exist. Presets that cannot be used are left out of all of them, and
            are in ``left_out``.
        UnknownLayerError, UnreachableLayerError, ConceptAxisError
            If there is no such layer, or no relevance arrives there.
        ConditionError
            If the model's output does not depend on the layer or is not one number for each class, or the concepts mix
            the channels of the layer.

        Examples
        --------
        >>> import crp_kit as crp
        >>> from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
        >>> study = crp.Study(demo_resnet(), ShapesDataset(8), preprocess=demo_preprocess)
        >>> table = study.evaluate.composites("layer3.1.conv2", ["epsilon_plus_flat", "gradient"], steps=4, stages=1)
        >>> sorted(table.composite.tolist())
        ['epsilon_plus_flat', 'gradient']
        """
        data = self._pass(layer, target, limit, batch_size)
        dataset = self._subject.samples.dataset
        known = PartMasks(dataset, masks, parts) if masks is not None or masks_of(dataset) or parts else None
        options = FlippingOptions("deletion", baseline, "logit", steps, repeats, seed)
        return compared_composites(data, composites, CompositeMeasures(options, stages, known), verbose=verbose)
