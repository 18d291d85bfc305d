"""Tables as commands print them: aligned text, JSON or comma-separated values, and their figure."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Mapping
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..drawing import plots
from ..errors import InputError
from ..printable import printable
from .files import check_figure, check_outputs, write_file
from .group import say
from .look import width_option
from .options import overwrite_option

if TYPE_CHECKING:
    from ..drawing import Figure
    from ..result_table import Table

__all__ = ["check_table_output", "drawn", "figure_options", "print_table", "table_options"]

_Command = TypeVar("_Command", bound=Callable[..., Any])

_JSON = click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
_CSV = click.option("--csv", "as_csv", is_flag=True, help="Print comma-separated values.")
_FIGURE = click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="A figure: .png, .pdf, .svg or .jpg."
)


def table_options(command: _Command) -> _Command:
    """Add the options of a table that is printed."""
    return _JSON(_CSV(command))


def figure_options(command: _Command) -> _Command:
    """Add the options of a table that is printed, and of its figure."""
    return table_options(_FIGURE(width_option(overwrite_option(command))))


def check_table_output(options: Mapping[str, Any]) -> None:
    """Refuse formats that exclude each other, and a figure that could not be written, before any work is done.

    Raises
    ------
    InputError
        If there is one.
    """
    if options["as_json"] and options["as_csv"]:
        raise InputError("--json and --csv are two formats; leave one of them out")
    output = options.get("output")
    if output is None and options.get("width") is not None:
        raise InputError("--width is that of a figure: name its file with -o")
    if output is not None:
        check_figure(output)
        check_outputs([output], overwrite=options["overwrite"])


def print_table(table: Table, options: Mapping[str, Any], plot: Callable[[], Figure] | None = None) -> None:
    """Print a table in the format of the options, and write its figure where one is asked for."""
    output = options.get("output")
    if output is not None and plot is not None:
        figure = drawn(plot, options["width"])
        write_file(output, lambda path: figure.savefig(path, dpi=150), overwrite=options["overwrite"])
        click.echo(output, err=True)
    if options["as_json"]:
        click.echo(json.dumps([_finite(row) for row in table.rows()], indent=1))
    elif options["as_csv"]:
        click.echo(_as_csv(table.rows()), nl=False)
    else:
        if table.caption:
            say(table.caption)
        click.echo(table.text(len(table)))


def drawn(plot: Callable[..., Figure], width: float | None) -> Figure:
    """Return a figure of a width: drawn for it where the function can do that, else brought to it."""
    if width is not None and "width" in signature(plot).parameters:
        return plot(width=width)
    figure = plot()
    return figure if width is None else plots().in_width(figure, width)


def _finite(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row for JSON, which has no not-a-number and no infinity: null stands for them."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()
    }


def _as_csv(rows: Iterable[Mapping[str, Any]]) -> str:
    text, writer = io.StringIO(), None
    for row in rows:
        if writer is None:
            writer = csv.DictWriter(text, list(row), lineterminator="\n")
            writer.writeheader()
        writer.writerow(_printable_cells(row))
    return text.getvalue()


def _printable_cells(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row without characters that a terminal obeys. JSON has escapes of its own."""
    return {name: printable(value) if isinstance(value, str) else value for name, value in row.items()}
