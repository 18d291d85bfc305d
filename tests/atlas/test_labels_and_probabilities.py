"""Labels and the most probable classes are in every atlas, whatever relevance starts from, however it is divided."""

import shutil
from pathlib import Path
from typing import Any

import h5py
import hostile
import numpy as np
import pytest
import torch
from atlas_case import LAYERS, SAMPLES, Labelled, build, datasets, same_bits
from synthetic_pass import SyntheticPass

import crp_kit as crp
from crp_kit.data import demo_preprocess, demo_resnet
from crp_kit.errors import AtlasError

LAYER = LAYERS[:1]


def softmax(dataset: Labelled) -> Any:
    """Of the demo model's outputs, in float64 by numpy."""
    with torch.no_grad():
        output = demo_resnet()(demo_preprocess(dataset.images)).double().numpy()
    share = np.exp(output - output.max(1, keepdims=True))
    return share / share.sum(1, keepdims=True)


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with build(tmp_path_factory.mktemp("plain") / "a.h5", layers=LAYER) as made:
        yield made


def test_the_five_most_probable_classes_are_those_of_the_softmax(atlas: crp.ConceptAtlas) -> None:
    classes, probabilities = atlas.top_predictions
    expected = softmax(Labelled(SAMPLES))
    order = np.argsort(-expected, axis=1)[:, :5]
    assert classes.shape == probabilities.shape == (SAMPLES, 5)
    assert probabilities.dtype == np.float32
    np.testing.assert_array_equal(classes, order)
    np.testing.assert_allclose(probabilities, np.take_along_axis(expected, order, 1), rtol=1e-4, atol=1e-7)
    np.testing.assert_array_equal(classes[:, 0], atlas.predictions)
    assert crp.verify_atlas(atlas.path) == ()


@pytest.mark.parametrize("target", ["prediction", "top:0.2", lambda output, labels: [3]])
def test_labels_are_kept_whatever_relevance_starts_from(atlas: Any, tmp_path: Path, target: Any) -> None:
    with build(tmp_path / "b.h5", layers=LAYER, target=target) as other:
        np.testing.assert_array_equal(other.labels, atlas.labels)
        assert len(other.where(correct=True)) == len(atlas.where(correct=True))
    np.testing.assert_array_equal(atlas.labels, Labelled(SAMPLES).labels)


class Odd:
    """A label that cannot even be compared."""

    def __eq__(self, other: object) -> bool:
        raise OSError("no comparison")

    def __hash__(self) -> int:
        raise OSError("no hash")


def test_a_label_that_means_nothing_is_none_where_it_is_not_needed(tmp_path: Path) -> None:
    labels = [3, "cat", None, 2.5, -1, [5, 1], [], torch.zeros(2, 2), Odd(), 10**40, 8, torch.eye(8)[6]]
    with build(tmp_path / "a.h5", Labelled(12, labels), layers=LAYER, target="prediction", k_class=1) as atlas:
        assert atlas.labels.tolist() == [3, -1, -1, -1, -1, 5, -1, -1, -1, -1, -1, 6]
        assert not atlas.skipped
    assert crp.verify_atlas(tmp_path / "a.h5") == ()


def test_a_dataset_whose_classes_are_not_the_models_has_no_labels(tmp_path: Path) -> None:
    data = Labelled(12)
    data.classes = ("one", "two")  # type: ignore[assignment]
    data.classes_are_folders = True  # type: ignore[attr-defined]
    with build(tmp_path / "a.h5", data, layers=LAYER, target="prediction") as atlas:
        assert (atlas.labels == -1).all()


