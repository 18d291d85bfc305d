"""``crp-kit regions``: what the library finds, as files and as JSON, and every mistake in one line."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from command_line import invoke, refused
from image_batches import load_images
from PIL import Image
from studies import region_map_of

import crp_kit as crp
from crp_kit.data import ShapesDataset
from crp_kit.models.load import load_model
from crp_kit.views.image import picture

LAYER = "layer2.1.conv2"
ASKED = ("--model", "demo:resnet", "--layer", LAYER)


crp_kit, mistake = partial(invoke, "regions"), partial(refused, "regions")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    picture(ShapesDataset(1)[0][0]).save("0.png")
    return tmp_path


@pytest.mark.slow
def test_regions_are_those_of_the_library(folder: Path) -> None:
    result = crp_kit(
        "0.png", *ASKED, "--regions", "slic", "--count", 12, "--class", 2, "--top", 6, "-o", "map.png",
        "--save-array", "map.npz",
    )  # fmt: skip
    assert result.exit_code == 0, (result.output, result.exception)
    assert result.stdout.split() == ["map.png", "map.npz"]
    assert f"RegionMap of '{LAYER}' for {ShapesDataset.classes[2]}" in result.stderr
    loaded = load_model("demo:resnet")
    batch = load_images(["0.png"], loaded.preprocess)
    expected = region_map_of(
        crp.CondAttribution(loaded.model), batch.inputs, LAYER, composite="epsilon_plus_flat", cls=2,
        regions="slic", count=12, top=6, image=batch.views[0],
    )  # fmt: skip
    with np.load("map.npz") as arrays:
        for name in ("labels", "dominant", "relevance"):
            assert np.array_equal(arrays[name], getattr(expected, name)), name
    with Image.open("map.png") as image:
        assert image.width > image.height > 300


def test_json_lists_the_regions_and_writes_no_figure() -> None:
    result = crp_kit("0.png", *ASKED, "--cell", "16x32", "--top", 3, "--signed", "--json")
    assert result.exit_code == 0, (result.output, result.exception)
    assert result.stderr == ""
    found = json.loads(result.stdout)
    assert found["regions"] == 8
    assert found["signed"] is True
    assert found["files"] == []
    assert not Path("regions.png").exists()
    assert sum(one["area"] for one in found["concepts"]) + found["none"] == pytest.approx(1)
    assert sum(one["regions"] for one in found["concepts"]) == 8
    assert len(found["concepts"]) <= 3


@pytest.mark.slow
def test_a_figure_is_drawn_by_default_and_not_overwritten() -> None:
    assert crp_kit("0.png", *ASKED, "--top", 2, "--count", "2x3").stdout == "regions.png\n"
    before = Path("regions.png").read_bytes()
    assert "regions.png exists; --overwrite replaces it" in mistake("0.png", *ASKED)
    assert Path("regions.png").read_bytes() == before
    assert crp_kit("0.png", *ASKED, "--top", 1, "--overwrite").exit_code == 0


@pytest.mark.slow
def test_with_an_atlas_the_figure_shows_reference_samples() -> None:
    data = "demo:shapes:30"
    model = ("--model", "demo:resnet", "--data", data)
    built = invoke("atlas", "build", *model, "--layers", LAYER, "--workers", 0, "-k", 4, "-o", "atlas.h5")
    assert built.exit_code == 0, built.output
    plain = crp_kit("0.png", *ASKED, "--top", 3, "-o", "plain.png")
    shown = crp_kit("0.png", *ASKED, "--top", 3, "--atlas", "atlas.h5", "--data", data, "-o", "shown.png")
    assert plain.exit_code == shown.exit_code == 0, (shown.output, shown.exception)
    with Image.open("plain.png") as one, Image.open("shown.png") as other:
        assert other.width > one.width + 300
    said = mistake("0.png", *ASKED, "--top", 1, "--atlas", "atlas.h5", "--data", "demo:shapes:31", "-o", "other.png")
    assert "another dataset" in said
    assert not Path("other.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("1.png", *ASKED), "no image file '1.png'"),
        (("0.png", *ASKED, "-o", "map.gif"), "needs one of the endings .png, .pdf, .svg, .jpg"),
        (("0.png", *ASKED, "--save-array", "map.csv"), "needs the ending .npz"),
        (("0.png", *ASKED, "--data", "demo:shapes"), "--data is for the references of an atlas: say --atlas too"),
        (("0.png", *ASKED, "--count", "many"), "--count is written like 64 or 6x8; got 'many'"),
        (("0.png", *ASKED, "--cell", "8", "--count", "9"), "count and cell both say how fine the grid is"),
        (("0.png", *ASKED, "--regions", "pixels", "--cell", "8"), "cell is for a grid, not for single pixels"),
        (("0.png", *ASKED, "--class", "8"), "class 8 of 'y' is out of range"),
        (("0.png", "--model", "demo:resnet", "--layer", "layer9"), "no layer named 'layer9'"),
        (("0.png", *ASKED, "--regions", "circles"), "'circles' is not one of"),
    ],
)
def test_mistakes_are_one_line_with_the_fix(arguments: tuple[str, ...], message: str) -> None:
    assert message in mistake(*arguments)
    assert not Path("regions.png").exists()
