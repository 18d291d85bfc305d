"""Names of the concepts of a graph: nouns and numbers, or the names that directions, their mean and rest have."""

from __future__ import annotations

import pytest
import torch

import crp_kit as crp
from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
from crp_kit.errors import ConditionError

LAYER, LOWER = "layer2.1.relu_1", "layer1.1.relu_1"


def test_directions_are_called_by_name_and_so_are_their_mean_and_rest() -> None:
    data = ShapesDataset(1)
    directions = torch.linalg.qr(torch.randn(32, 3, generator=torch.Generator().manual_seed(0)))[0].T
    expected = {None: ["direction 0", "direction 1", "direction 2"], ("a", "b", "c"): ["a", "b", "c"]}
    for names, called in expected.items():
        concept = crp.DirectionConcept(directions, mean=torch.full((32,), 0.1), names=names)
        study = crp.Study(demo_resnet(), data, preprocess=demo_preprocess, concepts={LAYER: concept})
        nodes = study.concept_graph(data[0][0], layers=[LAYER], width=(5,)).nodes
        assert {node.concept: node.name for node in nodes if node.layer == LAYER} == dict(
            enumerate([*called, "mean", "rest"])
        )


def test_a_graph_starts_at_a_direction_by_its_name_as_by_its_number() -> None:
    data = ShapesDataset(1)
    concept = crp.DirectionConcept(torch.eye(32)[:2], names=["a", "b"])
    study = crp.Study(demo_resnet(), data, preprocess=demo_preprocess, concepts={LAYER: concept})
    for name, number in (("b", 1), ("rest", 3)):
        starts = [{LAYER: [start], "y": [0]} for start in (name, number)]
        graphs = [study.concept_graph(data[0][0], start=start, layers=[LOWER], width=2) for start in starts]
        assert graphs[0] == graphs[1]
        assert graphs[0].root.name == name
        assert f"ConceptGraph of {name} of {LAYER!r}" in repr(graphs[0])
    with pytest.raises(ConditionError, match="a number from 0 to 1, 'mean', 'rest', or a name: a, b; got 'c'"):
        study.concept_graph(data[0][0], start=(LAYER, "c"), layers=[LOWER])
    with pytest.raises(ConditionError, match=f"a channel of {LOWER!r} is a whole number; got 'rest'"):
        study.concept_graph(data[0][0], start=(LOWER, "rest"), layers=["layer1.0.relu_1"])