class Outputs(torch.nn.Module):
    """So many outputs, at so many positions."""

    def __init__(self, count: int, *, dense: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head, self.dense = torch.nn.Conv2d(3, 4, 5), torch.nn.Conv2d(4, count, 1), dense

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.head(torch.relu(self.conv(images)))
        return maps[..., ::9, ::9] if self.dense else maps.mean((2, 3))


def test_a_model_of_one_output_has_no_probabilities(tmp_path: Path) -> None:
    with build(tmp_path / "a.h5", model=Outputs(1), layers=["conv"], target="prediction", preprocess=None) as atlas:
        names = {f"samples/{name}" for name in ("top_class", "top_probability", "logsumexp")}
        assert not names & datasets(atlas.path).keys()
        with pytest.raises(AtlasError, match="holds no probabilities of classes: its model has one output"):
            atlas.top_predictions  # noqa: B018
    assert crp.verify_atlas(tmp_path / "a.h5") == ()


def test_a_model_of_three_classes_has_three_probabilities_that_add_up_to_one(tmp_path: Path) -> None:
    with build(tmp_path / "a.h5", model=Outputs(3), layers=["conv"], target="prediction", preprocess=None) as atlas:
        classes, probabilities = atlas.top_predictions
        np.testing.assert_array_equal(np.sort(classes, 1), np.tile(np.arange(3), (SAMPLES, 1)))
        np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-6)


def test_outputs_with_positions_give_the_softmax_of_their_mean(tmp_path: Path) -> None:
    model, data = Outputs(6, dense=True), Labelled(9)
    with build(tmp_path / "a.h5", data, model=model, layers=["conv"], target="prediction", preprocess=None) as atlas:
        classes, probabilities = atlas.top_predictions
        with torch.no_grad():
            expected = model(data.images).double().mean((2, 3)).softmax(1)
        np.testing.assert_allclose(probabilities, expected.gather(1, torch.tensor(classes).long()), rtol=1e-5)
        np.testing.assert_array_equal(classes[:, 0], atlas.predictions)
    assert crp.verify_atlas(tmp_path / "a.h5") == ()


def test_of_equal_outputs_the_first_class_comes_first(tmp_path: Path) -> None:
    model = Outputs(7)
    with torch.no_grad():
        model.head.weight[:] = 0
        model.head.bias[:] = 1
    with build(tmp_path / "a.h5", model=model, layers=["conv"], target="prediction", preprocess=None) as atlas:
        assert (atlas.top_predictions[0] == np.arange(5)).all()
    assert crp.verify_atlas(tmp_path / "a.h5") == ()


def test_shards_and_a_build_in_batches_of_another_log_give_the_same_bits(atlas: Any, tmp_path: Path) -> None:
    parts = [tmp_path / f"{number}.h5" for number in range(3)]
    for number, path in enumerate(parts):
        build(path, layers=LAYER, shard=(number, 3)).close()
    crp.merge_atlases(parts, tmp_path / "whole.h5").close()
    assert same_bits(tmp_path / "whole.h5", atlas.path)


def test_samples_that_are_left_out_have_neither(tmp_path: Path) -> None:
    data = Labelled(13, [*Labelled(12).labels, "no class"])
    with build(tmp_path / "a.h5", data, layers=LAYER, skip_unreadable=True) as atlas:
        assert list(atlas.skipped) == [12]
        classes, probabilities = atlas.top_predictions
        assert atlas.labels[12] == -1
        assert (classes[12] == -1).all()
        assert np.isnan(probabilities[12]).all()
    assert crp.verify_atlas(tmp_path / "a.h5") == ()


# ---------------------------------------------------------------------------------------------------------- older files

PASS = SyntheticPass((7, 3, 3, 9, -1, 7, 0, 3), concepts=(3,))


def without(path: Path, *names: str) -> Path:
    """Take arrays away, as a file of an older version is without them."""
    with hostile.edited(path) as file:
        del file["digests"]
        for name in names:
            del file[f"samples/{name}"]
    return path


def test_a_file_of_an_older_version_takes_its_targets_for_labels(tmp_path: Path) -> None:
    path = without(PASS.write(tmp_path / "a.h5"), "label", "top_class", "top_probability", "logsumexp")
    with crp.ConceptAtlas(path) as atlas:
        np.testing.assert_array_equal(atlas.labels, atlas.targets)
        with pytest.raises(AtlasError, match="holds no probabilities of classes: build it anew"):
            atlas.top_predictions  # noqa: B018
        with pytest.raises(AtlasError, match="holds no energies: build it anew"):
            atlas.energies  # noqa: B018
    with hostile.edited(path) as file:
        file.attrs["target"] = "prediction"
    with crp.ConceptAtlas(path) as atlas, pytest.raises(AtlasError, match="holds no labels"):
        atlas.labels  # noqa: B018


