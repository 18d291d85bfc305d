"""Making a report of an atlas: from what is asked for to the folder that is there."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from tqdm import tqdm

from ...atlas.build.workplace import Interrupts
from ...checks import check_integer
from ...errors import InputError
from .choice import choose
from .folder import Site, check_folder, made_whole
from .graph_links import concept_graph_links
from .links import Links, co_relevance
from .samples import SampleSource
from .writer import Writer

if TYPE_CHECKING:
    from ...atlas import ConceptAtlas
    from ...atlas.query.references import ConditionedOn
    from ...attribution.cond_attribution import CondAttribution
    from ...concepts import Concept
    from ...data.preprocess import Normalise, Preprocess
    from ...rules.presets import Composite

__all__ = ["BuiltReport", "build_report"]

LinkKind = Literal["correlation", "graph"]
_UNLINKED = {
    "correlation": "None in this report: it has one layer only, or its atlas was built without the scores of every "
    "sample (matrix). Links from concept graphs need none of these.",
    "graph": "None in this report: no layer of it feeds another one.",
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


def build_report(
    atlas: ConceptAtlas,
    dataset: Any,
    path: str | Path,
    *,
    attribution: CondAttribution,
    composite: Composite | str | None = None,
    preprocess: Preprocess | Normalise | None = None,
    layers: str | Iterable[str] | None = None,
    concept_ids: Iterable[int] | Mapping[str, Iterable[int]] | None = None,
    references: int = 8,
    conditioned_on: ConditionedOn = "class",
    receptive_field: bool = True,
    concepts: Concept | Mapping[str, Concept] | None = None,
    links: Links | LinkKind = "correlation",
    title: str | None = None,
    picture_size: int = 112,
    batch_size: int = 16,
    check: bool = True,
    overwrite: bool = False,
    verbose: bool = True,
) -> BuiltReport:
    """Make a static site of an atlas, and return where it is and how large.

    The folder opens in a browser from disk, without a server or a network: an overview, a page for every layer, concept
    and class, each with an address of its own (``index.html#/LAYER/CONCEPT``), and a search. Two builds differ in
    one line, which tells date, time and size.

    Parameters
    ----------
    atlas : ConceptAtlas
    dataset : map-style dataset
        The one that the atlas was made from.
    path : str or Path
        The folder to make. It has this name only when it is whole.
    attribution : CondAttribution
        Of the model that the atlas was made from.
    composite : zennit Composite, str or None, optional
        Rules for the heatmaps; plain gradients by default. The report says whether they are those of the atlas.
    preprocess : callable or Preprocess, optional
        As in `build_atlas`.
    layers : str or several, optional
        Names, or patterns for names, of the atlas's layers; all by default.
    concept_ids : sequence of int, or dict of str to sequence of int, optional
        These concepts only, of every layer or by layer; a dictionary without `layers` chooses its layers too.
    references : int, optional
        Samples of each concept by relevance (RelMax), and as many by activation (ActMax); fewer, if the atlas has no
        more.
    conditioned_on : {"class", "prediction", "layer"}, optional
        Where the relevance of the heatmaps starts, as in `ConceptAtlas.references`.
    receptive_field : bool, optional
        Show what the strongest neuron sees of each sample.
    concepts : Concept or dict of str to Concept, optional
        As in `build_atlas`.
    links : {"correlation", "graph"} or Links, optional
        Links of concepts to those of other layers. The correlation of their relevance over the samples, if the atlas
        has a matrix; else none are shown. The edges of concept graphs, `ConceptGraph.over` at most four samples of
        each concept: a third to a half more time in all. Or any others.
    title : str, optional
        Of the report; by default model and dataset.
    picture_size : int, optional
        Pixels of the longer side of each picture, from 16 to 512.
    batch_size : int, optional
        Heatmaps that are computed at once.
    check : bool, optional
        Make sure that model and dataset are the atlas's own.
    overwrite : bool, optional
        Replace an earlier report; nothing else is ever replaced.
    verbose : bool, optional
        A progress bar, where somebody watches.

    Raises
    ------
    AtlasError
        If model or dataset are not those that the atlas was made from.
    UnknownLayerError, ConceptRangeError
        If the atlas has no such layer, or a layer no such concept.
    InputError
        If nothing is chosen, a number is out of range, `links` is another word, a sample is no image, the folder cannot
        be written or is not to be replaced, or another process is making it.

    Examples
    --------
    >>> import tempfile
    >>> import crp_kit as crp
    >>> from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
    >>> folder, data = tempfile.TemporaryDirectory(), ShapesDataset(64)
    >>> attribution, rules = crp.CondAttribution(demo_resnet()), "epsilon_plus_flat"
    >>> atlas = crp.build_atlas(attribution, data, f"{folder.name}/atlas.h5", layers="layer2.1.conv2",
    ...                         composite=rules, preprocess=demo_preprocess)
    >>> made = crp.build_report(atlas, data, f"{folder.name}/report", attribution=attribution, composite=rules,
    ...                         preprocess=demo_preprocess, concept_ids=[24, 19], references=2)
    >>> made.concepts, made.index.name
    (2, 'index.html')
    >>> atlas.close(), folder.cleanup()
    (None, None)
    """
    began, target = time.monotonic(), Path(path)
    check_integer("references", references, low=1, high=1 << 20)
    check_integer("picture_size", picture_size, low=16, high=512)
    check_integer("batch_size", batch_size, low=1, high=1 << 20)
    if not isinstance(links, Links) and links not in get_args(LinkKind):
        raise InputError(f"links is 'correlation', 'graph' or Links; got {links!r}")
    check_folder(target, overwrite=overwrite)
    chosen = choose(atlas, layers, concept_ids)
    source = SampleSource(
        atlas,
        dataset,
        attribution=attribution,
        composite=composite,
        preprocess=preprocess,
        concepts=concepts,
        conditioned_on=conditioned_on,
        references=min(references, atlas.header.k),
        receptive_field=receptive_field,
        batch_size=batch_size,
        size=picture_size,
        check=check,
    )
    count = sum(map(len, chosen.values()))
    with made_whole(target, overwrite=overwrite) as folder:
        if isinstance(links, Links):
            found: Links | None = links
        elif links == "graph":
            found = concept_graph_links(source, chosen, verbose=verbose)
        else:
            found = co_relevance(atlas, chosen)
        bar = tqdm(total=count, desc="report", unit="concept", disable=None if verbose else True)
        with Interrupts() as interrupts, bar:
            writer = Writer(Site(folder), chosen, source, found or _UNLINKED[str(links)], bar, interrupts)
            writer.layers()
            writer.classes()
            writer.index(title or f"{atlas.header.model} on {atlas.header.dataset}")
            files, size = writer.page(began)
    return BuiltReport(target, count, files, size, time.monotonic() - began)
