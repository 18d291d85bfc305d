"""After everything, success or failure, the user's model and input are as they were."""

# mypy: disable-error-code="no-any-return, operator, assignment, arg-type"

from collections.abc import Callable
from typing import Any

import pytest
import torch
from mistakes import MISTAKES, Net, images
from torch import nn
from zennit.canonizers import SequentialMergeBatchNorm
from zennit.composites import COMPOSITES, EpsilonGammaBox, EpsilonPlusFlat
from zennit.torchvision import ResNetCanonizer

from crp_kit import CondAttribution, trace_model_graph
from crp_kit.graph.memory_format import laid_out

pytestmark = pytest.mark.filterwarnings("ignore:the model is in training mode:crp_kit.CrpKitWarning")


class Witness:
    """A model and an input with everything on them that could be changed by mistake, and their state."""

    def __init__(self) -> None:
        self.model = Net().eval()
        self.model.drop.train()
        self.model.conv1.weight.requires_grad_(False)
        self.model.head.weight.grad = torch.ones_like(self.model.head.weight)
        self.model.bn.register_forward_hook(lambda module, args, output: output * 1)
        self.model.register_forward_pre_hook(lambda module, args: None)
        self.model.conv2.register_full_backward_hook(lambda module, given, received: None)
        self.model.remark = {"a": [1]}
        self.x = images().requires_grad_()
        self.x.grad = torch.ones_like(self.x)
        self.before, self.output = self.state(), self.forward()

    def state(self) -> list[Any]:
        tensors = [*self.model.parameters(), *self.model.buffers(), self.x]
        return [
            [(id(t), t.data_ptr(), t._version, t.requires_grad, t.tolist()) for t in tensors],
            [None if t.grad is None else (id(t.grad), t.grad.tolist()) for t in tensors],
            [(id(m), m.training, type(m).__name__, type(m).forward) for m in self.model.modules()],
            [sorted(vars(m)) for m in self.model.modules()],
            [[list(hooks) for key, hooks in vars(m).items() if key.endswith("_hooks")] for m in self.model.modules()],
            self.model.remark,
            torch.is_grad_enabled(),
            torch.get_default_dtype(),
            torch.random.get_rng_state().tolist(),
        ]

    def forward(self) -> torch.Tensor:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(0)
            return self.model(self.x)

    def check(self) -> None:
        assert self.state() == self.before
        assert torch.equal(self.forward(), self.output)


def composites() -> dict[str, Callable[[], Any]]:
    named = {name: (lambda name=name: COMPOSITES[name]()) for name in COMPOSITES if name != "epsilon_gamma_box"}
    merging = [SequentialMergeBatchNorm()]
    return {
        **named,
        "gradient": lambda: None,
        "epsilon_gamma_box": lambda: EpsilonGammaBox(low=-3.0, high=3.0),
        "merging canonizer": lambda: EpsilonPlusFlat(canonizers=merging),
        "resnet canonizer": lambda: EpsilonPlusFlat(canonizers=[ResNetCanonizer()]),
    }


@pytest.mark.parametrize("composite", composites())
@pytest.mark.parametrize("exclude_parallel", [True, False])
def test_after_success(composite: str, exclude_parallel: bool) -> None:
    witness = Witness()
    attr = CondAttribution(witness.model)(
        witness.x,
        [{"conv1": [1], "y": [0]}, {"conv2": [0], "y": [1]}, {"y": [2]}],
        composites()[composite](),
        record_layer=["conv1", "add"],
        exclude_parallel=exclude_parallel,
    )
    assert attr.heatmap.shape == (6, 5, 5)
    witness.check()


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_after_each_failure(mistake: Any) -> None:
    witness = Witness()
    attribution = CondAttribution(witness.model)
    with pytest.raises(mistake.error):
        attribution(mistake.spoil(witness.x.detach()), mistake.conditions, mistake.composite, **mistake.options)
    witness.check()
    expected = CondAttribution(Net().eval())(images(), [{"conv1": [1], "y": [0]}], EpsilonPlusFlat()).heatmap
    assert torch.allclose(attribution(witness.x, [{"conv1": [1], "y": [0]}], EpsilonPlusFlat()).heatmap, expected)


@pytest.mark.parametrize("slices", [0, 1, 2])
@pytest.mark.parametrize("composite", ["epsilon_plus_flat", "merging canonizer"])
def test_after_an_abandoned_generator(slices: int, composite: str) -> None:
    witness = Witness()
    conditions = [{"conv1": [channel], "y": [0]} for channel in range(4)]
    parts = CondAttribution(witness.model).generate(
        witness.x, conditions, composites()[composite](), pairing="product", batch_size=1
    )
    for _ in range(slices):
        next(parts)
    witness.check()
    del parts
    witness.check()


def test_while_a_generator_is_half_way_the_model_can_be_used() -> None:
    witness = Witness()
    conditions = [{"conv1": [channel], "y": [0]} for channel in range(4)]
    attribution = CondAttribution(witness.model)
    whole = attribution(witness.x, conditions, EpsilonPlusFlat(), pairing="product")
    rows = []
    for part in attribution.generate(witness.x, conditions, EpsilonPlusFlat(), pairing="product", batch_size=3):
        witness.check()
        rows.append(part.heatmap)
    assert torch.allclose(torch.cat(rows), whole.heatmap, rtol=1e-5, atol=1e-7)


def test_after_a_failing_forward() -> None:
    class Failing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.count = nn.Linear(3, 2), 0
            self.register_buffer("calls", torch.zeros(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.count += 1
            self.calls += 1
            if x.sum() > 0:
                raise KeyError("half-way")
            return self.linear(x)

    model = Failing()
    attribution = CondAttribution(model)
    with pytest.raises(Exception, match=r"forward failed for input of shape \(1, 3\): 'half-way'"):
        attribution(torch.ones(1, 3), [{"y": [0]}])
    assert (model.count, float(model.calls)) == (0, 0.0)
    assert attribution(-torch.ones(1, 3), [{"y": [0]}]).prediction.shape == (1, 2)
    assert (model.count, float(model.calls)) == (0, 0.0)
    assert model(-torch.ones(1, 3)).requires_grad


def test_after_tracing() -> None:
    witness = Witness()
    trace_model_graph(witness.model, witness.x)
    witness.check()


def test_training_goes_on_where_it_was() -> None:
    model = Net().train()
    loss = model(images()).sum()
    CondAttribution(model)(images(), [{"y": [0]}], EpsilonPlusFlat())
    loss.backward()  # a parameter that had been written to would make this raise
    assert model.conv1.weight.grad is not None


def test_new_weights_are_seen_though_nothing_is_copied() -> None:
    model = Net().eval()
    attribution = CondAttribution(model)
    first = attribution(images(), [{"y": [0]}], EpsilonPlusFlat()).prediction
    with torch.no_grad():
        model.head.bias.add_(1)
    second = attribution(images(), [{"y": [0]}], EpsilonPlusFlat()).prediction
    assert torch.allclose(second, first + 1)
    model.head = nn.Linear(4, 3)
    expected = model(laid_out(images())).detach()
    assert torch.equal(attribution(images(), [{"y": [0]}], EpsilonPlusFlat()).prediction, expected)
