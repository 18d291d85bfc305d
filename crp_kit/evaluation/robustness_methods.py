"""Evaluations of whether relevance depends on the class and on what the model has learned, and how much on noise."""

from __future__ import annotations

from collections.abc import Sequence

from ..targets import Target
from .base import EvaluationBase
from .robustness import randomisation, sensitivity
from .robustness_tables import Randomisation, Sensitivity

__all__ = ["RobustnessEvaluations"]


class RobustnessEvaluations(EvaluationBase):
    """Evaluations of whether relevance follows class and weights, and how much it follows noise."""

    def randomisation(
        self,
        layer: str,
        *,
        stages: int = 8,
        seed: int = 0,
        target: str | Target = "prediction",
        limit: int | None = None,
        batch_size: int = 16,
        verbose: bool = False,
    ) -> Randomisation:
        """Return how unlike shares of relevance become for another class, and as modules lose what they have learned.

        Relevance that says why the model gives its output has to change with the class and with the weights. The values
        of each parameter are put into a random order, module by module from the output down, in a private copy: the
        model itself is never changed. A target has no other class to compare with, and chooses region or box in each
        output.

        Parameters
        ----------
        layer : str
            Name of the node whose concepts share the relevance.
        stages : int, optional
            Groups of modules, at most, that lose their weights one after the other.
        seed : int, optional
            Of the orders, and of the other class of each sample.
        target, limit, batch_size, verbose : optional
            As for `flipping`.

        Returns
        -------
        Randomisation
            ``table`` has the mean rank correlation with the shares of the model as it is; ``plot()``.

        Raises
        ------
        InputError
            If there are no data, a sample cannot be used, or the output has one class.
        UnknownLayerError, UnreachableLayerError, ConceptAxisError
            If there is no such layer, or no relevance arrives there.
        ConditionError
            If the model's output is not one number for each class.
        ModelError
            If the model cannot be copied.

        References
        ----------
        J. Adebayo et al., Sanity checks for saliency maps, NeurIPS 2018. L. Sixt et al., When explanations lie: why
        many modified BP attributions fail, ICML 2020.

        Examples
        --------
        >>> import crp_kit as crp
        >>> from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
        >>> study = crp.Study(demo_resnet(), ShapesDataset(16), preprocess=demo_preprocess)
        >>> table = study.evaluate.randomisation("layer2.1.conv2", stages=4).table
        >>> bool(table.correlation[-1] < 0.5)
        True
        """
        data = self._pass(layer, target, limit, batch_size)
        return randomisation(data, stages=stages, seed=seed, verbose=verbose)

    def sensitivity(
        self,
        layer: str,
        *,
        noise: Sequence[float] = (0.05, 0.1, 0.2),
        repeats: int = 4,
        seed: int = 0,
        target: str | Target = "prediction",
        limit: int | None = None,
        batch_size: int = 16,
        verbose: bool = False,
    ) -> Sensitivity:
        """Return how much shares of relevance change when noise is added to the model's input.

        The class that relevance starts from is that without noise. A target chooses region or box in each output.

        Parameters
        ----------
        layer : str
            Name of the node whose concepts share the relevance.
        noise : sequence of float, optional
            Standard deviations of the noise, relative to that of the sample's model input.
        repeats : int, optional
            Noisy inputs of each sample and level.
        seed : int, optional
            Of the noise, which depends on the number of the sample and not on its batch.
        target, limit, batch_size, verbose : optional
            As for `flipping`.

        Returns
        -------
        Sensitivity
            ``table`` has distance and rank correlation by level; ``plot()``.

        Raises
        ------
        InputError
            If there are no data, a sample cannot be used, or a level is not above 0.
        UnknownLayerError, UnreachableLayerError, ConceptAxisError
            If there is no such layer, or no relevance arrives there.
        ConditionError
            If the model's output is not one number for each class.

        Examples
        --------
        >>> import crp_kit as crp
        >>> from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
        >>> study = crp.Study(demo_resnet(), ShapesDataset(8), preprocess=demo_preprocess)
        >>> table = study.evaluate.sensitivity("layer2.1.conv2", noise=(0.05, 0.5), repeats=2).table
        >>> bool(table.distance[0] < table.distance[1])
        True
        """
        data = self._pass(layer, target, limit, batch_size)
        return sensitivity(data, noise, repeats=repeats, seed=seed, verbose=verbose)
