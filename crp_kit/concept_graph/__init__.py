"""Concept graphs: a class or a concept of one sample decomposed into the concepts of the layers before it."""

from .graph import ConceptGraph
from .parts import ConceptEdge, ConceptNode

__all__ = ["ConceptEdge", "ConceptGraph", "ConceptNode"]
