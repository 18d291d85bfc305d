"""Concept flipping and insertion: against forwards of the user's model with hooks, and in closed form."""

from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from shortcut_net import CONCEPTS, SAMPLES, shortcut_study, with_hook
from torch import nn
from torch.utils.data import TensorDataset
from zennit.canonizers import SequentialMergeBatchNorm
from zennit.composites import EpsilonPlus

import crp_kit as crp
from crp_kit.errors import ConditionError, InputError, UnknownLayerError
from crp_kit.evaluation import Evaluation, FlippingCurves, compared_areas, compared_curves, joined_curves


@pytest.fixture(scope="module")
def study() -> crp.Study:
    return shortcut_study()


def brute_force(study: crp.Study, mode: str, baseline: str, output: str) -> np.ndarray:
    """(sample, k) of f(k) - f(0), concepts by falling relevance, one forward with a hook for each."""
    model, images = study.model, study.data.tensors[0]
    with torch.no_grad():
        values = model.branch(model.stem(images).relu())
    mean = values.mean((0, 2, 3))
    curves = []
    for image, value in zip(images, values, strict=True):
        cls = int(with_hook(model, "branch", image, lambda output: output).argmax())
        recorded = study(image[None], {"y": [cls]}, record_layer=["branch"])
        order = recorded.relevances["branch"][0].sum((1, 2)).argsort(descending=True, stable=True).tolist()
        replaced = {"mean": mean, "zero": torch.zeros(6), "own": value.mean((1, 2))}[baseline]

        def changed(output: torch.Tensor, flipped: list[int], replaced: torch.Tensor = replaced) -> torch.Tensor:
            copy = output.clone()
            copy[:, flipped] = replaced[flipped].to(copy)[:, None, None]
            return copy

        scores = []
        for count in range(CONCEPTS + 1):
            flipped = order[count:] if mode == "insertion" else order[:count]
            logits = with_hook(model, "branch", image, lambda output, flipped=flipped: changed(output, flipped))
            scores.append(float((logits.softmax(0) if output == "probability" else logits)[cls]))
        curves.append(np.array(scores) - scores[0])
    return np.stack(curves)


@pytest.mark.parametrize("mode", ["flipping", "insertion"])
@pytest.mark.parametrize("baseline", ["mean", "zero", "own"])
@pytest.mark.parametrize("output", ["logit", "probability"])
def test_curves_are_those_of_full_forwards_with_hooks(study: crp.Study, mode: str, baseline: Any, output: Any) -> None:
    evaluate = getattr(study.evaluate, mode)
    curves = evaluate("branch", orders="relevance", baseline=baseline, output=output, steps=None, batch_size=2)
    expected = brute_force(study, mode, baseline, output)
    np.testing.assert_allclose(curves.changes["relevance"], expected, rtol=1e-9, atol=1e-12)
    assert np.abs(expected).max() > 1e-3
    sign = 1 if mode == "insertion" else -1
    assert curves.aoc["relevance"] == pytest.approx(sign * np.trapezoid(expected, dx=1 / CONCEPTS, axis=1).mean())


def test_a_linear_network_has_its_curve_in_closed_form() -> None:
    weights = torch.tensor([4.0, 3.0, 2.0, 1.0, 0.0], dtype=torch.float64)
    net = nn.Sequential(nn.Flatten(), nn.Identity(), nn.Linear(5, 2, bias=False)).double().eval()
    net[2].weight.data = torch.stack([weights, torch.zeros(5)])
    images = torch.ones(3, 5, 1, dtype=torch.float64)
    study = crp.Study(net, TensorDataset(images, torch.zeros(3)), composite="epsilon_plus", feature_axis=1)
    curves = study.evaluate.flipping("1", orders=("relevance", "least_relevant"), baseline="zero", steps=None)
    np.testing.assert_allclose(curves.changes["relevance"], np.tile([0, -4, -7, -9, -10, -10.0], (3, 1)))
    np.testing.assert_allclose(curves.changes["least_relevant"], np.tile([0, 0, -1, -3, -6, -10.0], (3, 1)))
    assert curves.aoc["relevance"] == pytest.approx((2 + 5.5 + 8 + 9.5 + 10) / 5)


