"""The Markdown pages of the tutorials: their code runs, their tables are tables, their links lead somewhere."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "tutorials").glob("*.md"))
FIGURES = ROOT / "scripts" / "make_readme_figures"
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)\n\n(\S?)")
"""Words for who does not see it, file, and how what stands below it begins."""
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
def test_links_to_files_lead_to_existing_files(page: Path) -> None:
    links = _LINK.findall(_BLOCK.sub("", page.read_text(encoding="utf-8")))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing


def test_pictures_of_the_readme_have_words_and_a_caption_and_come_from_scripts() -> None:
    shown = _PICTURE.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(shown) == 4
    assert all(len(words) > 40 and below == "*" for words, _, below in shown)
    made = runpy.run_path(str(FIGURES))
    measured = ROOT / "tutorials" / "images" / "benchmark.png"
    assert {ROOT / file for _, file, _ in shown} == {measured, *(made["FOLDER"] / name for name in made["PICTURES"])}
    for _, file, _ in shown:
        assert (ROOT / file).stat().st_size <= made["LARGEST"]
        with Image.open(ROOT / file) as picture:
            picture.verify()
            assert picture.format == "PNG"


def test_the_script_of_the_pictures_fails_in_one_line_without_a_browser(tmp_path: Path) -> None:
    nowhere = {"PATH": str(tmp_path), "PLAYWRIGHT_BROWSERS_PATH": str(tmp_path / "none")}
    command = [sys.executable, FIGURES, "-o", tmp_path / "made"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **nowhere})
    assert ran.returncode == 1
    assert ran.stderr.startswith("make_readme_figures: error: no Chromium starts")
    assert ran.stderr.count("\n") == 1
    assert not (tmp_path / "made").exists()
