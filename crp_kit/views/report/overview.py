"""The page itself: what the atlas and the report were made from, in words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any

import jinja2

from ...version import __version__

if TYPE_CHECKING:
    from ...atlas import ConceptAtlas

__all__ = ["ASSETS", "asset", "built_line", "provenance", "render_index", "rules_of"]

ASSETS = ("report.css", "report.js")

_WORDS = {
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
"""Attributes of an atlas in the order in which they are told."""


def asset(name: str) -> str:
    """Return the text of a file of the site."""
    return (resources.files(__package__) / "site" / name).read_text(encoding="utf-8")


def provenance(atlas: ConceptAtlas) -> list[tuple[str, str]]:
    """Return everything that an atlas says of itself but its rules, in words."""
    said = {name: value for name, value in atlas.attributes.items() if name != "composite"}
    order = [*(name for name in _WORDS if name in said), *sorted(name for name in said if name not in _WORDS)]
    return [(_WORDS.get(name, name), _value(said[name])) for name in order if _value(said[name])]


def _value(value: Any) -> str:
    plain = value.item() if hasattr(value, "item") and getattr(value, "size", 1) == 1 else value
    if isinstance(plain, bool):
        return "yes" if plain else "no"
    return f"{plain:,}" if isinstance(plain, int) else str(plain)


def rules_of(atlas: ConceptAtlas) -> list[tuple[str, list[str]]]:
    """Return the rules that an atlas was made with, and the nodes that had each."""
    try:
        table = json.loads(atlas.header.composite)
    except ValueError:
        return [(atlas.header.composite, [])]
    if not isinstance(table, Mapping):
        return [(atlas.header.composite, [])]
    return [(str(rule), [str(node) for node in nodes]) for rule, nodes in table.items()]


def built_line(date: str, seconds: float, measured: tuple[int, int]) -> str:
    """Return the one line that differs between two builds: when, how long, how large."""
    files, size = measured
    return (
        f"Report built {date} by crp-kit {__version__} in {seconds:,.0f} seconds; {files:,} files, {size / 1e6:,.1f} MB"
    )


def render_index(**values: Any) -> str:
    """Return the page, every text in it escaped."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
                                     lstrip_blocks=True, keep_trailing_newline=True)  # fmt: skip
    return environment.from_string(asset("index.html")).render(**values)
