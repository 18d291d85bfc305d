"""Data of the overview, and of every page: what the atlas and the report were made from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ...atlas.file.activation_notes import activation_note
from ...atlas.query.atlas_start import start_words
from ...targets.text import target_words
from ..image import colour_table
from ..look import Look
from .class_page import CLASSES_PER_FILE
from .context import ReportContext
from .covers import COVER
from .links import Links
from .sample_page import SAMPLES_PER_FILE
from .samples import SampleSource
from .sprite_sheets import SpriteSheet

if TYPE_CHECKING:
    from ...atlas import ConceptAtlas

__all__ = ["about", "overview_data"]

_START = {
    "class": "the class that is named below each image",
    "prediction": "the predicted class, which is named below each image",
    "layer": "the concept's own activation, whether the model used it or not",
}
_CHANGED = (
    "Images have values outside of [0, 1], or channels that are neither one nor three: each is shown scaled from its "
    "lowest value to its highest, as the mean of such channels."
)
_LABELS = {
    "model": "Model",
    "model_sha256": "Weights (SHA-256)",
    "dataset": "Dataset",
    "dataset_sha256": "Dataset fingerprint (SHA-256)",
    "subset": "Subset",
    "n_samples": "Samples",
    "n_classes": "Classes",
    "target": "Relevance starts from",
    "abs_norm": "Scores are shares of their sample",
    "aggregate": "Values of a concept are joined by",
    "k": "Samples in a ranking",
    "k_class": "Samples in a ranking by class",
    "matrix": "Scores of every sample kept",
    "matrix_dtype": "These scores are kept as",
    "batch_size": "Batch size",
    "dtype": "Input type",
    "created": "Atlas created",
    "crp_kit_version": "crp-kit that made the atlas",
    "command": "Command",
    "complete": "Complete",
    "encoding-type": "Format",
    "encoding-version": "Format version",
    "checksum": "Checksum of the attributes",
}
"""Labels of the attributes of an atlas, in the order of the table; other attributes follow under their own names."""


def about(report: ReportContext) -> dict[str, Any]:
    """Return the data that every page reads: layers, classes, geometry of the pictures, and texts."""
    atlas, source = report.atlas, report.source
    links = report.links if isinstance(report.links, Links) else None
    return {
        "title": report.title,
        "layers": [_layer(report, name) for name in report.chosen],
        "classes": list(atlas.classes) if atlas.has_classes else [],
        "counts": _class_counts(report),
        "graphs": report.graphs,
        "classesPerFile": CLASSES_PER_FILE,
        "shown": list(report.shown),
        "samplesPerFile": SAMPLES_PER_FILE,
        "cell": SpriteSheet.measures(source.size),
        "cover": SpriteSheet.measures(COVER),
        "share": atlas.header.abs_norm,
        "start": _start(source),
        "target": _target(atlas),
        "field": source.receptive_field,
        "look": _look(source.look),
        "outlined": source.outlined,
        "similar": next(iter(report.facts.values())).similarity_of,
        "linked": links is not None,
        "links": report.links if links is None else links.meaning,
        "linkShares": links is not None and links.shares,
    }


def _start(source: SampleSource) -> str:
    """Return what the heatmaps of concepts start from, in words."""
    target = _target(source.atlas)
    if source.conditioned_on == "class" and target is not None:
        return target
    if source.conditioned_on == "prediction" and not source.atlas.has_classes:
        return "the predicted class"
    return _START[source.conditioned_on]


def _target(atlas: ConceptAtlas) -> str | None:
    """Return what relevance of all samples started from, in words; None where each started from a class of its own."""
    words = start_words(atlas)
    return words or (None if atlas.has_classes else target_words(atlas.header.target, atlas.classes))


def overview_data(report: ReportContext) -> Iterator[tuple[str, Any]]:
    """Yield the variables of the overview."""
    yield from about(report).items()
    yield "ids", {name: len(ids) for name, ids in report.chosen.items()}
    yield "concepts", sum(map(len, report.chosen.values()))
    yield "samples", len(report.atlas.samples)
    yield "occurring", _occurring(report)
    yield "references", report.source.references
    yield "same_rules", report.source.same_rules
    yield "provenance", _provenance(report.atlas)
    yield "rules", _rules(report.atlas)
    yield "skipped", sorted(report.atlas.skipped.items())


def _look(look: Look) -> dict[str, Any]:
    """Return the style of heatmaps, what the strongest colour stands for, and the colours from negative to positive."""
    ramp = ["#{:02x}{:02x}{:02x}".format(*one) for one in colour_table(look.cmap)[::16].tolist()]
    return {"style": look.style, "scale": look.scale_words, "ramp": ramp}


def _layer(report: ReportContext, name: str) -> dict[str, Any]:
    """Return the data of a layer that every page reads."""
    info, ids = report.atlas[name].info, report.chosen[name]
    return {
        "name": name,
        "concept": info.concept,
        "size": info.n_concepts,
        "shape": list(info.output_shape),
        "ids": list(ids) if len(ids) < info.n_concepts else None,
        "remark": _remark(report, name),
        "names": {str(concept): text for concept, text in report.names[name].items()},
    }


def _remark(report: ReportContext, layer: str) -> str | None:
    """Return what a reader has to know of the pictures and rankings of a layer."""
    source, note = report.source, activation_note(report.atlas[layer].info)
    changed = _CHANGED if layer in source.changed_images else None
    return " ".join(filter(None, [source.remarks.get(layer), changed, f"{note}." if note else None])) or None


def _class_counts(report: ReportContext) -> list[int]:
    """Return the number of samples that relevance started from each class in."""
    counts: list[int] = next(iter(report.facts.values())).counts.tolist()
    return counts if report.atlas.has_classes else []


def _occurring(report: ReportContext) -> list[tuple[int, str, int]]:
    """Return number, name and count of the classes that have samples, those with the most samples first."""
    counts = _class_counts(report)
    order = sorted((cls for cls, count in enumerate(counts) if count), key=lambda cls: -counts[cls])
    return [(cls, report.atlas.classes[cls], counts[cls]) for cls in order]


def _provenance(atlas: ConceptAtlas) -> list[tuple[str, str]]:
    """Return the labels and values of all attributes of an atlas but its rules."""
    values = {name: _text(value) for name, value in atlas.metadata.items() if name != "composite"}
    values["target"] = target_words(values.get("target", ""), atlas.classes)
    order = [*(name for name in _LABELS if name in values), *sorted(name for name in values if name not in _LABELS)]
    return [(_LABELS.get(name, name), values[name]) for name in order if values[name]]


def _text(value: Any) -> str:
    """Return an attribute as text."""
    scalar = value.item() if hasattr(value, "item") and getattr(value, "size", 1) == 1 else value
    if isinstance(scalar, bool):
        return "yes" if scalar else "no"
    return f"{scalar:,}" if isinstance(scalar, int) else str(scalar)


def _rules(atlas: ConceptAtlas) -> list[tuple[str, list[str]]]:
    """Return the rules that an atlas was made with, and the nodes of each."""
    try:
        table = json.loads(atlas.header.composite)
    except ValueError:
        return [(atlas.header.composite, [])]
    if not isinstance(table, Mapping):
        return [(atlas.header.composite, [])]
    return [(str(rule), [str(node) for node in nodes]) for rule, nodes in table.items()]
