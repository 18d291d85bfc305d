"""``crp-kit graph``: the library's graph on stdout or in files, and mistakes in one line."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
from command_line import invoke
from image_batches import load_images
from studies import atlas_of, concept_graph_of

from crp_kit import ConceptGraph, CondAttribution
from crp_kit.data import ShapesDataset
from crp_kit.models.load import load_model
from crp_kit.views.image import picture

DEMO = ("--model", "demo:resnet")
LAYERS = "layer3.*conv2"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with two demo images in it."""
    monkeypatch.chdir(tmp_path)
    for index, image in enumerate(ShapesDataset(2, split="test").batch(range(2))[0]):
        picture(image).save(tmp_path / f"{index}.png")
    return tmp_path


crp_kit = partial(invoke, "graph")


def test_graph_prints_the_graph_of_the_library(folder: Path) -> None:
    result = crp_kit("0.png", *DEMO, "--layers", LAYERS, "--children", "2,2", "--class", 3)
    loaded = load_model("demo:resnet")
    inputs = load_images(["0.png"], loaded.preprocess).inputs
    graph = concept_graph_of(CondAttribution(loaded.model), inputs, "epsilon_plus_flat", start={"y": [3]},
                             layers=LAYERS, width=(2, 2))  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert result.stdout == graph.to_text(classes=loaded.classes) + "\n"
    printed = crp_kit("0.png", *DEMO, "--layers", LAYERS, "--children", "2,2", "--class", loaded.classes[3], "--json")
    assert ConceptGraph.from_json(json.loads(printed.stdout)) == graph


def test_graph_writes_several_files_at_once(folder: Path) -> None:
    names = ["graph.png", "graph.svg", "graph.json", "graph.dot"]
    outputs = [part for name in names for part in ("-o", name)]
    result = crp_kit(
        "0.png", *DEMO, "--start", "layer3.1.conv2:36", "--layers", "layer3.1.conv1", "--heatmaps", *outputs
    )
    assert result.exit_code == 0, result.stderr
    assert result.stdout.split() == names
    assert Path("graph.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in Path("graph.svg").read_text()
    assert Path("graph.dot").read_text().startswith("digraph")
    graph = ConceptGraph.from_json(json.loads(Path("graph.json").read_text()))
    assert graph.start == {"layer3.1.conv2": [36]}


def test_several_images_give_the_mean_graph(folder: Path) -> None:
    result = crp_kit("0.png", "1.png", *DEMO, "--class", 3, "--layers", LAYERS, "--children", "2", "--json")
    assert json.loads(result.stdout)["samples"] == 2


@pytest.mark.slow
def test_an_atlas_shows_references(folder: Path) -> None:
    loaded = load_model("demo:resnet")
    data = ShapesDataset(8, split="test")
    atlas_of(CondAttribution(loaded.model), data, "atlas.h5", layers=["layer3.1.conv2"], verbose=False,
                composite="epsilon_plus_flat", preprocess=loaded.preprocess).close()  # fmt: skip
    result = crp_kit("0.png", *DEMO, "--layers", "layer3.1.conv2", "--children", 2, "--atlas", "atlas.h5",
                     "--data", "demo:shapes:8:test", "-o", "graph.png")  # fmt: skip
    assert result.exit_code == 0, result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-o", "graph.txt"), "the graph 'graph.txt' needs one of the endings"),
        (("--children", "3,0"), "--children is written like 5,3"),
        (("--class", "zebra"), "no class is named 'zebra'; the first ones are"),
        (("--class", "99"), "class 99 of 'y' is out of range"),
        (("--start", "layer3.1.conv2"), "expected ':' and concept ids"),
        (("--start", "layer3.1.conv2:1,2"), "start names 2 of 'layer3.1.conv2'"),
        (("--layers", "layer9"), "no layer named 'layer9'"),
        (("--data", "demo:shapes"), "--data is for the references of an atlas: say --atlas too"),
        (("--atlas", "a.h5", "--data", "demo:shapes"), "--atlas shows references in a figure"),
        (("1.png",), "several images give the mean graph of one class: say which with --class"),
        (("9.png",), "no image file '9.png'"),
    ],
)
def test_mistakes_are_one_line_with_the_fix(folder: Path, options: tuple[str, ...], message: str) -> None:
    result = crp_kit("0.png", *DEMO, *options)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("crp-kit: error: ")
    assert message in result.stderr


def test_nothing_is_overwritten_unless_asked(folder: Path) -> None:
    Path("graph.dot").write_text("mine")
    assert "--overwrite replaces" in crp_kit("0.png", *DEMO, "-o", "graph.dot").stderr
    assert Path("graph.dot").read_text() == "mine"
