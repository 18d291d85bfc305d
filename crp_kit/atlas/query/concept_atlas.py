"""Asking an atlas: its layers, samples and classes, and references. Only what is asked for is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import AtlasError, ConceptRangeError, InputError, UnknownLayerError
from ...tables import html_table
from ..file.reader import open_atlas, read_classes, read_failures, read_header, read_layers, read_progress
from ..file.schema import Header, Kind
from .layer_atlas import LayerAtlas, check_whole
from .rankings import Column

if TYPE_CHECKING:
    from ...attribution.cond_attribution import CondAttribution
    from ...concepts import Concept
    from ...data.preprocess import Preprocess
    from ...rules.presets import Composite
    from ..build.scores import Normalise
    from .references import ConditionedOn, References

__all__ = ["ConceptAtlas"]

_SHOWN = 100
"""Layers in a notebook."""


class ConceptAtlas:
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

    def __init__(self, path: str | Path, *, incomplete: bool = False) -> None:
        self.path = Path(path)
        self._file = open_atlas(path, incomplete=incomplete)
        self.header: Header = read_header(self._file)
        self._infos = {info.name: (number, info) for number, info in enumerate(read_layers(self._file))}
        progress = read_progress(self._file)
        self._state = "" if self.complete else f" (batches {progress.first} to {progress.done} of {progress.batches})"

    def __enter__(self) -> ConceptAtlas:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. What was read stays."""
        self._state = " (closed)"
        self._file.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """Open the file anew in another process."""
        return _reopened, (str(self.path),)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers, in graph order."""
        return tuple(self._infos)

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

    @property
    def complete(self) -> bool:
        """Whether every sample that was asked for has been looked at."""
        return bool(self.attributes["complete"])

    @cached_property
    def attributes(self) -> Mapping[str, Any]:
        """Everything that the file says of itself."""
        return self._file.attributes("/")

    @cached_property
    def samples(self) -> Column:
        """Numbers of the samples in the dataset, ascending: (sample,)."""
        found: Column = self._file.array("/samples/index")[:]
        return found

    @cached_property
    def targets(self) -> Column:
        """First target of each sample, -1 for none: (sample,)."""
        found: Column = self._file.array("/samples/target")[:]
        return found

    @cached_property
    def predictions(self) -> Column:
        """Predicted class of each sample, -1 where it was not looked at: (sample,)."""
        found: Column = self._file.array("/samples/prediction")[:]
        return found

    @cached_property
    def identifiers(self) -> tuple[str, ...] | None:
        """Names of the samples, such as paths, if the dataset had any."""
        return self._file.texts("/samples/id") if self._file.has("/samples/id") else None

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; their numbers, where no names are known."""
        return read_classes(self._file) or tuple(map(str, range(self.header.n_classes)))

    @cached_property
    def skipped(self) -> Mapping[int, str]:
        """Samples that were left out, and why."""
        return read_failures(self._file)

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

    def class_number(self, cls: int | str) -> int:
        """Return the number of a class given by number or name.

        Raises
        ------
        ConceptRangeError
            If there is no such number.
        InputError
            If there is no such name.
        """
        if isinstance(cls, str):
            if cls not in self.classes:
                raise InputError(f"no class is named {cls!r}; the first ones are {', '.join(self.classes[:5])}")
            if self.classes.count(cls) > 1:
                several = [str(number) for number, name in enumerate(self.classes) if name == cls]
                raise InputError(f"several classes are named {cls!r}: give a number, {' or '.join(several)}")
            return self.classes.index(cls)
        check_whole("a class is a name or a whole number", cls)
        if not 0 <= cls < self.header.n_classes:
            raise ConceptRangeError("y", [int(cls)], self.header.n_classes, what="class")
        return int(cls)

    def check_belongs(self, *, model_sha256: str | None = None, dataset_sha256: str | None = None) -> None:
        """Make sure that the atlas was made from a model and a dataset.

        Raises
        ------
        AtlasError
            If it was made from others.
        """
        if model_sha256 is not None and model_sha256 != self.header.model_sha256:
            raise AtlasError(
                f"{self.path} was made from a model with other weights ({self.header.model}) than the one given; "
                f"load those, or build an atlas of this model"
            )
        if dataset_sha256 is not None and dataset_sha256 != self.header.dataset_sha256:
            raise AtlasError(
                f"{self.path} was made from another dataset ({self.header.dataset}) than the one given, or from other "
                f"views of its images; give that one, with the same preprocess"
            )

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
            self,
            dataset,
            layer,
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

    def places(self, samples: Column) -> Column:
        """Return where samples stand in `samples`, `targets` and `predictions`."""
        found: Column = np.searchsorted(self.samples, samples)
        return found


def _reopened(path: str) -> ConceptAtlas:
    return ConceptAtlas(path, incomplete=True)
