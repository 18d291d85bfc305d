"""Matrix products by oneDNN are those of the definition, and matmul's where oneDNN is not asked or not there."""

from typing import Any

import pytest
import torch

from crp_kit import CondAttribution
from crp_kit import matrix_product as module
from crp_kit.matrix_product import linear, matrix_product

ROWS, INPUTS, OUTPUTS = 96, 160, 144


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)))


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[torch.Size]:
    """Shapes of what oneDNN was asked to multiply."""
    shapes: list[torch.Size] = []
    layer = module._onednn_linear()

    def noted(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        shapes.append(rows.shape)
        assert layer is not None
        return layer(rows, weight, bias)

    monkeypatch.setattr(module, "_onednn_linear", lambda: layer and noted)
    return shapes


@pytest.mark.parametrize(
    "rows",
    [
        drawn(ROWS, INPUTS),
        drawn(2, 3, ROWS // 6, INPUTS),
        drawn(INPUTS, ROWS).t(),
        drawn(1, 1, INPUTS).expand(2, ROWS // 2, INPUTS),
        drawn(ROWS, 2, INPUTS)[:, 1],
    ],
    ids=["matrix", "batch", "transposed", "expanded", "cut"],
)
@pytest.mark.parametrize("matrix", [drawn(INPUTS, OUTPUTS), drawn(OUTPUTS, INPUTS).t()], ids=["plain", "transposed"])
def test_products_are_those_of_float64_whatever_the_strides(
    rows: torch.Tensor, matrix: torch.Tensor, asked: list[torch.Size]
) -> None:
    product = matrix_product(rows, matrix)
    expected = rows.double() @ matrix.double()
    torch.testing.assert_close(product, expected.float(), rtol=1e-5, atol=1e-4)
    bias = drawn(OUTPUTS)
    layers = linear(rows, matrix.t()), linear(rows, matrix.t(), bias) - bias
    torch.testing.assert_close(torch.stack(layers), torch.stack([expected.float()] * 2), rtol=1e-5, atol=1e-4)
    assert all(layer.is_contiguous() for layer in layers)
    assert asked == ([rows.shape] * 3 if module._onednn_linear() else [])


@pytest.mark.parametrize(("rows", "inputs"), [(0, INPUTS), (1, 4 * INPUTS), (ROWS, 0), (3, 5)])
def test_small_and_empty_products_are_matmuls(rows: int, inputs: int, asked: list[torch.Size]) -> None:
    values, matrix = drawn(rows, inputs), drawn(inputs, OUTPUTS)
    assert torch.equal(matrix_product(values, matrix), values @ matrix)
    assert torch.equal(linear(values, matrix.t()), torch.nn.functional.linear(values, matrix.t()))
    assert not asked


def test_gradients_and_other_types_are_left_to_matmul(asked: list[torch.Size]) -> None:
    rows, matrix = drawn(ROWS, INPUTS), drawn(INPUTS, OUTPUTS)
    assert torch.equal(matrix_product(rows.double(), matrix.double()), rows.double() @ matrix.double())
    leaf = rows.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(matrix_product(leaf, matrix).sum(), leaf)
    torch.testing.assert_close(gradient, matrix.sum(1).expand_as(rows))
    assert not asked


def test_the_forward_of_an_attribution_has_its_linear_layers_from_onednn(asked: list[torch.Size]) -> None:
    model = torch.nn.Linear(INPUTS, OUTPUTS)
    rows = drawn(2, ROWS // 2, INPUTS)
    with torch.no_grad():
        expected = model(rows)
    result = CondAttribution(model, class_axis=-1)(rows, [{"y": [3]}, {"y": [4]}])
    torch.testing.assert_close(result.prediction, expected)
    assert (rows.shape in asked) == (module._onednn_linear() is not None)


@pytest.mark.parametrize("answer", [TypeError("other arguments"), None])
def test_an_operation_that_changed_is_not_used(answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()

    def changed(rows: torch.Tensor, *_: Any) -> torch.Tensor:
        if answer is not None:
            raise answer
        return torch.zeros_like(rows)

    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", changed)
    module._onednn_linear.cache_clear()
    try:
        assert module._onednn_linear() is None
        rows, matrix = drawn(ROWS, INPUTS), drawn(INPUTS, OUTPUTS)
        assert torch.equal(matrix_product(rows, matrix), rows @ matrix)
    finally:
        module._onednn_linear.cache_clear()
