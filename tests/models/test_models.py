"""Models, weights and images by name: what loads, and what is said about what does not."""

from __future__ import annotations

import pickle
import sys
import urllib.error
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from image_batches import load_images
from PIL import Image
from torch import nn
from torchvision import models as torchvision_models

from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
from crp_kit.data.image_files import open_image
from crp_kit.errors import InputError, ModelError
from crp_kit.models.load import LoadedModel, Preprocess, load_model

FACTORY = """
import torch
from crp_kit.models.load import LoadedModel, Preprocess

def tiny():
    return torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1), torch.nn.Dropout())

def described():
    return LoadedModel(tiny(), Preprocess(resize=8, crop=8), classes=("a", "b"))

def broken():
    raise ValueError("no luck")

def number():
    return 3

helper = 5
"""


@pytest.fixture
def factory(tmp_path: Path) -> str:
    path = tmp_path / "nets.py"
    path.write_text(FACTORY, encoding="utf-8")
    return str(path)


def test_the_demo_model_comes_with_preprocessing_and_classes() -> None:
    loaded = load_model("demo:resnet")
    images, labels = ShapesDataset(8, split="test").batch(range(8))
    assert not loaded.model.training
    assert loaded.preprocess.normalise(images).equal(demo_preprocess(images))
    assert loaded.model(demo_preprocess(images)).argmax(1).equal(labels)
    assert loaded.class_name(int(labels[0])).endswith(ShapesDataset.classes[int(labels[0])])
    assert loaded.class_name(99) == "99"
    assert loaded.sample().shape == (1, 3, 64, 64)


def test_the_demo_model_of_the_variant_with_a_tag_has_weights_of_its_own() -> None:
    loaded, plain = load_model("demo:resnet-tag"), load_model("demo:resnet")
    assert loaded.preprocess == plain.preprocess
    assert loaded.classes == plain.classes
    assert not loaded.model.conv1.weight.equal(plain.model.conv1.weight)  # type: ignore[union-attr, operator, arg-type]


def test_none_means_untrained() -> None:
    trained, untrained = load_model("demo:resnet"), load_model("demo:resnet", "none")
    assert not trained.model.conv1.weight.equal(untrained.model.conv1.weight)  # type: ignore[union-attr, operator, arg-type]


def test_torchvision_models_load_untrained_with_imagenet_preprocessing() -> None:
    loaded = load_model("torchvision:squeezenet1_1", "none")
    assert loaded.preprocess == Preprocess()
    assert loaded.classes is None
    assert loaded.output is None
    assert not loaded.model.training


@pytest.mark.slow
def test_published_weights_bring_their_own_preprocessing_and_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = torchvision_models.EfficientNet_B1_Weights.IMAGENET1K_V2
    monkeypatch.setattr(
        type(entry), "get_state_dict", lambda *_, **__: load_model("torchvision:efficientnet_b1").model.state_dict()
    )
    loaded = load_model("torchvision:efficientnet_b1", "IMAGENET1K_V2")
    preset = entry.transforms()
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8))
    assert loaded.preprocess(image).shape == (3, 240, 240)
    # Scaling to [0, 1] and then normalising, in either implementation, rounds a few times in float32.
    torch.testing.assert_close(loaded.preprocess(image), preset(image), rtol=0, atol=1e-6)
    assert loaded.class_name(207) == "207 golden retriever"


def test_segmentation_models_are_attributed_at_their_main_output() -> None:
    loaded = load_model("torchvision:lraspp_mobilenet_v3_large", "none")
    assert loaded.output == "out"
    assert loaded.preprocess.crop is None


def test_factories_in_files_and_packages(factory: str) -> None:
    assert not load_model(f"{factory}:tiny").model.training
    described = load_model(f"{factory}:described")
    assert described.class_name(1) == "1 b"
    assert described.sample().shape == (1, 3, 8, 8)
    assert isinstance(load_model("crp_kit.data:demo_resnet"), LoadedModel)


