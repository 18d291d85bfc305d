"""Reference samples: the ranking's samples, heatmaps that a direct call gives, receptive fields by hand, figures."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from studies import atlas_of, references_of
from torch import nn
from torch.utils.data import Dataset

import crp_kit as crp
from crp_kit.atlas.query.references import References
from crp_kit.concepts import Aggregate, Concept, Reference
from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
from crp_kit.data.preprocess import Preprocess
from crp_kit.errors import AtlasError, ConceptRangeError, CrpKitError, InputError, UnknownLayerError
from crp_kit.views import plot
from crp_kit.views.plot.reference_view import reference_view

LAYER = "layer2.1.conv2"
RULES = "epsilon_plus_flat"
CONCEPT = 24
DATA = ShapesDataset(64)
ATTRIBUTION = crp.CondAttribution(demo_resnet())


class Given(Dataset[Any]):
    """Samples that a test chooses."""

    def __init__(self, *samples: tuple[Any, Any]) -> None:
        self.samples_given = samples

    def __len__(self) -> int:
        return len(self.samples_given)

    def __getitem__(self, number: int) -> tuple[Any, Any]:
        return self.samples_given[number]


def build(path: Path, dataset: Any = DATA, **options: Any) -> crp.ConceptAtlas:
    chosen = {"layers": [LAYER], "composite": RULES, "preprocess": demo_preprocess, "verbose": False, **options}
    return atlas_of(chosen.pop("attribution", ATTRIBUTION), dataset, path, **chosen)


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[crp.ConceptAtlas]:
    with build(tmp_path_factory.mktemp("references") / "atlas.h5", k=10) as made:
        yield made


def ask(
    atlas: crp.ConceptAtlas, dataset: Any = DATA, layer: str = LAYER, concept: int = CONCEPT, **options: Any
) -> References:
    chosen = {"attribution": ATTRIBUTION, "composite": RULES, "preprocess": demo_preprocess, "k": 4, **options}
    return references_of(atlas, dataset, layer, concept, **chosen)


def direct(image: torch.Tensor, condition: dict[str, Any], **options: Any) -> torch.Tensor:
    """The heatmap of one sample under one condition set."""
    return ATTRIBUTION(demo_preprocess(image)[None], [condition], RULES, **options).heatmap[0]


def prediction(image: torch.Tensor) -> int:
    return int(ATTRIBUTION.model(demo_preprocess(image)[None]).argmax())


def check_same(heatmap: torch.Tensor, other: torch.Tensor) -> None:
    """Compare heatmaps. A batch is summed in another order than one sample, and parts of a sum may cancel."""
    assert heatmap.shape == other.shape
    torch.testing.assert_close(heatmap, other, rtol=0, atol=3e-5 * float(other.abs().max()))


def check_heatmaps(found: References, wanted: Sequence[torch.Tensor]) -> None:
    assert len(found.heatmaps) == len(wanted)
    for heatmap, other in zip(found.heatmaps, wanted, strict=True):
        check_same(heatmap, other)
    assert any(bool(other.any()) for other in wanted)


# ---------------------------------------------------------------------------------------------------- which samples


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["relevance", "activation"])
def test_samples_are_those_of_the_ranking_best_first_as_the_dataset_gives_them(
    atlas: crp.ConceptAtlas, mode: str
) -> None:
    found = ask(atlas, mode=mode)
    ranking = atlas[LAYER].score(mode).top(CONCEPT, 4)
    assert found.table.sample.tolist() == ranking.sample.tolist()
    assert found.table.score.tolist() == ranking.score.tolist() == sorted(ranking.score.tolist(), reverse=True)
    assert (found.layer, found.concept, found.mode, found.conditioned_on) == (LAYER, CONCEPT, mode, "class")
    assert found.labels == tuple(DATA[number][1] for number in ranking.sample)
    assert found.classes == tuple(DATA.classes[label] for label in found.labels)
    assert found.names == tuple(f"sample {number}" for number in ranking.sample)
    assert found.identifiers is None
    assert found.boxes is None
    assert len(found) == 4
    for image, number in zip(found.images, ranking.sample.tolist(), strict=True):
        assert torch.equal(image, DATA[number][0])


def test_samples_of_one_class_by_its_number_or_name(atlas: crp.ConceptAtlas) -> None:
    ranking = atlas[LAYER].relevance.class_top(CONCEPT, 3, 2)
    for cls in (3, DATA.classes[3]):
        found = ask(atlas, cls=cls, k=2)
        assert found.table.sample.tolist() == ranking.sample.tolist()
        assert found.labels == (3, 3)


def test_a_class_without_samples_has_no_references_and_no_figure(tmp_path: Path) -> None:
    dataset = Given(DATA[0])
    with build(tmp_path / "atlas.h5", dataset) as atlas:
        empty = ask(atlas, dataset, cls=(DATA[0][1] + 1) % 8, receptive_field=True)
        assert (len(empty), empty.heatmaps, empty.boxes) == (0, (), ())
        with pytest.raises(InputError, match="there is no reference sample to draw"):
            empty.plot()


# ------------------------------------------------------------------------------------------------------------ heatmaps


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["relevance", "activation"])
def test_heatmaps_are_those_of_the_concept_and_the_samples_class(atlas: crp.ConceptAtlas, mode: str) -> None:
    found = ask(atlas, mode=mode)
    classes = [DATA[number][1] for number in found.table.sample.tolist()]
    check_heatmaps(
        found,
        [direct(image, {LAYER: [CONCEPT], "y": [cls]}) for image, cls in zip(found.images, classes, strict=True)],
    )


def test_heatmaps_of_the_layer_start_at_the_activation_of_the_concept_alone(atlas: crp.ConceptAtlas) -> None:
    found = ask(atlas, conditioned_on="layer")
    check_heatmaps(found, [direct(image, {LAYER: [CONCEPT]}, start_layer=LAYER) for image in found.images])


def test_heatmaps_of_the_prediction_start_at_the_predicted_class_whatever_the_label(tmp_path: Path) -> None:
    mislabelled = Given(*[(image, (label + 1) % 8) for image, label in (DATA[number] for number in range(5))])
    with build(tmp_path / "atlas.h5", mislabelled) as atlas:
        found = ask(atlas, mislabelled, conditioned_on="prediction")
        predicted = [prediction(image) for image in found.images]
        assert list(found.labels) == predicted != found.table.target.tolist()
        check_heatmaps(
            found,
            [direct(image, {LAYER: [CONCEPT], "y": [cls]}) for image, cls in zip(found.images, predicted, strict=True)],
        )


def test_heatmaps_for_a_class_are_not_those_of_the_layer_even_in_sign(atlas: crp.ConceptAtlas) -> None:
    """What zennit-crp shows starts at the activation, which is positive where the class's relevance need not be."""
    active = atlas[LAYER].activation.top(CONCEPT).sample
    against = next(
        (number, cls)
        for number, cls in itertools.product(active.tolist(), range(8))
        if direct(DATA[number][0], {LAYER: [CONCEPT], "y": [cls]}).sum() < 0
    )
    assert direct(DATA[against[0]][0], {LAYER: [CONCEPT]}, start_layer=LAYER).sum() > 0
    of_class, of_layer = (ask(atlas, conditioned_on=start) for start in ("class", "layer"))
    for one, other in zip(of_class.heatmaps, of_layer.heatmaps, strict=True):
        assert not torch.allclose(one / one.abs().sum(), other / other.abs().sum(), rtol=0.05)