def test_random_orders_are_the_same_for_all_methods_and_batch_sizes(study: crp.Study) -> None:
    first = study.evaluate.flipping("branch", orders=("random", "relevance"), repeats=4, batch_size=2)
    second = study.evaluate.flipping("branch", orders={"random": "random"}, repeats=4, batch_size=5)
    np.testing.assert_allclose(first.changes["random"], second.changes["random"], rtol=1e-9, atol=1e-12)
    assert first.changes["random"].shape == (4, SAMPLES, CONCEPTS + 1)
    low, high = first.random_band()
    assert (low <= high).all()
    assert study.evaluate.flipping("branch", orders="relevance").random_band() is None


def test_a_user_s_order_is_followed_and_compared_with_chance(study: crp.Study) -> None:
    curves = study.evaluate.flipping(
        "branch", orders={"mine": lambda relevance, activation: np.arange(CONCEPTS), "random": "random"}, steps=None
    )
    assert curves.changes["mine"].shape == (SAMPLES, CONCEPTS + 1)
    difference = curves.areas["mine"] - curves.areas["random"]
    row = next(row for row in curves.summary.rows() if row["order"] == "mine")
    assert row["better"] == pytest.approx(difference.mean())
    half = (row["better_high"] - row["better_low"]) / 2
    assert half == pytest.approx(2.776445 * difference.std(ddof=1) / np.sqrt(SAMPLES), rel=1e-5)


@pytest.mark.slow
def test_random_relevance_is_as_good_as_chance_over_a_hundred_seeds() -> None:
    """Of 100 intervals of 95 %, five exclude 0 in expectation; more than twelve have a probability below 0.2 %."""
    generator = np.random.default_rng(0)
    net = nn.Sequential(nn.Flatten(), nn.Identity(), nn.Linear(8, 2)).double().eval()
    net[2].weight.data = torch.from_numpy(generator.normal(size=(2, 8)))
    data = TensorDataset(torch.from_numpy(generator.normal(size=(24, 8, 1))), torch.zeros(24))
    study = crp.Study(net, data, composite=None, feature_axis=1)
    noise = {f"seed {seed}": np.argsort(generator.normal(size=(24, 8)), axis=1) for seed in range(100)}
    curves = study.evaluate.flipping(
        "1", orders={**noise, "random": "random"}, repeats=200, steps=None, batch_size=24, target="label"
    )
    rows = [row for row in curves.summary.rows() if row["order"] != "random"]
    assert len(rows) == 100
    assert sum(row["better_low"] > 0 or row["better_high"] < 0 for row in rows) <= 12
    assert abs(np.mean([row["better"] for row in rows])) < 3 * np.std([row["better"] for row in rows]) / 10


def test_the_prototype_of_a_class_is_the_mean_relevance_of_its_other_samples(study: crp.Study) -> None:
    data = TensorDataset(study.data.tensors[0], torch.tensor([0, 1, 0, 1, 1]))
    labelled = crp.Study(study.model, data, composite="epsilon_plus")
    options = {"steps": None, "target": "label", "batch_size": 2}
    curves = labelled.evaluate.flipping("branch", orders="prototype", **options)
    recorded = labelled(data.tensors[0], [{"y": [int(cls)]} for cls in data.tensors[1]], record_layer=["branch"])
    sums = recorded.relevances["branch"].sum((2, 3)).numpy()
    shares = sums / np.abs(sums).sum(1, keepdims=True)
    orders = []
    for number, cls in enumerate(data.tensors[1]):
        others = [other for other in range(5) if data.tensors[1][other] == cls and other != number]
        orders.append(np.argsort(-shares[others].mean(0), kind="stable"))
    expected = labelled.evaluate.flipping("branch", orders={"mine": np.array(orders)}, **options)
    np.testing.assert_allclose(curves.changes["prototype"], expected.changes["mine"])
    with pytest.raises(InputError, match="sample 1 is the only one of class 1: evaluate more samples"):
        labelled.evaluate.flipping("branch", orders="prototype", limit=3, target="label")


