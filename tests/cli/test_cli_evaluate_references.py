"""``crp-kit evaluate`` of an atlas' concepts, and results in files: saved, resumed, shown, and what is refused."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import invoke, refused
from processes import COMMAND, Running

LAYER = "layer3.1.conv2"
MODEL = ("--model", "demo:resnet", "--data", "demo:shapes:12")
QUICK = ("--layer", LAYER, "--steps", 3, "--repeats", 2, "--orders", "relevance,random")
EMBED = "def make():\n    return lambda images: [image.mean((1, 2)).tolist() for image in images]\n"


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("evaluate") / "atlas.h5"
    result = invoke("atlas", "build", *MODEL, "--layers", LAYER, "-o", path, "--workers", 0, "--quiet")
    assert result.exit_code == 0, result.output
    return path


@pytest.fixture(scope="module")
def embedding(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("embed") / "colours.py"
    path.write_text(EMBED)
    return path


def rows(*arguments: Any) -> list[dict[str, Any]]:
    result = invoke("evaluate", *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_concepts_are_printed_by_part_or_with_their_best(atlas: Path, tmp_path: Path) -> None:
    asked = ("concept-localisation", atlas, "--layer", LAYER, "--concept", "0,5", "-k", 2, "--parts", "circle,square")
    every = rows(*asked, "-o", tmp_path / "parts.png")
    assert [(row["concept"], row["part"]) for row in every] == [
        (concept, part) for concept in (0, 5) for part in ("circle", "square")
    ]
    assert (tmp_path / "parts.png").read_bytes().startswith(b"\x89PNG")
    assert [row["concept"] for row in rows(*asked, "--best")] == [0, 5]


def test_a_concept_is_printed_as_units(atlas: Path, tmp_path: Path) -> None:
    asked = ("split-concept", atlas, "--layer", LAYER, "--concept", 3, "--lower-layer", "layer3.0.conv2", "-k", 8)
    units = rows(*asked, "-o", tmp_path / "units.png")
    assert [row["unit"] for row in units] == [0, 1]
    assert sum(row["n"] for row in units) == 8
    assert (tmp_path / "units.png").exists()


def test_clarity_is_printed_by_concept(atlas: Path, embedding: Path) -> None:
    asked = ("clarity", atlas, "--layer", LAYER, "--embed", f"{embedding}:make", "--concept", "0-4", "-k", 4)
    found = rows(*asked)
    assert sorted(row["concept"] for row in found) == [0, 1, 2, 3, 4]
    assert [row["clarity"] for row in found] == sorted((row["clarity"] for row in found), reverse=True)


def test_saved_shards_are_shown_as_the_whole(tmp_path: Path) -> None:
    for number in range(2):
        part = tmp_path / f"{number}.npz"
        assert invoke("evaluate", "flipping", *MODEL, *QUICK, "--shard", f"{number}/2", "--save", part).exit_code == 0
        assert sorted(path.name for path in tmp_path.iterdir()) == [f"{one}.npz" for one in range(number + 1)]
    joined = rows("show", tmp_path / "1.npz", tmp_path / "0.npz", "-o", tmp_path / "a.png")
    whole = rows("flipping", *MODEL, *QUICK)
    assert [row["order"] for row in joined] == ["relevance", "random"]
    for one, other in zip(joined, whole, strict=True):
        assert one["aoc"] == pytest.approx(other["aoc"], rel=1e-5)
    assert (tmp_path / "a.png").exists()
    assert len(rows("show", tmp_path / "0.npz", "--curves")) == 6


def test_a_saved_result_is_shown_and_resumed_runs_are_the_same(tmp_path: Path) -> None:
    saved = tmp_path / "impact.npz"
    asked = ("impact", *MODEL, "--layer", LAYER, "--limit", 4, "--save", saved)
    printed = rows(*asked)
    assert rows("show", saved) == printed
    saved.unlink()
    (tmp_path / "impact.npz.partial").write_text("of somebody else")
    assert "an interrupted evaluation of" in refused("evaluate", *asked)
    assert "no checkpoint of an evaluation, and is kept" in refused("evaluate", *asked, "--resume")
    assert "no checkpoint of an evaluation, and is kept" in refused("evaluate", *asked, "--overwrite")


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_done_and_resume_goes_on(tmp_path: Path) -> None:
    saved = tmp_path / "impact.npz"
    data = ("--model", "demo:resnet", "--data", "demo:shapes:48", "--layer", LAYER, "--batch-size", 2)
    process = Running(COMMAND, "evaluate", "impact", *data, "--save", saved)
    partial = tmp_path / "impact.npz.partial"
    process.wait_for(lambda: partial.exists() and partial.read_bytes().count(b"impact.npy") >= 2)
    os.kill(process.pid, signal.SIGINT)
    ended = process.ended()
    assert ended.returncode == 130, ended.stderr
    assert "kept in" in ended.stderr
    assert "--resume continues from there" in ended.stderr
    assert partial.exists()
    assert "--resume continues it" in refused("evaluate", "impact", *data, "--save", saved)
    other = refused("evaluate", "impact", *data, "--baseline", "zero", "--save", saved, "--resume")
    assert "baseline is mean there and zero here" in other
    assert invoke("evaluate", "impact", *data, "--save", saved, "--resume").exit_code == 0
    assert not partial.exists()
    assert invoke("evaluate", "impact", *data, "--save", tmp_path / "whole.npz").exit_code == 0
    with np.load(saved) as one, np.load(tmp_path / "whole.npz") as other_file:
        for name in one.files:
            np.testing.assert_array_equal(one[name], other_file[name])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--resume",), "--resume needs --save FILE.npz"),
        (("--save", "curves.json"), "--save needs a file name that ends with .npz"),
        (("--save", "none/curves.npz"), "there is no folder none"),
        (("--save", "a.npz", "--layer", "layer3.0.conv2"), "--save keeps one result"),
        (("--save", "a.npz", "--beside", "gradient"), "--save keeps one result"),
        (("--shard", "2/2"), "shard"),
        (("--shard", "first"), "a shard is 'i/n'"),
        (("--shard", "0/99"), "cannot be divided into 99 shards"),
    ],
)
def test_a_result_that_cannot_be_saved_or_divided_is_refused(options: tuple[str, ...], message: str) -> None:
    assert message in refused("evaluate", "flipping", *MODEL, *QUICK, *options)


@pytest.mark.parametrize(
    ("command", "options", "message"),
    [
        ("concept-localisation", ("--concept", "999"), "concept 999 of 'layer3.1.conv2' is out of range"),
        ("concept-localisation", ("--concept", "circle"), "numbers are written like 0-9,20"),
        ("concept-localisation", ("--parts", "wheel"), "no part 'wheel'"),
        ("concept-localisation", ("--target", "class:99"), "99"),
        ("concept-localisation", ("--data", "demo:shapes:8"), "another dataset"),
        ("split-concept", (), "--concept is the id of the concept to split, such as 24; got 0 of them"),
        ("split-concept", ("--concept", "1,2"), "got 2 of them"),
        ("split-concept", ("--concept", "999"), "concept 999 of 'layer3.1.conv2' is out of range"),
        ("split-concept", ("--concept", "1", "--lower-layer", "layer9"), "no layer named 'layer9'"),
        ("split-concept", ("--concept", "1", "--n", "9", "-k", "4"), "9 clusters need as many vectors that differ"),
        ("clarity", ("--embed", "colours"), "--embed is written like file.py:factory"),
        ("clarity", ("--embed", "none.py:make"), "no file 'none.py'"),
        ("clarity", ("--embed", "math:pi"), "math has no function 'pi'"),
        ("clarity", ("--embed", "builtins:int"), "has to return a function of images; got int"),
        ("clarity", ("--embed", "builtins:object", "--json", "--csv"), "--json and --csv are two formats"),
    ],
)
def test_a_wrong_question_is_a_sentence(atlas: Path, command: str, options: tuple[str, ...], message: str) -> None:
    needed: tuple[str, ...] = ()
    if command == "split-concept" and "--lower-layer" not in options:
        needed = ("--lower-layer", "layer3.0.conv2")
    assert message in refused("evaluate", command, atlas, "--layer", LAYER, *needed, *options)


def test_what_show_cannot_read_or_compare_is_refused(tmp_path: Path, atlas: Path) -> None:
    assert "no result file" in refused("evaluate", "show", tmp_path / "none.npz")
    assert "is no result of an evaluation" in refused("evaluate", "show", atlas)
    saved = tmp_path / "impact.npz"
    assert invoke("evaluate", "impact", *MODEL, "--layer", LAYER, "--limit", 2, "--save", saved).exit_code == 0
    assert "for results of flipping and insertion" in refused("evaluate", "show", saved, saved)
    assert "for results of flipping and insertion" in refused("evaluate", "show", saved, "--curves")
    assert "needs one of the endings" in refused("evaluate", "show", saved, "-o", tmp_path / "a.txt")