def test_a_sample_without_a_label_is_explained_for_its_prediction(tmp_path: Path) -> None:
    unlabelled = Given(*[(DATA[number][0], []) for number in range(3)], DATA[3])
    with build(tmp_path / "atlas.h5", unlabelled) as atlas:
        found = ask(atlas, unlabelled, mode="activation")
        assert sorted(found.table.target.tolist())[:3] == [-1, -1, -1]
        assert list(found.labels) == [
            target if target >= 0 else prediction(image)
            for image, target in zip(found.images, found.table.target.tolist(), strict=True)
        ]
        of_layer = ask(atlas, unlabelled, mode="activation", conditioned_on="layer")
        assert of_layer.labels == tuple(found.table.target.tolist())
        assert [name == "" for name in of_layer.classes] == [label < 0 for label in of_layer.labels]


@pytest.mark.slow
@pytest.mark.parametrize("receptive_field", [False, True])
def test_the_size_of_slices_changes_nothing(atlas: crp.ConceptAtlas, receptive_field: bool) -> None:
    whole, one_by_one = (ask(atlas, batch_size=size, receptive_field=receptive_field) for size in (16, 1))
    check_heatmaps(one_by_one, whole.heatmaps)
    assert one_by_one.boxes == whole.boxes


@dataclass(frozen=True)
class Pairs(Concept):
    """A concept is two neighbouring channels."""

    def mask(self, concept_ids: Sequence[Any], shape: torch.Size, *, layer_name: str) -> torch.Tensor:
        factor = torch.zeros(shape[0], 1, 1)
        for one in concept_ids:
            factor[2 * one : 2 * one + 2] = 1
        return factor

    def attribute(self, relevance: torch.Tensor, *, abs_norm: bool = True) -> torch.Tensor:
        raise NotImplementedError

    def reference(self, relevance: torch.Tensor, *, aggregate: Aggregate = "sum") -> Reference:
        maps = relevance.unflatten(1, (-1, 2)).flatten(2)
        return Reference(maps.sum(-1), maps.argmax(-1))


