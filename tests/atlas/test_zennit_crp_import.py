"""What zennit-crp wrote becomes an atlas: rankings re-sorted by our rule, nothing made up."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from processes import end_of_child
from studies import references_of
from torch import nn

import crp_kit as crp
from crp_kit.atlas import Origin
from crp_kit.atlas.build import import_zennit_crp as zennit_crp
from crp_kit.atlas.build.import_zennit_crp import import_zennit_crp
from crp_kit.errors import AtlasError

CONCEPTS, K = 3, 4
SAMPLES = np.array([[5, 1, 9], [3, 2, 8], [9, 3, 7], [1, 5, 1]])
SCORES = np.array([[0.5, 0.9, 0.3], [0.5, 0.8, 0.2], [0.1, 0.8, 0.2], [0.0, 0.1, 0.1]])


def write(folder: Path, stem: str, samples: Any, scores: Any) -> None:
    """Three arrays (k, concept), as zennit-crp writes them."""
    place = folder / stem
    place.parent.mkdir(parents=True, exist_ok=True)
    np.save(f"{place}_data.npy", np.array(samples, "i8"))
    np.save(f"{place}_rel.npy", np.array(scores, "f4"))
    np.save(f"{place}_rf.npy", np.array(samples, "i8") * 2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two layers, one called like a part of the other; rankings by class for the relevance of the first only."""
    made = tmp_path / "fv"
    for kind in ("Rel", "Act"):
        (made / f"{kind}Max_max_unnormed").mkdir(parents=True)  # made, never filled
        write(made / f"{kind}Max_sum_normed", "layer_1_2", SAMPLES, SCORES)
        write(made / f"{kind}Max_sum_normed", "layer_1_2_0_10", SAMPLES, SCORES)
        (made / f"{kind}Stats_sum_normed" / "layer_1_2_0_10").mkdir(parents=True)
        (made / f"{kind}Stats_sum_normed" / "layer_1_2").mkdir()
    stats = made / "RelStats_sum_normed"
    write(stats / "layer_1_2", "0", SAMPLES[2:], SCORES[:2])
    write(stats / "layer_1_2", "2", SAMPLES[:2], SCORES[:2])
    np.save(stats / "targets.npy", np.array(["0", "2"]))
    return made


def test_rankings_are_taken_over_with_ties_in_the_order_of_samples(folder: Path, tmp_path: Path) -> None:
    with import_zennit_crp(folder, tmp_path / "a.h5", origin=Origin(classes=("a", "b", "c"))) as atlas:
        assert atlas.complete
        assert atlas.layers == ("layer_1_2", "layer_1_2_0_10")
        layer = atlas["layer_1_2"]
        table = layer.relevance.top(0)
        assert table.sample.tolist() == [3, 5, 9, 1]
        assert table.score.tolist() == pytest.approx([0.5, 0.5, 0.1, 0.0])
        assert table.position.tolist() == [6, 10, 18, 2]
        assert layer.relevance.top(1).sample.tolist() == [1, 2, 3, 5]
        assert layer.relevance.class_top(2, "c").sample.tolist() == [9, 8]
        assert layer.relevance.class_top(2, "a").sample.tolist() == [7, 1]
        assert len(layer.relevance.class_top(2, "b")) == 0
        assert len(layer.activation.class_top(0, 0)) == 0
        assert layer.activation.top(0).sample.tolist() == [3, 5, 9, 1]
        assert (atlas.header.k, atlas.header.k_class, atlas.header.n_classes) == (K, 2, 3)
    assert crp.verify_atlas(tmp_path / "a.h5") == ()


def brute_force(folder: Path, scores: np.ndarray, labels: np.ndarray, k: int) -> dict[int | None, list[list[int]]]:
    """Write the rankings of scores (sample, concept) over all and by class; return their samples, sorted in Python."""
    best: dict[int | None, list[list[int]]] = {}
    for cls in (None, *range(labels.max() + 1)):
        mine = [one for one in range(len(labels)) if cls is None or labels[one] == cls]
        ranked = [sorted(mine, key=lambda one: (-scores[one, c], one))[:k] for c in range(scores.shape[1])]
        shuffled = np.random.default_rng(0).permutation(len(ranked[0]))  # equal scores come in any order
        rows = np.array(ranked).T[shuffled]
        place = folder / "RelMax_max_unnormed" if cls is None else folder / "RelStats_max_unnormed" / "fc"
        write(place, "fc" if cls is None else str(cls), rows, np.take_along_axis(scores, rows, 0))
        best[cls] = ranked
    np.save(folder / "RelStats_max_unnormed" / "targets.npy", np.arange(labels.max() + 1))
    return best


