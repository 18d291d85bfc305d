"""Evaluations of heatmaps: whether their relevance is where the masks of objects and parts are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..targets import Target
from .base import EvaluationBase, layer_of
from .localisation import ReferenceChoice, concept_localisation, localisation
from .localisation_tables import ConceptLocalisation, Localisation
from .part_masks import MaskFunction, PartMasks
from .sample_choice import SampleChoice

if TYPE_CHECKING:
    from ..atlas import ConceptAtlas
    from ..atlas.query.reference_starts import ConditionedOn

__all__ = ["MapEvaluations"]


class MapEvaluations(EvaluationBase):
    """Evaluations of heatmaps."""

    def localisation(
        self,
        *,
        masks: MaskFunction | None = None,
        parts: Sequence[str] | None = None,
        target: str | Target = "prediction",
        limit: int | None = None,
        batch_size: int = 16,
        verbose: bool = False,
    ) -> Localisation:
        """Return how well the heatmaps of samples are localised in their masks, beside what chance has.

        Parameters
        ----------
        masks : callable, optional
            From the number of a sample to its mask, (height, width) or (part, height, width) of booleans, as large as
            the model's input; by default the ``masks`` of the data.
        parts : sequence of str, optional
            Which parts make the mask, by the names that the data's ``parts`` have; by default all of them.
        target, limit, batch_size, verbose : optional
            As for `flipping`.

        Returns
        -------
        Localisation
            ``table`` has relevance mass and rank accuracy, the pointing game, and intersection over union at Otsu's
            threshold, of the positive part of the heatmaps; ``plot()``.

        Raises
        ------
        InputError
            If there are no data or masks, a mask does not fit its heatmap, or there is no such part.
        ConditionError
            If the model's output is not one number for each class.

        References
        ----------
        L. Arras et al., CLEVR-XAI: a benchmark dataset for the ground truth evaluation of neural network explanations,
        Information Fusion 81, 2022.

        Examples
        --------
        >>> import crp_kit as crp
        >>> from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
        >>> study = crp.Study(demo_resnet(), ShapesDataset(16), preprocess=demo_preprocess)
        >>> objects = ("circle", "triangle", "square", "cross")
        >>> table = study.evaluate.localisation(parts=objects).table
        >>> table.score[0], bool(table.above_low[0] > 0)
        (np.str_('mass'), True)
        """
        choice = SampleChoice.of(self._subject, target, limit, batch_size)
        known = PartMasks(self._subject.samples.dataset, masks, parts)
        return localisation(self._subject, known, choice, checkpoint=self._checkpoint, verbose=verbose)

    def concept_localisation(
        self,
        atlas: ConceptAtlas,
        layer: str,
        *,
        concept_ids: Sequence[int] | None = None,
        k: int = 8,
        masks: MaskFunction | None = None,
        parts: Sequence[str] | None = None,
        conditioned_on: ConditionedOn | Target = "class",
        batch_size: int = 16,
        verbose: bool = False,
    ) -> ConceptLocalisation:
        """Return in which parts concepts are localised: their conditional heatmaps, of their reference samples.

        Parameters
        ----------
        atlas : ConceptAtlas
            Made from this model and data.
        layer : str
            Name of a layer of the atlas.
        concept_ids : sequence of int, optional
            These concepts only.
        k : int, optional
            Reference samples of each concept, by relevance.
        masks : callable, optional
            As for `localisation`.
        parts : sequence of str, optional
            These parts only.
        conditioned_on : {"class", "prediction", "layer"} or Target, optional
            Where the relevance of the heatmaps starts, as for `crp_kit.Study.references`.
        batch_size : int, optional
            Heatmaps that are computed at once, at most.
        verbose : bool, optional
            Show progress on stderr.

        Returns
        -------
        ConceptLocalisation
            A row for each concept and part; ``best()`` has the best part of each concept, ``plot()`` all of them.

        Raises
        ------
        AtlasError
            If model or data are not those that the atlas was made from.
        UnknownLayerError, ConceptRangeError
            If the atlas has no such layer, or the layer no such concept.
        InputError
            If there are no masks, a mask does not fit its heatmap, or there is no such part.

        Examples
        --------
        >>> import tempfile
        >>> import crp_kit as crp
        >>> from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
        >>> study, folder = crp.Study(demo_resnet(), ShapesDataset(64), preprocess=demo_preprocess), tempfile.mkdtemp()
        >>> with study.build_atlas(f"{folder}/atlas.h5", layers="layer2.1.conv2", verbose=False) as atlas:
        ...     table = study.evaluate.concept_localisation(atlas, "layer2.1.conv2", concept_ids=[24], k=4)
        >>> len(table), len(table.best())
        (8, 1)
        """
        return concept_localisation(
            self._subject,
            layer_of(atlas, layer),
            PartMasks(self._subject.samples.dataset, masks, parts),
            ReferenceChoice(concept_ids, k, conditioned_on, batch_size),
            checkpoint=self._checkpoint,
            verbose=verbose,
        )
