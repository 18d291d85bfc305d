"""Figures as files: fonts are embedded in vector formats, and matplotlib's settings stay as they are."""

from __future__ import annotations

import warnings
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from ...checks import is_real
from ...errors import CrpKitWarning, InputError

__all__ = ["NARROW", "Sheet", "add_strip", "check_width", "warn_of_height"]

NARROW = 5.0
"""Inches: in narrower figures the colour bar stands below the panels, not beside them."""
_NARROWEST, _WIDEST, _STRIP = 2.4, 100.0, 0.2
_PAGE = 11.0
"""Height in inches that fits a page."""
_VECTORS: Any = {"pdf.fonttype": 42, "ps.fonttype": 42, "svg.fonttype": "path"}
"""TrueType fonts inside of PDF and PostScript files; in SVG letters are shapes, which need no font of the reader's."""


class Sheet(Figure):
    """A figure whose files look the same everywhere; parameters as for `matplotlib.figure.Figure`.

    Its `bar_below` says whether the colour bar stands below the panels.

    Examples
    --------
    >>> import io
    >>> file = io.BytesIO()
    >>> sheet = Sheet(figsize=(2, 1))
    >>> _ = sheet.text(0.5, 0.5, "concept")
    >>> sheet.savefig(file, format="pdf")
    >>> b"/FontFile2" in file.getvalue(), b"/Type3" in file.getvalue()
    (True, False)
    """

    bar_below = False

    def savefig(self, fname: Any, **options: Any) -> None:
        """Save the figure; parameters as for `matplotlib.figure.Figure.savefig`."""
        with mpl.rc_context(_VECTORS):
            super().savefig(fname, **options)


def add_strip(figure: Figure, text: str) -> Bbox:
    """Write a line below a figure, and return the page with it, as ``savefig(bbox_inches=…)`` takes it."""
    width, height = figure.get_size_inches()
    figure.text(0.08 / width, -0.04 / height, text, fontsize=7, va="top")
    return Bbox([[0, -_STRIP], [width, height]])


def check_width(width: float | None) -> None:
    """Make sure that a width of a figure can be drawn, or is left to the figure.

    Raises
    ------
    InputError
        If it is no number of inches from 2.4 to 100.
    """
    if width is not None and not is_real(width, _NARROWEST, _WIDEST):
        raise InputError(f"width is the figure's in inches, from {_NARROWEST:g} to {_WIDEST:g}; got {width!r}")


def warn_of_height(figure: Figure, width: float | None) -> None:
    """Warn of a figure whose width was asked for and that is higher than a page."""
    height = float(figure.get_figheight())
    if width is not None and height > _PAGE:
        warnings.warn(
            f"at a width of {width:g} inches the figure is {height:.0f} inches high, more than a page: draw fewer "
            f"samples, columns or concepts in it, or each concept in a figure of its own",
            CrpKitWarning,
            stacklevel=4,
        )
