"""The share of the start that reaches the input, what is said of it, and presets that hand on the share of biases."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import invoke
from PIL import Image
from studies import concept_graph_of, region_map_of
from torch import nn
from zennit.composites import EpsilonPlus

import crp_kit as crp
from crp_kit.rules.presets import preset

NAMES = ["epsilon_plus", "epsilon_plus_flat", "epsilon_alpha2_beta1", "excitation_backprop", "attnlrp"]


def net(bias: float) -> nn.Sequential:
    """Layers with the same large bias everywhere, or none."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)]
    for layer in layers:
        if not isinstance(layer, (nn.ReLU, nn.Flatten)):
            nn.init.constant_(layer.bias, bias)
            layer.weight.data.abs_()
    return nn.Sequential(*layers).double().eval()


@pytest.fixture
def x() -> torch.Tensor:
    return torch.rand(2, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_all_of_it_reaches_the_input_without_biases(x: torch.Tensor) -> None:
    attr = crp.CondAttribution(net(0.0))(x, [{"y": [0]}, {"y": [2]}, {"y": [0, 1]}], "epsilon_plus")
    assert attr.reached is not None
    assert attr.reached.tolist() == pytest.approx([1.0] * 6, rel=1e-5)
    assert attr.remark == ""
    assert "reaches" not in repr(attr)


def test_it_is_the_sum_of_the_heatmap_over_the_start(x: torch.Tensor) -> None:
    attribution = crp.CondAttribution(net(3.0))
    sets = [{"y": [0]}, {"2": [1], "y": [1]}, {"0": [0], "2": [2], "y": [2]}]
    attr = attribution(x, sets, "epsilon_plus", batch_size=2)
    start = torch.stack([attr.prediction[i, i % 3] for i in range(6)])
    assert attr.reached is not None
    assert torch.allclose(attr.reached, attr.heatmap.sum((1, 2)) / start)
    zipped = attribution(x, sets[:2], "epsilon_plus", pairing="zip")
    assert torch.allclose(zipped.reached, attr.reached[[0, 4]])
    doubled = attribution(x, sets, "epsilon_plus", init_rel=lambda value: 2 * value)
    assert torch.allclose(doubled.reached, attr.reached)


def test_it_is_the_share_of_what_starts_at_a_layer(x: torch.Tensor) -> None:
    attr = crp.CondAttribution(net(0.0))(x, [{}], "epsilon_plus", start_layer="2")
    assert attr.reached is not None
    assert attr.reached.tolist() == pytest.approx([1.0, 1.0], rel=1e-5)


def test_all_inputs_count() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b = nn.Linear(4, 3, bias=False), nn.Linear(4, 3, bias=False)

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return self.a(x) + self.b(y)

    with pytest.warns(crp.CrpKitWarning, match="relevance also reaches the inputs input_1"):
        attr = crp.CondAttribution(Two().double())(tuple(torch.rand(2, 2, 4).double()), [{"y": [0]}], "epsilon_plus")
    assert attr.reached.tolist() == pytest.approx([1.0, 1.0], rel=1e-4)


def test_gradients_are_no_shares_and_nothing_has_none(x: torch.Tensor) -> None:
    attribution = crp.CondAttribution(net(1.0))
    assert attribution(x, [{"y": [0]}]).reached is None
    nothing = attribution(x, [{"y": []}], "epsilon_plus")
    assert bool(nothing.reached.isnan().all())
    assert nothing.remark == ""


def test_little_is_said_in_one_line(x: torch.Tensor) -> None:
    attribution = crp.CondAttribution(net(1e3))
    one = attribution(x[:1], [{"y": [0]}], "epsilon_plus")
    share = f"{100 * float(one.reached[0]):.2g} %"
    expected = (
        f"{share} of the start reaches the input; biases and stabilizers absorb the rest; diagnose=True shows where"
    )
    assert repr(one).splitlines()[-1] == expected
    several = attribution(x, [{"y": [0]}, {"y": [1]}], "epsilon_plus", pairing="product")
    assert "reaches the input in row" in several.remark
    assert "(and less than 5% in 3 others)" in several.remark


def test_little_that_conditions_let_pass_is_not_said(x: torch.Tensor) -> None:
    assert crp.CondAttribution(net(0.0))(x, [{"2": [], "y": [0]}], "epsilon_plus").remark == ""


@pytest.mark.parametrize("name", NAMES)
def test_distributed_biases_take_nothing(name: str, x: torch.Tensor) -> None:
    absorbed, distributed = (
        crp.CondAttribution(net(10.0), biases=choice)(x, [{"y": [0]}], name).reached
        for choice in ("absorb", "distribute")
    )
    doubled = 4.0 if name == "epsilon_alpha2_beta1" else 1.0  # alpha is 2, and here nothing is negative for beta
    assert distributed.tolist() == pytest.approx([doubled] * 2, rel=1e-3)
    if name != "excitation_backprop":  # it starts from zero_params of its own
        assert bool((absorbed.abs() < 0.9 * doubled).all())


@pytest.mark.parametrize("name", [*NAMES, "gradient", "guided_backprop", "deconvnet"])
def test_presets_that_distribute_are_zennits_with_zero_params(name: str, x: torch.Tensor) -> None:
    ours = crp.CondAttribution(net(1.0), biases="distribute")(x, [{"y": [1]}], name).heatmap
    if name == "epsilon_plus":
        expected = crp.CondAttribution(net(1.0))(x, [{"y": [1]}], EpsilonPlus(zero_params="bias")).heatmap
        assert torch.equal(ours, expected)
    same = crp.CondAttribution(net(1.0))(x, [{"y": [1]}], preset(name, biases="distribute")).heatmap
    assert torch.equal(ours, same)


@pytest.mark.parametrize("name", ["epsilon_plus", "attnlrp"])
@pytest.mark.parametrize(
    "layers",
    [
        lambda: [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 2)],
        lambda: [nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(64, 2)],
        lambda: [nn.Flatten(), nn.Linear(108, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)],
    ],
)
def test_shifts_of_folded_batch_norms_are_biases_too(layers: Callable[[], Any], name: str, x: torch.Tensor) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*layers()).double().eval()
    for module in model:
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.running_mean.fill_(-2.0)
            nn.init.constant_(module.bias, 5.0)
        elif isinstance(module, (nn.Conv2d, nn.Linear)):
            module.weight.data.abs_()
    attr = crp.CondAttribution(model, biases="distribute")(x, [{"y": [0]}], name)
    assert attr.reached.tolist() == pytest.approx([1.0, 1.0], rel=1e-3)
    assert bool((crp.CondAttribution(model)(x, [{"y": [0]}], name).reached.abs() < 0.95).all())


