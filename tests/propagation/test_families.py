"""All torchvision families agree with the whole-model oracle, and conserve relevance where there are no biases."""

from __future__ import annotations

import pytest
import torch
from family_check import attribution_of, check, lrp_zero, relative
from marks import slow_except
from oracles.chains import maximal_chain_relevance, order_of
from oracles.families import FAMILIES, QUICK, build
from oracles.start import scalar_start
from oracles.two_pass import passed_relevance
from oracles.whole_model import OracleRun
from torch import nn

from crp_kit.graph.graph import Ref
from crp_kit.graph.relevance_edges import Flow

LIMIT = 1e-6


@pytest.mark.examples
@pytest.mark.parametrize("name", slow_except(FAMILIES, QUICK))
def test_input_relevance_equals_the_whole_model_oracle_and_is_conserved(name: str) -> None:
    result = check(name)
    assert result.error < LIMIT
    assert result.conservation < LIMIT


class Conditions:
    """A family's model, and layers of it in series and in parallel as the oracle sees their order."""

    def __init__(self, name: str) -> None:
        self.model, self.x = build(name)
        with torch.no_grad():
            raw = self.model(self.x)
        _, self.selection = scalar_start(raw)
        self.attribution = attribution_of(self.model, raw)
        self.graph = self.attribution.graph(self.x)
        flow = Flow(self.graph)
        carrying = flow.from_start(self.graph.output) & flow.reaching_input
        modules = self._modules()
        layers = [
            node.name
            for node in self.graph
            if isinstance(modules.get(node.name), (nn.Conv2d, nn.Linear)) and Ref(node.index) in carrying
        ]
        middle = len(layers) // 2
        self.layers = sorted({*layers[middle - 4 : middle + 4]}, key=layers.index)
        self.oracle = OracleRun(self.model, self.x, self.selection, names=self.layers)
        self.order = order_of(self.oracle)

    def _modules(self) -> dict[str, nn.Module]:
        return dict(self.model.named_modules())

    def series(self) -> list[str]:
        return next([a, b] for a in self.layers for b in self.layers if a in self.order[b])

    def parallel(self) -> list[str] | None:
        pairs = (
            [a, b]
            for i, a in enumerate(self.layers)
            for b in self.layers[i + 1 :]
            if a not in self.order[b] and b not in self.order[a]
        )
        return next(pairs, None)

    def channels(self, layer: str) -> int:
        module = self._modules()[layer]
        return module.out_channels if isinstance(module, nn.Conv2d) else module.out_features

    def relevance(self, layers: list[str]) -> torch.Tensor:
        condition = {layer: list(range(0, self.channels(layer), 2)) for layer in layers}
        return self.attribution(self.x, condition, lrp_zero(), init_rel=lambda v: v * self.selection).input_relevance

    def masks(self, layers: list[str]) -> dict[str, object]:
        return {layer: self._every_other(layer) for layer in layers}

    def _every_other(self, layer: str):
        factor = torch.zeros(self.channels(layer), dtype=torch.float64)
        factor[::2] = 1
        if isinstance(self._modules()[layer], nn.Conv2d):
            factor = factor[:, None, None]
        return lambda relevance: relevance * factor


@pytest.mark.examples
@pytest.mark.parametrize("name", slow_except(FAMILIES, ("alexnet", "densenet121", "vgg11_bn")))
def test_conditions_count_only_maximal_chains(name: str) -> None:
    case = Conditions(name)
    single = [case.layers[len(case.layers) // 2]]
    scale = case.oracle.relevance().norm()

    def error(relevance: torch.Tensor, expected: torch.Tensor) -> float:
        assert relevance.abs().sum() > 0
        return float((relevance - expected).norm() / (expected.norm() + 1e-6 * scale))

    assert error(case.relevance(single), passed_relevance(case.oracle, case.masks(single))) < LIMIT
    series = case.series()
    in_series = case.relevance(series)
    assert error(in_series, maximal_chain_relevance(case.oracle, case.masks(series))) < LIMIT
    assert relative(case.relevance(series[::-1]), in_series) == 0
    parallel = case.parallel()
    if parallel is not None:
        in_parallel = case.relevance(parallel)
        assert error(in_parallel, passed_relevance(case.oracle, case.masks(parallel))) < LIMIT
        assert error(in_parallel, maximal_chain_relevance(case.oracle, case.masks(parallel))) < LIMIT
