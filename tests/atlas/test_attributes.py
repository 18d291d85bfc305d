"""Attributes of samples: kept by a build, added to a finished atlas from CSV, frames and mappings, and nothing else."""

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from atlas_case import LAYERS, Labelled, build, datasets, same_bits
from command_line import invoke, refused
from synthetic_pass import SyntheticPass
from torch.utils.data import Subset

import crp_kit as crp
from crp_kit.atlas import annotate
from crp_kit.atlas.annotate import annotate_atlas
from crp_kit.atlas.file.attribute_columns import attribute_column
from crp_kit.atlas.file.digests import noted_digests
from crp_kit.atlas.file.reader import open_atlas
from crp_kit.data import ShapesDataset
from crp_kit.data.sample_attributes import sample_attributes
from crp_kit.errors import AtlasError, InputError

PASS = SyntheticPass((7, 3, 3, 9, -1, 7, 0, 3), concepts=(3,), matrix=True)
COUNT = 8


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An atlas of samples that are called "photo 0" and so on."""
    return PASS.write(tmp_path / "a.h5")


def attributes(path: Path) -> dict[str, list[Any]]:
    with crp.ConceptAtlas(path) as atlas:
        assert crp.verify_atlas(path) == ()
        return {name: values.tolist() for name, values in atlas.attributes.items()}


# ---------------------------------------------------------------------------------------------------------------- kinds

NAN = float("nan")


@pytest.mark.parametrize(
    ("values", "kind", "dtype", "expected"),
    [
        ([True, False], "truth", bool, [True, False]),
        ([1, 0, 1.0], "truth", bool, [True, False, True]),
        ([np.bool_(True), None], "truth", float, [1.0, NAN]),
        (np.array([0.0, NAN, 1.0]), "truth", float, [0.0, NAN, 1.0]),
        ([2, 0.5, NAN], "number", float, [2.0, 0.5, NAN]),
        ([pd.NA, 7, pd.NaT], "number", float, [NAN, 7.0, NAN]),
        (torch.tensor([3, 4]).numpy(), "number", float, [3.0, 4.0]),
        ([None, None], "number", float, [NAN, NAN]),
        (["a", None, "", "a\nb", "caf\udce9"], "text", object, ["a", "", "", "a\\x0ab", "caf\\udce9"]),
        (np.array(["x", "y"]), "text", object, ["x", "y"]),
    ],
)
def test_values_are_truth_values_numbers_or_text(values: Any, kind: str, dtype: Any, expected: list[Any]) -> None:
    column = attribute_column("a", values)
    assert column.kind == kind
    assert column.public().dtype == dtype
    assert [str(value) for value in column.public().tolist()] == [str(value) for value in expected]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["a", 3], "text for some samples and numbers for others"),
        ([[1], [2]], "values of the type list"),
        ([1j], "values of the type complex"),
        ([float("inf")], "infinite values"),
        (["x" * 5000], "has 5000 characters; at most 4096 bytes"),
    ],
)
def test_other_values_are_refused(values: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        attribute_column("a", values)


@pytest.mark.parametrize("name", ["", "ä" * 2049])
def test_a_name_that_a_file_cannot_hold_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="the name of an attribute has 1 to 4096 bytes"):
        attribute_column(name, [1])


# -------------------------------------------------------------------------------------------------------- from the data


def test_the_built_in_images_have_their_true_parts() -> None:
    data = ShapesDataset(24, seed=3)
    for number in range(24):
        parts = data.class_parts[data.classes[int(data.targets[number])]]
        assert {name for name, values in data.attributes.items() if values[number]} == set(parts)


def test_a_build_keeps_what_the_data_knows(tmp_path: Path) -> None:
    data = ShapesDataset(20)
    with build(tmp_path / "a.h5", Subset(data, range(3, 17)), layers=LAYERS[:1]) as atlas:
        for name, values in data.attributes.items():
            np.testing.assert_array_equal(atlas.attributes[name], values[3:17])
        assert len(atlas.where(attribute="red") & atlas.where(attribute="striped")) > 0
    assert crp.verify_atlas(tmp_path / "a.h5") == ()


class Annotated(Labelled):
    attributes: Any = {}


@pytest.mark.parametrize("subset", [None, [1, 2, 5, 6, 7, 8, 20]])
def test_shards_and_resumed_builds_have_the_attributes_of_one_build(tmp_path: Path, subset: Any) -> None:
    data, options = Annotated(30), {"layers": LAYERS[:1], "batch_size": 3, "subset": subset}
    data.attributes = {
        "late": lambda number: 0.5 * number if number > 20 else None,
        "who": [f"p{number % 4}" for number in range(30)],
        "few": torch.arange(30) > 28,
        "ratio": np.where(np.arange(30) < 8, 1, 3),
    }
    build(tmp_path / "whole.h5", data, **options).close()
    parts = [tmp_path / f"{number}.h5" for number in range(3)]
    for number, part in enumerate(parts):
        build(part, data, shard=(number, 3), **options).close()
        build(part, data, shard=(number, 3), resume=True, **options).close()
    crp.merge_atlases(parts, tmp_path / "merged.h5").close()
    assert same_bits(tmp_path / "merged.h5", tmp_path / "whole.h5")
    kept = np.arange(30) if subset is None else np.array(subset)
    with crp.ConceptAtlas(tmp_path / "merged.h5") as atlas:
        assert list(atlas.attributes) == ["late", "who", "few", "ratio"]
        assert atlas.attributes["who"].tolist() == [f"p{number % 4}" for number in kept]
        assert atlas.attributes["few"].tolist() == (kept > 28).tolist()
    assert crp.verify_atlas(tmp_path / "merged.h5") == ()


def test_shards_with_different_attributes_are_not_merged(tmp_path: Path) -> None:
    data, parts = Annotated(12), [tmp_path / "0.h5", tmp_path / "1.h5"]
    for number, part in enumerate(parts):
        data.attributes = {"size": [number + 2] * 12} if number else {}
        build(part, data, layers=LAYERS[:1], batch_size=6, shard=(number, 2)).close()
    with pytest.raises(AtlasError, match=r"hold different attributes of their samples \(none; size\)"):
        crp.merge_atlases(parts, tmp_path / "merged.h5")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ([1, 2], "the attribute 'a' of the data has 2 values for 12 samples"),
        (np.zeros((12, 2)), r"the attribute 'a' of the data has the shape \(12, 2\)"),
        ("text", "a sequence with a value for each sample, or a function .* got str"),
        (3, "a sequence with a value for each sample, or a function .* got int"),
        (lambda number: 1 / (number - 3), "the attribute 'a' of the data fails for sample 3: ZeroDivisionError"),
        ([{}] * 12, "the attribute 'a' has values of the type dict"),
    ],
)
def test_attributes_of_the_data_that_do_not_fit_are_refused_before_the_pass(
    tmp_path: Path, source: Any, message: str
) -> None:
    data = Annotated(12)
    data.attributes = {"a": source}
    with pytest.raises(InputError, match=message):
        build(tmp_path / "a.h5", data, layers=LAYERS[:1])
    assert not (tmp_path / "a.h5.partial").exists()


def test_what_is_called_attributes_and_is_no_mapping_is_left_alone() -> None:
    data = Annotated(12)
    for other in (None, ["a"], lambda: 3):
        data.attributes = other
        assert sample_attributes(data, range(12)) == {}


def test_images_in_folders_have_their_folder(tmp_path: Path) -> None:
    from PIL import Image
    from torchvision.datasets import ImageFolder

    from crp_kit.data.folders import ImageFiles
    from crp_kit.data.preprocess import Preprocess

    for name in ("zebra/left/1.png", "cat/2.png", "zebra/3.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    for data in (ImageFiles(tmp_path, Preprocess()), ImageFolder(str(tmp_path))):
        assert sample_attributes(data, [0, 2]) == {"folder": ["cat", "zebra"]}
    assert sample_attributes(ImageFiles(tmp_path / "cat", Preprocess()), [0]) == {}


# ------------------------------------------------------------------------------------------------- to a finished atlas


def as_csv(path: Path, rows: list[str]) -> Path:
    table = path.with_suffix(".csv")
    table.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return table


def sources(folder: Path) -> Iterator[tuple[str, Any]]:
    """The same attributes in every form, in another order than that of the samples."""
    order = np.random.default_rng(0).permutation(COUNT).tolist()
    columns = {
        "size": [0.5 * number for number in order],
        "flag": [number > 2 for number in order],
        "who": [f"person {number % 3}" if number else None for number in order],
    }
    names, frame = [f"photo {number}" for number in order], pd.DataFrame(columns)
    frame.assign(name=names).to_csv(folder / "last.csv", index=False)
    frame.set_axis(names).to_csv(folder / "index.csv")
    yield "the first column of CSV", (folder / "index.csv", None)
    yield "another column of CSV", (str(folder / "last.csv"), "name")
    yield "the index of a frame", (frame.set_axis(names), None)
    yield "a column of a frame", (frame.assign(name=names), "name")
    yield "numbers as the index of a frame", (frame.set_axis(order), None)
    yield "values by id", ({name: dict(zip(names, values, strict=True)) for name, values in columns.items()}, None)
    yield "values by number", ({name: dict(zip(order, values, strict=True)) for name, values in columns.items()}, None)
    back = np.argsort(order)
    yield "values in order", ({name: [values[at] for at in back] for name, values in columns.items()}, None)


def test_every_source_is_joined_by_name_or_number(tmp_path: Path) -> None:
    expected = {
        "size": [0.5 * number for number in range(COUNT)],
        "flag": [number > 2 for number in range(COUNT)],
        "who": [f"person {number % 3}" if number else "" for number in range(COUNT)],
    }
    for name, (source, column) in sources(tmp_path):
        path = PASS.write(tmp_path / "a.h5")
        crp.annotate_atlas(path, source, id_column=column).close()
        assert attributes(path) == expected, name


def test_everything_else_in_the_file_is_the_same(path: Path) -> None:
    before = datasets(path)
    with h5py.File(path) as file:
        said = {name: dict(file[name].attrs) for name in ("layers/0", "samples", "classes")}
    with open_atlas(path) as file:
        digests = noted_digests(file)
    annotate_atlas(path, {"size": np.arange(COUNT) / 3, "who": list("abcdabcd")}).close()
    after = datasets(path)
    for name, values in before.items():
        if name != "digests/sha256":
            assert after[name].dtype == values.dtype
            assert after[name].tobytes() == values.tobytes()
    assert {name.partition("/")[0] for name in after.keys() - before.keys()} == {"attributes"}
    with h5py.File(path) as file:
        assert all(str(dict(file[name].attrs)) == str(attrs) for name, attrs in said.items())
    with open_atlas(path) as file:
        assert digests.items() <= noted_digests(file).items()


def test_what_another_process_has_written_meanwhile_is_kept(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = annotate.rewrite

    def late(*arguments: Any) -> None:
        monkeypatch.setattr(annotate, "rewrite", real)
        annotate_atlas(path, {"theirs": [0.5] * COUNT}).close()
        real(*arguments)

    monkeypatch.setattr(annotate, "rewrite", late)
    with pytest.raises(AtlasError, match="changed or replaced meanwhile; do this again"):
        annotate_atlas(path, {"ours": [1.5] * COUNT})
    assert list(attributes(path)) == ["theirs"]
    assert os.listdir(path.parent) == [path.name]


def test_a_private_atlas_stays_private(path: Path) -> None:
    path.chmod(0o600)
    annotate_atlas(path, {"size": [0.5] * COUNT}).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_attributes_are_added_replaced_only_if_that_is_wanted_and_keep_their_order(path: Path) -> None:
    annotate_atlas(path, {"size": [0.5] * COUNT, "who": ["a"] * COUNT}).close()
    with pytest.raises(InputError, match=r"has the attribute 'who' already; overwrite replaces it"):
        annotate_atlas(path, {"new": [1] * COUNT, "who": ["b"] * COUNT})
    assert list(attributes(path)) == ["size", "who"]
    annotate_atlas(path, {"new": [1] * COUNT, "who": ["b"] * COUNT}, overwrite=True).close()
    assert attributes(path) == {"size": [0.5] * COUNT, "who": ["b"] * COUNT, "new": [True] * COUNT}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            ["id,a", *(f"photo {n},1" for n in range(7))],
            "has no row for 1 of 8 samples of the atlas, such as 'photo 7'",
        ),
        (["id,a"], "has no row for 8 of 8 samples of the atlas, such as 'photo 0', 'photo 1', 'photo 2'"),
        (
            ["id,a", *(f"foto {n},1" for n in range(5))],
            "has 5 ids that are of no sample of the atlas: 'foto 0', 'foto 1', 'foto 2', …",
        ),
        (
            ["id,a", "photo 3,1", "photo 4,0", "photo 3,1"],
            "has 1 ids that are there twice, or of a sample that another is of too: 'photo 3'",
        ),
        (["id,a", "photo 3,1,5"], "line 2: it has 3 cells, and the first line 2"),
        (["id,a,a", "photo 3,1,5"], "has two columns that are named 'a'"),
        (["id", *(f"photo {n}" for n in range(8))], "has no column beside the ids of samples"),
        ([""], "is empty: it has a line with the names of columns"),
        (['id,"a', "photo 3,1"], "cannot be read as CSV in UTF-8: unexpected end of data"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_and_the_atlas_kept(path: Path, rows: list[str], message: str) -> None:
    before = path.read_bytes()
    with pytest.raises(InputError) as caught:
        annotate_atlas(path, as_csv(path, rows))
    assert message in str(caught.value)
    assert path.read_bytes() == before
    assert sorted(one.name for one in path.parent.iterdir()) == ["a.csv", "a.h5"]


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (3, {}, "attributes are a CSV file, a frame, or values by name; got int"),
        ({"a": [1, 2]}, {}, "the attribute 'a' has 2 values, and the atlas 8 samples"),
        ({"a": "text"}, {}, "is a value for each sample, or values by id; got str"),
        ({"a": {"photo 9": 1}}, {}, "the attribute 'a' has 1 ids that are of no sample of the atlas: 'photo 9'"),
        ({"a": {9: 1}}, {}, "ids that are of no sample of the atlas: '9'"),
        ({"a": [1] * 8}, {"id_column": "a"}, "id_column is for a CSV file or a frame"),
        (
            pd.DataFrame({"a": [1]}),
            {"id_column": "b"},
            "the frame has no column 'b' for the ids of samples; there are a",
        ),
        ("nothing.csv", {}, "no CSV file 'nothing.csv'"),
    ],
)
def test_other_sources_are_refused(path: Path, source: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        annotate_atlas(path, source, **options)
    assert message in str(caught.value)


def named(path: Path, names: list[str]) -> Path:
    """The atlas of samples with other names."""
    from crp_kit.atlas.file.hdf5_writer import write_tree

    state = PASS.add(PASS.empty(), 0, PASS.n_batches)
    state.identifiers = tuple(names)
    write_tree(path, state.tree({}, complete=True), compress=True)
    return path


def test_the_name_of_a_file_will_do_where_no_other_is_named_so(tmp_path: Path) -> None:
    names = ["a/1.png", "b/1.png", "b/2.png", "c/d/3.png", "5.png", "c/5.png", "c/6.png", "7"]
    path = named(tmp_path / "a.h5", names)
    known = {"2.png": 2, "3.png": 3, "5.png": 4, "c/5.png": 5, "7": 9, "a/1.png": 7}
    annotate_atlas(path, {"a": known}).close()
    np.testing.assert_array_equal(attributes(path)["a"], [7, NAN, 2, 3, 4, 5, NAN, 9])
    with pytest.raises(InputError, match=r"has 1 ids that are the file name of several samples: give paths: '1.png'"):
        annotate_atlas(path, {"b": {"1.png": 3}})


def test_odd_names_and_text_are_escaped_as_names_of_samples_are(tmp_path: Path) -> None:
    path = named(tmp_path / "a.h5", ["caf\\udce9.png", "two\\x0alines", *(f"{number}.png" for number in range(6))])
    annotate_atlas(path, {"a\nb": {"caf\udce9.png": "x\x1b[2J", "two\nlines": "Käse 東京"}}).close()
    assert attributes(path) == {"a\\x0ab": ["x\\x1b[2J", "Käse 東京", *[""] * 6]}


def test_cells_are_read_as_truth_values_or_numbers_where_all_are(path: Path) -> None:
    rows = ["id,truth,digit,number,text,gap,blank", *(f"photo {n},Yes,{n % 2},{n}e-1,n{n},,  " for n in range(7))]
    table = as_csv(path, [*rows, "photo 7,FALSE,,nan,1,3,"])
    annotate_atlas(path, table).close()
    read = attributes(path)
    assert read["truth"] == [True] * 7 + [False]
    np.testing.assert_array_equal(read["digit"], [0, 1, 0, 1, 0, 1, 0, NAN])
    np.testing.assert_allclose(read["number"], [*np.arange(7) / 10, NAN])
    assert read["text"] == [*(f"n{n}" for n in range(7)), "1"]
    np.testing.assert_array_equal(read["gap"], [*[NAN] * 7, 3])
    assert np.isnan(read["blank"]).all()


def test_a_damaged_atlas_is_not_rewritten(path: Path) -> None:
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        file["layers/0/relevance/top/score"][0, 0] += 1
    before = path.read_bytes()
    with pytest.raises(AtlasError, match="relevance/top/score is not what was written first"):
        annotate_atlas(path, {"a": [1] * COUNT})
    assert path.read_bytes() == before


@pytest.mark.parametrize("make", [lambda path: next(PASS.shards(path.parent, 2)), lambda path: path.parent / "none.h5"])
def test_only_a_finished_atlas_is_annotated(path: Path, make: Callable[[Path], Path]) -> None:
    with pytest.raises(AtlasError, match="shard 0/2|no file"):
        annotate_atlas(make(path), {"a": [1] * COUNT})


def test_the_command_annotates(path: Path) -> None:
    table = as_csv(path, ["name,age,id", *(f"x,{n},photo {n}" for n in range(8))])
    result = invoke("atlas", "annotate", path, "--csv", table, "--id", "id")
    assert (result.exit_code, result.stdout) == (0, f"{path}\n")
    assert "2 attributes of 8 samples" in result.stderr
    assert attributes(path)["age"] == list(range(8))
    assert "has the attribute 'name' already; --overwrite replaces it" in refused(
        "atlas", "annotate", path, "--csv", table, "--id", "id"
    )
    assert invoke("atlas", "annotate", path, "--csv", table, "--id", "id", "--overwrite").exit_code == 0
    assert "has no column 'nr' for the ids of samples; there are name, age, id" in refused(
        "atlas", "annotate", path, "--csv", table, "--id", "nr", "--overwrite"
    )
