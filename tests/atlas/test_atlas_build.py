"""Building an atlas: equal to brute force, the same bits however the work was divided."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from atlas_case import COMPOSITE, LAYERS, SAMPLES, Array, Labelled, build, datasets, same_bits
from oracles.atlas import LayerAtlas, Ranking, Summary, reference_atlas, residual_canonizer
from sklearn.datasets import load_digits
from torch import nn
from zennit.composites import EpsilonPlus, EpsilonPlusFlat

import crp_kit as crp
from crp_kit.atlas.build import scores as collect
from crp_kit.atlas.statistics import table as statistics_table
from crp_kit.data import demo_preprocess, demo_resnet
from crp_kit.propagation.run import Run


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An atlas that one process has built without interruption, with everything that it can hold."""
    path = tmp_path_factory.mktemp("atlas") / "whole.h5"
    build(path, matrix=True).close()
    return path


# ---------------------------------------------------------------------------------------------------- brute force


def check_ranking(fast: dict[str, Array], slow: Ranking, tolerance: float) -> None:
    """Compare rankings; where two scores lie closer together than the tolerance, either order is right."""
    np.testing.assert_allclose(fast["score"], slow.score, rtol=0, atol=tolerance)
    clear = np.nan_to_num(slow.gap, nan=np.inf) > tolerance
    clear[..., 1:] &= clear[..., :-1].copy()
    assert clear.mean() > 0.7
    np.testing.assert_array_equal(fast["sample"][clear], slow.sample[clear])
    np.testing.assert_array_equal(fast["position"][clear], slow.position[clear])
    if "target" in fast:
        np.testing.assert_array_equal(fast["target"][clear], slow.target[clear])


def check_half(file: h5py.File, base: str, slow: Summary, tolerance: float) -> None:
    for name, ranking in (("top", slow.top), ("class_top", slow.class_top)):
        check_ranking({one: file[f"{base}/{name}/{one}"][()] for one in file[f"{base}/{name}"]}, ranking, tolerance)
    np.testing.assert_array_equal(file[f"{base}/moments/count"][()], slow.moments.count)
    for name in ("mean", "std", "min", "max"):
        np.testing.assert_allclose(
            file[f"{base}/moments/{name}"][()], getattr(slow.moments, name), rtol=0, atol=tolerance, err_msg=name
        )


def check_against_brute_force(path: Path, layers: Sequence[str], slow: dict[str, LayerAtlas]) -> None:
    with h5py.File(path) as file:
        for number, name in enumerate(layers):
            assert file[f"/layers/{number}"].attrs["name"] == name
            for kind in ("relevance", "activation"):
                summary: Summary = getattr(slow[name], kind)
                largest = float(np.nanmax(np.abs(summary.top.score)))
                check_half(file, f"/layers/{number}/{kind}", summary, 1e-6 * largest)


LABELS = {
    "one each": None,
    "several or none": [[n % 8, (3 * n + 1) % 8] if n % 3 else [] if n % 2 else [n % 8] for n in range(SAMPLES)],
}


@pytest.mark.parametrize(
    ("labels", "aggregate", "abs_norm"),
    [("several or none", "sum", False), pytest.param("one each", "sum", True, marks=pytest.mark.slow),
     pytest.param("one each", "max", False, marks=pytest.mark.slow),
     pytest.param("several or none", "max", True, marks=pytest.mark.slow)],
)  # fmt: skip
def test_rankings_positions_and_moments_equal_brute_force(
    tmp_path: Path, labels: str, aggregate: Any, abs_norm: bool
) -> None:
    data = Labelled(SAMPLES, LABELS[labels], dtype=torch.float64)
    several = [[one] if isinstance(one, int) else list(dict.fromkeys(one)) for one in data.labels]
    slow = reference_atlas(
        demo_resnet(),
        [(demo_preprocess(image), ids) for image, ids in zip(data.images, several, strict=True)],
        LAYERS,
        EpsilonPlusFlat(canonizers=[residual_canonizer()]),
        n_classes=8,
        k=6,
        k_class=3,
        aggregate=aggregate,
        abs_norm=abs_norm,
        canonized_activation=False,
    )
    build(
        tmp_path / "atlas.h5",
        data,
        model=demo_resnet().double(),
        k=6,
        k_class=3,
        aggregate=aggregate,
        abs_norm=abs_norm,
    ).close()
    check_against_brute_force(tmp_path / "atlas.h5", LAYERS, slow)
    assert crp.verify_atlas(tmp_path / "atlas.h5") == ()


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 12, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(48, 10),
    )  # fmt: skip


