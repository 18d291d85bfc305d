"""What zennit-crp wrote becomes an atlas: rankings re-sorted by our rule, nothing made up."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import crp_kit as crp
from crp_kit.atlas import Origin
from crp_kit.atlas.zennit_crp import import_zennit_crp

CONCEPTS, K = 3, 4


def write(folder: Path, stem: str, samples: Any, scores: Any) -> None:
    """Three arrays (k, concept), as zennit-crp writes them."""
    place = folder / stem
    place.parent.mkdir(parents=True, exist_ok=True)
    np.save(f"{place}_data.npy", np.array(samples, "i8"))
    np.save(f"{place}_rel.npy", np.array(scores, "f4"))
    np.save(f"{place}_rf.npy", np.array(samples, "i8") * 2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "fv"
    samples = np.array([[5, 1, 9], [3, 2, 8], [9, 3, 7], [1, 5, 1]])
    scores = np.array([[0.5, 0.9, 0.3], [0.5, 0.8, 0.2], [0.1, 0.8, 0.2], [0.0, 0.1, 0.1]])
    for kind in ("RelMax", "ActMax"):
        write(made / f"{kind}_sum_normed", "layer_1_2", samples, scores)
    write(made / "RelMax_sum_normed", "layer_1_2_0_100", samples, scores)  # left by an interrupted run
    for cls in (0, 2):
        write(made / "RelStats_sum_normed" / "layer_1_2", str(cls), samples[:2] if cls else samples[2:], scores[:2])
    np.save(made / "RelStats_sum_normed" / "layer_1_2" / "targets.npy", np.array([0, 2]))
    return made


def test_rankings_are_taken_over_with_ties_in_the_order_of_samples(folder: Path, tmp_path: Path) -> None:
    with import_zennit_crp(folder, tmp_path / "a.h5", origin=Origin(classes=("a", "b", "c"))) as atlas:
        assert atlas.layers == ("layer_1_2",)
        layer = atlas["layer_1_2"]
        table = layer.relevance.top(0)
        assert table.sample.tolist() == [3, 5, 9, 1]
        assert table.score.tolist() == pytest.approx([0.5, 0.5, 0.1, 0.0])
        assert table.position.tolist() == [6, 10, 18, 2]
        assert layer.relevance.top(1).sample.tolist() == [1, 2, 3, 5]
        assert layer.relevance.class_top(2, "c").sample.tolist() == [9, 8]
        assert len(layer.relevance.class_top(2, "b")) == 0
        assert len(layer.activation.class_top(0, 0)) == 0
        assert layer.activation.top(0).sample.tolist() == [3, 5, 9, 1]
        assert atlas.header.k == K
        assert atlas.header.k_class == 2
    assert crp.verify_atlas(tmp_path / "a.h5") == ()


def test_what_zennit_crp_does_not_keep_is_not_made_up(folder: Path, tmp_path: Path) -> None:
    with import_zennit_crp(folder, tmp_path / "a.h5") as atlas:
        moments = atlas["layer_1_2"].relevance.moments
        assert not moments.count.any()
        assert np.isnan(moments.mean).all()
        assert (atlas.predictions == -1).all()
        assert atlas.samples.tolist() == [1, 2, 3, 5, 7, 8, 9]
        assert "unknown" in atlas.header.model


def test_activation_alone_is_enough(folder: Path, tmp_path: Path) -> None:
    for name in ("RelMax_sum_normed", "RelStats_sum_normed"):
        (folder / name).rename(tmp_path / name)
    with import_zennit_crp(folder, tmp_path / "a.h5") as atlas:
        assert len(atlas["layer_1_2"].relevance.top(0)) == 0
        assert len(atlas["layer_1_2"].activation.top(0)) == K
    assert crp.verify_atlas(tmp_path / "a.h5") == ()


def test_of_several_kinds_one_is_chosen(folder: Path, tmp_path: Path) -> None:
    (folder / "RelMax_max_unnormed").mkdir()
    with pytest.raises(crp.CrpKitError, match="has max_unnormed, sum_normed: choose one by aggregate"):
        import_zennit_crp(folder, tmp_path / "a.h5")
    with import_zennit_crp(folder, tmp_path / "a.h5", aggregate="sum") as atlas:
        assert atlas.header.aggregate == "sum"
        assert atlas.header.abs_norm
    with pytest.raises(crp.CrpKitError, match="hold no rankings, no file …_data.npy"):
        import_zennit_crp(folder, tmp_path / "b.h5", abs_norm=False)


def damaged(folder: Path, how: str) -> None:
    file = folder / "RelMax_sum_normed" / "layer_1_2_rel.npy"
    if how == "missing":
        file.unlink()
    elif how == "shape":
        np.save(file, np.zeros((2, CONCEPTS), "f4"))
    elif how == "nan":
        np.save(file, np.full((K, CONCEPTS), np.nan, "f4"))
    else:
        file.write_bytes(b"no array")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("missing", "layer_1_2_rel.npy is missing or no array"),
        ("bytes", "layer_1_2_rel.npy is missing or no array"),
        ("shape", r"the arrays of 'layer_1_2' at .* should all be \(k, concept\)"),
        ("nan", "the scores of 'layer_1_2' at .* have values that are not-a-number"),
    ],
)
def test_damage_is_said(folder: Path, tmp_path: Path, how: str, message: str) -> None:
    damaged(folder, how)
    with pytest.raises(crp.CrpKitError, match=message):
        import_zennit_crp(folder, tmp_path / "a.h5")
    assert not (tmp_path / "a.h5").exists()


def test_a_folder_that_is_none_of_zennit_crp_is_said(tmp_path: Path) -> None:
    with pytest.raises(crp.CrpKitError, match="no folder"):
        import_zennit_crp(tmp_path / "no", tmp_path / "a.h5")
    with pytest.raises(crp.CrpKitError, match="has no folder RelMax_… or ActMax_… of zennit-crp in it"):
        import_zennit_crp(tmp_path, tmp_path / "a.h5")
