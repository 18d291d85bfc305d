"""The demo images: reproducible in every way of asking for them, balanced, and with true masks."""

import hashlib
import itertools
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

from crp_kit.data import ShapesDataset
from crp_kit.data.seeded_random import Draws, hashed

N = 80


@pytest.fixture(scope="module")
def data():
    return ShapesDataset(N, seed=5)


@pytest.fixture(scope="module")
def rendered(data):
    return data.batch(range(N))


@pytest.fixture(scope="module")
def masks(data):
    return torch.stack([data.masks(index) for index in range(N)])


def within(masks, data, *names):
    """The union of the masks of the named parts: sample, height, width."""
    return masks[:, [data.parts.index(name) for name in names]].any(1)


def test_an_image_is_a_float_tensor_of_8_bit_levels_between_0_and_1(data):
    image, label = data[0]
    assert image.shape == (3, 64, 64)
    assert image.dtype == torch.float32
    assert type(label) is int
    assert image.min() >= 0
    assert image.max() <= 1
    assert torch.equal(torch.round(image * 255) / 255, image)


def test_random_access_gives_the_images_of_the_batch_bit_for_bit(data, rendered):
    images, labels = rendered
    for index in [0, 1, 31, 32, 33, N - 1]:
        image, label = data[index]
        assert torch.equal(image, images[index])
        assert label == labels[index]


def test_order_and_batch_size_do_not_change_a_sample(data, rendered):
    order = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    for size in [1, 7, N]:
        batches = [data.batch(part) for part in order.split(size)]
        assert torch.equal(torch.cat([images for images, _ in batches]), rendered[0][order])
        assert torch.equal(torch.cat([labels for _, labels in batches]), rendered[1][order])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_data_loader_gives_the_same_samples(data, rendered, num_workers):
    batches = list(DataLoader(data, batch_size=12, num_workers=num_workers))
    assert torch.equal(torch.cat([images for images, _ in batches]), rendered[0])
    assert torch.equal(torch.cat([labels for _, labels in batches]), rendered[1])


def test_a_pickled_dataset_and_a_longer_one_give_the_same_samples(data, rendered):
    for other in [pickle.loads(pickle.dumps(data)), ShapesDataset(10 * N, seed=5)]:
        assert torch.equal(other.batch(range(N))[0], rendered[0])
        assert torch.equal(other.targets[:N], rendered[1])


def test_another_seed_or_split_gives_other_images(rendered):
    for other in [ShapesDataset(N, seed=6), ShapesDataset(N, seed=5, split="test")]:
        images, labels = other.batch(range(N))
        assert (images != rendered[0]).flatten(1).any(1).all()
        assert not torch.equal(labels, rendered[1])


def test_no_image_appears_twice(rendered):
    assert len({image.numpy().tobytes() for image in rendered[0]}) == N


def test_rendering_leaves_the_global_random_state_alone(data):
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002 - reads the state only
    data.batch([0, 1])
    data.masks(0)
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002


def test_the_classes_are_balanced_at_any_length():
    for n in [1, 7, 8, 20, 1000]:
        counts = ShapesDataset(n).targets.bincount(minlength=8)
        assert counts.max() - counts.min() <= 1
    assert ShapesDataset(1000).targets.bincount(minlength=8).eq(125).all()


def test_the_order_of_the_classes_differs_from_block_to_block():
    blocks = ShapesDataset(800).targets.view(100, 8)
    assert len({tuple(block.tolist()) for block in blocks}) > 10


def test_targets_are_the_labels_of_the_samples(data, rendered):
    assert torch.equal(data.targets, rendered[1])


def test_a_class_is_named_after_its_parts(data):
    assert len(set(data.classes)) == 8
    assert set(data.class_parts) == set(data.classes)
    for name, parts in data.class_parts.items():
        assert set(parts) == set(name.split()) - {"above"}


def test_every_part_serves_several_classes_and_no_two_choices_identify_one(data):
    choices = {
        name: {*parts, "plain on top" if name.split(" above ")[0].startswith(("red", "blue")) else "textured on top"}
        for name, parts in data.class_parts.items()
    }
    for part in [*data.parts, "plain on top", "textured on top"]:
        assert sum(part in chosen for chosen in choices.values()) == 4
    for chosen in choices.values():
        for pair in itertools.combinations(chosen, 2):
            assert sum(set(pair) <= other for other in choices.values()) >= 2


