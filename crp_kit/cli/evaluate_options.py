"""Options that commands of ``crp-kit evaluate`` share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from .options import class_map_option
from .target_options import target_of, target_options

__all__ = ["chosen_samples", "replacement_options", "sample_options", "seed_option"]

_Command = TypeVar("_Command", bound=Callable[..., Any])

_BASELINE = click.option(
    "--baseline",
    type=click.Choice(["mean", "zero", "own"]),
    default="mean",
    show_default=True,
    help="What a concept is replaced by: its mean over the data, 0, its mean in the sample.",
)
_MEASURE = click.option(
    "--measure",
    type=click.Choice(["logit", "probability"]),
    default="logit",
    show_default=True,
    help="What is measured of the class.",
)
_TARGET = target_options("prediction; or label")
_LIMIT = click.option("--limit", type=click.IntRange(min=1), metavar="N", help="The first N samples only.")
_BATCH_SIZE = click.option(
    "--batch-size", type=click.IntRange(min=1), default=16, show_default=True, help="Samples computed at once."
)
seed_option = click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of what is drawn at random."
)


def replacement_options(command: _Command) -> _Command:
    """Add the options of what replaces a concept, and what is measured."""
    return _BASELINE(_MEASURE(command))


def sample_options(command: _Command) -> _Command:
    """Add the options of the samples that an evaluation is of, and of what is measured of them."""
    return _TARGET(_LIMIT(_BATCH_SIZE(class_map_option(command))))


def chosen_samples(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `sample_options` say, as evaluations take it.

    Raises
    ------
    InputError
        If there is no such target.
    """
    target = target_of(options, words=("prediction", "label")) or "prediction"
    return {"target": target, "limit": options["limit"], "batch_size": options["batch_size"]}
