"""A concept has an identity that is the same in every process, and a noun; both are what its class says."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from crp_kit import ChannelConcept, Concept, HeadConcept, NeuronConcept, TokenConcept
from crp_kit.errors import ConditionError


class Scaled(ChannelConcept):
    """Channels with an attribute that is no field."""

    def __init__(self, scale: Any) -> None:
        super().__init__(axis=1)
        object.__setattr__(self, "scale", scale)


class Opaque(ChannelConcept):
    __repr__ = object.__repr__  # has an address in it


class Named(Scaled):
    noun = "scaled channel"
    identity = "the scaled channels of the paper"


@pytest.mark.parametrize(
    ("concept", "identity", "noun"),
    [
        (ChannelConcept(), "ChannelConcept(axis=None)", "channel"),
        (ChannelConcept(axis=1), "ChannelConcept(axis=1)", "channel"),
        (NeuronConcept(), "NeuronConcept()", "neuron"),
        (TokenConcept(), "TokenConcept(axis=1)", "token"),
        (HeadConcept(heads=12, parts=3), "HeadConcept(heads=12, axis=None, parts=3)", "head"),
        (Scaled(0.5), "Scaled(axis=1, scale=0.5)", "channel"),
        (Opaque(axis=1), "Opaque(axis=1)", "channel"),
        (Named(torch.ones(2)), "the scaled channels of the paper", "scaled channel"),
    ],
)
def test_identity_and_noun_are_those_of_the_class(concept: Concept, identity: str, noun: str) -> None:
    assert (concept.identity, concept.noun) == (identity, noun)


@pytest.mark.parametrize("value", [torch.ones(2), torch.ones(2).numpy(), object(), lambda: 0])
def test_attributes_that_identify_nothing_need_an_identity_of_ones_own(value: Any) -> None:
    with pytest.raises(ConditionError, match="identity of Scaled cannot be derived from its attribute 'scale'"):
        _ = Scaled(value).identity


def test_only_channels_without_an_axis_take_that_of_the_graph() -> None:
    def unknown() -> int:
        raise AssertionError("is asked only where it is needed")

    axis: Callable[[], int] = lambda: 2  # noqa: E731
    assert ChannelConcept().resolved(axis) == ChannelConcept(axis=2)
    for concept in (ChannelConcept(axis=1), Opaque(), NeuronConcept(), TokenConcept(), HeadConcept()):
        assert concept.resolved(unknown) is concept
