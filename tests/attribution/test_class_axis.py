"""The class axis of the output: known, chosen, or an error; never guessed."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import invoke, refused
from studies import atlas_of, concept_graph_of, region_map_of
from torch import nn
from zennit.composites import LayerMapComposite, layer_map_base
from zennit.rules import Epsilon
from zennit.types import Linear

import crp_kit as crp

LRP0 = LayerMapComposite([*layer_map_base(1e-12), (Linear, Epsilon(1e-12))])
Shaped = Callable[[torch.Tensor], torch.Tensor]


class Dense(nn.Module):
    """A convolution without bias, and its output (batch, 10, height, width) in another shape."""

    def __init__(self, shaped: Shaped, channels: int = 10) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.shaped = nn.Conv2d(3, channels, 3, bias=False), shaped
        self.double().eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.shaped(self.conv(x))


def boxes(y: torch.Tensor) -> torch.Tensor:
    """(batch, box, class), with two anchors and five classes, as RetinaNet makes it."""
    return y.unflatten(1, (2, 5)).permute(0, 3, 4, 1, 2).reshape(len(y), -1, 5)


UNKNOWN: dict[str, tuple[Shaped, int]] = {
    "boxes": (boxes, 10),
    "classes and boxes": (lambda y: boxes(y).transpose(1, 2), 10),
    "depth by squeeze": (lambda y: y.squeeze(1), 1),
    "depth by index": (lambda y: y[:, 3], 10),
    "depth by mean": (lambda y: y.mean(1), 4),
    "anchors and classes of maps": (lambda y: y.unflatten(1, (2, 5)), 10),
    "all sizes equal": (lambda y: y.reshape(len(y), 2, 2, 4).sum(3), 1),
}


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(2, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", UNKNOWN)
@pytest.mark.parametrize("cls", [0, 7])
def test_a_class_of_an_output_whose_class_axis_nobody_knows_is_an_error(name: str, cls: int, x: torch.Tensor) -> None:
    with pytest.raises(crp.CrpKitError, match=r"not known: name it with CondAttribution\(model, class_axis="):
        crp.CondAttribution(Dense(*UNKNOWN[name]))(x, [{"y": [cls]}], LRP0)


@pytest.mark.parametrize("axis", [-1, 2])
def test_a_chosen_class_axis_counts(axis: int, x: torch.Tensor) -> None:
    x.requires_grad_()
    model = Dense(boxes)
    (gradient,) = torch.autograd.grad((model(x)[..., 3] ** 2).sum() / 2, x)  # relevance starts at the value itself
    attr = crp.CondAttribution(model, class_axis=axis)(x.detach(), [{"y": [3]}], None)
    assert torch.allclose(attr.input_relevance, gradient)
    with pytest.raises(crp.CrpKitError, match=r"class 7 of 'y' is out of range: it has 5"):
        crp.CondAttribution(model, class_axis=axis)(x.detach(), [{"y": [7]}], LRP0)


def test_rows_of_depth_maps_may_be_classes_if_that_is_said(x: torch.Tensor) -> None:
    attribution = crp.CondAttribution(Dense(lambda y: y.squeeze(1), 1), class_axis=1)
    attr = attribution(x, [{"y": [2]}], LRP0)
    assert attr.heatmap.sum((1, 2)).tolist() == pytest.approx(attr.prediction[:, 2].sum(1).tolist())


@pytest.mark.parametrize(
    ("shaped", "size", "axis"),
    [
        (lambda y: y, 10, 1),
        (lambda y: y.mean((2, 3)), 10, 1),
        (lambda y: y.permute(0, 2, 3, 1), 10, 3),
        (lambda y: nn.functional.interpolate(y, scale_factor=2.0), 10, 1),
    ],
)
def test_the_class_axis_of_what_a_convolution_makes_is_known(
    shaped: Shaped, size: int, axis: int, x: torch.Tensor
) -> None:
    model = Dense(shaped)
    attr = crp.CondAttribution(model)(x, [{"y": [size - 1]}], LRP0)
    expected = attr.prediction.movedim(axis, 1)[:, size - 1].reshape(2, -1).sum(1)
    assert attr.heatmap.sum((1, 2)).tolist() == pytest.approx(expected.tolist())
    with pytest.raises(crp.CrpKitError, match=r"out of range: it has 10"):
        crp.CondAttribution(model)(x, [{"y": [10]}], LRP0)


def test_labels_of_tokens_are_on_the_last_axis() -> None:
    model = nn.Sequential(nn.Linear(6, 4, bias=False), nn.ReLU(), nn.Linear(4, 3, bias=False)).double()
    attr = crp.CondAttribution(model)(torch.randn(2, 5, 6).double(), [{"y": [2]}], LRP0)
    assert attr.input_relevance.sum((1, 2)).tolist() == pytest.approx(attr.prediction[..., 2].sum(1).tolist())


def test_one_number_for_each_sample_is_class_0(x: torch.Tensor) -> None:
    attribution = crp.CondAttribution(Dense(lambda y: y.sum((1, 2, 3))))
    attr = attribution(x, [{"y": [0]}], LRP0)
    assert attr.heatmap.sum((1, 2)).tolist() == pytest.approx(attr.prediction.tolist())
    with pytest.raises(crp.CrpKitError, match="out of range"):
        attribution(x, [{"y": [1]}], LRP0)


@pytest.mark.parametrize("axis", [0, True, "1", 1.0])
def test_what_is_no_axis_is_refused_at_once(axis: Any) -> None:
    with pytest.raises(crp.CrpKitError, match=r"class_axis is the number of an axis"):
        crp.CondAttribution(Dense(boxes), class_axis=axis)


@pytest.mark.parametrize("axis", [3, -3, -4])
def test_an_axis_that_the_output_does_not_have_or_that_holds_the_samples_is_refused(axis: int, x: torch.Tensor) -> None:
    with pytest.raises(crp.CrpKitError, match=r"no axis of the model's output, whose shape is \(2, 32, 5\)"):
        crp.CondAttribution(Dense(boxes), class_axis=axis)(x, [{"y": [0]}], LRP0)


def test_no_class_needs_no_axis(x: torch.Tensor) -> None:
    attr = crp.CondAttribution(Dense(boxes))(x, [{"y": []}], LRP0)
    assert not attr.heatmap.any()
    assert crp.CondAttribution(Dense(boxes))(x, [{}], LRP0, init_rel=1.0).heatmap.any()


def test_a_copy_keeps_the_axis(x: torch.Tensor) -> None:
    attribution = pickle.loads(pickle.dumps(crp.CondAttribution(nn.Sequential(nn.Conv2d(3, 4, 3)), class_axis=-1)))
    with pytest.raises(crp.CrpKitError, match="out of range: it has 2"):
        attribution(x[..., :4].float(), [{"y": [2]}])


def test_analyses_use_the_same_axis(tmp_path: Path) -> None:
    """Atlas, concept graph and region map of (batch, box, class) are those of the transposed output."""
    images = torch.rand(6, 3, 6, 6, dtype=torch.float64)
    data = [(image, int(label)) for image, label in zip(images, (0, 1, 2, 3, 4, 0), strict=True)]
    named = crp.CondAttribution(Dense(boxes), class_axis=-1)
    first = crp.CondAttribution(Dense(lambda y: boxes(y).transpose(1, 2)), class_axis=1)
    tops = []
    for number, attribution in enumerate((named, first)):
        options: dict[str, Any] = {"layers": ["conv"], "composite": LRP0, "target": "prediction", "verbose": False}
        with atlas_of(attribution, data, tmp_path / f"{number}.h5", **options) as atlas:
            assert atlas.header.n_classes == 5
            assert set(atlas.predictions.tolist()) <= set(range(5))
            tops.append((atlas.predictions.tolist(), atlas["conv"].relevance.top(1, 3).score.tolist()))
    assert tops[0] == tops[1]
    graphs = [concept_graph_of(one, images[:1], LRP0, start={"y": [4]}, layers=["conv"]) for one in (named, first)]
    assert graphs[0].to_json()["nodes"] == graphs[1].to_json()["nodes"]
    maps = [
        region_map_of(one, images[:1], "conv", composite=LRP0, cls=4, regions="grid", count=4) for one in (named, first)
    ]
    assert maps[0].dominant.tolist() == maps[1].dominant.tolist()
    with pytest.raises(crp.CrpKitError, match="out of range: it has 5"):
        region_map_of(named, images[:1], "conv", composite=LRP0, cls=5, regions="grid", count=4)
    with pytest.raises(crp.CrpKitError, match="class_axis="):
        concept_graph_of(crp.CondAttribution(Dense(boxes)), images[:1], LRP0, start={"y": [4]}, layers=["conv"])


def test_the_command_line_takes_the_axis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "boxes.py").write_text(
        "import torch\n\n\n"
        "class Boxes(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.conv = torch.nn.Conv2d(3, 10, 3, stride=16)\n\n"
        "    def forward(self, x):\n"
        "        return self.conv(x).unflatten(1, (2, 5)).permute(0, 3, 4, 1, 2).reshape(len(x), -1, 5)\n"
    )
    monkeypatch.chdir(tmp_path)
    from PIL import Image

    Image.new("RGB", (64, 64), "red").save("a.png")
    asked = ("heatmap", "a.png", "--model", "boxes.py:Boxes", "--condition", "y:4", "--save-array", "a.npz")
    assert "name it with --class-axis" in refused(*asked)
    assert invoke(*asked, "--class-axis", "-1").exit_code == 0
