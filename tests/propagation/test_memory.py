"""Where memory does not suffice, fewer rows are carried at once; results stay the same."""

from __future__ import annotations

import gc
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hidden import Hidden
from torch import nn

import crp_kit
from crp_kit.data import demo_resnet
from crp_kit.errors import DeviceMemoryError
from crp_kit.graph.recording.record import first_sample
from crp_kit.propagation.carrier import Carrier

LAYER, COMPOSITE = "layer3.0.conv1", "epsilon_plus_flat"
CONDITIONS = {
    "one seed": [{LAYER: [channel], "y": [1]} for channel in range(11)],
    "a seed each": [{LAYER: [channel], "y": [channel % 5]} for channel in range(11)],
    "seeds only": [{"y": [target]} for target in range(6)],
}
Limit = Callable[[int], list[weakref.ref[torch.Tensor]]]


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Limit:
    """Let memory suffice for some rows only; return a function for how many, which returns what did not fit."""
    too_many: list[weakref.ref[torch.Tensor]] = []
    original = Carrier._handed_on

    def limited(rows: int) -> list[weakref.ref[torch.Tensor]]:
        def handed_on(carrier: Any, carried: Any, index: int, message: Any) -> Any:
            given = original(carrier, carried, index, message)
            new = [weakref.ref(part.rows) for _, part in given if len(part.rows) > rows]
            if new and index < 30:  # not at the top, so that there is something to free
                too_many.extend(new)
                raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return given

        monkeypatch.setattr(Carrier, "_handed_on", handed_on)
        return too_many

    return limited


def attributed(attribution: crp_kit.CondAttribution, images: torch.Tensor, name: str) -> torch.Tensor:
    found = attribution(
        images, CONDITIONS[name], COMPOSITE, record_layer=["layer2.0.conv1"], pairing="product", batch_size=64
    )
    return torch.cat([found.heatmap.flatten(1), found.relevances["layer2.0.conv1"].flatten(1)], 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", CONDITIONS)
@pytest.mark.parametrize("rows", [1, 4])
def test_half_as_many_rows_are_carried_until_they_fit(images: torch.Tensor, limit: Limit, name: str, rows: int) -> None:
    expected = attributed(crp_kit.CondAttribution(demo_resnet()), images, name)
    attribution = crp_kit.CondAttribution(demo_resnet())
    limit(rows)
    with pytest.warns(crp_kit.CrpKitWarning, match="memory did not suffice .* half as many") as caught:
        found = attributed(attribution, images, name)
    assert len(caught) == 1
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-6 * float(expected.abs().max()))


@pytest.mark.slow
def test_the_smaller_number_is_kept_for_later_calls(images: torch.Tensor, limit: Limit) -> None:
    attribution = crp_kit.CondAttribution(demo_resnet())
    too_many = limit(3)
    with pytest.warns(crp_kit.CrpKitWarning, match="half as many"):
        attributed(attribution, images, "one seed")
    assert attribution.engine.run(images, attribution.resolve_composite(COMPOSITE)).rows_at_once <= 3
    failures = len(too_many)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attributed(attribution, images, "one seed")
    assert len(too_many) == failures


@pytest.mark.slow
def test_nothing_of_what_did_not_fit_is_left_when_fewer_rows_are_tried(
    images: torch.Tensor, limit: Limit, monkeypatch: pytest.MonkeyPatch
) -> None:
    too_many, left = limit(3), []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: left.append([one() is not None for one in too_many]))
    gc.disable()
    try:
        with pytest.warns(crp_kit.CrpKitWarning, match="half as many"):
            attributed(crp_kit.CondAttribution(demo_resnet()), images, "one seed")
    finally:
        gc.enable()
    assert left
    assert not any(map(any, left))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "message"),
    [
        (1, "memory does not suffice for the relevance of one sample; smaller inputs need less"),
        (2, r"the relevance of 2 samples at once; fewer samples \(a smaller batch_size\) or smaller inputs need less"),
    ],
)
@pytest.mark.filterwarnings("ignore:the device's memory did not suffice")
def test_where_not_even_one_row_fits_it_is_said_what_helps(
    images: torch.Tensor, limit: Limit, count: int, message: str
) -> None:
    limit(0)
    with pytest.raises(DeviceMemoryError, match=message) as caught:
        attributed(crp_kit.CondAttribution(demo_resnet()), images[:count], "one seed")
    assert isinstance(caught.value.__cause__, torch.cuda.OutOfMemoryError)
    assert isinstance(caught.value, crp_kit.CrpKitError)


