"""Pictures and files of a result: photos as the model saw them, zennit's parameters, whole files or none."""

from __future__ import annotations

import hashlib
import json
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from zennit.image import palette

import crp_kit as crp
from crp_kit.data import demo_resnet
from crp_kit.data.preprocess import Preprocess
from crp_kit.errors import CrpKitWarning, InputError
from crp_kit.targets import Contrast, Value
from crp_kit.views.imgify import imgify

NAMES = tuple(f"class number {number}" for number in range(8))
PREPROCESS = Preprocess(72, 64)
STUDY = crp.Study(demo_resnet(), preprocess=PREPROCESS, classes=NAMES)
PHOTO = Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 140, 3), dtype=np.uint8))
VIEW = PREPROCESS.view(PHOTO)
ATTR = STUDY(PHOTO, [{"layer2.1.conv2": [24], "y": [3]}, {"y": ["class number 5"]}], record_layer=["layer2.1.conv2"])


def first_panel(figure: Any) -> np.ndarray:
    return np.asarray(figure.axes[0].get_images()[0].get_array())


def test_photos_of_any_form_are_shown_as_the_model_saw_them() -> None:
    expected = (VIEW.movedim(0, -1) * 255).round().numpy()
    tensor = torch.from_numpy(np.array(PHOTO)).movedim(-1, 0)
    for image in (PHOTO, np.array(PHOTO), tensor, VIEW, VIEW[None], VIEW.numpy(), [PHOTO]):
        assert np.abs(first_panel(ATTR.plot(image)) - expected).max() <= 1
    for image in (PHOTO, np.array(PHOTO), VIEW):
        assert np.abs(np.asarray(STUDY.view(image)).astype(int) - expected).max() <= 1


def test_a_photo_is_the_same_model_input_as_a_picture_an_array_of_bytes_or_a_file(tmp_path: Path) -> None:
    PHOTO.save(tmp_path / "photo.png")
    pixels, files = np.array(PHOTO), tmp_path / "photo.png"
    expected = PREPROCESS(PHOTO)[None]
    for image in (PHOTO, pixels, files, str(files)):
        assert STUDY.inputs(image).equal(expected)
        assert np.abs(first_panel(ATTR.plot(image)) - 255 * VIEW.movedim(0, -1).numpy()).max() <= 1
    grey, alpha = pixels[..., :1], np.dstack([pixels, np.full_like(pixels[..., 0], 90)])
    for image, picture in ((grey, Image.fromarray(grey[..., 0])), (alpha, Image.fromarray(alpha))):
        assert STUDY.inputs(image).equal(PREPROCESS(picture)[None])
    for batch in ([PHOTO, pixels], [str(files), files], np.stack([pixels, pixels])):
        assert STUDY.inputs(batch).equal(expected.expand(2, -1, -1, -1))
    data = [(PHOTO, 0), (pixels, 0)]
    first, second = (crp.Study(demo_resnet(), data, preprocess=PREPROCESS).subject.samples[row][1] for row in (0, 1))
    assert first.equal(second)


def test_an_array_of_bytes_that_has_the_model_s_size_is_a_photo_all_the_same() -> None:
    pixels = np.array(PHOTO)[:64, :64]
    attr = STUDY(pixels, [{"y": [0]}])
    assert np.abs(first_panel(attr.plot(pixels)) - np.asarray(STUDY.view(Image.fromarray(pixels)))).max() <= 1


def test_files_by_name_belong_to_their_rows(tmp_path: Path) -> None:
    names = [str(tmp_path / f"{number}.png") for number in range(2)]
    for name, picture in zip(names, (PHOTO, PHOTO.rotate(180)), strict=True):
        picture.save(name)
    attr = STUDY(names, [{"y": [0]}, {"y": [1]}], pairing="product")
    panels = [panel.get_images()[0].get_array() for panel in attr.plot(names).axes if panel.get_images()]
    assert np.abs(np.asarray(panels[3]) - np.asarray(STUDY.view(names[1]), float)).max() <= 1


