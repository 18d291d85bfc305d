"""Concepts: channels, neurons, tokens, heads and directions of a layer, masked or split, aggregated and located."""

from .base import Aggregate, Concept, Reference, Split
from .channels import ChannelConcept, NeuronConcept
from .codebooks import NearestCentre, NonNegativeCode
from .dictionaries import DictionaryConcept
from .directions import DirectionConcept
from .mixed import MixedConcept
from .saved_directions import load_directions
from .tokens import HeadConcept, TokenConcept

__all__ = [
    "Aggregate",
    "ChannelConcept",
    "Concept",
    "DictionaryConcept",
    "DirectionConcept",
    "HeadConcept",
    "MixedConcept",
    "NearestCentre",
    "NeuronConcept",
    "NonNegativeCode",
    "Reference",
    "Split",
    "TokenConcept",
    "load_directions",
]
