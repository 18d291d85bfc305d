"""Detectors of torchvision as they are: boxes of the model's own, explained by the logits of the candidates before."""

import copy
import pickle
from typing import Any

import pytest
import torch
from detection_nets import CLASSES, DETR, FAMILIES, Detr, Yolo, family, pictures
from family_check import lrp_zero
from torch import nn

import crp_kit as crp
from crp_kit.errors import ConditionError, InputError, ModelError
from crp_kit.models import DetectionOutput
from crp_kit.models.state_dict import state_digest
from crp_kit.targets import Box

RULES = "epsilon_plus_flat"


def best_boxes(net: nn.Module, data: torch.Tensor) -> list[Box]:
    """The best box of each sample's best class."""
    return [Box(int(found["labels"][0])) for found in net(list(data))]


def logits(net: nn.Module, data: torch.Tensor, boxes: list[Box]) -> torch.Tensor:
    """The logit of each sample's box, of a box that is its class's best: (sample,)."""
    out = crp.detector(net)(data)
    rows = [int((one[:, 4] == box.class_number).nonzero()[0]) for one, box in zip(out, boxes, strict=True)]
    return torch.stack(
        [out[n, row, 6 + box.class_number] for n, (row, box) in enumerate(zip(rows, boxes, strict=True))]
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_a_detector_agrees_with_the_model_and_a_box_is_the_gradient_of_its_candidate(name: str) -> None:
    net, data = family(name), pictures()
    before = copy.deepcopy(net.state_dict())
    out = crp.detector(net)(data).detach()
    for own, found in zip(out, net(list(data)), strict=True):
        count = len(found["labels"])
        assert count > 0
        torch.testing.assert_close(own[:count, :4], found["boxes"].detach(), rtol=0, atol=1e-9)
        assert own[:count, 4].tolist() == found["labels"].tolist()
        assert torch.equal(own[:count, 5], found["scores"].detach())
        assert (own[count:, 4] == -1).all()
        assert int(found["labels"].max()) < CLASSES
    attribution = crp.CondAttribution(net)
    boxes = best_boxes(net, data)
    together = attribution(data, [{"y": box} for box in boxes])
    leaf = data.clone().requires_grad_()
    values = logits(net, leaf, boxes)
    (gradient,) = torch.autograd.grad((values**2 / 2).sum(), leaf)  # the start is the logit: gradient times logit
    torch.testing.assert_close(together.heatmap, gradient.sum(1), rtol=1e-9, atol=1e-12)
    assert gradient.flatten(1).any(1).all()
    together = attribution(data, [{"y": box} for box in boxes], RULES)
    for number, box in enumerate(boxes):
        alone = attribution(data[number : number + 1], {"y": box}, RULES).heatmap[0]
        torch.testing.assert_close(together.heatmap[number], alone, rtol=1e-9, atol=1e-12)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize("name", ["faster_rcnn", "retinanet", "ssd"])
def test_the_logit_gives_the_models_score(name: str) -> None:
    out = crp.detector(family(name))(pictures()).detach()[0]
    labels = out[:, 4].long()
    probabilities = out[:, 6:].sigmoid() if name == "retinanet" else out[:, 6:].softmax(1)
    torch.testing.assert_close(probabilities.gather(1, labels[:, None])[:, 0], out[:, 5], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["faster_rcnn", "retinanet"])
def test_under_lrp_zero_a_box_is_gradient_times_input_of_a_network_of_relus(name: str) -> None:
    """Up to the images as the model has scaled and normalised them; these share theirs by weights of the scaling."""
    net, data = family(name), pictures(1)
    boxes = best_boxes(net, data)
    inputs: list[torch.Tensor] = []
    handle = net.backbone.register_forward_pre_hook(lambda _, args: inputs.append(args[0].requires_grad_()))  # type: ignore[operator, union-attr, func-returns-value]
    value = logits(net, data, boxes).sum()
    handle.remove()
    (gradient,) = torch.autograd.grad(value, inputs[-1])
    relevance = (gradient * inputs[-1])[:, :, :48, :62]
    leaf = torch.zeros_like(data).requires_grad_()
    scaled = nn.functional.interpolate(leaf, (48, 62), mode="bilinear", align_corners=False)
    (expected,) = torch.autograd.grad(scaled, leaf, relevance)
    actual = crp.CondAttribution(net)(data, {"y": boxes[0]}, lrp_zero()).heatmap
    torch.testing.assert_close(actual, expected.sum(1), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(actual.sum(), relevance.sum(), rtol=1e-6, atol=1e-9)


def test_a_condition_on_a_layer_of_the_head_lets_its_channels_pass() -> None:
    net, data = family("faster_rcnn"), pictures(1)
    box = best_boxes(net, data)[0]
    layer, attribution = "roi_heads.box_head.fc7", crp.CondAttribution(net)
    rows = attribution(data, [{layer: [number], "y": box} for number in range(16)], RULES, pairing="product")
    whole = attribution(data, {"y": box}, RULES).heatmap[0]
    torch.testing.assert_close(rows.heatmap.sum(0), whole, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("layer", ["roi_heads.box_head.fc6", "backbone.body.0"])
def test_rows_under_a_condition_are_those_of_each_sample_alone(layer: str) -> None:
    """Layers of the head hold the boxes of all samples along their first axis."""
    net, data = family("faster_rcnn"), pictures()
    attribution, boxes = crp.CondAttribution(net), best_boxes(net, data)
    sets = [{layer: [3, 5, 7], "y": box} for box in boxes]
    together = attribution(data, sets, RULES, record_layer=[layer])
    for number, condition in enumerate(sets):
        alone = attribution(data[number : number + 1], [condition], RULES, record_layer=[layer])
        torch.testing.assert_close(together.heatmap[number], alone.heatmap[0], rtol=1e-9, atol=1e-12)
        recorded = together.relevances[layer][number], alone.relevances[layer][0]
        torch.testing.assert_close(*recorded, rtol=1e-9, atol=1e-12)
        assert alone.heatmap.any()


def test_a_detector_is_the_model_by_name_and_weights() -> None:
    net = family("ssd")
    assert state_digest(crp.detector(net)) == state_digest(net)
    assert repr(crp.detector(net)).startswith("SSD(")
    assert dict(crp.detector(net).named_modules()).keys() == dict(net.named_modules()).keys()
    copied = pickle.loads(pickle.dumps(crp.CondAttribution(net)))
    box = best_boxes(net, pictures(1))[0]
    own, other = (one(pictures(1), {"y": box}).heatmap for one in (crp.CondAttribution(net), copied))
    assert torch.equal(own, other)


def test_a_threshold_that_changes_afterwards_counts() -> None:
    net, data = family("retinanet"), pictures(1)
    attribution = crp.CondAttribution(net)
    assert len(best_boxes(net, data)) == 1
    box = best_boxes(net, data)[0]
    attribution(data, {"y": box})
    net.score_thresh = 1.0  # type: ignore[assignment]
    with pytest.raises(ConditionError, match=f"there is no box 0 of class {box.class_number}: nothing was detected"):
        attribution(data, {"y": box})


def test_a_box_that_overlaps_with_a_given_one_is_that_box() -> None:
    net, data = family("faster_rcnn"), pictures(1)
    found = {key: value.detach() for key, value in net(list(data))[0].items()}
    attribution = crp.CondAttribution(net)
    cls = int(found["labels"].mode().values)
    own = [number for number, label in enumerate(found["labels"].tolist()) if label == cls]
    assert len(own) > 1
    for rank, number in enumerate(own):
        by_rank, by_box = Box(cls, rank), Box(cls, iou_with=found["boxes"][number])
        first, second = attribution(data, [{"y": by_rank}, {"y": by_box}], pairing="product").heatmap
        assert torch.equal(first, second)
        torch.testing.assert_close(
            torch.tensor(by_rank.box(crp.detector(net)(data)[0])).double(), found["boxes"][number], rtol=1e-6, atol=1e-6
        )


DETECTIONS = torch.tensor(
    [[0, 0, 9, 9, 1, 0.9, -1, 3], [20, 20, 30, 30, 1, 0.5, 0, 1], [0, 0, 5, 5, 0, 0.4, 2, 1], [0, 0, 0, 0, -1, 0, 4, 4]]
)


def test_start_relevance_is_the_logit_of_the_class_at_the_box_or_one() -> None:
    expected = torch.zeros_like(DETECTIONS)
    expected[1, 7] = 1.0
    assert torch.equal(Box(1, 1).relevance(DETECTIONS, class_axis=None), expected)
    expected[1, 7], expected[0, 7] = 0, 1
    assert torch.equal(Box(1, value="one").relevance(DETECTIONS, class_axis=None), expected)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        (Box(1, 2), "there is no box 2 of class 1: there are 2, with score 0.90, 0.50"),
        (Box(0, 1), "there is no box 1 of class 0: there is 1, with score 0.40"),
        (Box(2), "class 2 is out of range: the model's output has 2 classes"),
        (Box(0, iou_with=(10, 10, 12, 12)), r"no box of class 0 overlaps with \(10.0, .*: there is 1, with score 0.40"),
        (Box("cat"), "no names of classes are known here"),
    ],
)
def test_a_box_that_does_not_exist_is_a_sentence(box: Box, message: str) -> None:
    with pytest.raises(ConditionError, match=message):
        box.relevance(DETECTIONS, class_axis=None)


def test_a_class_without_a_box_is_told_the_classes_that_have_one() -> None:
    wider = torch.cat([DETECTIONS, DETECTIONS[:, :1]], 1)
    with pytest.raises(ConditionError, match=r"no box 0 of class 2: there are boxes of class 0 \(1\), 1 \(2\)"):
        Box(2).relevance(wider, class_axis=None)


@pytest.mark.parametrize("shape", [(8,), (5, 6), (3, 8)])
def test_a_box_of_an_output_without_detections_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConditionError, match="a box needs detections"):
        Box(1).relevance(torch.rand(shape) + 0.1, class_axis=None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": -1}, "rank is a whole number from 0 on"),
        ({"iou_with": (5, 5, 1, 1)}, r"iou_with is a box, \(left, top, right, bottom\)"),
        ({"iou_with": "x"}, "iou_with is a box"),
        ({"rank": 1, "iou_with": (0, 0, 1, 1)}, "rank=1 and iou_with both choose a box"),
        ({"value": "score"}, "value is 'logit' or 'one'"),
    ],
)
def test_a_box_of_nothing_is_refused_when_it_is_made(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConditionError, match=message):
        Box(1, **options)