def test_orders_may_be_arrays_for_all_samples_or_for_each(study: crp.Study) -> None:
    order = np.array([3, 1, 0, 5, 4, 2])
    orders = {"all": order, "each": np.tile(order, (SAMPLES, 1)), "function": lambda relevance, activation: order}
    curves = study.evaluate.flipping("branch", orders=orders, steps=None, batch_size=2).changes
    np.testing.assert_array_equal(curves["all"], curves["each"])
    np.testing.assert_array_equal(curves["all"], curves["function"])


def test_rules_with_canonizers_flip_the_layer_of_the_users_model() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 9, 4)).eval()
    net[1].running_mean -= 1.0
    data = TensorDataset(torch.rand(3, 3, 5, 5), torch.zeros(3))
    plain = crp.Study(net, data, composite=EpsilonPlus())
    canonized = crp.Study(net, data, composite=EpsilonPlus(canonizers=[SequentialMergeBatchNorm()]))
    curves = [
        study.evaluate.flipping("0", orders={"mine": np.arange(6)}, baseline="zero").changes["mine"]
        for study in (plain, canonized)
    ]
    np.testing.assert_allclose(*curves, rtol=1e-5, atol=1e-6)
    assert np.abs(curves[0]).max() > 0.01
    assert canonized.evaluate.flipping("0", orders="relevance").changes["relevance"].shape == (3, 7)


def test_results_of_layers_and_composites_share_a_figure_and_a_table(study: crp.Study) -> None:
    results = [
        study.replace(composite=composite).evaluate.flipping(layer, steps=3)
        for layer in ("branch", "stem")
        for composite in ("epsilon_plus", "gradient")
    ]
    panels = crp.plot.flipping_curves(results).axes
    assert [panel.get_xlabel() for panel in panels] == ["flipped concepts of branch, %", "flipped concepts of stem, %"]
    labels = [text.get_text().partition(":")[0] for text in panels[0].get_legend().get_texts()]
    orders = ["relevance (epsilon_plus)", "activation", "relevance (gradient)"]
    assert labels == ["95 % of random orders", *orders, "around a line"]
    areas = compared_areas(results)
    assert list(areas.columns())[:4] == ["layer", "composite", "order", "aoc"]
    assert len(areas) == 12
    assert next(areas.rows())["aoc"] == pytest.approx(results[0].aoc["relevance"])
    assert len(compared_curves(results)) == 36


@pytest.mark.parametrize(
    ("choose", "message"),
    [
        (lambda deletion, insertion: [], "no result"),
        (lambda deletion, insertion: [deletion, insertion], "results of several modes"),
    ],
)
def test_results_that_have_no_common_figure_are_refused(study: crp.Study, choose: Any, message: str) -> None:
    evaluate = study.evaluate
    results = [run("branch", orders="relevance", steps=2) for run in (evaluate.flipping, evaluate.insertion)]
    with pytest.raises(InputError, match=message):
        crp.plot.flipping_curves(choose(*results))


def test_insertion_has_the_parameters_of_flipping_with_its_own_summary() -> None:
    assert signature(Evaluation.insertion).parameters == signature(Evaluation.flipping).parameters
    assert Evaluation.insertion.__doc__.startswith("Begin with all concepts")
    assert "baseline : {" in Evaluation.insertion.__doc__
    assert ">>>" not in Evaluation.insertion.__doc__


