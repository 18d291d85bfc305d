"""Each row of a call equals the same condition set alone, and no step reads or writes another reader's relevance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from row_nets import NETS, UNKNOWN
from studies import concept_graph_of, region_map_of
from torch import nn
from zennit.composites import LayerMapComposite, layer_map_base
from zennit.core import BasicHook, Hook
from zennit.types import Linear

import crp_kit
from crp_kit.propagation.carrier import Carrier
from crp_kit.propagation.relevance import Relevance

ALL = {**NETS, **UNKNOWN}
OUTPUTS = {"chunk": "chunk", "split": "split", "unbind": "unbind", "broadcast_tensors": "broadcast_tensors"}
SETS: dict[str, list[Any]] = {
    "of one layer": [{"branch": ids, "y": [0]} for ids in ([2], [], [1, 2], [2])],
    "of other classes": [{"branch": [1], "y": [2]}, {"branch": [], "y": [0]}, {"branch": [1], "y": [0]}],
    "of both layers": [{"branch": [0], "stem": ids, "y": [1]} for ids in ([5, 6, 7], [1], [])],
    "mixed": [{"branch": [3], "y": [0]}, {"y": [1]}, {"stem": [6], "y": [0]}, {"branch": [], "y": [1]}, {"y": [1]}],
}


class Doubling(BasicHook):  # type: ignore[misc]
    """A rule of somebody's own: epsilon, with twice the relevance where the output is positive."""

    def __init__(self) -> None:
        super().__init__(
            gradient_mapper=lambda relevance, outputs: relevance * (1 + (outputs[0] > 0)) / (outputs[0] + 3),
            reducer=lambda inputs, gradients: inputs[0] * gradients[0],
        )


class Clipped(BasicHook):  # type: ignore[misc]
    """A rule that is not linear in relevance."""

    def __init__(self) -> None:
        super().__init__(
            gradient_mapper=lambda relevance, outputs: relevance.clamp(min=0) / (outputs[0] + 3),
            reducer=lambda inputs, gradients: inputs[0] * gradients[0],
        )


class Half(Hook):  # type: ignore[misc]
    """A hook that is no rule: half of the gradient."""

    def backward(self, module: nn.Module, grad_input: Any, grad_output: Any) -> Any:
        return (0.5 * grad_input[0],)


def rules(linear: Hook) -> LayerMapComposite:
    return LayerMapComposite([*layer_map_base(1e-6), (Linear, linear)])


COMPOSITES: dict[str, Callable[[], Any]] = {
    "epsilon_plus": lambda: "epsilon_plus",
    "epsilon_alpha2_beta1": lambda: "epsilon_alpha2_beta1",
    "a user's rule": lambda: rules(Doubling()),
    "a rule that clips": lambda: rules(Clipped()),
    "a user's hook": lambda: rules(Half()),
    "gradient": lambda: None,
}


EVERY_SET: list[Any] = [condition for sets in SETS.values() for condition in sets]


def first_axis(ids: list[int], shape: torch.Size, *, layer_name: str) -> torch.Tensor:
    """Mask of channels along the first axis of a sample."""
    return torch.tensor([float(channel in ids) for channel in range(shape[0])]).view(-1, *(1,) * (len(shape) - 1))


def image(samples: int = 1) -> torch.Tensor:
    return torch.randn(samples, 3, 6, 6, generator=torch.Generator().manual_seed(1)).double()


def difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max().clamp_min(1e-300))


