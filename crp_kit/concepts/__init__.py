"""Concepts: channels, neurons, tokens and heads of a layer, masked, aggregated and located."""

from .base import Aggregate, Concept, Reference
from .channels import ChannelConcept, NeuronConcept
from .tokens import HeadConcept, TokenConcept

__all__ = ["Aggregate", "ChannelConcept", "Concept", "HeadConcept", "NeuronConcept", "Reference", "TokenConcept"]
