"""How time grows, as a figure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from .cases import GROWTH, LAYERS, Case

Record = Mapping[str, Any]
Points = list[tuple[int, float]]
STYLES = {"ours": ("o-", "crp-kit"), "peer": ("s--", "zennit-crp"), "floor": (":", "floor")}
WIDTH, HEIGHT, DPI = 9.0, 3.0, 100
"""Inches, the height by row of panels: 900 pixels wide."""


def draw(records: list[Record], path: Path) -> None:
    """Draw the time of heatmaps by side, and below it how crp-kit's own time grows; nothing if neither was measured."""
    from matplotlib.figure import Figure

    compared, grown = curves(records), growth(records)
    rows: list[list[Callable[[Any], None]]] = [
        [partial(_compared, found=compared)] if compared else [],
        [partial(_grown, what=what, found=found) for what, found in grown.items()],
    ]
    rows = [row for row in rows if row]
    if not rows:
        return
    figure = Figure(figsize=(WIDTH, HEIGHT * len(rows)), layout="constrained")
    for part, row in zip(figure.subfigures(len(rows), squeeze=False)[:, 0], rows, strict=True):
        for panel, axes in zip(row, part.subplots(1, len(row), squeeze=False)[0], strict=True):
            panel(axes)
    figure.savefig(path, dpi=DPI)


def curves(records: Iterable[Record]) -> dict[tuple[str, str], Points]:
    """Return counts and seconds of heatmaps by model and side: of the usual rules and layer."""
    found: dict[tuple[str, str], Points] = {}
    for record in records:
        case, median = record["case"], record["median"]
        model, where = case["model"], (case["layer"], case["composite"])
        if record["part"] == "heatmaps" and where == (LAYERS[model], Case.composite):
            for side in filter(median.__contains__, STYLES):
                found.setdefault((model, side), []).append((case["count"], median[side]))
    return found


def growth(records: Iterable[Record]) -> dict[str, dict[str, Points]]:
    """Return numbers and seconds by what the time may grow with: of everything, and of an atlas's pass alone."""
    found: dict[str, dict[str, Points]] = {}
    for record in records:
        if what := record["case"]["growth"]:
            number, ours, lines = record["case"][GROWTH[what][0]], record["sides"]["ours"], found.setdefault(what, {})
            lines.setdefault("crp-kit", []).append((number, record["median"]["ours"]))
            if "around" in ours:
                lines.setdefault("the pass alone", []).append((number, ours["wall"][-1] - ours["around"]))
    return found


def _compared(axes: Any, found: Mapping[tuple[str, str], Points]) -> None:
    """Draw heatmaps: one colour a model, one style a side."""
    models = list(dict.fromkeys(model for model, _ in found))
    for (model, side), points in found.items():
        style, name = STYLES[side]
        colour = f"C{models.index(model)}"
        axes.plot(*zip(*points, strict=True), style, color=colour, label=f"{model}, {name}", markersize=4)
    _finish(axes, "Conditional heatmaps of one image", "heatmaps", found.values())
    axes.legend(fontsize="x-small", loc="center left", bbox_to_anchor=(1.01, 0.5))


def _grown(axes: Any, what: str, found: Mapping[str, Points]) -> None:
    """Draw what was measured, and the line of the expected slope through the last point of all."""
    from matplotlib.ticker import LogLocator

    for style, (name, points) in zip(("o-", "s:"), found.items(), strict=False):
        axes.plot(*zip(*points, strict=True), style, label=name, markersize=4)
    power, (last, seconds) = GROWTH[what][1], points[-1]
    expected = [(number, seconds * (number / last) ** power) for number, _ in points]
    axes.plot(*zip(*expected, strict=True), "--", color="grey", label="linear" if power else "constant")
    axes.set_aspect("equal", adjustable="datalim")
    _finish(axes, f"{'Heatmaps' if what == 'conditions' else 'Atlas'}, by {what}", what, found.values())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.legend(fontsize="x-small", loc="lower right")


def _finish(axes: Any, title: str, label: str, several: Iterable[Points]) -> None:
    axes.set_title(title, fontsize="medium")
    axes.set(xlabel=label, ylabel="seconds", xscale="log", yscale="log")
    axes.set_xticks(sorted({number for points in several for number, _ in points}))
    axes.minorticks_off()
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
    axes.grid(visible=True, which="major", alpha=0.3)
