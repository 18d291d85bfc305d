"""Samples of any map-style dataset: what counts as image and label, what cannot be read, in which order they come."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms
from torchvision.datasets import ImageFolder

from crp_kit.data import ShapesDataset
from crp_kit.data.batches import Batch, batches
from crp_kit.data.fingerprints import fingerprint
from crp_kit.data.labels import label_ids
from crp_kit.data.samples import Failure, Form, NumberedSamples
from crp_kit.errors import InputError
from crp_kit.interrupts import Interrupts

ROOT = Path(__file__).parents[2]
QUICK = settings(max_examples=80, derandomize=True, deadline=None)

PIXELS = np.arange(2 * 4 * 3, dtype=np.uint8).reshape(2, 4, 3) * 10
"""(height 2, width 4, channel 3)"""
TENSOR = torch.from_numpy(PIXELS).permute(2, 0, 1) / 255
PICTURE = Image.fromarray(PIXELS)


class Listed:
    """A dataset with attributes as a test chooses; it may fail."""

    def __init__(self, given: Sequence[Any], **attributes: Any) -> None:
        self.given = given
        self.__dict__.update(attributes)

    def __len__(self) -> int:
        return len(self.given)

    def __getitem__(self, number: int) -> Any:
        one = self.given[number]
        if isinstance(one, BaseException):
            raise one
        return one


def read(given: Any, **options: Any) -> tuple[int, torch.Tensor, tuple[int, ...] | None]:
    found = NumberedSamples(Listed([given]), **options)[0]
    assert not isinstance(found, Failure), found.reason
    return found


def failure(given: Any, **options: Any) -> str:
    found = NumberedSamples(Listed([given]), **options)[0]
    assert isinstance(found, Failure)
    assert found.sample == 0
    return found.reason


# ---------------------------------------------------------------------------------------------------------- images


@pytest.mark.parametrize(
    "image",
    [TENSOR, (TENSOR * 255).round().to(torch.uint8), PIXELS, PICTURE],
    ids=["tensor", "uint8 tensor", "numpy uint8", "Pillow"],
)
@pytest.mark.parametrize(
    ("given", "label"),
    [
        (lambda image: (image, 5), (5,)),
        (lambda image: [image, 5], (5,)),
        (lambda image: (image, 5, "more", None), (5,)),
        (lambda image: (image,), None),
        (lambda image: (image, None), None),
        (lambda image: image, None),
        (lambda image: {"image": image, "label": 5}, (5,)),
        (lambda image: {"image": image}, None),
        (lambda image: {"name": "x", "img": image, "labels": [2, 1]}, (2, 1)),
        (lambda image: {"pixel_values": image, "target": 5}, (5,)),
        (lambda image: {"targets": [5], "input": image}, (5,)),
    ],
)
def test_an_image_is_found_in_whatever_form_a_dataset_gives_it(
    image: Any, given: Callable[[Any], Any], label: tuple[int, ...] | None
) -> None:
    number, tensor, ids = read(given(image))
    assert number == 0
    assert tensor.dtype == torch.float32
    assert torch.equal(tensor, TENSOR)
    assert ids == label


def test_the_first_known_key_of_a_dictionary_counts() -> None:
    other = torch.zeros(1, 1, 1)
    _, tensor, ids = read({"pixel_values": other, "image": TENSOR, "target": 3, "label": 5})
    assert torch.equal(tensor, TENSOR)
    assert ids == (5,)


def test_a_view_makes_tensors_of_pictures_and_of_arrays_of_bytes_and_of_nothing_else() -> None:
    def view(picture: Any) -> torch.Tensor:
        return torch.full((1, 2, 2), Image.fromarray(np.asarray(picture)).width / 10)

    for image in (PICTURE, PIXELS):
        assert torch.equal(read((image, 0), view=view)[1], torch.full((1, 2, 2), 0.4))
    for image in (TENSOR, TENSOR.numpy()):
        assert torch.equal(read((image, 0), view=view)[1], TENSOR)


def test_other_numbers_stay_as_they_are() -> None:
    for image in (TENSOR.double(), TENSOR.bfloat16(), TENSOR * 1000 - 7):
        found = read((image, 0))[1]
        assert found.dtype == image.dtype
        assert torch.equal(found, image)
    array = np.linspace(-3, 3, 24).reshape(3, 2, 4)
    assert torch.equal(read((array, 0))[1], torch.from_numpy(array))


NAN, INFINITY = TENSOR.clone(), TENSOR.clone()
NAN[0, 0, :2] = torch.nan
INFINITY[1, 0, 0] = -torch.inf


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((NAN, 0), "the image has 2 values that are NaN or infinite (of 24)"),
        ((INFINITY, 0), "the image has 1 values that are NaN or infinite (of 24)"),
        ({"image": INFINITY.half()}, "the image has 1 values that are NaN or infinite (of 24)"),
        (("cat.png", 0), "an image is a tensor, a picture of Pillow or an array; got str"),
        (b"\xff\xd8", "an image is a tensor, a picture of Pillow or an array; got bytes"),
        (None, "an image is a tensor, a picture of Pillow or an array; got NoneType"),
        (
            {"photo": TENSOR, "label": 5},
            "a sample that is a dictionary needs an image under one of image, img, pixel_values, input; it has photo, "
            "label",
        ),
        ((), "a sample is an image, or an image and its label; got an empty tuple or list"),
        (OSError("the disk is gone"), "OSError: the disk is gone"),
        (KeyError("7"), "KeyError: '7'"),
        (StopIteration(), "StopIteration"),
        (InputError("a word of its own"), "a word of its own"),
        ((TENSOR, "cat"), "a label is a class id or several; got the text 'cat'"),
    ],
)
def test_what_cannot_be_read_is_a_fact_with_a_reason(given: Any, message: str) -> None:
    assert failure(given) == message


def test_a_view_that_fails_is_a_reason_too() -> None:
    def broken(picture: Image.Image) -> torch.Tensor:
        raise ZeroDivisionError("no width")

    assert failure((PICTURE, 0), view=broken) == "ZeroDivisionError: no width"
    assert (
        failure((PICTURE, 0), view=np.asarray) == "an image is a tensor, a picture of Pillow or an array; got ndarray"
    )


class Several(Listed):
    """Gives several at once."""

    def __getitems__(self, numbers: Sequence[int]) -> list[Any]:
        return [self[number] for number in numbers]


class Cancelled(BaseException):
    """An exit of a library."""


@pytest.mark.parametrize("error", [SystemExit("3"), MemoryError("of 8 GB"), GeneratorExit(), Cancelled("now")])
@pytest.mark.parametrize("kind", [Listed, Several])
def test_what_is_no_fault_of_a_sample_is_a_fact_that_ends_a_pass(error: BaseException, kind: type[Listed]) -> None:
    name = type(error).__name__
    expected = Failure(0, f"{name}: {error}" if str(error) else name, fatal=True)
    samples = NumberedSamples(kind([error]))
    assert samples[0] == expected
    assert samples.__getitems__([0]) == [expected]


@pytest.mark.parametrize("kind", [Listed, Several])
def test_an_interrupt_is_the_users_unless_interrupts_are_noted(kind: type[Listed]) -> None:
    samples = NumberedSamples(kind([KeyboardInterrupt()]))
    with pytest.raises(KeyboardInterrupt):
        samples[0]
    with pytest.raises(KeyboardInterrupt):
        samples.__getitems__([0])
    noting = replace(samples, interruptible=False)
    with pytest.raises(KeyboardInterrupt):
        noting[0]  # Python's own handler is there: Ctrl-C would raise it
    with Interrupts():
        assert noting[0] == Failure(0, "KeyboardInterrupt", fatal=True)
        assert noting.__getitems__([0]) == [Failure(0, "KeyboardInterrupt", fatal=True)]


def test_a_reason_can_be_written_whatever_bytes_a_file_name_has() -> None:
    assert failure(OSError("cannot open caf\udce9.png")).encode() == rb"OSError: cannot open caf\udce9.png"


# ---------------------------------------------------------------------------------------------------------- labels


@pytest.mark.parametrize(
    ("label", "ids"),
    [
        (3, (3,)),
        (0, (0,)),
        (True, (1,)),
        (np.int64(3), (3,)),
        (np.uint8(255), (255,)),
        (3.0, (3,)),
        (np.float32(3), (3,)),
        (torch.tensor(3), (3,)),
        (torch.tensor(3.0), (3,)),
        (torch.tensor([3]), (3,)),
        (torch.tensor([[3]]), (3,)),
        (np.array([3], "i4"), (3,)),
        ([3, 1], (3, 1)),
        ((3, 1, 3), (3, 1)),
        (torch.tensor([3, 1, 3, 1]), (3, 1)),
        (torch.tensor([0, 1, 0, 1]), (0, 1)),
        (torch.tensor([0.0, 1.0, 0.0, 1.0]), (1, 3)),
        (np.array([1.0, 0.0, 1.0]), (0, 2)),
        (torch.tensor([False, True, True]), (1, 2)),
        ([True, False], (0,)),
        (torch.zeros(4), ()),
        ([], ()),
        (torch.zeros(0, dtype=torch.long), ()),
        (None, None),
        (-1, None),
        (torch.tensor(-1), None),
        ([3, -1], None),
        (float("nan"), None),
        (np.float32("nan"), None),
        (torch.tensor(torch.nan), None),
    ],
)
def test_a_label_is_class_ids_or_nothing(label: Any, ids: tuple[int, ...] | None) -> None:
    found = label_ids(label)
    assert found == ids
    assert found is None or all(type(one) is int for one in found)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("3", "a label is a class id or several; got the text '3'"),
        (2.5, "a label is a whole number, the class id; got 2.5"),
        (torch.tensor(0.5), "a label is a whole number, the class id"),
        (float("inf"), "a label is a whole number, the class id; got inf"),
        (b"3", "a label is a class id or several; got b'3'"),
        ({"id": 3}, "a label is a class id or several; got {'id': 3}"),
        ([3, None], r"a label is a class id or several; got \[3, None\]"),
        (2**70, "a label is a class id or several; got 1180591620717411303424"),
        (np.array(["cat"] * 99), "a label is a class id or several; got array"),
        ([0.5, 1.0], "a label vector holds zeros and ones, or whole numbers that are class ids"),
        (torch.tensor([0.0, 2.0]), "a label vector holds zeros and ones"),
        (torch.tensor([0.0, torch.nan]), "a label vector holds zeros and ones"),
        (
            torch.zeros(2, 3),
            r"a label is a class id, several, a vector of zeros and ones, or a mask of whole numbers; got \(2, 3\)",
        ),
        (torch.tensor([[0.0, 1.0]]), r"or a mask of whole numbers; got \(1, 2\)"),
    ],
)
def test_what_is_no_label_is_told(label: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        label_ids(label)


@QUICK
@given(vector=st.lists(st.booleans(), min_size=2, max_size=20))
def test_a_vector_of_zeros_and_ones_and_the_list_of_its_ones_mean_the_same(vector: list[bool]) -> None:
    expected = tuple(number for number, one in enumerate(vector) if one)
    for dtype in (torch.bool, torch.float32, torch.float64, torch.float16):
        assert label_ids(torch.tensor(vector, dtype=dtype)) == expected
    assert label_ids(list(expected)) == label_ids(np.array(expected, "i8")) == expected


# --------------------------------------------------------------------------------------------------------- batches


class Awkward(Listed):
    """Gives several at once, but not where one of them is bad."""

    def __init__(self, given: Sequence[Any]) -> None:
        super().__init__(given)
        self.asked: list[list[int]] = []

    def __getitems__(self, numbers: list[int]) -> list[Any]:
        self.asked.append(numbers)
        return [self[number] for number in numbers]


def test_several_are_asked_for_at_once_and_one_by_one_where_that_fails() -> None:
    dataset = Awkward([(TENSOR, 0), ValueError("broken"), (NAN, 2), (TENSOR, 3)])
    samples = NumberedSamples(dataset)
    good = samples.__getitems__([3, 0])
    assert [one[0] for one in good] == [3, 0]
    assert [one[2] for one in good] == [(3,), (0,)]
    found = samples.__getitems__([0, 1, 2, 3])
    assert dataset.asked == [[3, 0], [0, 1, 2, 3]]
    assert [one.sample if isinstance(one, Failure) else one[0] for one in found] == [0, 1, 2, 3]
    assert found[1] == Failure(1, "ValueError: broken")
    assert found[2] == Failure(2, "the image has 2 values that are NaN or infinite (of 24)")


@pytest.mark.parametrize("answer", [[], [(TENSOR, 9)] * 5, None, [(TENSOR, 9), (TENSOR, 9)]])
def test_an_answer_of_another_length_is_not_paired_with_the_wrong_samples(answer: Any) -> None:
    class Wrong(Listed):
        def __getitems__(self, numbers: list[int]) -> Any:
            return answer

    samples = NumberedSamples(Wrong([(TENSOR, 0), (TENSOR, 1), (TENSOR, 2)]))
    assert [one[2] for one in samples.__getitems__([2, 0, 1])] == [(2,), (0,), (1,)]


def test_an_image_of_another_shape_than_its_batch_is_a_fact() -> None:
    samples = NumberedSamples(Listed([(NAN, 0), (TENSOR, 1), (TENSOR[:, :1], 2), (TENSOR[:1], 3), (TENSOR, None)]))
    (batch,) = batches(replace(samples, form=Form((3, 2, 4), torch.float32)), [range(5)])
    assert batch.samples == (1, 4)
    assert batch.labels == ((1,), None)
    assert batch.images is not None
    assert torch.equal(batch.images, torch.stack([TENSOR, TENSOR]))
    assert sorted(batch.failures, key=lambda one: one.sample) == [
        Failure(0, "the image has 2 values that are NaN or infinite (of 24)"),
        Failure(
            2,
            "its shape is (3, 1, 4) and that of the other samples (3, 2, 4); give all one size, by a transform of the "
            "dataset, or of pictures by crp_kit.data.Preprocess",
        ),
        Failure(3, "its shape is (1, 2, 4) and that of the other samples (3, 2, 4)"),
    ]


def test_a_batch_in_which_nothing_can_be_read_has_no_images() -> None:
    (batch,) = batches(NumberedSamples(Listed([(NAN, 0), OSError("gone")])), [[1, 0]])
    assert batch.images is None
    assert batch.samples == batch.labels == ()
    assert [one.sample for one in batch.failures] == [1, 0]


def same(one: Batch, two: Batch) -> bool:
    images = (
        one.images is None if two.images is None else one.images is not None and torch.equal(one.images, two.images)
    )
    return images and (one.samples, one.labels, one.failures) == (two.samples, two.labels, two.failures)


@pytest.mark.slow
@pytest.mark.parametrize("several", [True, False], ids=["several at once", "one by one"])
def test_batches_come_in_the_order_of_the_grid_for_any_number_of_workers(several: bool) -> None:
    shapes = ShapesDataset(30)
    given: list[Any] = [shapes[number] for number in range(30)]
    given[7], given[11], given[12] = OSError("gone"), (given[11][0][:, :5], 1), (given[12][0] / 0, 2)
    dataset = Awkward(given) if several else Listed(given)
    grid = [[29, 3, 4], [7], [0, 1, 2, 11, 12, 13], [5], [28, 27], [11, 12], [6, 6]]
    samples = NumberedSamples(dataset, form=Form((3, 64, 64), torch.float32))
    found = {workers: list(batches(samples, grid, workers=workers)) for workers in (0, 1, 2)}
    for number, wanted in enumerate(grid):
        batch = found[0][number]
        assert sorted([*batch.samples, *(one.sample for one in batch.failures)]) == sorted(wanted)
        assert list(batch.samples) == [one for one in wanted if one in batch.samples]
        for place, sample in enumerate(batch.samples):
            assert batch.images is not None
            assert torch.equal(batch.images[place], given[sample][0])
            assert batch.labels[place] == (given[sample][1],)
    for workers in (1, 2):
        assert len(found[workers]) == len(grid)
        assert all(map(same, found[workers], found[0]))


def test_an_empty_grid_has_no_batches() -> None:
    assert list(batches(NumberedSamples(Listed([(TENSOR, 0)])), [])) == []


# ---------------------------------------------------------------------------------------------- names of samples


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes, of two and one images."""
    for number, name in enumerate(("cat/b.png", "cat/deep/a.png", "dog/ünï code.png")):
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(PIXELS + np.uint8(number)).save(path)
    return tmp_path / "pictures"


