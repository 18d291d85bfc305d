"""Names of directions in atlases: in tables, references, pictures and the report, in shards and merged files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from nets import normal, small_convnet

import crp_kit as crp
from crp_kit.atlas import ConceptAtlas, verify_atlas
from crp_kit.targets import Contrast
from crp_kit.targets.text import target_words

LAYER = "1"
NAMES = {0: "first", 1: "second", 2: "mean", 3: "rest"}


@pytest.fixture(scope="module")
def study() -> crp.Study:
    images = normal(8, 3, 6, 6, dtype=torch.float32)
    concept = crp.DirectionConcept(torch.eye(4)[:2], mean=[0.1] * 4, names=["first", "second"])
    data = [(image, number % 3) for number, image in enumerate(images)]
    return crp.Study(small_convnet(), data, concepts={LAYER: concept}, classes=["cat", "dog", "owl"])


@pytest.fixture(scope="module")
def path(study: crp.Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("names")
    study.build_atlas(folder / "a.h5", layers=[LAYER, "0"], batch_size=4, verbose=False).close()
    return folder / "a.h5"


def test_an_atlas_has_the_names_of_directions_and_none_of_channels(path: Path) -> None:
    with ConceptAtlas(path) as atlas:
        assert atlas[LAYER].names == NAMES
        assert atlas["0"].names == {}
    assert not list(verify_atlas(path))


def test_merged_shards_have_them_too(study: crp.Study, path: Path) -> None:
    parts = [path.with_name(f"{number}.h5") for number in range(2)]
    for number, part in enumerate(parts):
        study.build_atlas(part, layers=[LAYER, "0"], batch_size=4, shard=(number, 2), verbose=False).close()
    with crp.merge_atlases(parts, path.with_name("merged.h5")) as merged, ConceptAtlas(path) as atlas:
        assert merged[LAYER].names == NAMES
        for concept in range(4):
            rankings = [one[LAYER].relevance.top(concept).to_numpy().tolist() for one in (atlas, merged)]
            assert rankings[0] == rankings[1]


def test_tables_print_names_beside_numbers_and_keep_their_columns(study: crp.Study, path: Path) -> None:
    with ConceptAtlas(path) as atlas:
        scores = atlas[LAYER].relevance
        for table in (scores.concepts("cat"), scores.statistics(), scores.class_means(), scores.contrast("cat", "dog")):
            assert all(f" {name} " in repr(table) for name in ("first", "second", "rest"))
            assert "name" not in table.columns()
        assert "(rest)" in repr(study.references(atlas, LAYER, 3, k=2))


def test_names_that_were_saved_stand_before_those_of_directions(path: Path) -> None:
    copy = path.with_name("copy.h5")
    copy.write_bytes(path.read_bytes())
    from crp_kit.atlas.file.names import write_names

    with ConceptAtlas(copy) as atlas:
        write_names(atlas[LAYER].file, LAYER, {0: "red"})
        assert atlas[LAYER].names == {**NAMES, 0: "red"}


def test_a_map_of_regions_calls_directions_by_name(study: crp.Study) -> None:
    regions = study.region_map(study.data[0][0], LAYER, target=Contrast(0, "dog"), count=4, signed=True)
    assert regions.titles == {concept: NAMES[concept] for concept in regions.concepts}
    assert f"  {NAMES[regions.concepts[0]]}: " in repr(regions)
    assert "for cat against dog" in repr(regions)
    texts = [text.get_text() for axes in regions.plot().axes for text in axes.texts]
    assert any(NAMES[regions.concepts[0]] in text for text in texts)


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (Contrast(0, 2), "cat against class 2"),
        ("contrast:0,1", "cat against dog"),
        ("region:1:relu", "region of dog (relu)"),
        ("region:1:0a1b2c3d", "region of dog, in a mask"),
        ("box:1:0", "best box of dog"),
        ("box:1:2", "box 3 of dog"),
        ("box:1:0,0,8,9.5", "box of dog at 0, 0, 8, 9.5"),
        ("class:0,1:one", "cat and dog (one)"),
        ("value:1", "output 1"),
        ("function:evidence", "function:evidence"),
        ("label", "label"),
        (1, "dog"),
        (7, "class 7"),
    ],
)
def test_what_relevance_starts_from_is_said_with_the_names_of_classes(start: object, words: str) -> None:
    assert target_words(start, ["cat", "dog"]) == words
    assert target_words(start, {0: "cat", 1: "dog"}) == words
