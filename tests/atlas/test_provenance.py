"""Parts of an atlas that were made from other samples, another preprocessing or another target do not go together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from atlas_case import SAMPLES, Labelled, build, datasets
from PIL import Image

import crp_kit as crp
from crp_kit.atlas.file.reader import open_atlas, read_header
from crp_kit.data import ShapesDataset, demo_preprocess, fingerprints
from crp_kit.data.fingerprints import evenly_spread, sample_digests
from crp_kit.data.folders import ImageFiles
from crp_kit.data.preprocess import Preprocess
from crp_kit.data.samples import NumberedSamples
from crp_kit.errors import AtlasError

LAYER = ["layer2.1.conv2"]
VIEW = Preprocess(resize=64, crop=64)


def labelled(change: Callable[[Labelled], None] | None = None) -> Labelled:
    data = Labelled(SAMPLES)
    if change is not None:
        change(data)
    return data


def other_pixel(data: Labelled) -> None:
    data.images = data.images.clone()
    data.images[5, 0, 3, 4] += 1 / 255


def other_label(data: Labelled) -> None:
    data.labels = [*data.labels[:5], (data.labels[5] + 1) % 8, *data.labels[6:]]


def other_names(data: Labelled) -> None:
    data.samples = [(f"{number}.png", 0) for number in range(SAMPLES)]  # type: ignore[attr-defined]


def darker(images: torch.Tensor) -> torch.Tensor:
    return demo_preprocess(images) * 0.999


def at(step: int) -> Callable[..., Any]:
    return lambda output, label: [(int(output.argmax()) + step) % 8]


OTHERS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "a pixel": ({}, {"dataset": labelled(other_pixel)}, "sample 5 has another content"),
    "a label": ({}, {"dataset": labelled(other_label)}, "sample 5 has another content"),
    "names": ({}, {"dataset": labelled(other_names)}, "dataset has another content .*; samples have other names"),
    "a factor": ({}, {"preprocess": darker}, "preprocess makes another model input of sample 0"),
    "a value of a target": ({"target": at(0)}, {"target": at(1)}, "the function that chooses targets does something"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("one", "other", "message"), OTHERS.values(), ids=OTHERS)
def test_shards_of_something_else_are_refused(
    tmp_path: Path, one: dict[str, Any], other: dict[str, Any], message: str
) -> None:
    for number, options in enumerate((one, other)):
        build(tmp_path / f"{number}.h5", layers=LAYER, **{"dataset": labelled(), **options}, shard=(number, 2)).close()
    with pytest.raises(AtlasError, match=f"are no shards of one atlas: .*{message}"):
        crp.merge_atlases([tmp_path / "0.h5", tmp_path / "1.h5"], tmp_path / "a.h5")
    build(tmp_path / "same.h5", layers=LAYER, **{"dataset": labelled(), **one}, shard=(1, 2)).close()
    crp.merge_atlases([tmp_path / "0.h5", tmp_path / "same.h5"], tmp_path / "a.h5").close()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    images, labels = ShapesDataset(12).batch(range(12))
    for number, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        path = tmp_path / "photos" / str(label) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)).save(path)
    return tmp_path / "photos"


def of_photos(path: Path, photos: Path, **options: Any) -> crp.ConceptAtlas:
    options = {"layers": LAYER, "preprocess": VIEW, "batch_size": 2, "num_workers": 0, **options}
    return build(
        path, ImageFiles(photos, VIEW, options.pop("class_map", None)), classes=ShapesDataset.classes, **options
    )


@pytest.mark.slow
def test_a_sample_may_be_mended_between_two_parts(tmp_path: Path, photos: Path) -> None:
    broken = sorted(photos.rglob("*.png"))[7]
    whole = broken.read_bytes()
    of_photos(tmp_path / "right.h5", photos).close()
    broken.write_bytes(whole[:60])
    of_photos(tmp_path / "0.h5", photos, shard=(0, 2)).close()
    for options in ({}, {"shard": (1, 2)}):
        path = tmp_path / ("1.h5" if options else "a.h5")
        with pytest.raises(crp.CrpKitError, match="sample 7 .* cannot be used: .*; resume continues from there"):
            of_photos(path, photos, **options)
    broken.write_bytes(whole)
    of_photos(tmp_path / "a.h5", photos, resume=True).close()
    of_photos(tmp_path / "1.h5", photos, shard=(1, 2), resume=True).close()
    crp.merge_atlases([tmp_path / "0.h5", tmp_path / "1.h5"], tmp_path / "merged.h5").close()
    right = datasets(tmp_path / "right.h5")
    for name in ("a.h5", "merged.h5"):
        found = datasets(tmp_path / name)
        assert all(np.array_equal(found[one], right[one], equal_nan=right[one].dtype.kind == "f") for one in right)


@pytest.mark.slow
def test_an_image_that_has_changed_is_another(tmp_path: Path, photos: Path) -> None:
    of_photos(tmp_path / "0.h5", photos, shard=(0, 2)).close()
    changed = sorted(photos.rglob("*.png"))[3]
    with Image.open(changed) as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(changed)
    of_photos(tmp_path / "1.h5", photos, shard=(1, 2)).close()
    with pytest.raises(AtlasError, match="no shards of one atlas: .*sample 3 has another content"):
        crp.merge_atlases([tmp_path / "0.h5", tmp_path / "1.h5"], tmp_path / "a.h5")


@pytest.mark.slow
def test_a_copy_of_the_data_on_another_machine_is_the_same(tmp_path: Path, photos: Path) -> None:
    of_photos(tmp_path / "0.h5", photos, shard=(0, 2)).close()
    copy = photos.rename(tmp_path / "elsewhere")
    for file in copy.rglob("*.png"):
        file.write_bytes(file.read_bytes())  # which changes its time
    of_photos(tmp_path / "1.h5", copy, shard=(1, 2)).close()
    crp.merge_atlases([tmp_path / "0.h5", tmp_path / "1.h5"], tmp_path / "a.h5").close()


@pytest.mark.slow
def test_labels_of_another_class_map_are_other_labels(tmp_path: Path, photos: Path) -> None:
    maps = [{str(label): (label + step) % 8 for label in range(8)} for step in (0, 1)]
    for number, classes in enumerate(maps):
        of_photos(tmp_path / f"{number}.h5", photos, shard=(number, 2), class_map=classes).close()
    with pytest.raises(AtlasError, match="no shards of one atlas: .*labels stand for other classes"):
        crp.merge_atlases([tmp_path / "0.h5", tmp_path / "1.h5"], tmp_path / "a.h5")


def test_an_older_file_says_nothing_of_it_and_is_not_refused() -> None:
    path = Path(__file__).parents[1] / "data" / "atlas-format-1.h5"
    with open_atlas(path) as file:
        header = read_header(file)
    assert (header.names_sha256, header.sample_digests, header.input_digests) == ("", "", "")
    known = replace(header, names_sha256="a", sample_digests="0:a", input_digests="0:b", target_sha256="c")
    assert header.differences(known) == known.differences(header) == []
    assert "sample_digests" not in header.attributes()
    assert {"sample_digests", "model", "dataset_sha256"} & known.lasting().keys() == set()


def test_fingerprints_are_attributes_of_the_file(tmp_path: Path) -> None:
    build(tmp_path / "a.h5", Labelled(3), layers=LAYER, target=at(1)).close()
    with h5py.File(tmp_path / "a.h5") as file:
        assert [pair.split(":")[0] for pair in file.attrs["sample_digests"].split()] == ["0", "1", "2"]
        assert len(file.attrs["target_sha256"]) == len(file.attrs["names_sha256"]) == 64
        assert "labels_sha256" in file.attrs


@pytest.mark.slow
@pytest.mark.parametrize(("count", "expected"), [(5, 5), (64, 64), (100, 64), (1000, 100), (9000, 500)])
def test_a_seeded_part_of_many_samples_has_digests(count: int, expected: int) -> None:
    class Zeros:
        def __len__(self) -> int:
            return count

        def __getitem__(self, number: int) -> Any:
            return torch.full((1, 1, 1), number / 10), 0

    digests = sample_digests(NumberedSamples(Zeros()), range(count))
    assert expected <= len(digests) <= expected + 16
    assert set(evenly_spread(range(count))) <= digests.keys()
    assert digests == sample_digests(NumberedSamples(Zeros()), range(count))
    assert len(set(digests.values())) == len(digests)
    assert fingerprints.short_digest(b"") == "e3b0c44298fc"
