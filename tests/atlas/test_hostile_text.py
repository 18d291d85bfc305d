"""Text of a file is shown, never obeyed: none of its escape sequences, line breaks, directions reaches a terminal."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import hostile
import numpy as np
import pytest
from command_line import invoke

import crp_kit as crp
from crp_kit.atlas.file.file_tree import encoded, text_digest
from crp_kit.errors import AtlasError, InputError
from crp_kit.printable import printable
from crp_kit.tables import html_table, text_table

EVIL = "\x1b]0;owned\x07\x1b[2J\r\n\x7f\x9b31m\u202etxt.exe\u2066\u2028\ufeff\U000e0041"
WORDS = ("model", "dataset", "command", "created", "crp_kit_version", "target", "composite", "subset")


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An atlas with such text wherever a file has text."""
    path = hostile.sound_atlas(tmp_path_factory.mktemp("evil") / "atlas.h5")
    with hostile.edited(path) as file:
        for word in WORDS:
            file.attrs[word] = f"{word} {EVIL}"
        for word in ("name", "concept"):
            file["layers/0"].attrs[word] = f"{word} {EVIL}"
        texts = {"classes/name": 8, "samples/id": 12, "skipped/reason": 2}
        file.create_group("skipped")["sample"] = np.arange(2)
        for name, count in texts.items():
            values = [f"{name} {number} {EVIL}" for number in range(count)]
            file.pop(name, None)
            file.create_dataset(name, data=encoded(values))
            group, _, own = name.partition("/")
            file[group].attrs[f"{own}_sha256"] = text_digest(values)
    return path


def assert_is_shown(text: str) -> None:
    assert all(printable(line) == line for line in text.split("\n")), repr(text)
    assert "\\x1b]0;owned\\x07" in text


def ask(evil: Path) -> dict[str, Any]:
    with crp.ConceptAtlas(evil) as atlas:
        layer = atlas[atlas.layers[0]]
        return {
            "atlas": repr(atlas), "layer": repr(layer), "scores": repr(layer.relevance),
            "classes": repr(layer.classes(3)),
            "atlas in a notebook": atlas._repr_html_(), "classes in a notebook": layer.classes(3)._repr_html_(),
        }  # fmt: skip


@pytest.mark.slow
def test_what_python_shows_is_escaped(evil: Path) -> None:
    for text in ask(evil).values():
        assert_is_shown(text)
    with crp.ConceptAtlas(evil) as atlas:
        assert atlas.classes[3] == f"classes/name 3 {EVIL}", "the data is as it was"


def test_a_line_break_in_a_name_begins_no_line(evil: Path) -> None:
    assert len(ask(evil)["classes"].splitlines()) == 9
    lines = invoke("atlas", "info", evil).stdout.splitlines()
    assert len(lines) == 4 + 5 + 3  # the file, its layers, and what is said of them and of skipped samples


def test_what_the_command_line_prints_is_escaped(evil: Path, tmp_path: Path) -> None:
    layer = f"name {EVIL}"
    for arguments in (
        ("atlas", "info", evil),
        ("atlas", "stats", evil, "--layer", layer, "--concept", 3),
        ("atlas", "stats", evil, "--layer", layer, "--concept", 3, "--csv"),
        ("atlas", "stats", evil, "--layer", layer, "--class", "no such class"),
        ("atlas", "stats", evil, "--layer", "no such layer"),
        ("atlas", "stats", evil, "--layer", f"{layer}x"),
        ("atlas", "verify", evil),
        ("atlas", "merge", evil, "-o", tmp_path / "merged.h5"),
    ):
        result = invoke(*arguments)
        assert result.exit_code in (0, 2), result.exception
        assert all(printable(line) == line for line in (result.stdout + result.stderr).split("\n"))


def test_cells_of_csv_are_escaped_and_json_has_its_own_escapes(evil: Path, tmp_path: Path) -> None:
    for ending in ("csv", "json"):
        out = tmp_path / f"samples.{ending}"
        assert invoke("atlas", "export", evil, "--what", "samples", "-o", out).exit_code == 0
        text = out.read_text()
        assert "\x1b" not in text
        assert "\u202e" not in text
        rows = list(csv.DictReader(io.StringIO(text))) if ending == "csv" else json.loads(text)
        expected = f"samples/id 3 {EVIL}"
        assert rows[3]["id"] == (printable(expected) if ending == "csv" else expected)
    told = json.loads(invoke("atlas", "info", evil, "--json").stdout)
    assert told["model"] == f"model {EVIL}"


def test_errors_and_tables_escape_whatever_they_quote() -> None:
    assert str(AtlasError(f"a {EVIL}")) == f"a {printable(EVIL)}"
    assert "\n" in str(InputError("two\nlines"))
    assert "\x1b" not in str(InputError(EVIL))
    assert text_table([["a"], [EVIL]])[1] == printable(EVIL)
    assert "\x1b" not in html_table(["a"], [[EVIL]], caption=EVIL)


WRITING = ("K\u00e4se", "\u6771\u4eac", "\N{MAN}\u200d\N{GIRL}", "\u0645\u06cc\u200c\u062e", "a\\x1b", "a\u3000\xa0")


@pytest.mark.parametrize("text", WRITING)
def test_writing_of_any_language_stays(text: str) -> None:
    assert printable(text) == text


def test_halves_of_surrogates_are_shown() -> None:
    assert printable("caf\udce9") == "caf\\udce9"
    printable("caf\udce9").encode()


def test_names_of_files_that_are_no_utf_8_are_printed_as_they_are(tmp_path: Path) -> None:
    name = b"caf\xe9.h5"
    (tmp_path / os.fsdecode(name)).write_bytes(b"no atlas")
    strict = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    command = [sys.executable, "-m", "crp_kit", "atlas", "verify", name]
    ran = subprocess.run(command, capture_output=True, cwd=tmp_path, env=strict, check=False)
    assert ran.returncode == 2
    assert ran.stdout.startswith(name + b": ")
    assert b"Traceback" not in ran.stderr
