"""A static site of an atlas: pages of its layers, concepts and classes, opened from disk without a server."""

from .build import BuiltReport, ReportOptions, build_report
from .links import Link, Links, co_relevance

__all__ = ["BuiltReport", "Link", "Links", "ReportOptions", "build_report", "co_relevance"]
