"""Figures of models whose weights are random: a strip below them says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import invoke
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from crp_kit.views.plot.sheet import Sheet

LAYER = "layer2.1.conv2"
NOTE = "untrained model: its weights are random"


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Sheet, Any]]:
    """Return figures as they are saved, each with the part of its page that is written."""
    figures: list[tuple[Sheet, Any]] = []

    def save(figure: Sheet, path: Path, *, bbox_inches: Any = None, **_: Any) -> None:
        figures.append((figure, bbox_inches))
        path.touch()

    monkeypatch.setattr(Sheet, "savefig", save)
    return figures


@pytest.mark.parametrize("weights", ["none", "DEFAULT"])
@pytest.mark.parametrize("command", [("heatmap",), ("graph", "--layers", LAYER), ("regions", "--layer", LAYER)])
def test_a_strip_below_a_figure_says_that_weights_are_random(
    command: tuple[str, ...], weights: str, saved: list[tuple[Sheet, Any]], tmp_path: Path
) -> None:
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "a.png")
    name, *options = command
    made = invoke(name, tmp_path / "a.png", "--model", "demo:resnet", "--weights", weights, *options, "-o",
                  tmp_path / "b.png")  # fmt: skip
    assert made.exit_code == 0, made.output
    ((figure, page),) = saved
    notes = [one for one in figure.texts if one.get_text() == NOTE]
    assert len(notes) == (weights == "none")
    if notes:
        place = (
            notes[0]
            .get_window_extent(FigureCanvasAgg(figure).get_renderer())
            .transformed(figure.dpi_scale_trans.inverted())
        )
        assert page.y0 <= place.y0 <= place.y1 <= 0
        assert page.size[0] == figure.get_figwidth()