@pytest.mark.parametrize("objectness", [False, True])
def test_rows_of_a_yolo_head_become_detections(objectness: bool) -> None:
    torch.manual_seed(1)
    net = Yolo(objectness).double().eval()
    data = torch.rand(2, 3, 16, 16, dtype=torch.float64)
    output = DetectionOutput(part=0, objectness=objectness, scores="logit", min_score=0.1, max_iou=0.2, count=5)
    attribution = crp.CondAttribution(net, output=output)
    raw = net(data)[0].transpose(1, 2).detach()
    scores = raw[:, :, 4 + objectness :].sigmoid().amax(2) * (raw[:, :, 4].sigmoid() if objectness else 1)
    for number in range(2):
        row = int(scores[number].argmax())  # the best candidate of all is never suppressed
        cls = int(raw[number, row, 4 + objectness :].argmax())
        leaf = data[number : number + 1].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(net(leaf)[0][0, 4 + objectness + cls, row], leaf)
        result = attribution(leaf.detach(), {"y": Box(cls, value="one")})
        torch.testing.assert_close(result.heatmap, gradient.sum(1), rtol=1e-9, atol=1e-12)
        x, y, width, height = raw[number, row, :4].tolist()
        corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        assert Box(cls).box(result.prediction[0]) == pytest.approx(corners)
        assert result.prediction[0, 0, 5] == pytest.approx(float(scores[number].max()))


