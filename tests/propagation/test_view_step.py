"""Transposes of views against autograd, and relevance that passes them factored against relevance that does not."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from nets import lrp_0, normal, relative_error
from torch import nn

import crp_kit
from crp_kit.graph.graph import Ref
from crp_kit.propagation.relevance import Relevance
from crp_kit.propagation.run import Run
from crp_kit.propagation.view_step import ViewStep

VIEWS: dict[str, Callable[[torch.Tensor], Any]] = {
    "view": lambda h: h.view(len(h), -1),
    "reshape": lambda h: h.reshape(-1, h.shape[-1]),
    "flatten": lambda h: h.flatten(2),
    "unflatten": lambda h: h.unflatten(1, (2, 2)),
    "ravel": torch.ravel,
    "squeeze": torch.squeeze,
    "unsqueeze": lambda h: h.unsqueeze(1),
    "permute": lambda h: h.permute(0, 2, 3, 1),
    "movedim": lambda h: h.movedim(1, -1),
    "transpose": lambda h: h.transpose(1, 2),
    "mT": lambda h: h.mT,
    "a slice": lambda h: h[:, 1:3],
    "every second": lambda h: h[:, ::2, ..., :1],
    "one channel": lambda h: h[:, 2],
    "the last row, with a new axis": lambda h: h[:, :, -1, None],
    "nothing": lambda h: h[:, 4:],
    "select": lambda h: h.select(1, 1),
    "narrow": lambda h: h.narrow(1, 1, 2),
    "chunk": lambda h: h.chunk(3, 1),
    "split": lambda h: h.split([1, 3], 1),
    "tensor_split": lambda h: h.tensor_split(3, 1),
    "unbind": lambda h: h.unbind(1),
}
SHAPES = [(2, 4, 3, 5), (4, 4, 4, 4), (1, 4, 1, 1)]


class Viewed(nn.Module):
    """A linear map of the channels, and a view of it whose parts are returned."""

    def __init__(self, function: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.front, self.function = nn.Conv2d(4, 4, 1, bias=False), function
        self.double().eval()

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(self.front(x))


def is_tuple(function: Callable[[torch.Tensor], Any], x: torch.Tensor) -> bool:
    return not isinstance(function(x), torch.Tensor)


def prepared(function: Callable[[torch.Tensor], Any], shape: tuple[int, ...]) -> tuple[Run, int, torch.Tensor]:
    """Return a run, the index of the view's node, and the value of which it is a view."""
    x = normal(*shape)
    attribution = crp_kit.CondAttribution(Viewed(function), output=0 if is_tuple(function, x) else None)
    run = attribution.engine.run(x, lrp_0())
    index = len(run.graph.nodes) - 1
    return run, index, run.recording.value(run.graph.nodes[index].inputs[0])


def message_of(run: Run, index: int, rows: int, *, factor: str) -> tuple[list[Relevance | None], list[torch.Tensor]]:
    """Return relevance at all outputs but the second, and the same without a factor, both of random numbers."""
    message: list[Relevance | None] = []
    wholes = []
    for output, shape in enumerate(run.graph.nodes[index].shapes):
        assert shape is not None
        values = normal(rows, *shape, seed=output)
        own = run.recording.value(Ref(index, output))
        run.recording.working[Ref(index, output)] = own
        by = {"none": None, "values": own, "other": normal(*shape, seed=9)}[factor]
        missing = output == 1
        message.append(None if missing else Relevance(values, by))
        wholes.append(torch.zeros_like(values) if missing else values if by is None else values * by)
    return message, wholes


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", VIEWS)
def test_relevance_goes_back_to_the_places_that_a_view_shows(name, shape):
    run, index, value = prepared(VIEWS[name], shape)
    assert isinstance(run.plan.steps[index], ViewStep)
    for rows, factor in itertools.product([1, 3], ["none", "values", "other"]):
        check(run, index, value, VIEWS[name], rows=rows, factor=factor)


def check(run: Run, index: int, value: torch.Tensor, function: Callable[..., Any], *, rows: int, factor: str) -> None:
    """Compare the step of a view with autograd."""
    step = run.plan.steps[index]
    message, wholes = message_of(run, index, rows, factor=factor)
    before = [None if part is None else part.rows.clone() for part in message]
    ((to, relevance),) = step.prepare(run.recording)(message)
    leaf = value.clone().requires_grad_()
    result = function(leaf)
    parts = list(result) if isinstance(result, (tuple, list)) else [result]
    for row in range(rows):
        (expected,) = torch.autograd.grad(parts, leaf, [whole[row] for whole in wholes], retain_graph=True)
        assert torch.equal(relevance.shared().whole()[row], expected)
    assert to == run.graph.nodes[index].inputs[0]
    for part, rows_before in zip(message, before, strict=True):
        assert part is None or torch.equal(part.rows, rows_before)  # not owned, so not overwritten


@pytest.mark.parametrize(
    "function",
    [
        lambda h: h[:, torch.tensor([2, 0])],
        lambda h: h[:, [2, 0]],
        lambda h: h.as_strided((2, 2), (1, 2)),
        lambda h: h.expand(3, *h.shape),
        lambda h: h.unfold(2, 2, 1),
        lambda h: h.view_as(torch.zeros(2, 60)),
    ],
)
def test_copies_and_views_that_show_an_element_twice_are_left_to_autograd(function):
    run, index, _ = prepared(function, SHAPES[0])
    assert not isinstance(run.plan.steps[index], ViewStep)


class Heads(nn.Module):
    """Query, key and value as parts of one product, of which the mean is classified, beside the product itself."""

    def __init__(self) -> None:
        super().__init__()
        self.front, self.head = nn.Linear(6, 12), nn.Linear(4, 3)
        self.double().eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits, (batch, class), of tokens (batch, token, feature)."""
        joined = self.front(x)
        q, k, v = joined.reshape(*x.shape[:2], 3, 2, 2).permute(2, 0, 3, 1, 4)
        mixed = (q + 2 * k).flatten(1) + v.flatten(1) + joined[..., :4].flatten(1)
        return self.head(mixed.unflatten(1, (-1, 4)).mean(1))  # type: ignore[no-any-return]


def test_parts_of_one_product_get_gradient_times_input():
    torch.manual_seed(0)
    model, x = Heads(), normal(2, 5, 6)
    model.front.bias.data.zero_()
    attribution = crp_kit.CondAttribution(model, feature_axis="none")
    rows = [{"y": [0]}, {"y": [2]}]
    relevance = attribution(x, rows, lrp_0(), pairing="product").input_relevance.unflatten(0, (2, 2))
    leaf = x.clone().requires_grad_()
    logits = model(leaf)
    gradients = [torch.autograd.grad(logits[:, row["y"]].sum(), leaf, retain_graph=True)[0] for row in rows]
    assert relative_error(relevance, torch.stack(gradients, 1) * x[:, None]) < 1e-9
