"""``--target`` of the commands that make graphs, region maps, evaluations, atlases and references."""

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import invoke, refused
from PIL import Image

import crp_kit as crp

MODEL = ("--model", "demo:resnet")
DATA = ("--data", "demo:shapes:6")
LAYER = "layer3.1.conv2"

DETECTOR = """
import torch
from torchvision.models.detection import ssdlite320_mobilenet_v3_large
from crp_kit.models import LoadedModel, Preprocess

def net():
    torch.manual_seed(0)
    net = ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=3, detections_per_img=5, score_thresh=0.0
    )
    return LoadedModel(net, Preprocess(resize=None, crop=None, mean=(0.0,) * 3, std=(1.0,) * 3), ("none", "cat", "dog"))
"""


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_a_graph_and_a_region_map_start_from_a_target(picture: Path) -> None:
    graph = invoke("graph", picture, *MODEL, "--layers", LAYER, "--children", "2", "--target", "contrast:1,2", "--json")
    assert graph.exit_code == 0, graph.output
    assert json.loads(graph.stdout)["target"] == "contrast:1,2"
    regions = invoke("regions", picture, *MODEL, "--layer", LAYER, "--top", "2", "--target", "class:1:one", "--json")
    assert regions.exit_code == 0, regions.output
    assert json.loads(regions.stdout)["target"] == "class:1:one"
    two = refused("graph", picture, *MODEL, "--target", "class:1", "--class", "2", "--json")
    assert "--target and --class are two starts; give one of them" in two
    assert "are two starts" in refused(
        "regions", picture, *MODEL, "--layer", LAYER, "--target", "value:1", "--class", "2", "--json"
    )


def test_an_evaluation_and_references_start_from_a_target(tmp_path: Path) -> None:
    evaluated = (
        "evaluate",
        "flipping",
        *MODEL,
        *DATA,
        "--layer",
        LAYER,
        "--steps",
        "3",
        "--orders",
        "relevance",
        "--json",
    )
    assert invoke(*evaluated, "--target", "contrast:1,2").exit_code == 0
    assert "a target is class:ID" in refused(*evaluated, "--target", "labels")
    atlas = tmp_path / "a.h5"
    built = invoke(
        "atlas",
        "build",
        *MODEL,
        *DATA,
        "--layers",
        LAYER,
        "-o",
        atlas,
        "--quiet",
        "--workers",
        "0",
        "--target",
        "value:3",
    )
    assert built.exit_code == 0, built.output
    with crp.ConceptAtlas(atlas) as made:
        assert made.header.target == "value:3"
    drawn = ("atlas", "references", atlas, *MODEL, *DATA, "--layer", LAYER, "--concept", "3", "-k", "1")
    assert invoke(*drawn, "--target", "contrast:1,2", "-o", tmp_path / "r.png").exit_code == 0


def test_a_box_of_a_detector_is_explained_from_the_command_line(picture: Path, tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(DETECTOR)
    model = ("--model", f"{tmp_path / 'nets.py'}:net")
    none = refused("heatmap", picture, *model, "--target", "box:cat:7", "--json")
    assert "there is no box 7 of class 1: there are" in none
    cls = "cat" if "class 1: there are" in none else "dog"
    done = invoke("heatmap", picture, *model, "--target", f"box:{cls}:0", "-o", tmp_path / "h.png")
    assert done.exit_code == 0, done.output
    assert "say what to explain with --class, --target or --condition" in refused("heatmap", picture, *model, "--json")


def test_a_part_of_the_output_is_chosen(picture: Path, tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.head = torch.nn.Linear(3, 2)\n"
        "    def forward(self, x):\n"
        "        return {'loss': x.sum(), 'logits': self.head(x.mean((2, 3)))}\n"
    )
    model = ("heatmap", picture, "--model", f"{tmp_path / 'nets.py'}:Net", "--json")
    assert "choose the part to attribute with --model-output" in refused(*model)
    assert "choose the part to attribute with --model-output" in invoke("check", *model[2:4]).stdout
    assert invoke(*model, "--model-output", "logits").exit_code == 0
    assert "has no part 'scores'" in refused(*model, "--model-output", "scores")
