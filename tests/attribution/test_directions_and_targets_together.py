"""Directions and targets where layers have channels last, outputs have several parts, and batches have several pairs.

Oracles are gradients of the plain model in float64, and the definition of the shares of directions.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from dictionaries import Autoencoder
from nets import lrp_0, normal, relative_error, small_convnet
from torch import nn

from crp_kit import CondAttribution, DictionaryConcept, DirectionConcept, Study
from crp_kit.concepts import MixedConcept
from crp_kit.targets import Class, Contrast, Region, Similarity

MIXED = "mixed"


class ChannelsLast(nn.Module):
    """Convolution, then a block on (sample, height, width, channel) as in ConvNeXt and Swin, and a head."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.stem, self.mixed = nn.Conv2d(3, 6, 3), nn.Linear(6, 5)
            self.head = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.mixed(self.stem(x).permute(0, 2, 3, 1))
        return self.head(y.relu().mean((1, 2)))  # type: ignore[no-any-return]


class TwoHeads(nn.Module):
    """A segmentation with an auxiliary output, as DeepLab and FCN have it."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            self.body = nn.Conv2d(3, 4, 3, padding=1)
            self.classifier, self.aux = nn.Conv2d(4, 3, 1), nn.Conv2d(4, 3, 1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        y = self.body(x).relu()
        return {"aux": self.aux(y), "out": self.classifier(y)}


def oblique() -> MixedConcept:
    """Three directions that are neither orthogonal nor of one length, with a mean and without an encoder."""
    return DirectionConcept(normal(3, 5, seed=4), mean=normal(5, seed=5), axis=-1)


def dual() -> MixedConcept:
    """The same, read by their pseudoinverse."""
    directions = normal(3, 5, seed=4)
    return DirectionConcept(directions, mean=normal(5, seed=5), encoder=torch.linalg.pinv(directions).T, axis=-1)


def top_k() -> MixedConcept:
    return DictionaryConcept(Autoencoder(5, 4, "topk", seed=2))


def code(concept: Any, activation: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return code, (..., concept), decoder, (concept, channel), and offset, (channel,), written out."""
    if isinstance(concept, DirectionConcept):
        return (activation - concept.mean) @ concept.encoder.T, concept.directions, concept.mean
    with torch.no_grad():
        module = concept.module
        return module.encode(activation), module.writer.T.detach(), module.writer_bias.detach()


@pytest.mark.parametrize("concept", [oblique(), dual(), top_k()], ids=["oblique", "dual", "top-k"])
def test_shares_of_directions_are_their_definition_where_channels_are_last(concept: Any) -> None:
    net, images = ChannelsLast().double().eval(), normal(3, 3, 5, 5, seed=2)
    attribution = CondAttribution(net)
    plain = attribution(images, [{"y": [1]}], lrp_0(), record_layer=[MIXED], pairing="product")
    activation, relevance = plain.activations[MIXED], plain.relevances[MIXED]
    coefficient = relevance / activation
    values, decoder, offset = code(concept, activation)
    rest = activation - values @ decoder - offset
    expected = [
        values * (coefficient @ decoder.T),
        (coefficient * offset).sum(-1, True),
        (coefficient * rest).sum(-1, True),
    ]
    recorded = attribution(
        images, [{"y": [1]}], lrp_0(), mask_map={MIXED: concept}, record_layer=[MIXED], pairing="product"
    ).by_concept[MIXED]
    assert relative_error(recorded.movedim(1, -1), torch.cat(expected, -1)) < 1e-9
    assert relative_error(recorded.sum(1), relevance.sum(-1)) < 1e-9


@pytest.mark.parametrize("concept", [oblique(), dual(), top_k()], ids=["oblique", "dual", "top-k"])
def test_conditions_on_directions_are_gradients_of_their_codes_where_channels_are_last(concept: Any) -> None:
    net, images = ChannelsLast().double().eval(), normal(3, 3, 5, 5, seed=2)
    attribution = CondAttribution(net)
    plain = attribution(images, [{"y": [1]}], lrp_0(), record_layer=[MIXED], pairing="product")
    coefficient = plain.relevances[MIXED] / plain.activations[MIXED]
    for chosen in ([1], [0, 2]):
        attr = attribution(images, [{MIXED: chosen, "y": [1]}], lrp_0(), mask_map={MIXED: concept}, pairing="product")
        leaf = images.clone().requires_grad_()
        layer = net.mixed(net.stem(leaf).permute(0, 2, 3, 1))
        if isinstance(concept, DirectionConcept):
            written = ((layer - concept.mean) @ concept.encoder.T)[..., chosen] @ concept.directions[chosen]
        else:
            written = concept.module.encode(layer)[..., chosen] @ concept.module.writer.T[chosen]
        (gradient,) = torch.autograd.grad((coefficient * written).sum(), leaf)
        assert relative_error(attr.heatmap, (images * gradient).sum(1)) < 1e-8