class PlainPairs(Pairs):
    __repr__ = object.__repr__  # has an address in it


class Weighted(Pairs):
    def mask(self, concept_ids: Sequence[Any], shape: torch.Size, *, layer_name: str) -> torch.Tensor:
        return super().mask(concept_ids, shape, layer_name=layer_name) * 0.5


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Pairs, PlainPairs])
@pytest.mark.parametrize("conditioned_on", ["class", "layer"])
def test_the_layers_own_concept_makes_the_heatmaps(tmp_path: Path, kind: type[Pairs], conditioned_on: str) -> None:
    with build(tmp_path / "atlas.h5", concepts={LAYER: kind()}) as atlas:
        found = ask(atlas, concept=3, concepts={LAYER: kind()}, conditioned_on=conditioned_on)
        start: dict[str, Any] = {"start_layer": LAYER} if conditioned_on == "layer" else {}
        both = [
            direct(image, {LAYER: [6, 7], **({} if start else {"y": [label]})}, **start)
            for image, label in zip(found.images, found.labels, strict=True)
        ]
        check_heatmaps(found, both)
        with pytest.raises(AtlasError, match=rf"a concept of '{LAYER}' is .*Pairs.*, here it would be ChannelConcept.*"
                                             rf"pass concepts=\{{'{LAYER}': …\}}"):  # fmt: skip
            ask(atlas, concept=3)


def test_neurons_as_concepts_have_heatmaps_and_receptive_fields_of_their_own(tmp_path: Path) -> None:
    dataset = Given(*[DATA[number] for number in range(4)])
    neuron = 5 * 256 + 8 * 16 + 9  # channel 5, row 8, column 9 of (32, 16, 16)
    with build(tmp_path / "atlas.h5", dataset, concepts=crp.NeuronConcept(), k_class=1) as atlas:
        found = ask(atlas, dataset, concept=neuron, concepts=crp.NeuronConcept(), receptive_field=True)
        check_heatmaps(
            found,
            [
                direct(image, {LAYER: [(5, 8, 9)], "y": [label]}, mask_map=crp.NeuronConcept())
                for image, label in zip(found.images, found.labels, strict=True)
            ],
        )
        # By hand: the neuron sees 47 x 47 pixels around 4 * (8, 9), of which the image has what lies below 64.
        assert found.boxes == ((9, 13, 56, 60),) * 4


# ------------------------------------------------------------------------------------------------------- kinds of data


def test_pictures_are_shown_as_the_model_sees_them_without_normalisation(tmp_path: Path) -> None:
    preprocess = Preprocess(resize=64, crop=None, mean=(0.58, 0.56, 0.57), std=(0.17, 0.17, 0.17))
    pixels = [(DATA[number][0] * 255).byte().movedim(0, -1).numpy() for number in range(4)]
    pictures = Given(*[(Image.fromarray(one).resize((128, 128)), DATA[number][1]) for number, one in enumerate(pixels)])
    with build(tmp_path / "atlas.h5", pictures, preprocess=preprocess) as atlas:
        found = ask(atlas, pictures, preprocess=preprocess, k=2)
        for image, heatmap, number, label in zip(
            found.images, found.heatmaps, found.table.sample.tolist(), found.labels, strict=True
        ):
            assert torch.equal(image, preprocess.view(pictures[number][0]))
            wanted = direct(image, {LAYER: [CONCEPT], "y": [label]})
            check_same(heatmap, wanted)


def test_identifiers_name_the_samples(tmp_path: Path) -> None:
    dataset = Given(*[DATA[number] for number in range(3)])
    dataset.samples = [(f"/data/{number}.png", 0) for number in range(3)]  # type: ignore[attr-defined]
    dataset.root = "/data"  # type: ignore[attr-defined]
    with build(tmp_path / "atlas.h5", dataset) as atlas:
        found = ask(atlas, dataset, k=3)
        assert found.names == found.identifiers == tuple(f"{number}.png" for number in found.table.sample)


