"""Forwards that take one dictionary, nested tuples and lists, or a list of images; what fits none of it is said."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

import crp_kit as crp

B, D = 3, 4
QUIET = pytest.mark.filterwarnings("ignore:relevance also reaches the inputs")


def tensors(count: int = 2) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(B, D, dtype=torch.float64, generator=generator) for _ in range(count)]


class Sum(nn.Module):
    """Two linear maps without biases, added up; subclasses say how the inputs come."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(D, 2, bias=False), nn.Linear(D, 2, bias=False)
        self.double().eval()

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.a(x) + self.b(y)


class OfDictionary(Sum):
    def forward(self, batch: dict[str, Any]) -> torch.Tensor:  # type: ignore[override]
        return super().forward(batch["x"], batch["z"])


class OfNested(Sum):
    def forward(self, x: torch.Tensor, rest: Any) -> torch.Tensor:
        return super().forward(x, rest["states"][1][0])


class OfTuple(Sum):
    def forward(self, pair: Any) -> torch.Tensor:  # type: ignore[override]
        return super().forward(*pair)


@dataclass
class Batch:
    x: torch.Tensor
    y: torch.Tensor
    name: str = "no tensor"


class OfRecord(Sum):
    def forward(self, batch: Batch) -> torch.Tensor:  # type: ignore[override]
        return super().forward(batch.x, batch.y)


@QUIET
@pytest.mark.parametrize("batch_size", [1, 2, 8])
@pytest.mark.parametrize(
    ("model", "calling", "data", "second"),
    [
        (OfDictionary(), "single", lambda x, y: {"x": x, "z": y, "scale": 2.0}, "z"),
        (OfTuple(), "single", lambda x, y: (x, y), "input_1"),
        (OfTuple(), "single", lambda x, y: [x, y], "input_1"),
        (OfTuple(), "arguments", lambda x, y: ((x, y),), "input.1"),
        (OfNested(), "arguments", lambda x, y: (x, {"states": [0, (y, None)]}), "input_1.states.1.0"),
        (OfNested(), "arguments", lambda x, y: {"x": x, "rest": {"states": [0, (y, None)]}}, "rest.states.1.0"),
        (OfRecord(), "arguments", lambda x, y: (Batch(x, y),), "input.y"),
    ],
)
def test_every_tensor_inside_is_an_input(
    model: nn.Module, calling: Any, data: Any, second: str, batch_size: int
) -> None:
    x, y = tensors()
    expected = crp.CondAttribution(Sum())((x, y), [{"y": [1]}], "epsilon_plus", record_layer=["input_1"])
    attribution = crp.CondAttribution(model, inputs=calling)
    attr = attribution(data(x, y), [{"y": [1]}], "epsilon_plus", record_layer=[second], batch_size=batch_size)
    assert torch.allclose(attr.heatmap, expected.heatmap)
    assert torch.allclose(attr.relevances[second], expected.relevances["input_1"])
    assert attr.reached.tolist() == pytest.approx([1.0] * B, rel=1e-4)


@QUIET
def test_a_part_of_a_nested_input_may_belong_to_all_samples() -> None:
    class Similar(Sum):
        def forward(self, x: torch.Tensor, rest: Any) -> torch.Tensor:
            return self.a(x) @ self.b(rest["texts"]).T

    x, y = tensors()
    for fixed in ("rest", "rest.texts"):
        attribution = crp.CondAttribution(Similar(), fixed=fixed)
        attr = attribution({"x": x, "rest": {"texts": y}}, [{"y": [2]}], "epsilon_plus", batch_size=2)
        alone = [attribution({"x": x[i : i + 1], "rest": {"texts": y}}, [{"y": [2]}], "epsilon_plus") for i in range(B)]
        assert torch.allclose(attr.heatmap, torch.cat([one.heatmap for one in alone]))


