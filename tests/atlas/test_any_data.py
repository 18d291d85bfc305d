"""Atlases of whatever data: odd sizes, odd labels, odd errors; the content never depends on the size of batches."""

from __future__ import annotations

import logging
import multiprocessing
import random
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from atlas_case import COMPOSITE, Labelled, build, same_bits
from command_line import invoke, refused
from PIL import Image
from torch import nn
from torchvision.datasets import ImageFolder
from torchvision.transforms import functional as geometry

import crp_kit as crp
from crp_kit.atlas import Origin
from crp_kit.atlas.build.preparation import _chosen_samples
from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
from crp_kit.data.fingerprints import _part
from crp_kit.data.folders import ImageFiles
from crp_kit.data.preprocess import Preprocess
from crp_kit.data.samples import Form, NumberedSamples

LAYER = ["layer2.1.conv2"]
VIEW = Preprocess(resize=64, crop=64)


class Changed(Labelled):
    """Images of which some are changed."""

    def __init__(self, count: int, **changes: Any) -> None:
        super().__init__(count)
        self.changes = {int(name.removeprefix("at_")): change for name, change in changes.items()}

    def __getitem__(self, number: int) -> tuple[torch.Tensor, Any]:
        image, label = super().__getitem__(number)
        change = self.changes.get(number)
        if isinstance(change, BaseException):
            raise change
        return (image, label) if change is None else change(image, label)


def small(image: torch.Tensor, label: int) -> tuple[torch.Tensor, int]:
    return image[:, :60], label


@pytest.mark.examples
@pytest.mark.slow
@pytest.mark.parametrize("odd", [0, 7, 11])
def test_one_odd_image_is_left_out_alone_wherever_it_is(tmp_path: Path, odd: int) -> None:
    found = []
    for size in (1, 5, 12):
        data = Changed(12, **{f"at_{odd}": small})
        with build(tmp_path / f"{size}.h5", data, layers=LAYER, batch_size=size, skip_unreadable=True) as atlas:
            found.append((atlas.skipped, atlas.targets.tolist()))
    reason = "its shape is (3, 60, 64) and that of the other samples (3, 64, 64)"
    assert {number: text.partition(";")[0] for number, text in found[0][0].items()} == {odd: reason}
    assert found[0] == found[1] == found[2]
    with pytest.raises(crp.CrpKitError, match=rf"^sample {odd} cannot be used: its shape is \(3, 60, 64\)"):
        build(tmp_path / "a.h5", Changed(12, **{f"at_{odd}": small}), layers=LAYER)


class Pictures(Labelled):
    """Pictures of three sizes, none of them that of most."""

    def __getitem__(self, number: int) -> Any:
        image, label = super().__getitem__(number)
        return geometry.to_pil_image(image).resize((64 + 8 * (number % 3), 64)), label


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 4])
def test_pictures_of_several_sizes_are_refused_with_what_makes_them_one(tmp_path: Path, size: int) -> None:
    """Whatever the batch size, since the content of an atlas never depends on it."""
    fix = r"; give all one size, by a transform of the dataset, or of pictures by crp_kit\.data\.Preprocess"
    with pytest.raises(crp.CrpKitError, match=rf"^sample 1 cannot be used: its shape is \(3, 64, 72\) .*{fix}"):
        build(tmp_path / "a.h5", Pictures(9), layers=LAYER, batch_size=size, preprocess=None)
    preprocess = Preprocess(resize=64, crop=64, mean=(0.5,) * 3, std=(0.5,) * 3)
    with build(tmp_path / "b.h5", Pictures(9), layers=LAYER, batch_size=size, preprocess=preprocess) as atlas:
        assert len(atlas.samples) == 9


@pytest.mark.slow
def test_shards_know_the_size_of_the_whole_data(tmp_path: Path) -> None:
    """In the first shard most samples are odd ones."""
    data = Changed(16, at_0=small, at_1=small, at_2=small)
    parts = [tmp_path / f"{number}.h5" for number in range(4)]
    for number, part in enumerate(parts):
        build(part, data, layers=LAYER, batch_size=4, shard=(number, 4), skip_unreadable=True).close()
    with crp.merge_atlases(parts, tmp_path / "a.h5") as atlas:
        assert sorted(atlas.skipped) == [0, 1, 2]


def test_the_usual_form_is_that_of_most_and_then_the_preprocess() -> None:
    tall, wide = torch.zeros(3, 4, 2), torch.zeros(3, 2, 4)
    assert Form.usual([tall, wide, wide]).shape == (3, 2, 4)
    assert Form.usual([tall, wide]).shape == (3, 4, 2)
    assert Form.usual([tall, wide], (3, 2, 4)).shape == (3, 2, 4)
    assert Form.usual([tall, tall, wide], (3, 2, 4)).shape == (3, 4, 2)
    assert Form.usual([tall.double(), tall, tall]).dtype == torch.float32