def trained(images: torch.Tensor, labels: torch.Tensor) -> nn.Module:
    """A network that reads most of the digits, after some seconds."""
    model = small_network()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    with torch.no_grad():
        assert float((model(images).argmax(1) == labels).float().mean()) > 0.9
    return model.eval()


@pytest.mark.slow
def test_digits_equal_brute_force(tmp_path: Path) -> None:
    digits = load_digits()
    images = torch.from_numpy(digits.images)[:, None] / 16
    labels = torch.from_numpy(digits.target)
    model = trained(images.float()[:1000], labels[:1000]).double()
    some = [(image, int(label)) for image, label in zip(images[1000:1100], labels[1000:1100], strict=True)]
    layers = ["0", "3"]
    slow = reference_atlas(
        model, [(image, [label]) for image, label in some], layers, EpsilonPlus(), n_classes=10, k=10, k_class=4,
        abs_norm=True,
    )  # fmt: skip
    build(
        tmp_path / "atlas.h5",
        some,
        model=model,
        layers=layers,
        composite=EpsilonPlus(),
        preprocess=None,
        k=10,
        k_class=4,
    ).close()
    check_against_brute_force(tmp_path / "atlas.h5", layers, slow)


@pytest.mark.slow
def test_targets_by_probability_are_those_of_the_definition(tmp_path: Path) -> None:
    data = Labelled(SAMPLES)
    with torch.no_grad():
        probability = demo_resnet()(demo_preprocess(data.images)).softmax(1)
    expected = (probability > 1e-6).sum(0)
    with build(tmp_path / "a.h5", data, target="top:1e-6") as atlas:
        assert atlas[LAYERS[0]].relevance.moments.count.tolist() == expected.tolist()
        assert atlas.targets.tolist() == probability.argmax(1).tolist()
    with build(tmp_path / "b.h5", data, target="top:1e-6:1") as atlas:
        assert atlas[LAYERS[0]].relevance.moments.count.sum() == SAMPLES


def several_targets(output: torch.Tensor, label: tuple[int, ...] | None) -> list[int]:
    """None for some samples, and up to three."""
    assert label is not None
    return [(label[0] + step) % 8 for step in range(label[0] % 4)]


@pytest.mark.slow
def test_overall_statistics_of_activation_count_each_sample_once(tmp_path: Path) -> None:
    """Those of relevance count each target of each sample; against every score and every run."""
    labels = [(number * 3) % 8 for number in range(SAMPLES)]
    data = Labelled(SAMPLES, labels)
    with build(tmp_path / "a.h5", data, target=several_targets, matrix=True) as atlas:
        assert (np.bincount([label % 4 for label in labels]) > 0).all()
        for layer in LAYERS:
            scores = np.asarray(atlas[layer].activation.matrix[:], "f8")
            assert scores.shape[0] == SAMPLES
            found = atlas[layer].activation.statistics()
            for name in ("mean", "std", "min", "max"):
                expected = getattr(scores, name)(0)
                np.testing.assert_allclose(getattr(found, name), expected, rtol=1e-5, atol=1e-6, err_msg=name)
            chosen = [several_targets(torch.zeros(8), (label,)) for label in labels]
            runs = [(image, cls) for image, ids in zip(data.images, chosen, strict=True) for cls in ids]
            attr = crp.CondAttribution(demo_resnet())(
                demo_preprocess(torch.stack([image for image, _ in runs])),
                [{"y": [cls]} for _, cls in runs], COMPOSITE,
                record_layer=[layer], pairing="zip",
            )  # fmt: skip
            shares = crp.ChannelConcept().attribute(attr.relevances[layer]).double().numpy()
            np.testing.assert_allclose(atlas[layer].relevance.statistics().mean, shares.mean(0), rtol=1e-3, atol=1e-5)
    assert not crp.verify_atlas(tmp_path / "a.h5")


