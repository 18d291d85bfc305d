"""``crp-kit heatmap --target``: what relevance starts from, as text."""

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import invoke, refused
from PIL import Image

from crp_kit.errors import ConditionError, CrpKitError, InputError
from crp_kit.targets import Binary, Box, Class, Contrast, Region, Target, Value, parse_target
from crp_kit.views.plot.sheet import Sheet


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("class:281", Class(281)),
        ("class:281,282", Class((281, 282))),
        ("class:Egyptian cat:one", Class("Egyptian cat", value="one")),
        ("contrast:281,tabby", Contrast(281, "tabby")),
        ("value:4", Value(4)),
        ("value:0,1:sign", Value((0, 1), value="sign")),
        ("binary:0", Binary(0)),
        ("box:3", Box(3)),
        ("box:traffic light:2", Box("traffic light", 2)),
        ("box:3:1,2,30,40.5:one", Box(3, iou_with=(1, 2, 30, 40.5), value="one")),
    ],
)
def test_a_text_is_a_target(text: str, target: Target) -> None:
    assert parse_target(text) == target
    assert parse_target(parse_target(text).identity.replace("'", "")) == target


def test_a_region_has_its_mask() -> None:
    region = parse_target("region:15:relu", mask=np.eye(3))
    assert isinstance(region, Region)
    assert (region.cls, region.value, region.mask.tolist()) == (15, "relu", np.eye(3, dtype=bool).tolist())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "281",
        "class:",
        "classes:1",
        "contrast:1",
        "contrast:1,2,3",
        "value:x",
        "region:1,2",
        "class:1,,2",
        "box:",
        "box:1:x",
        "box:1:1,2",
        "box:1:0:one:2",
    ],
)
def test_another_text_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(InputError, match="a target is class:ID"):
        parse_target(text)


@pytest.mark.parametrize("text", ["class:1:log", "contrast:2,2", "region:1:zplus"])
def test_what_is_not_possible_is_refused(text: str) -> None:
    with pytest.raises(ConditionError):
        parse_target(text)


def test_a_mask_without_a_region_is_refused() -> None:
    with pytest.raises(CrpKitError, match="a mask belongs to a region"):
        parse_target("class:1", mask=np.eye(2))


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


HEATMAP = ("heatmap", "--model", "demo:resnet")


def test_a_contrast_is_computed_from_the_command_line(picture: Path, tmp_path: Path) -> None:
    output = tmp_path / "maps.npz"
    maps = []
    for start in (("--condition", "y:1"), ("--condition", "y:2"), ("--target", "contrast:1,2")):
        assert invoke(*HEATMAP, picture, *start, "--save-array", output, "--overwrite").exit_code == 0
        with np.load(output) as saved:
            maps.append(saved["heatmap"][0])
            conditions = json.loads(str(saved["conditions"][0]))
    np.testing.assert_allclose(maps[2], maps[0] - maps[1], atol=1e-5)
    assert conditions == {"y": ["contrast:1,2"]}


def test_a_class_by_number_or_by_part_of_its_name_is_the_start_of_a_heatmap(picture: Path, tmp_path: Path) -> None:
    output = tmp_path / "maps.npz"
    maps = []
    for start in (("--condition", "y:4"), ("--class", "4"), ("--class", "blue circle above striped")):
        assert invoke(*HEATMAP, picture, *start, "--save-array", output, "--overwrite").exit_code == 0
        with np.load(output) as saved:
            maps.append(saved["heatmap"])
    assert (maps[0] == maps[1]).all()
    assert (maps[0] == maps[2]).all()
    for other in (("--target", "class:1"), ("--condition", "y:1"), ("--each", "y:1")):
        assert "are two starts; give one of them" in refused(*HEATMAP, picture, "--class", "4", *other, "--json")


def test_two_starts_or_a_mask_that_is_no_picture_are_a_sentence(picture: Path, tmp_path: Path) -> None:
    both = refused(*HEATMAP, picture, "--target", "class:1", "--condition", "y:2", "--json")
    assert "--target and --condition y:… are two starts" in both
    assert "--mask needs --target region:ID" in refused(*HEATMAP, picture, "--mask", picture, "--json")
    (tmp_path / "mask.png").write_text("no picture")
    wrong = refused(*HEATMAP, picture, "--target", "region:1", "--mask", tmp_path / "mask.png", "--json")
    assert "cannot read the mask" in wrong
    flat = refused(*HEATMAP, picture, "--target", "region:1", "--mask", picture, "--json")
    assert "a region needs an output with positions" in flat


def test_titles_have_the_whole_names_of_a_contrast(
    picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["Egyptian cat, a domestic breed with large ears", "tiger cat, the tabby of the North", *"cdefgh"]
    (tmp_path / "names.txt").write_text("\n".join(names))
    drawn: list[Sheet] = []
    monkeypatch.setattr(Sheet, "savefig", lambda figure, path, **_: (drawn.append(figure), path.touch()))
    options = ("--classes", tmp_path / "names.txt", "--target", "contrast:0,1", "-o", tmp_path / "map.png")
    made = invoke(*HEATMAP, picture, *options)
    assert made.exit_code == 0, made.output
    words = " ".join(drawn[0].axes[1].get_title().split())
    assert words.replace(", ", ",") == f"{names[0]} against {names[1]}".replace(", ", ",")
