"""Check of figures: no text lies over another one, and none outside of the figure."""

from __future__ import annotations

from itertools import combinations

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text


def assert_texts_are_apart_and_inside(figure: Figure) -> None:
    """Check the bounding boxes of all texts but numbers at ticks, to a pixel."""
    figure.draw_without_rendering()
    renderer = FigureCanvasAgg(figure).get_renderer()
    ticks = {id(label) for ax in figure.axes for axis in (ax.xaxis, ax.yaxis) for label in axis.get_ticklabels()}
    texts = [one for one in figure.findobj(Text) if one.get_visible() and one.get_text().strip()]
    boxes = [(one.get_text(), one.get_window_extent(renderer)) for one in texts if id(one) not in ticks]
    for (text, box), (other, its) in combinations(boxes, 2):
        overlap = min(min(box.x1, its.x1) - max(box.x0, its.x0), min(box.y1, its.y1) - max(box.y0, its.y0))
        assert overlap <= 1, f"{text!r} over {other!r}"
    for text, box in boxes:
        assert min(box.x0, box.y0) >= -1, text
        assert max(box.x1 - figure.bbox.width, box.y1 - figure.bbox.height) <= 1, text
