"""Data by name: what each text opens, in what order, and what is said about what cannot be opened."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torchvision import datasets

from crp_kit.data import ShapesDataset
from crp_kit.data.folders import ImageFiles
from crp_kit.data.image_files import open_image
from crp_kit.data.preprocess import Preprocess
from crp_kit.data.samples import Failure, NumberedSamples
from crp_kit.data.sources import load_data
from crp_kit.errors import CrpKitWarning, InputError

SMALL = Preprocess(resize=8, crop=8)
GREY = Preprocess(resize=None, crop=None, mean=(0.5,), std=(0.5,))
FACTORY = """
from torch.utils.data import DataLoader, Dataset, IterableDataset
from crp_kit.data import ShapesDataset

class Numbers(Dataset):
    def __getitem__(self, index):
        return index

class Stream(IterableDataset):
    def __iter__(self):
        yield 1
    def __len__(self):
        return 1

def shapes():
    return ShapesDataset(5)

def pairs():
    return [(1, 2), (3, 4)]

def parts():
    return {"train": shapes(), "test": shapes()}

def both():
    return shapes(), shapes()

def loader():
    return DataLoader(shapes())

def broken():
    raise ValueError("no luck")
"""


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of photographs, some a folder deeper, and what is none of them."""
    root = tmp_path / "photos"
    china, flower = (Image.fromarray(photo[::8, ::8]) for photo in load_sample_images().images)
    places = {"temple": ["b.png", "a.jpg", "z/c.png", "z-1/d.png"], "flower": ["one.PNG"], ".hidden": ["no.png"]}
    for folder, names in places.items():
        for name in names:
            path = root / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            (flower if folder == "flower" else china).save(path)
    (root / "temple" / "notes.txt").write_text("none", encoding="utf-8")
    (root / "temple" / "._a.jpg").write_bytes(b"what a Mac leaves")
    china.save(root / "stray.png")
    return root


@pytest.fixture
def factory(tmp_path: Path) -> str:
    path = tmp_path / "sets.py"
    path.write_text(FACTORY, encoding="utf-8")
    return str(path)


def test_folders_are_classes_in_the_order_of_their_names(photos: Path) -> None:
    data = load_data(f"imagefolder:{photos}", SMALL)
    assert data.classes == ["flower", "temple"]
    assert data.root == photos
    assert len(data) == 5
    assert NumberedSamples(data).identifiers() == [
        "flower/one.PNG", "temple/a.jpg", "temple/b.png", "temple/z/c.png", "temple/z-1/d.png",
    ]  # fmt: skip
    assert NumberedSamples(data).class_names() == ("flower", "temple")
    assert [label for _, label in data.samples] == [0, 1, 1, 1, 1]
    assert repr(data) == f"ImageFiles({str(photos)!r}, 5 images, 2 classes)"


def test_samples_have_the_numbers_that_torchvision_gives_them(photos: Path) -> None:
    (photos / "temple" / "._a.jpg").unlink()
    (photos / ".hidden" / "no.png").unlink()
    (photos / ".hidden").rmdir()
    assert load_data(f"imagefolder:{photos}").samples == datasets.ImageFolder(photos).samples


def test_images_are_what_the_model_sees_and_not_normalised(photos: Path) -> None:
    image, label = load_data(f"imagefolder:{photos}", SMALL)[1]
    assert label == 1
    assert image.equal(SMALL.view(open_image(photos / "temple" / "a.jpg")))
    assert image.shape == (3, 8, 8)
    assert 0 <= image.min() < image.max() <= 1
    assert load_data(f"imagefolder:{photos}")[0][0].shape == (3, 224, 224)


def test_a_model_of_one_channel_gets_grey(photos: Path) -> None:
    image, _ = load_data(f"imagefolder:{photos}", GREY)[0]
    assert image.shape == (1, 54, 80)


def test_a_folder_of_images_has_no_classes(photos: Path) -> None:
    (photos / "flower" / "thumbnails").mkdir()
    data = load_data(f"imagefolder:{photos / 'flower'}", SMALL)
    assert data.classes == []
    assert [label for _, label in data.samples] == [None]
    assert data[0][1] is None
    assert NumberedSamples(data)[0][2] is None  # type: ignore[index]


def test_a_folder_without_images_keeps_its_class(photos: Path) -> None:
    (photos / "house").mkdir()
    data = load_data(f"imagefolder:{photos}")
    assert data.classes == ["flower", "house", "temple"]
    assert {label for _, label in data.samples} == {0, 2}


