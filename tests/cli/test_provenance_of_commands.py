"""Commands on an atlas know what it was made with, and run no code because a file says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import invoke, refused
from PIL import Image

import crp_kit as crp
from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
from crp_kit.errors import InputError

LAYER = "layer2.1.conv2"
ASKED = ("--layer", LAYER, "--concept", 3, "-k", 2, "--json", "--overwrite", "-o", "refs.png")
SAID = ("--model", "demo:resnet", "--data", "demo:shapes:24", "--composite", "epsilon_plus")
MARKER = "ran"
FACTORY = f"""
from pathlib import Path
from crp_kit.data import demo_resnet, ShapesDataset
from crp_kit import LoadedModel, Preprocess
Path({MARKER!r}).touch()
def make():
    return LoadedModel(demo_resnet(), Preprocess(64, 64))
def data():
    return ShapesDataset(24, split="test")
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("provenance") / "atlas.h5"
    result = invoke("atlas", "build", *SAID, "--layers", LAYER, "-o", path, "--quiet")
    assert result.exit_code == 0, result.output
    return path


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    image = ShapesDataset(1, split="test")[0][0]
    Image.fromarray((image * 255).byte().permute(1, 2, 0).numpy()).save("0.png")
    return tmp_path


def atlas_of(path: Path, **origin: Any) -> Path:
    """Build an atlas that says this of where it comes from."""
    data = ShapesDataset(24, split="test")
    study = crp.Study(demo_resnet(), data, preprocess=demo_preprocess, origin=crp.Origin(**origin))
    study.build_atlas(path, layers=LAYER, verbose=False).close()
    return path


def test_an_atlas_keeps_the_options_of_its_build(built: Path) -> None:
    with crp.ConceptAtlas(built) as atlas:
        stored = json.loads(atlas.metadata["options"])
    expected = {"model": "demo:resnet", "data": "demo:shapes:24", "composite": "epsilon_plus"}
    assert stored == {**expected, "biases": "absorb", "batch_norm": "affine"}


def test_references_need_no_option_that_the_atlas_knows(built: Path) -> None:
    short, whole = (invoke("atlas", "references", built, *said, *ASKED) for said in ((), SAID))
    assert short.exit_code == whole.exit_code == 0, short.output
    assert json.loads(short.stdout) == json.loads(whole.stdout)
    assert "was made from another dataset" in refused("atlas", "references", built, "--data", "demo:shapes:23", *ASKED)
    assert "other weights" in refused("atlas", "references", built, "--weights", "none", *ASKED)


@pytest.mark.slow
def test_graphs_maps_exports_and_reports_take_it_from_there(built: Path) -> None:
    for command in (
        ("graph", "0.png", "--atlas", built, "--layers", "layer[23].1.conv2", "--children", "2,1", "-o", "graph.png"),
        ("regions", "0.png", "--atlas", built, "--layer", LAYER, "--top", 3, "--count", 4, "-o", "map.png"),
        ("export", "virelay", built, "--layer", LAYER, "--concept", 3, "-k", 4, "-o", "project", "--quiet"),
        ("report", built, "--concepts", "3", "--references", 2, "-o", "report", "--quiet"),
    ):
        result = invoke(*command)
        assert result.exit_code == 0, (command, result.output, result.exception)


def test_a_folder_is_found_again_from_another_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = ShapesDataset(8, split="test")
    for number in range(8):
        path = folder / "images" / data.classes[data[number][1]] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((data[number][0] * 255).byte().permute(1, 2, 0).numpy()).save(path)
    build = (
        "atlas",
        "build",
        "--model",
        "demo:resnet",
        "--data",
        "imagefolder:images",
        "--size",
        48,
        "--layers",
        LAYER,
    )
    assert invoke(*build, "-o", "atlas.h5", "--quiet").exit_code == 0
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    result = invoke("atlas", "references", folder / "atlas.h5", *ASKED)
    assert result.exit_code == 0, result.output