def test_samples_of_a_folder_are_named_by_their_paths_in_it(folder: Path) -> None:
    samples = NumberedSamples(ImageFolder(str(folder)))
    assert samples.identifiers() == ["cat/b.png", "cat/deep/a.png", "dog/ünï code.png"]
    assert samples.class_names() == ("cat", "dog")
    assert [samples[number][2] for number in range(3)] == [(0,), (0,), (1,)]  # type: ignore[index]
    assert torch.equal(samples[0][1], TENSOR)  # type: ignore[index]


def test_an_unreadable_file_of_a_folder_is_a_fact_with_its_name(folder: Path) -> None:
    (folder / "cat" / "b.png").write_bytes(b"no picture")
    found = NumberedSamples(ImageFolder(str(folder)))[0]
    assert isinstance(found, Failure)
    assert found.reason.startswith("UnidentifiedImageError: cannot identify image file")


@pytest.mark.skipif(os.name != "posix" or sys.platform == "darwin", reason="file names are Unicode there")
def test_a_file_name_that_is_no_unicode_has_a_name_that_can_be_written(folder: Path) -> None:
    os.rename(folder / "cat" / "b.png", os.fsencode(folder / "cat") + b"/caf\xe9.png")
    samples = NumberedSamples(ImageFolder(str(folder), transform=transforms.ToTensor()))
    names = samples.identifiers()
    assert names is not None
    assert names[0].encode() == rb"cat/caf\udce9.png"
    assert len(fingerprint(samples)) == 64


