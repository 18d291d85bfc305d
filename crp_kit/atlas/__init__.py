"""Concept atlases: the pass over a dataset, the HDF5 file, and the questions that it answers."""

from .build import build_atlas
from .job import Origin
from .merge import merge_atlases
from .query import ConceptAtlas
from .verify import verify_atlas

__all__ = ["ConceptAtlas", "Origin", "build_atlas", "merge_atlases", "verify_atlas"]