def test_a_dictionary_that_is_no_keywords_is_said() -> None:
    x, y = tensors()
    with pytest.raises(crp.CrpKitError, match=r"unexpected keyword.*takes the dict itself, use .*inputs='s") as said:
        crp.CondAttribution(OfDictionary())({"x": x, "z": y}, [{"y": [0]}], "epsilon_plus")
    assert "fixed" not in str(said.value)
    with pytest.raises(crp.CrpKitError, match=r"takes the tuple itself, use .*inputs='single'"):
        crp.CondAttribution(OfTuple())((x, y), [{"y": [0]}], "epsilon_plus")


def test_what_has_no_tensors_to_be_seen_is_said() -> None:
    class Graph:
        x = torch.rand(2, 2)

    with pytest.raises(crp.CrpKitError, match="got Graph; wrap the model in a module whose forward takes tensors"):
        crp.CondAttribution(nn.Linear(2, 2))(Graph(), [{"y": [0]}])
    with pytest.raises(crp.CrpKitError, match="the data is a dict without a tensor in it"):
        crp.CondAttribution(nn.Linear(2, 2))({"x": 1}, [{"y": [0]}])
    with pytest.raises(crp.CrpKitError, match="inputs is one of 'arguments', 'single', 'samples'; got 'list'"):
        crp.CondAttribution(nn.Linear(2, 2), inputs="list")  # type: ignore[arg-type]


class OfImages(nn.Module):
    """A network whose forward takes a list of images and makes a batch of them, each put into a frame."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)
        self.double().eval()

    def forward(self, images: list[torch.Tensor]) -> torch.Tensor:
        assert isinstance(images, list)
        batch = images[0].new_zeros(len(images), 3, 10, 10)
        for image, frame in zip(images, batch, strict=True):
            frame[:, : image.shape[1], : image.shape[2]].copy_((image - 0.5) / 0.25)
        return self.head(self.conv(batch).relu().mean((2, 3)))


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_a_list_of_images_has_a_heatmap_for_each(batch_size: int) -> None:
    images = list(torch.rand(B, 3, 8, 8, dtype=torch.float64))
    attribution = crp.CondAttribution(OfImages(), inputs="samples")
    sets = [{"y": [0]}, {"y": [1]}]
    attr = attribution(images, sets, "epsilon_plus", batch_size=batch_size, record_layer=["conv"])
    assert attr.heatmap.shape == (2 * B, 8, 8)
    assert torch.allclose(
        attribution(torch.stack(images), [{"y": [0]}, {"y": [1]}], "epsilon_plus").heatmap, attr.heatmap
    )
    for i, image in enumerate(images):
        alone = attribution([image], [{"y": [1]}], "epsilon_plus", record_layer=["conv"])
        assert torch.allclose(attr.heatmap[2 * i + 1], alone.heatmap[0])
        assert torch.allclose(attr.relevances["conv"][2 * i + 1], alone.relevances["conv"][0])


def test_images_of_different_sizes_are_attributed_one_at_a_time() -> None:
    attribution = crp.CondAttribution(OfImages(), inputs="samples")
    images = [torch.rand(3, 8, 8).double(), torch.rand(3, 8, 6).double()]
    with pytest.raises(crp.CrpKitError, match=r"different shapes, \(3, 8, 8\) and \(3, 8, 6\).*one at a time"):
        attribution(images, [{"y": [0]}], "epsilon_plus")
    assert attribution(images[1:], [{"y": [0]}], "epsilon_plus").heatmap.shape == (1, 8, 6)
    with pytest.raises(crp.CrpKitError, match="the data is a list with one tensor for each sample"):
        attribution({"x": images[0]}, [{"y": [0]}], "epsilon_plus")


def test_a_list_without_a_word_says_what_there_is() -> None:
    with pytest.raises(crp.CrpKitError, match=r"a list of 2 tensors: torch.stack.*inputs='samples'.*inputs='single'"):
        crp.CondAttribution(OfImages())([torch.rand(3, 8, 8)] * 2, [{"y": [0]}])
