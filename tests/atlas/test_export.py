"""An exported table has, byte for byte, the rows that the questions to the atlas give one by one."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import invoke, refused

import crp_kit as crp
from crp_kit.atlas import export, row_text
from crp_kit.atlas.query.layer_atlas import ScoreAtlas
from crp_kit.errors import InputError, UnknownLayerError

Rows = Iterator[dict[str, Any]]


@pytest.fixture(scope="module")
def atlas(odd_atlas_file: Path) -> Iterator[crp.ConceptAtlas]:
    """An atlas whose layers have names with quotes, commas and per cent signs, and whose last class is empty."""
    with crp.ConceptAtlas(odd_atlas_file) as opened:
        assert (opened[opened.layers[0]].relevance.moments.count == 0).tolist() == [False] * 4 + [True]
        assert any('"' in name and "%" in name for name in opened.layers)
        yield opened


def top_rows(scores: ScoreAtlas) -> Rows:
    for concept in range(scores.n_concepts):
        for rank, row in enumerate(scores.top(concept).rows()):
            yield {"layer": scores.layer, "mode": scores.mode, "concept": concept, "rank": rank, **row}


def class_rows(scores: ScoreAtlas) -> Rows:
    for concept in range(scores.n_concepts):
        for cls in range(scores.file.header.n_classes):
            for rank, row in enumerate(scores.class_top(concept, cls).rows()):
                place = {"layer": scores.layer, "mode": scores.mode, "concept": concept, "class": cls}
                yield {**place, "rank": rank, **row}


def moment_rows(scores: ScoreAtlas, *, empty: bool) -> Rows:
    moments = scores.moments
    for cls, count in enumerate(moments.count.tolist()):
        for concept in range(scores.n_concepts):
            place = {"layer": scores.layer, "mode": scores.mode, "concept": concept, "class": cls, "count": count}
            if count or empty:
                yield {**place, **{name: float(getattr(moments, name)[cls, concept]) for name in export.MOMENTS}}


def sample_rows(atlas: crp.ConceptAtlas) -> Rows:
    for place, sample in enumerate(atlas.samples.tolist()):
        target, prediction = int(atlas.targets[place]), int(atlas.predictions[place])
        yield {"sample": sample, "id": atlas.identifiers[place], "target": target, "prediction": prediction}


def expected_rows(atlas: crp.ConceptAtlas, what: str, *, empty: bool = False) -> Rows:
    if what == "samples":
        return sample_rows(atlas)
    scores = (atlas[name].score(mode) for name in atlas.layers for mode in ("relevance", "activation"))
    if what == "moments":
        return (row for one in scores for row in moment_rows(one, empty=empty))
    return (row for one in scores for row in (top_rows if what == "top" else class_rows)(one))


def text_of(rows: Rows, ending: str) -> str:
    """A table as the standard library writes it, row by row."""
    table = list(rows)
    if ending == "json":
        plain = [{**row, **dict.fromkeys(export.MOMENTS)} if row.get("count") == 0 else row for row in table]
        return "[\n" + ",\n".join(map(json.dumps, plain)) + "\n]\n"
    file = io.StringIO()
    writer = csv.DictWriter(file, list(table[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return file.getvalue()


@pytest.mark.parametrize("ending", ["csv", "json"])
@pytest.mark.parametrize("what", ["top", "class-top", "moments", "samples"])
@pytest.mark.parametrize("step", [1, 7, None], ids=["one by one", "uneven blocks", "one block"])
def test_a_table_is_that_of_the_questions_asked_one_by_one(
    atlas: crp.ConceptAtlas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: Any, ending: str, step: int | None
) -> None:
    if step is not None:
        for name in ("_VALUES", "_SAMPLES", "_CLASSES"):
            monkeypatch.setattr(export, name, step)
        monkeypatch.setattr(row_text, "_ROWS", step)
    path = crp.export_atlas(atlas, tmp_path / f"table.{ending}", what=what, verbose=False)
    assert path.read_text(encoding="utf-8") == text_of(expected_rows(atlas, what), ending)


@pytest.mark.parametrize("ending", ["csv", "json"])
def test_empty_classes_are_written_where_they_are_asked_for(
    atlas: crp.ConceptAtlas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    monkeypatch.setattr(export, "_CLASSES", 2)
    path = crp.export_atlas(atlas, tmp_path / f"m.{ending}", what="moments", empty_classes=True, verbose=False)
    text = path.read_text(encoding="utf-8")
    assert text == text_of(expected_rows(atlas, "moments", empty=True), ending)
    assert ("null" if ending == "json" else "nan") in text


def test_layers_and_modes_are_written_in_the_order_that_is_asked_for(atlas: crp.ConceptAtlas, tmp_path: Path) -> None:
    first, second = atlas.layers
    path = crp.export_atlas(atlas, tmp_path / "t.csv", layers=[second, first], modes=["activation"], verbose=False)
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(dict.fromkeys((row["layer"], row["mode"]) for row in rows)) == [
        (second, "activation"), (first, "activation"),
    ]  # fmt: skip


def test_values_that_are_not_finite_are_missing_in_json_and_named_in_csv(tmp_path: Path) -> None:
    columns = {"a": np.array([np.nan, np.inf, 0.5], "f4"), "b": np.array([1, 2, 3])}
    texts = {}
    for ending, writer in row_text.FORMATS.items():
        with (tmp_path / f"t{ending}").open("w") as file:
            rows = writer(file, ("a", "b"))
            rows.write(columns)
            rows.finish()
        texts[ending] = (tmp_path / f"t{ending}").read_text()
    assert texts[".csv"] == "a,b\nnan,1\ninf,2\n0.5,3\n"
    assert json.loads(texts[".json"]) == [{"a": None, "b": 1}, {"a": None, "b": 2}, {"a": 0.5, "b": 3}]


def test_a_table_without_rows_has_its_head(tmp_path: Path) -> None:
    texts = []
    for ending, writer in row_text.FORMATS.items():
        with (tmp_path / f"t{ending}").open("w") as file:
            writer(file, ("a", "b")).finish()
        texts.append((tmp_path / f"t{ending}").read_text())
    assert texts == ["a,b\n", "[\n]\n"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"what": "everything"}, "one of top, class-top, moments, samples; got 'everything'"),
        ({"modes": ["both"]}, "mode is 'relevance' or 'activation'; got 'both'"),
        ({"layers": ["layer9"]}, "has no layer 'layer9'"),
        ({"name": "t.txt"}, "needs the ending .csv or .json"),
        ({"name": "missing/t.csv"}, "cannot write .*: there is no folder .*missing$"),
        ({"name": "there.csv"}, "exists; overwrite replaces it"),
    ],
)
def test_what_cannot_be_exported_is_refused_and_leaves_nothing(
    atlas: crp.ConceptAtlas, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    (tmp_path / "there.csv").write_text("mine")
    options = dict(options)
    path = tmp_path / options.pop("name", "t.csv")
    with pytest.raises((InputError, UnknownLayerError), match=message):
        crp.export_atlas(atlas, path, verbose=False, **options)
    assert [one.name for one in tmp_path.iterdir()] == ["there.csv"]
    assert (tmp_path / "there.csv").read_text() == "mine"


def test_a_table_that_appears_meanwhile_is_kept(
    atlas: crp.ConceptAtlas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, path = row_text.RowWriter.write, tmp_path / "t.csv"

    def write(self: row_text.RowWriter, columns: row_text.Columns) -> None:
        path.write_text("theirs")
        usual(self, columns)

    monkeypatch.setattr(row_text.RowWriter, "write", write)
    with pytest.raises(InputError, match=r"cannot write .*t.csv: a file of this name has appeared meanwhile"):
        crp.export_atlas(atlas, path, verbose=False)
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("t.csv", "theirs")]


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_an_export_that_is_interrupted_leaves_the_earlier_table(
    atlas: crp.ConceptAtlas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: str
) -> None:
    (tmp_path / "t.csv").write_text("earlier")
    usual = row_text.RowWriter.write

    def write(self: row_text.RowWriter, columns: row_text.Columns) -> None:
        usual(self, columns)
        os.kill(os.getpid(), getattr(signal, number))

    monkeypatch.setattr(row_text.RowWriter, "write", write)
    with pytest.raises(KeyboardInterrupt if number == "SIGINT" else SystemExit):
        crp.export_atlas(atlas, tmp_path / "t.csv", overwrite=True, verbose=False)
    assert [one.name for one in tmp_path.iterdir()] == ["t.csv"]
    assert (tmp_path / "t.csv").read_text() == "earlier"


def test_the_command_shows_progress_on_stderr_unless_it_is_quiet(odd_atlas_file: Path, tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    shown = invoke("atlas", "export", odd_atlas_file, "-o", table)
    assert (shown.exit_code, shown.stdout) == (0, f"{table}\n")
    first, last = shown.stderr.splitlines()
    assert first == "export: 0 of 180 values"  # 2 modes of 15 concepts, rankings of 6
    assert last.startswith("export: 180 of 180 values after 0:00:0")
    assert invoke("atlas", "export", odd_atlas_file, "--overwrite", "--quiet", "-o", table).stderr == ""
    assert "exists; --overwrite replaces it" in refused("atlas", "export", odd_atlas_file, "-o", table)
