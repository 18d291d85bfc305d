"""Small detectors of torchvision with random weights, one of each family; boxes of low scores count too."""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.ssdlite import SSDLiteHead
from torchvision.ops import MultiScaleRoIAlign

from crp_kit.models import DetectionOutput

CLASSES, WIDTH = 4, 32  # GroupNorm takes multiples of 32


class Backbone(nn.Module):
    """Two maps of `WIDTH` channels, at a fourth and an eighth of the image's size."""

    out_channels = WIDTH

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, WIDTH, 5, 4, 2, bias=False), nn.BatchNorm2d(WIDTH), nn.ReLU())
        self.down = nn.Sequential(nn.Conv2d(WIDTH, WIDTH, 3, 2, 1), nn.ReLU())

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        first = self.body(x)
        return OrderedDict([("0", first), ("1", self.down(first))])


def anchors() -> AnchorGenerator:
    return AnchorGenerator(((8,), (16,)), ((0.5, 1.0),) * 2)


def two_stages(kind: Callable[..., nn.Module] = detection.FasterRCNN, **options: Any) -> nn.Module:
    pool = MultiScaleRoIAlign(["0", "1"], 3, 2)
    return kind(
        Backbone(), None, box_head=TwoMLPHead(WIDTH * 9, 16), rpn_anchor_generator=anchors(), box_roi_pool=pool,
        box_predictor=detection.faster_rcnn.FastRCNNPredictor(16, CLASSES), min_size=48, max_size=64,
        rpn_post_nms_top_n_test=30, box_score_thresh=0.0, box_detections_per_img=6, **options,
    )  # fmt: skip


def mask_rcnn() -> nn.Module:
    head = detection.mask_rcnn.MaskRCNNHeads(WIDTH, (8,), 1)
    predictor = detection.mask_rcnn.MaskRCNNPredictor(8, 8, CLASSES)
    return two_stages(detection.MaskRCNN, mask_head=head, mask_predictor=predictor)


def keypoint_rcnn() -> nn.Module:
    head = detection.keypoint_rcnn.KeypointRCNNHeads(WIDTH, (8,))
    predictor = detection.keypoint_rcnn.KeypointRCNNPredictor(8, 3)
    return two_stages(detection.KeypointRCNN, keypoint_head=head, keypoint_predictor=predictor)


def one_stage(kind: Callable[..., nn.Module], **options: Any) -> nn.Module:
    return kind(
        Backbone(),
        CLASSES,
        min_size=48,
        max_size=64,
        score_thresh=0.0,
        topk_candidates=40,
        detections_per_img=6,
        **options,
    )


def ssd(lite: bool = False) -> nn.Module:
    generator = DefaultBoxGenerator([[2], [2]])
    shapes = [WIDTH] * 2, generator.num_anchors_per_location(), CLASSES
    head = SSDLiteHead(*shapes, partial(nn.BatchNorm2d, eps=0.001)) if lite else None
    return detection.ssd.SSD(
        Backbone(), generator, (48, 56), CLASSES, head=head or detection.ssd.SSDHead(*shapes), score_thresh=0.0,
        topk_candidates=40, detections_per_img=6,
    )  # fmt: skip


FAMILIES: dict[str, Callable[[], nn.Module]] = {
    "faster_rcnn": two_stages,
    "mask_rcnn": mask_rcnn,
    "keypoint_rcnn": keypoint_rcnn,
    "retinanet": partial(one_stage, detection.RetinaNet, anchor_generator=anchors()),
    "fcos": partial(one_stage, detection.FCOS, anchor_generator=AnchorGenerator(((8,), (16,)), ((1.0,),) * 2)),
    "ssd": ssd,
    "ssdlite": partial(ssd, lite=True),
}


def family(name: str) -> nn.Module:
    """Return a detector in double precision whose weights, and statistics of BatchNorms, are random."""
    torch.manual_seed(7)
    net = FAMILIES[name]().double().eval()
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.normal_(module.weight, std=1.2 * module.weight[0].numel() ** -0.5)
            if module.bias is not None:
                nn.init.normal_(module.bias, std=0.3)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return net


def pictures(count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, 40, 52, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


class Yolo(nn.Module):
    """(sample, 3, 16, 16) in and boxes by centre, then three classes, at 16 positions out, as YOLOv8 has them."""

    def __init__(self, objectness: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 4, 4)
        self.relu = nn.ReLU()
        self.head = nn.Conv2d(6, 7 + objectness, 1)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        rows = self.head(self.relu(self.conv(x))).flatten(2)
        grid = torch.stack(torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="xy")).flatten(1).to(x)
        boxes = torch.cat([4 * grid.expand(len(x), -1, -1) + 2, 6 + rows[:, :2].tanh()], 1)
        return [torch.cat([boxes, rows[:, 4:]], 1)]


class Detr(nn.Module):
    """Four queries that attend to the positions of a map; boxes as fractions of the image, the last class is none."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.ReLU())
        self.queries = nn.Parameter(torch.randn(1, 4, 8))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.classes, self.boxes = nn.Linear(8, CLASSES), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        tokens = self.body(x).flatten(2).mT
        queries = self.queries.expand(len(x), -1, -1)
        read = self.norm(queries + self.attention(queries, tokens, tokens, need_weights=False)[0])
        return {"logits": self.classes(read), "pred_boxes": self.boxes(read).sigmoid()}


def detr_rows(output: Any) -> torch.Tensor:
    """Return boxes of a DETR in pixels of an image of 16 x 24, and its logits: (sample, query, 4 + class + 1)."""
    size = output["pred_boxes"].new_tensor([24, 16, 24, 16])
    return torch.cat([output["pred_boxes"] * size, output["logits"]], 2)


DETR = DetectionOutput(part=detr_rows, scores="softmax", candidates="first", min_score=0.0, max_iou=1.0, count=4)
YOLO = DetectionOutput(part=0, scores="logit", min_score=0.1, max_iou=0.2, count=5)
