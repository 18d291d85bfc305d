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


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda s, w: s.contrast(0, 1, where=w), r"in the group: class 0 class 0 \(where: label 1\); a comparison"),
        (lambda s, w: s.mistakes(0, where=w), r"predicted right \(where: label 1\)"),
        (lambda s, w: s.class_means(where=s.file.where(sample=[])), r"has a class \(where: 0 samples by number\)"),
        (lambda s, w: s.similarity(where=w & ~w), r"none that count \(where: label 1 and not label 1\)"),
        (lambda s, w: s.complexity(where=w & ~w), r"none that count \(where: "),
        (lambda s, w: s.stability(k=1, where=w & ~w), r"no sample of any \(where: "),
        (lambda s, w: s.prototypes(0, where=w), r"there are 0 \(where: label 1\)"),
        (lambda s, w: s.outliers(0, where=w), r"samples that differ \(where: label 1\)"),
        (lambda s, w: s.strategies(0, where=w), r"there are 0 \(where: label 1\)"),
    ],
)
def test_of_no_sample_they_say_which_samples_count(scores: ScoreAtlas, ask: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ask(scores, scores.file.where(label=1))


def test_captions_say_which_samples_count(scores: ScoreAtlas) -> None:
    where = scores.file.where(label=[0, 1])
    for table in (scores.contrast(0, 1, where), scores.class_means(where=where), scores.class_presence(2, where=where)):
        assert table.caption.endswith("started from each sample's label (where: label 0, 1)")


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda s: s.prototypes(0).judge(np.full((2, 4), 1e300)), r"beyond 1e\+100 in 2 rows, .* divide the values"),
        (lambda s: s.prototypes(0).judge(VALUES).differences(0, k=-1), "k is a whole number of at least 1; got -1"),
        (lambda s: s.strategies(0, 2).concepts(0, k=0), "k is a whole number of at least 1; got 0"),
        (lambda s: s.contrast(0, 1).sorted("p", k=-1), "k is a whole number of at least 1; got -1"),
        (lambda s: s.contrast(0, 1).references(4), "row is a whole number from 0 to 3; got 4"),
        (lambda s: s.class_means().references("a"), "row is a whole number from 0 to 7; got 'a'"),
        (lambda s: s.contrast(0, 1).taken(slice(0)).references(0), "the table has no row"),
        (lambda s: crp.atlas.drift(s.file, s.file, LAYER).references(-1), "row is a whole number from 0 to 7; got -1"),
        (lambda s: crp.compare_atlases(s.file, s.file, LAYER).references(9), "row is a whole number from 0 to 3"),
        (lambda s: s.similarity().redundancy().plot(k=-1), "k is a whole number of at least 1; got -1"),
        (lambda s: s.similarity().clusters().plot(k=0), "k is a whole number of at least 1; got 0"),
        (lambda s: s.stability(k=1).plot(k=-1), "k is a whole number of at least 1; got -1"),
        (lambda s: s.file.where(label=0) & 5, r"combined with another one, from atlas.where\(…\); got 5"),
        (lambda s: crp.compare_atlases(s.file, "b.h5", LAYER), r"from ConceptAtlas\(path\); got str"),
        (lambda s: crp.atlas.drift(None, s.file, LAYER), r"from ConceptAtlas\(path\); got NoneType"),
    ],
)
def test_numbers_of_rows_and_other_arguments_of_answers(scores: ScoreAtlas, ask: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ask(scores)
