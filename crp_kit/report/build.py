"""Making a report: what is shown of an atlas, in chunks that a browser loads when they are looked at."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from ..atlas.schema import KINDS
from ..atlas.workplace import Interrupts
from ..errors import InputError
from .choice import Chosen, choose
from .facts import ALL_CLASSES, LayerFacts, layer_facts, plain
from .folder import Site, check_folder, made_whole
from .links import Link, Links, co_relevance
from .overview import ASSETS, asset, built_line, provenance, render_index, rules_of
from .samples import SampleSource, Shown
from .sprites import Sheet, thumbnail

if TYPE_CHECKING:
    from ..atlas import ConceptAtlas
    from ..atlas.collect import Normalise
    from ..atlas.references import ConditionedOn
    from ..attribution import CondAttribution
    from ..concepts import Concept
    from ..preprocess import Preprocess
    from ..rules.presets import Composite

__all__ = ["BuiltReport", "build_report"]

_CELLS = 256
"""Pictures on one sheet, at most, where one concept does not have more."""
_COVER = 64
_CLASSES_AT_ONCE = 64
_START = {
    "class": "the class for which the sample stands in the ranking",
    "prediction": "the predicted class",
    "layer": "the concept's own activation, whether the model used it or not",
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
    links: Links | None = None,
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
    links : Links, optional
        Links of concepts to those of other layers. By default the correlation of their relevance over the samples, if
        the atlas has a matrix; else none are shown.
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
        If nothing is chosen, a number is out of range, a sample is no image, or the folder cannot be written or is not
        to be replaced.

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
    _check_number("references", references, (1, 1 << 20))
    _check_number("picture_size", picture_size, (16, 512))
    _check_number("batch_size", batch_size, (1, 1 << 20))
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
    bar = tqdm(total=count, desc="report", unit="concept", disable=None if verbose else True)
    with made_whole(target, overwrite=overwrite) as folder, Interrupts() as interrupts, bar:
        writer = _Writer(Site(folder), chosen, source, links or co_relevance(atlas, chosen), bar, interrupts)
        writer.layers()
        writer.classes()
        writer.index(title or f"{atlas.header.model} on {atlas.header.dataset}")
        files, size = writer.page(began)
    return BuiltReport(target, count, files, size, time.monotonic() - began)


def _check_number(name: str, value: Any, bounds: tuple[int, int]) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not bounds[0] <= value <= bounds[1]:
        raise InputError(f"{name} is a whole number from {bounds[0]} to {bounds[1]:,}; got {value!r}")


@dataclass(eq=False)
class _Writer:
    """Writes the files of one report."""

    site: Site
    chosen: Chosen
    source: SampleSource
    links: Links | None
    bar: tqdm[Any]
    interrupts: Interrupts
    facts: list[LayerFacts] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def atlas(self) -> ConceptAtlas:
        return self.source.atlas

    @property
    def per_sheet(self) -> int:
        """Concepts whose pictures share a sheet, and whose data share a script."""
        return max(1, _CELLS // (self.source.references * len(KINDS) * (3 if self.source.receptive_field else 2)))

    def layers(self) -> None:
        """Write the table of every layer, and the pages of its concepts."""
        for number, (name, ids) in enumerate(self.chosen.items()):
            facts = layer_facts(self.atlas, name, ids)
            self.facts.append(facts)
            covers = _Covers(self.site, number)
            for place in range(0, len(ids), self.per_sheet):
                self._concepts((number, name), facts, ids[place : place + self.per_sheet], covers)
            covers.close()
            self.site.script(
                f"layer-{number}",
                {"table": facts.table(), "per": self.per_sheet, "covers": covers.cells, "sheets": covers.sheets},
            )

    def _concepts(self, layer: tuple[int, str], facts: LayerFacts, ids: Sequence[int], covers: _Covers) -> None:
        """Write the pages of the concepts of one sheet."""
        if self.interrupts.noted is not None:
            self.interrupts.end("interrupted; no report was written")
        number, name = layer
        file = f"layer-{number}-{facts.ids.index(ids[0]) // self.per_sheet}"
        found = self.source.of(name, ids)
        sheet, pages = Sheet(self.source.size), []
        for concept in ids:
            ranked = {kind: [_entry(sheet, one, concept) for one in found[concept, kind]] for kind in KINDS}
            up, down = ((), ()) if self.links is None else self.links.of(name, concept)
            pages.append(
                {
                    "concept": concept,
                    "moments": facts.moments(concept),
                    "references": ranked,
                    "histogram": facts.histogram(concept),
                    "similar": facts.similar(concept),
                    "up": [self._link(one) for one in up],
                    "down": [self._link(one) for one in down],
                }
            )
            covers.add(next(iter(found[concept, "relevance"]), None))
            self.bar.update()
        sheet.save(self.site.picture(file))
        self.site.script(file, {"sheet": [f"{file}.webp", *sheet.geometry], "concepts": pages})

    def _link(self, link: Link) -> list[Any]:
        """Return a link as data: place of the layer in the report or -1, its name, concept, weight."""
        place = list(self.chosen).index(link.layer) if link.concept in self.chosen.get(link.layer, ()) else -1
        return [place, link.layer, link.concept, plain(link.weight)]

    def classes(self) -> None:
        """Write the pages of the classes."""
        count = self.atlas.header.n_classes
        for part, start in enumerate(range(0, count, _CLASSES_AT_ONCE)):
            numbers = range(start, min(start + _CLASSES_AT_ONCE, count))
            self.site.script(f"classes-{part}", [[one.concepts_of(cls) for one in self.facts] for cls in numbers])

    def index(self, title: str) -> None:
        """Write what every page needs."""
        atlas, source = self.atlas, self.source
        infos = [(name, atlas[name].info, ids) for name, ids in self.chosen.items()]
        self.about = {
            "title": title,
            "layers": [
                {
                    "name": name,
                    "concept": info.concept,
                    "size": info.n_concepts,
                    "shape": list(info.output_shape),
                    "ids": list(ids) if len(ids) < info.n_concepts else None,
                    "remark": source.remarks.get(name),
                }
                for name, info, ids in infos
            ],
            "classes": list(atlas.classes),
            "counts": self.facts[0].counts.tolist(),
            "classesPerFile": _CLASSES_AT_ONCE,
            "cell": Sheet.measures(source.size),
            "cover": Sheet.measures(_COVER),
            "share": atlas.header.abs_norm,
            "start": _START[source.conditioned_on],
            "field": source.receptive_field,
            "similar": "relevance in every sample" if atlas.header.matrix else "mean relevance by class",
            "links": None if self.links is None else self.links.said,
        }
        self.site.script("report", self.about)

    def page(self, began: float) -> tuple[int, int]:
        """Write the page itself and what it is made of; return the number of files and their bytes."""
        for name in ASSETS:
            (self.site.folder / name).write_text(asset(name), encoding="utf-8")
        held = sum(1 for one in self.facts[0].counts if one > 0)
        values = {
            **self.about,
            "concepts": sum(map(len, self.chosen.values())),
            "samples": len(self.atlas.samples),
            "held": held,
            "references": self.source.references,
            "same_rules": self.source.same_rules,
            "provenance": provenance(self.atlas),
            "rules": rules_of(self.atlas),
            "skipped": sorted(self.atlas.skipped.items()),
            "all_classes": ALL_CLASSES,
            "ids": {name: len(ids) for name, ids in self.chosen.items()},
        }
        index = self.site.folder / "index.html"
        date = dt.datetime.now(dt.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
        seconds = time.monotonic() - began
        index.write_text(render_index(**values, built=""), encoding="utf-8")
        line = built_line(date, seconds, self.site.measure())
        index.write_text(render_index(**values, built=line), encoding="utf-8")
        return self.site.measure()


def _entry(sheet: Sheet, shown: Shown, concept: int) -> list[Any]:
    """Return a reference sample as data: name, class, score, and the cells of its pictures, -1 for none."""
    image = sheet.cell((shown.sample,), shown.image)
    heatmap = sheet.cell((shown.sample, concept, shown.label), shown.heatmap)
    crop = -1 if shown.crop is None else sheet.cell((shown.sample, shown.box), shown.crop)
    return [shown.name, shown.label, plain(shown.score), [image, heatmap, crop]]


@dataclass(eq=False)
class _Covers:
    """One small picture of each concept of a layer, for tables."""

    site: Site
    number: int
    cells: list[int] = field(default_factory=list)
    sheets: list[list[Any]] = field(default_factory=list)
    _sheet: Sheet = field(default_factory=lambda: Sheet(_COVER))

    def add(self, shown: Shown | None) -> None:
        """Add the next concept's; a cell's number is that of its sheet times `_CELLS` and its place there."""
        if shown is None:
            self.cells.append(-1)
            return
        picture = shown.image if shown.crop is None else shown.crop
        key = len(self.cells)
        self.cells.append(len(self.sheets) * _CELLS + self._sheet.cell(key, thumbnail(picture, _COVER)))
        if len(self._sheet) == _CELLS:
            self.close()

    def close(self) -> None:
        """Write what is there."""
        if len(self._sheet):
            file = f"covers-{self.number}-{len(self.sheets)}"
            self._sheet.save(self.site.picture(file))
            self.sheets.append([f"{file}.webp", *self._sheet.geometry])
            self._sheet = Sheet(_COVER)
