"""Options that several commands share, and what their texts mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from ..class_names import class_number
from ..errors import InputError
from .group import say

__all__ = [
    "atlas_layer_option",
    "atlas_output_option",
    "class_map_option",
    "class_named",
    "layer_names",
    "layer_option",
    "numbers",
    "overwrite_option",
]

overwrite_option = click.option("--overwrite", is_flag=True, help="Replace files that exist.")
layer_option = click.option(
    "--layer", required=True, metavar="LAYER", help="A layer of the model; crp-kit layers lists them."
)
atlas_layer_option = click.option(
    "--layer", required=True, metavar="LAYER", help="A layer of the atlas; crp-kit atlas info lists them."
)
atlas_output_option = click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The atlas, such as atlas.h5.",
)
class_map_option = click.option(
    "--class-map",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The model's classes, by number or name, for the folders of the data: CSV (folder,class) or JSON.",
)


def class_named(text: str, names: Sequence[str]) -> int:
    """Return the number of the class that ``--class`` means, and say so where a name looks like a number.

    Raises
    ------
    InputError
        If there is none.
    """
    number = class_number(text, names)
    if text.isdecimal() and number != int(text):
        say(f"--class {text} is the class of this name, number {number}")
    return number


def layer_names(values: Sequence[str]) -> list[str]:
    """Return the names and patterns of ``--layers``; one value may have several, as ``--suggest`` prints them."""
    return [name for value in values for name in value.split()]


def numbers(text: str) -> list[int]:
    """Return the numbers that a text such as ``0-9,20`` means.

    Raises
    ------
    InputError
        If it is none.
    """
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise InputError(f"numbers are written like 0-9,20; got {part!r} in {text!r}")
        found += range(int(first), int(last or first) + 1)
    return found