@pytest.mark.parametrize(
    ("spec", "weights", "message"),
    [
        (
            "resnet50",
            None,
            r"a model is named demo:resnet, torchvision:NAME.*got 'resnet50'; did you mean torchvision:r",
        ),
        ("mine.py", None, "got 'mine.py': name the function in it too, as mine.py:make"),
        ("mine.pt", None, "got 'mine.pt'; weights are said beside their model, as weights"),
        ("demo:vgg", None, "no demo model named 'vgg'; there are demo:resnet and demo:resnet-tag"),
        ("demo:resnet", "V9", "demo:resnet has no weights 'V9'; there are DEFAULT, none or a state-dict file"),
        ("torchvision:resnet51", None, "torchvision has no model named 'resnet51'; did you mean 'resnet50'"),
        (
            "torchvision:resnet18",
            "V7",
            "torchvision:resnet18 has no weights 'V7'; there are DEFAULT, IMAGENET1K_V1, none",
        ),
        ("torchvison:resnet18", None, "no Python module named 'torchvison'; did you mean torchvision:resnet18?"),
        ("crp_kit.nothing:f", None, "no Python module named 'crp_kit.nothing'; a model is named"),
        ("crp_kit.data:demo_resnt", None, "crp_kit.data has no function 'demo_resnt'; did you mean 'demo_resnet'?"),
        ("crp_kit.data:demo_resnet", "DEFAULT", "sets its own weights; give a state-dict file or nothing"),
        ("nowhere.py:f", None, "no file 'nowhere.py'"),
        ("demo:resnet", "nowhere.pt", "no weights file 'nowhere.pt'"),
    ],
)
def test_what_is_not_there_is_said_with_what_is(spec: str, weights: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_model(spec, weights)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(InputError, match="timm:resnet50 needs timm, which is not installed: pip install timm"):
        load_model("timm:resnet50")
    path = tmp_path / "w.safetensors"
    path.touch()
    with pytest.raises(InputError, match="needs safetensors, which is not installed: pip install safetensors"):
        load_model("demo:resnet", str(path))


@pytest.fixture
def timm(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """As much of timm's interface as is used."""

    def create_model(name: str, *, pretrained: bool) -> nn.Module:
        if pretrained:
            raise RuntimeError("no pretrained weights exist")
        return nn.Sequential(nn.Conv2d(3, 2, 1)).train()

    config = {
        "input_size": (3, 32, 48),
        "crop_pct": 0.8,
        "mean": (0.5,) * 3,
        "std": (0.25,) * 3,
        "interpolation": "bicubic",
    }
    data = SimpleNamespace(resolve_model_data_config=lambda model: config)
    module = SimpleNamespace(list_models=lambda: ["resnet50", "vit_tiny"], create_model=create_model, data=data)
    monkeypatch.setitem(sys.modules, "timm", module)  # type: ignore[arg-type]
    return module


def test_timm_models_bring_their_own_preprocessing(timm: SimpleNamespace) -> None:
    loaded = load_model("timm:resnet50.a1_in1k")
    assert loaded.preprocess == Preprocess(40, (32, 48), (0.5,) * 3, (0.25,) * 3, "bicubic")
    assert loaded.preprocess(Image.new("RGB", (100, 90))).shape == (3, 32, 48)
    assert not loaded.model.training
    with pytest.raises(InputError, match="timm has no model named 'resnet5'; did you mean 'resnet50'?"):
        load_model("timm:resnet5")
    with pytest.raises(InputError, match="timm:resnet50 has no weights 'V1'; .* such as timm:resnet50.a1_in1k"):
        load_model("timm:resnet50", "V1")
    with pytest.raises(
        ModelError, match=r"weights DEFAULT of vit_tiny could not be fetched \(no pretrained weights exist\)"
    ):
        load_model("timm:vit_tiny", "DEFAULT")


def test_models_that_do_not_map_an_image_to_a_tensor_are_refused() -> None:
    with pytest.raises(ModelError, match="raft_small is a model for optical flow: .* file.py:factory"):
        load_model("torchvision:raft_small")


def test_a_detector_of_torchvision_gets_images_as_they_are() -> None:
    loaded = load_model("torchvision:ssdlite320_mobilenet_v3_large", "none")
    image = torch.rand(1, 3, 20, 30)
    assert torch.equal(loaded.preprocess.normalise(image), image)
    assert (loaded.preprocess.resize, loaded.preprocess.crop) == (None, None)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("broken", "failed in line [0-9]+: ValueError: no luck"),
        ("number", "has to return a torch.nn.Module or a LoadedModel; it returned int"),
    ],
)
def test_a_factory_that_fails_is_said_to(factory: str, name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load_model(f"{factory}:{name}")


def test_a_file_that_fails_is_said_to(tmp_path: Path) -> None:
    path = tmp_path / "bad.py"
    path.write_text("import not_a_package_of_anyone", encoding="utf-8")
    with pytest.raises(ModelError, match="running .*bad.py failed in line 1: ModuleNotFoundError"):
        load_model(f"{path}:f")
    path.write_text("helper = 5", encoding="utf-8")
    with pytest.raises(InputError, match="has no function 'helper'"):
        load_model(f"{path}:helper")


def test_a_download_that_fails_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise urllib.error.URLError("Name or service not known")

    entry = torchvision_models.SqueezeNet1_1_Weights.DEFAULT
    monkeypatch.setattr(type(entry), "get_state_dict", offline)
    with pytest.raises(
        ModelError, match=r"DEFAULT of squeezenet1_1 could not be fetched \(Name or service.*https://.*or say none"
    ):
        load_model("torchvision:squeezenet1_1", "DEFAULT")


@pytest.mark.parametrize("wrap", ["plain", "state_dict", "module."])
def test_state_dict_files_load_with_what_training_scripts_put_around(tmp_path: Path, wrap: str) -> None:
    path, state = tmp_path / "w.pt", demo_resnet().state_dict()
    saved = {f"module.{key}": value for key, value in state.items()} if wrap == "module." else dict(state)
    torch.save({"state_dict": saved, "epoch": 3} if wrap == "state_dict" else saved, path)
    loaded = load_model("demo:resnet", str(path)).model.state_dict()
    assert all(loaded[key].equal(value) for key, value in state.items())


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        (
            {"a.weight": torch.ones(1)},
            r"lacks 'conv1.weight', 'bn1.weight', 'bn1.bias' and \d+ more and has the unknown 'a.weight'",
        ),
        ({}, "is no state dict: it holds dict"),
        ([1, 2], "is no state dict: it holds list"),
        (
            {**demo_resnet().state_dict(), "fc.bias": torch.ones(3)},
            r"fc.bias has shape \(3,\) in the file and \(8,\) here. For another",
        ),
    ],
)
def test_state_dicts_that_do_not_fit_are_refused_with_the_keys(tmp_path: Path, saved: object, message: str) -> None:
    path = tmp_path / "w.pth"
    torch.save(saved, path)
    with pytest.raises(ModelError, match=message):
        load_model("demo:resnet", str(path))