@pytest.mark.parametrize(
    ("attributes", "names"),
    [
        ({}, None),
        ({"samples": [("a.png", 0), ("b.png", 1)]}, ["a.png", "b.png"]),
        ({"imgs": [("a.png", 0), (Path("b.png"), 1)]}, ["a.png", "b.png"]),
        ({"imgs": (["/x/a.png", 0], ["/x/b.png", 1]), "root": "/x"}, ["a.png", "b.png"]),
        ({"imgs": [("/y/a.png", 0), ("/x/b.png", 1)], "root": Path("/x")}, ["/y/a.png", "b.png"]),
        ({"samples": np.zeros((2, 3)), "imgs": [("a.png", 0), ("b.png", 1)]}, ["a.png", "b.png"]),
        ({"samples": [(b"caf\xe9.png", 0), (PurePath("b.png"), 1)]}, [r"caf\udce9.png", "b.png"]),
        ({"samples": np.array([("a.png", 0), ("b.png", 1)])}, ["a.png", "b.png"]),
        ({"samples": np.array([("a.png", 0), ("b.png", 1)], dtype=object)}, ["a.png", "b.png"]),
        ({"samples": np.array(3.0)}, None),
        ({"samples": [("a.png", 0)]}, None),
        ({"samples": [("a.png", 0), ()]}, None),
        ({"samples": [(1, 0), (2, 0)]}, None),
        ({"samples": np.zeros((2, 3))}, None),
        ({"samples": torch.zeros(2, 3)}, None),
        ({"samples": "ab"}, None),
        ({"samples": 2}, None),
    ],
)
def test_names_are_those_of_files_or_none(attributes: dict[str, Any], names: list[str] | None) -> None:
    assert NumberedSamples(Listed([(TENSOR, 0)] * 2, **attributes)).identifiers() == names


