"""Targets: start relevance of classes, contrasts, values, regions and functions, each sample on its own."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import crp_kit as crp
from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
from crp_kit.errors import ConceptAxisError, ConditionError, InputError
from crp_kit.targets import Class, Contrast, Function, Region, Similarity, Target, Value

LAYER = "layer3.1.conv2"
RULES = "epsilon_plus_flat"


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.stack(
        [demo_preprocess(image) for image, _ in (ShapesDataset(3)[number] for number in range(3))]
    ).double()


@pytest.fixture(scope="module")
def classifier() -> crp.CondAttribution:
    return crp.CondAttribution(demo_resnet().double())


@pytest.fixture(scope="module")
def segmenter() -> crp.CondAttribution:
    """(sample, 3, 6, 6) in and (sample, 4 classes, 6, 6) out."""
    torch.manual_seed(13)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1, bias=False)).double().eval()
    return crp.CondAttribution(net)


def pictures(count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("condition", [{}, {LAYER: [3, 5]}], ids=["whole", "conditioned"])
def test_a_contrast_is_the_difference_of_two_classes(
    images: torch.Tensor, classifier: crp.CondAttribution, condition: dict[str, Any]
) -> None:
    sets = [{**condition, "y": target} for target in (1, 6, Contrast(1, 6))]
    first, second, contrast = classifier(images, sets, RULES, pairing="product").heatmap.view(3, 3, 64, 64).unbind(1)
    torch.testing.assert_close(contrast, first - second, rtol=1e-10, atol=1e-14)
    assert contrast.abs().amax((1, 2)).min() > 1e-7


def test_a_class_by_its_logit_is_the_condition_on_the_class(
    images: torch.Tensor, classifier: crp.CondAttribution
) -> None:
    sets = [{"y": [1, 4]}, {"y": Class([1, 4, 1])}]
    ids, target = classifier(images, sets, RULES, pairing="product").heatmap.view(3, 2, 64, 64).unbind(1)
    torch.testing.assert_close(ids, target, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("target", "start"),
    [
        (Class(2, value="one"), lambda y: torch.eye(8).double()[2].expand_as(y)),
        (Class([2, 3], value="probability"), lambda y: y.softmax(1) * torch.eye(8).double()[[2, 3]].sum(0)),
        (Value(2), lambda y: y * torch.eye(8).double()[2]),
        (Value(2, value="sign"), lambda y: y.sign() * torch.eye(8).double()[2]),
        (Function(lambda y: y[2] ** 2, "square"), lambda y: 2 * y**2 * torch.eye(8).double()[2]),
        (Function(lambda y: y.logsumexp(0), "evidence"), lambda y: y * y.softmax(1)),
    ],
    ids=["one", "probability", "value", "sign", "square", "evidence"],
)
def test_start_relevance_is_that_of_the_definition(
    images: torch.Tensor, classifier: crp.CondAttribution, target: Target, start: Any
) -> None:
    expected = classifier(images, {LAYER: [3]}, RULES, init_rel=start).heatmap
    torch.testing.assert_close(classifier(images, {LAYER: [3], "y": target}, RULES).heatmap, expected)
    assert expected.any()


def test_a_similarity_starts_with_the_gradient_of_the_cosine_times_the_embedding(
    images: torch.Tensor, classifier: crp.CondAttribution
) -> None:
    vector = torch.linspace(-1, 1, 8).double()

    def start(outputs: torch.Tensor) -> torch.Tensor:
        unit, length = vector / vector.norm(), outputs.norm(dim=1, keepdim=True)
        cosine = (outputs * unit).sum(1, keepdim=True) / length
        return outputs * (unit / length - cosine * outputs / length**2)

    assert start(torch.randn(4, 8).double()).sum(1).abs().max() < 1e-12
    expected = classifier(images, {LAYER: [3]}, RULES, init_rel=start).heatmap
    actual = classifier(images, {LAYER: [3], "y": Similarity(vector.numpy())}, RULES).heatmap
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("value", ["logit", "relu", "one", "probability"])
def test_a_region_starts_where_its_class_wins_inside_of_the_mask(segmenter: crp.CondAttribution, value: Any) -> None:
    data, mask = pictures(), torch.arange(36).view(6, 6) % 2 == 0
    outputs = segmenter.model(data).detach()
    chosen = (outputs.argmax(1) == 1) & mask
    values = {
        "logit": outputs,
        "relu": outputs.clamp_min(0),
        "one": torch.ones_like(outputs),
        "probability": outputs.softmax(1),
    }
    start = torch.zeros_like(outputs)
    start[:, 1] = torch.where(chosen, values[value][:, 1], 0)
    expected = segmenter(data, {"0": list(range(8))}, RULES, init_rel=start).heatmap
    actual = segmenter(data, {"y": Region(1, mask, value=value)}, RULES).heatmap
    torch.testing.assert_close(actual, expected)
    assert expected.flatten(1).any(1).all()


def test_each_sample_starts_on_its_own_whatever_the_batch(segmenter: crp.CondAttribution) -> None:
    data = pictures(5)
    targets = [Region(1), Region(2, value="one"), Contrast(0, 3), Class(3, value="probability"), Region(0)]
    zipped = segmenter(data, [{"y": target} for target in targets], RULES)
    together = segmenter(data, [{"y": target} for target in targets], RULES, pairing="product", batch_size=3)
    for number, target in enumerate(targets):
        alone = segmenter(data[number : number + 1], {"y": target}, RULES).heatmap[0]
        torch.testing.assert_close(zipped.heatmap[number], alone)
        torch.testing.assert_close(together.heatmap[number * 5 + number], alone)


def test_a_study_takes_classes_of_targets_by_name(images: torch.Tensor) -> None:
    data = ShapesDataset(1)
    study = crp.Study(demo_resnet(), data, composite=RULES, preprocess=demo_preprocess)
    first, second = study.classes[1], study.classes[6]
    result = study(data[0][0], [{"y": Contrast(first, second)}, {"y": [Class(second)]}])
    assert result.titles() == [f"{first} against {second}", second]
    with pytest.raises(InputError, match="no class is named 'cow'"):
        study(data[0][0], {"y": Contrast(first, "cow")})


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ([Contrast(1, 2), 3], "a target stands alone in 'y'; got contrast:1,2 and others"),
        (Class(8), "class 8 is out of range: the model's output has 8 classes"),
        (Contrast(0, "cat"), "no names of classes are known here: give the number of 'cat'"),
        (Value(8), r"index \(8,\) names no single value of an output of shape \(8,\)"),
        (Value((1, 1)), r"index \(1, 1\) names no single value"),
        (Region(1), "a region needs an output with positions"),
        (Similarity([1.0, 2.0]), r"the reference has shape \(2,\), a sample's output \(8,\)"),
        (Function(lambda y: y, "all"), r"the function 'all' has to return one number .* it returned \(8,\)"),
        (Function(lambda y: y[99], "far"), r"the function 'far' fails for an output of shape \(8,\): index 99"),
        (Function(lambda y: y.argmax().float(), "best"), "the function 'best' does not depend on the output"),
        (Function(lambda y: (y[0] - y[0]).sqrt(), "root"), "the gradient of the function 'root' is NaN or infinite"),
    ],
)
def test_a_target_that_does_not_fit_is_a_sentence(
    images: torch.Tensor, classifier: crp.CondAttribution, target: Any, message: str
) -> None:
    with pytest.raises(ConditionError, match=message):
        classifier(images, {"y": target}, RULES)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Class(()), "a target needs a class; got none"),
        (lambda: Class(1.5), "a class is a name or a number from 0 on; got 1.5"),  # type: ignore[arg-type]
        (lambda: Class(True), "a class is a name or a number from 0 on; got True"),
        (lambda: Region(None), "a class is a name or a number from 0 on; got None"),  # type: ignore[arg-type]
        (lambda: Region([1, 2]), r"a class is a name or a number from 0 on; got \[1, 2\]"),  # type: ignore[arg-type]
        (lambda: Region(1, "mask.png"), "mask is an array, true or false at each position; got 'mask.png'"),
        (lambda: Region(1, [[1, 0], [1]]), "mask is an array, true or false"),
        (lambda: Similarity("cat"), "the reference of a similarity is an array of numbers"),
        (lambda: Class(-1), "a class is a name or a number from 0 on; got -1"),
        (lambda: Class(1, value="log"), "value is 'logit', 'one' or 'probability'; got 'log'"),  # type: ignore[arg-type]
        (lambda: Contrast(1, 1), "a contrast is between two classes; got 1 twice"),
        (lambda: Value(1.5), "index is a whole number from 0 on"),  # type: ignore[arg-type]
        (lambda: Region(1, [[0.5]]), "mask is true or false at each position"),
        (lambda: Region(1, value="zplus"), "value is 'logit', 'relu', 'one' or 'probability'"),  # type: ignore[arg-type]
        (lambda: Similarity([0.0, 0.0]), "has to be finite and not zero everywhere"),
        (lambda: Function("sum", "x"), "Function takes a function and a name"),  # type: ignore[arg-type]
    ],
)
def test_a_target_of_nothing_is_refused_when_it_is_made(make: Callable[[], Target], message: str) -> None:
    with pytest.raises(ConditionError, match=message):
        make()


def test_a_region_that_is_empty_or_has_a_mask_of_another_size_is_refused(segmenter: crp.CondAttribution) -> None:
    data = pictures()
    with pytest.raises(
        ConditionError, match="the region is empty: class 1 has the highest score at no position in the m"
    ):
        segmenter(data, {"y": Region(1, torch.zeros(6, 6))}, RULES)
    with pytest.raises(
        ConditionError, match=r"the mask of a region has shape \(3, 3\), the output's positions \(6, 6\)"
    ):
        segmenter(data, {"y": Region(1, torch.ones(3, 3))}, RULES)


def test_a_class_of_an_output_without_a_known_class_axis_is_refused() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 12), nn.Unflatten(1, (3, 4))).eval()
    with pytest.raises(ConceptAxisError, match="enumerates its classes is not known: name it with class_axis"):
        crp.CondAttribution(net)(torch.ones(1, 4), {"y": Contrast(0, 1)})
    named = crp.CondAttribution(net, class_axis=-1)(torch.ones(1, 4), [{"y": t} for t in (0, 1, Contrast(0, 1))])
    torch.testing.assert_close(named.heatmap[2], named.heatmap[0] - named.heatmap[1])


def test_a_target_and_init_rel_are_two_starts(images: torch.Tensor, classifier: crp.CondAttribution) -> None:
    with pytest.raises(ConditionError, match="and init_rel are two starts"):
        classifier(images, {"y": Class(1)}, RULES, init_rel=1.0)
