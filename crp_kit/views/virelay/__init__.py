"""Export to ViRelAy: a project folder with conditional heatmaps of reference samples, embeddings and clusters.

ViRelAy (Anders et al., arXiv 2106.13200) is a viewer in the browser. Nothing of it is needed here: it reads the files
that are written.
"""

from .export import export_virelay

__all__ = ["export_virelay"]