def test_links_to_folders_are_followed(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "temple").symlink_to(photos / "temple")
    (photos / "flower" / "more").symlink_to(photos / "temple" / "z")
    assert len(load_data(f"imagefolder:{tmp_path / 'linked'}")) == 4
    assert len(load_data(f"imagefolder:{photos}")) == 6


def test_the_home_folder_may_be_a_tilde(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME" if os.name == "posix" else "USERPROFILE", str(photos.parent))
    assert len(load_data("imagefolder:~/photos")) == 5


def test_a_file_that_is_no_image_is_the_error_of_its_sample_only(photos: Path) -> None:
    (photos / "temple" / "b.png").write_bytes(b"nothing")
    data = load_data(f"imagefolder:{photos}", SMALL)
    assert len(data) == 5
    with pytest.raises(InputError, match="b.png' is no image that Pillow can read"):
        data[2]
    read = [NumberedSamples(data)[number] for number in range(5)]
    assert [isinstance(one, Failure) for one in read] == [False, False, True, False, False]
    assert isinstance(read[2], Failure)
    assert read[2].reason.endswith("b.png' is no image that Pillow can read; save it as .png or .jpg")


def test_image_files_travel_to_the_workers_of_a_loader(photos: Path) -> None:
    data = load_data(f"imagefolder:{photos}", SMALL)
    assert pickle.loads(pickle.dumps(data))[0][0].equal(data[0][0])


def test_folders_that_cannot_be_data_are_refused(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "all.tar.gz").touch()
    (tmp_path / "camera").mkdir()
    for name in ("1.HEIC", "2.heic", "notes.txt"):
        (tmp_path / "camera" / name).touch()
    (tmp_path / "empty").mkdir()
    for split in ("train", "val"):
        (tmp_path / "parted" / split).mkdir(parents=True)
        (tmp_path / "parted" / split / "temple").symlink_to(photos / "temple")
    for place, message in (
        (tmp_path / "none", "no folder '.*/none'(; did you mean .*)?$"),
        (tmp_path / "photo", r"no folder '.*photo'; did you mean 'photos'\?"),
        (photos / "stray.png", "no folder '.*stray.png': it is a file; name the folder .*, imagefolder:.*photos"),
        (tmp_path / "all.tar.gz", "'.*all.tar.gz' is an archive: unpack it and name the folder, imagefolder:DIR"),
        ("https://a.org/photos", "the data is an address, 'https://a.org/photos': fetch it by other means and name"),
        (tmp_path / "empty", "no image in '.*empty', nor in folders in it; it has no files; looked for .jpg, .jpeg"),
        (tmp_path / "camera", r"no image in '.*camera', .*; of its files 2 with \.heic, 1 with \.txt; looked for"),
        (
            tmp_path / "parted",
            "folders in '.*parted' are parts of a dataset, not classes: train, val; .* such as imagefolder:.*parted",
        ),
    ):
        with pytest.raises(InputError, match=message):
            load_data(f"imagefolder:{place}")
    assert load_data(f"imagefolder:{tmp_path / 'parted' / 'val'}").classes == ["temple"]


def test_a_path_without_a_scheme_is_answered_with_the_one_that_it_needs(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "all.zip").touch()
    for place, message in (
        (photos, "data of a folder is named imagefolder:.*photos, or npyfolder:"),
        (photos / "stray.png", "name the folder that it is in, imagefolder:.*photos"),
        (tmp_path / "all.zip", "is an archive: unpack it and name the folder, imagefolder:DIR"),
        ("s3://bucket/photos", "the data is an address, 's3://bucket/photos': fetch it"),
    ):
        with pytest.raises(InputError, match=message):
            load_data(str(place))


def test_images_that_are_left_out_are_counted(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "cats"):
        folder.mkdir(exist_ok=True)
        (folder / "b.heic").touch()
        (folder / "c.gif").touch()
        Image.new("RGB", (8, 8)).save(folder / "a.png")
        with pytest.warns(CrpKitWarning, match=r"2 images \(\.gif, \.heic; convert them to \.png or \.jpg\) are left"):
            assert len(ImageFiles(tmp_path, SMALL)) == 1


def test_a_class_whose_folder_cannot_be_read_is_not_left_out(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def guarded(path: str) -> object:
        if Path(path).name == "z":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.raises(InputError, match="cannot read the folder '.*temple/z': Permission denied"):
        load_data(f"imagefolder:{photos}")


def test_classes_may_be_called_like_parts(photos: Path, tmp_path: Path) -> None:
    for name in ("test", "train"):
        (tmp_path / "vehicles" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "vehicles" / name / "1.png")
    assert ImageFiles(tmp_path / "vehicles", SMALL).classes == ["test", "train"]


@pytest.mark.parametrize(
    ("spec", "count", "split"),
    [
        ("demo:shapes", 2000, "test"),
        ("demo:shapes:7", 7, "test"),
        ("demo:shapes:7:train", 7, "train"),
        ("demo:shapes:train", 2000, "train"),
    ],
)
def test_the_built_in_data(spec: str, count: int, split: str) -> None:
    data = load_data(spec)
    assert isinstance(data, ShapesDataset)
    assert (len(data), data.split, data.variant) == (count, split, None)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("demo:shapes-tag:7", "ShapesDataset(7, seed=0, split='test', variant='tag')"),
        ("demo:shapes-tag-any:7:train", "ShapesDataset(7, seed=0, split='train', variant='tag-any')"),
    ],
)
def test_the_built_in_data_with_a_planted_fault(spec: str, expected: str) -> None:
    assert repr(load_data(spec)) == expected


