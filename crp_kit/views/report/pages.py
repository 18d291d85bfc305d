"""Pages of a report: one table, in which each has its data function and its template."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any, TypeAlias

from ...errors import InputError
from .class_page import class_data
from .concept_page import concept_data
from .context import ReportContext
from .graph_page import graph_data
from .layer_page import layer_data, served_data
from .overview import overview_data
from .sample_page import sample_data

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

__all__ = ["SITE", "Page", "PageData", "pages", "register_page", "unregister_page"]

SITE = resources.files(__package__) / "site"
PageData: TypeAlias = Callable[[ReportContext], Iterable[tuple[str, Any]]]


@dataclass(frozen=True)
class Page:
    """A page of the report, or all pages of one sort, such as those of concepts.

    Parameters
    ----------
    name : str
        First part of its address, ``index.html#NAME``: lower-case letters, digits and hyphens.
    data : callable
        From the `ReportContext` to pairs of a name and a value that JSON can hold. For a ``.js`` template each pair
        becomes a file, which the page reads by ``await crpKit.load(name)``; for an ``.html`` template, a variable.
    template : Path or Traversable
        An ``.html`` file is a Jinja template with one ``<article id="NAME">``, rendered into ``index.html``. A ``.js``
        file calls ``crpKit.page(NAME, {read, view})``: `read` returns the parameters in the parts of an address, and
        `view` the title and the elements of the page with these; or ``crpKit.article(NAME, fill)``, which adds to an
        article: `fill` is called whenever that is shown.
    title : str, optional
        Link in the navigation; without one, only other pages lead there.
    """

    name: str
    data: PageData
    template: Traversable
    title: str = ""

    @property
    def is_script(self) -> bool:
        """Whether the template is a script, and not HTML."""
        return self.template.name.endswith(".js")


_PAGES: dict[str, Page] = {
    page.name: page
    for page in (
        Page("concept", concept_data, SITE / "concept.js"),
        Page("layer", layer_data, SITE / "layer.js"),
        Page("concepts", served_data, SITE / "concepts.js"),
        Page("class", class_data, SITE / "class.js"),
        Page("graph", graph_data, SITE / "graph.js"),
        Page("sample", sample_data, SITE / "sample.js"),
        Page("overview", overview_data, SITE / "overview.html"),
    )
}
"""By name, in the order in which their data are computed."""


def pages() -> tuple[Page, ...]:
    """Return all pages, in the order in which their data are computed."""
    return tuple(_PAGES.values())


def register_page(page: Page) -> None:
    """Add a page to all reports that are made from now on.

    Parameters
    ----------
    page : Page

    Raises
    ------
    InputError
        If the name is no name or is taken, or the template is neither ``.html`` nor ``.js``.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> folder = tempfile.TemporaryDirectory()
    >>> template = Path(folder.name) / "samples.html"
    >>> _ = template.write_text('<article id="samples"><h1>Samples</h1><p>{{ count }} of them.</p></article>')
    >>> register_page(Page("samples", lambda report: [("count", len(report.atlas.samples))], template, title="Samples"))
    >>> [page.name for page in pages()]
    ['concept', 'layer', 'concepts', 'class', 'graph', 'sample', 'overview', 'samples']
    >>> unregister_page("samples")
    >>> folder.cleanup()
    """
    if not re.fullmatch(r"[a-z][a-z0-9-]*", page.name):
        raise InputError(f"the name of a page has lower-case letters, digits and hyphens; got {page.name!r}")
    if page.name in _PAGES:
        raise InputError(f"the report has a page {page.name!r} already; choose another name")
    if not page.template.name.endswith((".html", ".js")):
        raise InputError(f"the template of a page is an .html or a .js file; got {page.template.name!r}")
    _PAGES[page.name] = page


def unregister_page(name: str) -> None:
    """Take a page out of the reports that are made from now on.

    Parameters
    ----------
    name : str

    Raises
    ------
    InputError
        If there is no such page.
    """
    if name not in _PAGES:
        raise InputError(f"the report has no page {name!r}; it has {', '.join(_PAGES)}")
    del _PAGES[name]
