"""README and the Markdown pages of the tutorials: code and commands run, tables are tables, links lead to files."""

from __future__ import annotations

import re
import runpy
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest
from command_line import invoke
from PIL import Image
from processes import run_script
from test_imports import MODULES, PACKAGE, PARTS, module_of, part_of

import crp_kit as crp
from crp_kit.cli import main
from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "tutorials").glob("*.md"))]
ARCHITECTURE = ROOT / "tutorials" / "architecture.md"
API = ROOT / "scripts" / "make_api"
FIGURES = ROOT / "scripts" / "make_readme_figures"
LARGEST_README = 6000
"""Bytes."""
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)\n\n(\S?)")
"""Alternative text, file, and how the paragraph below it begins."""
_EMBEDDING = """
def images():
    return lambda images: [image.mean((1, 2)).tolist() for image in images]

def words():
    vectors = {"red": [1, 0, 0], "green": [0, 1, 0], "blue": [0, 0, 1]}
    return lambda words: [vectors[word] for word in words]
"""
_LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")


def blocks(page: Path, language: str) -> list[str]:
    return [body for name, body in _BLOCK.findall(page.read_text(encoding="utf-8")) if name == language]


def prose(page: Path) -> str:
    return _BLOCK.sub("", page.read_text(encoding="utf-8"))


def file_name(path: Path) -> str:
    return path.name


def commands(page: Path) -> list[list[str]]:
    """Return the arguments of each crp-kit command that a page shows, whatever starts it."""
    lines = "".join(blocks(page, "bash")).replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    return [line[_start(line) + 1 :] for line in words if {"crp-kit", "crp_kit"} & set(line)]


def _start(line: list[str]) -> int:
    return next(index for index, word in enumerate(line) if word in ("crp-kit", "crp_kit"))


def test_the_readme_is_short() -> None:
    assert README.stat().st_size < LARGEST_README


def test_there_are_pages_with_code_and_with_commands() -> None:
    for language in ("python", "bash"):
        assert sum(bool(blocks(page, language)) for page in PAGES) > 2


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=file_name)
def test_code_of_a_page_runs_from_top_to_bottom(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for number, code in enumerate(blocks(page, "python")):
        exec(compile(code, f"{page.name}, block {number}", "exec"), names)  # the page's own code


def leaf(arguments: list[str]) -> tuple[click.Command, list[str]]:
    """Return the command that a line of the command line reaches, and the arguments that are left for it."""
    command: click.Command = main
    while isinstance(command, click.Group):
        name, *arguments = arguments
        assert name in command.commands, name
        command = command.commands[name]
    return command, arguments


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=file_name)
def test_commands_and_options_that_a_page_shows_exist(page: Path) -> None:
    for arguments in commands(page):
        command, left = leaf(arguments)
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in left if word.startswith("-")} <= known, arguments


@pytest.fixture(scope="module")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `crp-kit demo -o my-demo` seems to have run: images, a small atlas; an embedding."""
    folder = tmp_path_factory.mktemp("commands")
    (folder / "clip.py").write_text(_EMBEDDING)
    (folder / "words.txt").write_text("red\ngreen\nblue\n")
    (folder / "my-demo").mkdir()
    data = ShapesDataset(16, split="test")
    Image.fromarray((data[0][0] * 255).byte().permute(1, 2, 0).numpy()).save(folder / "my-demo" / "image-0.png")
    study = crp.Study(demo_resnet(), data, preprocess=demo_preprocess)
    study.build_atlas(folder / "my-demo" / "atlas.h5", layers="layer2.1.conv2", verbose=False).close()
    return folder


def runs_here(arguments: list[str]) -> bool:
    """Return whether a command needs neither a download nor a long time."""
    needs = {"DEFAULT", "imagefolder:val"} | {word for word in arguments if "*-of-" in word}
    return arguments[0] not in ("demo", "report") and not needs & set(arguments)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=file_name)
def test_commands_of_a_page_run_in_the_order_given(
    page: Path, demo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(demo_folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    lines = [arguments for arguments in commands(page) if runs_here(arguments)]
    assert len(lines) >= 3
    for arguments in lines:
        result = invoke(*arguments)
        assert result.exit_code == 0, (arguments, result.output, result.exception)


@pytest.mark.parametrize("page", PAGES, ids=file_name)
def test_rows_of_a_table_have_as_many_cells_as_its_head(page: Path) -> None:
    width = 0
    for line in prose(page).splitlines():
        cells = len(re.findall(r"(?<!\\)\|", line)) - 1 if line.startswith("|") else 0
        assert not width or not cells or cells == width, line
        width = cells


@pytest.mark.parametrize("page", PAGES, ids=file_name)
def test_links_to_files_lead_to_existing_files(page: Path) -> None:
    links = _LINK.findall(prose(page))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing


def test_every_page_and_notebook_is_linked_from_the_readme() -> None:
    links = set(_LINK.findall(prose(README)))
    files = [path for path in (ROOT / "tutorials").iterdir() if path.suffix in (".md", ".ipynb")]
    assert {path.relative_to(ROOT).as_posix() for path in files} <= links


def test_every_picture_is_shown_once_with_a_description_and_a_caption_and_comes_from_a_script() -> None:
    shown = [(page, *match) for page in PAGES for match in _PICTURE.findall(page.read_text(encoding="utf-8"))]
    assert len([page for page, *_ in shown if page == README]) == 1
    assert all(len(description) > 40 and below == "*" for _, description, _, below in shown)
    script = runpy.run_path(str(FIGURES))
    measured = ROOT / "tutorials" / "images" / "benchmark.png"
    files = [(page.parent / file).resolve() for page, _, file, _ in shown]
    assert sorted(files) == sorted([measured, *(script["FOLDER"] / name for name in script["PICTURES"])])
    for file in files:
        assert file.stat().st_size <= script["LARGEST"]
        with Image.open(file) as picture:
            picture.verify()
            assert picture.format == "PNG"


def test_the_api_page_is_the_one_that_the_docstrings_give() -> None:
    assert (ROOT / "tutorials" / "api.md").read_text(encoding="utf-8") == runpy.run_path(str(API))["page"](), (
        "run scripts/make_api"
    )


def test_the_api_page_has_every_public_name() -> None:
    titles = re.findall(r"^### crp_kit\.(\w+)$", (ROOT / "tutorials" / "api.md").read_text(), re.MULTILINE)
    modules = {name for name in crp.__all__ if isinstance(getattr(crp, name), ModuleType)}
    assert set(titles) == set(crp.__all__) - modules - {"__version__"}


def folders_of_the_table() -> Iterator[str]:
    """Yield the folders that the table of the architecture names in its second column, from top to bottom."""
    table = ARCHITECTURE.read_text(encoding="utf-8").partition("## Folders")[2].partition("\n## ")[0]
    for line in table.splitlines():
        if line.startswith("|"):
            yield from re.findall(r"`([\w/]+)/`", line.split("|")[2])


def test_the_architecture_names_every_folder_of_the_package_and_no_other() -> None:
    assert sorted(folders_of_the_table()) == sorted({module_of(path.parent / "__init__.py") for path in MODULES} - {""})


def test_the_architecture_lists_folders_in_the_order_of_imports() -> None:
    rows = [PARTS[part_of(folder)] for folder in folders_of_the_table() if folder in PARTS]
    assert rows == sorted(rows, reverse=True)


def test_files_and_folders_that_the_architecture_mentions_exist() -> None:
    names = re.findall(r"`((?:\w+/)+(?:\w+\.\w+)?|\w+\.py)`", ARCHITECTURE.read_text(encoding="utf-8"))
    assert len(names) > 30
    missing = [name for name in names if not (PACKAGE / name).exists() and not (ROOT / name).exists()]
    assert not missing


@pytest.mark.slow
def test_the_script_of_the_pictures_fails_in_one_line_without_a_browser(tmp_path: Path) -> None:
    nowhere = {"PATH": str(tmp_path), "PLAYWRIGHT_BROWSERS_PATH": str(tmp_path / "none")}
    ran = run_script(FIGURES, "-o", tmp_path / "made", environment=nowhere)
    assert ran.returncode == 1
    assert ran.stderr.startswith("make_readme_figures: error: no Chromium starts")
    assert ran.stderr.count("\n") == 1
    assert not (tmp_path / "made").exists()