def test_constants_of_sums_keep_their_share(x: torch.Tensor) -> None:
    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.head = nn.Linear(108, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head((x + 1.0).flatten(1))

    model = Shifted().double()
    attr = crp.CondAttribution(model, biases="distribute")(x, [{"y": [0]}], "attnlrp")
    with torch.no_grad():
        whole = (x + 1.0).flatten(1) * model.head.weight[0]
        expected = (whole * x.flatten(1) / (x + 1.0).flatten(1)).sum(1) / whole.sum(1)
    assert attr.reached.tolist() == pytest.approx(expected.tolist(), rel=1e-4)


def test_a_composite_of_ones_own_says_it_itself(x: torch.Tensor) -> None:
    attribution = crp.CondAttribution(net(1.0), biases="distribute")
    with pytest.raises(crp.CrpKitError, match=r"this is a EpsilonPlus: make its rules with zero_params='bias'"):
        attribution(x, [{"y": [0]}], EpsilonPlus())
    with pytest.raises(crp.CrpKitError, match="biases is one of 'absorb', 'distribute'; got 'drop'"):
        crp.CondAttribution(net(1.0), biases="drop")  # type: ignore[arg-type]


def test_analyses_distribute_too(x: torch.Tensor) -> None:
    attribution = crp.CondAttribution(net(5.0), biases="distribute")
    graph = concept_graph_of(attribution, x[:1], "epsilon_plus", start={"y": [0]}, layers=["0", "2"])
    assert sum(node["share"] for node in graph.to_json()["nodes"] if node["layer"] == "2") > 0.99
    found = region_map_of(attribution, x[:1], "2", composite="epsilon_plus", cls=0, regions="grid", count=4)
    assert len(found.dominant) == 4


def test_the_command_line_says_it_and_distributes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "biased.py").write_text(
        "import torch\n\n\n"
        "def make():\n"
        "    torch.manual_seed(0)\n"
        "    conv, head = torch.nn.Conv2d(3, 4, 3, stride=16), torch.nn.Linear(784, 3)\n"
        "    torch.nn.init.constant_(head.bias, 1e6)\n"
        "    return torch.nn.Sequential(conv, torch.nn.ReLU(), torch.nn.Flatten(), head).eval()\n"
    )
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (224, 224, 3), dtype=np.uint8)).save("a.png")
    asked = ("heatmap", "a.png", "--model", "biased.py:make", "--condition", "y:1", "--save-array", "a.npz")
    absorbed = invoke(*asked)
    assert absorbed.exit_code == 0, absorbed.output
    assert (
        "of the start reaches the input; biases and stabilizers absorb the rest; --biases distribute" in absorbed.stderr
    )
    spread = invoke(*asked, "--biases", "distribute", "--overwrite")
    assert spread.exit_code == 0, spread.output
    assert "reaches" not in spread.stderr
    said = json.loads(invoke(*asked, "--biases", "distribute", "--overwrite", "--json").stdout)
    assert said["images"][0]["heatmaps"][0]["reached"] == pytest.approx(1.0, abs=0.01)
