"""Files that are no RGB images: grey and deep pictures, signals and volumes in .npy files, pipes, devices and loops."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import invoke, refused
from image_batches import load_images
from PIL import Image

import crp_kit as crp
from crp_kit.data.folders import ArrayFiles
from crp_kit.data.image_files import open_image
from crp_kit.data.samples import Failure, NumberedSamples
from crp_kit.data.sources import load_data
from crp_kit.errors import AtlasError, InputError
from crp_kit.models.load import LoadedModel, Preprocess, load_model

GREY = Preprocess(resize=None, crop=None, mean=(0.5,), std=(0.25,))
SIGNAL = Preprocess(mean=(1.0,), std=(2.0,), shape=(40,))
VOLUME = Preprocess(mean=(0.0,), std=(1.0,), shape=(4, 6, 5))
FACTORIES = """
from torch import nn
from crp_kit.models.load import LoadedModel, Preprocess

def net(conv, pool, size=3):
    return nn.Sequential(conv, nn.ReLU(), pool, nn.Flatten(), nn.Linear(4, 3))

def grey():
    return LoadedModel(net(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1)),
                       Preprocess(resize=None, crop=None, mean=(0.5,), std=(0.25,)))

def signal():
    return LoadedModel(net(nn.Conv1d(1, 4, 3), nn.AdaptiveAvgPool1d(1)),
                       Preprocess(mean=(1.0,), std=(2.0,), shape=(40,)))

def volume():
    return LoadedModel(net(nn.Conv3d(1, 4, 3), nn.AdaptiveAvgPool3d(1)),
                       Preprocess(mean=(0.0,), std=(1.0,), shape=(4, 6, 5)))

def four():
    return LoadedModel(net(nn.Conv2d(4, 4, 3), nn.AdaptiveAvgPool2d(1)),
                       Preprocess(resize=None, crop=None, mean=(0.5,) * 4, std=(0.5,) * 4))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.py").write_text(FACTORIES, encoding="utf-8")
    return tmp_path


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape)


def saved(path: Path, array: Any) -> Path:
    np.save(path, array)
    return path


# ------------------------------------------------------------------------------------------------------------ grey