@pytest.mark.slow
def test_overall_statistics_have_the_same_bits_in_shards(tmp_path: Path) -> None:
    data = Labelled(SAMPLES, [(number * 3) % 8 for number in range(SAMPLES)])
    build(tmp_path / "whole.h5", data, target=several_targets).close()
    paths = [tmp_path / f"{number}.h5" for number in range(3)]
    for number, path in enumerate(paths):
        build(path, data, target=several_targets, shard=(number, 3)).close()
    crp.merge_atlases(paths, tmp_path / "merged.h5").close()
    assert same_bits(tmp_path / "whole.h5", tmp_path / "merged.h5")
    assert not crp.verify_atlas(tmp_path / "merged.h5")


@pytest.mark.slow
def test_shards_of_an_older_version_merge_without_overall_moments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / f"{number}.h5" for number in range(2)]
    with monkeypatch.context() as older:
        older.delitem(statistics_table._STATISTICS, "overall")
        build(paths[0], shard=(0, 2)).close()
    build(paths[1], shard=(1, 2)).close()
    crp.merge_atlases(paths, tmp_path / "merged.h5").close()
    assert not crp.verify_atlas(tmp_path / "merged.h5")
    with build(tmp_path / "whole.h5") as whole, crp.ConceptAtlas(tmp_path / "merged.h5") as merged:
        for layer in LAYERS:
            found, expected = (one[layer].activation.statistics() for one in (merged, whole))
            np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-5)
            np.testing.assert_allclose(found.std, expected.std, rtol=1e-4)
    assert not any("overall" in name for name in datasets(tmp_path / "merged.h5"))


@pytest.mark.slow
def test_a_function_chooses_the_targets(tmp_path: Path) -> None:
    def least_likely(output: torch.Tensor, label: tuple[int, ...] | None) -> list[int]:
        assert label is not None
        return [int(output.argmin())]

    data = Labelled(SAMPLES)
    with torch.no_grad():
        expected = demo_resnet()(demo_preprocess(data.images)).argmin(1)
    with build(tmp_path / "a.h5", data, target=least_likely) as atlas:
        assert atlas.targets.tolist() == expected.tolist()


# --------------------------------------------------------------------------------------------------- same bits


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{"num_workers": 2}, {"max_memory": 0}, {"checkpoint": 0.0}], ids=["workers", "on disk", "checkpoints"]
)
def test_the_same_bits_for(tmp_path: Path, whole: Path, options: dict[str, Any]) -> None:
    build(tmp_path / "a.h5", matrix=True, **options).close()
    assert same_bits(tmp_path / "a.h5", whole)
    assert [one.name for one in tmp_path.iterdir()] == ["a.h5"]


@pytest.mark.examples
@pytest.mark.slow
@pytest.mark.parametrize("shards", [2, 3, 4])
def test_the_same_bits_from_shards_merged_in_any_order(tmp_path: Path, whole: Path, shards: int) -> None:
    parts = [tmp_path / f"{number}.h5" for number in range(shards)]
    for number, part in enumerate(parts):
        shard: Any = (number, shards) if number else f"0/{shards}"
        build(part, shard=shard, matrix=True).close()
        assert crp.verify_atlas(part) == ()
    for name, order in (("a.h5", parts[::-1]), ("b.h5", [*parts[1:], parts[0]])):
        crp.merge_atlases(order, tmp_path / name, max_memory=0 if name == "b.h5" else 1 << 30).close()
        assert same_bits(tmp_path / name, whole)


