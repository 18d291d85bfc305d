"""Localisation of heatmaps: scores of heatmaps that are computed one by one, masks of any source."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch.utils.data import Subset

import crp_kit as crp
from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
from crp_kit.errors import InputError
from crp_kit.statistics.localisation import localisation_scores

LAYER = "layer2.1.conv2"
OBJECTS = ("circle", "triangle", "square", "cross")


@pytest.fixture(scope="module")
def study() -> crp.Study:
    return crp.Study(demo_resnet(), ShapesDataset(12), preprocess=demo_preprocess)


def test_scores_are_those_of_each_heatmap_and_its_mask(study: crp.Study) -> None:
    result = study.evaluate.localisation(parts=OBJECTS, batch_size=5, target="label")
    columns = [study.data.parts.index(part) for part in OBJECTS]
    for number, (image, label) in enumerate(study.data):
        heatmap = study(image[None], {"y": [label]}).heatmap.double().numpy()
        mask = study.data.masks(number)[columns].any(0).numpy()
        expected = localisation_scores(heatmap, mask[None])
        for name, values in vars(expected).items():
            assert getattr(result.scores, name)[number] == pytest.approx(float(values[0]), rel=1e-5), name
    row = next(result.table.rows())
    assert row["mean"] == pytest.approx(result.scores.mass.mean())
    assert row["above"] == pytest.approx((result.scores.mass - result.scores.mask_share).mean())
    assert row["above_low"] > 0


def test_masks_of_a_function_of_a_subset_and_of_the_data_are_the_same(study: crp.Study) -> None:
    own = study.evaluate.localisation(limit=4).scores
    given = study.evaluate.localisation(masks=lambda number: study.data.masks(number).any(0), limit=4).scores
    part = crp.Study(study.model, Subset(study.data, [2, 3]), preprocess=demo_preprocess).evaluate.localisation()
    for name in vars(own):
        np.testing.assert_array_equal(getattr(own, name), getattr(given, name))
        np.testing.assert_allclose(getattr(own, name)[2:], getattr(part.scores, name), rtol=1e-5)


def test_concepts_are_localised_in_the_parts_of_their_reference_samples(study: crp.Study, tmp_path: Path) -> None:
    with study.build_atlas(tmp_path / "atlas.h5", layers=LAYER, verbose=False) as atlas:
        table = study.evaluate.concept_localisation(atlas, LAYER, concept_ids=[24, 3], k=4)
        references = study.references(atlas, LAYER, 24, k=4)
    part = study.data.parts.index("circle")
    masks = [study.data.masks(int(sample))[part].numpy() for sample in references.table.sample]
    scores = [
        localisation_scores(heatmap.double().numpy()[None], mask[None]).mass[0]
        for heatmap, mask in zip(references.heatmaps, masks, strict=True)
    ]
    row = next(row for row in table.rows() if (row["concept"], row["part"]) == (24, "circle"))
    assert row["n"] == sum(mask.any() for mask in masks)
    assert row["mass"] == pytest.approx(np.nanmean(scores), nan_ok=True)
    best = table.best()
    assert best.concept.tolist() == [3, 24]
    of_3 = [row for row in table.rows() if row["concept"] == 3]
    assert best.part[0] == max(of_3, key=lambda row: np.nan_to_num(row["mass"] - row["mask_share"], nan=-9))["part"]
    assert [text.get_text() for text in table.plot().axes[0].get_yticklabels()] == list(study.data.parts)


def test_the_figure_has_a_bar_for_each_score(study: crp.Study) -> None:
    axes = study.evaluate.localisation(limit=3).plot().axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == [
        f"{score}\n(n = 3)" for score in ("mass", "rank", "pointing", "iou")
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parts": ["wheel"]}, "no part 'wheel'; there are red, blue"),
        ({"masks": lambda number: np.ones((8, 8), bool)}, r"the shape \(8, 8\) and its heatmap \(64, 64\)"),
        ({"masks": lambda number: np.full((64, 64), 0.5)}, "is of booleans, or 0 and 1"),
        ({"masks": lambda number: {}[number]}, "the mask of sample 0 fails: KeyError"),
        ({"masks": np.ones((64, 64))}, "masks is a function"),
        ({"target": "truth"}, "target is"),
    ],
)
def test_a_wrong_question_is_a_sentence(study: crp.Study, options: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        study.evaluate.localisation(**options)


def test_data_without_masks_says_so(study: crp.Study) -> None:
    plain = crp.Study(study.model, [study.data[0]], preprocess=demo_preprocess)
    with pytest.raises(InputError, match="the data has no masks: give masks="):
        plain.evaluate.localisation()
