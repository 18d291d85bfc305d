"""``crp-kit evaluate``: whether the concepts that relevance names matter to the model, and heatmaps are right."""

from __future__ import annotations

import click

from .evaluate_composites import composites
from .evaluate_files import show
from .evaluate_flipping import flipping, insertion
from .evaluate_measures import impact, localisation, randomisation, sensitivity
from .evaluate_references import clarity, concept_localisation, split_concept

__all__ = ["evaluate"]


@click.group(short_help="Measure whether the concepts matter to the model.")
def evaluate() -> None:
    """Measure whether the concepts that relevance names matter to the model, and whether heatmaps are right."""


for _command in (
    flipping,
    insertion,
    impact,
    localisation,
    concept_localisation,
    randomisation,
    sensitivity,
    split_concept,
    clarity,
    composites,
    show,
):
    evaluate.add_command(_command)
