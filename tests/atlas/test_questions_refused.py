"""Questions with arguments that they cannot have: a sentence says what was expected, and nothing else is answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from score_atlas import score_atlas

import crp_kit as crp
from crp_kit.atlas.query.layer_atlas import ScoreAtlas
from crp_kit.errors import InputError

DRAW = np.random.default_rng(0)
LABELS = DRAW.permutation(np.repeat([0, 1], 12))
VALUES = DRAW.normal(size=(24, 4))
LAYER = "layer0"


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> ScoreAtlas:
    path = tmp_path_factory.mktemp("refused") / "a.h5"
    score_atlas(path, LABELS.tolist(), VALUES).file.close()
    size = np.where(LABELS == 0, np.nan, 1.5)
    crp.annotate_atlas(path, {"tag ✓": LABELS == 1, "größe": size, "text": np.repeat("ä", 24)})
    return crp.ConceptAtlas(path)[LAYER].relevance


@pytest.mark.parametrize("where", [LABELS == 0, [1, 2], "all", 5])
@pytest.mark.parametrize(
    "ask",
    [
        lambda scores, where: scores.contrast(0, where=where),
        lambda scores, where: scores.class_means(where=where),
        lambda scores, where: scores.similarity(where=where),
        lambda scores, where: scores.complexity(where=where),
        lambda scores, where: scores.stability(k=1, where=where),
        lambda scores, where: scores.outliers(where=where),
        lambda scores, where: scores.strategies(0, where=where),
        lambda scores, where: scores.file[LAYER].name_concepts({"a": LABELS == 0}, where=where),
    ],
)
def test_what_is_no_selection(scores: ScoreAtlas, ask: Callable[[ScoreAtlas, Any], Any], where: Any) -> None:
    with pytest.raises(InputError, match=r"^where is a selection, such as atlas\.where"):
        ask(scores, where)


@pytest.mark.parametrize("seed", [-1, 1 << 32, 0.5, "a", None])
@pytest.mark.parametrize(
    "ask",
    [
        lambda scores, seed: scores.prototypes(0, seed=seed),
        lambda scores, seed: scores.outliers(seed=seed),
        lambda scores, seed: scores.strategies(0, seed=seed),
        lambda scores, seed: scores.stability(k=1, seed=seed),
        lambda scores, seed: scores.file[LAYER].name_concepts({"a": LABELS == 0}, seed=seed),
    ],
)
def test_what_is_no_seed(scores: ScoreAtlas, ask: Callable[[ScoreAtlas, Any], Any], seed: Any) -> None:
    with pytest.raises(InputError, match="^seed is a whole number from 0 to"):
        ask(scores, seed)


@pytest.mark.parametrize("threshold", ["0.5", True, float("nan"), 1.5])
def test_what_is_no_similarity(scores: ScoreAtlas, threshold: Any) -> None:
    with pytest.raises(InputError, match="^threshold is a similarity"):
        scores.similarity().clusters(threshold=threshold)
    with pytest.raises(InputError, match="^threshold is a similarity"):
        crp.compare_atlases(scores.file, scores.file, LAYER, threshold=threshold)


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({"correct": "yes"}, "correct is True or False; got 'yes'"),
        ({"sample": 3}, "sample is a list of numbers"),
        ({"label": 1.0}, "a class is a name or a whole number; got 1.0"),
        ({"attribute": "größe"}, "'größe' has numbers: .*; got True"),
        ({"attribute": "text"}, "'text' has texts: .*; got True"),
        ({"attribute": {"größe": ">1"}}, "'größe' has numbers: .*; got '>1'"),
        ({"attribute": {"größe": None}}, "'größe' has numbers: .*; got None"),
        ({"attribute": {"tag ✓": "no"}}, "'tag ✓' is true or false: .*; got 'no'"),
        ({"attribute": {"tag ✓": [True, 2]}}, "'tag ✓' is true or false: .*; got 2"),
    ],
)
def test_conditions_that_no_sample_could_meet(scores: ScoreAtlas, conditions: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        scores.file.where(**conditions)


def test_values_of_every_type_of_attribute_are_selected(scores: ScoreAtlas) -> None:
    where = scores.file.where
    for condition, expected in (
        ("tag ✓", LABELS == 1),
        ({"tag ✓": np.False_}, LABELS == 0),
        ({"größe": 1.5}, LABELS == 1),
        ({"größe": (1, np.float64(1.5))}, LABELS == 1),
        ({"größe": np.isnan}, LABELS == 0),
        ({"text": ["ä", "b"]}, LABELS >= 0),
    ):
        assert (where(attribute=condition).mask == expected).all()
    assert (where(label=np.int64(1)).mask == (LABELS == 1)).all()
    assert where(label=np.int64(1)).condition == "label 1"
    assert where(label=[]).condition == "label of none"


def test_other_objects_than_scores_and_numbers(scores: ScoreAtlas) -> None:
    with pytest.raises(InputError, match=r"other\['layer0'\]\.relevance; got ConceptAtlas"):
        scores.outliers().against(scores.file)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="vectors is an array of real numbers"):
        scores.prototypes(0).judge(np.zeros((1, 4), complex))
    with pytest.raises(InputError, match="ranking is one of"):
        scores.stability(k=1, ranking=["markers"])  # type: ignore[arg-type]