@pytest.mark.parametrize(
    ("attributes", "names"),
    [
        ({}, ()),
        ({"classes": ["cat", "dog"]}, ("cat", "dog")),
        ({"classes": [("tench", "Tinca tinca"), ("goldfish",)]}, ("tench, Tinca tinca", "goldfish")),
        ({"classes": [3, 7]}, ("3", "7")),
        ({"classes": "abc"}, ()),
        ({"classes": 10}, ()),
        ({"classes": None}, ()),
        ({"classes": np.array(["cat", "dog"])}, ("cat", "dog")),
        ({"classes": np.array(["cat", "dog"], dtype=object)}, ("cat", "dog")),
        ({"classes": np.array([b"cat", b"dog"])}, ("cat", "dog")),
        ({"classes": [b"caf\xe9", "th\u00e9".encode()]}, (r"caf\udce9", "th\u00e9")),
    ],
)
def test_names_of_classes(attributes: dict[str, Any], names: tuple[str, ...]) -> None:
    assert NumberedSamples(Listed([], **attributes)).class_names() == names


# ----------------------------------------------------------------------------------------------------- fingerprints


def altered(number: int, given: Any) -> list[Any]:
    found = [(TENSOR + one / 100, one % 3) for one in range(40)]
    found[number] = given
    return found