@pytest.mark.parametrize(
    ("image", "match"),
    [
        (np.zeros((3, 64, 64), np.uint8), r"is a photo, \(height, width, channel\) .* got shape \(3, 64, 64\)"),
        (np.zeros((64, 0, 3), np.uint8), r"got shape \(64, 0, 3\)"),
        ("photo-that-is-not-there.png", "no image file 'photo-that-is-not-there.png'"),
        (torch.zeros(3, 64, 64, device="meta"), "the image is a meta tensor, which has no values"),
    ],
)
def test_what_is_no_photo_is_refused(image: Any, match: str) -> None:
    with pytest.raises(InputError, match=match):
        STUDY(image, [{"y": [0]}])


def test_images_of_several_sizes_are_no_batch() -> None:
    study = crp.Study(demo_resnet(), preprocess=Preprocess(None, None))
    with pytest.raises(InputError, match=r"one shape; got \(3, 90, 140\) and \(3, 64, 64\): give them one by one"):
        study([PHOTO, PHOTO.resize((64, 64))], [{"y": [0]}])


def test_more_pixels_than_memory_has_are_refused_before_they_are_made(tmp_path: Path) -> None:
    for preprocess in (Preprocess(10**6, None), Preprocess((10**6, 10**6), None)):
        with pytest.raises(InputError, match=r"an image of 140x90 pixels would be resized to 1\d*x1000000, more than"):
            preprocess.view(PHOTO)
    Image.new("1", (20000, 20000)).save(tmp_path / "large.png")
    with pytest.raises(InputError, match=r"large.png' is too large: .* Make it smaller, or crop it"):
        STUDY.inputs(tmp_path / "large.png")


def test_a_photo_whose_rotation_is_only_noted_is_warned_of_and_its_file_is_upright(tmp_path: Path) -> None:
    noted = PHOTO.getexif()
    noted[ExifTags.Base.Orientation] = 6
    PHOTO.save(tmp_path / "photo.png", exif=noted)
    with Image.open(tmp_path / "photo.png") as photo, pytest.warns(CrpKitWarning, match="the photo is not upright"):
        STUDY.inputs(photo)
    upright = PREPROCESS(PHOTO.transpose(Image.Transpose.ROTATE_270))[None]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert STUDY.inputs(tmp_path / "photo.png").equal(upright)


def test_a_result_without_a_study_asks_for_the_image_as_the_model_saw_it() -> None:
    attr = STUDY.attribution(PREPROCESS.normalise(VIEW)[None], [{"y": [0]}], "epsilon_plus_flat")
    assert np.abs(first_panel(attr.plot(VIEW)) - 255 * VIEW.movedim(0, -1).numpy()).max() <= 1
    with pytest.raises(InputError, match="the image is 140x90 pixels and the model saw 64x64: give it resized and cro"):
        attr.plot(PHOTO)


def test_titles_are_words_where_names_are_known() -> None:
    assert ATTR.titles() == ["layer2.1.conv2: 24\nclass number 3", "class number 5"]
    attr = STUDY.attribution(PREPROCESS.normalise(VIEW)[None], [{"y": [0, 2]}], "epsilon_plus_flat")
    assert attr.titles() == ["class 0, class 2"]


def test_targets_have_the_names_of_their_classes_in_titles() -> None:
    attr = STUDY(PHOTO, [{"y": Contrast(3, 5)}, {"y": Value(2)}], pairing="product")
    assert attr.titles() == ["class number 3 against class number 5", "output 2"]


def test_a_result_can_be_pickled_without_its_model() -> None:
    stored = pickle.dumps(ATTR)
    assert len(stored) < 4_000_000
    assert pickle.loads(stored).titles() == ATTR.titles()


