"""Virtual units and clarity of concepts: a planted polysemantic channel is split, embeddings are the user's."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import crp_kit as crp
from crp_kit.errors import ConceptRangeError, InputError, UnreachableLayerError
from crp_kit.statistics.clarity import clarity, polysemanticity

SAMPLES = 24


@pytest.fixture(scope="module")
def study() -> crp.Study:
    """A network whose channel 0 of the upper layer adds two lower ones: half of the samples use each of them."""
    net = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.ReLU(), nn.Conv2d(2, 2, 1, bias=False), nn.ReLU())
    net.append(nn.Flatten()).append(nn.Linear(2 * 16, 2, bias=False)).eval()
    net[0].weight.data = torch.eye(2, 3)[:, :, None, None]
    net[2].weight.data = torch.tensor([[1.0, 1.0], [1.0, 0.0]])[:, :, None, None]
    net[5].weight.data = torch.ones(2, 32)
    images = 0.02 * torch.rand(SAMPLES, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    images[::3, 0] += 0.9
    images[1::3, 1] += 0.9
    images[2::3, 1] += 0.9
    return crp.Study(net, TensorDataset(images, torch.zeros(SAMPLES, dtype=torch.long)), composite="epsilon_plus")


@pytest.fixture
def atlas(study: crp.Study, tmp_path: Path) -> Iterator[crp.ConceptAtlas]:
    with study.build_atlas(tmp_path / "atlas.h5", layers="2", verbose=False) as atlas:
        yield atlas


def test_a_planted_polysemantic_channel_becomes_its_two_units(study: crp.Study, atlas: crp.ConceptAtlas) -> None:
    split = study.evaluate.split_concept(atlas, "2", 0, "0", k=SAMPLES)
    assert split.table.n.tolist() == [16, 8]
    assert split.table.lower_concepts.tolist() == ["1, 0", "0, 1"]
    assert set(split.of_unit(1).table.sample.tolist()) == set(range(0, SAMPLES, 3))
    assert split.separation > 0.9
    np.testing.assert_allclose(np.abs(split.vectors).sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(split.centres[1], [1, 0], atol=0.05)
    assert len(split.of_unit(0).heatmaps) == 16
    assert "separation" in repr(split)
    assert split.plot().subfigs[1]


def test_clarity_is_that_of_the_users_embedding(study: crp.Study, atlas: crp.ConceptAtlas) -> None:
    table = study.evaluate.clarity(atlas, "2", lambda images: torch.stack(images).flatten(1), k=6)
    samples = atlas["2"].relevance.top(1, 6).sample
    vectors = study.data.tensors[0][samples].flatten(1).numpy()
    row = next(row for row in table.rows() if row["concept"] == 1)
    assert row["clarity"] == pytest.approx(clarity(vectors))
    assert row["polysemanticity"] == pytest.approx(polysemanticity(vectors))
    assert row["clarity"] > table.by_chance
    assert table.clarity[0] >= table.clarity[1]
    assert "clarity of random samples is" in table.caption


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((2, "0"), {}, ConceptRangeError, "2"),
        ((0, "5"), {}, UnreachableLayerError, "no relevance can arrive at '5'"),
        ((0, "0"), {"n": 1}, InputError, "n is a whole number of at least 2"),
        ((0, "0"), {"n": 9, "k": 4}, InputError, "9 clusters need as many vectors that differ"),
    ],
)
def test_a_split_that_is_not_possible_is_a_sentence(
    study: crp.Study, atlas: crp.ConceptAtlas, arguments: Any, options: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        study.evaluate.split_concept(atlas, "2", *arguments, **options)


@pytest.mark.parametrize(
    ("embed", "options", "message"),
    [
        (lambda images: 1 / 0, {}, "the embedding function fails: ZeroDivisionError"),
        (lambda images: np.ones(3), {}, r"are \(\d+, feature\); got shape \(3,\)"),
        (lambda images: np.ones((len(images), 2)), {"k": 1}, "k is a whole number of at least 2"),
        (lambda images: np.ones((len(images), 2)), {"concept_ids": []}, "concept_ids is empty"),
    ],
)
def test_an_embedding_that_does_not_fit_is_a_sentence(
    study: crp.Study, atlas: crp.ConceptAtlas, embed: Any, options: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        study.evaluate.clarity(atlas, "2", embed, **options)
