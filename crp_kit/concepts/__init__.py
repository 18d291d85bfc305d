"""What a concept is in a layer: how to mask it, aggregate it and locate it."""

from .base import Aggregate, Concept, Reference
from .channels import ChannelConcept, NeuronConcept
from .tokens import HeadConcept, TokenConcept

__all__ = ["Aggregate", "ChannelConcept", "Concept", "HeadConcept", "NeuronConcept", "Reference", "TokenConcept"]