@pytest.mark.parametrize("memory", [zennit_crp._MEMORY, 0], ids=["memory", "files"])
def test_every_ranking_is_that_of_a_slow_sort(tmp_path: Path, memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zennit_crp, "_MEMORY", memory)
    rng = np.random.default_rng(1)
    scores, labels = rng.integers(-3, 4, (60, 5)).astype("f4"), rng.integers(0, 4, 60)
    best = brute_force(tmp_path / "fv", scores, labels, 40)
    with import_zennit_crp(tmp_path / "fv", tmp_path / "a.h5") as atlas:
        assert atlas.targets.tolist() == labels[atlas.samples].tolist()
        for concept in range(5):
            table = atlas["fc"].relevance.top(concept)
            assert best[None][concept] == table.sample.tolist()
            assert table.target.tolist() == labels[table.sample].tolist()
            for cls in range(4):
                one = atlas["fc"].relevance.class_top(concept, cls)
                assert best[cls][concept] == one.sample.tolist()
                assert one.score.tolist() == scores[one.sample, concept].tolist()
    assert crp.verify_atlas(tmp_path / "a.h5") == ()
    assert not (tmp_path / "a.h5.partial").exists()


def test_what_zennit_crp_does_not_keep_is_not_made_up(folder: Path, tmp_path: Path) -> None:
    with import_zennit_crp(folder, tmp_path / "a.h5") as atlas:
        moments = atlas["layer_1_2"].relevance.moments
        assert not moments.count.any()
        assert np.isnan(moments.mean).all()
        assert (atlas.predictions == -1).all()
        assert atlas.samples.tolist() == [1, 2, 3, 5, 7, 8, 9]
        assert atlas.header.n_samples == 7
        # 1, 3 and 9 stand in the rankings of both classes here, which says nothing certain of them.
        assert atlas.targets.tolist() == [-1, 2, -1, -1, 0, 2, -1]
        assert atlas.header.model == atlas.header.dataset == "unknown (imported from zennit-crp)"
        assert (atlas.header.model_sha256, atlas.header.dataset_sha256) == ("", "")
        assert atlas.identifiers is None


def test_words_of_the_caller_are_kept(folder: Path, tmp_path: Path) -> None:
    origin = Origin("resnet", "birds", "mine", ("a", "b", "c", "d"))
    with import_zennit_crp(folder, tmp_path / "a.h5", origin=origin) as atlas:
        assert (atlas.header.model, atlas.header.dataset, atlas.metadata["command"]) == ("resnet", "birds", "mine")
        assert atlas.classes == ("a", "b", "c", "d")
        assert len(atlas["layer_1_2"].relevance.class_top(0, "d")) == 0
    with pytest.raises(AtlasError, match="names of 2 classes, and rankings of class 2"):
        import_zennit_crp(folder, tmp_path / "b.h5", origin=Origin(classes=("a", "b")))


@pytest.mark.parametrize(("gone", "left"), [("Rel", "activation"), ("Act", "relevance")])
def test_relevance_or_activation_alone_is_enough(folder: Path, tmp_path: Path, gone: str, left: str) -> None:
    for name in ("Max_sum_normed", "Max_max_unnormed", "Stats_sum_normed"):
        (folder / f"{gone}{name}").rename(tmp_path / f"{gone}{name}")
    with import_zennit_crp(folder, tmp_path / "a.h5") as atlas:
        for kind in ("relevance", "activation"):
            assert len(atlas["layer_1_2"].score(kind).top(0)) == (K if kind == left else 0)
    with h5py.File(tmp_path / "a.h5") as file:
        empty = file[f"layers/0/{'relevance' if left == 'activation' else 'activation'}/top"]
        assert (empty["sample"][()] == -1).all()
        assert np.isnan(empty["score"][()]).all()
    assert crp.verify_atlas(tmp_path / "a.h5") == ()