PLAIN = [(TENSOR + one / 100, one % 3) for one in range(40)]


@pytest.mark.parametrize(
    "other",
    [
        Listed(PLAIN[:-1]),
        Listed([*PLAIN, PLAIN[-1]]),
        Listed(altered(0, (TENSOR + 1e-7, 0))),
        Listed(altered(39, (TENSOR, 0))),
        Listed(altered(0, (TENSOR, 1))),
        Listed(altered(0, (TENSOR, None))),
        Listed(altered(0, (TENSOR, [0, 1]))),
        Listed(altered(0, (TENSOR.double(), 0))),
        Listed(altered(0, (TENSOR.reshape(3, 4, 2), 0))),
        Listed(altered(0, OSError("gone"))),
        Listed(PLAIN, samples=[(f"{number}.png", 0) for number in range(40)]),
        Listed(PLAIN[::-1]),
    ],
    ids="shorter longer content last label unlabelled labels dtype shape unreadable names order".split(),
)
def test_a_fingerprint_differs_when_content_labels_length_or_names_differ(other: Listed) -> None:
    same_again = Listed([(image.clone(), label) for image, label in PLAIN])
    assert fingerprint(NumberedSamples(Listed(PLAIN))) == fingerprint(NumberedSamples(same_again))
    assert fingerprint(NumberedSamples(other)) != fingerprint(NumberedSamples(Listed(PLAIN)))


