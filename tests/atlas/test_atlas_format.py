"""Files of every released format are read, with and without crp-kit, by every later version."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from studies import atlas_of

import crp_kit as crp
from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet

ARCHIVE = sorted((Path(__file__).parents[1] / "data").glob("atlas-format-*.h5"))
LAYER = "layer2.1.conv2"


def test_there_is_a_file_of_the_current_format() -> None:
    assert [one.stem for one in ARCHIVE] == ["atlas-format-1"]


@pytest.mark.parametrize("path", ARCHIVE, ids=lambda path: path.stem)
class TestArchive:
    def test_is_sound_and_answers(self, path: Path) -> None:
        assert crp.verify_atlas(path) == ()
        with crp.ConceptAtlas(path) as atlas:
            assert atlas.layers == (LAYER,)
            assert atlas.header.n_samples == len(atlas.samples) == 24
            assert len(atlas[LAYER].relevance.top(3)) == 5
            assert atlas[LAYER].relevance.class_top(3, 0).target.tolist() == [0, 0]
            assert atlas.classes == ShapesDataset.classes

    def test_has_what_is_computed_today(self, path: Path, tmp_path: Path) -> None:
        data, attribution = ShapesDataset(24, split="test"), crp.CondAttribution(demo_resnet())
        options = {"k": 5, "k_class": 2, "matrix": True, "verbose": False}
        atlas_of(
            attribution, data, tmp_path / "a.h5", layers=[LAYER], composite="epsilon_plus_flat",
            preprocess=demo_preprocess, **options,
        ).close()  # fmt: skip
        with crp.ConceptAtlas(path) as old, crp.ConceptAtlas(tmp_path / "a.h5") as new:
            for kind in ("relevance", "activation"):
                before, now = (np.asarray(one[LAYER].score(kind).matrix) for one in (old, new))
                np.testing.assert_allclose(now, before, rtol=1e-3, atol=1e-5)
            assert old.header.model_sha256 == new.header.model_sha256
            assert old.header.dataset_sha256 == new.header.dataset_sha256

    def test_is_plain_hdf5_as_the_format_says(self, path: Path) -> None:
        with h5py.File(path) as file:
            assert file.attrs["encoding-type"] == "crp-kit-atlas"
            assert file.attrs["encoding-version"] == "1"
            assert bool(file.attrs["complete"])
            assert file["classes/name"].asstr()[0] == ShapesDataset.classes[0]
            assert file["layers/0"].attrs["name"] == LAYER
            for kind in ("relevance", "activation"):
                half = file[f"layers/0/{kind}"]
                assert {name: half[f"top/{name}"].dtype.str for name in ("score", "sample", "position")} == {
                    "score": "<f4",
                    "sample": "<i8",
                    "position": "<i4",
                }
                assert half["top/score"].shape == (32, 5)
                assert half["class_top/score"].shape == (32, 8, 2)
                assert half["moments/count"].shape == (8,)
                assert half["moments/mean"].shape == (8, 32)
                assert half["matrix"].shape == (24, 32)
            missing = []
            file.visititems(lambda name, item: "encoding-type" in item.attrs or missing.append(name))
            assert not [name for name in missing if isinstance(file[name], h5py.Group)]
