"""Imports point down the table of levels only, and ``import crp_kit`` is light."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "crp_kit"
LEVELS = {
    "version": 0, "errors": 0, "conditions": 0, "concepts": 0, "notebook": 0, "finite": 0, "precision": 0,
    "checksum": 0, "readable": 0, "weights": 0,
    "graph": 1,
    "rules": 2,
    "engine": 3, "passes": 3, "ledger": 3,
    "result": 4, "layers": 4, "slices": 4, "observation": 4, "attribution": 4, "diagnostics": 4,
    "inspection": 4,
    "concept_graph": 5, "regions": 5, "virelay": 5, "atlas": 5, "data": 5, "state": 5, "factories": 5,
    "models": 5, "preprocess": 5, "arrays": 5,
    "image": 6, "plot": 6, "report": 6, "demo": 6,
    "__init__": 6,
    "cli": 7, "__main__": 7,
}  # fmt: skip
"""Level of each part of the package."""
ALLOWED = {
    "zennit": {"rules", "image"},
    "matplotlib": {"plot"},
    "h5py": {"atlas/store"},
    "jinja2": {"report"},
    "click": {"cli"},
    "networkx": {"concept_graph"},
}
"""The only parts that may import a library."""
UPWARD = {
    ("result", "plot"), ("result", "image"), ("diagnostics", "plot"), ("atlas", "plot"), ("regions", "plot"),
    ("regions", "image"), ("concept_graph", "plot"),
}  # fmt: skip
"""A result shows itself: imported when a picture is asked for, not before."""
MODULES = sorted(PACKAGE.rglob("*.py"))


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path: Path) -> Iterator[tuple[str, str, bool]]:
    """(top-level library or "crp_kit", part of crp_kit, whether it happens at import) of each import, types apart."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    late = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], "", id(node) not in late) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((*found, id(node) not in late) for found in targets(node, path))


def targets(node: ast.ImportFrom, path: Path) -> Iterator[tuple[str, str]]:
    module = (node.module or "").split(".") if node.module else []
    if node.level == 0 and module[0] != "crp_kit":
        yield module[0], ""
        return
    package = [PACKAGE.name, *path.relative_to(PACKAGE).parent.parts]
    whole = [*package[: len(package) - node.level + 1], *module] if node.level else module
    for alias in node.names:
        reached = [*whole, alias.name]
        part = reached[1] if len(reached) > 1 else "__init__"
        yield "crp_kit", part if part in LEVELS else "__init__"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
class TestEachModule:
    def test_has_a_level(self, path: Path) -> None:
        assert part_of(path) in LEVELS

    def test_imports_only_what_is_below_it(self, path: Path) -> None:
        part = part_of(path)
        for library, reached, at_import in imports(path):
            if library != "crp_kit" or reached == part or ((part, reached) in UPWARD and not at_import):
                continue
            assert LEVELS[reached] <= LEVELS[part], f"{part} imports {reached}"

    def test_imports_only_the_libraries_it_may(self, path: Path) -> None:
        for library, _, _ in imports(path):
            if library in ALLOWED:
                place = path.relative_to(PACKAGE).with_suffix("").as_posix()
                assert any(place == one or place.startswith(f"{one}/") for one in ALLOWED[library]), library


def test_the_graph_of_parts_has_no_cycles() -> None:
    edges = {
        (part_of(path), reached)
        for path in MODULES
        for library, reached, at_import in imports(path)
        if library == "crp_kit" and at_import and reached != part_of(path)
    }
    left = set(LEVELS)
    while left:
        free = {part for part in left if not any((part, other) in edges for other in left)}
        assert free, f"a cycle among {sorted(left)}"
        left -= free


def test_importing_crp_kit_loads_neither_matplotlib_nor_the_command_line() -> None:
    heavy = ["matplotlib", "crp_kit.cli", "click", "h5py", "torchvision", "crp_kit.plot"]
    code = f"import sys, crp_kit; print([name for name in {heavy} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert ran.stdout.strip() == "[]"


def test_the_command_line_starts_without_torch_work() -> None:
    code = "import sys, crp_kit.cli; print('matplotlib' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert ran.stdout.strip() == "False"
