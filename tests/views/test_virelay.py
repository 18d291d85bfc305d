"""Export to ViRelAy: the files hold what the library computes, in the form that ViRelAy reads; ViRelAy itself too."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import yaml
from atlas_case import COMPOSITE as RULES
from atlas_case import SHAPES
from atlas_case import SHAPES_LAYER as LAYER
from command_line import invoke, without_progress
from studies import virelay_of
from torch.utils.data import Dataset

import crp_kit as crp
from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
from crp_kit.errors import AtlasError, ConceptRangeError, CrpKitError, InputError, UnknownLayerError
from crp_kit.views.virelay import embeddings, files
from crp_kit.views.virelay.files import FILES

CONCEPTS = [24, 3]
DATA = SHAPES
ATTRIBUTION = crp.CondAttribution(demo_resnet())


@pytest.fixture(scope="module")
def atlas(shapes_atlas_file: Path) -> Iterator[crp.ConceptAtlas]:
    with crp.ConceptAtlas(shapes_atlas_file) as opened:
        yield opened


def export(atlas: crp.ConceptAtlas, folder: Path, **options: Any) -> Path:
    chosen = {"attribution": ATTRIBUTION, "composite": RULES, "layer": LAYER, "preprocess": demo_preprocess}
    return virelay_of(atlas, options.pop("dataset", DATA), folder, **{**chosen, "concept_ids": CONCEPTS, **options})


@pytest.fixture(scope="module")
def project(atlas: crp.ConceptAtlas, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(atlas, tmp_path_factory.mktemp("project") / "new" / "folder", name='A "project": ü', batch_size=4)


def arrays(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with h5py.File(file) as h5:
        h5.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


@pytest.mark.slow
def test_the_project_file_names_all_others(project: Path) -> None:
    said = yaml.safe_load(project.read_text(encoding="utf-8"))["project"]
    assert said["name"] == 'A "project": ü'
    assert said["dataset"]["type"] == "hdf5"
    assert (said["dataset"]["input_width"], said["dataset"]["input_height"]) == (64, 64)
    assert said["attributions"]["attribution_strategy"] == "true_label"
    assert said["attributions"]["attribution_method"] == f"CRP at {LAYER}, {RULES}"
    named = [said["label_map"], said["dataset"]["path"], *said["attributions"]["sources"]]
    named += [one for analysis in said["analyses"] for one in analysis["sources"]]
    assert sorted([*named, project.name]) == sorted(FILES) == sorted(one.name for one in project.parent.iterdir())
    labels = json.loads((project.parent / said["label_map"]).read_text())
    assert [one["index"] for one in labels] == list(range(8))
    assert [one["name"] for one in labels] == list(ShapesDataset.classes)
    assert all(isinstance(one["word_net_id"], str) for one in labels)
    assert set(said["analyses"][0]["analysis_method"]).isdisjoint("-_")


def test_every_row_is_a_reference_sample_with_its_conditional_heatmap(atlas: crp.ConceptAtlas, project: Path) -> None:
    data, made = (arrays(project.parent / name) for name in ("dataset.h5", "attributions.h5"))
    assert data["data"].shape == made["attribution"].shape == (18, 3, 64, 64)
    assert (data["data"].dtype, made["attribution"].dtype, made["prediction"].dtype) == ("u1", "f4", "f4")
    assert data["label"].dtype == made["label"].dtype == "u2"
    assert made["index"].tolist() == list(range(18))
    for part, concept in enumerate(CONCEPTS):
        table, rows = atlas[LAYER].relevance.top(concept), slice(9 * part, 9 * part + 9)
        assert data["sample"][rows].tolist() == table.sample.tolist()
        assert set(data["concept"][rows]) == {concept}
        images = torch.stack([DATA[one][0] for one in table.sample.tolist()])
        assert np.array_equal(data["data"][rows], (images * 255).round().byte().numpy())
        labels = [DATA[one][1] for one in table.sample.tolist()]
        assert data["label"][rows].tolist() == made["label"][rows].tolist() == labels
        conditions = [{LAYER: [concept], "y": [one]} for one in table.target.tolist()]
        expected = ATTRIBUTION(demo_preprocess(images), conditions, RULES, pairing="zip")
        strongest = float(expected.input_relevance.abs().max())
        assert np.abs(made["attribution"][rows] - expected.input_relevance.numpy()).max() < 1e-4 * strongest
        assert np.allclose(made["prediction"][rows], expected.prediction.numpy(), atol=1e-4)


def test_categories_are_concepts_with_embeddings_and_clusters_of_the_same_names(project: Path) -> None:
    found = arrays(project.parent / "analyses.h5")
    assert {name.split("/")[0] for name in found} == {"all", "concept-24", "concept-3"}
    inner = [{name.split("/", 1)[1] for name in found if name.startswith(f"{one}/")} for one in ("all", "concept-3")]
    assert inner[0] == inner[1]
    assert inner[0] >= {"index", "embedding/pca", "embedding/spectral", "cluster/class", "cluster/concept"}
    assert found["concept-24/index"].tolist() == list(range(9))
    assert found["concept-3/index"].tolist() == list(range(9, 18))
    assert found["all/embedding/pca"].shape == (18, 2)
    assert found["all/index"].dtype == "u4"
    for name, values in found.items():
        assert len(values) == (18 if name.startswith("all/") else 9), name
        assert values.dtype == ("f4" if "embedding" in name else "u4" if name.endswith("index") else "i4"), name
        assert np.isfinite(values).all(), name
    assert found["all/cluster/concept"].tolist() == [24] * 9 + [3] * 9
    assert len(set(found["all/cluster/kmeans-5"].tolist())) == 5
    with h5py.File(project.parent / "analyses.h5") as h5:
        spectral = h5["all/embedding/spectral"]
        assert len(spectral.attrs["eigenvalue"]) == spectral.shape[1] == 8
        assert h5["all/cluster/kmeans-3"].attrs["k"] == 3


def test_the_embedding_is_that_of_the_shares_of_the_layer_s_relevance(atlas: crp.ConceptAtlas, project: Path) -> None:
    table = atlas[LAYER].relevance.top(3)
    inputs = demo_preprocess(torch.stack([DATA[one][0] for one in table.sample.tolist()]))
    attr = ATTRIBUTION(inputs, [{"y": [one]} for one in table.target.tolist()], RULES, record_layer=[LAYER])
    shares = crp.ChannelConcept().attribute(attr.relevances[LAYER]).double().numpy()
    expected = embeddings.principal(shares)
    assert np.allclose(arrays(project.parent / "analyses.h5")["concept-3/embedding/pca"], expected, atol=1e-4)


def test_strategies_of_a_class_are_a_project_with_the_heatmaps_of_the_class(tmp_path: Path) -> None:
    study = crp.Study(demo_resnet(), DATA, composite=RULES, preprocess=demo_preprocess)
    atlas = study.build_atlas(tmp_path / "atlas.h5", layers=LAYER, matrix=True, verbose=False)
    strategies = atlas[LAYER].relevance.strategies(0, n=2, k=3)
    folder = study.export_strategies(strategies, tmp_path / "project").parent
    data, made, found = (arrays(folder / name) for name in ("dataset.h5", "attributions.h5", "analyses.h5"))
    order = np.argsort(strategies.strategy, kind="stable")
    assert data["sample"].tolist() == strategies.sample[order].tolist()
    assert found["all/cluster/strategy"].tolist() == data["strategy"].tolist() == strategies.strategy[order].tolist()
    np.testing.assert_allclose(found["all/embedding/strategies"][:, 0], strategies.x[order], rtol=1e-6)
    large = {f"strategy-{number}" for number, size in enumerate(strategies.sizes) if size >= 3}
    assert {name.split("/")[0] for name in found} == {"all", *large}
    inputs = demo_preprocess(torch.stack([DATA[number][0] for number in data["sample"].tolist()]))
    expected = ATTRIBUTION(inputs, [{"y": [0]}], RULES).input_relevance
    assert np.abs(made["attribution"] - expected.numpy()).max() < 1e-4 * float(expected.abs().max())
    atlas.close()


def test_principal_components_keep_the_distances_of_points_in_a_plane() -> None:
    generator = np.random.default_rng(0)
    plane = generator.normal(size=(12, 2)) @ generator.normal(size=(2, 7)) + 5
    found = embeddings.principal(plane)
    for values in (found, embeddings.principal(plane[:, ::-1])):
        assert np.allclose(np.linalg.norm(values[3] - values[8]), np.linalg.norm(plane[3] - plane[8]))
    assert np.allclose(found.T @ found, np.diag((found**2).sum(0)))


def test_equal_rows_and_a_single_row_have_principal_components() -> None:
    for values in (np.ones((5, 3)), np.repeat(np.eye(3), 3, axis=0), np.ones((1, 3))):
        assert embeddings.principal(values).shape == (len(values), 2)
    assert (embeddings.principal(np.ones((4, 1))) == 0).all()


def test_principal_components_are_the_same_each_time() -> None:
    values = np.random.default_rng(3).random((40, 6))
    assert np.array_equal(embeddings.principal(values), embeddings.principal(values))


def test_without_scikit_learn_the_error_names_the_extra_before_any_work(
    atlas: crp.ConceptAtlas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(CrpKitError, match=r"needs scikit-learn: pip install 'crp-kit\[virelay\]'"):
        export(atlas, tmp_path / "project", k=4)
    assert not (tmp_path / "project").exists()


def test_the_strongest_concepts_are_shown_by_default(atlas: crp.ConceptAtlas, tmp_path: Path) -> None:
    data = arrays(export(atlas, tmp_path, concept_ids=None, top=2, k=3, mode="activation").parent / "dataset.h5")
    strongest = atlas[LAYER].activation.statistics().sorted("mean", 2).concept.tolist()
    assert list(dict.fromkeys(data["concept"].tolist())) == strongest
    assert data["sample"][:3].tolist() == atlas[LAYER].activation.top(strongest[0], 3).sample.tolist()


def test_relevance_may_start_from_the_prediction(atlas: crp.ConceptAtlas, tmp_path: Path) -> None:
    project = export(atlas, tmp_path, concept_ids=[7], k=3, conditioned_on="prediction")
    table = atlas[LAYER].relevance.top(7, 3)
    inputs = demo_preprocess(torch.stack([DATA[one][0] for one in table.sample.tolist()]))
    predicted = atlas.predictions[table.sample].tolist()
    expected = ATTRIBUTION(inputs, [{LAYER: [7], "y": [one]} for one in predicted], RULES, pairing="zip")
    found = arrays(tmp_path / "attributions.h5")["attribution"]
    assert np.allclose(found, expected.input_relevance.numpy(), atol=1e-4 * float(expected.input_relevance.abs().max()))
    assert "predicted_label" in project.read_text()


@pytest.mark.slow
def test_an_export_is_replaced_only_when_asked_to(atlas: crp.ConceptAtlas, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    project = export(atlas, tmp_path, k=3)
    before = {one.name: one.read_bytes() for one in tmp_path.iterdir()}
    with pytest.raises(InputError, match=r"label-map\.json exists; overwrite replaces it"):
        export(atlas, tmp_path, k=4)
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == before
    export(atlas, tmp_path, k=4, overwrite=True)
    assert len(arrays(project.parent / "dataset.h5")["data"]) == 8
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.slow
def test_a_project_that_appears_meanwhile_is_kept(
    atlas: crp.ConceptAtlas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = files.write_tree

    def write(*arguments: Any, **options: Any) -> None:
        (tmp_path / FILES[-1]).write_text("theirs")
        usual(*arguments, **options)

    monkeypatch.setattr(files, "write_tree", write)
    with pytest.raises(AtlasError, match="a file of this name has appeared meanwhile"):
        export(atlas, tmp_path, k=3)
    assert (tmp_path / FILES[-1]).read_text() == "theirs"


@pytest.mark.parametrize("where", ["views.virelay.files._label_map", "atlas.file.hdf5_writer._write_file"])
def test_a_failed_export_leaves_nothing(
    atlas: crp.ConceptAtlas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"crp_kit.{where}", full)
    with pytest.raises(AtlasError, match=f"cannot write {tmp_path}: the disk, or what you may use of it, is full"):
        export(atlas, tmp_path, k=3)
    assert not list(tmp_path.iterdir())
    with pytest.raises(AtlasError, match="cannot write .*new: the disk"):
        export(atlas, tmp_path / "new", k=3)
    assert not list(tmp_path.iterdir())


class Wide(Dataset[Any]):
    """The same samples, but some larger."""

    def __len__(self) -> int:
        return len(DATA)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        image, label = DATA[number]
        return (image if number % 2 else image.repeat(1, 2, 1)), label


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"layer": "layer9"}, UnknownLayerError, "has no layer 'layer9'"),
        ({"concept_ids": [32]}, ConceptRangeError, "concept 32 of 'layer2.1.conv2' is out of range"),
        ({"concept_ids": []}, InputError, "concepts are at least one number, each named once; got []"),
        ({"concept_ids": [3, 3]}, InputError, "got [3, 3]"),
        ({"k": 2}, InputError, "concept 24 of 'layer2.1.conv2' has 2 reference samples; an embedding needs 3"),
        ({"mode": "love"}, InputError, "mode is 'relevance' or 'activation'; got 'love'"),
        ({"conditioned_on": "layer"}, InputError, "conditioned_on is 'class' or 'prediction'; got 'layer'"),
        ({"dataset": ShapesDataset(41)}, AtlasError, "another dataset"),
        ({"dataset": Wide(), "check": False}, InputError, "ViRelAy shows images of one size; these differ"),
        ({"preprocess": lambda images: images[:, :, ::2, ::2], "check": False}, InputError, "in one size"),
        ({"attribution": crp.CondAttribution(demo_resnet(weights=False))}, AtlasError, "other weights"),
        ({"concepts": crp.NeuronConcept()}, AtlasError, "in the atlas a concept of 'layer2.1.conv2' is ChannelConcept"),
    ],
)
def test_what_cannot_be_exported_is_refused_and_leaves_nothing(
    atlas: crp.ConceptAtlas, tmp_path: Path, options: dict[str, Any], kind: type[CrpKitError], message: str
) -> None:
    with pytest.raises(kind) as caught:
        export(atlas, tmp_path / "project", **options)
    assert message in str(caught.value)
    assert not (tmp_path / "project").exists()


crp_kit = partial(invoke, "export", "virelay")


@pytest.mark.slow
def test_the_command_writes_what_the_library_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    named = ("--model", "demo:resnet", "--data", "demo:shapes:20")
    built = invoke("atlas", "build", *named, "--layers", LAYER, "--workers", 0, "-k", 5, "-o", "atlas.h5")
    assert built.exit_code == 0, built.output
    asked = ("atlas.h5", *named, "--layer", LAYER, "-k", 4, "-o", "project")
    result = crp_kit(*asked, "--concept", "24,3-4")
    assert result.exit_code == 0, (result.output, result.exception)
    assert result.stdout == "project/project.yaml\n"
    assert without_progress(result.stderr) == "open it with: virelay project/project.yaml\n"
    assert list(dict.fromkeys(arrays(Path("project/dataset.h5"))["concept"].tolist())) == [24, 3, 4]
    again = crp_kit(*asked)
    assert again.exit_code == 2
    assert again.stderr == (
        "crp-kit: error: project/label-map.json exists; --overwrite replaces it, or choose another name\n"
    )
    said = json.loads(crp_kit(*asked, "--top", 2, "--overwrite", "--json").stdout)
    assert sorted(said["files"]) == sorted(f"project/{one}" for one in FILES)


VIRELAY = os.environ.get("CRP_KIT_VIRELAY") or shutil.which("virelay")
"""The program, in an environment of its own: scripts/test_virelay makes one."""


@pytest.fixture
def served(project: Path) -> Iterator[Any]:
    """Ask ViRelAy, which has the project open: path to what it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(VIRELAY), str(project), "--host", "127.0.0.1", "--port", str(port)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": {**os.environ, "BROWSER": "true"}}

    def ask(path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/{path}", timeout=30) as answer:
            return bytes(answer.read())

    with subprocess.Popen(command, **quiet) as running:
        try:
            for _ in range(150):
                try:
                    ask("projects")
                    break
                except urllib.error.URLError:
                    assert running.poll() is None, "ViRelAy did not start"
                    time.sleep(0.2)
            yield ask
        finally:
            running.terminate()


@pytest.mark.skipif(not VIRELAY, reason="ViRelAy is not installed; scripts/test_virelay installs it and runs this")
def test_virelay_serves_the_project(served: Any) -> None:
    def ask(path: str) -> Any:
        return json.loads(served(path))

    assert ask("projects")[0]["name"] == 'A "project": ü'
    method = ask("projects/0")["analysisMethods"][0]
    assert {one["name"] for one in method["categories"]} == {"all", "concept-24", "concept-3"}
    assert method["embeddings"] == ["pca", "spectral"]
    assert {"class", "concept", "kmeans-3"} <= set(method["clusterings"])
    seen = set()
    for category in ("all", "concept-24", "concept-3"):
        for clustering, embedding in ((c, e) for c in method["clusterings"] for e in method["embeddings"]):
            asked = urllib.parse.urlencode({"category": category, "clustering": clustering, "embedding": embedding})
            analysis = ask(f"projects/0/analyses/{urllib.parse.quote(method['name'])}?{asked}")
            assert len(analysis["embedding"]) == (18 if category == "all" else 9)
            assert ("eigenvalues" in analysis) == (embedding == "spectral")
            seen |= {one["attributionIndex"] for one in analysis["embedding"]}
    assert seen == set(range(18))
    for row in (0, 17):
        sample, attribution = ask(f"projects/0/dataset/{row}"), ask(f"projects/0/attributions/{row}?imageMode=overlay")
        assert (sample["width"], sample["height"]) == (64, 64) == (attribution["width"], attribution["height"])
        assert sample["labels"] == attribution["labels"]
        assert sample["labels"][0]["name"] in ShapesDataset.classes
        assert len(attribution["prediction"]) == 8
        assert served(f"projects/0/dataset/{row}/image")[:3] == b"\xff\xd8\xff"
        for url in attribution["urls"].values():
            assert served(url.removeprefix("/api/").replace(" ", "%20"))[:3] == b"\xff\xd8\xff"
