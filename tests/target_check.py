"""How right heatmaps of targets are, beside an oracle: every target in every family of models that has it, in float64.

The oracle is gradient x input of the model with its factors detached, from a start that is written here by hand. For
detectors it ends at the images as the model has scaled them, whose relevance pixels share by their weights in that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from detection_nets import DETR, YOLO, Detr, Yolo, family, pictures
from detection_nets import FAMILIES as DETECTORS
from family_check import attribution_of, lrp_zero, relative
from nets import normal
from oracles.detached import DetachedNonlinearities
from oracles.families import build
from oracles.start import called, output_tensor
from oracles.whole_model import whole_model_relevance
from torch import nn

import crp_kit as crp
from crp_kit.models import DetectionOutput
from crp_kit.targets import Binary, Box, Class, Contrast, Function, Region, Similarity, Target, Value

__all__ = ["CASES", "Case", "error_of"]

Start = Callable[[torch.Tensor], tuple[Target, torch.Tensor]]
"""From the output for one sample, (1, *shape): a target, and its start relevance by definition, of that shape."""


@dataclass(frozen=True)
class Case:
    """A target in a family of models."""

    task: str
    model: str
    target: str
    start: Start


class OneLogit(nn.Module):
    """A classifier whose outputs are added up with weights."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.head = model, nn.Linear(20, 1).double()
        with torch.no_grad():
            self.head.weight.copy_(normal(1, 20, seed=4))
            self.head.bias.fill_(0.3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logit: torch.Tensor = self.head(self.model(x))
        return logit


class UNet(nn.Module):
    """Two levels with a shortcut between them; (sample, 3, 16, 16) in and (sample, 5 classes, 16, 16) out."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.below = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
        self.up = nn.ConvTranspose2d(8, 8, 2, 2)
        self.head = nn.Conv2d(16, 5, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.enter(x)
        scores: torch.Tensor = self.head(torch.cat([first, self.up(self.below(first))], 1))
        return scores


class Heads(nn.Module):
    """A detector of rows of candidates whose output is its detections."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.net, self.output = heads()[name]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.output(self.net(x))


@lru_cache
def heads() -> dict[str, tuple[nn.Module, DetectionOutput]]:
    """Return small detectors whose outputs are read by a `DetectionOutput`, by name."""
    torch.manual_seed(1)
    return {"yolo": (Yolo().double().eval(), YOLO), "detr": (Detr().double().eval(), DETR)}


@lru_cache(maxsize=2)
def model_of(name: str) -> tuple[nn.Module, torch.Tensor]:
    """Return a model in float64 and an input of one sample."""
    if name in DETECTORS:
        return family(name), pictures(1)
    if name in heads():
        return Heads(name), pictures(1)[:, :, :16, : 16 if name == "yolo" else 24]
    if name == "unet":
        torch.manual_seed(5)
        net = UNet().double().eval()
        net.enter[1].running_mean.normal_(0, 0.2)  # type: ignore[operator, union-attr]
        return net, normal(1, 3, 16, 16)
    known, _, one = name.partition(" with ")
    model, x = build(known)
    return (OneLogit(model) if one else model), x


def best(output: torch.Tensor, rank: int = 0) -> int:
    """Return the class of the highest output, (1, class), or of a later one."""
    return int(output[0].argsort(descending=True)[rank])


def alone(values: torch.Tensor, *numbers: int) -> torch.Tensor:
    """Return values (1, class) of some classes, and zero for others."""
    start = torch.zeros_like(values)
    start[:, list(numbers)] = values[:, list(numbers)]
    return start


def differentiated(output: torch.Tensor, function: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Return gradient times output."""
    leaf = output.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(function(leaf), leaf)
    return leaf.detach() * gradient


def evidence(output: torch.Tensor) -> torch.Tensor:
    return output.logsumexp(-1).sum()


VECTOR = normal(20, seed=9)


def cosine(output: torch.Tensor) -> torch.Tensor:
    return (output @ VECTOR / output.norm() / VECTOR.norm()).sum()


CLASSIFICATION: dict[str, Start] = {
    "class": lambda y: (Class(best(y)), alone(y, best(y))),
    "two classes": lambda y: (Class((best(y), best(y, 1))), alone(y, best(y), best(y, 1))),
    "class, one": lambda y: (Class(best(y), value="one"), alone(torch.ones_like(y), best(y))),
    "class, probability": lambda y: (Class(best(y), value="probability"), alone(y.softmax(1), best(y))),
    "contrast": lambda y: (Contrast(best(y), best(y, 1)), alone(y, best(y)) - alone(y, best(y, 1))),
    "function": lambda y: (Function(evidence, "evidence"), differentiated(y, evidence)),
}
REGRESSION: dict[str, Start] = {
    "value": lambda y: (Value(3), alone(y, 3)),
    "value, one": lambda y: (Value(3, value="one"), alone(torch.ones_like(y), 3)),
    "value, sign": lambda y: (Value(3, value="sign"), alone(y.sign(), 3)),
}
BINARY: dict[str, Start] = {"binary, 1": lambda y: (Binary(1), y), "binary, 0": lambda y: (Binary(0), -y)}
EMBEDDING: dict[str, Start] = {"similarity": lambda y: (Similarity(VECTOR), differentiated(y, cosine))}


def region(value: Any, *, masked: bool = False) -> Start:
    """Return the start of the class that wins at most positions, in a mask or everywhere."""

    def start(output: torch.Tensor) -> tuple[Target, torch.Tensor]:
        winner = output.argmax(1)
        mask = torch.arange(winner.numel()).reshape(winner.shape[1:]) % 3 > 0 if masked else None
        cls = int(winner.flatten().mode().values)
        chosen = (winner == cls) if mask is None else (winner == cls) & mask
        values = {"logit": output, "relu": output.clamp_min(0), "one": output**0, "probability": output.softmax(1)}
        expected = torch.zeros_like(output)
        expected[:, cls] = torch.where(chosen, values[value][:, cls], 0)
        return Region(cls, mask, value=value), expected

    return start


SEGMENTATION: dict[str, Start] = {
    **{f"region, {value}": region(value) for value in ("logit", "relu", "one", "probability")},
    "region in a mask": region("logit", masked=True),
}


def box(which: str, value: Any = "logit") -> Start:
    """Return the start of a detected box: the first, the last one of the first's class, or the one that overlaps."""

    def start(output: torch.Tensor) -> tuple[Target, torch.Tensor]:
        rows = output[0]
        cls = int(rows[0, 4])
        own = [row for row in range(len(rows)) if int(rows[row, 4]) == cls]
        row = own[-1] if which != "best" else own[0]
        target = {
            "best": Box(cls, value=value),
            "rank": Box(cls, rank=len(own) - 1, value=value),
            "overlap": Box(cls, iou_with=rows[row, :4].tolist(), value=value),
        }[which]
        expected = torch.zeros_like(output)
        expected[0, row, 6 + cls] = rows[row, 6 + cls] if value == "logit" else 1
        return target, expected

    return start


DETECTION: dict[str, Start] = {
    "best box": box("best"),
    "best box, one": box("best", "one"),
    "last box by rank": box("rank"),
    "last box by overlap": box("overlap"),
}


def _cases() -> Iterator[Case]:
    tasks: list[tuple[str, tuple[str, ...], dict[str, Start]]] = [
        ("classification", ("resnet18", "vit_b_16"), CLASSIFICATION),
        ("one logit", ("resnet18 with one logit", "vit_b_16 with one logit"), BINARY),
        ("regression", ("resnet18", "vit_b_16"), REGRESSION),
        ("embedding", ("resnet18", "vit_b_16"), EMBEDDING),
        ("segmentation", ("fcn_resnet50", "deeplabv3_resnet50", "lraspp_mobilenet_v3_large", "unet"), SEGMENTATION),
        ("detection", (*DETECTORS, *heads()), DETECTION),
    ]
    for task, models, targets in tasks:
        for model in models:
            yield from (Case(task, model, target, start) for target, start in targets.items())


CASES = tuple(_cases())


def error_of(case: Case) -> float:
    """Return the relative error of the input relevance of a target, summed over channels for detectors."""
    model, x = model_of(case.model)
    if case.model in DETECTORS:
        return _detection_error(model, x, case.start)
    with torch.no_grad():
        raw = called(model, x)
    output = output_tensor(raw)
    target, start = case.start(output)
    expected, _ = whole_model_relevance(model, x, torch.where(start == 0, 0.0, start / output))
    if isinstance(model, Heads):
        attribution = crp.CondAttribution(model.net, output=model.output)
    else:
        attribution = attribution_of(model, raw)
    return relative(attribution(x, {"y": target}, lrp_zero()).input_relevance, expected)


def _detection_error(net: nn.Module, x: torch.Tensor, start_of: Start) -> float:
    """Return the relative error of a heatmap of a detector."""
    output = crp.detector(net)(x).detach()
    target, start = start_of(output)
    size = net.transform(list(x))[0].image_sizes[0]  # type: ignore[operator]
    scaled: list[torch.Tensor] = []
    handle = net.backbone.register_forward_pre_hook(  # type: ignore[operator, union-attr]
        lambda _, args: scaled.append(args[0].detach().requires_grad_()) or (scaled[-1],)
    )
    with DetachedNonlinearities():
        live = crp.detector(net)(x)
    handle.remove()
    (gradient,) = torch.autograd.grad(live, scaled[-1], torch.where(start == 0, 0.0, start / output))
    relevance = (gradient * scaled[-1])[:, :, : size[0], : size[1]]
    leaf = torch.zeros_like(x).requires_grad_()
    resized = nn.functional.interpolate(leaf, size, mode="bilinear", align_corners=False)
    (expected,) = torch.autograd.grad(resized, leaf, relevance)
    found = crp.CondAttribution(net)(x, {"y": target}, lrp_zero()).heatmap
    return relative(found, expected.sum(1))