def test_of_several_kinds_one_is_chosen(folder: Path, tmp_path: Path) -> None:
    write(folder / "RelMax_max_unnormed", "fc", SAMPLES, SCORES)
    write(folder / "ActMax_sum_unnormed", "fc", SAMPLES, SCORES)
    several = "has max_unnormed, sum_normed, sum_unnormed: choose one by aggregate .* and abs_norm"
    for wrong in ({}, {"aggregate": "sum"}, {"abs_norm": False}, {"aggregate": "max", "abs_norm": True}):
        with pytest.raises(AtlasError, match=several):
            import_zennit_crp(folder, tmp_path / "a.h5", **wrong)  # type: ignore[arg-type]
    for aggregate, abs_norm, layers in (("max", None, 1), (None, True, 2), ("sum", False, 1)):
        with import_zennit_crp(
            folder, tmp_path / "a.h5", aggregate=aggregate, abs_norm=abs_norm, overwrite=True
        ) as atlas:
            assert len(atlas.layers) == layers
            assert atlas.header.aggregate == (aggregate or "sum")
            assert atlas.header.abs_norm == bool(abs_norm)


def test_parts_that_an_interrupted_run_has_left_are_no_layers(folder: Path, tmp_path: Path) -> None:
    for kind in ("Rel", "Act"):
        write(folder / f"{kind}Max_sum_normed", "layer_1_2_1_10", SAMPLES, SCORES + 1)
        write(folder / f"{kind}Stats_sum_normed" / "layer_1_2", "0_0_100", SAMPLES, SCORES + 1)
        write(folder / f"{kind}Stats_sum_normed" / "layer_1_2", "7", SAMPLES, SCORES + 1)  # of an earlier run
    with import_zennit_crp(folder, tmp_path / "a.h5") as atlas:
        assert atlas.layers == ("layer_1_2", "layer_1_2_0_10")
        assert atlas.header.n_classes == 3
        assert atlas["layer_1_2"].relevance.top(0).score.max() == pytest.approx(0.5)


def test_without_rankings_by_class_the_samples_tell_a_part_from_a_layer(tmp_path: Path) -> None:
    folder = tmp_path / "fv"
    write(folder / "RelMax_sum_normed", "conv_1", SAMPLES, SCORES)
    write(folder / "RelMax_sum_normed", "conv_1_1_10", SAMPLES, SCORES)
    write(folder / "RelMax_sum_normed", "conv_1_2_3", SAMPLES, SCORES)
    with import_zennit_crp(folder, tmp_path / "a.h5") as atlas:
        assert atlas.layers == ("conv_1", "conv_1_2_3")
        assert atlas.header.n_classes == 0
        assert atlas.header.target == "unknown"
    assert crp.verify_atlas(tmp_path / "a.h5") == ()


def test_a_layer_of_which_there_are_only_parts_is_left_out_with_a_warning(folder: Path, tmp_path: Path) -> None:
    write(folder / "ActMax_sum_normed", "fc_0_100", SAMPLES, SCORES)
    with pytest.warns(crp.CrpKitWarning, match="left out activation of fc: an interrupted run has left only parts"):
        atlas = import_zennit_crp(folder, tmp_path / "a.h5")
    with atlas:
        assert atlas.layers == ("layer_1_2", "layer_1_2_0_10")


def test_a_run_that_was_never_finished_is_refused(tmp_path: Path) -> None:
    for kind in ("Rel", "Act"):
        for part in ("0_5", "5_10"):
            write(tmp_path / "fv" / f"{kind}Max_sum_normed", f"fc_0_{part}", SAMPLES, SCORES)
            write(tmp_path / "fv" / f"{kind}Stats_sum_normed" / "fc_0", f"0_{part}", SAMPLES, SCORES)
    with pytest.raises(AtlasError, match="_sum_normed in .* hold only parts that an interrupted run has left"):
        import_zennit_crp(tmp_path / "fv", tmp_path / "a.h5")
    assert list(tmp_path.iterdir()) == [tmp_path / "fv"]


