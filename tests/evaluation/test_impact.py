"""Impact of single concepts: against forwards of the user's model with hooks."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, spearmanr
from shortcut_net import SAMPLES, shortcut_study, with_hook

import crp_kit as crp
from crp_kit.errors import ConceptRangeError, ConditionError, InputError


@pytest.fixture(scope="module")
def study() -> crp.Study:
    return shortcut_study()


@pytest.mark.parametrize("output", ["logit", "probability"])
@pytest.mark.parametrize("baseline", ["mean", "zero", "own"])
def test_impact_is_the_difference_of_two_forwards_of_the_users_model(
    study: crp.Study, baseline: Any, output: Any
) -> None:
    impact = study.evaluate.impact("branch", baseline=baseline, output=output, batch_size=2)
    model, images = study.model, study.data.tensors[0]
    with torch.no_grad():
        values = model.branch(model.stem(images).relu())
    for sample, image in enumerate(images):
        whole = with_hook(model, "branch", image, lambda value: value)
        cls = int(whole.argmax())
        means = {"mean": values.mean((0, 2, 3)), "zero": torch.zeros(6), "own": values[sample].mean((1, 2))}[baseline]
        for concept in range(6):

            def without(value: torch.Tensor, concept: int = concept, means: torch.Tensor = means) -> torch.Tensor:
                value = value.clone()
                value[:, concept] = means[concept]
                return value

            logits = with_hook(model, "branch", image, without)
            first, second = (x.softmax(0) if output == "probability" else x for x in (whole, logits))
            assert impact.impact[sample, concept] == pytest.approx(float(first[cls] - second[cls]), abs=1e-10)
    assert np.abs(impact.impact).max() > 1e-3


def test_agreement_is_scipys_correlation_in_each_sample(study: crp.Study) -> None:
    impact = study.evaluate.impact("branch", limit=3)
    for sample in range(3):
        for score in ("relevance", "activation"):
            rows = getattr(impact, score)[sample], impact.impact[sample]
            assert impact.agreement(score, "pearson")[sample] == pytest.approx(pearsonr(*rows)[0])
            assert impact.agreement(score)[sample] == pytest.approx(spearmanr(*rows)[0])
    row = next(row for row in impact.summary.rows() if (row["score"], row["measure"]) == ("relevance", "spearman"))
    assert row["n"] == 3
    assert row["mean"] == pytest.approx(impact.agreement().mean())


def test_some_concepts_are_columns_of_all(study: crp.Study) -> None:
    some, every = study.evaluate.impact("branch", concept_ids=[4, 1]), study.evaluate.impact("branch")
    np.testing.assert_allclose(some.impact, every.impact[:, [4, 1]])
    np.testing.assert_array_equal(some.relevance, every.relevance[:, [4, 1]])
    assert sorted(some.table.concept.tolist()) == [1, 4]
    assert every.table.impact[0] == every.impact.mean(0).max()
    assert f"6 concepts, {SAMPLES} samples" in repr(every)


def test_a_figure_names_layer_and_output(study: crp.Study) -> None:
    axes = study.evaluate.impact("branch", output="probability").plot().axes
    assert " ".join(axes[0].get_xlabel().split()) == "mean share of relevance, concepts of branch"
    assert axes[0].get_ylabel() == "fall of the probability without it"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"concept_ids": [6]}, ConceptRangeError, "concept 6 of 'branch' is out of range"),
        ({"concept_ids": []}, InputError, "concept_ids is empty"),
        ({"concept_ids": [0.5]}, InputError, "a concept is a whole number"),
        ({"baseline": "blur"}, InputError, "baseline is 'mean', 'zero', 'own'"),
        ({"target": "y"}, InputError, "target is"),
        ({"layer": "head"}, ConditionError, "'head' is the output itself"),
    ],
)
def test_a_wrong_question_is_a_sentence(study: crp.Study, options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        study.evaluate.impact(**{"layer": "branch", **options})
