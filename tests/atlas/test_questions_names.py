"""Names of concepts: on the demo they follow its true parts; the file of names beside an atlas; what is refused."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from atlas_case import build
from sklearn.metrics import roc_auc_score

import crp_kit as crp
from crp_kit.atlas.file.names import names_path, write_names
from crp_kit.atlas.query.layer_atlas import LayerAtlas
from crp_kit.atlas.questions.naming import NO_NAME
from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
from crp_kit.errors import AtlasError, InputError

LAYER = "layer2.1.conv2"
DATA = ShapesDataset(160, split="test")


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[crp.ConceptAtlas]:
    path = tmp_path_factory.mktemp("names") / "a.h5"
    with build(path, DATA, layers=[LAYER, "layer3.0.conv1"], matrix=True, batch_size=32) as opened:
        yield opened


@pytest.fixture
def layer(atlas: crp.ConceptAtlas) -> Iterator[LayerAtlas]:
    yield atlas[LAYER]
    names_path(atlas).unlink(missing_ok=True)


@pytest.fixture(scope="module")
def parts(atlas: crp.ConceptAtlas) -> dict[str, Any]:
    """Which images show which part, as the dataset knows it."""
    shown = [DATA.class_parts[DATA.classes[label]] for label in atlas.labels]
    return {part: np.array([part in one for one in shown]) for part in DATA.parts}


@pytest.mark.parametrize("mode", ["relevance", "activation"])
def test_on_the_demo_names_follow_the_true_parts_and_shuffled_parts_name_nothing(
    layer: LayerAtlas, parts: dict[str, Any], mode: Any
) -> None:
    table = layer.name_concepts(parts, 1, mode)
    assert list(table.to_frame().columns) == ["concept", "name", "auc", "auc_other_half", "null", "support"]
    assert sorted(table.concept) == list(range(32))
    assert np.median(table.auc) > 0.7
    assert np.median(table.auc_other_half) > 0.7 > table.null[0]
    assert len(table.names) > 16
    assert set(table.names.values()) <= set(DATA.parts) | {f"not {part}" for part in DATA.parts}
    order = np.random.default_rng(0).permutation(len(DATA))
    shuffled = layer.name_concepts({part: held[order] for part, held in parts.items()}, 1, mode)
    assert set(shuffled.name) == {NO_NAME}
    assert np.median(shuffled.auc_other_half) < 0.6


def test_a_name_separates_the_samples_of_which_it_holds(layer: LayerAtlas, parts: dict[str, Any]) -> None:
    table = layer.name_concepts(parts, 1)
    matrix = layer.relevance.matrix[:]
    for row, name in enumerate(table.name[:10].tolist()):
        held = ~parts[name[4:]] if name.startswith("not ") else parts[name]
        assert table.support[row] == held.sum()
        whole = roc_auc_score(held, matrix[:, table.concept[row]])
        assert min(table.auc[row], table.auc_other_half[row]) - 1e-9 <= whole + 0.05
        assert whole - 0.05 <= max(table.auc[row], table.auc_other_half[row]) + 1e-9
    assert (np.diff(table.auc_other_half[: len(table.names)]) <= 0).all()


def test_a_data_frame_and_attributes_of_the_atlas_name_as_a_mapping_does(
    atlas: crp.ConceptAtlas, layer: LayerAtlas, parts: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = layer.name_concepts(parts, 2, seed=4)
    framed = layer.name_concepts(pd.DataFrame(parts), 2, seed=4)
    monkeypatch.setattr(atlas, "attributes", {"size": np.arange(160), **parts})
    stored = layer.name_concepts(length=2, seed=4)
    for table in (framed, stored):
        assert table.to_frame().equals(expected.to_frame())


def test_a_selection_limits_the_samples_of_names(
    atlas: crp.ConceptAtlas, layer: LayerAtlas, parts: dict[str, Any]
) -> None:
    where = atlas.where(label=[0, 1, 2, 3])
    table = layer.name_concepts(parts, 1, where=where)
    assert table.support.max() <= len(where)
    assert not any("red" in name or "blue" in name for name in table.names.values())  # all of them are red


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({}, "attributes holds no attribute"),
        ({"a": np.zeros(160)}, "one boolean for each of the 160 samples .* got float64"),
        ({"a": np.zeros(3, bool)}, r"got bool, of shape \(3,\)"),
        ([True], "a mapping or a data frame; got list"),
    ],
)
def test_attributes_that_do_not_fit_the_samples_are_refused(layer: LayerAtlas, attributes: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        layer.name_concepts(attributes)


def test_names_are_kept_beside_the_atlas_for_each_layer(
    atlas: crp.ConceptAtlas, layer: LayerAtlas, parts: dict[str, Any]
) -> None:
    assert layer.names == {}
    table = layer.name_concepts(parts, 1)
    path = table.save()
    assert path == atlas.path.with_name("a.h5.names.json")
    other = atlas["layer3.0.conv1"].name_concepts(parts, 1)
    other.save()
    with crp.ConceptAtlas(atlas.path) as again:
        assert again[LAYER].names == table.names
        assert again["layer3.0.conv1"].names == other.names
    with pytest.raises(AtlasError, match="has names for 'layer2.1.conv2'; overwrite=True .* replaces them"):
        table.save()
    table.taken(slice(0, 1)).save(overwrite=True)
    assert list(layer.names) == [table.concept[0]]
    assert [one.name for one in path.parent.iterdir() if one.name.startswith(".crp-kit")] == []


def test_names_are_printed_beside_concepts_and_shown_with_references(
    atlas: crp.ConceptAtlas, layer: LayerAtlas
) -> None:
    table = layer.relevance.contrast(0, 1)
    columns = list(table.to_frame().columns)
    without = repr(table)
    path = write_names(atlas, LAYER, {int(table.concept[0]): "red and not round"})
    assert "red and not round" in repr(table)
    assert "red and not round" in table._repr_html_()
    assert list(table.to_frame().columns) == columns == list(next(table.rows()))
    assert "red and not round" in repr(layer.relevance.class_means().taken(slice(0, 32)))
    study = crp.Study(demo_resnet(), DATA, composite="epsilon_plus_flat", preprocess=demo_preprocess)
    references = study.references(atlas, LAYER, int(table.concept[0]), k=2)
    assert references.concept_name == "red and not round"
    assert "(red and not round) of 'layer2.1.conv2'" in repr(references)
    words = [text.get_text() for text in references.plot().findobj(lambda drawn: hasattr(drawn, "get_text"))]
    assert "(red and not round)" in " ".join(" ".join(words).split())
    path.write_text("{")
    assert repr(table) == without


def damaged(content: dict[str, Any], **changes: Any) -> str:
    return json.dumps({**content, **changes})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: "{", "it cannot be read as JSON"),
        (lambda c: "[" * 100_000, "it cannot be read as JSON"),
        (lambda c: b"\xff\xfe\x00", "it cannot be read as JSON"),
        (lambda c: "[]", "it is no file of the type 'crp-kit-names'"),
        (lambda c: damaged(c, **{"encoding-version": "2"}), "it is of the version '2', and this crp-kit reads 1"),
        (lambda c: damaged(c, atlas="other"), "they belong to another atlas than"),
        (lambda c: damaged(c, layers=[]), "its layers are not those of the atlas"),
        (lambda c: damaged(c, layers={"conv9": {}}), "its layers are not those of the atlas"),
        (lambda c: damaged(c, layers={LAYER: []}), "no mapping from concepts"),
        (lambda c: damaged(c, layers={LAYER: {"32": "red"}}), "has no concept '32'"),
        (lambda c: damaged(c, layers={LAYER: {"-1": "red"}}), "has no concept '-1'"),
        (lambda c: damaged(c, layers={LAYER: {"9" * 5000: "red"}}), "has no concept '999"),
        (lambda c: damaged(c, layers={LAYER: {"1": 5}}), "is no text of 1 to 1000 characters"),
        (lambda c: damaged(c, layers={LAYER: {"1": "x" * 1001}}), "is no text of 1 to 1000 characters"),
    ],
)
def test_a_file_of_names_that_is_not_sound_is_refused_in_one_line(
    atlas: crp.ConceptAtlas, layer: LayerAtlas, change: Any, message: str
) -> None:
    path = write_names(atlas, LAYER, {3: "red"})
    content = change(json.loads(path.read_text()))
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(AtlasError, match=message) as caught:
        assert layer.names
    assert "\n" not in str(caught.value)
    assert "remove the file to do without" in str(caught.value)


def test_what_is_no_file_and_a_name_that_is_no_text_are_refused(atlas: crp.ConceptAtlas, layer: LayerAtlas) -> None:
    with pytest.raises(AtlasError, match="has no concept '32'"):
        write_names(atlas, LAYER, {32: "red"})
    assert not names_path(atlas).exists()
    os.mkfifo(names_path(atlas))
    with pytest.raises(AtlasError, match="is a named pipe"):
        assert layer.names
    names_path(atlas).unlink()
    names_path(atlas).symlink_to("nothing")
    with pytest.raises(AtlasError, match="it is a link to what is not there"):
        assert layer.names


def test_an_atlas_without_attributes_says_so(tmp_path: Path) -> None:
    with (
        build(tmp_path / "a.h5", [DATA[number] for number in range(8)], layers=[LAYER], matrix=True) as plain,
        pytest.raises(InputError, match="has no attributes that are true or false"),
    ):
        plain[LAYER].name_concepts()


def test_a_table_of_names_has_references_and_a_figure(layer: LayerAtlas, parts: dict[str, Any]) -> None:
    table = layer.name_concepts({"$a$\x1b": parts["red"], "b": parts["circle"]}, 2)
    assert table.plot().axes[0].get_yticklabels()
    assert np.array_equal(table.references(2, 3).sample, layer.relevance.top(int(table.concept[2]), 3).sample)


def test_names_without_a_matrix_are_refused(shapes_atlas_file: Path) -> None:
    with crp.ConceptAtlas(shapes_atlas_file) as bare, pytest.raises(AtlasError, match="has no matrix"):
        bare[LAYER].name_concepts({"a": np.arange(40) < 20})


def test_names_stay_when_attributes_are_added_to_the_atlas(tmp_path: Path) -> None:
    with build(tmp_path / "atlas.h5", ShapesDataset(24), layers=[LAYER]) as atlas:
        write_names(atlas, LAYER, {3: "red"})
        identity, samples = atlas.identity, atlas.samples
    crp.annotate_atlas(tmp_path / "atlas.h5", {"even": samples % 2 == 0})
    with crp.ConceptAtlas(tmp_path / "atlas.h5") as atlas:
        assert atlas.identity == identity
        assert atlas[LAYER].names == {3: "red"}
        assert len(atlas.where(attribute="even")) == 12
