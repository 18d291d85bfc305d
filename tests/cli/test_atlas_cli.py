"""``crp-kit atlas``: every command on a small atlas, and every mistake in one line."""

import csv
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from atlas_case import Labelled, build, same_bits
from command_line import invoke, refused
from PIL import Image

import crp_kit as crp
from crp_kit.class_names import class_number
from crp_kit.cli.options import class_named
from crp_kit.errors import InputError

LAYER = "layer2.1.conv2"
MODEL = ("--model", "demo:resnet", "--data", "demo:shapes:40")


crp_kit, mistake = partial(invoke, "atlas"), partial(refused, "atlas")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "atlas.h5"
    result = crp_kit("build", *MODEL, "--layers", LAYER, "--layers", "fc", "--workers", 0, "-o", path, "-k", 12)
    assert result.exit_code == 0, (result.output, result.exception)
    assert result.stdout == f"{path}\n"
    assert "40 samples, 2 layers, 40 concepts, 8 classes" in result.stderr
    return path


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_info_shows_the_contents_and_the_provenance_of_an_atlas(built: Path) -> None:
    said = crp_kit("info", built).stdout
    assert "40 samples of demo:shapes:40, 8 classes; model demo:resnet" in said
    assert "layer2.1.conv2: 32 concepts" in said
    known = json.loads(crp_kit("info", built, "--json").stdout)
    assert known["k"] == 12
    assert known["layers"][0]["output_shape"] == [32, 16, 16]
    assert known["composite"]["Pass"]
    assert known["classes"][0] == "red circle above striped square"


def test_digits_name_a_class_and_only_then_its_number() -> None:
    names = ["0", "1", "10", "11", "12", "13", "2", "3"]  # in the order of folders
    data = Labelled(24)
    data.classes = tuple(names)
    build(Path("a.h5"), data, layers=[LAYER], k=3).close()
    with crp.ConceptAtlas("a.h5") as atlas:
        half = atlas[LAYER].relevance
        wanted = {"2": half.concepts("2", 3), "10": half.concepts("10", 3), "7": half.concepts(7, 3)}
        assert wanted["2"].concept.tolist() != half.concepts(2, 3).concept.tolist()
    for cls, table in wanted.items():
        result = crp_kit("stats", "a.h5", "--layer", LAYER, "--class", cls, "--top", 3, "--json")
        assert json.loads(result.stdout) == list(table.rows())
        named = f"--class {cls} is the class of this name, number {names.index(cls) if cls in names else None}"
        assert (named in result.stderr) == (cls != "7")


@pytest.mark.parametrize(
    ("text", "names", "number"),
    [("3", (), 3), ("3", ("a", "b"), 3), ("b", ("a", "b"), 1), ("1", ("1", "0"), 0), ("1", ("0", "1"), 1)],
)
def test_a_class_is_a_name_before_it_is_a_number(text: str, names: tuple[str, ...], number: int) -> None:
    assert class_number(class_named(text, names), names) == number


def test_a_class_that_is_neither_or_ambiguous_is_refused() -> None:
    with pytest.raises(InputError, match="several classes are named '1': give a number, 0 or 2"):
        class_number(class_named("1", ("1", "0", "1")), ("1", "0", "1"))
    with pytest.raises(InputError, match="no class is named '-1': no names are known, give a number"):
        class_named("-1", ())


def test_statistics_are_those_of_the_library(built: Path) -> None:
    with crp.ConceptAtlas(built) as atlas:
        half = atlas[LAYER].relevance
        expected = [
            (("--top", 3), half.statistics().sorted("mean", 3)),
            (("--class", 2, "--top", 4), half.concepts(2, 4)),
            (("--class", atlas.classes[2], "--top", 4), half.concepts(2, 4)),
            (("--concept", 5), half.classes(5)),
            (("--concept", 5, "--class", 1, "--mode", "activation"), atlas[LAYER].activation.class_top(5, 1)),
        ]
        for options, table in expected:
            rows = json.loads(crp_kit("stats", built, "--layer", LAYER, *options, "--json").stdout)
            assert rows == list(table.rows())
            text = crp_kit("stats", built, "--layer", LAYER, *options, "--csv").stdout
            assert next(iter(csv.DictReader(text.splitlines()))).keys() == rows[0].keys()
    assert crp_kit("stats", built, "--layer", LAYER).stdout.count("\n") == 33


