"""Neurons of the model output, and any other concept of it, as what relevance starts from."""

from typing import Any

import pytest
import torch
from torch import nn

import crp_kit as crp
from crp_kit.concepts import ChannelConcept, NeuronConcept, TokenConcept


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(2, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def dense() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3, bias=False)).double().eval()


def gradient(model: nn.Module, x: torch.Tensor, place: Any) -> torch.Tensor:
    x = x.clone().requires_grad_()
    (found,) = torch.autograd.grad(model(x)[(slice(None), *place)].sum(), x)
    return found


@pytest.mark.parametrize("pairing", ["zip", "product"])
def test_neurons_of_a_segmentation_are_named_by_class_row_and_column(
    dense: nn.Module, x: torch.Tensor, pairing: Any
) -> None:
    sets = [{"y": [(4, 0, 1)]}, {"y": [(2, 1, 1), (0, 0, 0)]}]
    options: dict[str, Any] = {"mask_map": {"y": NeuronConcept()}, "init_rel": 1.0, "pairing": pairing}
    found = crp.CondAttribution(dense)(x, sets, None, **options).input_relevance
    each = [gradient(dense, x, (4, 0, 1)), gradient(dense, x, (2, 1, 1)) + gradient(dense, x, (0, 0, 0))]
    rows = [each[i][i] for i in range(2)] if pairing == "zip" else [each[j][i] for i in range(2) for j in range(2)]
    assert torch.allclose(found, torch.stack(rows))


def test_a_neuron_needs_no_class_axis(x: torch.Tensor) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.Flatten(2), nn.Unflatten(2, (2, 8))).double()
    attr = crp.CondAttribution(model)(x, [{"y": [(3, 1, 7)]}], None, mask_map={"y": NeuronConcept()}, init_rel=1.0)
    assert torch.allclose(attr.input_relevance, gradient(model, x, (3, 1, 7)))
    flat = crp.CondAttribution(model)(x, [{"y": 63}], None, mask_map={"y": NeuronConcept()}, init_rel=1.0)
    assert torch.equal(flat.input_relevance, attr.input_relevance)


@pytest.mark.parametrize(
    ("concept", "ids", "place"),
    [
        (ChannelConcept(axis=2), [1], (slice(None), 1)),
        (ChannelConcept(), [1], (1,)),
        (TokenConcept(axis=3), [0], (slice(None), slice(None), 0)),
        (lambda ids, shape, *, layer_name: torch.eye(2)[ids[0]], [1], (slice(None), slice(None), 1)),
    ],
)
def test_any_concept_or_function_works_at_the_output(
    concept: Any, ids: Any, place: Any, dense: nn.Module, x: torch.Tensor
) -> None:
    attr = crp.CondAttribution(dense)(x, [{"y": ids}], None, mask_map={"y": concept}, init_rel=1.0)
    assert torch.allclose(attr.input_relevance, gradient(dense, x, place))


def test_masks_of_layers_and_of_the_output_go_together(dense: nn.Module, x: torch.Tensor) -> None:
    masks = {"y": NeuronConcept(), "0": NeuronConcept()}
    attribution = crp.CondAttribution(dense)
    whole = attribution(x, [{"y": [(1, 0, 0)]}], "epsilon_plus", mask_map=masks, record_layer=["0"])
    kept = attribution(x, [{"0": [(2, 1, 1)], "y": [(1, 0, 0)]}], "epsilon_plus", mask_map=masks)
    rest = [{"0": [i for i in range(64) if i != 2 * 16 + 4 + 1], "y": [(1, 0, 0)]}]
    others = attribution(x, rest, "epsilon_plus", mask_map=masks)
    assert torch.allclose(kept.heatmap + others.heatmap, whole.heatmap)
    assert whole.titles()[0] == "sample 0: (1, 0, 0)"


@pytest.mark.parametrize(
    ("ids", "mask", "message"),
    [
        ([(5, 0, 0)], NeuronConcept(), r"index 5 of neuron \(5, 0, 0\): 5 of 'y' is out of range"),
        ([(1, 0)], NeuronConcept(), r"neuron \(1, 0\) of 'y' needs 3 indices; its shape: \(5, 2, 2\)"),
        ([0], NeuronConcept, "the mask of 'y' is a function or a Concept.*; got the class NeuronConcept"),
        ([0], lambda ids, shape, *, layer_name: torch.ones(3), "mask of 'y' has to be a tensor that broadcasts"),
        ([(1, 0, 0)], ChannelConcept(), "a class of 'y' is a whole number"),
    ],
)
def test_what_the_output_does_not_have_is_said(
    ids: Any, mask: Any, message: str, dense: nn.Module, x: torch.Tensor
) -> None:
    with pytest.raises(crp.CrpKitError, match=message):
        crp.CondAttribution(dense)(x, [{"y": ids}], None, mask_map={"y": mask})