@pytest.mark.parametrize(
    "options",
    [
        {"vmin": -1.0, "vmax": 2.0},
        {"vmax": 1.5, "symmetric": True},
        {"symmetric": False},
        {"symmetric": True, "percentile": 100, "level": 2.0},
        {"symmetric": True, "percentile": 100, "level": 0.5},
    ],
)
def test_imgify_agrees_with_zennit_but_for_the_rounding_of_its_palette(options: dict[str, Any]) -> None:
    values = np.random.default_rng(1).normal(size=(20, 30))
    largest = np.abs(values).max()
    usual = (values.min(), values.max()) if options.get("symmetric") is False else (-largest, largest)
    low, high = options.get("vmin", -options.get("vmax", -usual[0])), options.get("vmax", usual[1])
    index = (255 * (values - low) / (high - low)).clip(0, 255).astype(np.uint8)  # as zennit.image.imgify does
    expected = np.asarray(palette("coldnhot", options.get("level", 1.0))).reshape(-1, 3)[index].astype(int)
    shown = imgify(values, cmap="coldnhot", **options)
    difference = np.abs(np.asarray(shown).astype(int) - expected)
    assert difference.max() <= 10 * max(options.get("level", 1.0), 1.0)  # two steps of 256 in the steepest part


def test_several_heatmaps_are_a_grid_and_a_row_is_one() -> None:
    assert ATTR.imgify(1).size == (64, 64)
    assert ATTR.imgify(columns=2).size == (132, 64)
    assert imgify(np.full((2, 2), 7.0), symmetric=False, cmap="bwr").getpixel((0, 0)) == (255, 255, 255)
    for options, message in [
        ({"row": 2}, "row is a whole number from 0 to 1; got 2"),
        ({"vmin": 1.0, "vmax": 1.0}, "the scale goes from vmin to vmax, a higher value; got 1 and 1"),
        ({"level": 0}, "level is a positive number; got 0"),
        ({"columns": 0}, "columns is a whole number of at least 1; got 0"),
    ]:
        with pytest.raises(InputError, match=message):
            ATTR.imgify(**options)  # type: ignore[arg-type]


def test_saved_files_hold_the_values_and_the_manifest_says_which_they_are(tmp_path: Path) -> None:
    manifest = json.loads(ATTR.save(tmp_path / "new", PHOTO, width=3.4).read_text())
    folder = tmp_path / "new"
    names = {"arrays.npz", "figure.png", "heatmap-0.png", "heatmap-1.png"}
    assert {path.name for path in folder.iterdir()} == names | {"manifest.json"}
    assert {name: file["sha256"] for name, file in manifest["files"].items()} == {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names
    }
    with np.load(folder / "arrays.npz") as arrays:
        assert np.array_equal(arrays["heatmap"], ATTR.heatmap.numpy())
        assert np.array_equal(arrays["relevance/layer2.1.conv2"], ATTR.relevances["layer2.1.conv2"].numpy())
        assert arrays["input_relevance"].shape == (2, 3, 64, 64)
    assert [row["title"] for row in manifest["rows"]] == ATTR.titles()
    assert manifest["rows"][0]["condition"] == {"layer2.1.conv2": [24], "y": [3]}
    with Image.open(folder / "heatmap-0.png") as picture, Image.open(folder / "figure.png") as figure:
        assert picture.size == (64, 64)
        assert figure.width == pytest.approx(3.4 * 150, abs=1)


def test_nothing_is_replaced_unless_asked(tmp_path: Path) -> None:
    (tmp_path / "heatmap-1.png").write_text("mine")
    with pytest.raises(InputError, match=r"heatmap-1.png exists; overwrite=True replaces it"):
        ATTR.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["heatmap-1.png"]
    assert ATTR.save(tmp_path, overwrite=True).exists()
    with pytest.raises(InputError, match="is a file; name a folder"):
        ATTR.save(tmp_path / "arrays.npz")


def test_results_of_features_are_saved_without_pictures_of_rows(tmp_path: Path) -> None:
    attr = crp.CondAttribution(torch.nn.Linear(4, 3).eval())(torch.ones(1, 4), [{"y": [0]}], None)
    attr.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["arrays.npz", "figure.png", "manifest.json"]
