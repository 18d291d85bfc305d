"""Targets that have no meaning for an output: each is refused in a sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nets import lrp_0, normal, small_convnet
from torch import nn

from crp_kit import CondAttribution, Study
from crp_kit.atlas.build.by_class_policies import masks
from crp_kit.data.labels import LabelMask
from crp_kit.errors import ConditionError, CrpKitError, InputError
from crp_kit.targets import Class, Function, Region, Similarity, Target, parse_target


class Counting:
    """A function that depends on how often it was called."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, output: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return output.sum() * self.calls


class Against(Target):
    """A class against the mean of the samples that were seen before: no target, since it is not of one sample."""

    identity = "against"

    def __init__(self) -> None:
        self.seen: list[torch.Tensor] = []

    def relevance(self, output: torch.Tensor, *, class_axis: int | None) -> torch.Tensor:
        self.seen.append(output)
        return output - torch.stack(self.seen).mean(0)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda y: y, r"has to return one number .*; it returned \(3,\)"),
        (lambda _: 1.0, "it returned float"),
        (lambda y: y.sum() * 1j, "of complex numbers"),
        (lambda y: y.detach().sum(), "does not depend on the output"),
        (lambda _: torch.ones((), requires_grad=True), "does not depend on the output"),
        (lambda y: (y.sum() - 1e9).log(), "is nan at this output"),
        (lambda y: y.sum() + torch.inf, "is inf at this output"),
        (lambda y: (y - y).sum().sqrt(), "the gradient of the function 'f' is NaN or infinite"),
        (lambda y: y[99], "fails for an output of shape"),
        (lambda y: (y * torch.rand(3)).sum(), "differs when its sample is asked for again"),
        (Counting(), "differs when its sample is asked for again"),
    ],
)
def test_a_function_that_is_none_of_one_output_is_refused(function: Callable[..., Any], message: str) -> None:
    with pytest.raises(ConditionError, match=message):
        CondAttribution(small_convnet().double())(normal(2, 3, 6, 6), {"y": Function(function, "f")}, lrp_0())


def test_a_target_that_depends_on_other_samples_is_refused() -> None:
    with pytest.raises(ConditionError, match="the start relevance of against differs"):
        CondAttribution(small_convnet().double())(normal(2, 3, 6, 6), {"y": Against()}, lrp_0())


def test_what_a_function_measures_is_checked_as_its_start_is() -> None:
    output = torch.ones(3)
    with pytest.raises(ConditionError, match="has to return one number"):
        Function(lambda y: y, "f").measured(output, class_axis=0, reference=output)
    Function(lambda y: y.mul_(0).sum(), "f").measured(output, class_axis=0, reference=output)
    assert output.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("vector", [np.ones(3) * 1j, [], [0.0, 0.0], [float("nan")], "abc", None])
def test_a_reference_without_a_direction_is_refused(vector: Any) -> None:
    with pytest.raises(ConditionError, match="the reference of a similarity"):
        Similarity(vector)


@pytest.mark.parametrize("text", [5, None, "class:1:", "region:1:", "value:-1", "contrast:1", "box:"])
def test_no_text_of_a_target_is_refused_with_the_forms(text: Any) -> None:
    with pytest.raises(InputError, match="a target is class:ID"):
        parse_target(text)


def test_a_mask_of_other_values_is_refused_with_one_of_them() -> None:
    with pytest.raises(ConditionError, match="such as mask > 0; got values like 255"):
        Region(1, np.array([[0, 255]], np.uint8))


@pytest.fixture
def segmentation() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 1)).eval()
    photos = torch.rand(3, 3, 6, 6)
    return net, photos, net(photos).argmax(1)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (lambda *_: 5, "returns a list of class ids or targets for each sample; it returned 5"),
        (lambda *_: ["a"], "it returned \\['a'\\]"),
        (lambda *_: [1.5], "it returned \\[1.5\\]"),
        (lambda *_: 1 / 0, "the function that chooses targets fails: ZeroDivisionError"),
        (Class, "target is 'label'"),
        (None, "target is 'label'"),
        ("binary:0", "binary:0 needs one logit"),
        ("value:9", r"index \(9,\) names no single value"),
        ("contrast:1,1", "between two classes"),
    ],
)
def test_an_atlas_refuses_what_chooses_no_target(
    segmentation: tuple[Any, ...], tmp_path: Path, target: Any, message: str
) -> None:
    net, photos, classes = segmentation
    study = Study(net, list(zip(photos, classes, strict=True)))
    with pytest.raises(CrpKitError, match=message):
        study.build_atlas(tmp_path / "atlas.h5", layers="0", target=target, verbose=False)


def test_a_mask_with_a_class_that_the_output_has_not_is_refused(segmentation: tuple[Any, ...], tmp_path: Path) -> None:
    net, photos, classes = segmentation
    beyond = list(zip(photos, classes + 2, strict=True))
    with pytest.raises(InputError, match="sample 0: its mask has class [34], and the output 3 classes.*'regions'"):
        Study(net, beyond).build_atlas(tmp_path / "atlas.h5", layers="0", target="masks", verbose=False)


def test_where_a_mask_has_no_class_it_has_255_or_a_negative_number(segmentation: tuple[Any, ...]) -> None:
    net, photos, classes = segmentation
    output, chosen = net(photos), []
    for void in (255, -1):
        holes = classes.clone()
        holes[:, :2] = void
        targets = masks(output, [LabelMask.of(mask) for mask in holes])
        chosen.append(
            [[target.relevance(one, class_axis=0) for target in own] for one, own in zip(output, targets, strict=True)]
        )
    assert all(torch.equal(a, b) for own in zip(*chosen, strict=True) for a, b in zip(*own, strict=True))
    assert all(start[:, :2].abs().sum() == 0 and start.abs().sum() > 0 for own in chosen[0] for start in own)