def idx(values: np.ndarray) -> bytes:
    """An array as MNIST's files hold it."""
    head = bytes([0, 0, 8, values.ndim]) + b"".join(size.to_bytes(4, "big") for size in values.shape)
    return head + values.astype(np.uint8).tobytes()


@pytest.fixture
def mnist(tmp_path: Path) -> Path:
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, count in (("t10k", 3), ("train", 5)):
        (raw / f"{name}-images-idx3-ubyte").write_bytes(idx(np.full((count, 28, 28), 51)))
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(idx(np.arange(count)))
    return tmp_path / "data"


@pytest.mark.parametrize(("part", "count"), [("", 3), (":test", 3), (":val", 3), (":train", 5)])
def test_a_dataset_of_torchvision_is_its_part_for_testing_unless_said(mnist: Path, part: str, count: int) -> None:
    data = load_data(f"torchvision:MNIST:{mnist}{part}", SMALL)
    assert len(data) == count
    image, label = data[count - 1]
    assert label == count - 1
    assert image.shape == (3, 8, 8)
    assert image.allclose(torch.tensor(51 / 255))
    assert load_data(f"torchvision:MNIST:{mnist}{part}", GREY)[0][0].shape == (1, 28, 28)
    assert NumberedSamples(data).class_names()[:2] == ("0 - zero", "1 - one")


def test_folders_may_have_colons_in_their_names(mnist: Path) -> None:
    place = mnist.rename(mnist.with_name("a:b"))
    (place / "deeper").mkdir()
    (place / "MNIST").rename(place / "deeper" / "MNIST")
    assert len(load_data(f"torchvision:MNIST:{place / 'deeper'}")) == 3
    assert len(load_data(f"torchvision:MNIST:{place / 'deeper'}:train")) == 5


def test_imagenet_is_its_validation_part_with_names(tmp_path: Path) -> None:
    (tmp_path / "val" / "n01440764").mkdir(parents=True)
    Image.new("L", (300, 260), 51).save(tmp_path / "val" / "n01440764" / "1.png")
    torch.save(({"n01440764": ("tench", "Tinca tinca")}, ["n01440764"]), tmp_path / "meta.bin")
    data = load_data(f"torchvision:ImageNet:{tmp_path}")
    assert data.split == "val"
    assert data[0][0].shape == (3, 224, 224)
    assert NumberedSamples(data).class_names() == ("tench, Tinca tinca",)
    assert NumberedSamples(data).identifiers() == ["val/n01440764/1.png"]


def test_pictures_of_all_kinds_fit_together_in_a_batch(tmp_path: Path) -> None:
    place = tmp_path / "eurosat" / "2750" / "Forest"
    place.mkdir(parents=True)
    for mode in ("L", "P", "RGB", "RGBA"):
        Image.new(mode, (16, 16)).save(place / f"{mode}.png")
    data = load_data(f"torchvision:EuroSAT:{tmp_path}", SMALL)
    assert {tuple(image.shape) for image, _ in data} == {(3, 8, 8)}