# ---------------------------------------------------------------------- every step


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Check every step of every pass; return the list of the nodes whose steps ran."""
    ran: list[int] = []
    waiting: dict[str, Any] = {}
    take, hand_on = Carrier._message, Carrier._handed_on

    def message(carrier: Any, carried: Any, pending: Any, index: int, masks: Any) -> Any:
        waiting["pending"] = pending
        return take(carrier, carried, pending, index, masks)

    def handed_on(carrier: Any, carried: Any, index: int, parts: list[Relevance | None]) -> Any:
        arrived = [part for part in parts if part is not None]
        assert len({len(part.rows) for part in arrived}) == 1, "outputs have different numbers of rows"
        stores = (waiting["pending"], carried.arrived, carried.recorded, carried.inputs)
        others = [one for store in stores for one in store.values()]
        kept = [one.rows for one in (*others, *arrived) if one in others or not one.owned]
        kept += [one.factor for one in (*others, *arrived) if one.factor is not None]
        before = [value.clone() for value in kept]
        given = hand_on(carrier, carried, index, parts)
        for value, earlier in zip(kept, before, strict=True):
            assert torch.equal(value, earlier), "a step wrote what it does not own"
        assert all(len(one.rows) == len(arrived[0].rows) for _, one in given), "a step gave another number of rows"
        ran.append(index)
        return given

    monkeypatch.setattr(Carrier, "_message", message)
    monkeypatch.setattr(Carrier, "_handed_on", handed_on)
    return ran


@pytest.mark.filterwarnings("ignore:no rule is known")
@pytest.mark.parametrize("exclude_parallel", [True, False])
@pytest.mark.parametrize("name", ALL)
def test_every_step_gets_as_many_rows_at_all_outputs_and_writes_only_what_it_owns(
    watched: list[int], name: str, exclude_parallel: bool
) -> None:
    attribution = crp_kit.CondAttribution(ALL[name]().double())
    for composite, sets in ((None, SETS["mixed"]), *(("epsilon_plus", sets) for sets in SETS.values())):
        options: dict[str, Any] = {"record_layer": ["stem", "branch"], "exclude_parallel": exclude_parallel}
        attribution(image(2), sets, composite, pairing="product", **options)
    assert len(set(watched)) > 5


# ---------------------------------------------------------------------- rows together and alone


def alone(attribution: crp_kit.CondAttribution, x: torch.Tensor, sets: list[Any], **options: Any) -> torch.Tensor:
    """Return the rows of every sample under every set, each from a call of its own: heatmap and what is recorded."""
    return torch.cat([packed(attribution(one[None], [condition], **options)) for one in x for condition in sets])


def packed(result: crp_kit.Attribution) -> torch.Tensor:
    """Return input relevance and recorded relevances side by side, (row, value)."""
    return torch.cat([part.flatten(1) for part in (result.input_relevance, *result.relevances.values())], 1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:no rule is known")
@pytest.mark.parametrize("exclude_parallel", [True, False])
@pytest.mark.parametrize("name", ALL)
def test_rows_together_are_rows_alone(name: str, exclude_parallel: bool) -> None:
    attribution = crp_kit.CondAttribution(ALL[name]().double())
    options = {"composite": "epsilon_plus", "record_layer": ["stem"], "exclude_parallel": exclude_parallel}
    expected = alone(attribution, image(), EVERY_SET, **options)
    assert difference(packed(attribution(image(), EVERY_SET, **options)), expected) < 1e-10
    for sets in SETS.values():
        own = torch.stack([expected[EVERY_SET.index(condition)] for condition in sets])
        assert difference(packed(attribution(image(), sets, **options)), own) < 1e-10


@pytest.mark.parametrize("exclude_parallel", [True, False])
@pytest.mark.parametrize("name", OUTPUTS)
def test_one_output_of_several_may_be_conditioned(name: str, exclude_parallel: bool) -> None:
    attribution, output = crp_kit.CondAttribution(NETS[name]().double()), f"{OUTPUTS[name]}:0"
    sets: list[Any] = [{output: ids, "y": [0]} for ids in ([0], [], [0, 0])] + [{"y": [0]}]
    options = {
        "composite": "epsilon_plus",
        "exclude_parallel": exclude_parallel,
        "mask_map": {output: first_axis},
    }
    together = attribution(image(), sets, **options)
    assert difference(packed(together), alone(attribution, image(), sets, **options)) < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize("exclude_parallel", [True, False])
@pytest.mark.parametrize("composite", COMPOSITES)
@pytest.mark.parametrize("name", ["shuffle", "attention", "in place"])
def test_rows_together_are_rows_alone_under_any_rule(name: str, composite: str, exclude_parallel: bool) -> None:
    attribution = crp_kit.CondAttribution(NETS[name]().double())
    options = {"composite": COMPOSITES[composite](), "exclude_parallel": exclude_parallel}
    together = attribution(image(2), SETS["mixed"], pairing="product", **options)
    assert difference(packed(together), alone(attribution, image(2), SETS["mixed"], **options)) < 1e-10


@pytest.mark.parametrize("exclude_parallel", [True, False])
@pytest.mark.parametrize("name", NETS)
def test_in_float32_rows_differ_by_rounding(name: str, exclude_parallel: bool) -> None:
    """By parts in a million of the largest value: products of many rows add their terms in another order."""
    attribution = crp_kit.CondAttribution(NETS[name]())
    options = {"composite": "epsilon_plus", "exclude_parallel": exclude_parallel}
    together = attribution(image().float(), SETS["mixed"], **options)
    assert difference(packed(together), alone(attribution, image().float(), SETS["mixed"], **options)) < 2e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["chunk", "shuffle", "dense"])
def test_slices_of_any_size_give_the_same_rows(name: str) -> None:
    attribution = crp_kit.CondAttribution(NETS[name]().double())
    options: dict[str, Any] = {"composite": "epsilon_plus", "exclude_parallel": False}
    expected = alone(attribution, image(2), SETS["mixed"], **options)
    for batch_size in (1, 2, 3, 5, 10):
        parts = attribution.generate(image(2), SETS["mixed"], pairing="product", batch_size=batch_size, **options)
        assert difference(torch.cat([packed(part) for part in parts]), expected) < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize("exclude_parallel", [True, False])
def test_samples_zipped_with_their_sets_are_rows_alone(exclude_parallel: bool) -> None:
    attribution = crp_kit.CondAttribution(NETS["shuffle"]().double())
    x, sets = image(5), SETS["mixed"]
    options = {"composite": "epsilon_plus", "exclude_parallel": exclude_parallel}
    rows = [attribution(one[None], [condition], **options) for one, condition in zip(x, sets, strict=True)]
    for batch_size in (1, 2, 5):
        found = attribution(x, sets, pairing="zip", batch_size=batch_size, **options)
        assert difference(packed(found), torch.cat([packed(row) for row in rows])) < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize("exclude_parallel", [True, False])
def test_the_order_of_sets_is_the_order_of_rows(exclude_parallel: bool) -> None:
    attribution = crp_kit.CondAttribution(NETS["chunk"]().double())
    sets, order = SETS["mixed"], [3, 0, 4, 2, 1, 0]
    options = {"composite": "epsilon_plus", "exclude_parallel": exclude_parallel}
    found = attribution(image(), [sets[place] for place in order], **options)
    assert difference(packed(found), packed(attribution(image(), sets, **options))[order]) < 1e-10


# ---------------------------------------------------------------------- what is made of rows


@pytest.mark.parametrize("exclude_parallel", [True, False])
@pytest.mark.parametrize("name", ["chunk", "shuffle", "unbind"])
def test_edges_of_a_concept_graph_are_those_of_conditions_alone(name: str, exclude_parallel: bool) -> None:
    attribution = crp_kit.CondAttribution(NETS[name]().double())
    graph = concept_graph_of(
        attribution, image(), "epsilon_plus", start={"y": [0]}, layers=["branch", "stem"], width=(4, 2),
        exclude_parallel=exclude_parallel,
    )  # fmt: skip
    checked = 0
    for node in graph:
        condition = {"y": [0]} if node.key == graph.root else {node.key[0]: [node.key[1]], "y": [0]}
        for edge in graph.children(node):
            layer, channel = edge.target
            row = attribution(image(), [condition], "epsilon_plus", record_layer=[layer],
                              exclude_parallel=exclude_parallel)  # fmt: skip
            expected = float(row.relevances[layer][0, channel].sum())
            assert edge.relevance == pytest.approx(expected, rel=1e-9, abs=1e-12)
            checked += 1
    assert checked > 4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["chunk", "shuffle"])
def test_regions_of_a_map_have_the_concepts_of_heatmaps_alone(name: str) -> None:
    attribution = crp_kit.CondAttribution(NETS[name]().double())
    options: dict[str, Any] = {"composite": "epsilon_plus", "exclude_parallel": False}
    labels = torch.arange(36).view(6, 6).numpy() // 6
    found = region_map_of(attribution, image(), "branch", cls=0, regions=labels, **options)
    heatmaps = [attribution(image(), [{"branch": [one], "y": [0]}], **options).heatmap[0] for one in range(4)]
    sums = torch.stack([heatmap.sum(1) for heatmap in heatmaps])
    expected = [int(column.argmax()) if float(column.max()) > 0 else -1 for column in sums.T]
    assert found.dominant.tolist() == expected
    assert torch.allclose(torch.tensor(found.relevance), sums.amax(0).clamp(min=0))
