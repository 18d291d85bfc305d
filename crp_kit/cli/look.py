"""Options for the look of figures: style, scale, colours and width."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

__all__ = ["cmap_option", "look_of", "look_options", "percentile_option", "style_option", "width_option"]

_Command = TypeVar("_Command", bound=Callable[..., Any])
_NAMES = ("style", "percentile", "cmap", "width")

style_option = click.option(
    "--style",
    type=click.Choice(["overlay", "map", "masked"]),
    help="Relevance in colours over the grey image, on white, or the image dark where relevance is low.  [default: "
    "overlay, or map for what is no image]",
)
percentile_option = click.option(
    "--percentile",
    type=click.FloatRange(0, 100, min_open=True),
    default=99.5,
    show_default=True,
    help="The percentile of |relevance| from which colours are the strongest; 100 for the largest value.",
)
cmap_option = click.option(
    "--cmap", metavar="NAME", help="A colour map of zennit, such as coldnhot, or its source, such as 00f,80:fff,f00."
)
width_option = click.option(
    "--width",
    type=click.FloatRange(2.4, 100),
    metavar="INCHES",
    help="Width of the figure, such as 3.4 for the column of a paper.",
)


def look_options(command: _Command) -> _Command:
    """Add the options for the look of heatmaps, the same for all commands that draw some."""
    for option in (width_option, cmap_option, percentile_option, style_option):
        command = option(command)
    return command


def look_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the options say of the look, as the functions of `crp_kit.views.plot` take it.

    Raises
    ------
    InputError
        If there is no such colour map.
    """
    from ..views.image import colours

    chosen = {name: options[name] for name in _NAMES if options.get(name) is not None}
    if "cmap" in chosen:
        colours([0.0], cmap=chosen["cmap"])
    return chosen
