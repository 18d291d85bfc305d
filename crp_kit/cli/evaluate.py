"""``crp-kit evaluate``: whether the concepts that relevance names matter to the model, and heatmaps are right."""

from __future__ import annotations

import click

from .evaluate_composites import composites
from .evaluate_flipping import flipping, insertion
from .evaluate_measures import impact, localisation, randomisation, sensitivity

__all__ = ["evaluate"]


@click.group(short_help="Measure whether the concepts matter to the model.")
def evaluate() -> None:
    """Measure whether the concepts that relevance names matter to the model, and whether heatmaps are right."""


for _command in (flipping, insertion, impact, localisation, randomisation, sensitivity, composites):
    evaluate.add_command(_command)
