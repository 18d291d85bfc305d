"""Export to ViRelAy: a project folder with heatmaps of reference samples, or of a class and its strategies.

ViRelAy (Anders et al., arXiv 2106.13200) is a viewer in the browser. Nothing of it is needed here: it reads the files
that are written.
"""

from .export import ProjectOptions, export_strategies, export_virelay

__all__ = ["ProjectOptions", "export_strategies", "export_virelay"]
