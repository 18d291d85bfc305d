"""``crp-kit evaluate flipping`` and ``insertion``: concepts replaced one after the other, and given back."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..errors import InputError
from .evaluate_files import check_saving, curve_table, evaluated, result_options
from .evaluate_options import chosen_samples, replacement_options, sample_options
from .studies import study_of
from .study_options import study_options
from .table_output import check_table_output, figure_options, print_table

if TYPE_CHECKING:
    from ..evaluation import Evaluation, FlippingCurves

__all__ = ["flipping", "insertion"]

_SETTINGS = ("baseline", "steps", "repeats", "seed", "shard")
_LAYER = "A layer of the model; crp-kit layers lists them. Repeatable."
_STEPS = "Numbers of replaced concepts at which the output is measured, at most."
_Command = TypeVar("_Command", bound=Callable[..., Any])


def _flipping_options(command: _Command) -> _Command:
    for option in reversed(
        (
            click.option("--layer", "layers", required=True, multiple=True, metavar="LAYER", help=_LAYER),
            click.option(
                "--beside",
                multiple=True,
                metavar="COMPOSITE",
                help="Other rules, shown beside those of --composite. Repeatable.",
            ),
            click.option(
                "--orders",
                default="relevance,activation,random",
                show_default=True,
                metavar="NAMES",
                help="Of relevance, activation, least_relevant, prototype, random; with commas between.",
            ),
            click.option(
                "--steps", type=click.IntRange(min=2), default=32, show_default=True, metavar="N", help=_STEPS
            ),
            click.option("--repeats", type=click.IntRange(min=1), default=10, show_default=True, help="Random orders."),
            click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of random orders."),
            click.option(
                "--shard",
                metavar="I/N",
                help="Only this part of the samples, from 0/N on; crp-kit evaluate show joins what --save has kept.",
            ),
            click.option("--curves", is_flag=True, help="Print the curves instead of the areas."),
        )
    ):
        command = option(command)
    return command


@click.command(short_help="Replace concepts one after the other.")
@study_options
@_flipping_options
@replacement_options
@sample_options
@result_options
@figure_options
def flipping(**options: Any) -> None:
    """Replace the concepts of a layer one after the other, and print how much the output falls.

    \b
    Example:
      crp-kit evaluate flipping --model demo:resnet --data demo:shapes:64 --layer layer2.1.conv2 -o flipping.png

    The area over a curve is the larger, the earlier an order has the concepts that the model needs most; better is what
    it has beyond random orders.
    """  # noqa: D301
    _print_curves("flipping", options)


@click.command(short_help="Give replaced concepts back one after the other.")
@study_options
@_flipping_options
@replacement_options
@sample_options
@result_options
@figure_options
def insertion(**options: Any) -> None:
    """Replace all concepts of a layer, give them back one after the other, and print how much the output rises.

    \b
    Example:
      crp-kit evaluate insertion --model demo:resnet --data demo:shapes:64 --layer layer2.1.conv2 -o insertion.png
    """  # noqa: D301
    _print_curves("insertion", options)


def _print_curves(mode: str, options: dict[str, Any]) -> None:
    from ..views.plot import flipping_curves

    check_table_output(options)
    check_saving(options)
    samples = chosen_samples(options)
    study = study_of(options, needs_data=True)
    names = [name.strip() for name in options["orders"].split(",")]
    if len(set(names)) < len(names):
        raise InputError(f"--orders names an order twice: {options['orders']!r}")
    rules = [options["composite"], *options["beside"]]
    for what, values in (("--layer", options["layers"]), ("--beside", rules)):
        if len(set(values)) < len(values):
            raise InputError(f"{what} names {max(values, key=list(values).count)!r} twice")
    if options["save"] is not None and len(options["layers"]) * len(rules) > 1:
        raise InputError("--save keeps one result: name one --layer, and no --beside")
    asked = {
        "orders": names,
        "output": options["measure"],
        "verbose": sys.stderr.isatty(),
        **samples,
        **{name: options[name] for name in _SETTINGS},
    }
    results = [
        evaluated(study.replace(composite=composite), options, partial(_curves, mode, layer, asked))
        for layer in options["layers"]
        for composite in rules
    ]
    print_table(curve_table(results, whole=options["curves"]), options, lambda: flipping_curves(results))


def _curves(mode: str, layer: str, asked: dict[str, Any], evaluate: Evaluation) -> FlippingCurves:
    """Return the curves of flipping or insertion at a layer."""
    curves: FlippingCurves = getattr(evaluate, mode)(layer, **asked)
    return curves
