"""Base of the evaluations of a study: what is evaluated, and where what is done is kept."""

from __future__ import annotations

from pathlib import Path

from ..atlas.query.concept_atlas import ConceptAtlas
from ..atlas.query.layer_atlas import LayerAtlas
from ..attribution.subject import Subject
from ..errors import InputError
from ..targets import Target
from .layer_pass import LayerPass
from .sample_choice import SampleChoice

__all__ = ["EvaluationBase", "layer_of"]


class EvaluationBase:
    """What is evaluated, and where what is done is kept.

    Parameters
    ----------
    subject : Subject
        What is evaluated: model, data, rules and concepts.
    checkpoint : Path, optional
        Where evaluations keep what is done.
    """

    def __init__(self, subject: Subject, checkpoint: Path | None = None) -> None:
        self._subject, self._checkpoint = subject, checkpoint

    def _pass(self, layer: str, target: str | Target, limit: int | None, batch_size: int) -> LayerPass:
        """Return a pass over the samples at a layer."""
        choice = SampleChoice.of(self._subject, target, limit, batch_size)
        return LayerPass(self._subject, layer, choice, self._checkpoint)


def layer_of(atlas: ConceptAtlas, layer: str) -> LayerAtlas:
    """Return a layer of an atlas.

    Raises
    ------
    InputError
        If it is no atlas.
    UnknownLayerError
        If it has no such layer.
    """
    if not isinstance(atlas, ConceptAtlas):
        raise InputError(f"atlas is a ConceptAtlas, such as crp_kit.ConceptAtlas('atlas.h5'); got {atlas!r:.60}")
    return atlas[layer]