# ------------------------------------------------------------------------------------------------------------- labels


def photos(root: Path, names: list[str]) -> Path:
    images, _ = ShapesDataset(len(names) * 2).batch(range(len(names) * 2))
    for number, image in enumerate(images):
        path = root / names[number % len(names)] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)).save(path)
    return root


def targets(path: Path, data: Any, model: nn.Module | None = None, **options: Any) -> list[int]:
    options = {"layers": LAYER, "preprocess": VIEW, **options}
    with build(path, data, model=model, **options) as atlas:
        found: list[int] = atlas.targets.tolist()
        return found


@pytest.mark.slow
def test_folders_are_counted_by_name_in_any_order(tmp_path: Path) -> None:
    names = [ShapesDataset.classes[number] for number in (5, 0, 3)]
    root = photos(tmp_path / "photos", names)
    expected = [ShapesDataset.classes.index(name) for name in sorted(names) for _ in range(2)]
    for number, data in enumerate((ImageFiles(root, VIEW), ImageFolder(str(root)))):
        assert targets(tmp_path / f"{number}.h5", data, classes=ShapesDataset.classes) == expected
    for target in ("label", lambda output, label: label):
        with pytest.raises(crp.CrpKitError):
            targets(tmp_path / "a.h5", ImageFiles(root, VIEW), classes=list("abcdefgh"), target=target)
    assert len(targets(tmp_path / "b.h5", ImageFiles(root, VIEW), classes=list("abcdefgh"), target="prediction")) == 6


def two_outputs() -> nn.Module:
    model = demo_resnet()
    model.fc = nn.Linear(model.fc.in_features, 2)
    return model.eval()


@pytest.mark.slow
def test_as_many_folders_as_outputs_without_names_count_by_position_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = ImageFiles(photos(tmp_path / "photos", ["cat", "dog"]), VIEW)
    assert targets(tmp_path / "a.h5", data, two_outputs()) == [0, 0, 1, 1]
    assert "its 2 outputs are taken to be 'cat', 'dog', in this order" in caplog.text
    with crp.ConceptAtlas(tmp_path / "a.h5") as atlas:
        assert atlas.classes == ("cat", "dog")
    caplog.clear()
    assert targets(tmp_path / "b.h5", data, two_outputs(), classes=["dog", "cat"]) == [1, 1, 0, 0]
    assert not caplog.records
    with pytest.raises(crp.CrpKitError, match="the folders of the data are not the model's classes: 'cat', 'dog'"):
        targets(tmp_path / "c.h5", data)


def test_folders_that_are_numbers_are_these_classes(tmp_path: Path) -> None:
    data = ImageFiles(photos(tmp_path / "photos", ["0", "7", "06"]), VIEW)
    assert targets(tmp_path / "a.h5", data) == [0, 0, 6, 6, 7, 7]
    with crp.ConceptAtlas(tmp_path / "a.h5") as atlas:
        assert "06" not in atlas.classes


@pytest.mark.slow
def test_labels_do_not_matter_where_none_are_needed(tmp_path: Path) -> None:
    data = Labelled(6, ["cat", object(), 99, None, float("inf"), {"a": 1}])
    build(tmp_path / "a.h5", data, layers=LAYER, target="prediction").close()
    build(tmp_path / "b.h5", Labelled(6), layers=LAYER, target="prediction").close()
    with crp.ConceptAtlas(tmp_path / "a.h5") as one, crp.ConceptAtlas(tmp_path / "b.h5") as other:
        assert one.targets.tolist() == other.targets.tolist()


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("cat", "sample 4 cannot be used: a label is a class id or several; got the text 'cat'"),
        (8, "sample 4: class 8 of 'y' is out of range"),
        ([0, 9], "sample 4: class 9 of 'y' is out of range"),
        (2.5, "sample 4 cannot be used: a label is a whole number"),
        (1j, "sample 4 cannot be used: a label is a class id or several"),
        (None, "sample 4: it has no label"),
        (np.array(-1), "sample 4: it has no label"),
    ],
)
def test_a_label_that_means_nothing_is_a_sentence_with_its_sample(tmp_path: Path, label: Any, message: str) -> None:
    with pytest.raises(crp.CrpKitError, match=message) as caught:
        build(tmp_path / "a.h5", Labelled(8, [0, 1, 2, 3, label, 5, 6, 7]), layers=LAYER, batch_size=3)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "a.h5.partial" / "checkpoint.h5").exists()


@pytest.mark.parametrize("label", [3, True, np.int64(3), np.uint8(3), torch.tensor(3), np.array(3), 3.0, [3]])
def test_a_label_of_any_type_of_number_counts(tmp_path: Path, label: Any) -> None:
    with build(tmp_path / "a.h5", Labelled(2, [label, 0]), layers=LAYER) as atlas:
        assert atlas.targets.tolist() == [int(np.asarray(label).reshape(-1)[0]), 0]


