"""Models of timm and Hugging Face, names of classes, and preprocessing that options change."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import transformers
from command_line import invoke, refused
from PIL import Image
from timm.data import ImageNetInfo
from torchvision import models as torchvision_models

import crp_kit as crp
from crp_kit.data import ShapesDataset
from crp_kit.errors import InputError, ModelError
from crp_kit.models.adjusted import adjusted
from crp_kit.models.class_file import read_classes

NAMES = ("Egyptian cat", "tabby", "fox")
PICTURE = Image.fromarray(np.random.default_rng(1).integers(0, 255, (40, 60, 3), dtype=np.uint8)).resize((300, 200))


def vit(folder: Path, **processor: Any) -> str:
    """Save a tiny vision transformer with random weights as Hugging Face does."""
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=16, patch_size=8,
        id2label=dict(enumerate(NAMES)), label2id={name: number for number, name in enumerate(NAMES)},
    )  # fmt: skip
    transformers.ViTForImageClassification(config).save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": 16, "width": 16}, **processor).save_pretrained(folder)
    return f"hf:{folder}"


def test_timm_models_have_timms_classes_and_preprocessing() -> None:
    loaded = crp.load_model("timm:resnet18.a1_in1k", "none")
    info = ImageNetInfo("imagenet-1k")
    assert loaded.classes == tuple(info.index_to_description(number) for number in range(1000))
    assert loaded.class_name(285) == "285 Egyptian cat"
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(loaded.model))
    torch.testing.assert_close(loaded.preprocess(PICTURE), transform(PICTURE), rtol=0, atol=1e-5)


def test_hugging_face_models_have_their_processor_and_their_names(tmp_path: Path) -> None:
    spec = vit(tmp_path, image_mean=(0.4, 0.5, 0.6), image_std=(0.1, 0.2, 0.3))
    loaded = crp.load_model(spec)
    reference = transformers.ViTForImageClassification.from_pretrained(tmp_path)
    theirs = transformers.ViTImageProcessor.from_pretrained(tmp_path)(PICTURE, return_tensors="pt")["pixel_values"]
    ours = loaded.preprocess(PICTURE)[None]
    assert loaded.classes == NAMES
    assert ours.shape == theirs.shape == (1, 3, 16, 16)
    assert float((ours - theirs).abs().mean()) < 0.01  # tensors and pictures round differently when resized
    study = crp.Study(loaded)
    attr = study(PICTURE, [{"y": ["fox"]}])
    assert attr.prediction.allclose(reference(ours).logits, atol=1e-5)
    untrained = crp.load_model(spec, "none").model.state_dict()
    assert any(not value.equal(untrained[key]) for key, value in reference.state_dict().items())


def test_a_processor_with_a_crop_is_the_same_preprocessing(tmp_path: Path) -> None:
    spec = vit(tmp_path)
    processor = transformers.ConvNextImageProcessor(size={"shortest_edge": 16}, crop_pct=0.8)
    processor.save_pretrained(tmp_path)
    loaded = crp.load_model(spec)
    assert (loaded.preprocess.resize, loaded.preprocess.crop) == (20, (16, 16))
    assert loaded.preprocess(PICTURE).shape == processor(PICTURE, return_tensors="pt")["pixel_values"][0].shape


def test_a_processor_that_cannot_be_said_as_a_preprocess_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = vit(tmp_path)
    processor = transformers.ViTImageProcessor

    def flipped(self: Any, images: Any, **options: Any) -> Any:
        return {"pixel_values": -real(self, images, **options)["pixel_values"]}

    real = processor.__call__
    monkeypatch.setattr(processor, "__call__", flipped)
    with pytest.raises(ModelError, match=r"ViTImageProcessor\) prepares images in a way that a Preprocess cannot"):
        crp.load_model(spec)


def test_hugging_face_models_that_cannot_be_loaded_say_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(
        ModelError, match="the weights of hf:.*nothing.* could not be fetched .*name that as the model: hf:FOLDER"
    ):
        crp.load_model(f"hf:{tmp_path / 'nothing'}")
    spec = vit(tmp_path)
    with pytest.raises(InputError, match="has no weights 'V1'; there are DEFAULT, none or a state-dict file"):
        crp.load_model(spec, "V1")
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(ModelError, match=r"has no preprocessor_config.json, .* processor.save_pretrained"):
        crp.load_model(spec)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(InputError, match="needs transformers, which is not installed: pip install transformers"):
        crp.load_model(spec)


def test_a_state_file_named_as_published_has_the_metadata_of_these_weights(tmp_path: Path) -> None:
    entry = torchvision_models.SqueezeNet1_1_Weights.IMAGENET1K_V1
    states = [tmp_path / entry.url.rpartition("/")[2], tmp_path / "mine.pth"]
    for path in states:
        torch.save(torchvision_models.squeezenet1_1().state_dict(), path)
    published, own = (crp.load_model("torchvision:squeezenet1_1", str(path)) for path in states)
    assert published.classes == tuple(entry.meta["categories"])
    assert own.classes is None


def test_names_of_classes_are_read_from_lines_and_json(tmp_path: Path) -> None:
    lines, listed, index = tmp_path / "names.txt", tmp_path / "list.json", tmp_path / "index.json"
    lines.write_text("Egyptian cat\ntabby \nfox\n\n", encoding="utf-8")
    listed.write_text(json.dumps(NAMES), encoding="utf-8")
    index.write_text(json.dumps({"1": ["n2", "tabby"], "0": ["n1", "Egyptian cat"], "2": "fox"}), encoding="utf-8")
    assert [read_classes(str(path)) for path in (lines, listed, index)] == [NAMES] * 3
    assert read_classes("imagenet") == tuple(torchvision_models.ResNet50_Weights.DEFAULT.meta["categories"])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "a\n\nb\n", "number 1 is empty"),
        ("a.txt", "", "this is empty"),
        ("a.json", '{"1": "a"}', "this is something else"),
        ("a.json", "[1, 2]", "this is something else"),
        ("a.json", '"cat"', "this is something else"),
    ],
)
def test_files_of_other_things_than_names_are_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_classes(str(path))


def test_preprocessing_is_changed_in_what_is_said_alone() -> None:
    usual = crp.Preprocess()
    assert adjusted(usual) == usual
    assert adjusted(usual, size=[64]) == crp.Preprocess(64, 64)
    assert adjusted(usual, size=[80], crop=[64]) == crp.Preprocess(80, 64)
    assert adjusted(usual, crop=[64, 32]) == crp.Preprocess(256, (64, 32))
    assert adjusted(usual, size=[60, 90])(PICTURE).shape == (3, 60, 90)
    assert adjusted(usual, channels=1) == crp.Preprocess(mean=(0.0,), std=(1.0,))
    assert adjusted(usual, mean=[0.5], std=[0.25]) == crp.Preprocess(mean=(0.5,) * 3, std=(0.25,) * 3)
    assert adjusted(usual, std=[1, 2, 3, 4]).mean == (0.0,) * 4
    with pytest.raises(InputError, match="mean has a number for each of 1 channels, or one for all; got 3"):
        adjusted(usual, channels=1, mean=[1, 2, 3])


def test_options_of_the_command_line_override_what_a_model_brings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    PICTURE.save("photo.png")
    Path("names.txt").write_text("\n".join(f"shape {number}" for number in range(8)), encoding="utf-8")
    said = ("--classes", "names.txt", "--size", 48, "--crop", 32, "--mean", "0.5", "--std", "0.2,0.3,0.4")
    result = invoke("heatmap", "photo.png", "--model", "demo:resnet", *said, "--json", "--save-array", "a.npz")
    assert result.exit_code == 0, result.output
    assert "shape " in json.loads(result.stdout)["images"][0]["prediction"]
    loaded = crp.load_model("demo:resnet")
    preprocess = crp.Preprocess(48, 32, (0.5,) * 3, (0.2, 0.3, 0.4))
    expected = loaded.model(preprocess(PICTURE)[None]).detach().numpy()
    with np.load("a.npz") as arrays:
        assert arrays["heatmap"].shape == (1, 32, 32)
        np.testing.assert_allclose(arrays["prediction"], expected, rtol=1e-4, atol=1e-4)
    for option, text in (
        ("--size", "12x"),
        ("--size", "1x2x3"),
        ("--crop", "0"),
        ("--mean", "a,b"),
        ("--std", "0.1,0.2"),
    ):
        message = refused("check", "--model", "demo:resnet", option, text)
        assert message.startswith(f"crp-kit: error: {option} ")


def test_the_help_shows_a_factory_that_runs(tmp_path: Path) -> None:
    text = invoke("layers", "--help").stdout
    lines = text[text.index("import crp_kit as crp") :].splitlines()[:6]
    indent = len(lines[1]) - len(lines[1].lstrip())
    code = "\n".join([lines[0], *(line[indent:] for line in lines[1:])]).replace("  [required]", "")
    path = tmp_path / "mine.py"
    path.write_text("from torch.nn import Identity as MyNet\n" + code, encoding="utf-8")
    assert crp.load_model(f"{path}:make").classes == ("cat", "dog")


def test_a_study_takes_what_a_loaded_model_brings() -> None:
    loaded = crp.load_model("demo:resnet")
    study = crp.Study(loaded, crp.load_data("demo:shapes:4"))
    assert study.classes == ShapesDataset.classes
    assert study.subject.preprocess == loaded.preprocess
    assert crp.Study(loaded, classes=["a"] * 8).classes == ("a",) * 8