@pytest.mark.slow
def test_another_batch_size_changes_last_bits_only(tmp_path: Path, whole: Path) -> None:
    build(tmp_path / "a.h5", matrix=True, batch_size=7).close()
    one, two = datasets(whole), datasets(tmp_path / "a.h5")
    for name, values in one.items():
        if values.dtype.kind == "f":
            np.testing.assert_allclose(two[name], values, rtol=1e-4, atol=1e-6, err_msg=name)
    assert (one["layers/0/relevance/top/sample"] == two["layers/0/relevance/top/sample"]).mean() > 0.99


@pytest.mark.slow
@pytest.mark.parametrize("target", ["label", "prediction", "top:1e-6"])
def test_batches_of_large_maps_go_through_the_model_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    """The numbers are those of batches as small as the parts."""
    sizes: list[int] = []
    observe, rows_at_once = collect.observe, Run.rows_at_once.fget

    def observed(run: Run, *more: Any, **named: Any) -> Any:
        sizes.append(run.graph.batch)
        return observe(run, *more, **named)

    monkeypatch.setattr(Run, "rows_at_once", property(lambda run: 2 if run.graph.batch == 1 else rows_at_once(run)))
    build(tmp_path / "small.h5", matrix=True, batch_size=4, target=target).close()
    monkeypatch.setattr(collect, "observe", observed)
    build(tmp_path / "parts.h5", matrix=True, batch_size=12, target=target).close()
    assert sizes == [4] * (SAMPLES // 4) + [SAMPLES % 4] * bool(SAMPLES % 4)
    assert same_bits(tmp_path / "small.h5", tmp_path / "parts.h5")


class Stops(Labelled):
    """Fails at one sample, as often as it is asked."""

    def __init__(self, count: int, at: int) -> None:
        super().__init__(count)
        self.at: int | None = at

    def __getitem__(self, number: int) -> tuple[torch.Tensor, Any]:
        if number == self.at:
            raise OSError("the network drive is away")
        return super().__getitem__(number)


@pytest.mark.slow
def test_an_error_keeps_what_was_done_and_a_resumed_build_gives_the_same_bits(tmp_path: Path, whole: Path) -> None:
    data = Stops(SAMPLES, at=30)
    with pytest.raises(crp.CrpKitError, match="sample 30 cannot be used: OSError: the network drive is away; skip"):
        build(tmp_path / "a.h5", data, matrix=True)
    assert not (tmp_path / "a.h5").exists()
    with crp.ConceptAtlas(tmp_path / "a.h5.partial" / "checkpoint.h5", incomplete=True) as atlas:
        assert not atlas.complete
        assert "batches 0 to 2 of 4" in repr(atlas)
    assert crp.verify_atlas(tmp_path / "a.h5.partial" / "checkpoint.h5") == ()
    with pytest.raises(crp.CrpKitError, match="an interrupted build of .* resume continues it, overwrite starts again"):
        build(tmp_path / "a.h5", matrix=True)
    data.at = None
    seen: list[int] = []
    reads = type(data).__getitem__
    data.__class__ = type("Counted", (Stops,), {"__getitem__": lambda self, n: (seen.append(n), reads(self, n))[1]})
    build(tmp_path / "a.h5", data, matrix=True, resume=True).close()
    probed = set(np.linspace(0, SAMPLES - 1, 16).astype(int).tolist())
    # Each sample is read once for its digest, and the probed ones twice more.
    read = {number: seen.count(number) - 1 - 2 * (number in probed) for number in range(SAMPLES)}
    assert read == {number: int(number >= 24) for number in range(SAMPLES)}, "no batch is passed over twice"
    assert same_bits(tmp_path / "a.h5", whole)
    assert not (tmp_path / "a.h5.partial").exists()


def test_resuming_what_is_finished_gives_it_back(tmp_path: Path, whole: Path) -> None:
    (tmp_path / "a.h5").write_bytes(whole.read_bytes())
    with build(tmp_path / "a.h5", matrix=True, resume=True) as atlas:
        assert atlas.complete
    with pytest.raises(crp.CrpKitError, match="is finished, but is another atlas: k is 37 there and 20 here"):
        build(tmp_path / "a.h5", matrix=True, resume=True, k=20)


def changed_model() -> nn.Module:
    model = demo_resnet()
    with torch.no_grad():
        next(model.parameters())[0] += 1e-6
    return model


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": changed_model}, "model has another content"),
        ({"composite": "epsilon_plus"}, r"composite: 'conv1' has Flat\(.* there and ZPlus\(.* here"),
        ({"composite": EpsilonPlusFlat(epsilon=0.5)}, "composite: 'fc' has Epsilon.*epsilon=1e-06.* and .*epsilon=0.5"),
        ({"dataset": lambda: Labelled(SAMPLES + 1)}, "dataset has another content .*; n_samples is 37 there and 38"),
        ({"dataset": lambda: Labelled(SAMPLES, [0] * SAMPLES)}, "dataset has another content"),
        ({"k": 7}, "k is 37 there and 7 here"),
        ({"k_class": 7}, "k_class is 8 there and 7 here"),
        ({"batch_size": 6}, "batch_size is 12 there and 6 here"),
        ({"target": "prediction"}, "target is 'label' there and 'prediction' here"),
        ({"aggregate": "max"}, "aggregate is 'sum' there and 'max' here"),
        ({"abs_norm": False}, "abs_norm is True there and False here"),
        ({"matrix": False}, "matrix is True there and False here"),
        ({"matrix": "float16"}, "matrix_dtype is '' there and 'float16' here"),
        ({"limit": 20}, "subset is '' there and 'the first 20' here"),
        ({"layers": LAYERS[:1]}, "layers are layer2.1.conv2, layer3.0.conv1 there and layer2.1.conv2 here"),
        ({"concepts": crp.NeuronConcept()}, "the layers' concepts or shapes differ"),
        ({"shard": (0, 2)}, "it is shard 0/1 and not 0/2"),
    ],
    ids=lambda one: next(iter(one)) if isinstance(one, dict) else "",
)
def test_resume_refuses_what_differs_and_says_what(
    interrupted: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    path = tmp_path / "a.h5"
    folder = tmp_path / "a.h5.partial"
    folder.mkdir()
    (folder / "checkpoint.h5").write_bytes(interrupted.read_bytes())
    made = {name: value() if name in ("model", "dataset") else value for name, value in options.items()}
    with pytest.raises(crp.CrpKitError, match=f"cannot resume from .*{message}"):
        build(path, resume=True, **made)
    assert (folder / "checkpoint.h5").read_bytes() == interrupted.read_bytes(), "a refusal loses nothing"


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("interrupted")
    with pytest.raises(crp.CrpKitError):
        build(folder / "a.h5", Stops(SAMPLES, at=30))
    return folder / "a.h5.partial" / "checkpoint.h5"


# ------------------------------------------------------------------------------------------------- merging


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("shards")
    paths = [folder / f"{number}.h5" for number in range(2)]
    for number, path in enumerate(paths):
        build(path, shard=(number, 2)).close()
    build(folder / "other.h5", shard=(1, 2), k=7).close()
    build(folder / "third.h5", shard=(1, 3)).close()
    build(folder / "whole.h5").close()
    return [*paths, folder / "other.h5", folder / "third.h5", folder / "whole.h5"]


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ((), "nothing to merge: name every shard"),
        ((0,), "1 of 2 shards are missing: 1/2"),
        ((1, 1), "are both shard 1/2"),
        ((0, 2), "no shards of one atlas: k is 7 there and 37 here"),
        ((0, 3), "is one of 3 shards, .* one of 2"),
        ((0, 4), "is a complete atlas already, not a shard"),
    ],
)
def test_merge_refuses(shards: list[Path], tmp_path: Path, chosen: tuple[int, ...], message: str) -> None:
    with pytest.raises(crp.CrpKitError, match=message):
        crp.merge_atlases([shards[number] for number in chosen], tmp_path / "a.h5")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_merge_refuses_what_is_not_finished(shards: list[Path], tmp_path: Path) -> None:
    with pytest.raises(crp.CrpKitError, match="cannot be used"):
        build(tmp_path / "1.h5", Stops(SAMPLES, at=30), shard=(1, 2), batch_size=4)
    build(tmp_path / "0.h5", shard=(0, 2), batch_size=4).close()
    unfinished = tmp_path / "1.h5.partial" / "checkpoint.h5"
    with pytest.raises(crp.CrpKitError, match=r"is not finished: 2 of 5 batches; resume its build first"):
        crp.merge_atlases([tmp_path / "0.h5", unfinished], tmp_path / "a.h5")