class Segmenter(nn.Module):
    """A class for every pixel."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.conv, self.head = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.head(self.conv(x).relu())
        return scores


def test_layers_of_a_segmentation_model_have_references_too(tmp_path: Path) -> None:
    attribution = crp.CondAttribution(Segmenter().eval())
    dataset = Given(*[DATA[number] for number in range(4)])
    with build(tmp_path / "atlas.h5", dataset, attribution=attribution, layers="conv") as atlas:
        found = ask(atlas, dataset, "conv", 2, attribution=attribution, receptive_field=True, conditioned_on="layer")
        assert found.boxes is not None
        for image, position, box, heatmap in zip(
            found.images, found.table.position.tolist(), found.boxes, found.heatmaps, strict=True
        ):
            row, column = divmod(position, 64)
            assert box == (max(row - 1, 0), max(column - 1, 0), min(row + 2, 64), min(column + 2, 64))
            assert heatmap.shape == image.shape[1:]
        whole = ask(atlas, dataset, "conv", 2, attribution=attribution)
        inputs = demo_preprocess(torch.stack(whole.images))
        conditions = [{"conv": [2], "y": [label]} for label in whole.labels]
        check_heatmaps(whole, list(attribution(inputs, conditions, RULES).heatmap))


# ---------------------------------------------------------------------------------------------------- receptive fields


def demo_box(row: int, column: int, height: int = 64, width: int = 64) -> tuple[int, int, int, int]:
    """What a neuron of layer2.1.conv2 sees: one conv of stride 2, four of 2, one of stride 2 more, three of 4 pixels.

    1 + 2 (1) + 2 * 4 (2) + 2 (2) + 2 * 3 (4) = 47 pixels, 23 to each side of 4 * (row, column).
    """
    low = [max(4 * place - 23, 0) for place in (row, column)]
    high = [min(4 * place + 24, size) for place, size in ((row, height), (column, width))]
    return low[0], low[1], high[0], high[1]


class Unpadded(nn.Module):
    """Convolutions, norms, and poolings of both spellings, without padding; some weights are zero on purpose."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.conv1, self.bn = nn.Conv2d(3, 4, 5, stride=2), nn.BatchNorm2d(4)
            self.pool, self.conv2 = nn.MaxPool2d(3, stride=2), nn.Conv2d(4, 4, 3)
            self.relu, self.head = nn.ReLU(), nn.Linear(4, 8)
        with torch.no_grad():
            self.conv1.weight[..., 0] = 0
            self.conv1.weight[:2] = 0
            self.bn.weight[3] = 0
            self.conv2.bias.fill_(-1e3)  # type: ignore[union-attr]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.bn(self.conv1(x)).relu())
        x = self.relu(self.conv2(x))
        x = nn.functional.max_pool2d(x, 2)
        scores: torch.Tensor = self.head(x.mean((2, 3)))
        return scores


STEP = {"conv1": (2, 5), "bn": (2, 5), "pool": (4, 9), "conv2": (4, 17), "relu": (4, 17), "max_pool2d": (8, 21)}
"""By hand: how far the windows of two neighbours lie apart, and how large they are.

conv1: kernel 5, stride 2. pool: 5 + 2 * 2 = 9, stride 4. conv2: 9 + 2 * 4 = 17. max_pool2d: 17 + 4 = 21, stride 8.
"""


@pytest.fixture(scope="module")
def unpadded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[crp.ConceptAtlas, Any, crp.CondAttribution]]:
    """40 x 40 pixels: conv1 has 18 x 18 neurons, pool 8 x 8, conv2 6 x 6, max_pool2d 3 x 3."""
    generator = torch.Generator().manual_seed(1)
    dataset = Given(*[(torch.rand(3, 40, 40, generator=generator), number % 8) for number in range(12)])
    attribution = crp.CondAttribution(Unpadded().eval())
    path = tmp_path_factory.mktemp("unpadded") / "atlas.h5"
    with build(path, dataset, attribution=attribution, layers=list(STEP), preprocess=None, k=12) as atlas:
        yield atlas, dataset, attribution


@pytest.mark.parametrize("layer", list(STEP))
@pytest.mark.parametrize("mode", ["relevance", "activation"])
def test_receptive_fields_are_the_windows_by_hand_whatever_weights_and_values(
    unpadded: tuple[crp.ConceptAtlas, Any, crp.CondAttribution], layer: str, mode: str
) -> None:
    atlas, dataset, attribution = unpadded
    stride, size = STEP[layer]
    side = atlas[layer].info.output_shape[-1]
    for concept in range(4):
        found = ask(
            atlas,
            dataset,
            layer,
            concept,
            attribution=attribution,
            preprocess=None,
            receptive_field=True,
            mode=mode,
            k=12,
        )
        corners = [divmod(position, side) for position in found.table.position.tolist()]
        assert found.boxes == tuple(
            (stride * row, stride * column, stride * row + size, stride * column + size) for row, column in corners
        )
        for image, (top, left, bottom, right), crop in zip(found.images, found.boxes, found.crops(), strict=True):
            assert torch.equal(crop, image[:, top:bottom, left:right])


@pytest.mark.slow
def test_receptive_fields_end_at_the_edge_of_the_image(atlas: crp.ConceptAtlas) -> None:
    places = [
        (box, divmod(position, 16))
        for concept in range(0, 32, 5)
        for found in [ask(atlas, concept=concept, k=10, receptive_field=True)]
        for box, position in zip(found.boxes or (), found.table.position.tolist(), strict=True)
    ]
    assert len(places) == 70
    for box, (row, column) in places:
        assert box == demo_box(row, column)


