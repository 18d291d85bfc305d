"""Analyses of an attribution, for tests that vary one setting of a study at a time."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import crp_kit as crp
from crp_kit.atlas.query.references import References
from crp_kit.views.report import BuiltReport, ReportOptions

_BOUND = ("composite", "preprocess", "concepts", "classes", "origin")
"""What a study binds."""


def study_of(attribution: crp.CondAttribution, data: Any, options: dict[str, Any]) -> crp.Study:
    """Return a study, and take what it binds out of the options; without rules: plain gradients."""
    bound = {name: options.pop(name) for name in _BOUND if name in options}
    return crp.Study(attribution, data, **{"composite": None, **bound})


def atlas_of(attribution: crp.CondAttribution, data: Any, path: Any, **options: Any) -> crp.ConceptAtlas:
    """Build an atlas; all settings by name."""
    study = study_of(attribution, data, options)
    rare = {field.name: options.pop(field.name) for field in fields(crp.BuildOptions) if field.name in options}
    return study.build_atlas(path, options=crp.BuildOptions(**rare), **options)


def references_of(atlas: crp.ConceptAtlas, data: Any, layer: str, concept: int, **options: Any) -> References:
    """Return reference samples; `attribution` is one of the options."""
    study = study_of(options.pop("attribution"), data, options)
    return study.references(atlas, layer, concept, **options)


def report_of(atlas: crp.ConceptAtlas, data: Any, path: Any, **options: Any) -> BuiltReport:
    """Make a report; `attribution` is one of the options."""
    study = study_of(options.pop("attribution"), data, options)
    rare = {field.name: options.pop(field.name) for field in fields(ReportOptions) if field.name in options}
    return study.report(atlas, path, options=ReportOptions(**rare), **options)


def virelay_of(atlas: crp.ConceptAtlas, data: Any, folder: Any, **options: Any) -> Path:
    """Export to ViRelAy; `attribution` is one of the options."""
    return study_of(options.pop("attribution"), data, options).export_virelay(atlas, folder, **options)


def region_map_of(
    attribution: crp.CondAttribution, sample: Any, layer: str, *, image: Any = None, **options: Any
) -> crp.RegionMap:
    """Return the region map of a model input; `image` is what is drawn, before preprocessing."""
    if image is None:
        return study_of(attribution, None, options).region_map(sample, layer, **options)
    study = study_of(attribution, None, {**options, "preprocess": lambda _: sample})
    options = {name: value for name, value in options.items() if name not in _BOUND}
    batch = study.subject.images(image)
    return study.region_map(batch if len(batch.shape) == len(sample.shape) else batch[None], layer, **options)


def concept_graph_of(
    attribution: crp.CondAttribution, inputs: Any, composite: Any = None, **options: Any
) -> crp.ConceptGraph:
    """Return the concept graph of a model input, or the mean one of several."""
    return study_of(attribution, None, options | {"composite": composite}).concept_graph(
        inputs, **{name: value for name, value in options.items() if name not in _BOUND}
    )
