"""Region maps: each region's dominant concept is the one that brute force finds, and the figure can be read."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from atlas_case import COMPOSITE as RULES
from atlas_case import SHAPES
from atlas_case import SHAPES_LAYER as LAYER
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from studies import region_map_of
from zennit.rules import Epsilon
from zennit.types import Convolution

import crp_kit as crp
from crp_kit.concepts import NeuronConcept
from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
from crp_kit.errors import AtlasError, ConceptRangeError, ConditionError, CrpKitError, InputError, UnknownLayerError
from crp_kit.region_map import segment
from crp_kit.rules.maps.rule_maps import GlobalTypeMap
from crp_kit.views import plot

DATA = SHAPES
IMAGE = DATA[2][0]
SAMPLE = demo_preprocess(IMAGE)[None]
ATTRIBUTION = crp.CondAttribution(demo_resnet())
EPSILON = GlobalTypeMap({Convolution: Epsilon()})
BLANK = np.zeros((6, 9, 3))


def mapped(**options: Any) -> crp.RegionMap:
    return region_map_of(ATTRIBUTION, SAMPLE, LAYER, **{"composite": RULES, "count": 9, "image": IMAGE, **options})


@pytest.fixture(scope="module")
def maps() -> np.ndarray:
    """The heatmaps of all channels for class 3, computed at once: (channel, height, width)."""
    conditions = [{LAYER: [channel], "y": [3]} for channel in range(32)]
    heatmap = ATTRIBUTION(SAMPLE, conditions, RULES, batch_size=32).heatmap
    return heatmap.double().numpy()


def by_force(maps: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Sum of each heatmap over each region: (channel, region)."""
    return np.stack([np.bincount(labels.ravel(), weights=one.ravel()) for one in maps])


@pytest.mark.parametrize("regions", ["grid", "slic", "pixels", "labels"])
@pytest.mark.parametrize("signed", [False, True])
def test_each_region_has_the_concept_that_brute_force_finds(maps: np.ndarray, regions: str, signed: bool) -> None:
    chosen: Any = np.random.default_rng(0).integers(0, 30, (64, 64)) if regions == "labels" else regions
    options = {} if regions in ("grid", "slic") else {"count": None}
    found = mapped(regions=chosen, signed=signed, cls=3, batch_size=5, **options)
    sums = by_force(maps, found.labels)
    score = np.abs(sums) if signed else np.maximum(sums, 0)
    dominant = np.where(score.max(0) > 0, score.argmax(0), -1)
    best = np.take_along_axis(sums, score.argmax(0)[None], 0)[0]
    runner_up = np.sort(score, 0)[-2]
    clear = score.max(0) > runner_up * (1 + 1e-4)  # another batch size changes last bits
    assert clear.mean() > 0.95
    assert np.array_equal(found.dominant[clear], dominant[clear])
    assert np.allclose(found.relevance, np.where(dominant < 0, 0, best), rtol=1e-4, atol=1e-9)
    assert np.array_equal(found.concept_map, found.dominant[found.labels])


def test_areas_and_shares_are_those_of_the_concepts(maps: np.ndarray) -> None:
    found = mapped(regions="slic", cls=3)
    assert set(found.concepts) == set(found.dominant.tolist()) - {-1}
    expected = [(found.concept_map == concept).mean() for concept in found.concepts]
    assert np.allclose(found.areas, expected)
    assert (np.diff(found.areas) <= 0).all()
    attr = ATTRIBUTION(SAMPLE, [{"y": [3]}], RULES, record_layer=[LAYER])
    shares = crp.ChannelConcept().attribute(attr.relevances[LAYER])[0].numpy()
    assert np.allclose(found.shares, shares[list(found.concepts)], atol=1e-6)


def test_without_a_target_it_is_the_predicted_class() -> None:
    predicted = int(demo_resnet().eval()(SAMPLE).argmax())
    assert mapped(top=1).target == predicted


def test_results_do_not_depend_on_the_batch_size() -> None:
    one, other = (mapped(batch_size=size, cls=3) for size in (1, 32))
    assert np.array_equal(one.dominant, other.dominant)
    assert np.allclose(one.relevance, other.relevance, rtol=1e-4)


def test_never_more_than_a_batch_of_heatmaps_is_computed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    generate = ATTRIBUTION.generate

    def counted(*arguments: Any, **options: Any) -> Any:
        for part in generate(*arguments, **options):
            sizes.append(len(part))
            yield part

    monkeypatch.setattr(ATTRIBUTION, "generate", counted)
    mapped(batch_size=6)
    assert sizes == [6, 6, 6, 6, 6, 2]