@pytest.mark.parametrize("concept", [oblique(), dual(), top_k()], ids=["oblique", "dual", "top-k"])
def test_rows_together_are_rows_alone_for_several_pairs_of_classes(concept: Any) -> None:
    attribution, images = CondAttribution(ChannelsLast().double().eval()), normal(3, 3, 5, 5, seed=2)
    targets = [Contrast(0, 1), Contrast(2, 0), Contrast(1, 2)]
    conditions = [{MIXED: ids, "y": target} for ids, target in zip([[0], ["rest"], [2, 1]], targets, strict=True)]
    options: dict[str, Any] = {"mask_map": {MIXED: concept}, "composite": lrp_0()}
    together = attribution(images, conditions, pairing="zip", **options)
    for row, condition in enumerate(conditions):
        alone = attribution(images[row : row + 1], [condition], **options)
        assert relative_error(together.heatmap[row], alone.heatmap[0]) < 1e-12
    product = attribution(images, conditions, pairing="product", **options).heatmap
    parts = attribution.generate(images, conditions, pairing="product", batch_size=2, **options)
    assert relative_error(torch.cat([part.heatmap for part in parts]), product) < 1e-12
    assert relative_error(product[::4], together.heatmap) < 1e-12


def test_a_contrast_under_directions_is_the_difference_of_its_classes() -> None:
    attribution, images = CondAttribution(ChannelsLast().double().eval()), normal(2, 3, 5, 5, seed=2)
    starts = [Contrast(0, 2), Class(0), Class(2)]
    maps = attribution(
        images,
        [{MIXED: [1, "mean"], "y": start} for start in starts],
        lrp_0(),
        mask_map={MIXED: dual()},
        pairing="product",
    ).heatmap.unflatten(0, (2, 3))
    assert relative_error(maps[:, 0], maps[:, 1] - maps[:, 2]) < 1e-10


def test_a_region_of_the_main_output_does_not_see_the_auxiliary_one() -> None:
    net, images = TwoHeads().double().eval(), normal(2, 3, 6, 6, seed=3)
    cls = int(net(images)["out"].argmax(1).flatten().mode().values)
    mask = torch.zeros(6, 6, dtype=torch.bool)
    mask[1:5, :4] = True
    attr = CondAttribution(net, output="out")(
        images, {"y": Region(cls, mask, value="relu")}, lrp_0(), pairing="product"
    )
    leaf = images.clone().requires_grad_()
    scores = net(leaf)["out"]
    chosen = (scores.argmax(1) == cls) & mask & (scores[:, cls] > 0)
    (gradient,) = torch.autograd.grad(scores[:, cls][chosen].sum(), leaf)
    assert relative_error(attr.heatmap, (images * gradient).sum(1)) < 1e-8


def test_the_similarity_of_two_images_is_that_of_their_embeddings_and_symmetric_where_they_are_alike() -> None:
    net, images = small_convnet(classes=4).double(), normal(2, 3, 6, 6, seed=6)
    embeddings = net(images).detach()
    attribution = CondAttribution(net)
    for here, there in ((0, 1), (1, 0)):
        attr = attribution(images[[here]], {"y": Similarity(embeddings[there])}, lrp_0())
        leaf = images[[here]].clone().requires_grad_()
        own = net(leaf)[0]
        point = own.detach().clone().requires_grad_()
        (slope,) = torch.autograd.grad(torch.cosine_similarity(point, embeddings[there], 0), point)
        (gradient,) = torch.autograd.grad((slope * own).sum(), leaf)
        assert relative_error(attr.heatmap, (images[[here]] * gradient).sum(1)) < 1e-8


def test_references_of_directions_are_those_of_the_shares_of_single_calls(tmp_path: Any) -> None:
    net, images = ChannelsLast().double().eval(), normal(9, 3, 5, 5, seed=7)
    study = Study(
        net, [(image, number % 3) for number, image in enumerate(images)], composite=lrp_0(), concepts={MIXED: dual()}
    )
    with study.build_atlas(tmp_path / "a.h5", layers=[MIXED], batch_size=4, verbose=False) as atlas:
        shares = []
        for number, image in enumerate(images):
            attr = study(image[None], [{"y": [number % 3]}], record_layer=[MIXED])
            shares.append(dual().attribute(attr.by_concept[MIXED])[0])
        table = torch.stack(shares)
        for concept in range(5):
            ranking = atlas[MIXED].relevance.top(concept, 4)
            assert ranking.sample.tolist() == table[:, concept].argsort(descending=True)[:4].tolist()
            assert torch.allclose(
                torch.tensor(ranking.score, dtype=torch.float64), table[ranking.sample, concept], rtol=1e-5
            )
            assert list(study.references(atlas, MIXED, concept, k=4).table.sample) == ranking.sample.tolist()