def test_a_model_of_one_channel_sees_pictures_in_grey(tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    Image.fromarray(values).save(tmp_path / "a.png")
    batch = load_images([tmp_path / "a.png"], GREY)
    assert torch.equal(batch.views[0, 0], torch.from_numpy(values).float() / 255)
    torch.testing.assert_close(batch.inputs, (batch.views - 0.5) / 0.25)
    Image.new("RGB", (4, 3), (255, 0, 0)).save(tmp_path / "red.png")
    assert load_images([tmp_path / "red.png"], GREY).views.unique().tolist() == pytest.approx([76 / 255])
    assert open_image(tmp_path / "a.png").mode == "RGB"


def test_sixteen_bits_of_grey_are_all_kept(tmp_path: Path) -> None:
    values = np.array([[0, 1, 2], [32767, 65534, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    view = GREY.read(tmp_path / "deep.png")
    assert torch.equal((view[0].double() * 65535).round(), torch.from_numpy(values.astype(np.float64)))
    assert len(view.unique()) == 6
    resized = Preprocess(resize=4, crop=4, mean=(0.5,), std=(0.25,)).read(tmp_path / "deep.png")
    assert resized.shape == (1, 4, 4)
    assert 0 <= float(resized.min()) < float(resized.max()) <= 1


def test_pictures_of_pillow_get_the_channels_of_the_model() -> None:
    assert GREY.view(Image.new("RGB", (2, 2))).shape == (1, 2, 2)
    assert GREY.view(Image.new("LA", (2, 2))).shape == (1, 2, 2)
    assert Preprocess(resize=None, crop=None).view(Image.new("L", (2, 2))).shape == (3, 2, 2)


def test_a_folder_of_grey_pictures_is_read_in_grey(tmp_path: Path) -> None:
    for name, mode in (("one", "L"), ("two", "I;16")):
        (tmp_path / name).mkdir()
        Image.new(mode, (5, 4), 100).save(tmp_path / name / "a.png")
    data = load_data(f"imagefolder:{tmp_path}", GREY)
    assert [tuple(image.shape) for image, _ in (data[0], data[1])] == [(1, 4, 5)] * 2
    assert float(data[0][0].max()) == pytest.approx(100 / 255)
    assert float(data[1][0].max()) == pytest.approx(100 / 65535)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mean": (0.5,), "std": (0.5, 0.5)}, "one number for each channel; got 1 and 2 of them"),
        ({"mean": 0.5}, r"mean has a finite number for each channel, such as \(0.5,\) for grey; got 0.5"),
        ({"mean": ()}, "mean has a finite number"),
        ({"mean": ("a", "b", "c")}, "mean has a finite number"),
        ({"mean": (0, 0, float("nan"))}, "mean has a finite number"),
        ({"std": (1, 0, 1)}, r"positive numbers; got \(1, 0, 1\)"),
        ({"resize": 0}, "resize is the length of the shorter side in pixels"),
        ({"crop": (1, 2, 3)}, "crop is one side length in pixels, or height and width"),
        ({"crop": 2.5}, "crop is one side length"),
        ({"shape": ()}, r"shape is \(time,\) or \(depth, height, width\)"),
        ({"shape": (1, -1)}, "shape is"),
        ({"interpolation": "cubic"}, "interpolation is one of nearest.*got 'cubic'"),
    ],
)
def test_a_preprocess_that_means_nothing_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Preprocess(**options)


def test_channels_that_the_numbers_do_not_fit_are_refused_instead_of_broadcast() -> None:
    with pytest.raises(InputError, match=r"for \(channel, height, width\) with 3 channels; got shape \(2, 1, 8, 8\)"):
        Preprocess().normalise(torch.zeros(2, 1, 8, 8))
    with pytest.raises(InputError, match=r"for \(channel, time\) with 1 channel; got shape \(40,\)"):
        SIGNAL.normalise(torch.zeros(40))


# ---------------------------------------------------------------------------------------------------- npy samples


@pytest.mark.parametrize(
    ("preprocess", "shape", "expected"),
    [
        (SIGNAL, (1, 40), (1, 40)),
        (SIGNAL, (40,), (1, 40)),
        (SIGNAL, (1, 7), (1, 7)),
        (VOLUME, (1, 4, 6, 5), (1, 4, 6, 5)),
        (VOLUME, (4, 6, 5), (1, 4, 6, 5)),
        (Preprocess(mean=(0,) * 5, std=(1,) * 5, shape=(40,)), (5, 40), (5, 40)),
        (GREY, (9, 8), (1, 9, 8)),
        (Preprocess(), (3, 9, 8), (3, 9, 8)),
    ],
)
def test_arrays_are_samples_as_they_are(
    tmp_path: Path, preprocess: Preprocess, shape: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    array = noise(*shape)
    batch = load_images([saved(tmp_path / "a.npy", array)], preprocess)
    assert torch.equal(batch.views[0], torch.from_numpy(array.astype(np.float32)).reshape(expected))
    mean, std = (torch.tensor(one).reshape(-1, *[1] * preprocess.axes) for one in (preprocess.mean, preprocess.std))
    torch.testing.assert_close(batch.inputs, (batch.views - mean) / std)


@pytest.mark.parametrize("dtype", ["<f8", ">f4", "f2", "i2", ">i4", "u1", "?", "u8"])
def test_every_type_of_real_number_is_read(tmp_path: Path, dtype: str) -> None:
    array = np.array([[0, 1, 1, 0]]).astype(dtype)
    view = SIGNAL.read(saved(tmp_path / "a.npy", array))
    assert view.dtype == torch.float32
    torch.testing.assert_close(view, torch.tensor([[0.0, 1, 1, 0]]) / (255 if dtype == "u1" else 1))


def broken(path: Path, kind: str) -> Path:
    """Write a .npy file that is wrong in some way."""
    sample = noise(1, 40)
    arrays: dict[str, Any] = {
        "objects": np.array([{"a": 1}], dtype=object),
        "complex": np.ones((1, 40), complex),
        "text": np.full((1, 40), "a"),
        "records": np.zeros((1, 40), dtype=[("a", "f4")]),
        "dates": np.zeros((1, 40), dtype="M8[s]"),
        "nan": np.where(np.arange(40) == 3, np.nan, sample),
        "huge": np.full((1, 40), 1e300),
        "empty": np.zeros((1, 0)),
        "two channels": noise(2, 40),
        "a batch": noise(2, 1, 40),
        "a number": np.array(1.0),
    }
    if kind in arrays:
        return saved(path, arrays[kind])
    whole = saved(path, sample).read_bytes()
    raw = {
        "cut": whole[:200],
        "nothing": b"",
        "words": b"hello",
        "a pickle": pickle.dumps({"a": 1}),
        "a promise": whole.replace(b"(1, 40)", b"(1, 99999999999)")[:400],
    }
    if kind == "an archive":
        with path.open("wb") as file:
            np.savez(file, a=sample)
        return path
    path.write_bytes(raw[kind])
    return path


BROKEN = {
    "objects": "it holds Python objects, which could run code",
    "complex": r"holds complex numbers \(complex128\)",
    "text": r"holds text \(<U1\)",
    "records": "holds records",
    "dates": "holds dates",
    "nan": "has 1 values that are NaN, infinite or too large for float32",
    "huge": "has 40 values that are NaN, infinite or too large for float32",
    "empty": r"holds no value: its shape is \(1, 0\)",
    "two channels": r"shape \(2, 40\); the model takes \(channel, time\) with 1 channel, as mean and std",
    "a batch": r"shape \(2, 1, 40\); the model takes \(channel, time\)",
    "a number": r"shape \(\); the model takes",
    "cut": "none or damaged",
    "nothing": "none or damaged",
    "words": "none or damaged",
    "a pickle": "none or damaged",
    "a promise": "none or damaged",
    "an archive": "an .npz archive of arrays; write the sample alone with numpy.save",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_arrays_that_are_no_sample_are_refused_in_a_sentence(tmp_path: Path, kind: str) -> None:
    with pytest.raises(InputError, match=BROKEN[kind]):
        SIGNAL.read(broken(tmp_path / "a.npy", kind))


class Runs:
    """Leaves a trace when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_objects_in_arrays_are_never_unpickled(tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    array = np.empty(1, dtype=object)
    array[0] = Runs(trace)
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    (tmp_path / "b.npy").write_bytes(pickle.dumps(Runs(trace)))
    for name in ("a.npy", "b.npy"):
        with pytest.raises(InputError, match="no .npy file of numbers"):
            SIGNAL.read(tmp_path / name)
    assert not trace.exists()


def test_a_folder_of_arrays_has_a_class_for_each_folder(tmp_path: Path) -> None:
    for name in ("quiet", "loud"):
        (tmp_path / name).mkdir()
        saved(tmp_path / name / "a.npy", noise(1, 40))
    broken(tmp_path / "quiet" / "b.npy", "nan")
    data = load_data(f"npyfolder:{tmp_path}", SIGNAL)
    assert isinstance(data, ArrayFiles)
    assert (data.classes, len(data)) == (["loud", "quiet"], 3)
    assert repr(data) == f"ArrayFiles({str(tmp_path)!r}, 3 arrays, 2 classes)"
    samples = NumberedSamples(data)
    assert samples[0][1].shape == (1, 40)  # type: ignore[index]
    failure = samples[2]
    assert isinstance(failure, Failure)
    assert "1 values that are NaN" in failure.reason
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="no array in .*; looked for .npy"):
        load_data(f"npyfolder:{tmp_path / 'none'}", SIGNAL)


def test_atlases_are_built_of_folders_of_arrays(folder: Path) -> None:
    for name in ("0", "2"):  # which are classes of the model
        (folder / "data" / name).mkdir(parents=True)
        saved(folder / "data" / name / "x.npy", noise(1, 40))
    made = invoke("atlas", "build", "--model", "m.py:signal", "--data", "npyfolder:data", "--layers", "0", "-o", "a.h5",
                  "--workers", "0", "--quiet")  # fmt: skip
    assert made.exit_code == 0, made.output
    with crp.ConceptAtlas("a.h5") as atlas:
        assert len(atlas.samples) == 2
        assert atlas["0"].info.output_shape == (4, 38)


# ------------------------------------------------------------------------------------------- pipes, devices, loops


@pytest.fixture
def pipes(folder: Path) -> Path:
    for name in ("p.png", "p.npy", "p.pt", "p.h5"):
        os.mkfifo(folder / name)
    (folder / "dev.png").symlink_to("/dev/zero")
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "gone.png").symlink_to("nothing")
    return folder


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("p.png", "'.*p.png' is a named pipe and no file; reading it might never end: write the image"),
        ("dev.png", "is a device and no file"),
        ("loop.png", "cannot be read: Too many levels of symbolic links"),
        ("gone.png", "no image file '.*gone.png': it is a link to what is not there"),
    ],
)
def test_what_is_named_like_an_image_and_is_no_file_is_refused_at_once(pipes: Path, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_image(pipes / name)
    assert "error: " in refused("heatmap", name, "--model", "m.py:grey")


def test_pipes_are_refused_as_arrays_weights_and_atlases_too(pipes: Path) -> None:
    assert "write the array into a file" in refused("heatmap", "p.npy", "--model", "m.py:signal")
    assert "write the image into a file" in refused("regions", "p.png", "--model", "m.py:grey", "--layer", "0")
    assert "write the image into a file" in refused("graph", "p.png", "--model", "m.py:grey")
    assert "write the weights into a file" in refused("layers", "--model", "m.py:grey", "--weights", "p.pt")
    assert "'p.h5' is a pipe or a device" in refused("atlas", "info", "p.h5")
    with pytest.raises(AtlasError, match="pipe or a device"):
        crp.ConceptAtlas(pipes / "p.h5")
    samples = NumberedSamples(load_data(f"imagefolder:{pipes}", GREY))
    assert all(isinstance(samples[number], Failure) for number in range(len(samples)))


def test_links_that_lead_back_are_not_followed_again(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "deep").mkdir(parents=True)
        Image.new("L", (4, 4)).save(tmp_path / name / "deep" / "x.png")
    (tmp_path / "self").symlink_to(".")
    (tmp_path / "a" / "up").symlink_to("..")
    (tmp_path / "a" / "deep" / "own").symlink_to(".")
    (tmp_path / "b" / "deep" / "top").symlink_to("../..")
    data = load_data(f"imagefolder:{tmp_path}", GREY)
    assert data.classes == ["a", "b"]
    assert [Path(path).relative_to(tmp_path).as_posix() for path, _ in data.samples] == ["a/deep/x.png", "b/deep/x.png"]


def test_links_to_each_other_end(tmp_path: Path) -> None:
    for name, other in (("a", "b"), ("b", "a")):
        (tmp_path / name).mkdir()
        Image.new("L", (4, 4)).save(tmp_path / name / f"{name}.png")
        (tmp_path / name / "other").symlink_to(f"../{other}")
    names = [Path(path).relative_to(tmp_path).as_posix() for path, _ in load_data(f"imagefolder:{tmp_path}").samples]
    assert names == ["a/a.png", "a/other/b.png", "b/b.png", "b/other/a.png"]


# ----------------------------------------------------------------------------------------------- the command line


def heatmap(*arguments: str) -> dict[str, np.ndarray]:
    made = invoke("heatmap", *arguments, "-o", "f.png", "--save-array", "f.npz", "--overwrite")
    assert made.exit_code == 0, made.output
    assert Path("f.png").read_bytes().startswith(b"\x89PNG")
    with np.load("f.npz") as arrays:
        return dict(arrays)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("factory", "array"), [("signal", noise(1, 40)), ("volume", noise(1, 4, 6, 5)), ("grey", noise(9, 8))]
)
def test_heatmaps_of_arrays_are_those_of_the_library(folder: Path, factory: str, array: np.ndarray) -> None:
    saved(folder / "x.npy", array)
    torch.manual_seed(0)
    state = load_model("m.py:" + factory).model.state_dict()
    torch.save(state, folder / "w.pt")
    found = heatmap("x.npy", "--model", f"m.py:{factory}", "--weights", "w.pt", "--each", "0:0-2")
    loaded = load_model(f"m.py:{factory}", "w.pt")
    inputs = load_images([folder / "x.npy"], loaded.preprocess).inputs
    cls = int(loaded.model(inputs)[0].argmax())
    composite = crp.rules.presets.preset("epsilon_plus_flat", low=loaded.preprocess.low, high=loaded.preprocess.high)
    expected = crp.CondAttribution(loaded.model)(inputs, [{"0": [one], "y": [cls]} for one in range(3)], composite)
    assert np.array_equal(found["heatmap"], expected.heatmap.numpy())


def test_a_model_of_signals_is_looked_at_by_its_own_shape(folder: Path) -> None:
    shown = invoke("layers", "--model", "m.py:signal").stdout.splitlines()
    assert shown[1].split()[:3] == ["0", "Conv1d", "4x38"]
    rows = json.loads(invoke("rules", "--model", "m.py:volume", "--size", "9x7x5", "--json").stdout)
    assert rows[1]["shape"] == [4, 7, 5, 3]
    assert "--size is written like 1000; got '4x5'" in refused("check", "--model", "m.py:signal", "--size", "4x5")
    assert "--size is written like 16x224x224; got '9'" in refused("check", "--model", "m.py:volume", "--size", "9")


@pytest.mark.parametrize(
    ("factory", "name", "message"),
    [
        ("signal", "a.png", r"the model takes (channel, time) with 1 channel, and 'a.png' is no .npy file"),
        ("four", "a.png", r"(channel, height, width) with 4 channels, and 'a.png' is no .npy file"),
        (
            "volume",
            "a.npy",
            r"'a.npy' holds an array of shape (1, 40); the model takes (channel, depth, height, width)",
        ),
        ("four", "a.npy", "a model of signals says so with Preprocess(shape=(time,), mean=..., std=...)"),
        ("grey", "b.npy", "'b.npy' is a folder; name the arrays in it"),
    ],
)
def test_files_that_a_model_does_not_take_are_refused(folder: Path, factory: str, name: str, message: str) -> None:
    Image.new("L", (8, 8)).save(folder / "a.png")
    saved(folder / "a.npy", noise(1, 40))
    (folder / "b.npy").mkdir()
    assert message in refused("heatmap", name, "--model", f"m.py:{factory}")


def test_the_range_and_a_sample_have_the_rank_of_the_input() -> None:
    assert SIGNAL.low.shape == (1, 1, 1)
    assert VOLUME.high.shape == (1, 1, 1, 1, 1)
    assert LoadedModel(torch.nn.Identity(), VOLUME).sample().shape == (1, 1, 4, 6, 5)