def test_what_an_older_shard_lacks_the_merged_atlas_lacks(tmp_path: Path) -> None:
    parts = list(PASS.shards(tmp_path, 2))
    without(parts[1], "label")
    crp.merge_atlases(parts, tmp_path / "whole.h5").close()
    names = datasets(tmp_path / "whole.h5").keys()
    assert "samples/label" not in names
    assert "samples/top_class" in names
    assert crp.verify_atlas(tmp_path / "whole.h5") == ()


# --------------------------------------------------------------------------------------------------------- wrong values


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("label", np.zeros(3, "i8"), "/samples/label has shape (3,) and should have (8,)"),
        ("label", np.zeros(8), "/samples/label has the type float64"),
        ("top_class", np.zeros((8, 6), "i4"), "/samples/top_class has shape (8, 6) and should have (8, 5)"),
        ("top_class", np.zeros((8, 5)), "/samples/top_class has the type float64"),
        ("top_probability", np.zeros((5, 8), "f4"), "/samples/top_probability has shape (5, 8)"),
        ("top_probability", np.zeros((8, 5), "i4"), "/samples/top_probability has the type int32"),
    ],
)
def test_arrays_of_another_shape_or_type_are_refused(tmp_path: Path, name: str, values: Any, message: str) -> None:
    path = PASS.write(tmp_path / "a.h5")
    with hostile.edited(path) as file:
        del file[f"samples/{name}"]
        file[f"samples/{name}"] = values
    with pytest.raises(AtlasError) as caught:
        crp.ConceptAtlas(path)
    assert message in str(caught.value)


def change(path: Path, name: str, row: int, values: Any) -> tuple[str, ...]:
    """What verify finds beside digests after a change."""
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        file[f"samples/{name}"][row] = values
    return tuple(problem for problem in crp.verify_atlas(path) if "SHA-256" not in problem)


@pytest.mark.parametrize(
    ("name", "values", "problem"),
    [
        ("label", 10, "a label of its samples is no class"),
        ("label", -2, "a label of its samples is no class"),
        ("top_class", [0, 1, 2, 3, 10], "a top class of its samples is no class"),
        ("top_class", [0, 1, 2, 3, 3], "the most probable classes of a sample are missing, or one is there twice"),
        ("top_class", [0, 1, 2, 3, -1], "the most probable classes of a sample are missing, or one is there twice"),
        ("top_class", [1, 0, 2, 3, 4], "the most probable class of a sample is not the predicted one"),
        ("top_probability", [0.1, 0.2, 0, 0, 0], "the probabilities of a sample are no probabilities, or do not fall"),
        ("top_probability", np.nan, "the probabilities of a sample are no probabilities, or do not fall"),
        ("logsumexp", np.inf, "the logsumexp of a sample is infinite, or known of one that was left out"),
        ("top_probability", [0.5, 0.5, 0.5, 0, 0], "the probabilities of a sample exceed 1 in sum"),
    ],
)
def test_wrong_values_are_found(tmp_path: Path, name: str, values: Any, problem: str) -> None:
    path = PASS.write(tmp_path / "a.h5")
    assert crp.verify_atlas(path) == ()
    assert change(Path(shutil.copy(path, tmp_path / "b.h5")), name, 2, values) == (problem,)


def test_classes_of_a_sample_that_was_left_out_and_half_a_ranking_are_found(tmp_path: Path) -> None:
    path = PASS.write(tmp_path / "a.h5")
    assert "a sample that was left out has most probable classes" in change(path, "prediction", 2, -1)
    without(path, "top_class")
    assert "its samples have most probable classes without probabilities, or the reverse" in crp.verify_atlas(path)