def test_shards_and_their_merger_know_it_too() -> None:
    for shard in ("0/2", "1/2"):
        command = ("atlas", "build", *SAID, "--layers", LAYER, "--batch-size", 12, "--shard", shard, "--quiet")
        assert invoke(*command, "-o", f"part-{shard[0]}.h5").exit_code == 0
    assert invoke("atlas", "merge", "part-0.h5", "part-1.h5", "-o", "whole.h5").exit_code == 0
    assert invoke("atlas", "references", "whole.h5", *ASKED).exit_code == 0


def test_an_atlas_without_options_is_known_by_its_words(tmp_path: Path) -> None:
    path = atlas_of(tmp_path / "a.h5", model="demo:resnet DEFAULT", dataset="demo:shapes:24")
    assert invoke("atlas", "references", path, *ASKED).exit_code == 0
    nameless = atlas_of(tmp_path / "b.h5")
    said = refused("atlas", "references", nameless, *ASKED)
    assert "b.h5 does not say what --model and --data it was made with: say --model and --data" in said
    said = refused("atlas", "references", nameless, "--model", "demo:resnet", *ASKED)
    assert "does not say what --data it was made with: say --data" in said
    assert invoke("atlas", "references", nameless, *SAID, *ASKED).exit_code == 0


def test_a_study_of_what_was_loaded_by_name_keeps_the_names(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    study = crp.Study(crp.load_model("demo:resnet"), crp.load_data("demo:shapes:24"), composite="epsilon_plus")
    study.build_atlas(path, layers=LAYER, verbose=False).close()
    with crp.ConceptAtlas(path) as atlas:
        stored = json.loads(atlas.metadata["options"])
        assert (atlas.header.model, atlas.header.dataset) == ("demo:resnet", "demo:shapes:24:test")
    assert {name: stored[name] for name in ("size", "crop", "composite")} == {
        "size": [64], "crop": [64], "composite": "epsilon_plus",
    }  # fmt: skip
    short, whole = (invoke("atlas", "references", path, *said, *ASKED) for said in ((), SAID))
    assert json.loads(short.stdout) == json.loads(whole.stdout)
    assert crp.Study(demo_resnet(), crp.load_data("demo:shapes:4")).origin is None
    assert crp.Study(crp.load_model("demo:resnet"), ShapesDataset(4, seed=1)).origin is None


def test_code_is_not_run_because_a_file_says_so(tmp_path: Path) -> None:
    Path("mine.py").write_text(FACTORY, encoding="utf-8")
    options = {"model": "mine.py:make", "data": "mine.py:data"}
    path = atlas_of(tmp_path / "a.h5", options=options)
    said = refused("atlas", "references", path, *ASKED)
    assert "was made with --model mine.py:make and --data mine.py:data, which is code that is not run" in said
    assert ": say --model and --data" in said
    for spec in ("os:getcwd", "mine.py:make", "file:///x", "http://a/b", ":", "\u202emine.py:make"):
        crafted = atlas_of(tmp_path / "c.h5", options={**options, "model": spec})
        assert "say --model" in refused("atlas", "references", crafted, *ASKED)
        crafted.unlink()
    assert not Path(MARKER).exists()
    said = ("--model", "mine.py:make", "--data", "mine.py:data")
    assert invoke("atlas", "references", path, *said, *ASKED).exit_code == 0
    assert Path(MARKER).exists()


@pytest.mark.parametrize("options", [[1], "text", {"model": 3}, {"model": "demo:resnet", "mean": "0.5"}])
def test_options_of_another_form_are_refused(tmp_path: Path, options: Any) -> None:
    path = atlas_of(tmp_path / "a.h5", options=options)
    assert "a.h5 has no sound options of its build: say --model and --data" in refused(
        "atlas", "references", path, *ASKED
    )


def test_options_that_no_file_can_hold_are_refused() -> None:
    with pytest.raises(InputError, match="options are plain values by name"):
        crp.Origin(options={"model": object()})
