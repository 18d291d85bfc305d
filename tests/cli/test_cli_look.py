"""Options for the look of figures: style, percentile, colour map and width, the same for all commands that draw."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import invoke
from PIL import Image

from crp_kit.data import ShapesDataset
from crp_kit.views.image import picture

IMAGE = ("0.png", "--model", "demo:resnet")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a demo image in it."""
    monkeypatch.chdir(tmp_path)
    picture(ShapesDataset(1, split="test")[0][0]).save(tmp_path / "0.png")
    return tmp_path


def test_figures_have_the_width_that_is_asked_for_and_styles_differ(folder: Path) -> None:
    heatmap = ("heatmap", *IMAGE, "--condition", "layer2.1.conv2:24", "--width", 3.4)
    regions = ("regions", *IMAGE, "--layer", "layer3.1.conv2", "--top", 4, "--width", 3.4, "--percentile", 90)
    for number, command in enumerate(
        [(*heatmap, "--style", "masked"), heatmap, (*heatmap, "--cmap", "coldnhot", "--percentile", 95), regions]
    ):
        result = invoke(*command, "-o", f"figure-{number}.png")
        assert result.exit_code == 0, result.stderr
        with Image.open(f"figure-{number}.png") as figure:
            assert abs(figure.width - 3.4 * 150) <= 1
    contents = {Path(f"figure-{number}.png").read_bytes() for number in range(3)}
    assert len(contents) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--cmap", "viridis"), "no colour map 'viridis'"),
        (("--percentile", 0), "--percentile"),
        (("--width", 1), "--width"),
        (("--style", "crop"), "--style"),
    ],
)
def test_a_look_that_is_none_is_refused_at_once(folder: Path, options: tuple[object, ...], message: str) -> None:
    result = invoke("heatmap", *IMAGE, *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert [path.name for path in folder.iterdir()] == ["0.png"]