runs: list[tuple[int, bool]] = []


class Counting(nn.Module):
    """Two linear layers and any function between; each forward notes its samples, and whether it ran with gradients."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 2)
        self.function = function
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        runs.append((len(x), torch.is_grad_enabled()))
        return self.last(self.function(self.first(x)))


BATCH = torch.linspace(-1, 2, 20).reshape(5, 4)


@pytest.fixture(autouse=True)
def _no_runs() -> None:
    runs.clear()


def gradient_of(function: Callable[[torch.Tensor], torch.Tensor], data: torch.Tensor) -> torch.Tensor:
    model, x = Counting(function), data.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(x)[:, 1].sum(), x)
    runs.clear()
    return gradient


def relevance_of(function: Callable[[torch.Tensor], torch.Tensor], data: torch.Tensor = BATCH) -> torch.Tensor:
    return crp_kit.CondAttribution(Counting(function))(data, [{"y": [1]}], init_rel=1).input_relevance


def test_a_forward_that_does_not_fit_is_an_error_that_says_so() -> None:
    def too_large(x: torch.Tensor) -> torch.Tensor:
        if len(x) > 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return x * 1

    with pytest.raises(DeviceMemoryError, match="the model's forward of 5 samples at once"):
        relevance_of(too_large)


def test_gradients_are_watched_in_one_sample_only() -> None:
    assert torch.allclose(relevance_of(torch.relu), gradient_of(torch.relu, BATCH))
    attribution = crp_kit.CondAttribution(Counting(torch.relu))
    for count in (5, 2, 5):
        attribution(BATCH[:count], [{"y": [1]}])
    assert runs == [(1, True), (1, False), (5, False), (2, False), (5, False)]


def test_a_model_that_one_sample_cannot_run_is_looked_at_with_all() -> None:
    def fixed(x: torch.Tensor) -> torch.Tensor:
        return x.view(5, 2, 2).transpose(1, 2).reshape(5, 4).relu()

    expected = gradient_of(fixed, BATCH)
    assert torch.allclose(relevance_of(fixed), expected)
    assert [count for count, gradients in runs if gradients] == [1, 5]


@pytest.mark.parametrize("several", [False, True])
def test_what_only_some_samples_or_only_several_reach_is_found(several: bool) -> None:
    hidden = Hidden()

    class Routed(Counting):
        def __init__(self) -> None:
            super().__init__(torch.relu)
            self.hidden = hidden

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            reached = len(x) > 1 if several else bool((x > 1).any())
            return super().forward(self.hidden(x) if reached else x * 1)

    x = BATCH.clone().requires_grad_()
    (expected,) = torch.autograd.grad(Routed()(x)[:, 1].sum(), x)
    found = crp_kit.CondAttribution(Routed())(BATCH, [{"y": [1]}], init_rel=1)
    assert torch.allclose(found.input_relevance, expected)


def test_the_first_sample_is_taken_of_data_whose_tensors_all_have_as_many() -> None:
    x, y = torch.rand(3, 4), torch.rand(3)
    assert torch.equal(first_sample(x), x[:1])
    assert [one.shape for one in first_sample((x, y))] == [(1, 4), (1,)]
    named = first_sample({"x": x, "mask": y, "return_dict": True})
    assert (named["x"].shape, named["return_dict"]) == ((1, 4), True)
    for whole in (x[:1], (x, torch.rand(2)), (x, torch.tensor(1.0)), "no tensor"):
        assert first_sample(whole) is None
