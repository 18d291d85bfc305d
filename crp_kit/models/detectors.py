"""Torchvision's detectors as models with one tensor as output: the detected boxes, each with its class logits."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import nn

from ..errors import InputError, ModelError
from .detections import described, padded, unrecorded
from .image_transform import transformed_images

__all__ = ["Detector", "detector", "is_detector"]

_HOME = "torchvision.models.detection"
_ONE_STAGE = ("RetinaNet", "SSD", "FCOS")
_TOLERANCE = 1e-2
"""Pixels, or scores in percent, by which a detection may differ from the candidate that it was."""
Features = OrderedDict[str, torch.Tensor]
Detections = list[dict[str, torch.Tensor]]


def is_detector(model: Any) -> bool:
    """Return whether a model is one of torchvision's detectors, or derived from one."""
    return any(
        base.__module__.startswith(_HOME) and base.__name__ in (*_ONE_STAGE, "GeneralizedRCNN")
        for base in type(model).__mro__
    )


def detector(model: nn.Module) -> Detector:
    """Return a detector of torchvision as a model whose output is one tensor, for `crp_kit.targets.Box`.

    `crp_kit.CondAttribution` and `crp_kit.Study` do so themselves. The model is only read; layers keep their names.

    Parameters
    ----------
    model : torch.nn.Module
        Faster R-CNN, Mask R-CNN, Keypoint R-CNN, RetinaNet, SSD, SSDlite or FCOS of torchvision, or a subclass.

    Returns
    -------
    Detector

    Raises
    ------
    InputError
        If it is no such detector.

    Examples
    --------
    >>> import crp_kit as crp
    >>> from torchvision.models.detection import ssdlite320_mobilenet_v3_large
    >>> net = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=3, detections_per_img=5)
    >>> crp.detector(net.eval())(torch.rand(1, 3, 64, 64)).shape  # box, label, score and 3 logits of 5 detections
    torch.Size([1, 5, 9])
    """
    if not is_detector(model):
        raise InputError(
            f"{type(model).__name__} is no detector of torchvision: choose its boxes and scores with output=, see "
            f"crp_kit.models.DetectionOutput"
        )
    return Detector(model)


class Detector(nn.Module):
    """A detector of torchvision with one tensor as output; made by `detector`.

    Its forward takes images of one shape, (sample, channel, height, width) with values in [0, 1], and runs the model's
    own transform, backbone, heads and suppression of overlapping boxes. For each detection, in the model's own order,
    the candidate that it was before suppression is looked up, and the candidate's logits are returned: they carry
    relevance, all else is constant. Output (sample, detection, 6 + class): the box as left, top, right, bottom in
    pixels of the image, its label, its score, and the logits of all classes. There are as many rows as the model
    returns at most; those that stand for no detection have label -1.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._modules.update(model._modules)
        self._parameters.update(model._parameters)
        self._buffers.update(model._buffers)
        self.training = model.training
        self._detector = (model,)  # a tuple hides it from torch: layers keep their names
        self._settings = vars(model)  # shows to those who keep copies that thresholds of the model have changed

    def _get_name(self) -> str:
        """Return the name of the model's class, which torch's texts of modules have."""
        return type(self._detector[0]).__name__

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return detections, (sample, detection, 6 + class), of images (sample, channel, height, width)."""
        own: Any = self
        with unrecorded():
            batch, _ = own.transform.forward(list(images.unbind(0)))
        batch.tensors = transformed_images(images, own.transform)
        maps = own.backbone(batch.tensors)
        features = OrderedDict([("0", maps)]) if isinstance(maps, torch.Tensor) else maps
        two_stages = hasattr(self, "roi_heads")
        logits, detected = (self._of_proposals if two_stages else self._of_anchors)(batch, features)
        with unrecorded():
            sizes = [tuple(images.shape[-2:])] * len(images)
            detected = own.transform.postprocess(detected, batch.image_sizes, sizes)
            about = torch.stack([described(detections, logits.shape[1]) for detections in detected]).to(logits)
        return torch.cat([about, logits], 2)

    def _of_anchors(self, batch: Any, features: Features) -> tuple[torch.Tensor, Detections]:
        """Return logits (sample, detection, class) and detections of a head that reads each position of the maps."""
        own: Any = self
        model: Any = self._detector[0]
        maps = list(features.values())
        heads = own.head(maps)
        with unrecorded():
            anchors = own.anchor_generator(batch, maps)
            detections = model.postprocess_detections(*_as_suppressed(model, heads, anchors, maps), batch.image_sizes)
            scores = _scores(model, heads)
            rows = []
            for number, detected in enumerate(detections):
                decode = getattr(model.box_coder, "decode_single", model.box_coder.decode)
                boxes = _clipped(decode(heads["bbox_regression"][number], anchors[number]), batch.image_sizes[number])
                candidates = boxes[:, None].expand(*scores[number].shape, 4)
                rows.append(padded(_matched(detected, candidates, scores[number]), model.detections_per_img))
            chosen = torch.stack(rows)
            samples = torch.arange(len(rows), device=chosen.device)[:, None]
        return heads["cls_logits"][samples, chosen], detections

    def _of_proposals(self, batch: Any, features: Features) -> tuple[torch.Tensor, Detections]:
        """Return logits (sample, detection, class) and detections of a head that reads regions of the maps.

        The proposals that became detections go through the head a second time, on their own.
        """
        own: Any = self
        heads = own.roi_heads
        with unrecorded():
            proposals, _ = own.rpn.forward(batch, features)
            pooled = heads.box_roi_pool.forward(features, proposals, batch.image_sizes)
            logits, regression = heads.box_predictor.forward(heads.box_head.forward(pooled))
            post = heads.postprocess_detections(logits, regression, proposals, batch.image_sizes)
            detections = [
                dict(zip(("boxes", "scores", "labels"), values, strict=True)) for values in zip(*post, strict=True)
            ]
            counts = [len(values) for values in proposals]
            decoded = heads.box_coder.decode(regression, proposals).split(counts)
            scores = logits.softmax(-1).split(counts)
            chosen = []
            for detected, proposed, boxes, score, size in zip(
                detections, proposals, decoded, scores, batch.image_sizes, strict=True
            ):
                rows = _matched(detected, _clipped(boxes, size), score)
                boxed = proposed.new_tensor([0.0, 0.0, 1.0, 1.0]).repeat(heads.detections_per_img, 1)
                boxed[: len(rows)] = proposed[rows]
                chosen.append(boxed)
        pooled = heads.box_roi_pool(features, chosen, batch.image_sizes)
        logits, _ = heads.box_predictor(heads.box_head(pooled))
        return logits.reshape(len(chosen), -1, logits.shape[-1]), detections


