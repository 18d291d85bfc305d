"""All torchvision families agree with the whole-model oracle, and conserve relevance where there are no biases."""

from __future__ import annotations

import pytest
import torch
from family_check import attribution_of, check, lrp_zero, relative
from oracles.chains import inclusion_exclusion, order_of
from oracles.families import FAMILIES, build
from oracles.start import scalar_start
from oracles.two_pass import two_pass
from oracles.whole_model import OracleRun
from torch import nn

from crp_kit.graph.graph import Ref
from crp_kit.graph.relevance_edges import Flow

LIMIT = 1e-6


@pytest.mark.parametrize("name", FAMILIES)
def test_input_relevance_equals_the_whole_model_oracle_and_is_conserved(name: str) -> None:
    found = check(name)
    assert found.error < LIMIT
    assert found.conservation < LIMIT


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
        self.order = order_of(OracleRun(self.model, self.x, self.selection, names=self.layers))

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

    def found(self, layers: list[str]) -> torch.Tensor:
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


@pytest.mark.parametrize("name", FAMILIES)
def test_conditions_count_only_maximal_chains(name: str) -> None:
    case = Conditions(name)
    single = [case.layers[len(case.layers) // 2]]
    scale = OracleRun(case.model, case.x, case.selection).relevance({}).norm()

    def error(layers: list[str], expected: torch.Tensor) -> float:
        found = case.found(layers)
        assert found.abs().sum() > 0
        return float((found - expected).norm() / (expected.norm() + 1e-6 * scale))

    args = case.model, case.x, case.selection
    assert error(single, two_pass(*args, case.masks(single))) < LIMIT
    series = case.series()
    expected = inclusion_exclusion(*args, case.masks(series))
    assert error(series, expected) < LIMIT
    assert relative(case.found(series[::-1]), case.found(series)) == 0
    parallel = case.parallel()
    if parallel is not None:
        assert error(parallel, two_pass(*args, case.masks(parallel))) < LIMIT
        assert error(parallel, inclusion_exclusion(*args, case.masks(parallel))) < LIMIT
