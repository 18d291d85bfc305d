"""Concept atlases: the pass over a dataset, the HDF5 file, and the questions that it answers."""

from .build.merge import merge_atlases
from .build.settings import BuildOptions, Origin
from .export import export_atlas
from .file.verify import verify_atlas
from .query.concept_atlas import ConceptAtlas

__all__ = ["BuildOptions", "ConceptAtlas", "Origin", "export_atlas", "merge_atlases", "verify_atlas"]
