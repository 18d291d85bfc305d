"""Making a report of an atlas: from what is asked for to the folder that is there."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from ...atlas.query.reference_maps import check_origin
from ...checks import check_integer
from ...errors import InputError
from ...interrupts import Interrupts
from ...progress import Progress
from ..image import DEFAULT_CMAP, PERCENTILE, ColorMap
from ..look import Look, Style
from .choice import Chosen, choose
from .context import ReportContext
from .folder import Site, check_folder, made_whole
from .graph_links import concept_graph_links
from .links import Links, co_relevance
from .samples import SampleSource
from .writer import write_report

if TYPE_CHECKING:
    from ...atlas import ConceptAtlas
    from ...atlas.query.references import ConditionedOn
    from ...attribution.subject import Subject

__all__ = ["BuiltReport", "ReportOptions", "build_report"]

LinkMethod = Literal["correlation", "graph"]
_UNLINKED = {
    "correlation": "None in this report: it has one layer only, or its atlas was built without the scores of every "
    "sample (matrix). Links from concept graphs need none of these.",
    "graph": "None in this report: no layer of it feeds another one.",
    "classes": "None in this report: concept graphs start from classes, and relevance in its atlas does not.",
}


@dataclass(frozen=True)
class BuiltReport:
    """A report that was made.

    Parameters
    ----------
    path : Path
        Its folder.
    concepts, files, size : int
        How many concepts and files it has, and its bytes.
    seconds : float
        How long it took.
    """

    path: Path
    concepts: int
    files: int
    size: int
    seconds: float

    @property
    def index(self) -> Path:
        """The page to open."""
        return self.path / "index.html"

    def __str__(self) -> str:
        return (
            f"{self.index}: {self.concepts:,} concepts in {self.files:,} files, {self.size / 1e6:,.1f} MB, "
            f"{self.seconds:,.0f} seconds"
        )


@dataclass(frozen=True)
class ReportOptions:
    """Rare settings of a report.

    Parameters
    ----------
    title : str, optional
        Of the report; by default model and dataset.
    picture_size : int, optional
        Pixels of the longer side of each picture, from 16 to 512.
    batch_size : int, optional
        Heatmaps that are computed at once, at most: fewer where a sample takes much memory in the model.
    graphs : int, optional
        Classes, those with the most samples, that get a page with their concept graph over at most four samples.
    check : bool, optional
        Make sure that model and dataset are the atlas's own.
    style, percentile, cmap : optional
        The look of heatmaps, as `Attribution.plot` has it.
    """

    title: str | None = None
    picture_size: int = 112
    batch_size: int = 16
    graphs: int = 8
    check: bool = True
    style: Style = "overlay"
    percentile: float = PERCENTILE
    cmap: str | ColorMap = DEFAULT_CMAP


def build_report(
    subject: Subject,
    atlas: ConceptAtlas,
    path: str | Path,
    *,
    layers: str | Iterable[str] | None,
    concept_ids: Iterable[int] | Mapping[str, Iterable[int]] | None,
    references: int,
    conditioned_on: ConditionedOn,
    receptive_field: bool,
    links: Links | LinkMethod,
    overwrite: bool,
    verbose: bool,
    options: ReportOptions,
) -> BuiltReport:
    """Make a static site of an atlas, and return where it is and how large; see `crp_kit.Study.report`."""
    began, target = time.monotonic(), Path(path)
    check_integer("references", references, low=1, high=1 << 20)
    check_integer("picture_size", options.picture_size, low=16, high=512)
    check_integer("batch_size", options.batch_size, low=1, high=1 << 20)
    check_integer("graphs", options.graphs, low=0, high=1 << 20)
    if not isinstance(links, Links) and links not in get_args(LinkMethod):
        raise InputError(f"links is 'correlation', 'graph' or Links; got {links!r}")
    look = Look(options.style, options.percentile, options.cmap)
    check_folder(target, overwrite=overwrite)
    chosen = choose(atlas, layers, concept_ids)
    if options.check:
        check_origin(atlas, subject)
    source = SampleSource(
        subject,
        atlas,
        conditioned_on=conditioned_on,
        references=min(references, atlas.header.k),
        receptive_field=receptive_field,
        batch_size=options.batch_size,
        size=options.picture_size,
        look=look,
    )
    count = sum(map(len, chosen.values()))
    heading = options.title or f"{atlas.header.model} on {atlas.header.dataset}"
    with made_whole(target, overwrite=overwrite) as folder:
        shown_links = links if isinstance(links, Links) else _links(links, source, chosen, verbose=verbose)
        bar = Progress(count, "report", unit="concept", verbose=verbose)
        with Interrupts() as interrupts, bar:
            parts = (heading, chosen, source, shown_links, Site(folder), bar, interrupts)
            report = ReportContext(*parts, most_graphs=options.graphs)
            files, size = write_report(report, began)
    return BuiltReport(target, count, files, size, time.monotonic() - began)


def _links(method: LinkMethod, source: SampleSource, chosen: Chosen, *, verbose: bool) -> Links | str:
    """Return the links between the concepts of a report, or the reason why there are none."""
    if method == "graph" and not source.atlas.has_classes:
        return _UNLINKED["classes"]
    if method == "graph":
        return concept_graph_links(source, chosen, verbose=verbose) or _UNLINKED[method]
    return co_relevance(source.atlas, chosen) or _UNLINKED[method]