def test_layers_stand_in_the_order_of_the_numbers_in_their_names(tmp_path: Path) -> None:
    for name in ("features.10", "features.2", "classifier.0"):
        write(tmp_path / "fv" / "ActMax_sum_normed", name, SAMPLES, SCORES)
    with import_zennit_crp(tmp_path / "fv", tmp_path / "a.h5") as atlas:
        assert atlas.layers == ("classifier.0", "features.2", "features.10")


def test_a_sample_with_several_targets_keeps_its_best_place(tmp_path: Path) -> None:
    folder = tmp_path / "fv"
    scores = [[0.9, 0.8], [0.9, 0.1], [0.7, 0.5], [0.1, 0.5]]
    write(folder / "RelMax_sum_normed", "fc", [[4, 1], [4, 2], [2, 2], [4, 2]], scores)
    with import_zennit_crp(folder, tmp_path / "a.h5") as atlas:
        assert atlas["fc"].relevance.top(0).sample.tolist() == [4, 2]
        assert atlas["fc"].relevance.top(0).score.tolist() == pytest.approx([0.9, 0.7])
        assert atlas["fc"].relevance.top(1).sample.tolist() == [1, 2]
        assert atlas["fc"].relevance.top(1).score.tolist() == pytest.approx([0.8, 0.5])
    assert crp.verify_atlas(tmp_path / "a.h5") == ()


def test_references_are_shown_when_model_and_data_are_trusted(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, CONCEPTS, 3), nn.ReLU(), nn.Flatten(), nn.Linear(CONCEPTS * 4, 2)).eval()
    data, attribution = [(torch.rand(3, 4, 4), 0) for _ in range(10)], crp.CondAttribution(model)
    write(tmp_path / "fv" / "RelMax_sum_normed", "0", SAMPLES % 2, SCORES)
    write(tmp_path / "fv" / "RelStats_sum_normed" / "0", "1", SAMPLES % 2, SCORES)
    np.save(tmp_path / "fv" / "RelStats_sum_normed" / "targets.npy", np.array(["1"]))
    with import_zennit_crp(tmp_path / "fv", tmp_path / "a.h5") as atlas:
        options: dict[str, Any] = {"attribution": attribution, "composite": "epsilon_plus_flat", "k": 1}
        with pytest.raises(AtlasError, match="does not say what model and dataset .*; check=False trusts yours"):
            references_of(atlas, data, "0", 2, **options)
        found = references_of(atlas, data, "0", 2, check=False, **options)
    sample = int(found.table.sample[0])
    expected = attribution(data[sample][0][None], [{"0": [2], "y": [1]}], "epsilon_plus_flat").heatmap[0]
    assert found.heatmaps[0].equal(expected)


def test_nothing_is_replaced_unless_asked(folder: Path, tmp_path: Path) -> None:
    import_zennit_crp(folder, tmp_path / "a.h5").close()
    with pytest.raises(AtlasError, match="exists; overwrite replaces it"):
        import_zennit_crp(folder, tmp_path / "a.h5")
    import_zennit_crp(folder, tmp_path / "a.h5", overwrite=True).close()


