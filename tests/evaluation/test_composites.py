"""Comparison of composites: each number is that of the measure alone; presets that cannot be used are named."""

from typing import Any

import numpy as np
import pytest
from zennit.composites import EpsilonPlus

import crp_kit as crp
from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
from crp_kit.errors import CompositeError, InputError

LAYER = "layer3.1.conv2"
QUICK = {"steps": 4, "repeats": 3, "stages": 2, "limit": 8}


@pytest.fixture(scope="module")
def study() -> crp.Study:
    return crp.Study(demo_resnet(), ShapesDataset(12), preprocess=demo_preprocess)


@pytest.mark.slow
def test_each_row_has_what_the_measures_give_alone(study: crp.Study) -> None:
    table = study.evaluate.composites(LAYER, {"mine": EpsilonPlus(), "plain": None}, **QUICK)
    assert (table.better[:-1] >= table.better[1:]).all()
    row = next(row for row in table.rows() if row["composite"] == "mine")
    alone = study.replace(composite="epsilon_plus").evaluate
    curves = alone.flipping(LAYER, orders=("relevance", "random"), steps=4, repeats=3, limit=8)
    assert row["aoc"] == pytest.approx(curves.aoc["relevance"])
    assert row["better_low"] == pytest.approx(next(curves.summary.rows())["better_low"])
    scores = alone.localisation(limit=8).scores
    assert (row["mass"], row["pointing"]) == pytest.approx((scores.mass.mean(), scores.pointing.mean()))
    randomised = alone.randomisation(LAYER, stages=2, limit=8)
    assert row["randomised"] == pytest.approx(np.nanmean(randomised.correlations))
    assert row["other_class"] == pytest.approx(np.nanmean(randomised.other_class))
    images, _ = study.data.batch(range(8))
    classes = study.model(demo_preprocess(images)).argmax(1).tolist()
    attribution = study.replace(composite="epsilon_plus")(images, [{"y": [cls]} for cls in classes])
    assert row["reached"] == pytest.approx(float(attribution.reached.mean()), rel=1e-4)
    assert row["seconds"] > 0
    assert row["gradient_nodes"] == 0
    assert np.isnan(next(row for row in table.rows() if row["composite"] == "plain")["reached"])


@pytest.mark.slow
def test_presets_that_cannot_be_used_are_left_out_and_named(study: crp.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    presets = ["epsilon_plus", "epsilon_gamma_box"]
    monkeypatch.setattr("crp_kit.evaluation.composites.preset_names", lambda: presets)
    curved = crp.Study(study.model, study.data, preprocess=lambda images: demo_preprocess(images.square()))
    table = curved.evaluate.composites(LAYER, **QUICK)
    assert table.composite.tolist() == ["epsilon_plus"]
    assert "without epsilon_gamma_box: epsilon_gamma_box needs the lowest and highest values" in table.caption
    with pytest.raises(CompositeError, match="needs the lowest and highest"):
        curved.evaluate.composites(LAYER, presets, **QUICK)


def test_data_without_masks_has_no_localisation(study: crp.Study) -> None:
    data = [study.data[number] for number in range(4)]
    plain = crp.Study(study.model, data, preprocess=demo_preprocess)
    table = plain.evaluate.composites(LAYER, ["epsilon_plus"], **QUICK)
    assert np.isnan(table.mass[0])
    titles = [ax.get_title() for ax in table.plot().axes]
    others = ["rank correlation\nof shares with", "reaches the\ninput, %", "milliseconds\na heatmap"]
    assert titles == ["flipping: area\nbeyond random", *others]


@pytest.mark.parametrize(
    ("composites", "options", "error", "message"),
    [
        ([], {}, InputError, "no composite to compare"),
        ([EpsilonPlus(), EpsilonPlus()], {}, InputError, "two composites have one name"),
        (["epsilon_plux"], {}, CompositeError, "no composite named 'epsilon_plux'"),
        (None, {"stages": 0}, InputError, "stages"),
        (None, {"baseline": "blur"}, InputError, "baseline is"),
        (None, {"parts": ["wheel"], "limit": 2}, InputError, "no part 'wheel'"),
    ],
)
def test_a_wrong_question_is_a_sentence(
    study: crp.Study, composites: Any, options: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        study.evaluate.composites(LAYER, composites, **{**QUICK, **options})
