"""How time grows, as a figure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

Record = Mapping[str, Any]
Curves = dict[tuple[str, str], list[tuple[float, float]]]
PANELS: dict[str, tuple[str, str, Callable[[Record], float]]] = {
    "heatmaps": ("Conditional heatmaps of one image", "heatmaps", lambda record: record["case"]["count"]),
    "images": ("Atlas, by images", "images", lambda record: record["case"]["count"]),
    "layers": ("Atlas, by layers", "convolutions", lambda record: record["sides"]["ours"]["layers"]),
    "classes": ("Atlas, by classes", "classes", lambda record: record["case"]["classes"]),
}
"""By what a case says to be a point of: title, name of the axis, and place on it."""
STYLES = {"ours": ("o-", "crp-kit"), "peer": ("s--", "zennit-crp"), "floor": (":", "floor")}
WIDTH, HEIGHT, DPI = 9.0, 3.6, 100
"""Inches, the height by row of panels: 900 pixels wide."""


def draw(records: list[Record], path: Path) -> None:
    """Draw time against each thing that it grows with, wherever there are two points at least."""
    from matplotlib.figure import Figure

    every = {panel: curves(records, panel) for panel in PANELS}
    drawn = {panel: found for panel, found in every.items() if any(len(points) > 1 for points in found.values())}
    rows = -(-max(1, len(drawn)) // 2)
    figure = Figure(figsize=(WIDTH, HEIGHT * rows), layout="constrained")
    for number, (panel, found) in enumerate(drawn.items()):
        _panel(figure.add_subplot(rows, min(2, len(drawn)), number + 1), panel, found)
    figure.savefig(path, dpi=DPI)


def curves(records: Iterable[Record], panel: str) -> Curves:
    """Return the points of a panel by model and side, from left to right."""
    place = PANELS[panel][2]
    found: Curves = {}
    for record in sorted((one for one in records if panel in one["case"]["growth"]), key=place):
        for side in STYLES:
            if side in record["median"]:
                points = found.setdefault((record["case"]["model"], side), [])
                points.append((place(record), record["median"][side]))
    return found


def _panel(axes: Any, panel: str, found: Curves) -> None:
    """Draw one panel: one colour a model, one style a side."""
    title, label, _ = PANELS[panel]
    models = list(dict.fromkeys(model for model, _ in found))
    for (model, side), points in found.items():
        style, name = STYLES[side]
        colour = f"C{models.index(model)}"
        axes.plot(*zip(*points, strict=True), style, color=colour, label=f"{model}, {name}", markersize=4)
    axes.set(title=title, xlabel=label, ylabel="seconds", xscale="log", yscale="log")
    axes.set_xticks(sorted({place for points in found.values() for place, _ in points}))
    axes.minorticks_off()
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend(fontsize="x-small", ncols=max(1, len(models) // 2))