def damage(folder: Path, how: str) -> None:
    tops, stats = folder / "RelMax_sum_normed" / "layer_1_2", folder / "RelStats_sum_normed"
    rel, data = Path(f"{tops}_rel.npy"), Path(f"{tops}_data.npy")
    if how in ("no rel", "no data"):
        (rel if how == "no rel" else data).unlink()
    elif how == "no rf by class":
        (stats / "layer_1_2" / "2_rf.npy").unlink()
    elif how == "shape":
        np.save(rel, np.zeros((2, CONCEPTS), "f4"))
    elif how == "axes":
        for part in ("data", "rel", "rf"):
            np.save(f"{tops}_{part}.npy", np.zeros(3))
    elif how == "empty":
        write(tops.parent, tops.name, np.zeros((0, CONCEPTS)), np.zeros((0, CONCEPTS)))
    elif how == "concepts":
        write(stats / "layer_1_2", "2", SAMPLES[:, :2], SCORES[:, :2])
    elif how in ("nan", "inf"):
        np.save(rel, np.full((K, CONCEPTS), float(how), "f4"))
    elif how == "floats":
        np.save(data, SAMPLES.astype("f4"))
    elif how == "negative":
        np.save(data, -SAMPLES)
    elif how == "targets":
        np.save(stats / "targets.npy", np.array(["cat"]))
    else:
        rel.write_bytes(b"no array")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no rel", "layer_1_2_rel.npy is missing or no array"),
        ("no data", "layer_1_2_data.npy is missing or no array"),
        ("no rf by class", "layer_1_2/2_rf.npy is missing or no array"),
        ("bytes", "layer_1_2_rel.npy is missing or no array"),
        ("shape", r"the arrays .*layer_1_2_….npy should all be \(k, concept\); they are \[\(2, 3\), \(4, 3\)\]"),
        ("axes", r"the arrays .*layer_1_2_….npy should all be \(k, concept\); they are \[\(3,\)\]"),
        ("empty", r"the arrays .*layer_1_2_….npy should all be \(k, concept\); they are \[\(0, 3\)\]"),
        ("concepts", "layer_1_2/2_….npy have 2 concepts, other arrays of 'layer_1_2' 3"),
        ("nan", "the scores .*layer_1_2_rel.npy have values that are not-a-number or infinite"),
        ("inf", "the scores .*layer_1_2_rel.npy have values that are not-a-number or infinite"),
        ("floats", r"the arrays .*layer_1_2_….npy should hold floats \(rel\) and whole numbers \(data, rf\)"),
        ("negative", "the arrays .*layer_1_2_….npy have sample numbers or positions below 0"),
        ("targets", "targets.npy should hold the numbers of classes"),
    ],
)
def test_damage_is_said(folder: Path, tmp_path: Path, how: str, message: str) -> None:
    damage(folder, how)
    with pytest.raises(AtlasError, match=message):
        import_zennit_crp(folder, tmp_path / "a.h5")
    assert list(tmp_path.iterdir()) == [folder]


def test_an_array_that_says_it_is_larger_than_its_file_is_refused(folder: Path, tmp_path: Path) -> None:
    with (folder / "RelMax_sum_normed" / "layer_1_2_data.npy").open("wb") as file:
        header = {"descr": "<i8", "fortran_order": False, "shape": (10**9, 10**6)}
        np.lib.format.write_array_header_1_0(file, header)
    with pytest.raises(AtlasError, match=r"layer_1_2_data.npy is missing or no array"):
        import_zennit_crp(folder, tmp_path / "a.h5")


def test_a_folder_that_is_none_of_zennit_crp_is_said(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(AtlasError, match="no folder '.*no'"):
        import_zennit_crp(tmp_path / "no", tmp_path / "a.h5")
    said = "has no folder RelMax_… or ActMax_… with arrays of zennit-crp in it; name"
    for wrong in (tmp_path, folder / "RelMax_sum_normed"):
        with pytest.raises(AtlasError, match=said):
            import_zennit_crp(wrong, tmp_path / "a.h5")


def test_sigterm_ends_an_import_and_leaves_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = zennit_crp._state

    def disturbed(*arguments: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return state(*arguments)

    monkeypatch.setattr(zennit_crp, "_state", disturbed)
    with pytest.raises(SystemExit) as caught:
        import_zennit_crp(folder, tmp_path / "a.h5")
    assert caught.value.code == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == [folder]


def test_a_second_sigterm_leaves_nothing_either(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zennit_crp, "_state", lambda *_: [signal.raise_signal(signal.SIGTERM) for _ in range(2)])
    assert end_of_child(lambda: import_zennit_crp(folder, tmp_path / "a.h5", verbose=False)) == -signal.SIGTERM
    assert list(tmp_path.iterdir()) == [folder]


def test_it_says_how_far_it_is_unless_asked_not_to(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import_zennit_crp(folder, tmp_path / "a.h5", verbose=False).close()
    assert capsys.readouterr().err == ""
    import_zennit_crp(folder, tmp_path / "b.h5").close()
    first, last = capsys.readouterr().err.splitlines()
    assert first == "import: 0 of 4 rankings"
    assert last.startswith("import: 4 of 4 rankings after ")