# ------------------------------------------------------------------------------------------------------------- errors


class SilentError(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


class ClosedError(Exception):
    """Cannot be pickled."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__("closed")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            RuntimeError("one\ntwo\r\n three"),
            "RuntimeError: one two three; skip_unreadable leaves such samples out; resume",
        ),
        (RuntimeError("x" * 10_000), "RuntimeError: x* …; skip_unreadable"),
        (SilentError(), "SilentError: its message cannot be shown; skip_unreadable"),
        (ClosedError(1, 2), "ClosedError: closed; skip_unreadable"),
        (StopIteration(), "StopIteration; skip_unreadable"),
        (MemoryError(), "MemoryError; resume continues from there"),
        (SystemExit(3), "SystemExit: 3; resume continues from there"),
        (KeyboardInterrupt(), "KeyboardInterrupt; resume continues from there"),
    ],
)
def test_an_error_of_a_dataset_is_one_sentence_and_loses_nothing(
    tmp_path: Path, error: BaseException, message: str, workers: int
) -> None:
    odd = max(set(range(100)) - set(_part(range(100))))  # which is read in the pass alone
    assert odd > 80
    data = Changed(100, **{f"at_{odd}": error})
    with pytest.raises(crp.CrpKitError, match=f"^sample {odd} cannot be used: {message}") as caught:
        build(tmp_path / "a.h5", data, layers=LAYER, batch_size=40, num_workers=workers)
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)
    assert (tmp_path / "a.h5.partial" / "checkpoint.h5").exists()
    assert multiprocessing.active_children() == [], "workers end though a traceback refers to the build"


UNUSABLE: dict[str, Any] = {
    "another size": small,
    "another type": lambda image, label: ((255 * image).long(), label),
    "no class": lambda image, label: (image, 99),
    "no label": lambda image, label: (image, -1),
    "a text": lambda image, label: (image, "circle"),
}


@pytest.mark.slow
@pytest.mark.parametrize("change", UNUSABLE.values(), ids=UNUSABLE)
def test_a_sample_that_cannot_be_used_may_be_mended_before_the_build_goes_on(tmp_path: Path, change: Any) -> None:
    options: dict[str, Any] = {"layers": LAYER, "batch_size": 4}
    with pytest.raises(crp.CrpKitError, match="^sample 9"):
        build(tmp_path / "a.h5", Changed(12, at_9=change), **options)
    build(tmp_path / "a.h5", Labelled(12), **options, resume=True).close()
    build(tmp_path / "right.h5", Labelled(12), **options).close()
    assert same_bits(tmp_path / "a.h5", tmp_path / "right.h5")


def test_arrays_in_any_byte_order_and_layout_are_the_same_samples(tmp_path: Path) -> None:
    def views(values: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
        read_only = values.copy()
        read_only.flags.writeable = False
        return [values, values.astype(">f4"), values[:, ::-1].copy()[:, ::-1], np.asfortranarray(values), read_only]

    images = [image.numpy() for image, _ in map(Labelled(4).__getitem__, range(4))]
    right = NumberedSamples([(torch.from_numpy(one), 0) for one in images])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for kind in range(5):
            samples = NumberedSamples([(views(one)[kind], 0) for one in images])
            assert all(torch.equal(samples[n][1], right[n][1]) for n in range(4))  # type: ignore[index]


class Endless(Labelled):
    def __len__(self) -> int:
        return 1 << 42


def test_of_a_dataset_without_end_the_first_samples_are_taken(tmp_path: Path) -> None:
    with pytest.raises(crp.CrpKitError, match="says that it has 4398046511104 samples.*; take some by subset or limit"):
        build(tmp_path / "a.h5", Endless(4), layers=LAYER)
    assert len(_chosen_samples(1 << 42, SimpleNamespace(subset=None, limit=3))[0]) == 3  # type: ignore[arg-type]


def test_what_is_no_fault_of_a_sample_is_never_skipped(tmp_path: Path) -> None:
    with pytest.raises(crp.CrpKitError, match="^sample 4 cannot be used: MemoryError; resume continues from there"):
        build(tmp_path / "a.h5", Changed(6, at_4=MemoryError()), layers=LAYER, skip_unreadable=True)


class Unsized(Labelled):
    def __len__(self) -> int:
        raise RuntimeError("not\nloaded")


def test_a_dataset_without_a_length_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(crp.CrpKitError, match="^the dataset has no length: RuntimeError: not loaded$"):
        build(tmp_path / "a.h5", Unsized(4), layers=LAYER)


# -------------------------------------------------------------------------------------------------------------- names


@pytest.mark.slow
def test_names_that_a_file_cannot_hold_are_escaped(tmp_path: Path) -> None:
    data = Labelled(5)
    names = ["a\0", "b\n", "caf\udce9", r"caf\udce9", "é"]
    data.samples = [(name, 0) for name in names]  # type: ignore[attr-defined]
    origin = Origin("m\0", "d\udce9", "c\n\0")
    classes = np.array(["caf\udce9", "b\0c", "", "d", "d", "x\ny", "\x1b[0m", r"$\alpha$"])
    with build(tmp_path / "a.h5", data, layers=LAYER, classes=classes, origin=origin) as atlas:
        assert atlas.identifiers == (r"a\x00", r"b\x0a", r"caf\udce9", r"caf\\udce9", "é")
        assert atlas.classes == (r"caf\udce9", r"b\x00c", "", "d", "d", r"x\x0ay", r"\x1b[0m", r"$\alpha$")
        assert (atlas.header.model, atlas.header.dataset) == (r"m\x00", r"d\udce9")
    assert crp.verify_atlas(tmp_path / "a.h5") == ()


@pytest.mark.parametrize("noun", ["class", "sample"])
def test_a_name_that_is_too_long_is_refused_before_the_pass(tmp_path: Path, noun: str) -> None:
    data, options = Labelled(4), {}
    if noun == "class":
        options["classes"] = [*"abcdefg", "x" * 5000]
    else:
        data.samples = [(name, 0) for name in ("a", "b", "é" * 2049, "c")]  # type: ignore[attr-defined]
    with pytest.raises(crp.CrpKitError, match=f"the name of {noun} . has .* characters, and a file holds 4096 bytes"):
        build(tmp_path / "a.h5", data, layers=LAYER, **options)
    assert not list(tmp_path.iterdir())


def test_a_layer_whose_name_a_file_cannot_hold_is_refused_before_the_pass(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.add_module("co\0nv", nn.Conv2d(3, 4, 3))
            self.fc = nn.Linear(4, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(self._modules["co\0nv"](x).mean((2, 3)))  # type: ignore[misc]

    with pytest.raises(crp.CrpKitError, match=r"the layer is called 'co\\x00nv': a file holds no control characters"):
        build(tmp_path / "a.h5", Labelled(4), model=Odd().eval(), layers=["co\0nv"])
    assert not list(tmp_path.iterdir())


def test_a_build_leaves_random_states_and_threads_as_they_were(tmp_path: Path) -> None:
    class Noisy(Labelled):
        def __getitem__(self, number: int) -> tuple[torch.Tensor, Any]:
            image, label = super().__getitem__(number)
            torch.set_num_threads(2)
            return (image + torch.rand(1) * 0.1 + random.random() * 0.1).clamp(0, 1), label

    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist(), torch.get_num_threads()  # noqa: NPY002
    for workers in (0, 2):
        study = crp.Study(demo_resnet(), Noisy(9), composite=COMPOSITE, preprocess=demo_preprocess)
        study.build_atlas(
            tmp_path / f"{workers}.h5", layers=LAYER, batch_size=4, num_workers=workers, verbose=False
        ).close()
        after = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist(), torch.get_num_threads()  # noqa: NPY002
        assert torch.equal(before[0], after[0])
        assert before[1:] == after[1:]
    with h5py.File(tmp_path / "0.h5") as one, h5py.File(tmp_path / "2.h5") as other:
        name = "layers/0/relevance/top/score"
        assert np.array_equal(one[name][()], other[name][()])


# ------------------------------------------------------------------------------------------------------- command line


@pytest.mark.slow
def test_the_command_line_offers_the_choices(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    root = photos(tmp_path / "photos", ["animals", "nature"])
    command = ["atlas", "build", "--model", "demo:resnet", "--data", f"imagefolder:{root}", "--layers", *LAYER,
               "--workers", "0", "--quiet"]  # fmt: skip
    said = refused(*command, "-o", tmp_path / "a.h5")
    assert "the folders of the data are not the model's classes: 'animals', 'nature' (2 of 2)" in said
    assert "say which class each is with --class-map FILE, or start from predictions with --target prediction" in said
    (tmp_path / "map.csv").write_text(f"folder,class\nanimals,3\nnature,{ShapesDataset.classes[1]}\n")
    made = invoke(*command, "--class-map", tmp_path / "map.csv", "-o", tmp_path / "a.h5")
    assert made.exit_code == 0, made.output
    with crp.ConceptAtlas(tmp_path / "a.h5") as atlas:
        assert atlas.targets.tolist() == [3, 3, 1, 1]
        assert atlas.classes == ShapesDataset.classes
    made = invoke(*command, "--target", "prediction", "-o", tmp_path / "b.h5")
    assert made.exit_code == 0, made.output
    assert "no class map file" in refused(*command, "--class-map", tmp_path / "no.csv", "-o", tmp_path / "c.h5")