def test_files_that_could_run_code_or_are_broken_are_refused(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole.pt", tmp_path / "broken.pt"
    torch.save(nn.Linear(1, 1), whole)
    with pytest.raises(ModelError, match="more than tensors, which could run code: save model.state_dict"):
        load_model("demo:resnet", str(whole))
    broken.write_bytes(pickle.dumps({"a": 1}, protocol=2)[:-3])
    with pytest.raises(ModelError, match="broken.pt"):
        load_model("demo:resnet", str(broken))
    broken.write_bytes(b"")
    with pytest.raises(ModelError, match="broken.pt cannot be read as a state dict"):
        load_model("demo:resnet", str(broken))


def test_the_range_of_inputs_is_known() -> None:
    preprocess = Preprocess()
    inputs = preprocess(Image.new("RGB", (300, 300), "white"))
    assert inputs.allclose(preprocess.high[0].expand_as(inputs))
    assert preprocess.normalise(torch.zeros(3, 2, 2)).allclose(preprocess.low[0])


def saved(tmp_path: Path, image: Image.Image, name: str = "image.png", **options: object) -> Path:
    path = tmp_path / name
    image.save(path, **options)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("L", (3, 2), 100), (100, 100, 100)),
        (Image.new("RGB", (3, 2), (1, 2, 3)), (1, 2, 3)),
        (Image.new("RGBA", (3, 2), (10, 20, 30, 0)), (255, 255, 255)),
        (Image.new("LA", (3, 2), (50, 255)), (50, 50, 50)),
        (Image.new("P", (3, 2), 0), (0, 0, 0)),
        (Image.new("1", (3, 2), 1), (255, 255, 255)),
        (Image.fromarray(np.full((2, 3), 65535 // 5 * 2, dtype=np.uint16)), (102, 102, 102)),
    ],
    ids=["grey", "rgb", "transparent", "grey-alpha", "palette", "bits", "16-bit"],
)
def test_every_kind_of_image_becomes_rgb(tmp_path: Path, image: Image.Image, expected: tuple[int, int, int]) -> None:
    opened = open_image(saved(tmp_path, image))
    assert (opened.mode, opened.size) == ("RGB", (3, 2))
    assert opened.getpixel((0, 0)) == expected


def test_float_images_lie_between_0_and_1(tmp_path: Path) -> None:
    good = saved(tmp_path, Image.fromarray(np.full((2, 3), 0.4, dtype=np.float32)), "good.tiff")
    assert open_image(good).getpixel((0, 0)) == (102, 102, 102)
    bad = saved(tmp_path, Image.fromarray(np.full((2, 3), 7.0, dtype=np.float32)), "bad.tiff")
    with pytest.raises(InputError, match=r"has values that are not floats in \[0, 1\]; convert it to 8 bits"):
        open_image(bad)


def test_a_rotation_noted_by_the_camera_is_carried_out(tmp_path: Path) -> None:
    image, exif = Image.new("RGB", (4, 2), "black"), Image.Exif()
    image.putpixel((0, 0), (255, 255, 255))
    exif[0x0112] = 6  # show it turned by 90 degrees clockwise
    opened = open_image(saved(tmp_path, image, exif=exif))
    assert opened.size == (2, 4)
    assert opened.getpixel((1, 0)) == (255, 255, 255)


def test_files_that_are_no_images_are_refused(tmp_path: Path) -> None:
    text, cut = tmp_path / "text.png", tmp_path / "cut.png"
    text.write_text("hello", encoding="utf-8")
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    cut.write_bytes(saved(tmp_path, Image.fromarray(noise)).read_bytes()[:2000])
    for path, message in (
        (text, "text.png' is no image that Pillow can read"),
        (cut, "cut.png' cannot be read"),
        (tmp_path, "is a folder; name the images in it"),
        (tmp_path / "none.png", "no image file '.*none.png'"),
    ):
        with pytest.raises(InputError, match=message):
            open_image(path)


def test_images_are_resized_and_cropped_as_torchvision_does(tmp_path: Path) -> None:
    preset = torchvision_models.ResNet50_Weights.IMAGENET1K_V2.transforms()
    preprocess = Preprocess(resize=preset.resize_size[0])
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 60, 3), dtype=np.uint8))
    batch = load_images([saved(tmp_path, noise)], preprocess)
    torch.testing.assert_close(batch.inputs[0], preset(noise), rtol=0, atol=1e-6)  # float32 rounding
    assert batch.views.min() >= 0
    assert batch.views.max() <= 1
    assert preprocess.normalise(batch.views).equal(batch.inputs)


def test_images_of_different_shapes_make_no_batch(tmp_path: Path) -> None:
    one = saved(tmp_path, Image.new("RGB", (8, 8)), "one.png")
    two = saved(tmp_path, Image.new("RGB", (16, 8)), "two.png")
    with pytest.raises(InputError, match="one.png gives 8x8 and .*two.png gives 16x8 pixels; load them one by one"):
        load_images([one, two], Preprocess(resize=8, crop=None))
    with pytest.raises(InputError, match="no image to load"):
        load_images([])
