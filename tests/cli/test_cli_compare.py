"""``crp-kit atlas compare`` and ``outliers --against``: what is printed, and the exit status for automatic checks."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from command_line import invoke
from score_atlas import score_atlas

RNG = np.random.default_rng(0)
LABELS = np.repeat([0, 1], 20).tolist()
RELEVANCE = RNG.normal(size=(40, 6))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """An atlas, one of other samples of the same kind, and one whose class 1 uses another concept."""
    folder = tmp_path_factory.mktemp("compare")
    again, moved = RNG.normal(size=(40, 6)), RNG.normal(size=(40, 6))
    moved[20:, 2] += 3
    paths = folder / "a.h5", folder / "b.h5", folder / "c.h5"
    for path, relevance in zip(paths, (RELEVANCE, again, moved), strict=True):
        score_atlas(path, LABELS, relevance).file.close()
    return paths


def test_drift_is_exit_status_1_and_none_is_0(files: tuple[Path, Path, Path]) -> None:
    a, b, c = files
    same = invoke("atlas", "compare", a, b, "--layer", "layer0", "--drift", "classes", "--json")
    assert same.exit_code == 0
    assert [row["class"] for row in json.loads(same.stdout)] == [0, 1]
    moved = invoke("atlas", "compare", a, c, "--layer", "layer0", "--drift", "classes", "--json")
    assert moved.exit_code == 1
    assert [row["q"] < 0.05 for row in json.loads(moved.stdout)] == [False, True]
    assert "crp-kit: drift at the level 0.05 (p = 0.005)" in moved.stderr


def test_drift_of_concepts_names_the_one_that_moved(files: tuple[Path, Path, Path]) -> None:
    a, _, c = files
    done = invoke("atlas", "compare", a, c, "--layer", "layer0", "--drift", "concepts", "--csv", "--level", "0.01")
    assert done.exit_code == 1
    first = next(csv.DictReader(io.StringIO(done.stdout)))
    assert (first["class"], first["concept"]) == ("1", "2")


def test_a_level_below_what_permutations_can_show_is_refused(files: tuple[Path, Path, Path]) -> None:
    a, _, c = files
    command = ("atlas", "compare", a, c, "--layer", "layer0", "--drift", "classes", "--level", "0.001")
    done = invoke(*command)
    assert done.exit_code == 2
    assert "--level is at least 1 / 200, which 199 permutations can show" in done.stderr
    assert invoke(*command, "--permutations", "999").exit_code == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--drift", "classes", "--threshold", "0.4"), "--threshold cannot be used with --drift"),
        (("--drift", "concepts", "--other-layer", "x"), "--other-layer cannot be used with --drift"),
        (("--level", "0.1"), "--level cannot be used without --drift"),
        (("--level", "0.1", "--permutations", "9"), "--level and --permutations cannot be used without --drift"),
    ],
)
def test_options_of_the_other_question_are_refused(
    files: tuple[Path, Path, Path], options: tuple[str, ...], message: str
) -> None:
    done = invoke("atlas", "compare", *files[:2], "--layer", "layer0", *options)
    assert done.exit_code == 2
    assert message in done.stderr


def test_a_figure_of_drift_is_written(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    a, _, c = files
    output = tmp_path / "drift.png"
    done = invoke("atlas", "compare", a, c, "--layer", "layer0", "--drift", "classes", "-o", output)
    assert done.exit_code == 1
    assert output.read_bytes().startswith(b"\x89PNG")


def test_outliers_against_another_atlas_are_areas_beside_baselines(files: tuple[Path, Path, Path]) -> None:
    a, _, c = files
    done = invoke("atlas", "outliers", a, "--layer", "layer0", "--against", c, "--json")
    assert done.exit_code == 0
    areas = {row["method"]: row["auroc"] for row in json.loads(done.stdout)}
    assert list(areas) == ["prototypes", "density", "mahalanobis", "softmax", "energy"]
    assert areas["softmax"] == 0.5
    assert areas["density"] > 0.6
