"""Classes are said by number, name or part of a name, everywhere alike."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import invoke, refused
from PIL import Image

import crp_kit as crp
from crp_kit.class_names import class_number
from crp_kit.conditions import parse_condition_text
from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
from crp_kit.errors import ConceptRangeError, ConditionError, CrpKitWarning, InputError

NAMES = (
    "tench, Tinca tinca",
    "tabby, tabby cat",
    "tiger cat",
    "Egyptian cat",
    "tiger, Panthera tigris",
    "T-shirt",
    "7",
)
DATA = ShapesDataset(16, split="test")
LAYER = "layer2.1.conv2"
NUMBER = 4
PART = DATA.classes[NUMBER][:-1].upper()


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("Egyptian cat", 3),
        ("egyptian CAT", 3),
        ("egyptian_cat", 3),
        ("egypt", 3),
        ("tiger", 4),  # one of the names of a class comes before a part of another
        ("tabby", 1),
        ("Tinca tinca", 0),
        ("tabby, tabby cat", 1),
        ("t shirt", 5),
        ("7", 6),  # a name comes before a number
        ("2", 2),
        (2, 2),
    ],
)
def test_a_name_is_found_by_the_strictest_reading_that_fits(text: int | str, number: int) -> None:
    assert class_number(text, NAMES, len(NAMES)) == number


def test_every_name_is_its_own_class_whatever_it_is_part_of() -> None:
    names = ["a", "ab", "abc", "A b c", "b, c"]
    assert [class_number(name, names) for name in names] == [*range(5)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat", "'cat' is part of several names: 'tabby, tabby cat', 'tiger cat', 'Egyptian cat'; say more"),
        ("Egyptain cat", "no class is named 'Egyptain cat'; did you mean 'Egyptian cat'"),
        ("TIGRE", "no class is named 'TIGRE'; did you mean 'tiger'"),
        ("", "no class is named ''; the first ones are"),
        ("zebra", "no class is named 'zebra'; the first ones are tench"),
        ("egypitan", "no class is named 'egypitan'; did you mean 'Egyptian cat'"),
    ],
)
def test_what_names_no_class_or_several_says_what_there_is(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        class_number(text, NAMES)
    with pytest.raises(ConceptRangeError):
        class_number("99", NAMES, len(NAMES))
    with pytest.raises(InputError, match="a, .* and 2 more; say more"):
        class_number("a", [f"a{number}" if number else "x a, y" for number in range(10)])


def test_a_misspelt_word_of_a_long_name_is_recognised() -> None:
    with pytest.raises(
        InputError, match="did you mean 'red circle above striped square' or 'dotted cross above red ci"
    ):
        class_number("circel", DATA.classes)
    with pytest.raises(InputError, match="did you mean 'dotted cross above red circle' or "):
        class_number("dottet crosss", DATA.classes)
    with pytest.raises(InputError, match="the first ones are"):
        class_number("circel of zebras", DATA.classes)


def test_names_that_are_not_as_many_as_outputs_are_warned_of() -> None:
    model, image = demo_resnet(), DATA[0][0]
    study = crp.Study(crp.LoadedModel(model, crp.Preprocess(64, 64), ("cat", "dog")))
    with pytest.warns(CrpKitWarning, match="the model has 8 outputs, and 2 classes are named"):
        study(image, [{"y": ["dog"]}])
    crp.Study(crp.LoadedModel(model, crp.Preprocess(64, 64), DATA.classes))(image, [{"y": [0]}])


def test_the_name_of_a_file_is_no_picture_where_nothing_opens_files() -> None:
    study = crp.Study(demo_resnet(), DATA, preprocess=demo_preprocess)
    attr = study(DATA[0][0], [{"y": [0]}])
    for name in ("cat.jpg", Path("cat.jpg")):
        for use in (lambda file: study(file, [{"y": [0]}]), study.view, attr.plot):
            with pytest.raises(InputError, match=r"'cat.jpg' is the name of a file.*PIL.Image.open\('cat.jpg'\)"):
                use(name)


def test_conditions_name_classes() -> None:
    assert parse_condition_text("y:Egyptian cat, 3-5") == ("y", ["Egyptian cat", 3, 4, 5])
    assert parse_condition_text("y: a:b") == ("y", ["a:b"])
    with pytest.raises(ConditionError, match="expected a concept id"):
        parse_condition_text("conv:cat")


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> crp.ConceptAtlas:
    path = tmp_path_factory.mktemp("names") / "atlas.h5"
    return crp.Study(demo_resnet(), DATA, preprocess=demo_preprocess).build_atlas(path, layers=LAYER, verbose=False)


def test_a_study_and_an_atlas_take_a_part_of_a_name(atlas: crp.ConceptAtlas) -> None:
    study, image = crp.Study(demo_resnet(), DATA, preprocess=demo_preprocess), DATA[0][0]
    names = [PART, DATA.classes[NUMBER]]
    by_name, by_number = (study(image, [{"y": ids}]) for ids in (names, [NUMBER]))
    assert by_name.heatmap.equal(by_number.heatmap)
    assert by_name.conditions[0].as_dict() == {"y": [NUMBER]}
    half = atlas[LAYER].relevance
    for ask in (half.concepts, half.markers, half.contrast, half.statistics):
        assert repr(ask(PART)) == repr(ask(NUMBER))
    assert half.class_top(0, PART).sample.tolist() == half.class_top(0, NUMBER).sample.tolist()
    assert len(atlas.where(label=PART)) == len(atlas.where(label=NUMBER)) > 0
    with pytest.raises(InputError, match="'circle' is part of several names"):
        half.markers("circle")


def test_the_command_line_takes_a_part_of_a_name(
    atlas: crp.ConceptAtlas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray((DATA[0][0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)).save("a.png")
    model = ("--model", "demo:resnet")
    results = [invoke("heatmap", "a.png", *model, "--condition", f"y:{cls}", "--json") for cls in (PART, NUMBER)]
    assert results[0].stdout == results[1].stdout
    assert json.loads(results[0].stdout)["images"][0]["heatmaps"][0]["condition"] == {"y": [NUMBER]}
    tables = [invoke("atlas", "markers", atlas.path, "--layer", LAYER, "--class", cls).stdout for cls in (PART, NUMBER)]
    assert tables[0] == tables[1] != ""
    assert "is part of several names" in refused("heatmap", "a.png", *model, "--condition", "y:circle")
