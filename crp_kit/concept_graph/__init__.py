"""Concept graphs: a class or a concept of one sample decomposed into the concepts of the layers before it."""

from .compute import concept_graph
from .parts import ConceptEdge, ConceptNode
from .result import ConceptGraph

__all__ = ["ConceptEdge", "ConceptGraph", "ConceptNode", "concept_graph"]