def test_a_shard_alone_is_refused_as_an_atlas(shards: list[Path]) -> None:
    with pytest.raises(crp.CrpKitError, match=r"is shard 0/2 of an atlas \(2 of 2 batches\); merge it with the others"):
        crp.ConceptAtlas(shards[0])


# ---------------------------------------------------------------------------------------------- bad samples


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ([None] * SAMPLES, {}, "sample 0: it has no label; start from target='prediction' instead"),
        ([0] * 14 + [-1] * 23, {}, "sample 14: it has no label"),
        ([0] * 20 + [8] * 17, {}, "sample 20: class 8 of 'y' is out of range: it has 8 of them"),
        (
            ["cat"] * SAMPLES,
            {},
            "no sample can be read; sample 0: a label is a class id or several; got the text 'cat'",
        ),
        ([], {}, "the dataset is empty"),
        (None, {"k": 0}, "k is a whole number of at least 1; got 0"),
        (None, {"k_class": True}, "k_class is a whole number of at least 0; got True"),
        (None, {"batch_size": 1.5}, "batch_size is a whole number of at least 1; got 1.5"),
        (None, {"limit": 0}, "limit is a whole number of at least 1; got 0"),
        (None, {"subset": [3, 99]}, "subset is numbers of samples, from 0 to 36; got 2 of them"),
        (None, {"aggregate": "mean"}, "aggregate is 'sum' or 'max'; got 'mean'"),
        (None, {"target": "labels"}, "target is 'label', 'prediction', 'top:P'"),
        (None, {"shard": (2, 2)}, "shards are counted from 0: of 2 there are 0 to 1; got 2"),
        (None, {"shard": "a/b"}, "a shard is 'i/n' or"),
        (None, {"shard": (0, 9)}, "9 shards for 4 batches leave some empty; use at most 4"),
        (
            None,
            {"preprocess": "norm"},
            "preprocess is a crp_kit.Preprocess, or a function of a batch of images; got",
        ),
        (None, {"preprocess": lambda x: x[0]}, "preprocess takes a batch of images and returns a batch; 1 gave"),
        (
            None,
            {"preprocess": lambda x: x / 0},
            "preprocess makes values that are NaN or infinite from 1 of the images",
        ),
        (None, {"layers": []}, "no layers: name one at least"),
        (None, {"layers": ["layer9.conv"]}, "no layer named 'layer9.conv'"),
    ],
)
def test_bad_input_is_one_clear_error(
    tmp_path: Path, labels: Sequence[Any] | None, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(crp.CrpKitError, match=message):
        build(tmp_path / "a.h5", Labelled(SAMPLES, labels), **options)
    assert not (tmp_path / "a.h5").exists()


def test_samples_that_cannot_be_read_are_left_out_and_listed(tmp_path: Path) -> None:
    data = Stops(SAMPLES, at=30)
    data.images[4, 0, 0, 0] = torch.nan
    with build(tmp_path / "a.h5", data, skip_unreadable=True) as atlas:
        assert atlas.skipped == {
            4: "the image has 1 values that are NaN or infinite (of 12288)",
            30: "OSError: the network drive is away",
        }
        assert atlas[LAYERS[0]].relevance.moments.count.sum() == SAMPLES - 2
        assert atlas.predictions[[4, 30]].tolist() == [-1, -1]
        table = [atlas[LAYERS[0]].activation.top(concept).sample for concept in range(32)]
        assert not {4, 30} & set(np.concatenate(table).tolist())
    assert crp.verify_atlas(tmp_path / "a.h5") == ()


def test_a_batch_without_a_single_good_sample_is_passed_over(tmp_path: Path) -> None:
    data = Labelled(SAMPLES)
    data.images[12:24] = torch.inf
    with build(tmp_path / "a.h5", data, skip_unreadable=True) as atlas:
        assert len(atlas.skipped) == 12
        assert atlas.complete


def test_an_empty_class_has_no_entries_and_no_moments(tmp_path: Path) -> None:
    with build(tmp_path / "a.h5", Labelled(9, [0] * 5 + [3] * 4)) as atlas:
        half = atlas[LAYERS[0]].relevance
        assert len(half.class_top(0, 1)) == 0
        assert half.moments.count.tolist() == [5, 0, 0, 4, 0, 0, 0, 0]
        assert np.isnan(half.moments.mean[1]).all()
        assert half.classes(0).cls.tolist() in ([0, 3], [3, 0])
        with pytest.raises(crp.CrpKitError, match="the atlas has no sample of the class"):
            half.concepts(1)


def test_only_some_samples_keep_their_numbers(tmp_path: Path) -> None:
    with build(tmp_path / "a.h5", subset=[30, 3, 17], limit=2) as atlas:
        assert atlas.samples.tolist() == [3, 17]
        assert set(atlas[LAYERS[0]].relevance.top(0).sample.tolist()) == {3, 17}
        assert atlas.header.subset.endswith("the first 2")


# ---------------------------------------------------------------------------------------------------- the file


def test_it_is_one_file_and_names_with_numbers_are_data(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv_1_2_ = nn.Conv2d(3, 4, 3)
            self.fc = nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(self.conv_1_2_(x).mean((2, 3)))

    with build(tmp_path / "a.h5", Labelled(5, [0, 1, 0, 1, 0]), model=Odd().eval(), layers=["conv_1_2_"]) as atlas:
        assert atlas.layers == ("conv_1_2_",)
    assert [one.name for one in tmp_path.iterdir()] == ["a.h5"]


def test_the_model_stays_as_it_was(tmp_path: Path) -> None:
    model = demo_resnet()
    model.fc.weight.requires_grad_(False)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    wanted = {name: one.requires_grad for name, one in model.named_parameters()}
    build(tmp_path / "a.h5", Labelled(5), model=model).close()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert {name: one.requires_grad for name, one in model.named_parameters()} == wanted
    assert all(one.grad is None for one in model.parameters())
    assert not any(one._forward_hooks or one._backward_hooks for one in model.modules())


def test_an_atlas_is_not_overwritten_unasked(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_text("mine")
    with pytest.raises(crp.CrpKitError, match="a.h5 exists; overwrite replaces it"):
        build(tmp_path / "a.h5")
    assert (tmp_path / "a.h5").read_text() == "mine"
    build(tmp_path / "a.h5", Labelled(5), overwrite=True).close()
    with pytest.raises(crp.CrpKitError, match="there is no folder .*no; make it first"):
        build(tmp_path / "no" / "a.h5")
    with pytest.raises(crp.CrpKitError, match="it is a folder; name a file in it"):
        build(tmp_path)


def test_models_of_half_precision_and_odd_outputs(tmp_path: Path) -> None:
    with build(tmp_path / "a.h5", Labelled(5), model=demo_resnet().to(torch.bfloat16)) as atlas:
        assert atlas.header.dtype == "bfloat16"
    assert crp.verify_atlas(tmp_path / "a.h5") == ()
