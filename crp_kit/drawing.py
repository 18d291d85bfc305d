"""Access to the drawing functions for results that can draw themselves, which know nothing else of figures.

matplotlib is imported when the first figure is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Axes", "Figure", "plots", "png_of"]


def plots() -> Any:
    """Return the module `crp_kit.views.plot`."""
    return import_module(f"{__package__}.views.plot")


def png_of(figure: Figure) -> bytes:
    """Return a figure as a PNG file, as notebooks show it."""
    png: bytes = plots().to_png(figure)
    return png
