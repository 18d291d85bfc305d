"""Each mistake has its own clear message, at once and not in the middle of the work."""

from typing import Any

import pytest
import torch
from mistakes import MISTAKES, Mistake, Net, images
from torch import nn
from zennit.composites import EpsilonPlusFlat

from crp_kit import ChannelConcept, CondAttribution, CrpKitError, CrpKitWarning
from crp_kit.errors import ConceptAxisError, ConceptRangeError, InputError, NonFiniteRelevanceError, UnknownLayerError


@pytest.fixture(scope="module")
def attribution() -> CondAttribution:
    return CondAttribution(Net().eval())


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_raises_its_error_with_its_message(attribution: CondAttribution, mistake: Mistake) -> None:
    with pytest.raises(mistake.error, match=mistake.message):
        attribution(mistake.spoil(images()), mistake.conditions, mistake.composite, **mistake.options)


def test_errors_of_crp_kit_can_be_caught_as_one() -> None:
    ours = {mistake.error for mistake in MISTAKES.values()} - {ZeroDivisionError}
    assert all(issubclass(error, CrpKitError) for error in ours)


AT_ONCE = ["no sets", "integers", "NaN", "pairing", "batch size 0", "no start", "two starts", "composite's name"]


@pytest.mark.parametrize("name", AT_ONCE)
def test_generate_refuses_mistakes_before_its_first_part(attribution: CondAttribution, name: str) -> None:
    mistake = MISTAKES[name]
    with pytest.raises(mistake.error, match=mistake.message):
        attribution.generate(mistake.spoil(images()), mistake.conditions, mistake.composite, **mistake.options)


def test_errors_carry_the_values_they_are_about() -> None:
    unknown = UnknownLayerError("conv3", ["conv1", "conv2", "head"])
    assert (unknown.name, set(unknown.suggestions)) == ("conv3", {"conv1", "conv2"})
    out = ConceptRangeError("conv1", [4, 9], 4)
    assert (out.layer, out.ids, out.size) == ("conv1", [4, 9], 4)
    broken = NonFiniteRelevanceError("conv1", "Epsilon")
    assert (broken.layer, broken.rule) == ("conv1", "Epsilon")


def test_many_ids_out_of_range_are_shortened() -> None:
    assert "channel 4, 5, 6, 7, 8, … of 'conv1'" in str(ConceptRangeError("conv1", range(4, 20), 4))


def test_a_model_that_is_no_module_is_refused() -> None:
    with pytest.raises(InputError, match=r"model is a torch.nn.Module; got str"):
        CondAttribution("resnet18")  # type: ignore[arg-type]


def test_an_ambiguous_channel_axis_is_refused_and_can_be_given() -> None:
    class Ambiguous(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.transpose(1, 2).mean(1)

    attribution, x = CondAttribution(Ambiguous()), torch.randn(2, 3, 4)
    conditions: Any = [{"transpose": [2], "y": [0, 1, 2]}]
    with pytest.raises(ConceptAxisError, match=r"cannot tell which axis of 'transpose' \(shape \(2, 4, 3\)\)"):
        attribution(x, conditions, EpsilonPlusFlat())
    relevance = attribution(x, conditions, EpsilonPlusFlat(), mask_map=ChannelConcept(axis=-1)).input_relevance
    assert torch.equal(relevance[:, :2], torch.zeros(2, 2, 4))
    assert relevance[:, 2].abs().min() > 0


def test_inputs_of_different_batch_sizes_are_not_cut_to_fit() -> None:
    attribution = CondAttribution(nn.Bilinear(3, 2, 2))
    with pytest.raises(CrpKitError, match=r"forward failed for input of shape \(2, 3\), \(3, 2\)"):
        attribution((torch.ones(2, 3), torch.ones(3, 2)), [{"y": [0]}])


def test_a_number_as_start_relevance_is_that_number(attribution: CondAttribution) -> None:
    x, conditions = images(), [{"y": [1]}]
    ours, expected = (
        attribution(x, conditions, EpsilonPlusFlat(), init_rel=one).heatmap
        for one in (2.5, torch.tensor([0, 2.5, 0]).expand(2, 3))
    )
    assert torch.equal(ours, expected)
    assert not torch.allclose(ours, attribution(x, conditions, EpsilonPlusFlat()).heatmap)


def test_start_relevance_alone_is_a_start_also_in_slices(attribution: CondAttribution) -> None:
    x = images()
    whole = attribution(x, [{"conv1": [0]}], EpsilonPlusFlat(), init_rel=1)
    parts = list(attribution.generate(x, [{"conv1": [0]}], EpsilonPlusFlat(), init_rel=1, batch_size=1))
    assert torch.allclose(torch.cat([part.heatmap for part in parts]), whole.heatmap)


def test_a_model_in_training_mode_is_run_in_evaluation_mode_with_one_warning() -> None:
    model = Net().train()
    attribution = CondAttribution(model)
    with pytest.warns(CrpKitWarning, match=r"runs a copy in evaluation mode \(BatchNorm2d, Dropout differ\)") as caught:
        first, second = (attribution(images(), [{"conv1": [1], "y": [0]}], EpsilonPlusFlat()) for _ in range(2))
    assert len(caught) == 1
    expected = CondAttribution(Net().eval())(images(), [{"conv1": [1], "y": [0]}], EpsilonPlusFlat())
    assert torch.equal(first.heatmap, expected.heatmap)
    assert torch.equal(second.heatmap, expected.heatmap)
    assert all(module.training for module in model.modules())