def test_queries_of_a_detr_head_become_detections() -> None:
    """Of as many as there are queries, none is suppressed, and the last class is no object."""
    torch.manual_seed(2)
    net = Detr().double().eval()
    data = torch.rand(2, 3, 16, 24, dtype=torch.float64)
    attribution, raw = crp.CondAttribution(net, output=DETR), net(data)
    for number in range(2):
        probabilities = raw["logits"][number].detach().softmax(1)[:, :-1]
        labels: list[int] = []
        for rank, query in enumerate(probabilities.amax(1).argsort(descending=True).tolist()):
            cls = int(probabilities[query].argmax())
            box = Box(cls, rank=labels.count(cls))
            labels.append(cls)
            leaf = data[number : number + 1].clone().requires_grad_()
            logit = net(leaf)["logits"][0, query, cls]
            (gradient,) = torch.autograd.grad(logit**2 / 2, leaf)
            result = attribution(leaf.detach(), {"y": box}, None)
            torch.testing.assert_close(result.heatmap, gradient.sum(1), rtol=1e-9, atol=1e-12)
            x, y, width, height = (raw["pred_boxes"][number, query] * torch.tensor([24, 16, 24, 16])).tolist()
            corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
            assert box.box(result.prediction[0]) == pytest.approx(corners)
            assert float(result.prediction[0, rank, 5]) == pytest.approx(float(probabilities[query, cls]))


