"""Asking an atlas: its layers, samples and classes, and references. Only what is asked for is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ...errors import UnknownLayerError
from ...tables import html_table
from ..file.atlas_file import AtlasFile
from ..file.schema import Kind
from .layer_atlas import LayerAtlas

if TYPE_CHECKING:
    from ...attribution.cond_attribution import CondAttribution
    from ...concepts import Concept
    from ...data.preprocess import Normalise, Preprocess
    from ...rules.presets import Composite
    from .references import ConditionedOn, References

__all__ = ["ConceptAtlas"]

_SHOWN = 100
"""Layers in a notebook."""


class ConceptAtlas(AtlasFile):
    """An atlas file to ask. Nothing is read before it is asked for; many may read at once.

    Parameters
    ----------
    path : str or Path
    incomplete : bool, optional
        Accept a shard, or what an interrupted build has kept (``NAME.partial/checkpoint.h5``).

    Raises
    ------
    AtlasError
        If there is no such file, or it is no sound atlas, of a newer version, or not complete.

    Examples
    --------
    >>> import tempfile
    >>> import crp_kit as crp
    >>> from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
    >>> folder = tempfile.TemporaryDirectory()
    >>> atlas = crp.build_atlas(crp.CondAttribution(demo_resnet()), ShapesDataset(64), f"{folder.name}/atlas.h5",
    ...                         layers=["layer2.1.conv2"], composite="epsilon_plus_flat", preprocess=demo_preprocess)
    >>> atlas["layer2.1.conv2"].relevance.top(3, k=4).sample.shape
    (4,)
    >>> atlas.close(), folder.cleanup()
    (None, None)
    """

    def __reduce__(self) -> tuple[Any, ...]:
        """Open the file anew in another process."""
        return _reopened, (str(self.path),)

    def __getitem__(self, layer: str) -> LayerAtlas:
        """Return what is known of a layer.

        Raises
        ------
        UnknownLayerError
            If the atlas has no such layer.
        """
        if layer not in self._infos:
            raise UnknownLayerError(layer, self._infos, f"{self.path} has no layer {layer!r}")
        number, info = self._infos[layer]
        return LayerAtlas(self, number, info)

    def __iter__(self) -> Iterator[str]:
        return iter(self._infos)

    def __len__(self) -> int:
        return len(self._infos)

    def __repr__(self) -> str:
        layers = (f"{name}: {info.n_concepts} concepts" for name, (_, info) in self._infos.items())
        return "\n  ".join([*self._facts(), *layers])

    def _repr_html_(self) -> str:
        rows = [
            (name, info.concept, str(info.n_concepts), "x".join(map(str, info.output_shape)))
            for name, (_, info) in self._infos.items()
        ]
        heads = ("layer", "concept", "concepts", "shape")
        return html_table(
            heads, rows[:_SHOWN], texts=heads[:2], caption="; ".join(self._facts()), hidden=max(len(rows) - _SHOWN, 0)
        )

    def _facts(self) -> list[str]:
        """Say where the atlas is and what it is of."""
        head = self.header
        return [
            f"ConceptAtlas {self.path}{self._state}",
            f"{head.n_samples} samples of {head.dataset}, {head.n_classes} classes; model {head.model}",
            f"{head.target} targets, {head.aggregate}{', normalised' if head.abs_norm else ''}; "
            f"k = {head.k}, {head.k_class} by class",
        ]

    def references(
        self,
        dataset: Any,
        layer: str,
        concept: int,
        *,
        attribution: CondAttribution,
        composite: Composite | str | None,
        mode: Kind = "relevance",
        k: int = 8,
        receptive_field: bool = False,
        conditioned_on: ConditionedOn = "class",
        preprocess: Preprocess | Normalise | None = None,
        cls: int | str | None = None,
        concepts: Concept | Mapping[str, Concept] | None = None,
        batch_size: int = 16,
        check: bool = True,
    ) -> References:
        """Return the samples in which a concept is strongest, with their conditional heatmaps.

        Parameters
        ----------
        dataset : map-style dataset
            The one that the atlas was made from.
        layer : str
        concept : int
        attribution : CondAttribution
            Of the model that the atlas was made from.
        composite : zennit Composite, str or None
            Rules for the heatmaps.
        mode : {"relevance", "activation"}, optional
            Which ranking: RelMax or ActMax.
        k : int, optional
            How many samples; fewer, if the ranking has no more.
        receptive_field : bool, optional
            Return, for each sample, the box of the input that the neuron at the stored position sees, and the relevance
            that passes this neuron alone. The box is exact and belongs to the architecture, whatever the weights and
            the image: it is what relevance reaches from the neuron if every weight counts as one, so that nothing
            cancels (see `crp_kit.rules.receptive_field`). Paths through factors, such as gates, do not count, as for
            every heatmap; of a maximum that is no pooling, one winner is seen.
        conditioned_on : {"class", "prediction", "layer"}, optional
            Where the relevance of the heatmaps starts. The class for which the sample came into the ranking (by
            activation, the sample's first target; the predicted class if there is none): ``{layer: [concept],
            "y": [class]}``. The predicted class. Or the layer itself: what made the concept active, whether the model
            used it or not.
        preprocess : callable or Preprocess, optional
            As in `build_atlas`.
        cls : int or str, optional
            The ranking of this class only, by number or name.
        concepts : Concept or dict, optional
            As in `build_atlas`.
        batch_size : int, optional
            Heatmaps that are computed at once.
        check : bool, optional
            Make sure that model and dataset are the atlas's own.

        Returns
        -------
        references : References
            Samples, images, heatmaps, receptive fields; ``plot()`` draws them.

        Raises
        ------
        AtlasError
            If model or dataset are not those that the atlas was made from, what a concept is was something else then,
            or no class of a sample is known.
        UnknownLayerError, ConceptRangeError
            If the atlas has no such layer, or the layer no such concept.
        InputError
            If `mode` or `conditioned_on` is another word, the atlas holds less than `k` per ranking, a sample cannot be
            read or is no image, or receptive fields are asked for of a concept that does not choose neurons.

        Examples
        --------
        >>> import tempfile
        >>> import crp_kit as crp
        >>> from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
        >>> folder, data = tempfile.TemporaryDirectory(), ShapesDataset(64)
        >>> attribution, rules = crp.CondAttribution(demo_resnet()), "epsilon_plus_flat"
        >>> atlas = crp.build_atlas(attribution, data, f"{folder.name}/atlas.h5", layers="layer2.1.conv2",
        ...                         composite=rules, preprocess=demo_preprocess)
        >>> found = atlas.references(data, "layer2.1.conv2", 24, attribution=attribution, composite=rules,
        ...                          preprocess=demo_preprocess, k=4)
        >>> found.heatmaps[0].shape
        torch.Size([64, 64])
        >>> atlas.close(), folder.cleanup()
        (None, None)
        """
        from .references import find_references

        return find_references(
            self[layer],
            dataset,
            concept,
            attribution=attribution,
            composite=composite,
            mode=mode,
            k=k,
            receptive_field=receptive_field,
            conditioned_on=conditioned_on,
            preprocess=preprocess,
            cls=cls,
            concepts=concepts,
            batch_size=batch_size,
            check=check,
        )

def _reopened(path: str) -> ConceptAtlas:
    return ConceptAtlas(path, incomplete=True)
