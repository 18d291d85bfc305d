"""Commands that ask an atlas: what they print is the table of the method, of the samples that the options choose."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import invoke, refused
from PIL import Image
from score_atlas import score_atlas

import crp_kit as crp

DRAW = np.random.default_rng(0)
LABELS = np.arange(72) % 3
PREDICTIONS = np.where(DRAW.uniform(size=72) < 0.3, (LABELS + 1) % 3, LABELS)
VALUES = DRAW.normal(size=(72, 5)) + 2 * np.eye(3, 5)[LABELS]
LAYER = "layer0"


def odd(scores: Any) -> Any:
    return scores.file.where(attribute="odd")


QUESTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "markers --class 1 --top 3": lambda s, where: s.markers(1, 3, where),
    "contrast --a attribute:odd --mode activation": lambda s, where: s.contrast(odd(s), where=where),
    "mistakes --class 1": lambda s, where: s.mistakes(1, where),
    "mistakes --class 1 --taken-for 2": lambda s, where: s.confusion(1, 2, where),
    "similar --metric spearman": lambda s, where: s.similarity("spearman", where).redundancy(),
    "similar --top 2": lambda s, where: s.similarity(where=where).redundancy().taken(slice(2)),
    "similar --concept 2 --top 3": lambda s, where: s.similarity(where=where).nearest(2, 3),
    "similar --clusters 2": lambda s, where: s.similarity(where=where).clusters(2),
    "prototypes --class 2 -n 2": lambda s, where: s.prototypes(2, 2, where=where),
    "outliers --top 4": lambda s, where: s.outliers(k=4, where=where),
    "strategies --class 0 -n 2": lambda s, where: s.strategies(0, 2, where=where),
}  # fmt: skip


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[crp.ConceptAtlas]:
    path = tmp_path_factory.mktemp("questions") / "a.h5"
    score_atlas(path, LABELS.tolist(), VALUES, predictions=PREDICTIONS, n_classes=3).file.close()
    crp.annotate_atlas(path, {"odd": LABELS == 1, "high": VALUES[:, 2] > 1, "age": np.arange(72)})
    with crp.ConceptAtlas(path) as opened:
        yield opened


@pytest.mark.parametrize("options", ["", "--attribute high"])
@pytest.mark.parametrize("question", QUESTIONS)
def test_print_the_table_of_the_method(atlas: crp.ConceptAtlas, question: str, options: str) -> None:
    name, *arguments = question.split()
    mode = "activation" if "activation" in question else "relevance"
    where = atlas.where(attribute="high") if options else None
    table = QUESTIONS[question](atlas[LAYER].score(mode), where)  # type: ignore[arg-type]
    done = invoke("atlas", name, atlas.path, "--layer", LAYER, *arguments, *options.split(), "--csv")
    assert done.exit_code == 0, done.stderr
    printed = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [list(row.values()) for row in printed] == [[str(value) for value in row.values()] for row in table.rows()]
    assert list(printed[0]) == list(table.columns())


@pytest.mark.parametrize("question", ["contrast --a 0", "outliers", "prototypes --class 2", "similar"])
def test_draw_a_figure_of_the_width_that_is_asked_for(atlas: crp.ConceptAtlas, question: str, tmp_path: Path) -> None:
    name, *arguments = question.split()
    path = tmp_path / "figure.png"
    done = invoke("atlas", name, atlas.path, "--layer", LAYER, *arguments, "-o", path, "--width", 3.4)
    assert done.exit_code == 0, done.stderr
    with Image.open(path) as image:
        assert image.width == 150 * 3.4


def test_names_are_kept_and_replaced_when_that_is_asked_for(atlas: crp.ConceptAtlas) -> None:
    command = ("names", atlas.path, "--layer", LAYER, "--length", 1, "--save")
    assert invoke("atlas", *command).exit_code == 0
    assert atlas[LAYER].names[2] == "high"
    assert "has names for 'layer0'; overwrite=True (--overwrite) replaces them" in refused("atlas", *command)
    assert invoke("atlas", *command, "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ("markers --class 9", "class 9 of 'y' is out of range"),
        ("markers --class 0 --label 1", "(where: label 1); a comparison needs samples of both groups"),
        ("contrast --a attribute:odd=5", "the attribute 'odd' is one of yes, no, true, false; got '5'"),
        ("contrast --a attribute:age=old", "the attribute 'age' is a number; got 'old'"),
        ("contrast --a attribute:size", "no attribute is named 'size'; there are odd, high, age"),
        ("contrast --a 0 --b attribute:high", "so that they cannot be compared; take those out of one of them"),
        ("mistakes --class 1 --taken-for 1", "a confusion is of two classes"),
        ("similar --concept 1 --clusters 2", "two questions; leave one of them out"),
        ("similar --clusters 2 --top 3", "--clusters has a row for every concept; leave --top out"),
        ("prototypes --class 0 --prediction 1", "there are 0 (where: prediction 1)"),
        ("outliers --wrong", "no class has 3 rightly predicted samples that differ"),
        ("strategies --class 0 -n 99", "n is a whole number from 1 to 24; got 99"),
        ("markers --class 0 --width 3", "--width is that of a figure: name its file with -o"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_a_line(atlas: crp.ConceptAtlas, question: str, message: str) -> None:
    name, *arguments = question.split()
    assert message in refused("atlas", name, atlas.path, "--layer", LAYER, *arguments)
