"""A static site of an atlas: pages of its layers, concepts and classes, opened from disk without a server."""

from .build import BuiltReport, ReportOptions, build_report
from .context import ReportContext
from .links import Link, Links, co_relevance
from .pages import Page, register_page, unregister_page

__all__ = [
    "BuiltReport",
    "Link",
    "Links",
    "Page",
    "ReportContext",
    "ReportOptions",
    "build_report",
    "co_relevance",
    "register_page",
    "unregister_page",
]