class Dead(nn.Module):
    """Nothing is ever active in it; its BatchNorms belong to no convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2)
        self.conv2, self.bn2 = nn.Conv2d(2, 2, 3, stride=3), nn.BatchNorm2d(4)
        self.skip, self.head = nn.Conv2d(2, 2, 1, stride=3), nn.Conv2d(4, 8, 2)
        with torch.no_grad():
            for one in (self.conv1, self.conv2, self.skip):
                one.bias.fill_(-100)  # type: ignore[union-attr]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.bn1(self.conv1(x).relu()).relu()
        x = torch.cat([self.conv2(x), self.skip(x[:, :, :-2, :-2])], 1).relu()
        x = self.head(self.bn2(x).relu())
        return x.mean((2, 3))


@pytest.mark.slow
def test_receptive_fields_show_where_nothing_is_active(tmp_path: Path) -> None:
    attribution, dataset = crp.CondAttribution(Dead().eval()), Given((torch.rand(3, 20, 20), 0))
    options = {"attribution": attribution, "preprocess": None}
    # By hand: conv1 3, conv2 3 + 2 = 5 with stride 3, head 5 + 3 = 8; the branch beside conv2 sees 3 pixels.
    for layer, size in {"conv1": 3, "conv2": 5, "skip": 3, "bn2": 5, "head": 8}.items():
        with build(tmp_path / f"{layer}.h5", dataset, layers=layer, **options) as atlas:
            found = ask(atlas, dataset, layer, 1, receptive_field=True, k=1, mode="activation", **options)
            (position,) = found.table.position.tolist()
            side = 18 if layer == "conv1" else 5 if layer == "head" else 6
            row, column = (place * (1 if layer == "conv1" else 3) for place in divmod(position, side))
            assert found.boxes == ((row, column, row + size, column + size),), layer


@pytest.mark.slow
@pytest.mark.parametrize("conditioned_on", ["class", "layer"])
def test_heatmaps_of_receptive_fields_are_of_that_neuron_and_zero_outside(
    atlas: crp.ConceptAtlas, conditioned_on: str
) -> None:
    found = ask(atlas, receptive_field=True, conditioned_on=conditioned_on)
    start: dict[str, Any] = {"start_layer": LAYER} if conditioned_on == "layer" else {}
    wanted = [
        direct(
            image,
            {LAYER: [(CONCEPT, *divmod(position, 16))], **({} if start else {"y": [label]})},
            mask_map=crp.NeuronConcept(),
            **start,
        )
        for image, position, label in zip(found.images, found.table.position.tolist(), found.labels, strict=True)
    ]
    check_heatmaps(found, wanted)
    for heatmap, (top, left, bottom, right) in zip(found.heatmaps, found.boxes or (), strict=True):
        outside = heatmap.clone()
        outside[top:bottom, left:right] = 0
        assert heatmap.any()
        assert not outside.any()


@pytest.mark.slow
def test_receptive_fields_of_a_concept_of_ones_own_are_those_of_its_neurons_in_order(tmp_path: Path) -> None:
    with build(tmp_path / "atlas.h5", concepts={LAYER: Pairs()}) as atlas:
        found = ask(atlas, concept=3, concepts={LAYER: Pairs()}, receptive_field=True)
        places = [divmod(position % 256, 16) for position in found.table.position.tolist()]
        assert found.boxes == tuple(demo_box(row, column) for row, column in places)


# ----------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"mode": "relevant"}, InputError, "mode is 'relevance' or 'activation'; got 'relevant'"),
        (
            {"conditioned_on": "label"},
            InputError,
            "conditioned_on is 'class', 'prediction' or 'layer', or a target; got 'label'",
        ),
        ({"layer": "layer2.1.conv3"}, UnknownLayerError, "no layer 'layer2.1.conv3'; did you mean 'layer2.1.conv2'"),
        ({"concept": 32}, ConceptRangeError, "concept 32 of 'layer2.1.conv2' is out of range: it has 32 of them"),
        ({"k": 11}, InputError, "the atlas holds 10 per ranking; k is 1 to 10, got 11"),
        ({"k": 0}, InputError, "the atlas holds 10 per ranking; k is 1 to 10, got 0"),
        ({"cls": 8}, ConceptRangeError, "class 8 of 'y' is out of range"),
        ({"batch_size": 0}, CrpKitError, "batch_size is a whole number of at least 1; got 0"),
        ({"dataset": ShapesDataset(64, seed=9)}, AtlasError, r"another dataset \(ShapesDataset\) than the one given"),
        ({"dataset": ShapesDataset(63)}, AtlasError, r"another dataset \(ShapesDataset\) than the one given"),
        (
            {"attribution": crp.CondAttribution(demo_resnet(weights=False))},
            AtlasError,
            r"a model with other weights \(_DemoResNet\) than the one given; load those, or build",
        ),
        (
            {"concepts": {LAYER: crp.NeuronConcept()}},
            AtlasError,
            r"is ChannelConcept\(axis=1\), here it would be NeuronConcept\(\); pass concepts=",
        ),
        (
            {"preprocess": lambda images: images.flatten(1)},
            InputError,
            r"from model inputs \(sample, channel, height, width\); preprocess gives \(4, 12288\)",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_a_sentence(
    atlas: crp.ConceptAtlas, options: dict[str, Any], kind: type[CrpKitError], message: str
) -> None:
    with pytest.raises(kind, match=message):
        ask(atlas, **options)


def test_another_model_and_dataset_are_taken_when_nothing_is_to_be_checked(atlas: crp.ConceptAtlas) -> None:
    model = copy.deepcopy(ATTRIBUTION.model)
    with torch.no_grad():
        model.fc.bias += 1  # type: ignore[operator, union-attr]
    other = ShapesDataset(64, seed=9)
    found = ask(atlas, other, attribution=crp.CondAttribution(model), check=False)
    assert torch.equal(found.images[0], other[found.table.sample[0]][0])


def test_a_sample_that_is_no_image_or_is_gone_is_named(atlas: crp.ConceptAtlas) -> None:
    first = int(atlas[LAYER].relevance.top(CONCEPT, 1).sample[0])
    with pytest.raises(InputError, match=f"sample {first} cannot be read: IndexError"):
        ask(atlas, Given(), check=False)
    flat = Given(*[(torch.rand(64, 64), 0)] * 64)
    with pytest.raises(InputError, match=rf"\(channel, height, width\); sample {first} has shape \(64, 64\)"):
        ask(atlas, flat, check=False)


def test_receptive_fields_need_a_concept_that_chooses_neurons(tmp_path: Path) -> None:
    with (
        build(tmp_path / "atlas.h5", Given(DATA[0]), concepts={LAYER: Weighted()}) as atlas,
        pytest.raises(InputError, match=r"Weighted\(\) weighs those of 'layer2.1.conv2' instead of choosing some"),
    ):
        ask(atlas, Given(DATA[0]), concept=0, concepts={LAYER: Weighted()}, receptive_field=True)


def test_a_position_outside_of_the_map_is_refused(atlas: crp.ConceptAtlas) -> None:
    small = Given(*[(DATA[number][0][:, :32, :32], 0) for number in range(64)])
    with pytest.raises(
        InputError, match=r"outside of its 64 neurons: .* is \(32, 8, 8\) here and \(32, 16, 16\) in the"
    ):
        ask(atlas, small, check=False, receptive_field=True)


class OnlyPadding(nn.Module):
    """The corners of its map lie in the padding."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 1, 1, padding=2), nn.Linear(1, 8)
        with torch.no_grad():
            self.conv.weight.fill_(-1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.head(self.conv(x).mean((2, 3)))
        return scores


def test_a_neuron_that_sees_only_padding_has_no_receptive_field(tmp_path: Path) -> None:
    attribution, dataset = crp.CondAttribution(OnlyPadding().eval()), Given((torch.full((3, 6, 6), 0.5), 0))
    options = {"attribution": attribution, "preprocess": None}
    with (
        build(tmp_path / "atlas.h5", dataset, layers="conv", **options) as atlas,
        pytest.raises(InputError, match="a neuron of 'conv' sees nothing of the input, only padding"),
    ):
        ask(atlas, dataset, "conv", 0, mode="activation", receptive_field=True, **options)


@pytest.mark.slow
def test_crops_need_receptive_fields_and_images_of_the_models_size(atlas: crp.ConceptAtlas) -> None:
    with pytest.raises(InputError, match="ask for references with receptive_field=True"):
        ask(atlas).crops()

    def enlarged(images: torch.Tensor) -> torch.Tensor:
        return demo_preprocess(nn.functional.interpolate(images, scale_factor=2))

    found = ask(atlas, preprocess=enlarged, receptive_field=True)
    assert found.heatmaps[0].shape == (128, 128)
    with pytest.raises(InputError, match=r"\(64, 64\) pixels becomes a model input of \(128, 128\)"):
        found.crops()
    for style in ("crop", "masked", "opaque"):
        with pytest.raises(InputError, match=r"an image of \(64, 64\) pixels has a heatmap of \(128, 128\)"):
            found.plot(style=style)


# ------------------------------------------------------------------------------------------------------- how they show


def titles(figure: Figure) -> list[str]:
    return [place.get_title() for place in figure.axes if place.get_title()]


def shown(figure: Figure) -> list[np.ndarray]:
    """What each panel shows, in order."""
    return [np.asarray(place.get_images()[0].get_array()) for place in figure.axes if place.get_images()]


def words(figure: Figure) -> str:
    found = [one.get_text() for one in figure.findobj(Text) if one.get_visible() and one.get_text()]
    return "\n".join(found)


def check_texts(figure: Figure) -> None:
    """Nothing is written over something else or out of the figure."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()
    texts = [one for one in figure.findobj(Text) if one.get_visible() and one.get_text().strip()]
    boxes = [(one.get_text(), one.get_window_extent(renderer)) for one in texts]
    for (text, box), (other, its) in itertools.combinations(boxes, 2):
        width = min(box.x1, its.x1) - max(box.x0, its.x0)
        height = min(box.y1, its.y1) - max(box.y0, its.y0)
        assert min(width, height) <= 1, f"{text!r} over {other!r}"
    for text, box in boxes:
        assert box.x0 >= -1, text
        assert box.x1 <= figure.bbox.width + 1, text
        assert box.y0 >= -1, text
        assert box.y1 <= figure.bbox.height + 1, text


@pytest.fixture(scope="module")
def views(atlas: crp.ConceptAtlas) -> dict[str, References]:
    return {
        "relevance": ask(atlas, k=5),
        "activation": ask(atlas, k=5, mode="activation"),
        "other": ask(atlas, concept=3, k=2),
        "fields": ask(atlas, k=5, receptive_field=True),
    }


@pytest.mark.slow
@pytest.mark.parametrize("style", ["overlay", "map", "masked", "opaque", "crop"])
def test_every_style_is_a_figure_that_can_be_read(views: dict[str, References], style: str) -> None:
    several = [views["fields"]] * 2 if style == "crop" else [views["relevance"], views["other"], views["fields"]]
    for samples in (several[0], several):
        figure = plot.references(samples, style=style)  # type: ignore[arg-type]
        assert isinstance(figure, Figure)
        assert plot.to_png(figure).startswith(b"\x89PNG")
        check_texts(figure)
        width, height = figure.get_size_inches()
        assert width < 14
        assert height < 6 * (len(several) if samples is several else 1)


def test_captions_name_sample_class_and_score_and_the_heading_says_what_is_shown(views: dict[str, References]) -> None:
    one = views["relevance"]
    figure = one.plot()
    assert [title.split("\n") for title in titles(figure)] == [
        [f"sample {number}", *title_of(cls), f"relevance {score:#.3g}"]
        for number, cls, score in zip(one.table.sample, one.classes, one.table.score, strict=True)
    ]
    assert "layer2.1.conv2, concept 24: RelMax; heatmaps from the class" in words(figure)
    assert "own scale" in words(figure).replace("\n", " ")
    assert "ActMax" in words(views["activation"].plot())
    assert "from the class through the strongest neuron" in words(views["fields"].plot()).replace("\n", " ")


def title_of(cls: str) -> list[str]:
    """A class's name in lines of at most 22 letters."""
    lines: list[str] = []
    for word in cls.split():
        if lines and len(lines[-1]) + 1 + len(word) <= 22:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def test_images_stand_above_their_heatmaps(views: dict[str, References]) -> None:
    one = views["relevance"]
    figure = one.plot()
    panels = shown(figure)
    assert len(panels) == 10
    for image, panel in zip(one.images, panels[:5], strict=True):
        assert np.abs(panel / 255 - image.movedim(0, -1).numpy()).max() < 1 / 255
    below = [place for place in figure.axes if place.get_xlabel().startswith("±")]
    assert [place.get_xlabel() for place in below] == [
        f"± {float(row.abs().flatten().quantile(0.995, interpolation='higher')):.2g}" for row in one.heatmaps
    ]


def test_masked_images_are_dark_where_there_is_no_positive_relevance_and_untouched_where_it_is_highest() -> None:
    image, heatmap = torch.full((3, 48, 48), 0.8), -torch.ones(48, 48)
    heatmap[4:12, 4:12] = 2
    view = plot.ReferenceView("layer, concept 1", "RelMax", [image], [heatmap], ["sample 0"])
    (panel,) = shown(plot.references(view, style="masked"))
    assert panel[8, 8] == pytest.approx(204 / 255)
    assert panel[40, 40] == pytest.approx(0.12 * 204 / 255)
    (panel,) = shown(plot.references(view, style="opaque"))
    assert panel[8, 8] == pytest.approx(204 / 255)
    assert panel[40, 40] == pytest.approx(1 - 0.22 * (1 - 204 / 255))


def test_an_image_without_positive_relevance_is_all_dark() -> None:
    view = plot.ReferenceView("layer, concept 1", "RelMax", [torch.ones(3, 9, 9)], [-torch.ones(9, 9)], ["sample 0"])
    (panel,) = shown(plot.references(view, style="masked"))
    assert panel == pytest.approx(0.12)
    assert (shown(plot.references(view, style="opaque"))[0] == 1).all()


@pytest.mark.slow
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 3), (300, 20)])
def test_images_of_any_size_can_be_drawn(size: tuple[int, int]) -> None:
    images, maps = [torch.rand(3, *size)] * 3, [torch.rand(size)] * 3
    view = plot.ReferenceView("layer, concept 1", "RelMax", images, maps, ["a", "b", "c"], [(0, 0, 1, 1)] * 3)
    for style in ("overlay", "map", "masked", "opaque", "crop"):
        figure = plot.references(view, style=style)  # type: ignore[arg-type]
        check_texts(figure)


