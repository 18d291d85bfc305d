"""Names of the concepts of a graph: nouns and numbers, or the names that directions, their mean and rest have."""

from __future__ import annotations

import torch

import crp_kit as crp
from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet

LAYER = "layer2.1.relu_1"


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