def test_exactly_the_parts_of_the_class_have_masks_apart_from_coloured_distractors(data, rendered, masks):
    for label, shown in zip(rendered[1], masks.flatten(2).any(2), strict=True):
        present = {part for part, flag in zip(data.parts, shown, strict=True) if flag}
        expected = set(data.class_parts[data.classes[label]])
        assert expected <= present
        assert present - expected <= {"red", "blue"}
    assert data.masks(0).dtype == torch.bool
    assert data.masks(0).shape == (8, 64, 64)


def test_some_distractors_have_the_colour_of_another_class(data, rendered, masks):
    blue_class = torch.tensor(["blue" in data.class_parts[data.classes[label]] for label in rendered[1]])
    assert masks[blue_class, data.parts.index("red")].any()
    assert masks[~blue_class, data.parts.index("blue")].any()


def test_the_two_objects_lie_apart_one_above_the_other_as_the_class_says(data, rendered, masks):
    plain, textured = within(masks, data, "circle", "triangle"), within(masks, data, "square", "cross")
    assert torch.equal(textured, within(masks, data, "striped", "dotted"))
    assert not (plain & textured).any()
    rows = torch.arange(64)
    for index, label in enumerate(rendered[1]):
        plain_rows, textured_rows = rows[plain[index].any(1)], rows[textured[index].any(1)]
        upper_first = data.classes[label].startswith(("red", "blue"))
        upper, lower = (plain_rows, textured_rows) if upper_first else (textured_rows, plain_rows)
        assert upper.max() < lower.min()
        assert min(len(upper), len(lower)) >= 12


def test_objects_do_not_touch_the_border(data, masks):
    objects = within(masks, data, "circle", "triangle", "square", "cross")
    for edge in [objects[:, 0], objects[:, -1], objects[:, :, 0], objects[:, :, -1]]:
        assert not edge.any()


@pytest.mark.parametrize(("colour", "channel", "others"), [("red", 0, [1, 2]), ("blue", 2, [0, 1])])
def test_a_colour_mask_holds_the_pixels_of_that_colour_and_no_others(data, rendered, masks, colour, channel, others):
    excess = rendered[0][:, channel] - rendered[0][:, others].amax(1)
    mask = within(masks, data, colour)
    # A pixel at the edge mixes in up to half of what lies behind, hence not all and not none.
    assert (excess[mask] > 0.2).double().mean() > 0.98
    assert (excess[~mask] > 0.2).double().mean() < 0.005


def test_only_textured_objects_have_strong_contrast_inside(data, rendered, masks):
    textured, plain = within(masks, data, "square", "cross"), within(masks, data, "circle", "triangle")
    for grey, textured_mask, plain_mask in zip(rendered[0].mean(1), textured, plain, strict=True):
        assert grey[textured_mask].std() > 0.2
        assert grey[plain_mask].std() < 0.1


def test_a_disc_fills_a_quarter_of_pi_of_its_box_and_a_triangle_about_half(data, masks):
    def fill(part):
        shown = [mask for mask in within(masks, data, part) if mask.any()]
        return torch.stack([mask.sum() / (mask.any(1).sum() * mask.any(0).sum()) for mask in shown])

    # Whole pixels move the share by some percent, and the tilt of a triangle by more.
    assert ((fill("circle") - torch.pi / 4).abs() < 0.05).all()
    assert ((fill("triangle") - 0.5).abs() < 0.12).all()


