"""Asking an atlas: its layers, samples and classes, and references. Only what is asked for is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ...errors import InputError, UnknownLayerError
from ...printable import printable
from ...tables import html_table, shape_text
from ..file.atlas_file import AtlasFile
from .layer_atlas import LayerAtlas
from .selection import AttributeQuery, ClassQuery, Selection, select

__all__ = ["ConceptAtlas", "check_atlases"]

_SHOWN = 100
"""Layers in a notebook."""


class ConceptAtlas(AtlasFile):
    """An atlas file to ask. Nothing is read before it is asked for; many may read at once.

    Parameters
    ----------
    path : str or Path
        The atlas file, or a part of an atlas if `incomplete`.
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
    >>> study = crp.Study(demo_resnet(), ShapesDataset(64), preprocess=demo_preprocess)
    >>> atlas = study.build_atlas(f"{folder.name}/atlas.h5", layers=["layer2.1.conv2"])
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
            advice = f"its layers are {printable(', '.join(self._infos))}"
            raise UnknownLayerError(layer, self._infos, f"{self.path} has no layer {layer!r}", advice)
        number, info = self._infos[layer]
        return LayerAtlas(self, number, info)

    def where(
        self,
        *,
        label: ClassQuery | None = None,
        prediction: ClassQuery | None = None,
        correct: bool | None = None,
        attribute: AttributeQuery | None = None,
        sample: Sequence[int] | None = None,
    ) -> Selection:
        """Return the samples that meet all conditions, for the statistics that take groups or `where`.

        Parameters
        ----------
        label, prediction : int, str, or several, optional
            Classes by number, name or part of a name: the sample's first label, the predicted class.
        correct : bool, optional
            Whether the predicted class is the label.
        attribute : str or dict, optional
            Name of an attribute that is true; or by name its value, several values, or a function that returns whether
            a value fits.
        sample : sequence of int, optional
            Numbers of samples in the dataset.

        Returns
        -------
        Selection
            Combined by ``&``, ``|``, ``~``; of a length, and with the numbers of its samples.

        Raises
        ------
        ConceptRangeError, InputError
            If there is no such class, attribute or sample.
        AtlasError
            If labels are asked for that the file does not have.
        """
        return select(self, label=label, prediction=prediction, correct=correct, attribute=attribute, sample=sample)

    def __iter__(self) -> Iterator[str]:
        return iter(self._infos)

    def __len__(self) -> int:
        return len(self._infos)

    def __repr__(self) -> str:
        layers = (f"{printable(name)}: {info.n_concepts} concepts" for name, (_, info) in self._infos.items())
        return "\n  ".join([*self._facts(), *layers])

    def _repr_html_(self) -> str:
        rows = [
            (name, info.concept, str(info.n_concepts), shape_text(info.output_shape))
            for name, (_, info) in self._infos.items()
        ]
        heads = ("layer", "concept", "concepts", "shape")
        return html_table(
            heads,
            rows[:_SHOWN],
            text_columns=heads[:2],
            caption="; ".join(self._facts()),
            hidden=max(len(rows) - _SHOWN, 0),
        )

    def _facts(self) -> list[str]:
        """Say where the atlas is and what it is of."""
        head = self.header
        return [
            f"ConceptAtlas {self.path}{self._state}",
            printable(f"{head.n_samples} samples of {head.dataset}, {head.n_classes} classes; model {head.model}"),
            printable(f"{head.target} targets, {'' if self.has_classes else 'of no class, '}{head.aggregate}")
            + f"{', normalised' if head.abs_norm else ''}; "
            + f"k = {head.k}, {head.k_class} by class",
        ]


def _reopened(path: str) -> ConceptAtlas:
    return ConceptAtlas(path, incomplete=True)


def check_atlases(*atlases: Any) -> None:
    """Make sure that all are opened atlases.

    Raises
    ------
    InputError
        If one is something else.
    """
    for atlas in atlases:
        if not isinstance(atlas, ConceptAtlas):
            raise InputError(f"two opened atlases are compared, from ConceptAtlas(path); got {type(atlas).__name__}")
