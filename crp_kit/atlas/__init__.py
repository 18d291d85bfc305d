"""Concept atlases: the pass over a dataset, the HDF5 file, and the questions that it answers.

Names are imported when they are first used: a file is read, and a damaged one refused, without torch.
"""

from typing import TYPE_CHECKING, Any

from ..lazy_names import lazy_name

if TYPE_CHECKING:
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

_HOME = {
    "BuildOptions": "build.settings",
    "ConceptAtlas": "query.concept_atlas",
    "Origin": "build.settings",
    "annotate_atlas": "annotate",
    "compare_atlases": "comparison",
    "drift": "atlas_drift",
    "export_atlas": "export",
    "merge_atlases": "build.merge",
    "verify_atlas": "file.verify",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    return lazy_name(__name__, _HOME, name)


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted([*globals(), *__all__])
