"""``crp-kit directions`` and ``--concept``: what the library makes, and every mistake in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import invoke, refused

import crp_kit as crp
from crp_kit import DirectionConcept, HeadConcept, NeuronConcept, Study, TokenConcept
from crp_kit.cli.concepts import chosen_concepts, ids_and_concepts
from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
from crp_kit.errors import InputError
from crp_kit.views.image import picture

LAYER = "layer2.1.relu_1"
MODEL = ("--model", "demo:resnet")
DATA = (*MODEL, "--data", "demo:shapes:8")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fitted(path: str, method: str = "pca") -> None:
    result = invoke("directions", "fit", *DATA, "--layer", LAYER, "--method", method, "--n", 3, "-o", path, "--quiet")
    assert result.exit_code == 0, (result.output, result.exception)
    assert result.stdout.split() == [path]


def test_a_fit_is_that_of_the_library_and_info_says_so() -> None:
    fitted("pca.h5")
    loaded = crp.load_directions("pca.h5")
    study = Study(demo_resnet(), ShapesDataset(8, split="test"), preprocess=demo_preprocess)
    own = study.fit_directions(LAYER, "pca", 3)
    assert isinstance(loaded, DirectionConcept)
    assert isinstance(own, DirectionConcept)
    np.testing.assert_allclose(loaded.directions, own.directions, atol=1e-6)
    facts = json.loads(invoke("directions", "info", "pca.h5", "--json").stdout)
    assert (facts["layer"], facts["method"], facts["samples"]) == (LAYER, "pca", 8)
    assert f"layer           {LAYER}" in invoke("directions", "info", "pca.h5").stdout


def test_directions_of_a_file_are_concepts_of_its_layer() -> None:
    image = ShapesDataset(1)[0][0]
    picture(image).save("0.png")
    directions = DirectionConcept(np.eye(32)[:2])
    directions.provenance = {"layer": LAYER}
    directions.save("pair.h5")
    asked = ("heatmap", "0.png", *MODEL, "--condition", "y:2", "--save-array")
    for name, more in (
        ("own.npz", ("--concept", "pair.h5", "--each", f"{LAYER}:0-1,rest")),
        ("channels.npz", ("--each", f"{LAYER}:0-1")),
        ("ranked.npz", ("--concept", f"{LAYER}=pair.h5", "--layer", LAYER, "--top", 2)),
    ):
        result = invoke(*asked, name, *more)
        assert result.exit_code == 0, (result.output, result.exception)
    own, channels = (np.load(name)["heatmap"] for name in ("own.npz", "channels.npz"))
    assert own.shape[0] == 3
    np.testing.assert_allclose(own[:2], channels, atol=1e-5 * np.abs(channels).max())


def test_what_a_concept_is_may_be_said_for_all_layers_or_for_one() -> None:
    assert chosen_concepts([]) is None
    assert chosen_concepts(["heads:12"]) == HeadConcept(heads=12)
    assert chosen_concepts(["tokens"]) == TokenConcept()
    assert chosen_concepts(["a.b=neurons", "c=heads:2"]) == {"a.b": NeuronConcept(), "c": HeadConcept(heads=2)}
    assert ids_and_concepts(["3,8-10", "nmf.h5", "5"]) == (["3,8-10", "5"], ["nmf.h5"])


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        (["tokens", "neurons"], "stands alone; name a layer in each"),
        (["a=tokens", "neurons"], "stands alone"),
        (["a=tokens", "a=neurons"], "names a twice"),
        (["none.h5"], "--concept is channels, tokens, neurons, heads, heads:12, or a file of directions"),
        (["heads:0"], "how many heads there are, at least 1; got 'heads:0'"),
        (["heads:x"], "how many heads there are"),
        (["=tokens"], "names no layer before ="),
    ],
)
def test_wrong_concepts_are_named(specs: list[str], message: str) -> None:
    with pytest.raises(InputError) as caught:
        chosen_concepts(specs)
    assert message in str(caught.value)


@pytest.mark.slow
def test_an_atlas_of_directions_and_its_references_need_the_same_file() -> None:
    fitted("pca.h5")
    build = ("atlas", "build", *DATA, "--concept", "pca.h5", "--layers", LAYER, "-o", "atlas.h5")
    result = invoke(*build)
    assert result.exit_code == 0, (result.output, result.exception)
    asked = ("atlas", "references", "atlas.h5", *DATA, "--layer", LAYER, "-k", 2, "-o", "refs.png")
    result = invoke(*asked, "--concept", "pca.h5", "--concept", "0,1")
    assert result.exit_code == 0, (result.output, result.exception)
    assert "sha256=" in refused(*asked, "--overwrite", "--concept", "0")
    assert "names no ids of concepts" in refused(*asked, "--overwrite", "--concept", "pca.h5")


def test_wrong_fits_are_one_line() -> None:
    assert "no 99 directions in 32 channels" in refused(
        "directions", "fit", *DATA, "--layer", LAYER, "--n", 99, "-o", "pca.h5", "--quiet"
    )
    fit = ("directions", "fit", *DATA, "--quiet", "-o", "pca.h5", "--layer")
    assert "at most as many factors as there are channels, 32" in refused(*fit, LAYER, "--method", "nmf", "--n", 33)
    assert "2 rows have 1 directions at most" in refused(*fit, "fc", "--limit", 2, "--n", 2)
    assert "target is 'label'" in refused(*fit, LAYER, "--target", "foo")
    assert "this command needs the dataset" in refused("directions", "fit", *MODEL, "--layer", LAYER, "-o", "pca.h5")
    Path("text.h5").write_text("no HDF5")
    assert "text.h5 is no file of directions" in refused("directions", "info", "text.h5")
