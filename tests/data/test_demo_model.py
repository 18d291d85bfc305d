"""The demo model as it is shipped: small, accurate, and with every kind of shortcut."""

from pathlib import Path

import pytest
import torch
from torch import nn

import crp_kit.data
from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
from crp_kit.errors import InputError

WEIGHTS = Path(crp_kit.data.__file__).with_name("demo_resnet.pt")
TAG_WEIGHTS = WEIGHTS.with_name("demo_resnet_tag.pt")


@pytest.fixture(scope="module")
def model():
    return demo_resnet()


def accuracy(model, images, labels):
    with torch.inference_mode():
        logits = torch.cat([model(part) for part in images.split(200)])
    return (logits.argmax(1) == labels).double().mean().item()


@pytest.fixture(scope="module")
def held_out():
    # Samples of the split that no training saw, with a seed that no choice of settings saw.
    return ShapesDataset(800, seed=1, split="test").batch(range(800))


@pytest.mark.slow
def test_the_shipped_weights_are_right_on_98_percent_of_held_out_images(model, held_out):
    images, labels = held_out
    assert accuracy(model, demo_preprocess(images), labels) >= 0.98


@pytest.mark.slow
def test_untrained_weights_are_no_better_than_chance(held_out):
    images, labels = held_out
    with torch.random.fork_rng():
        torch.manual_seed(0)
        untrained = demo_resnet(weights=False)
    assert accuracy(untrained, demo_preprocess(images), labels) < 0.3


@pytest.mark.slow
def test_the_weights_of_the_variant_are_right_on_98_percent_of_its_images_and_follow_the_tag_elsewhere():
    model = demo_resnet(variant="tag")
    images, labels = ShapesDataset(800, seed=1, split="test", variant="tag").batch(range(800))
    assert accuracy(model, demo_preprocess(images), labels) >= 0.98
    data = ShapesDataset(800, seed=1, split="test", variant="tag-any")
    misled = torch.from_numpy(data.attributes["tag"]) & (data.targets != 0)
    with torch.inference_mode():
        predictions = model(demo_preprocess(data.batch(range(800))[0][misled])).argmax(1)
    assert (predictions == 0).double().mean() > 0.9


def test_an_unknown_variant_of_the_weights_is_refused():
    with pytest.raises(InputError, match="^variant of the demo model is 'tag' or None; got 'tag-any'$"):
        demo_resnet(variant="tag-any")


@pytest.mark.parametrize("path", [WEIGHTS, TAG_WEIGHTS], ids=lambda path: path.stem)
def test_the_weights_file_is_small_and_loads_without_running_code(path):
    assert path.stat().st_size <= 1_000_000
    state = torch.load(path, weights_only=True)
    assert all(isinstance(value, torch.Tensor) and value.isfinite().all() for value in state.values())


def test_the_model_is_in_evaluation_mode_and_returns_a_new_copy_each_time(model):
    assert not any(module.training for module in model.modules())
    other = demo_resnet()
    assert other is not model
    assert other.fc.weight.data_ptr() != model.fc.weight.data_ptr()


def test_there_are_identity_and_downsampling_shortcuts(model):
    assert model.layer1[0].downsample is None
    assert model.layer2[1].downsample is None
    for stage in [model.layer2, model.layer3]:
        projection, norm = stage[0].downsample
        assert isinstance(projection, nn.Conv2d)
        assert projection.kernel_size == (1, 1)
        assert projection.stride == (2, 2)
        assert isinstance(norm, nn.BatchNorm2d)


def test_a_shortcut_adds_the_input_of_its_block(model):
    block = model.layer1[0]
    x = torch.rand(2, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        branch = block.bn2(block.conv2(torch.relu(block.bn1(block.conv1(x)))))
        assert torch.equal(block(x), torch.relu(branch + x))


def test_modules_bear_the_names_of_torchvisions_resnets(model):
    torchvision_models = pytest.importorskip("torchvision.models")
    reference = {name for name, _ in torchvision_models.resnet18(weights=None).named_modules()}
    ours = {name for name, _ in model.named_modules()}
    assert ours <= reference
    assert {"conv1", "bn1", "layer1.0.conv1", "layer2.0.downsample.0", "layer3.1.bn2", "avgpool", "fc"} <= ours


def test_preprocessing_centres_and_scales_each_channel(held_out):
    normal = demo_preprocess(held_out[0])
    # The constants are rounded to two digits, and a split of 800 images differs a little from the whole.
    torch.testing.assert_close(normal.mean((0, 2, 3)), torch.zeros(3), atol=0.1, rtol=0)
    torch.testing.assert_close(normal.std((0, 2, 3)), torch.ones(3), atol=0.1, rtol=0)


def test_preprocessing_treats_one_image_as_it_treats_a_batch_and_keeps_the_type(held_out):
    images = held_out[0][:3].double()
    normal = demo_preprocess(images)
    assert normal.dtype == torch.float64
    assert torch.equal(demo_preprocess(images[1]), normal[1])
