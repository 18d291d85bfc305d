"""Rankings are as long as asked for, never longer than the data, and those by class may be left out."""

import json
from pathlib import Path

import pytest
from atlas_case import build, same_bits
from command_line import invoke, refused
from report_case import odd_atlas, odd_report

import crp_kit as crp
from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
from crp_kit.errors import AtlasError, InputError

LAYER = "layer2.1.conv2"
BUILD = ("atlas", "build", "--model", "demo:resnet", "--data", "demo:shapes:10", "--layers", LAYER, "--workers", 0)
DATA = ShapesDataset(10)


@pytest.mark.slow
def test_a_ranking_is_never_longer_than_the_dataset(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    assert invoke(*BUILD, "-k", 3_000_000, "--k-class", 2_000_000, "-o", path).exit_code == 0
    assert path.stat().st_size < 1e6
    assert crp.verify_atlas(path) == ()
    with crp.ConceptAtlas(path) as atlas:
        assert (atlas.header.k, atlas.header.k_class) == (10, 10)
        assert len(atlas[LAYER].activation.top(0)) == 10
        assert len(atlas[LAYER].activation.top(0, 40)) == 10, "all that there are"
        with pytest.raises(InputError, match="the atlas holds 10 per ranking; k is 1 to 10, got 0"):
            atlas[LAYER].activation.top(0, 0)


@pytest.mark.slow
def test_shards_and_resumed_builds_are_cut_by_the_samples_of_the_whole(tmp_path: Path) -> None:
    options = {"layers": [LAYER], "batch_size": 4, "k": 99, "k_class": 99}
    build(tmp_path / "whole.h5", DATA, **options).close()
    parts = [tmp_path / f"{number}.h5" for number in range(3)]
    for number, part in enumerate(parts):
        with build(part, DATA, shard=(number, 3), **options) as shard:
            assert (len(shard.samples), shard.header.k, shard.header.k_class) == ([4, 4, 2][number], 10, 10)
    crp.merge_atlases(parts, tmp_path / "merged.h5").close()
    assert same_bits(tmp_path / "whole.h5", tmp_path / "merged.h5")
    with build(tmp_path / "whole.h5", DATA, resume=True, **{**options, "k": 10}) as again:
        assert again.header.k == 10, "as many as there are is the same as more"


def test_a_limit_and_a_subset_cut_too(tmp_path: Path) -> None:
    with build(tmp_path / "a.h5", DATA, layers=[LAYER], subset=[9, 2, 5, 4], limit=3) as atlas:
        assert (atlas.header.k, atlas.header.k_class) == (3, 3)
        assert sorted(atlas[LAYER].relevance.top(1).sample.tolist()) == [2, 4, 5]


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("without") / "a.h5"
    assert invoke(*BUILD, "--k-class", 0, "-o", path).exit_code == 0
    return path


@pytest.mark.slow
def test_without_rankings_by_class_the_command_line_answers_and_says_what_is_missing(
    without: Path, tmp_path: Path
) -> None:
    assert "sound" in invoke("atlas", "verify", without).stdout
    assert "k = 10, 0 by class" in invoke("atlas", "info", without).stdout
    table = json.loads(invoke("atlas", "stats", without, "--layer", LAYER, "--concept", 3, "--json").stdout)
    assert sorted(row["cls"] for row in table) == sorted(set(DATA.targets.tolist()))
    missing = f"{without} has no class_top by relevance; build it with a k_class of 1 or more"
    assert missing in refused("atlas", "stats", without, "--layer", LAYER, "--concept", 3, "--class", 1)
    assert missing in refused("atlas", "export", without, "--what", "class-top", "-o", tmp_path / "a.csv")
    assert invoke("atlas", "export", without, "--what", "moments", "-o", tmp_path / "b.csv").exit_code == 0
    assert "--k-class" in refused(*BUILD, "--k-class", -1, "-o", tmp_path / "c.h5")


def test_references_of_a_class_need_rankings_by_class(without: Path) -> None:
    study = crp.Study(demo_resnet(), DATA, preprocess=demo_preprocess, composite="epsilon_plus_flat")
    with crp.ConceptAtlas(without) as atlas:
        assert len(study.references(atlas, LAYER, 3, k=2, check=False).images) == 2
        with pytest.raises(AtlasError, match="has no class_top by relevance; build it with a k_class of 1 or more"):
            study.references(atlas, LAYER, 3, cls=0, check=False)


@pytest.mark.slow
def test_the_report_is_that_of_an_atlas_with_rankings_by_class_but_for_their_samples(tmp_path: Path) -> None:
    with odd_atlas(tmp_path / "a.h5", k=30, k_class=30) as full, odd_atlas(tmp_path / "b.h5", k=30, k_class=0) as bare:
        pages = []
        for atlas in (full, bare):
            made = odd_report(atlas, tmp_path / f"{atlas.path.stem}-report", links="graph", references=1)
            files = sorted(made.path.rglob("layer-*"))
            pages.append([(file.name, file.read_bytes()) for file in files])
        assert pages[0]
        assert pages[0] == pages[1], "the ranking over all of 30 samples holds every sample of each class"