def _family(model: nn.Module) -> str:
    return next(base.__name__ for base in type(model).__mro__ if base.__name__ in _ONE_STAGE)


def _scores(model: nn.Module, heads: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the scores of all candidates as the model itself computes them: (sample, candidate, class)."""
    family, logits = _family(model), heads["cls_logits"]
    if family == "SSD":
        return logits.softmax(-1)
    return (logits.sigmoid() * heads["bbox_ctrness"].sigmoid()).sqrt() if family == "FCOS" else logits.sigmoid()


def _as_suppressed(model: nn.Module, heads: dict[str, torch.Tensor], anchors: Any, maps: Any) -> tuple[Any, Any]:
    """Return head outputs and anchors as the model's suppression takes them: of most models split by map."""
    if _family(model) == "SSD":
        return heads, anchors
    sizes = [features.shape[-2] * features.shape[-1] for features in maps]
    each = heads["cls_logits"].shape[1] // sum(sizes)
    sizes = [size * each for size in sizes]
    return {name: list(torch.split(value, sizes, 1)) for name, value in heads.items()}, [
        list(torch.split(a, sizes)) for a in anchors
    ]


def _clipped(boxes: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Return boxes (..., 4) without what of them is outside of an image (height, width)."""
    limits = boxes.new_tensor([size[1], size[0]] * 2)
    return torch.minimum(boxes.clamp_min(0), limits)


def _matched(detected: dict[str, torch.Tensor], boxes: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """Return the candidate that each detection was before suppression: (detection,).

    Parameters
    ----------
    detected : dict
        Detections: boxes (detection, 4), labels and scores (detection,).
    boxes : torch.Tensor
        (candidate, class, 4).
    scores : torch.Tensor
        (candidate, class).

    Raises
    ------
    ModelError
        If there is none with its box and score.
    """
    rows, by_label = [], scores.T.contiguous()
    for box, label, score in zip(detected["boxes"], detected["labels"].tolist(), detected["scores"], strict=True):
        near = ((by_label[label] - score).abs() <= _TOLERANCE / 100).nonzero().flatten()
        distance = (boxes[near, label] - box).abs().amax(1) + 100 * (by_label[label, near] - score).abs()
        if not len(near) or not distance.min() <= _TOLERANCE * max(1.0, float(box.abs().max()) / 100):
            raise ModelError(
                f"the detection of class {label} with score {float(score):.3f} is none of the head's candidates: the "
                f"model's own suppression changes boxes or scores; explain its heads with output=... instead"
            )
        rows.append(near[distance.argmin()])
    return torch.stack(rows) if rows else torch.zeros(0, dtype=torch.long, device=boxes.device)
