"""Randomisation and sensitivity: the user's model stays as it is, and shares are those of a model changed by hand."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from shortcut_net import SAMPLES, shortcut_study

import crp_kit as crp
from crp_kit.errors import InputError
from crp_kit.evaluation.private_model import grouped, learned_modules
from crp_kit.models.state_dict import state_digest


@pytest.fixture(scope="module")
def study() -> crp.Study:
    return shortcut_study()


def shares(study: crp.Study, images: torch.Tensor, classes: list[int]) -> np.ndarray:
    recorded = study(images, [{"y": [cls]} for cls in classes], record_layer=["branch"])
    sums = recorded.relevances["branch"].sum((2, 3)).numpy()
    return sums / np.abs(sums).sum(1, keepdims=True)


def test_randomisation_leaves_the_users_model_and_the_random_state_alone(study: crp.Study) -> None:
    digest, state = state_digest(study.model), torch.get_rng_state()
    study.evaluate.randomisation("branch", stages=2)
    assert state_digest(study.model) == digest
    assert torch.equal(torch.get_rng_state(), state)


def test_correlations_are_those_with_a_copy_whose_values_are_shuffled_by_hand(study: crp.Study) -> None:
    result = study.evaluate.randomisation("branch", stages=3, seed=4, batch_size=2)
    assert result.stages == (("head",), ("branch",), ("stem",))
    images = study.data.tensors[0]
    classes = study.model(images).argmax(1).tolist()
    private, generator = copy.deepcopy(study.model), torch.Generator().manual_seed(4)
    own = shares(study, images, classes)
    for stage, (name,) in enumerate(result.stages):
        for parameter in private.get_submodule(name).parameters():
            order = torch.randperm(parameter.numel(), generator=generator)
            parameter.data = parameter.data.flatten()[order].reshape(parameter.shape)
        changed = shares(crp.Study(private, composite="epsilon_plus"), images, classes)
        expected = [spearmanr(*rows)[0] for rows in zip(own, changed, strict=True)]
        np.testing.assert_allclose(result.correlations[stage], expected, rtol=1e-9)


def test_the_other_class_is_another_one_whatever_the_batches(study: crp.Study) -> None:
    first, second = (study.evaluate.randomisation("branch", stages=1, batch_size=size) for size in (1, 5))
    np.testing.assert_allclose(first.other_class, second.other_class, rtol=1e-9)
    images = study.data.tensors[0]
    classes = study.model(images).argmax(1).tolist()
    own = shares(study, images, classes)
    others = [
        [spearmanr(own[row], shares(study, images[row : row + 1], [cls])[0])[0] for cls in range(4) if cls != label]
        for row, label in enumerate(classes)
    ]
    assert all(np.isclose(value, allowed).any() for value, allowed in zip(first.other_class, others, strict=True))


def test_modules_are_ordered_by_when_they_run(study: crp.Study) -> None:
    assert learned_modules(study.model, study.graph()) == ["head", "branch", "stem"]
    assert grouped(list("abcde"), 2) == [["a", "b"], ["c", "d", "e"]]
    assert grouped(["a"], 9) == [["a"]]


def test_sensitivity_is_the_mean_over_noisy_inputs_made_by_hand(study: crp.Study) -> None:
    result = study.evaluate.sensitivity("branch", noise=(0.1, 0.5), repeats=2, seed=7, batch_size=2)
    images = study.data.tensors[0]
    for row in range(SAMPLES):
        image = images[row : row + 1]
        cls = int(study.model(image).argmax())
        own, distances, correlations = shares(study, image, [cls])[0], [], []
        for repeat in range(2):
            drawn = np.random.default_rng([7, row, repeat]).standard_normal(tuple(image[0].shape))
            noisy = shares(study, image + 0.5 * image.std() * torch.from_numpy(drawn), [cls])[0]
            distances.append(np.abs(noisy - own).sum() / 2)
            correlations.append(spearmanr(noisy, own)[0])
        assert result.distances[1, row] == pytest.approx(np.mean(distances))
        assert result.correlations[1, row] == pytest.approx(np.mean(correlations))
    assert result.table.distance[0] < result.table.distance[1]
    assert set(np.unique(result.same_class)) <= {0.0, 0.5, 1.0}


def test_figures_have_a_point_for_each_stage_and_level(study: crp.Study) -> None:
    axes = study.evaluate.randomisation("branch", stages=3).plot().axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["none", "head", "branch", "stem"]
    lines = study.evaluate.sensitivity("branch", noise=[0.1], repeats=1).plot().axes[0].get_lines()
    assert len(lines[0].get_xdata()) == 1


@pytest.mark.parametrize(
    ("measure", "options", "message"),
    [
        ("randomisation", {"stages": 0}, "stages is a whole number of at least 1"),
        ("randomisation", {"seed": -1}, "seed"),
        ("sensitivity", {"noise": ()}, "noise is levels above 0"),
        ("sensitivity", {"noise": [0.0]}, "noise is levels above 0"),
        ("sensitivity", {"noise": 0.1}, "noise is levels above 0"),
        ("sensitivity", {"repeats": 0}, "repeats"),
    ],
)
def test_a_wrong_question_is_a_sentence(study: crp.Study, measure: str, options: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        getattr(study.evaluate, measure)("branch", **options)
