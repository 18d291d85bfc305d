"""The command line: parsing and printing only; what takes long to import is imported by the command that needs it."""

from __future__ import annotations

import atexit
import gc

import click

from ..allocator import keep_freed_memory
from ..version import __version__
from .atlas import atlas
from .demo import demo
from .directions import directions
from .evaluate import evaluate
from .export import export
from .graph import graph
from .group import CrpGroup
from .heatmap import heatmap
from .layers import layers
from .regions import regions
from .report import report
from .rules import check, rules

__all__ = ["main"]


@click.group(
    name="crp-kit", cls=CrpGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, message="%(prog)s %(version)s")
def main() -> None:
    """Which concepts a vision model used, and where in the image.

    Results go to stdout, messages and progress to stderr. No file is overwritten without --overwrite. The exit status
    is 0, or 2 for a mistake in what was asked, or 130 when interrupted; 1 for a check that found something.
    """
    keep_freed_memory()
    atexit.register(gc.freeze)  # else the last collections walk through all that torch has imported: a second


for _command in (demo, layers, rules, check, heatmap, graph, regions, directions, atlas, report, evaluate, export):
    main.add_command(_command)
