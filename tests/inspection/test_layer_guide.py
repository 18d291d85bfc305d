"""Guide to layers: what is said of each is what the definition gives, and the suggested ones are a handful."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import invoke
from torch import nn

import crp_kit as crp
from crp_kit.data import demo_resnet

SPECS = ("torchvision:alexnet", "torchvision:densenet121", "torchvision:mobilenet_v2", "torchvision:vit_b_32")


class Branches(nn.Module):
    """Two convolutions side by side, one with a shortcut; then one that everything goes through."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.left, self.right = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.norm, self.act, self.drop = nn.BatchNorm2d(4), nn.GELU(), nn.Dropout()
        self.end, self.pool, self.head = nn.Conv2d(4, 6, 3, padding=1), nn.MaxPool2d(2), nn.Linear(6 * 16, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = x + self.drop(self.act(self.norm(self.left(x)))) + self.right(x)
        return self.head(torch.relu(self.end(self.pool(x))).flatten(1))


class Codes(nn.Module):
    """An autoencoder of four channels."""

    def __init__(self) -> None:
        super().__init__()
        self.reader, self.writer = nn.Linear(4, 6), nn.Linear(6, 4)

    def encode(self, activation: torch.Tensor) -> torch.Tensor:
        return self.reader(activation).relu()

    def decode(self, code: torch.Tensor) -> torch.Tensor:
        return self.writer(code)


def study(model: nn.Module, **options: Any) -> crp.Study:
    return crp.Study(model.eval(), **options)


def rows(model: nn.Module, size: int = 8, **options: Any) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in study(model, **options).layers(torch.zeros(1, 3, size, size)).rows()}


def test_all_paths_go_through_a_layer_if_nothing_reaches_the_input_without_it() -> None:
    model = Branches()
    guide, one = rows(model), study(model)
    image = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for name, row in guide.items():
        blocked = one(image, [{name: [], "y": [0]}], exclude_parallel=False).heatmap
        assert row["all paths"] == (not bool(blocked.any())), name
    assert {name for name, row in guide.items() if row["all paths"]} == {
        "stem",
        "pool",
        "end",
        "relu",
        "flatten",
        "add_1",
    }


def test_depth_counts_layers_with_weights_on_the_longest_path() -> None:
    depth = {name: row["depth"] for name, row in rows(Branches()).items()}
    expected = {"stem": 1, "left": 2, "right": 2, "norm": 2, "act": 2, "add_1": 2, "pool": 2, "end": 3, "relu": 3}
    assert expected.items() <= depth.items()


def test_activations_are_followed_through_what_keeps_values_alone() -> None:
    guide = rows(Branches())
    assert {name for name, row in guide.items() if row["activated"]} == {"act", "drop", "relu", "flatten"}
    behind = {name: row["behind"] for name, row in guide.items() if row["behind"]}
    assert behind == {"left": "act", "norm": "act", "end": "relu"}
    signed = {name for name, row in guide.items() if row["signed"]}
    assert signed == set(guide) - {"left", "norm", "act", "drop", "end", "relu", "flatten"}
    assert {"stem", "right", "add_1", "pool"} <= signed


def test_concepts_are_those_of_the_study() -> None:
    row = rows(Branches())["end"]
    assert (row["concept"], row["concepts"], row["maps"]) == ("channel", 6, "4x4")
    assert rows(Branches(), concepts=crp.NeuronConcept())["end"]["concept"] == "neuron"


def test_blocks_end_where_repeated_modules_do() -> None:
    guide = rows(demo_resnet(), 64)
    blocks = {f"layer{stage}.{block}.relu_1" for stage in (1, 2, 3) for block in (0, 1)}
    assert {name for name, row in guide.items() if row["block output"]} == blocks
    assert {name for name, row in guide.items() if row["suggested"]} == {
        f"layer{stage}.1.relu_1" for stage in (1, 2, 3)
    }


@pytest.mark.slow
@pytest.mark.parametrize("spec", SPECS)
def test_suggested_layers_are_a_handful_in_depth_that_all_relevance_goes_through(spec: str) -> None:
    loaded = crp.load_model(spec, "none")
    guide = crp.Study(loaded).layers(loaded.sample())
    chosen = guide.taken(guide.suggested)
    assert 2 <= len(chosen) <= 5
    assert chosen.all_paths.all()
    assert all(shallow < deep for shallow, deep in pairwise(chosen.depth))
    assert chosen.depth[-1] > guide.depth.max() / 2


def test_suggested_layers_can_be_given_to_a_build(tmp_path: Path) -> None:
    names = invoke("layers", "--model", "demo:resnet", "--suggest").stdout
    assert names.split() == [f"layer{stage}.1.relu_1" for stage in (1, 2, 3)]
    path = tmp_path / "a.h5"
    build = ("atlas", "build", "--model", "demo:resnet", "--data", "demo:shapes:8", "--layers", names, "-o", path)
    assert invoke(*build, "--quiet").exit_code == 0
    with crp.ConceptAtlas(path) as atlas:
        assert list(atlas) == names.split()


def test_a_ranking_by_activation_says_if_it_is_one_before_the_activation_function(tmp_path: Path) -> None:
    data = [(image, 0) for image in torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))]
    layers = ["left", "act", "right"]
    with study(Branches(), data=data).build_atlas(tmp_path / "a.h5", layers=layers, verbose=False) as atlas:
        top = atlas["left"].activation.top(1)
        assert repr(top).startswith("'left' is ranked before its activation function; for values behind it build the")
        assert "'act'" in top.note
        assert [*top.columns()] == ["sample", "score", "position", "target"]
        quiet = [atlas["left"].relevance, atlas["act"].activation, atlas["right"].relevance]
        assert [half.top(1).note for half in quiet] == [""] * 3
        note = atlas["right"].activation.top(1).note
        assert note.startswith("'right' may have negative values, and no activation function follows: the highest")


def test_a_build_and_the_description_of_an_atlas_note_layers_that_are_not_behind_activations(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    layers = "layer3.1.conv1,layer3.1.conv2,layer3.1.add,layer3.1.relu_1,fc"
    data = ("--model", "demo:resnet", "--data", "demo:shapes:8", "--layers", layers.replace(",", " "))
    built, info = invoke("atlas", "build", *data, "-o", path), invoke("atlas", "info", path)
    signed = next(line for line in info.stdout.splitlines() if "negative" in line)
    before = next(line for line in info.stdout.splitlines() if "before their" in line)
    assert "follows: layer3.1.conv2, fc; the highest activation" in signed
    assert "layer3.1.conv1 (behind it: layer3.1.relu), " in before
    assert "layer3.1.add (behind it: layer3.1.relu_1)" in before
    assert [line.strip() in built.stderr for line in (signed, before)] == [True, True]


def test_codes_of_a_dictionary_are_not_the_signed_values_of_its_layer(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    data = [(image, 0) for image in torch.rand(4, 3, 8, 8, generator=generator)]
    one = study(Branches(), data=data, concepts={"right": crp.DictionaryConcept(Codes())})
    with one.build_atlas(tmp_path / "a.h5", layers=["right"], verbose=False) as atlas:
        assert not atlas["right"].activation.top(1).note
