"""Access to the drawing functions for results that can draw themselves, which know nothing else of figures.

matplotlib is imported when the first figure is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Axes", "Figure", "imgify", "plots", "png_of", "save_attribution"]


def plots() -> Any:
    """Return the module `crp_kit.views.plot`."""
    return import_module(f"{__package__}.views.plot")


def imgify(maps: Any, **options: Any) -> Any:
    """Return heatmaps as a picture; see `crp_kit.views.imgify.imgify`."""
    return import_module(f"{__package__}.views.imgify").imgify(maps, **options)


def save_attribution(attr: Any, folder: Any, data: Any, **options: Any) -> Any:
    """Write a result into a folder; see `crp_kit.Attribution.save`."""
    return import_module(f"{__package__}.views.attribution_files").save_attribution(attr, folder, data, **options)


def png_of(figure: Figure) -> bytes:
    """Return a figure as a PNG file, as notebooks show it."""
    png: bytes = plots().to_png(figure)
    return png