def test_crops_are_cut_out_of_image_and_heatmap_at_one_scale(views: dict[str, References]) -> None:
    fields = views["fields"]
    figure = fields.plot()
    panels = shown(figure)
    assert fields.boxes is not None
    sizes = [(bottom - top, right - left) for top, left, bottom, right in fields.boxes]
    assert len(set(sizes)) > 1
    assert [panel.shape[:2] for panel in panels] == sizes * 2
    spans = {abs(place.get_xlim()[1] - place.get_xlim()[0]) for place in figure.axes if place.get_images()}
    assert spans == {max(width for _, width in sizes)}


@pytest.mark.slow
def test_many_samples_stand_in_several_lines(atlas: crp.ConceptAtlas) -> None:
    figure = ask(atlas, k=10).plot(columns=4)
    assert len(titles(figure)) == 10
    assert figure.get_size_inches()[0] < 10
    check_texts(figure)


def test_names_with_dollars_and_of_any_length_are_written_as_they_are() -> None:
    captions = ["$\\frac$", "x" * 22]
    view = plot.ReferenceView(
        "a$layer$, concept 1", "RelMax", [torch.ones(3, 9, 9)] * 2, [torch.ones(9, 9)] * 2, captions
    )
    figure = plot.references(view)
    check_texts(figure)
    assert plot.to_png(figure).startswith(b"\x89PNG")


