"""Targets and directions in evaluations: contrasts are differences of classes, identity directions are channels."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from shortcut_net import CONCEPTS, SAMPLES, Shortcut, shortcut_study
from torch.utils.data import TensorDataset

import crp_kit as crp
from crp_kit.errors import ConditionError
from crp_kit.targets import Class, Contrast, Function

CONTRAST, TEXT = Contrast(1, 3), "contrast:1,3"
EYE = crp.DirectionConcept(torch.eye(CONCEPTS, dtype=torch.float64))


@pytest.fixture(scope="module")
def study() -> crp.Study:
    return shortcut_study()


def shares(study: crp.Study, target: Any) -> np.ndarray:
    recorded = study(study.data.tensors[0], [{"y": [target]}], record_layer=["branch"])
    sums = recorded.relevances["branch"].sum((2, 3)).numpy()
    return sums / np.abs(sums).sum(1, keepdims=True)


def test_the_impact_on_a_contrast_is_the_difference_of_that_on_its_classes(study: crp.Study) -> None:
    of_classes = [study.evaluate.impact("branch", target=f"class:{cls}").impact for cls in (1, 3)]
    result = study.evaluate.impact("branch", target=CONTRAST, batch_size=2)
    np.testing.assert_allclose(result.impact, of_classes[0] - of_classes[1], atol=1e-12)
    np.testing.assert_allclose(result.relevance, shares(study, CONTRAST), rtol=1e-9)
    assert result.settings["target"] == TEXT


def test_the_prototype_of_a_target_is_the_mean_relevance_of_all_other_samples(study: crp.Study) -> None:
    own = shares(study, CONTRAST)
    orders = [np.argsort(-np.delete(own, row, 0).mean(0), kind="stable") for row in range(SAMPLES)]
    curves = study.evaluate.flipping("branch", orders={"p": "prototype", "mine": np.array(orders)}, target=TEXT)
    np.testing.assert_allclose(curves.changes["p"], curves.changes["mine"])


def test_localisation_is_of_the_heatmaps_of_the_target(study: crp.Study) -> None:
    mask = np.zeros((8, 8), bool)
    mask[:4, :3] = True
    result = study.evaluate.localisation(masks=lambda number: mask, target=TEXT, batch_size=2)
    heatmaps = study(study.data.tensors[0], [{"y": [CONTRAST]}]).heatmap.clamp(min=0).numpy()
    sums = heatmaps.sum((1, 2))
    masses = np.divide(heatmaps[:, mask].sum(1), sums, out=np.full(SAMPLES, np.nan), where=sums > 0)
    assert np.isfinite(masses).any()
    np.testing.assert_allclose(result.scores.mass, masses, rtol=1e-9)


def test_a_class_for_all_samples_is_that_of_their_labels(study: crp.Study, tmp_path: Path) -> None:
    labelled = crp.Study(
        study.model, TensorDataset(study.data.tensors[0], torch.full((SAMPLES,), 2)), composite="epsilon_plus"
    )
    by_label, by_target = (
        (labelled.evaluate.randomisation("branch", stages=3, target=target),
         labelled.evaluate.sensitivity("branch", noise=[0.3], repeats=2, target=target))
        for target in ("label", Class(2))
    )  # fmt: skip
    np.testing.assert_allclose(by_target[0].correlations, by_label[0].correlations, rtol=1e-9)
    np.testing.assert_allclose(by_target[1].distances, by_label[1].distances, rtol=1e-9)
    assert by_label[0].other_class is not None
    assert by_target[0].other_class is None
    assert (by_target[0].table.modules == by_label[0].table.modules[1:]).all()
    legends = [result.plot().axes[0].get_legend() for result in (*by_label, by_target[0])]
    texts = [[text.get_text() for text in legend.get_texts()] for legend in legends if legend is not None]
    assert texts == [
        ["another class, all weights", "95 % interval"],
        ["share that goes to other concepts", "rank correlation", "95 % interval"],
        ["95 % interval"],
    ]
    labelled.evaluate.save(by_target[0], tmp_path / "randomisation.npz")
    assert repr(labelled.evaluate.load(tmp_path / "randomisation.npz")) == repr(by_target[0])


def test_noise_has_no_class_where_those_of_the_output_are_not_known() -> None:
    class Square(Shortcut):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x).view(-1, 2, 2)

    torch.manual_seed(3)
    data = TensorDataset(torch.rand(SAMPLES, 3, 8, 8), torch.zeros(SAMPLES))
    study = crp.Study(Square().eval(), data, composite="epsilon_plus")
    target = Function(lambda output: output[0, 1], "corner")
    result = study.evaluate.sensitivity("branch", noise=[0.1], repeats=1, target=target)
    assert np.isnan(result.same_class).all()
    assert (result.distances > 0).all()


def test_composites_are_compared_for_a_target(study: crp.Study) -> None:
    table = study.evaluate.composites("branch", ["epsilon_plus"], target=TEXT, steps=3, repeats=2, stages=1)
    assert np.isnan(table.other_class).all()
    assert np.isfinite(table.randomised).all()
    assert table.settings["target"] == TEXT
    assert len(table.plot().axes) == 4


def test_identity_directions_change_under_noise_as_channels_do_and_are_not_replaced(study: crp.Study) -> None:
    directions = shortcut_study(concepts=EYE)
    options = {"noise": [0.3], "repeats": 2}
    one, other = (of.evaluate.sensitivity("branch", **options) for of in (directions, study))
    np.testing.assert_allclose(one.distances, other.distances, rtol=1e-6)
    assert np.isfinite(directions.evaluate.randomisation("branch", stages=1).correlations).all()
    for evaluate in (directions.evaluate.impact, directions.evaluate.insertion):
        with pytest.raises(ConditionError, match="directions of 'branch' mix its channels and cannot be replaced"):
            evaluate("branch")


def test_a_concept_is_split_by_identity_directions_as_by_channels(study: crp.Study, tmp_path: Path) -> None:
    directions = shortcut_study(concepts={"stem": EYE})
    with study.build_atlas(tmp_path / "atlas.h5", layers="branch", verbose=False) as atlas:
        one, other = (of.evaluate.split_concept(atlas, "branch", 1, "stem", k=5) for of in (directions, study))
        np.testing.assert_allclose(one.vectors[:, :CONCEPTS], other.vectors, atol=1e-6)
        gradient = directions.replace(composite="gradient")
        with pytest.raises(ConditionError, match="gradients have no shares of directions of 'stem'"):
            gradient.evaluate.split_concept(atlas, "branch", 1, "stem", k=5)
        options = {"concept_ids": [1], "k": 5, "masks": lambda number: np.eye(8, dtype=bool)}
        table = study.evaluate.concept_localisation(atlas, "branch", conditioned_on=CONTRAST, **options)
        references = study.references(atlas, "branch", 1, conditioned_on=CONTRAST)
    heatmaps = [heatmap.clamp(min=0) for heatmap in references.heatmaps]
    masses = [float(heatmap.diagonal().sum() / heatmap.sum()) for heatmap in heatmaps if heatmap.any()]
    assert table.mass[0] == pytest.approx(np.mean(masses), rel=1e-6)
