"""Classes of data as classes of a model: by a map, by name, number or WordNet id, not by position."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, Subset, random_split
from torchvision.datasets import ImageFolder
from torchvision.models._meta import _IMAGENET_CATEGORIES

from crp_kit.class_names import checked_names
from crp_kit.data.class_map import ClassLabels, ModelClasses, class_labels, positional_names
from crp_kit.data.class_map_file import read_class_map
from crp_kit.data.folders import ImageFiles
from crp_kit.data.preprocess import Preprocess
from crp_kit.data.sources import load_data
from crp_kit.errors import InputError

COLOURS = ModelClasses(3, ("red", "green", "dark blue"))
NAMELESS = ModelClasses(3, ())
IMAGENET = ModelClasses(1000, tuple(_IMAGENET_CATEGORIES))


class Named:
    """A dataset whose classes have names."""

    def __init__(self, classes: Any, **attributes: Any) -> None:
        self.classes = classes
        self.__dict__.update(attributes)

    def __len__(self) -> int:
        return 1


class Folders(Named):
    classes_are_folders = True


def numbers(dataset: Any, model: ModelClasses) -> tuple[int | None, ...]:
    labels = class_labels(dataset, model)
    assert labels is not None
    return labels.numbers


@pytest.mark.parametrize(
    ("names", "model", "expected"),
    [
        (["red", "green", "dark blue"], COLOURS, (0, 1, 2)),
        (["dark blue", "green", "red"], COLOURS, (2, 1, 0)),
        (["green"], COLOURS, (1,)),
        (["dark_blue", "GREEN"], COLOURS, (2, 1)),
        (["Dark-Blue", " red "], COLOURS, (2, 0)),
        (["0", "2"], COLOURS, (0, 2)),
        (["002", "red", "0"], COLOURS, (2, 0, 0)),
        (["0", "1", "10", "2"], ModelClasses(11, ()), (0, 1, 10, 2)),
        (["2", "7"], ModelClasses(2, ("7", "2")), (1, 0)),
        (["n01443537", "n15075141"], IMAGENET, (1, 999)),
        (["n01443537", "n15075141"], ModelClasses(1000, ()), (1, 999)),
        (["goldfish", "n01440764", "2"], IMAGENET, (1, 0, 2)),
        (["cardigan", "Cardigan"], IMAGENET, (474, 264)),
        (
            ["tench", "Carassius auratus"],
            ModelClasses(2, ("tench, Tinca tinca", "goldfish, Carassius auratus")),
            (0, 1),
        ),
        (["caf\udce9", "thé"], ModelClasses(2, checked_names(["the\u0301", "caf\udce9"])), (1, 0)),
    ],
)
def test_folders_are_the_classes_that_they_name(
    names: Sequence[str], model: ModelClasses, expected: tuple[int, ...]
) -> None:
    assert numbers(Folders(names), model) == expected
    if model.names:
        assert numbers(Named(names), model) == expected


@pytest.mark.parametrize(
    ("names", "model", "message"),
    [
        (["animals", "nature"], COLOURS, r"'animals', 'nature' \(2 of 2\) name none of its 3 outputs, such as 'red'"),
        (["red", "blue"], COLOURS, r"'blue' \(1 of 2\)"),
        (["1", "2", "3"], NAMELESS, r"'3' \(1 of 3\) name none of its 3 outputs, whose names are not known"),
        (["a", "b"], NAMELESS, "'a', 'b'"),
        (list("abcd"), NAMELESS, r"'a', 'b', 'c', … \(4 of 4\)"),
        (["n01440764", "n99999999"], ModelClasses(1000, ()), r"'n99999999' \(1 of 2\)"),
        (["n01440764", "n01443537"], COLOURS, "'n01440764', 'n01443537'"),
        (["crane"], ModelClasses(2, ("crane", "crane")), "'crane'"),
        (["CARDIGAN"], IMAGENET, "'CARDIGAN'"),
        (["-1", "1.0"], ModelClasses(3, ("a", "b", "c")), "'-1', '1.0'"),
        (["٣"], ModelClasses(5, tuple("abcde")), "'٣'"),
        (["3", "four"], COLOURS, "'3', 'four'"),
    ],
)
def test_folders_that_name_no_class_are_refused_with_the_choices(
    names: Sequence[str], model: ModelClasses, message: str
) -> None:
    choices = ".*; say which class each is by class_map, or start from predictions by target='prediction'$"
    with pytest.raises(InputError, match=f"the folders of the data are not the model's classes: {message}{choices}"):
        class_labels(Folders(names), model)


def test_position_counts_only_for_as_many_folders_as_outputs_without_names() -> None:
    labels = class_labels(Folders(["a", "b", "c"]), NAMELESS)
    assert labels == ClassLabels((0, 1, 2), ("a", "b", "c"), "position")
    with pytest.raises(InputError):
        class_labels(Folders(["a", "b", "c"]), COLOURS)


def test_a_dataset_that_is_no_folder_has_numbered_its_classes_itself(caplog: pytest.LogCaptureFixture) -> None:
    assert class_labels(Named(["a", "b"]), NAMELESS) is None
    assert "the data names 2 classes and the model has 3 outputs, whose names are not known" in caplog.text
    assert class_labels(Named(()), COLOURS) is None
    assert numbers(Named(["rot", "blau", "grün"]), COLOURS) == (0, 1, 2)
    assert "the data calls its 3 classes by other names than the model" in caplog.text
    with pytest.raises(InputError, match="the classes of the data are not the model's classes: 'airplane', 'bird'"):
        class_labels(Named(["airplane", "bird"]), IMAGENET)


@pytest.mark.parametrize("names", [np.array(["green", "red"]), ("green", "red"), [("green", "verde"), ("red",)]])
def test_names_come_in_any_list(names: Any) -> None:
    model = ModelClasses(2, ("red", "green"))
    assert numbers(Named(names), model)[1] == 0
    assert numbers(Named(np.array(["green", "red"])), model) == (1, 0)


def test_wordnet_ids_beside_names_count(tmp_path: Path) -> None:
    names = [("tench", "Tinca tinca"), ("crane",)]
    assert numbers(Named(names, wnids=["n01440764", "n03126707"]), IMAGENET) == (0, 517)


class ClassLabel:
    names = ("green", "red")


class Features(dict[str, Any]):
    pass


def test_names_of_a_hugging_face_dataset_count() -> None:
    data = Named(None, features=Features(image=None, label=ClassLabel()))
    assert numbers(data, ModelClasses(2, ("red", "green"))) == (1, 0)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    from PIL import Image

    for name in ("animals", "nature", "empty"):
        (tmp_path / "data" / name).mkdir(parents=True)
        if name != "empty":
            Image.new("RGB", (8, 8)).save(tmp_path / "data" / name / "0.png")
    return tmp_path / "data"


def test_parts_of_a_dataset_have_its_classes(folders: Path) -> None:
    whole = ImageFolder(str(folders), allow_empty=True)
    parts = [
        Subset(whole, [1]),
        *random_split(whole, [1, 1]),
        ConcatDataset([whole, whole]),
        Subset(Subset(whole, [0, 1]), [0]),
    ]
    for part in (whole, *parts):
        with pytest.raises(InputError, match="folders of the data are not the model's classes: 'animals', 'nature'"):
            class_labels(part, COLOURS)
        assert numbers(part, ModelClasses(3, ("nature", "empty", "animals"))) == (2, None, 0)


def test_parts_with_different_classes_have_no_labels(folders: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (folders / "nature").rename(tmp_path / "other" / "nature")
    both = ConcatDataset([ImageFolder(str(one), allow_empty=True) for one in (folders, tmp_path / "other")])
    with pytest.raises(InputError, match="the parts of the data have different classes, so that a label means another"):
        class_labels(both, COLOURS)


def test_a_folder_without_images_needs_no_class(folders: Path) -> None:
    data = ImageFiles(folders, Preprocess())
    assert data.classes == ["animals", "empty", "nature"]
    assert numbers(data, ModelClasses(2, ("nature", "animals"))) == (1, None, 0)


# -------------------------------------------------------------------------------------------------------- class maps


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({"animals": 2, "nature": 0}, (2, None, 0)),
        ({"animals": "red", "nature": "dark_blue", "none": 1}, (0, None, 2)),
        ({"animals": "1", "nature": np.int64(1)}, (1, None, 1)),
    ],
)
def test_a_map_gives_classes_by_number_or_name(
    folders: Path, chosen: Mapping[str, Any], expected: tuple[int, ...]
) -> None:
    assert numbers(ImageFiles(folders, Preprocess(), chosen), COLOURS) == expected
    data = load_data(f"imagefolder:{folders}", class_map=chosen)
    labels = class_labels(data, COLOURS)
    assert labels is not None
    assert labels.numbers == expected
    assert labels(0) == (expected[0],)
    with pytest.raises(InputError, match="its label 1 is none of the 3 classes that the dataset names"):
        labels(1)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"animals": 2}, "the class map has no class for 'nature': give each folder one"),
        (
            {"animals": 3, "nature": 0},
            "the class map gives 'animals' no class of the model: class 3 of 'y' is out of range",
        ),
        ({"animals": -1, "nature": 0}, "class -1 of 'y' is out of range"),
        ({"animals": "blau", "nature": 0}, "no class of the model: no class is named 'blau'"),
        ({"animals": True, "nature": 0}, "no class of the model: a class is a name or a whole number; got True"),
        ({"animals": None, "nature": 0}, "a class is a name or a whole number; got None"),
        ({"animals": 1.0, "nature": 0}, "a class is a name or a whole number; got 1.0"),
        ({"animals": [1], "nature": 0}, r"a class is a name or a whole number; got \[1\]"),
    ],
)
def test_a_map_that_does_not_fit_is_refused(folders: Path, chosen: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        class_labels(ImageFiles(folders, Preprocess(), chosen), COLOURS)


def test_names_are_put_in_the_order_of_the_models_classes(folders: Path) -> None:
    labels = class_labels(Folders(["a", "b", "c"], class_map={"a": 2, "b": 0, "c": 1}), NAMELESS)
    assert labels is not None
    assert labels.by_class(3) == ("b", "c", "a")
    assert labels.by_class(4) == ()
    assert ClassLabels((0, 0), ("a", "b"), "map").by_class(2) == ()


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.json", b'{"a": 1, "b": "red"}', {"a": 1, "b": "red"}),
        ("a.json", b"\xef\xbb\xbf{}", {}),
        ("a.csv", b"a,1\nb,red\n", {"a": "1", "b": "red"}),
        ("a.csv", b"folder,class\r\na,1\r\n\r\nb,red", {"a": "1", "b": "red"}),
        ("a.CSV", b"a;1\nb;red, or so\n", {"a": "1", "b": "red, or so"}),
        ("a.csv", b"a\t1\nb\tred\n", {"a": "1", "b": "red"}),
        ("a.csv", b'"x, y",1\n a , 2 \n', {"x, y": "1", "a": "2"}),
        ("a.csv", b"caf\xe9,1\n", {"caf\udce9": "1"}),
        ("a.csv", b"a,1\na,1\n", {"a": "1"}),
        ("a.csv", b"", {}),
    ],
)
def test_maps_in_files(tmp_path: Path, name: str, text: bytes, expected: dict[str, Any]) -> None:
    (tmp_path / name).write_bytes(text)
    assert read_class_map(tmp_path / name) == expected


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", b"[1, 2]", "a JSON object such as .*; this holds something else"),
        ("a.json", b"[]", "this holds something else"),
        ("a.json", b'[["a", 1]]', "this holds something else"),
        ("a.json", b"3", "this holds something else"),
        ("a.json", b"{", "a JSON object such as"),
        ("a.json", b"[" * 100_000, "a JSON object such as"),
        ("a.json", b'{"a": 1, "a": 2}', "gives 'a' two classes: 1 and 2"),
        ("a.csv", b"a,1,2\n", "a row has 3 cells"),
        ("a.csv", b"a\n", "a row has 1 cells"),
        ("a.csv", b"a,1\na,2\n", "gives 'a' two classes: '1' and '2'"),
        ("a.csv", b'"a,1\n', "a JSON object such as"),
        ("a.txt", b"a,1", "its name ends in .json or .csv"),
        ("none.csv", None, "no class map file '.*none.csv'"),
    ],
)
def test_files_that_are_no_map_are_refused(tmp_path: Path, name: str, text: bytes | None, message: str) -> None:
    if text is not None:
        (tmp_path / name).write_bytes(text)
    with pytest.raises(InputError, match=message):
        read_class_map(tmp_path / name)


def test_a_map_needs_names_to_map(tmp_path: Path, folders: Path) -> None:
    with pytest.raises(InputError, match="a class map is for data whose classes have names, such as folders"):
        load_data(f"imagefolder:{folders / 'nature'}", class_map={"a": 1})
    with pytest.raises(InputError, match="a class map gives a class by each name, or is a file; got int"):
        ImageFiles(folders, Preprocess(), 3)  # type: ignore[arg-type]
    path = tmp_path / "map.json"
    path.write_text(json.dumps({"animals": 0, "nature": 1}))
    assert ImageFiles(folders, Preprocess(), path).class_map == {"animals": 0, "nature": 1}


def test_labels_are_read_before_they_are_mapped() -> None:
    labels = ClassLabels((2, 0, 1), ("a", "b", "c"), "map")
    assert labels(torch.tensor([0, 2])) == (2, 1)
    assert labels([0.0, 1.0, 1.0]) == (0, 1)
    assert labels(None) is labels(-1) is None
    with pytest.raises(InputError, match="its label 3 is none of the 3 classes"):
        labels(3)


def test_names_by_position_are_those_that_may_be_the_models() -> None:
    assert positional_names(Folders(["a", "b"])) == positional_names(Named(["a", "b"])) == ("a", "b")
    assert positional_names(Folders(["0", "10", "2"])) == ()
    assert positional_names(Folders(["n01440764"])) == ()
    assert positional_names(Folders(["a", "b"], class_map={"a": 1, "b": 0})) == ()
    assert positional_names(None) == ()


@pytest.mark.parametrize("names", ["abc", b"abc", [b"a"], [1, 2], 3, np.zeros(3), {"a": 1}])
def test_what_is_no_names_is_refused(names: Any) -> None:
    with pytest.raises(InputError, match="classes is the name of each class, a sequence of strings; got"):
        checked_names(names)


@pytest.mark.parametrize("label", ["b", "1", (1, 0), [1], np.zeros(2), 1.5, object()])
def test_labels_that_a_dataset_of_folders_lists_in_another_form_say_nothing_of_which_occur(label: Any) -> None:
    folders = Folders(["red", "green", "nothing"], samples=[("red/0.png", 0), ("green/1.png", label)])
    with pytest.raises(InputError, match="'nothing'"):
        class_labels(folders, COLOURS)
    folders.samples = np.array([("red/0.png", 0), ("green/1.png", 1)], dtype=object)
    assert numbers(folders, COLOURS) == (0, 1, None)