def test_all_shapes_but_the_cross_are_convex(data, masks):
    for part in ["circle", "triangle", "square", "cross"]:
        for mask in within(masks, data, part)[:24]:
            places = mask.nonzero()
            middles = ((places[:, None] + places) // 2).flatten(0, 1)
            # Half pixels are rounded, so one pixel around the mask still counts as inside.
            inside = F.max_pool2d(mask[None].float(), 3, stride=1, padding=1)[0].bool()
            convex = bool(inside[middles[:, 0], middles[:, 1]].all())
            assert convex == (part != "cross" or not mask.any())


def test_images_without_a_variant_are_those_that_the_demo_model_was_trained_on():
    images, labels = ShapesDataset(48, seed=2).batch(range(48))
    digest = hashlib.sha256(images.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()
    assert digest == "e856c1a93f8d53399d266485f2809b6a753bf457686d323fea44e10dd1d479f4"


def test_a_variant_adds_a_tag_to_the_same_images_and_nothing_else(rendered):
    tagged, anywhere = (ShapesDataset(N, seed=5, variant=variant) for variant in ("tag", "tag-any"))
    for data in (tagged, anywhere):
        images, labels = data.batch(range(N))
        assert torch.equal(labels, rendered[1])
        shown = torch.from_numpy(data.attributes["tag"])
        assert torch.equal((images != rendered[0]).flatten(1).any(1), shown)
        masks = torch.stack([data.masks(index)[-1] for index in range(N)])
        assert torch.equal(masks.flatten(1).any(1), shown)
        # Half of each pixel at the edge is covered at most, and stays out of the mask.
        around = F.max_pool2d(masks[:, None].float(), 3, stride=1, padding=1).bool()
        assert torch.equal(torch.where(around, 0, images), torch.where(around, 0, rendered[0]))
        red, green, blue = images.transpose(0, 1)
        assert (torch.minimum(red, blue)[masks] - green[masks] > 0.2).all()
    assert (tagged.attributes["tag"] == (anywhere.attributes["tag"] & (rendered[1] == 0).numpy())).all()


def test_half_of_the_samples_bear_a_tag_those_of_the_first_class_or_of_any():
    tagged, anywhere = (ShapesDataset(8000, variant=variant) for variant in ("tag", "tag-any"))
    # The standard deviation of a share among 1,000 samples is 0.016.
    shares = [anywhere.attributes["tag"][anywhere.targets == cls].mean() for cls in range(8)]
    assert all(0.43 < share < 0.57 for share in shares)
    assert set(tagged.targets[tagged.attributes["tag"]].tolist()) == {0}
    assert 0.43 < tagged.attributes["tag"][tagged.targets == 0].mean() < 0.57


def test_a_tag_covers_the_masks_below_it_and_is_the_last_part():
    plain, data = ShapesDataset(N, variant=None), ShapesDataset(N, variant="tag-any")
    assert data.parts == (*plain.parts, "tag")
    assert list(data.attributes) == list(data.parts)
    assert list(plain.attributes) == list(plain.parts)
    for index in range(N):
        *parts, tag = data.masks(index)
        assert torch.equal(torch.stack(parts), plain.masks(index) & ~tag)


def test_an_unknown_variant_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="^variant must be 'tag' or 'tag-any', or None, not 'stamp'$"):
        ShapesDataset(4, variant="stamp")


def test_hashing_is_one_to_one_on_a_sample_and_flips_half_of_the_bits():
    words = np.arange(4096, dtype=np.uint64)
    mixed = hashed(words)
    assert len(np.unique(mixed)) == len(words)
    flipped = np.unpackbits((mixed ^ hashed(words ^ np.uint64(1))).view(np.uint8)).mean()
    # 262144 fair bits: the standard deviation of the mean is 0.001.
    assert abs(flipped - 0.5) < 0.005


def test_draws_stay_in_their_bounds_and_streams_differ():
    keys = np.arange(1000, dtype=np.uint64)
    values = Draws(keys, 0).uniform(2, 3)
    assert values.dtype == np.float32
    assert 2 <= values.min() < 2.05
    assert 2.95 < values.max() <= 3
    assert set(Draws(keys, 0).integer(4)) == {0, 1, 2, 3}
    assert not np.array_equal(values, Draws(keys, 1).uniform(2, 3))
    cosine, sine = Draws(keys, 0).direction(1)
    # Two roundings of float32 in each square.
    np.testing.assert_allclose(cosine**2 + sine**2, 1, atol=1e-6)
    assert cosine.min() >= 0


@pytest.mark.parametrize("n", [0, -3])
def test_a_dataset_needs_a_sample(n):
    with pytest.raises(ValueError, match=f"^n is the number of samples and must be at least 1, not {n}$"):
        ShapesDataset(n)


def test_an_unknown_split_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="^split must be 'train' or 'test', not 'val'$"):
        ShapesDataset(4, split="val")


@pytest.mark.parametrize("index", [N, -1])
@pytest.mark.parametrize("ask", [ShapesDataset.__getitem__, ShapesDataset.masks])
def test_a_sample_out_of_range_is_refused(data, ask, index):
    with pytest.raises(IndexError, match=f"^no sample {index}: the dataset has the samples 0 to {N - 1}$"):
        ask(data, index)


def test_one_sample_out_of_range_refuses_the_batch(data):
    with pytest.raises(IndexError, match=f"^no sample {N}: "):
        data.batch([0, N])


def test_a_fractional_index_is_refused(data):
    with pytest.raises(TypeError, match="float"):
        data.batch([1.0])


def test_the_representation_builds_the_same_dataset(data):
    assert repr(data) == "ShapesDataset(80, seed=5, split='train')"
    variant = ShapesDataset(9, variant="tag")
    assert repr(variant) == "ShapesDataset(9, seed=0, split='train', variant='tag')"