@pytest.mark.parametrize(("what", "rows"), [("top", 40 * 2 * 12), ("moments", 40 * 2 * 8), ("samples", 40)])
def test_exports_have_a_row_for_each_entry(built: Path, what: str, rows: int) -> None:
    for name in ("out.csv", "out.json"):
        assert crp_kit("export", built, "--what", what, "-o", name).stdout == f"{name}\n"
    with open("out.csv", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert len(table) == rows
    assert [list(one) for one in json.loads(Path("out.json").read_text())] == [list(one) for one in table]
    assert "exists; --overwrite replaces it" in mistake("export", built, "-o", "out.csv")


def test_export_can_be_restricted_to_one_layer_and_mode(built: Path) -> None:
    options = ("--layer", "fc", "--mode", "relevance", "--what", "class-top")
    crp_kit("export", built, *options, "-o", "out.json")
    rows = json.loads(Path("out.json").read_text())
    assert {(one["layer"], one["mode"]) for one in rows} == {("fc", "relevance")}
    with crp.ConceptAtlas(built) as atlas:
        first = next(atlas["fc"].relevance.class_top(0, 0).rows())
    assert {**first, "layer": "fc", "mode": "relevance", "concept": 0, "class": 0, "rank": 0} == rows[0]


@pytest.mark.slow
def test_shards_merge_to_the_same_file_and_verify_reads_it(built: Path) -> None:
    for number in range(2):
        options = ("--layers", LAYER, "--layers", "fc", "--workers", 0, "-k", 12, "--shard", f"{number}/2", "--quiet")
        result = crp_kit("build", *MODEL, *options, "-o", f"{number}.h5")
        assert result.exit_code == 0, result.output
        assert result.stderr == ""
    merged = crp_kit("merge", "1.h5", "0.h5", "-o", "all.h5", "--quiet")
    assert (merged.stdout, merged.stderr) == ("all.h5\n", "")
    assert same_bits(Path("all.h5"), built)
    assert crp_kit("verify", "all.h5", "0.h5", *MODEL).stdout == "all.h5: sound\n0.h5: sound\n"
    assert json.loads(crp_kit("verify", "all.h5", "--json").stdout) == {"all.h5": []}


def test_verify_names_each_fault_of_a_file(built: Path) -> None:
    Path("foreign.h5").write_text("no HDF5")
    result = crp_kit("verify", "foreign.h5", built)
    assert result.exit_code == 2
    assert "foreign.h5: " in result.stdout
    assert f"{built}: sound" in result.stdout
    assert "1 of 2 files are not sound: foreign.h5" in result.stderr
    other = crp_kit("verify", built, "--model", "demo:resnet", "--weights", "none")
    assert "made from a model with other weights" in other.stdout


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--mode", "both"), ("--style", "masked"), ("--receptive-field",)])
def test_references_are_drawn(built: Path, options: tuple[str, ...]) -> None:
    asked = ("references", built, *MODEL, "--layer", LAYER, "--concept", "3,8", "-k", 3, *options)
    assert crp_kit(*asked, "-o", "refs.png").stdout == "refs.png\n"
    with Image.open("refs.png") as picture:
        assert min(picture.size) > 200
        assert np.asarray(picture.convert("L")).std() > 10


@pytest.mark.slow
def test_references_are_written_to_a_folder_or_as_json(built: Path) -> None:
    asked = ("references", built, *MODEL, "--layer", LAYER, "--concept", "0-2", "-k", 3, "-o", "figures")
    assert crp_kit(*asked).stdout.split() == [f"figures/concept-{number}.png" for number in range(3)]
    rows = json.loads(crp_kit(*asked, "--overwrite", "--json").stdout)
    with crp.ConceptAtlas(built) as atlas:
        assert [one["sample"] for one in rows[:3]] == atlas[LAYER].relevance.top(0, 3).sample.tolist()


def test_a_folder_of_images_becomes_an_atlas() -> None:
    generator = np.random.default_rng(0)
    for name in ("a/1.png", "a/2.png", "b/1.png"):
        Path("images", name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (70, 90, 3), dtype=np.uint8)).save(Path("images", name))
    Path("images/b/2.png").write_text("broken")
    Path("classes.json").write_text('{"a": 0, "b": 1}')
    options = ("--model", "demo:resnet", "--data", "imagefolder:images", "--layers", LAYER, "--workers", 0)
    assert "the folders of the data are not the model's classes: 'a', 'b'" in mistake("build", *options, "-o", "x.h5")
    options = (*options, "--class-map", "classes.json")
    said = mistake("build", *options, "-o", "atlas.h5")
    assert "sample 3 (b/2.png) cannot be used" in said
    assert "--skip-unreadable leaves such samples out" in said
    result = crp_kit("build", *options, "--skip-unreadable", "--resume", "-o", "atlas.h5")
    assert result.exit_code == 0, result.output
    assert "left out: 1 samples that cannot be read" in result.stderr
    assert "left out: sample 3: " in crp_kit("info", "atlas.h5").stdout
    with crp.ConceptAtlas("atlas.h5") as atlas:
        assert atlas.identifiers == ("a/1.png", "a/2.png", "b/1.png", "b/2.png")
        assert atlas.targets.tolist() == [0, 0, 1, -1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("build", *MODEL, "--layers", "layer9", "-o", "a.h5"), "no layer named 'layer9'"),
        (("build", *MODEL, "--layers", LAYER, "-o", "no/a.h5"), "there is no folder no; make it first"),
        (("build", *MODEL, "--layers", LAYER, "-o", "a.h5", "--shard", "2/2"), "shards are counted from 0"),
        (("build", *MODEL, "--layers", LAYER, "-o", "a.h5", "--subset", "1-x"), "numbers are written like 0-9,20"),
        (
            ("build", *MODEL, "--layers", LAYER, "-o", "a.h5", "--max-memory", "2X"),
            "an amount of memory is written like",
        ),
        (("build", *MODEL, "--layers", LAYER, "-o", "a.h5", "--target", "top"), "target is 'label', 'prediction'"),
        (("build", *MODEL, "--layers", LAYER, "-o", "a.h5", "--composite", "no"), "no composite named 'no'"),
        (("build", *MODEL[:3], "imagefolder:no", "--layers", LAYER, "-o", "a.h5"), "no folder 'no'"),
        (("build", *MODEL[:3], "nothing", "--layers", LAYER, "-o", "a.h5"), "data is named imagefolder:DIR"),
        (("merge", "no.h5", "-o", "a.h5"), "no file 'no.h5'"),
        (("info", "no.h5"), "no file 'no.h5'"),
        (("info", "."), "'.' is a folder, not an atlas file"),
        (("verify", "no.h5", "--data", "demo:shapes"), "need --model"),
        (("import", "no", "-o", "a.h5"), "no folder 'no'"),
    ],
)
def test_mistakes_are_one_line_with_the_fix(folder: Path, arguments: tuple[str, ...], message: str) -> None:
    assert message in mistake(*arguments)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("stats", "--layer", "layer2.1.conv1"), "has no layer 'layer2.1.conv1'; did you mean 'layer2.1.conv2'?"),
        (("stats", "--layer", LAYER, "--concept", 32), "concept 32 of 'layer2.1.conv2' is out of range"),
        (("stats", "--layer", LAYER, "--class", "cat"), "no class is named 'cat'"),
        (("stats", "--layer", LAYER, "--class", 8), "class 8 of 'y' is out of range"),
        (("stats", "--layer", LAYER, "--json", "--csv"), "are two formats; leave one of them out"),
        (("export", "-o", "a.txt"), "needs the ending .csv or .json"),
        (("references", *MODEL, "--layer", LAYER, "--concept", 1, "-k", 13, "-o", "a.png"), "k is 1 to 12, got 13"),
        (
            ("references", *MODEL[:3], "demo:shapes:41", "--layer", LAYER, "--concept", 1, "-o", "a.png"),
            "another dataset",
        ),
        (("references", *MODEL, "--layer", LAYER, "--concept", "x", "-o", "a.png"), "numbers are written like 0-9,20"),
        (("references", *MODEL, "--layer", LAYER, "--concept", 1, "-o", "a.txt"), "needs one of the endings .png"),
    ],
)
def test_mistakes_in_queries_are_one_line_with_the_fix(built: Path, arguments: Any, message: str) -> None:
    assert message in mistake(arguments[0], built, *arguments[1:])
