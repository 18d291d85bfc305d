"""Concept atlases: the pass over a dataset, the HDF5 file, and the questions that it answers."""

from .annotate import annotate_atlas
from .atlas_drift import drift
from .build.merge import merge_atlases
from .build.settings import BuildOptions, Origin
from .comparison import compare_atlases
from .export import export_atlas
from .file.verify import verify_atlas
from .query.concept_atlas import ConceptAtlas

__all__ = [
    "BuildOptions",
    "ConceptAtlas",
    "Origin",
    "annotate_atlas",
    "compare_atlases",
    "drift",
    "export_atlas",
    "merge_atlases",
    "verify_atlas",
]
