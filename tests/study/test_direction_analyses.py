"""Atlases, references, concept graphs and region maps of directions; identity directions are channels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nets import normal

from crp_kit import ChannelConcept, Concept, ConceptAtlas, DirectionConcept, Study
from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
from crp_kit.errors import AtlasError, ConditionError, InputError

LAYER, CHANNELS = "layer2.1.relu_1", 32
EYE = DirectionConcept(torch.eye(CHANNELS))


@lru_cache
def data() -> ShapesDataset:
    return ShapesDataset(10)


def study(concept: Concept | Mapping[str, Concept]) -> Study:
    return Study(demo_resnet(), data(), preprocess=demo_preprocess, concepts=concept)


def built(path: Path, concept: Any, **options: Any) -> ConceptAtlas:
    return study(concept).build_atlas(path, layers=[LAYER], k=4, matrix=True, verbose=False, **options)


@pytest.fixture(scope="module")
def identity_atlas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConceptAtlas]:
    """An atlas of identity directions."""
    with built(tmp_path_factory.mktemp("identity") / "atlas.h5", EYE) as atlas:
        yield atlas


def test_an_atlas_of_identity_directions_is_that_of_channels(identity_atlas: ConceptAtlas, tmp_path: Path) -> None:
    with built(tmp_path / "b.h5", ChannelConcept()) as channels:
        assert identity_atlas[LAYER].n_concepts == CHANNELS + 2
        for mode in ("relevance", "activation"):
            one, other = getattr(identity_atlas[LAYER], mode), getattr(channels[LAYER], mode)
            np.testing.assert_allclose(one.matrix[:, :CHANNELS], other.matrix, rtol=1e-4, atol=1e-6)
            assert np.abs(one.matrix[:, CHANNELS:]).max() < 1e-5
            assert (one.top(5).sample == other.top(5).sample).all()
            assert (one.top(5).position == other.top(5).position).all()


def test_references_of_a_direction_are_heatmaps_under_its_condition(tmp_path: Path) -> None:
    pair = DirectionConcept(normal(2, CHANNELS), mean=normal(CHANNELS).abs())
    with built(tmp_path / "a.h5", pair) as atlas:
        own = study(pair)
        for conditioned_on in ("class", "layer"):
            references = own.references(atlas, LAYER, 1, k=2, conditioned_on=conditioned_on)
            condition = {LAYER: [1]} | ({"y": [references.labels[0]]} if conditioned_on == "class" else {})
            start = None if conditioned_on == "class" else LAYER
            expected = own(references.images[0], [condition], start_layer=start).heatmap[0]
            torch.testing.assert_close(references.heatmaps[0], expected, rtol=1e-4, atol=1e-5)
        with pytest.raises(InputError, match="a direction of 'layer2.1.relu_1' mixes many: use receptive_field=False"):
            own.references(atlas, LAYER, 1, k=2, receptive_field=True)


def test_an_atlas_refuses_other_directions(identity_atlas: ConceptAtlas) -> None:
    assert "DirectionConcept(32 of 32 channels, axis=1, sha256=" in repr(identity_atlas[LAYER])
    with pytest.raises(AtlasError, match="sha256="):
        study(DirectionConcept(torch.eye(CHANNELS).flip(0))).references(identity_atlas, LAYER, 1, k=2)


@pytest.mark.parametrize("exclude", [True, False])
def test_a_concept_graph_of_identity_directions_is_that_of_channels(exclude: bool) -> None:
    image, label = data()[0]
    layers = ["layer1.1.relu_1", LAYER, "layer3.1.conv2"]
    graphs = [
        study(concepts).concept_graph(
            image, start={"y": [label]}, layers=layers, width=(3, 3, 3), exclude_parallel=exclude
        )
        for concepts in ({}, {LAYER: EYE, "layer3.1.conv2": DirectionConcept(torch.eye(64))})
    ]
    assert [node.key for node in graphs[0].nodes] == [node.key for node in graphs[1].nodes]
    shares = [[edge.share for edge in graph.edges] for graph in graphs]
    np.testing.assert_allclose(shares[1], shares[0], rtol=1e-3, atol=1e-6)
    assert {node.kind for node in graphs[1].nodes if node.layer == LAYER} == {"direction"}


def test_a_concept_graph_may_start_at_a_direction() -> None:
    image, label = data()[0]
    channels, own = study({}), study({LAYER: EYE})
    for start in ({LAYER: [3]}, {LAYER: [3], "y": [label]}):
        graphs = [each.concept_graph(image, start=start, layers="layer1.1.relu_1") for each in (channels, own)]
        assert [node.key for node in graphs[0].nodes] == [node.key for node in graphs[1].nodes]
        np.testing.assert_allclose(
            [edge.share for edge in graphs[1].edges], [edge.share for edge in graphs[0].edges], rtol=1e-3, atol=1e-6
        )
    with pytest.raises(ConditionError, match="a graph starts at one of the 32 directions"):
        own.concept_graph(image, start={LAYER: [33]}, layers="layer1.1.relu_1")


def test_a_region_map_of_identity_directions_is_that_of_channels() -> None:
    image, label = data()[0]
    maps = [study(concept).region_map(image, LAYER, cls=label, top=6) for concept in (EYE, ChannelConcept())]
    assert maps[0].concepts == maps[1].concepts
    assert (maps[0].dominant == maps[1].dominant).all()


def test_flipping_of_directions_is_refused() -> None:
    with pytest.raises(ConditionError, match="mix its channels"):
        study(EYE).evaluate.flipping(LAYER, limit=2, verbose=False)
