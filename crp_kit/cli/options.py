"""Options that several commands share, and what their texts mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from ..class_names import class_number
from ..errors import InputError
from .group import say

__all__ = ["class_map_option", "class_named", "layer_names", "numbers", "overwrite_option"]

overwrite_option = click.option("--overwrite", is_flag=True, help="Replace files that exist.")
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
