"""``crp-kit atlas names-by-words``: names by an embedding of images and words, files of words, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import invoke, refused

LAYER = "layer2.1.conv2"
FUNCTIONS = """
def images():
    return lambda images: [(image.mean((1, 2)) - 0.4).tolist() for image in images]

def words():
    vectors = {"red": [1, 0, 0], "green": [0, 1, 0], "blue": [0, 0, 1]}
    return lambda words: [vectors[word] for word in words]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An atlas, functions that embed, and files of words."""
    path = tmp_path_factory.mktemp("words")
    (path / "colours.py").write_text(FUNCTIONS)
    (path / "words.txt").write_text("red\n\n green\nblue\n")
    (path / "words.json").write_text('{"red": [1, 0, 0], "green": [0, 1, 0], "blue": [0, 0, 1]}')
    made = invoke(
        "atlas", "build", "--model", "demo:resnet", "--data", "demo:shapes:80", "--layers", LAYER, "--workers", 0,
        "--quiet", "-o", path / "a.h5",
    )  # fmt: skip
    assert made.exit_code == 0, made.output
    return path


def asked(folder: Path, words: str, *more: Any) -> tuple[Any, ...]:
    embed = f"{folder / 'colours.py'}:images"
    return (
        "atlas",
        "names-by-words",
        folder / "a.h5",
        "--layer",
        LAYER,
        "--embed",
        embed,
        "--words",
        folder / words,
        *more,
    )


def test_names_are_printed_drawn_and_kept(folder: Path) -> None:
    by_function = ("--embed-words", f"{folder / 'colours.py'}:words", "--mode", "activation", "-k", 12)
    found = invoke(*asked(folder, "words.txt", *by_function, "--json", "--save", "-o", folder / "names.png"))
    assert found.exit_code == 0, found.output
    rows = json.loads(found.stdout)
    assert len(rows) == 32
    assert {row["n"] for row in rows} == {12}
    assert (folder / "names.png").read_bytes().startswith(b"\x89PNG")
    kept = json.loads((folder / "a.h5.names.json").read_text())["layers"][LAYER]
    assert kept == {str(row["concept"]): row["name"] for row in rows if row["q"] <= 0.05}
    assert kept
    vectors = invoke(*asked(folder, "words.json", "--mode", "activation", "-k", 12, "--json"))
    assert json.loads(vectors.stdout) == rows
    assert "--overwrite" in refused(*asked(folder, "words.json", "--save", "--model", "demo:none"))  # before any work


@pytest.mark.parametrize(
    ("words", "more", "message"),
    [
        ("red\nblue", (), "has words without vectors: say --embed-words"),
        ("red\nred", ("--embed-words", "colours.py:words"), "'red' is there more than once"),
        ("red", ("--embed-words", "colours.py:words"), "at least two words; got 1"),
        ("", ("--embed-words", "colours.py:words"), "this is empty"),
        ("red\nblue", ("--embed-words", "colours"), "--embed-words is written like file.py:factory"),
        ("red\nblue", ("--embed-words", "builtins:int"), "has to return a function of words; got int"),
        ('{"red": [1, 0, 0], "red": [0, 1, 0]}', (), "'red' is there more than once"),
        ('{"red": [1, 0, 0], "blue": [0, 1, 0]}', ("--embed-words", "colours.py:words"), "leave --embed-words out"),
        ('{"red": [1, 0, 0], "blue": "b"}', (), "the vectors of words fails"),
        ('{"red": [1, 0, 0', (), "this is something else"),
        ("[]", (), "this is empty"),
        ("3", (), "this is something else"),
    ],
)
def test_words_that_cannot_be_used_are_refused(folder: Path, words: str, more: tuple[str, ...], message: str) -> None:
    name = "other.json" if words[:1] in ("{", "[", "3") else "other.txt"
    (folder / name).write_text(words)
    more = tuple(str(folder / one) if one.startswith("colours.py") else one for one in more)
    assert message in refused(*asked(folder, name, *more, "-k", 3))


def test_a_file_of_words_that_is_not_there_is_refused(folder: Path) -> None:
    assert "none.txt" in refused(*asked(folder, "none.txt"))