def test_long_identifiers_and_classes_are_cut_to_a_caption(views: dict[str, References]) -> None:
    one = views["relevance"]
    long = References(**{
        **vars(one),
        "identifiers": tuple(f"train/some_folder/with/a/long/name_{number}.JPEG" for number in range(5)),
        "classes": ("a class with a name that is longer than two lines of a caption can hold, by far",) * 5,
    })  # fmt: skip
    for caption in reference_view(long).captions:
        assert caption.count("\n") == 3
        assert max(map(len, caption.split("\n"))) <= 22
    check_texts(long.plot())


@pytest.mark.slow
def test_both_rankings_of_a_concept_in_one_figure_with_their_common_samples_starred(
    views: dict[str, References],
) -> None:
    relevance, activation = views["relevance"], views["activation"]
    figure = plot.compare_modes(relevance, activation)
    check_texts(figure)
    samples = [*relevance.table.sample.tolist(), *activation.table.sample.tolist()]
    assert [title.split("\n")[0] for title in titles(figure)] == [
        f"sample {number}" + " *" * (samples.count(number) == 2) for number in samples
    ]
    assert "layer2.1.conv2, concept 24" in words(figure)
    assert words(figure).index("RelMax") < words(figure).index("ActMax")
    assert ("* in both rankings" in words(figure)) == (len(set(samples)) < len(samples))
    check_texts(plot.compare_modes(relevance, activation, style="masked"))
    with pytest.raises(
        InputError, match=r"one concept are compared; got 'layer2.1.conv2, concept 24' and .* concept 3'"
    ):
        plot.compare_modes(relevance, views["other"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"style": "heatmap"}, "style is one of 'overlay', 'map', 'masked', 'opaque', 'crop'; got 'heatmap'"),
        ({"style": "crop"}, "no receptive fields of layer2.1.conv2, concept 24 to cut out: ask for references with"),
        ({"columns": 0}, "at least one column; got 0"),
        ({"samples": []}, "there is no reference sample to draw"),
    ],
)
def test_what_cannot_be_drawn_is_refused(views: dict[str, References], options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        plot.references(**{"samples": views["relevance"], **options})


def test_references_show_themselves_in_a_notebook_and_as_text(views: dict[str, References]) -> None:
    assert views["relevance"]._repr_png_().startswith(b"\x89PNG")
    head, names, *rows = repr(views["fields"]).split("\n")
    assert head == (
        "References of concept 24 of 'layer2.1.conv2' by relevance, "
        "heatmaps from the class through the strongest neuron:"
    )
    assert names.split() == ["sample", "score", "position", "target"]
    assert len(rows) == 5