def test_a_fingerprint_differs_when_one_name_or_the_view_differs() -> None:
    names = [(f"{number}.png", 0) for number in range(40)]
    one, two = (Listed(PLAIN, samples=some) for some in (names, [*names[:-1], ("other.png", 0)]))
    assert fingerprint(NumberedSamples(one)) != fingerprint(NumberedSamples(two))
    pictures = Listed([(PICTURE, 0)])
    halved = NumberedSamples(pictures, view=lambda picture: transforms.ToTensor()(picture) / 2)
    assert fingerprint(NumberedSamples(pictures)) != fingerprint(halved)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int16])
def test_a_fingerprint_takes_any_type_layout_and_size(dtype: torch.dtype) -> None:
    image = torch.arange(24).reshape(2, 3, 4).to(dtype)
    plain, turned = (
        NumberedSamples(Listed([(one, 0)])) for one in (image, image.transpose(0, 2).contiguous().transpose(0, 2))
    )
    assert fingerprint(plain) == fingerprint(turned)
    assert fingerprint(NumberedSamples(Listed([(torch.tensor(3, dtype=dtype), 0)]))) != fingerprint(plain)
    assert len({fingerprint(NumberedSamples(Listed([(PLAIN[0])] * count))) for count in (1, 2, 15, 16, 17, 33)}) == 6


@pytest.mark.slow
def test_a_fingerprint_is_the_same_in_another_process(folder: Path) -> None:
    code = """
        import json, sys
        from torchvision import transforms
        from torchvision.datasets import ImageFolder
        from crp_kit.data import ShapesDataset
        from crp_kit.data.fingerprints import fingerprint
        from crp_kit.data.samples import NumberedSamples
        sets = ShapesDataset(50, seed=3), ImageFolder(sys.argv[1], transform=transforms.ToTensor())
        print(json.dumps([fingerprint(NumberedSamples(one)) for one in sets]))
    """
    here = [ShapesDataset(50, seed=3), ImageFolder(str(folder), transform=transforms.ToTensor())]
    ran = subprocess.run(
        [sys.executable, "-c", "\n".join(line.strip() for line in code.splitlines()), str(folder)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "77"},
    )
    assert json.loads(ran.stdout) == [fingerprint(NumberedSamples(one)) for one in here]
