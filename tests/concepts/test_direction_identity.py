"""The identity of directions is a checksum of their values, the same for equal ones; ids are numbers and names."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from dictionaries import Autoencoder
from nets import normal

from crp_kit import DictionaryConcept, DirectionConcept
from crp_kit.concepts import MixedConcept, NearestCentre, NonNegativeCode
from crp_kit.errors import ConceptAxisError, ConditionError


def test_equal_directions_have_one_identity_and_others_another() -> None:
    values = normal(2, 5)
    own = DirectionConcept(values)
    assert own.identity == DirectionConcept(values.numpy()).identity == DirectionConcept(values.tolist()).identity
    assert own.identity == DirectionConcept(values, mean=[0.0] * 5, encoder=values, names=["a", "b"]).identity
    others = [
        DirectionConcept(values + 1e-9),
        DirectionConcept(values.flip(0)),
        DirectionConcept(values, mean=values[0]),
        DirectionConcept(values, encoder=2 * values),
        DirectionConcept(values, axis=1),
    ]
    assert len({own.identity, *(other.identity for other in others)}) == 6
    assert repr(own) == own.identity


def test_later_changes_of_an_array_are_not_the_concepts() -> None:
    values = normal(2, 5)
    own = DirectionConcept(values)
    before = own.identity
    values.zero_()
    assert own.identity == before


def test_a_dictionary_is_known_by_its_weights_its_settings_and_its_split() -> None:
    module = Autoencoder(5, 8)
    own = DictionaryConcept(module)
    assert own.identity == DictionaryConcept(deepcopy(module)).identity
    other, wider = Autoencoder(5, 8, seed=1), deepcopy(module)
    wider.k = 3
    entries = normal(3, 5).abs()
    concepts = [
        own,
        DictionaryConcept(other),
        DictionaryConcept(wider),
        DictionaryConcept(module, "decoder"),
        DictionaryConcept(NearestCentre(entries)),
        DictionaryConcept(NonNegativeCode(entries)),
    ]
    assert len({concept.identity for concept in concepts}) == len(concepts)


def test_a_dictionary_whose_weights_change_is_decoded_anew() -> None:
    module, activation = Autoencoder(5, 8), normal(3, 5)
    concept = DictionaryConcept(module)
    before = concept.values(activation)[:, -1]
    with torch.no_grad():
        module.writer.mul_(2)
    assert not torch.allclose(concept.values(activation)[:, -1], before)
    torch.testing.assert_close(
        concept.values(activation)[:, -1], (activation - module.decode(module.encode(activation))).norm(dim=1).detach()
    )


@pytest.mark.parametrize("concept", [DirectionConcept(normal(2, 5)), DictionaryConcept(Autoencoder(5, 2))])
def test_ids_are_numbers_and_the_last_two_are_mean_and_rest(concept: MixedConcept) -> None:
    concept = concept.resolved(lambda: 1)
    assert concept.numbers([1, "mean", "rest", 3], torch.Size([5, 4]), layer_name="conv") == [1, 2, 3, 3]
    assert concept.noun == "direction"
    with pytest.raises(ConditionError, match="mix its channels"):
        concept.mask([0], torch.Size([5, 4]), layer_name="conv")
    with pytest.raises(ConceptAxisError, match="one number per sample"):
        concept.numbers([0], torch.Size([]), layer_name="conv")


def test_channels_are_masks_and_have_no_split() -> None:
    from crp_kit import ChannelConcept

    with pytest.raises(ConditionError, match="ChannelConcept is a mask of relevance"):
        ChannelConcept().split(normal(1, 1, 5), normal(1, 5))
