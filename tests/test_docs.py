"""The Markdown pages of the tutorials: their code runs, their tables are tables, their links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "tutorials").glob("*.md"))
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")


def blocks(text: str, language: str) -> list[str]:
    return [body for found, body in _BLOCK.findall(text) if found == language]


def named(path: Path) -> str:
    return path.name


def test_there_are_pages_with_code() -> None:
    assert any(blocks(page.read_text(encoding="utf-8"), "python") for page in PAGES)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_code_of_a_page_runs_from_top_to_bottom(page: Path) -> None:
    known: dict[str, object] = {}
    for number, code in enumerate(blocks(page.read_text(encoding="utf-8"), "python")):
        exec(compile(code, f"{page.name}, block {number}", "exec"), known)  # the page's own code


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_rows_of_a_table_have_as_many_cells_as_its_head(page: Path) -> None:
    text = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    width = 0
    for line in text.splitlines():
        cells = len(re.findall(r"(?<!\\)\|", line)) - 1 if line.startswith("|") else 0
        assert not width or not cells or cells == width, line
        width = cells


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=named)
def test_links_to_files_lead_somewhere(page: Path) -> None:
    links = _LINK.findall(_BLOCK.sub("", page.read_text(encoding="utf-8")))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing
