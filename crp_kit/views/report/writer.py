"""The files of a report: what is shown of an atlas, in chunks that a browser loads when they are looked at."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from ...atlas.file.schema import KINDS
from ...interrupts import Interrupts
from .choice import Chosen
from .facts import ALL_CLASSES, LayerFacts, layer_facts, plain
from .folder import Site
from .links import Link, Links
from .overview import ASSETS, asset, built_line, provenance, render_index, rules_of
from .samples import ReferenceSample, SampleSource
from .sprite_sheets import SpriteSheet, thumbnail

if TYPE_CHECKING:
    from ...atlas import ConceptAtlas

__all__ = ["Writer"]

_CELLS = 256
"""Pictures on one sheet, at most, where one concept does not have more."""
_COVER = 64
_CLASSES_AT_ONCE = 64
_START = {
    "class": "the class that is named below each image",
    "prediction": "the predicted class, which is named below each image",
    "layer": "the concept's own activation, whether the model used it or not",
}


@dataclass(eq=False)
class Writer:
    """Writes the files of one report.

    Parameters
    ----------
    site : Site
        Its folder.
    chosen : dict of str to tuple of int
        Layers in graph order, and their concepts.
    source : SampleSource
        The atlas, and pictures of its samples.
    links : Links or str
        Or why there are none.
    bar : tqdm
        Is moved on by each concept.
    interrupts : Interrupts
        Ctrl-C and SIGTERM end the work between two sheets.
    """

    site: Site
    chosen: Chosen
    source: SampleSource
    links: Links | str
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
        sheet, pages = SpriteSheet(self.source.size), []
        for concept in ids:
            ranked = {kind: [_entry(sheet, one, concept) for one in found[concept, kind]] for kind in KINDS}
            up, down = self.links.of(name, concept) if isinstance(self.links, Links) else ((), ())
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
        links = self.links if isinstance(self.links, Links) else None
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
            "cell": SpriteSheet.measures(source.size),
            "cover": SpriteSheet.measures(_COVER),
            "share": atlas.header.abs_norm,
            "start": _START[source.conditioned_on],
            "field": source.receptive_field,
            "similar": "relevance in every sample" if atlas.header.matrix else "mean relevance by class",
            "linked": links is not None,
            "links": self.links if links is None else links.said,
            "linkShares": links is not None and links.shares,
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


def _entry(sheet: SpriteSheet, shown: ReferenceSample, concept: int) -> list[Any]:
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
    _sheet: SpriteSheet = field(default_factory=lambda: SpriteSheet(_COVER))

    def add(self, shown: ReferenceSample | None) -> None:
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
            self._sheet = SpriteSheet(_COVER)