@pytest.mark.parametrize("signed", [False, True])
def test_only_the_top_concepts_are_compared(maps: np.ndarray, signed: bool) -> None:
    found = mapped(top=4, cls=3, signed=signed)
    attr = ATTRIBUTION(SAMPLE, [{"y": [3]}], RULES, record_layer=[LAYER])
    shares = crp.ChannelConcept().attribute(attr.relevances[LAYER])[0]
    ids = (shares.abs() if signed else shares).argsort(descending=True, stable=True)[:4].sort().values.numpy()
    sums = by_force(maps[ids], found.labels)
    assert np.array_equal(found.dominant, ids[(np.abs(sums) if signed else sums).argmax(0)])


class Channels(torch.nn.Module):
    """A model whose channels show parts of the image: the left half, the right half, the same right half, against."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = torch.nn.Conv2d(3, 4, 1, bias=False)
        self.parts.weight.data.zero_()
        for channel, (colour, weight) in enumerate([(0, 1.0), (1, 1.0), (1, 1.0), (2, -1.0)]):
            self.parts.weight.data[channel, colour] = weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.parts(x).sum((1, 2, 3))[:, None]


def striped() -> torch.Tensor:
    """An image that is red on the left, green in the middle, blue on the right: (1, 3, 2, 6)."""
    made = torch.zeros(1, 3, 2, 6)
    for colour in range(3):
        made[0, colour, :, 2 * colour : 2 * colour + 2] = 1
    return made


def test_of_equal_concepts_the_lowest_dominates_and_where_none_is_positive_there_is_none() -> None:
    attribution = crp.CondAttribution(Channels())
    found = region_map_of(attribution, striped(), "parts", composite=EPSILON, count=(1, 3))
    assert found.dominant.tolist() == [0, 1, -1]
    assert found.relevance.tolist() == pytest.approx([4, 4, 0], rel=1e-5)
    assert found.concepts == (0, 1)
    assert (found.concept_at(0, 0), found.concept_at(1, 3), found.concept_at(1, 5)) == (0, 1, None)
    assert found.as_dict()["none"] == pytest.approx(1 / 3)
    for size in (1, 2, 3):
        assert (
            region_map_of(attribution, striped(), "parts", composite=EPSILON, count=(1, 3), batch_size=size).dominant[1]
            == 1
        )


def test_signed_maps_show_what_speaks_against_the_class() -> None:
    found = region_map_of(
        crp.CondAttribution(Channels()), striped(), "parts", composite=EPSILON, count=(1, 3), signed=True
    )
    assert found.dominant.tolist() == [0, 1, 3]
    assert found.relevance.tolist() == pytest.approx([4, 4, -4], rel=1e-5)


def test_other_concepts_than_channels_can_dominate() -> None:
    found = region_map_of(
        crp.CondAttribution(Channels()),
        striped(),
        "parts",
        composite=EPSILON,
        regions="pixels",
        concepts=NeuronConcept(),
    )
    left = found.concept_map[:, :4]
    assert left[0].tolist() == [0, 1, 14, 15]
    assert left[1].tolist() == [6, 7, 20, 21]


def test_grids_have_the_cells_that_were_asked_for() -> None:
    assert (
        segment("grid", BLANK, cell=3).tolist() == [[0] * 3 + [1] * 3 + [2] * 3] * 3 + [[3] * 3 + [4] * 3 + [5] * 3] * 3
    )
    assert segment("grid", BLANK, cell=(4, 9)).max() == 1
    assert segment("grid", BLANK, count=(3, 9)).max() == 26
    assert np.array_equal(segment("grid", BLANK, count=6), segment("grid", BLANK, cell=3))
    assert np.bincount(segment("grid", BLANK, count=(1, 2)).ravel()).tolist() == [30, 24]
    assert segment("grid", BLANK, cell=100).max() == 0
    assert segment("grid", np.zeros((64, 64, 3))).max() == 63
    assert segment("pixels", BLANK).tolist() == np.arange(54).reshape(6, 9).tolist()


def test_superpixels_follow_the_edges_of_the_image() -> None:
    image = np.zeros((30, 30, 3))
    image[:, 11:] = 1
    labels = segment("slic", image, count=9)
    assert not set(labels[:, :11].ravel()) & set(labels[:, 11:].ravel())
    assert set(labels.ravel()) == set(range(labels.max() + 1))


def test_labels_are_numbered_anew_in_their_own_order() -> None:
    labels = np.full((6, 9), 7)
    labels[0], labels[5] = -2, 90
    for given in (labels, torch.from_numpy(labels), labels.astype("i2")):
        assert segment(given, BLANK)[:, 0].tolist() == [0, 1, 1, 1, 1, 2]


@pytest.mark.parametrize(
    ("regions", "options", "message"),
    [
        ("hexagons", {}, "regions is 'grid', 'pixels', 'slic' or labels (height, width); got 'hexagons'"),
        ("grid", {"count": 3, "cell": 3}, "count and cell both say how fine the grid is"),
        ("grid", {"count": 0}, "count is a whole number of at least 1; got 0"),
        ("grid", {"cell": 2.5}, "cell is a whole number of at least 1; got 2.5"),
        ("grid", {"cell": (1, 2, 3)}, "cell is one number, or one for the height and one for the width"),
        ("grid", {"count": (7, 9)}, "a grid of 7 rows and 9 columns is finer than 6x9 pixels"),
        ("pixels", {"count": 3}, "count is for a grid or slic, not for single pixels"),
        ("slic", {"cell": 3}, "cell is for a grid, not for superpixels"),
        ("slic", {"count": (2, 3)}, "count is a whole number"),
        (np.zeros((6, 8), int), {}, "labels are whole numbers (height, width), here (6, 9); got shape (6, 8)"),
        (np.zeros((6, 9)), {}, "got shape (6, 9) of float64"),
        (np.zeros((6, 9), int), {"count": 3}, "count is for a grid or slic, not for labels that are given"),
    ],
)
def test_regions_that_are_none_are_refused(regions: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match="^.*$") as caught:
        segment(regions, BLANK, **options)
    assert message in str(caught.value)


def test_superpixels_without_scikit_image_are_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    with pytest.raises(InputError, match=r"need scikit-image: pip install 'crp-kit\[regions\]'"):
        segment("slic", BLANK)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"cls": 8}, ConceptRangeError, "class 8 of 'y' is out of range"),
        ({"cls": -1}, ConceptRangeError, "class -1 of 'y' is out of range"),
        ({"cls": "zebra"}, InputError, "no class is named 'zebra'"),
        ({"top": 0}, ConditionError, "top is a whole number of at least 1; got 0"),
        ({"image": IMAGE[:, :32]}, InputError, "the image has 32x64 pixels and the sample 64x64"),
        ({"layer": "layer2.1.conv3"}, UnknownLayerError, "did you mean 'layer2.1.conv2'"),
        (
            {"sample": SAMPLE[0]},
            InputError,
            "a region map is of one image: (1, channel, height, width); got (3, 64, 64)",
        ),
        ({"sample": SAMPLE.repeat(2, 1, 1, 1), "image": None}, InputError, "got (2, 3, 64, 64)"),
        ({"sample": [IMAGE], "image": None}, InputError, "got list"),
        ({"sample": SAMPLE * torch.nan, "image": None}, InputError, "NaN"),
        ({"batch_size": 0}, ConditionError, "batch_size is a whole number"),
    ],
)
def test_what_cannot_be_mapped_is_refused(options: dict[str, Any], kind: type[CrpKitError], message: str) -> None:
    given = {"sample": SAMPLE, "layer": LAYER, "image": IMAGE, "composite": RULES, **options}
    with pytest.raises(kind) as caught:
        region_map_of(ATTRIBUTION, **given)
    assert message in str(caught.value)


def test_a_pixel_outside_has_no_concept() -> None:
    with pytest.raises(InputError, match=r"pixel \(64, 0\) lies outside of the image of 64x64 pixels"):
        mapped(top=1).concept_at(64, 0)


@pytest.fixture(scope="module")
def found() -> crp.RegionMap:
    return mapped(count=(6, 6), cls=3)


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in (*axes.texts, axes.title) if text.get_text()]


def test_it_says_what_it_is(found: crp.RegionMap) -> None:
    said = repr(found)
    assert said.startswith(f"RegionMap of '{LAYER}' for class 3: 36 regions, highest relevance in each\n")
    assert f"  concept {found.concepts[0]:>4}: {found.areas[0]:6.1%} of the image" in said
    assert len(found) == 36
    with Image.open(io.BytesIO(found._repr_png_())) as picture:
        assert picture.width > picture.height > 300


def test_a_map_of_many_concepts_is_summed_up() -> None:
    many = mapped(regions="pixels", count=None, cls=3)
    assert len(many.concepts) > 10
    assert f"and {len(many.concepts) - 10} more concepts" in repr(many)
    assert f"{len(many.concepts) - 2} other concepts" in texts(many.plot(most=2))


def test_the_legend_names_every_concept_with_its_colour_and_shares(found: crp.RegionMap) -> None:
    figure = found.plot()
    assert isinstance(figure, Figure)
    said = texts(figure)
    for concept, area, share in list(zip(found.concepts, found.areas, found.shares, strict=True))[:9]:
        assert f"concept {concept}" in said
        assert f"{area:.0%} of the image\n{share:+.1%} of the relevance" in said
    swatches = [one for one in figure.axes[2].patches if isinstance(one, Rectangle)]
    assert (
        len({one.get_facecolor() for one in swatches})
        == len(swatches)
        == min(len(found.concepts), 9) + (len(found.concepts) > 9)
    )


def test_colours_in_the_map_are_those_of_the_legend() -> None:
    found = region_map_of(crp.CondAttribution(Channels()), striped(), "parts", composite=EPSILON, count=(1, 3))
    figure = found.plot(torch.full((3, 2, 6), 0.5))
    shown = np.asarray(figure.axes[1].get_images()[0].get_array())
    swatches = [np.array(one.get_facecolor()[:3]) for one in figure.axes[2].patches]
    for place, swatch in zip((shown[0, 0], shown[0, 3]), swatches, strict=False):
        tint = [pixel - pixel.mean() for pixel in (place, swatch)]
        assert np.corrcoef(*tint)[0, 1] > 0.99
    assert np.ptp(shown[0, 5]) < 1e-9
    assert "no concept" in texts(figure)


def test_relevance_against_the_class_is_hatched() -> None:
    for signed, words in ((True, "; hatched: against the class"), (False, "")):
        found = region_map_of(
            crp.CondAttribution(Channels()), striped(), "parts", composite=EPSILON, count=(1, 3), signed=signed
        )
        place = found.plot().axes[1]
        label = " ".join(place.get_xlabel().split())
        assert label == f"paler: less relevance per pixel, full from the 99.5th percentile{words}"
        hatched = [one for one in place.collections if getattr(one, "hatches", [None])[0]]
        assert len(hatched) == signed
        if signed:
            box = hatched[0].get_paths()[0].get_extents()
            assert (box.x0, box.x1) == pytest.approx((3.5, 5.5), abs=0.3)


def test_a_picture_of_another_size_is_refused(found: crp.RegionMap) -> None:
    with pytest.raises(InputError, match="the image is 32x64 pixels and the region map 64x64"):
        found.plot(torch.zeros(3, 64, 32))
    with pytest.raises(InputError, match="most is how many concepts get a colour of their own, 1 to 9; got 10"):
        found.plot(most=10)


@pytest.fixture(scope="module")
def atlas(shapes_atlas_file: Path) -> Any:
    with crp.ConceptAtlas(shapes_atlas_file) as opened:
        yield opened


@pytest.mark.slow
def test_the_legend_shows_reference_samples_of_each_concept(found: crp.RegionMap, atlas: crp.ConceptAtlas) -> None:
    study = crp.Study(ATTRIBUTION, DATA, composite=RULES, preprocess=demo_preprocess)
    pictures = study.reference_pictures(found, atlas, k=3, most=2)
    assert list(pictures) == list(found.concepts[:2])
    expected = study.references(atlas, LAYER, found.concepts[1], k=3)
    for (image, heatmap), number, own in zip(
        pictures[found.concepts[1]], expected.table.sample.tolist(), expected.heatmaps, strict=True
    ):
        assert torch.equal(heatmap, own)
        assert torch.equal(image, DATA[number][0])
    plain = {concept: [(image, None) for image, _ in pairs] for concept, pairs in pictures.items()}
    legend = found.plot(references=plain, most=2).axes[2]
    assert len(legend.child_axes) == 6
    first = {concept: pairs[:1] for concept, pairs in pictures.items()}
    dark = found.plot(references=first, most=2).axes[2]
    assert len(dark.child_axes) == 2
    bright, dimmed = (np.asarray(one.child_axes[0].get_images()[0].get_array()) for one in (legend, dark))
    assert dimmed.mean() * 255 < bright.mean() / 2


def test_an_atlas_of_other_data_or_without_data_is_refused(found: crp.RegionMap, atlas: crp.ConceptAtlas) -> None:
    with pytest.raises(InputError, match="this needs a dataset"):
        crp.Study(ATTRIBUTION, composite=RULES).reference_pictures(found, atlas)
    other = crp.Study(ATTRIBUTION, ShapesDataset(41), composite=RULES, preprocess=demo_preprocess)
    with pytest.raises(AtlasError, match="another dataset"):
        other.reference_pictures(found, atlas)


def test_figures_are_drawn_whole(found: crp.RegionMap, tmp_path: Path) -> None:
    """Every text and picture lies on the page."""
    figure = plot.regions(found)
    figure.canvas.draw()
    page = figure.bbox
    for axes in figure.axes:
        for text in (*axes.texts, axes.title):
            box = text.get_window_extent()
            assert page.contains(box.x0, box.y0), text
            assert page.contains(box.x1, box.y1), text