def test_nothing_is_ever_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(self: object) -> None:
        raise AssertionError("a download")

    monkeypatch.setattr(datasets.SEMEION, "download", download)
    with pytest.raises(InputError, match="Dataset not found"):
        load_data(f"torchvision:SEMEION:{tmp_path}")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("CIFAR1:R", "torchvision has no dataset named 'CIFAR1' .*; did you mean 'CIFAR10'"),
        ("FakeData:R", "torchvision has no dataset named 'FakeData' that lies in a folder"),
        ("get_dataset:R", "torchvision has no dataset named 'get_dataset'"),
        ("CIFAR10", "a dataset of torchvision is named torchvision:NAME:ROOT; got 'torchvision:CIFAR10'"),
        ("CIFAR10:R/no", "no folder '.*no', where the files of torchvision's CIFAR10 would lie"),
        (
            "CIFAR10:R",
            r"cannot be opened: Dataset not found or corrupted. Its files have to lie in '.*': crp-kit downloads none, "
            r"but torchvision.datasets.CIFAR10\('.*', train=False, download=True\) does$",
        ),
        ("SVHN:R:extra", r"torchvision.datasets.SVHN\('.*', split='extra', download=True\) does$"),
        ("ImageNet:R", "The archive ILSVRC2012_devkit_t12.tar.gz is not present .* crp-kit downloads none$"),
        ("USPS:R", "No such file or directory: .*usps.t.bz2'. Its files have to lie in"),
        (
            "CocoDetection:R",
            r"torchvision's CocoDetection needs more than a folder \(annFile\): write a function .* file.py:function",
        ),
        ("Food101:R:tset", "torchvision's Food101 has no part 'tset': Unknown value 'tset' .*'train', 'test'"),
        ("CIFAR10:R:extra", "torchvision:CIFAR10:.* has the parts train and test; got 'extra'"),
        ("Caltech101:R:train", "torchvision:Caltech101:.* cannot be asked for a part; got 'train'"),
        ("EMNIST:R", "torchvision's EMNIST needs the name of a part, torchvision:EMNIST:.*:SPLIT: .* 'letters'"),
        ("EMNIST:R:letters", "Dataset not found. Its files have to lie in"),
    ],
)
def test_datasets_of_torchvision_that_cannot_be_opened(tmp_path: Path, spec: str, message: str) -> None:
    name, colon, rest = spec.partition(":")
    place = rest.replace("R", str(tmp_path), 1)
    with pytest.raises(InputError, match=message):
        load_data(f"torchvision:{name}{colon}{place}")


def test_a_package_that_a_dataset_needs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def needy(self: object, root: str) -> None:
        raise ModuleNotFoundError("No module named 'lmdb'", name="lmdb")

    monkeypatch.setattr(datasets.EuroSAT, "__init__", needy)
    with pytest.raises(InputError, match="torchvision:EuroSAT:.* needs 'lmdb', which is not installed"):
        load_data(f"torchvision:EuroSAT:{tmp_path}")


def test_factories_in_files_and_packages(factory: str) -> None:
    assert repr(load_data(f"{factory}:shapes")) == repr(ShapesDataset(5))
    assert load_data(f"{factory}:pairs") == [(1, 2), (3, 4)]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("broken", "sets.py:broken failed in line [0-9]+: ValueError: no luck"),
        ("shape", "has no function 'shape'; did you mean 'shapes'"),
        ("Numbers", "has to return a map-style dataset, with len.. and an index; it returned Numbers"),
        ("Stream", "a map-style dataset.*, since samples are numbered; it returned the IterableDataset Stream"),
        ("loader", "has to return a map-style dataset, .* it returned DataLoader"),
        ("parts", "a map-style dataset, .* it returned dict of train, test: return one of its datasets"),
        ("both", "has to return a map-style dataset, .* it returned tuple"),
    ],
)
def test_what_a_factory_must_not_do_is_said(factory: str, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_data(f"{factory}:{name}")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("photos", "data is named imagefolder:DIR, torchvision:NAME:ROOT.*; got 'photos'"),
        ("imagefolder:", "data is named imagefolder:DIR"),
        ("imagefolders:photos", "no Python module named 'imagefolders'; did you mean imagefolder:photos?"),
        ("crp_kit.nothing:f", "no Python module named 'crp_kit.nothing'; data is named imagefolder:DIR"),
        ("nowhere.py:f", "no file 'nowhere.py'"),
        ("demo:shape", "the built-in data is demo:shapes, .* or demo:photos; got 'demo:shape'"),
        ("demo:shapes:many", "the built-in data is .* got 'demo:shapes:many'"),
        ("demo:shapes:5:val", "the built-in data is .* got 'demo:shapes:5:val'"),
        ("demo:shapes:0", "'demo:shapes:0' has no sample; at least 1"),
    ],
)
def test_texts_that_mean_nothing_are_answered_with_those_that_do(spec: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_data(spec)
