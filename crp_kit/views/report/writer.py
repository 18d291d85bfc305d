"""Writing a report: the data and templates of its pages, and ``index.html``."""

from __future__ import annotations

import datetime as dt
import time
from typing import Any

import jinja2
import markupsafe

from ...version import __version__
from .context import ReportContext
from .overview import about
from .pages import SITE, Page, pages

__all__ = ["write_report"]

_ASSETS = ("report.css", "report.js", "filters.js")


def write_report(report: ReportContext, began: float) -> tuple[int, int]:
    """Write all files of a report; return their number and their bytes.

    Parameters
    ----------
    report : ReportContext
    began : float
        Value of `time.monotonic` at the start of the work.
    """
    site, table = report.site, pages()
    articles: list[tuple[Page, dict[str, Any]]] = []
    for page in table:
        values = page.data(report)
        if not page.is_script:
            articles.append((page, dict(values)))
            continue
        for name, value in values:
            site.script(name, value)
        site.write(f"pages/{page.name}.js", page.template.read_text(encoding="utf-8"))
    site.script("report", about(report))
    for asset in _ASSETS:
        site.write(asset, (SITE / asset).read_text(encoding="utf-8"))
    seconds = time.monotonic() - began
    site.write("index.html", _index(report, articles, table, built=""))
    site.list_files()
    site.write("index.html", _index(report, articles, table, built=_built_line(seconds, site.measure())))
    return site.measure()


def _index(
    report: ReportContext, articles: list[tuple[Page, dict[str, Any]]], table: tuple[Page, ...], *, built: str
) -> str:
    """Return the page that holds all others, every text in it escaped."""
    rendered = [
        markupsafe.Markup(_render(page.template.read_text(encoding="utf-8"), **values, built=built).rstrip())
        for page, values in articles
    ]
    return _render(
        (SITE / "index.html").read_text(encoding="utf-8"),
        title=report.title,
        layers=report.chosen,
        scripts=[page.name for page in table if page.is_script],
        linked=[page for page in table if page.title],
        articles=rendered,
    )


def _render(template: str, **values: Any) -> str:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
                                     lstrip_blocks=True, keep_trailing_newline=True)  # fmt: skip
    return environment.from_string(template).render(**values)


def _built_line(seconds: float, measured: tuple[int, int]) -> str:
    """Return the one line that differs between two builds: date, duration and size."""
    date = dt.datetime.now(dt.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    files, size = measured
    return (
        f"Report built {date} by crp-kit {__version__} in {seconds:,.0f} seconds; {files:,} files, {size / 1e6:,.1f} MB"
    )