def test_curves_become_a_frame_a_picture_and_a_text(study: crp.Study) -> None:
    pytest.importorskip("pandas")
    curves = study.evaluate.flipping("branch", steps=4, limit=3, target="label")
    assert list(curves.to_frame().columns) == ["order", "k", "mean", "low", "high"]
    assert curves.to_frame().k.unique().tolist() == [0, 2, 4, 6]
    assert "FlippingCurves of 'branch': 6 concepts, 3 samples; mode deletion, baseline mean" in repr(curves)
    assert curves.plot(width=3.4).axes[0].get_xlabel() == "flipped concepts of branch, %"
    assert curves._repr_png_().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"layer": "trunk"}, UnknownLayerError, "trunk"),
        ({"layer": "head"}, ConditionError, "does not depend on 'head', or 'head' is the output itself"),
        ({"orders": "importance"}, InputError, "an order is 'relevance', 'activation', 'least_relevant', 'prototype'"),
        ({"orders": ()}, InputError, "give at least one order"),
        ({"orders": {"x": lambda r, a: [0, 0, 1, 2, 3, 4]}}, InputError, "an order has each of the 6 concepts once"),
        ({"orders": {"x": np.zeros(6)}}, InputError, "an array of whole numbers"),
        ({"orders": {"x": np.zeros((2, 6), int)}}, InputError, "'x' is an array of shape"),
        ({"baseline": "blur"}, InputError, "baseline is 'mean', 'zero', 'own'; got 'blur'"),
        ({"output": "loss"}, InputError, "output is 'logit', 'probability'; got 'loss'"),
        ({"target": "y"}, InputError, "target is 'prediction', 'label'; got 'y'"),
        ({"steps": 1}, InputError, "steps"),
        ({"limit": 0}, InputError, "limit"),
    ],
)
def test_a_wrong_question_is_a_sentence(study: crp.Study, options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        study.evaluate.flipping(**{"layer": "branch", **options})


def test_a_study_without_data_or_labels_says_so(study: crp.Study) -> None:
    with pytest.raises(InputError, match="data"):
        crp.Study(study.model).evaluate.flipping("branch")
    unlabelled = crp.Study(study.model, [(image, None) for image in study.data.tensors[0]])
    with pytest.raises(InputError, match="sample 0 has no label: evaluate with target='prediction'"):
        unlabelled.evaluate.flipping("branch", target="label")


def test_the_forward_from_a_node_is_the_full_forward(study: crp.Study) -> None:
    image = study.data.tensors[0][:1]
    values = torch.rand(7, 6, 8, 8, dtype=torch.float64)
    outputs = study.forward_from("branch", values, image)
    expected = [with_hook(study.model, "branch", image[0], lambda output, row=row: row[None]) for row in values]
    torch.testing.assert_close(outputs, torch.stack(expected))
    with pytest.raises(InputError, match=r"values of 'branch' have the shape \(row, \*\(6, 8, 8\)\); got \(7, 6, 8\)"):
        study.forward_from("branch", values[..., 0], image)
    with pytest.raises(InputError, match="forward_from takes one image"):
        study.forward_from("branch", values, study.data.tensors[0][:2])
    with pytest.raises(ConditionError, match="'head' is the output itself"):
        study.forward_from("head", values, image)


def test_shards_that_are_saved_and_joined_are_the_whole(study: crp.Study, tmp_path: Path) -> None:
    options: dict[str, Any] = {"orders": ("relevance", "random"), "repeats": 3, "batch_size": 2}
    whole = study.evaluate.flipping("branch", **options)
    for number in range(2):
        shard = study.evaluate.flipping("branch", shard=(number, 2), **options)
        study.evaluate.save(shard, tmp_path / f"{number}.npz")
    shards = [study.evaluate.load(tmp_path / f"{number}.npz") for number in (1, 0)]
    joined = joined_curves(shards)
    np.testing.assert_array_equal(joined.samples, whole.samples)
    for name, changes in whole.changes.items():
        np.testing.assert_allclose(joined.changes[name], changes, rtol=1e-9, atol=1e-12)
    with pytest.raises(InputError, match="a sample is in two of the shards"):
        joined_curves([shards[0], shards[0]])
    with pytest.raises(InputError, match="shards have one settings"):
        joined_curves([shards[0], study.evaluate.flipping("branch", shard="0/2", baseline="zero", **options)])
    with pytest.raises(InputError, match="no result to join"):
        joined_curves([])
    with pytest.raises(InputError, match="5 samples cannot be divided into 9 shards"):
        study.evaluate.flipping("branch", shard="0/9")
    with pytest.raises(InputError, match="a shard is 'i/n'"):
        study.evaluate.flipping("branch", shard="first")


def test_a_result_is_frozen(study: crp.Study) -> None:
    curves: FlippingCurves = study.evaluate.flipping("branch", orders="relevance", steps=2)
    with pytest.raises(AttributeError):
        curves.layer = "other"  # type: ignore[misc]
