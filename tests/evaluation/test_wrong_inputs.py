"""Wrong inputs of each evaluation: a sentence that says what was expected and what came."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from shortcut_net import shortcut_study

import crp_kit as crp
from crp_kit.errors import CrpKitError, InputError, UnknownLayerError


@pytest.fixture(scope="module")
def study() -> crp.Study:
    return shortcut_study()


@pytest.fixture(scope="module")
def atlas(study: crp.Study, tmp_path_factory: pytest.TempPathFactory) -> Iterator[crp.ConceptAtlas]:
    path = tmp_path_factory.mktemp("atlas") / "atlas.h5"
    with study.build_atlas(path, layers="branch", verbose=False) as made:
        yield made


def mask(number: int) -> Any:
    return np.eye(8, dtype=bool)


def colours(images: Any) -> Any:
    return [image.mean((1, 2)).tolist() for image in images]


def failing(*arguments: Any) -> Any:
    raise ZeroDivisionError("division by zero")


WRONG: dict[str, list[tuple[dict[str, Any], str]]] = {
    "flipping": [
        ({"orders": None}, "orders is names such as"),
        ({"orders": 5}, "orders is names such as .*; got int"),
        ({"orders": {"a": failing}}, "the order 'a' fails: ZeroDivisionError"),
        ({"orders": {"a": lambda relevance: relevance}}, "the order 'a' fails: TypeError"),
        ({"orders": {"a": lambda relevance, activation: None}}, "'a' is an array of shape"),
        ({"layer": None}, "no layer named None"),
        ({"layer": 5}, "no layer named 5"),
        ({"target": 5}, "target is 'prediction', 'label'; got 5"),
        ({"shard": (1,)}, "a shard is"),
    ],
    "impact": [
        ({"concept_ids": 5}, r"concept_ids is numbers of concepts, such as \[3, 8\]; got 5"),
        ({"concept_ids": "3"}, "concept_ids is numbers of concepts"),
        ({"concept_ids": {"a": 1}}, "concept_ids is numbers of concepts"),
        ({"concept_ids": [True]}, "a concept is a whole number"),
        ({"concept_ids": [-1]}, "a concept is a whole number"),
    ],
    "localisation": [
        ({"masks": mask, "parts": 5}, "parts is names of parts"),
        ({"masks": lambda number: None}, "the mask of sample 0 is of booleans"),
        ({"masks": lambda number: np.full((8, 8), np.nan)}, "the mask of sample 0 is of booleans"),
        ({"masks": failing}, "the mask of sample 0 fails: ZeroDivisionError"),
        ({"masks": lambda number: np.ones((7, 8), bool)}, r"has the shape \(7, 8\) and its heatmap \(8, 8\)"),
    ],
    "randomisation": [
        ({"stages": 1.5}, "stages is a whole number"),
        ({"stages": None}, "stages is a whole number"),
        ({"seed": "a"}, "seed is a whole number"),
        ({"layer": 7}, "no layer named 7"),
        ({"target": 3}, "target is"),
    ],
    "sensitivity": [
        ({"noise": "0.1"}, "noise is levels above 0"),
        ({"noise": ["a"]}, "noise is levels above 0"),
        ({"noise": [None]}, "noise is levels above 0"),
        ({"noise": [float("nan")]}, "noise is levels above 0"),
        ({"noise": np.array(0.1)}, "noise is levels above 0"),
        ({"noise": np.ones((2, 2))}, "noise is levels above 0"),
    ],
    "composites": [
        ({"composites": 5}, "composites is names of presets or composites, .*; got int"),
        ({"composites": [5]}, "composite is a zennit Composite"),
        ({"composites": {"a": 5}}, "composite is a zennit Composite"),
        ({"composites": ["epsilon_plus"] * 2}, "two composites have one name"),
        ({"composites": ["epsilon_plus"], "masks": 5}, "masks is a function"),
    ],
}


@pytest.mark.parametrize(
    ("measure", "options", "message"), [(name, *case) for name, cases in WRONG.items() for case in cases]
)
def test_a_wrong_input_is_a_sentence(study: crp.Study, measure: str, options: Any, message: str) -> None:
    where = {} if measure == "localisation" else {"layer": "branch"}
    with pytest.raises(CrpKitError, match=message):
        getattr(study.evaluate, measure)(**{**where, **options})


@pytest.mark.parametrize(
    ("measure", "options", "message"),
    [
        ("concept_localisation", {"atlas": None}, "atlas is a ConceptAtlas, such as .*; got None"),
        ("concept_localisation", {"atlas": "atlas.h5"}, "atlas is a ConceptAtlas"),
        ("concept_localisation", {"concept_ids": 5}, "concept_ids is numbers of concepts"),
        ("concept_localisation", {"concept_ids": ["a"]}, "a concept is a whole number"),
        ("concept_localisation", {"conditioned_on": None}, "conditioned_on is"),
        ("concept_localisation", {"parts": ["wheel"]}, "no part 'wheel'"),
        ("split_concept", {"atlas": None}, "atlas is a ConceptAtlas"),
        ("split_concept", {"concept": "a"}, "a concept is a whole number"),
        ("split_concept", {"concept": 99}, "concept 99 of 'branch' is out of range"),
        ("split_concept", {"lower_layer": None}, "no layer named None"),
        ("split_concept", {"lower_layer": "branch"}, "a node below 'branch', and not 'branch' itself"),
        ("split_concept", {"lower_layer": "head"}, "no relevance can arrive at 'head'"),
        ("clarity", {"atlas": None}, "atlas is a ConceptAtlas"),
        ("clarity", {"embed": None}, "the embedding function fails"),
        ("clarity", {"embed": lambda images: np.full((len(images), 2), np.nan)}, "NaN or infinite"),
        ("clarity", {"concept_ids": 3}, "concept_ids is numbers of concepts"),
        ("clarity", {"k": 1}, "k is a whole number of at least 2"),
    ],
)
def test_a_wrong_question_to_an_atlas_is_a_sentence(
    study: crp.Study, atlas: crp.ConceptAtlas, measure: str, options: Any, message: str
) -> None:
    right: dict[str, dict[str, Any]] = {
        "concept_localisation": {"masks": mask, "k": 2},
        "split_concept": {"concept": 1, "lower_layer": "stem", "k": 5},
        "clarity": {"embed": colours, "k": 3},
    }
    with pytest.raises(CrpKitError, match=message):
        getattr(study.evaluate, measure)(**{"atlas": atlas, "layer": "branch", **right[measure], **options})


@pytest.mark.parametrize("path", [None, 5, b"name"])
@pytest.mark.parametrize("use", ["resumable", "load", "save"])
def test_a_file_is_named_by_a_text_or_a_path(study: crp.Study, use: str, path: Any) -> None:
    arguments = (study.evaluate.localisation(masks=mask, limit=1), path) if use == "save" else (path,)
    with pytest.raises(InputError, match="a file is named by a text or a path"):
        getattr(study.evaluate, use)(*arguments)


@pytest.mark.parametrize(
    ("layer", "values", "message"),
    [
        ("branch", None, r"values of 'branch' are a tensor \(row, \*shape\); got NoneType"),
        ("branch", "x", "values of 'branch' are a tensor"),
        ("branch", 1.0, r"values of 'branch' have the shape"),
        ("branch", torch.zeros(0, 6, 8, 8), r"values of 'branch' have the shape"),
        ("branch", torch.zeros(1, 6, 8, 8, dtype=torch.complex64), "values of 'branch' are real numbers"),
        ("twig", torch.zeros(1, 6, 8, 8), "no layer named 'twig'"),
    ],
)
def test_values_of_a_node_that_do_not_fit_are_refused(study: crp.Study, layer: str, values: Any, message: str) -> None:
    with pytest.raises(CrpKitError, match=message):
        study.forward_from(layer, values, study.data.tensors[0][:1])


def test_a_layer_that_is_no_text_is_unknown() -> None:
    error = UnknownLayerError(None, ["branch"])  # type: ignore[arg-type]
    assert error.suggestions == []


def test_wrong_checkpoints_are_refused_before_anything_is_computed(study: crp.Study, tmp_path: Path) -> None:
    run: Callable[[Any], Any] = lambda path: study.evaluate.resumable(path).impact("branch")  # noqa: E731
    for name, content, message in (
        ("text", b"hello", "no checkpoint of an evaluation"),
        ("image.png", b"\x89PNG\r\n\x1a\n" * 9, "no checkpoint of an evaluation"),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(InputError, match=message):
            run(path)
        assert path.read_bytes() == content
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match="a link to what is not there"):
        run(tmp_path / "link")
    with pytest.raises(InputError, match="is a folder"):
        run("")