@pytest.mark.slow
def test_a_detr_of_transformers_is_read_as_it_is() -> None:
    """YOLOS: queries beside the patches of a vision transformer."""
    from transformers import YolosConfig, YolosForObjectDetection

    torch.manual_seed(3)
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    config = YolosConfig(**size, image_size=[16, 24], patch_size=8, num_detection_tokens=4, num_labels=3)
    net = YolosForObjectDetection(config).double().eval()
    data = torch.rand(1, 3, 16, 24, dtype=torch.float64)
    raw = net(data)
    query = int(raw.logits[0].softmax(1)[:, :-1].amax(1).argmax())
    cls = int(raw.logits[0, query, :-1].argmax())
    leaf = data.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(net(leaf).logits[0, query, cls], leaf)
    result = crp.CondAttribution(net, output=DETR)(data, {"y": Box(cls, value="one")}, None)
    torch.testing.assert_close(result.heatmap, gradient.sum(1), rtol=1e-9, atol=1e-12)


def test_suppression_keeps_the_best_of_boxes_that_overlap() -> None:
    rows = torch.tensor([[0, 0, 10, 10, 0.9], [1, 0, 11, 10, 0.8], [1, 0, 11, 30, 0.7], [40, 0, 50, 10, 0.1]])
    output = DetectionOutput(form="corners", candidates="first", count=4)(rows[None])[0]
    assert output[:, 4].tolist() == [0, 0, -1, -1]
    torch.testing.assert_close(output[:2, 5], torch.tensor([0.9, 0.7]))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: crp.detector(nn.Linear(1, 1)), InputError, "Linear is no detector of torchvision"),
        (lambda: DetectionOutput(form="xywh"), InputError, "form is 'center' or 'corners'"),  # type: ignore[arg-type]
        (lambda: DetectionOutput(scores="sigmoid"), InputError, "'probability', 'logit' or 'softmax'; got 's"),  # type: ignore[arg-type]
        (lambda: DetectionOutput(scores="softmax", objectness=True), InputError, "objectness=True a number for it"),
        (lambda: DetectionOutput(max_iou=45), InputError, "max_iou is between 0 and 1; got 45"),
        (lambda: DetectionOutput()(torch.zeros(2, 7)), ModelError, "detections are read from a tensor"),
        (lambda: DetectionOutput()(torch.zeros(1, 8, 4).transpose(1, 2)[:, :3]), ModelError, "say candidates="),
    ],
)
def test_what_is_no_detector_is_refused(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_a_suppression_that_changes_scores_is_found_out() -> None:
    net = family("retinanet")
    suppress = type(net).postprocess_detections

    class Rescored(type(net)):  # type: ignore[misc]
        def postprocess_detections(self, *args: Any) -> Any:
            found = suppress(self, *args)
            return [{**one, "scores": one["scores"] / 2} for one in found]

    net.__class__ = Rescored
    with pytest.raises(ModelError, match="is none of the head's candidates"):
        crp.detector(net)(pictures(1))
