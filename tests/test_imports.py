"""Imports point down the table of rows, those for types and in functions included, and ``import crp_kit`` is light."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "crp_kit"
ROWS = (
    ("printable",),
    ("version", "errors"),
    ("allocator", "checks", "escapes", "interrupts", "lazy_names", "locks", "matrix_product"),
    ("numerics", "files", "folders", "progress", "tables", "drawing", "conditions", "factory_spec", "class_names"),
    ("result_table", "statistics"),
    ("concepts", "data", "targets"),
    ("models",),
    ("graph",),
    ("rules",),
    ("propagation",),
    ("attribution",),
    ("atlas/file/header",),
    ("atlas/file/file_tree",),
    ("atlas/statistics",),
    ("atlas/file",),
    ("atlas/query/atlas_start", "atlas/query/concept_names"),
    ("atlas/query/rankings", "atlas/query/selection"),
    ("atlas/query/stored_scores",),
    ("atlas/questions",),
    ("atlas/query",),
    ("atlas/build",),
    ("atlas",),
    ("inspection", "region_map", "concept_graph", "evaluation", "directions"),
    ("views/image",),
    ("views/highlight",),
    ("views/look",),
    ("views/curve",),
    ("views/plot",),
    ("views/report", "views/virelay"),
    ("views",),
    ("study",),
    ("demo",),
    ("",),
    ("cli",),
    ("__main__",),
)
"""Parts of the package from the lowest row to the highest: files, folders, and folders in them; "" is the package."""
LIBRARIES = {
    "zennit": {"rules", "propagation", "views/image"},
    "matplotlib": {"views/plot", "drawing"},
    # A file of directions is not part of an atlas: concepts, which are below atlases, save and load themselves.
    "h5py": {"atlas/file/hdf5_writer", "atlas/file/hdf5_datasets", "concepts/direction_file"},
    "jinja2": {"views/report"},
    "click": {"cli"},
    "networkx": {"concept_graph"},
    "sklearn": {"statistics", "views/virelay/embeddings"},
    "scipy": {"statistics", "views/highlight"},
}
"""The only parts that may import a library."""
MODULES = sorted(PACKAGE.rglob("*.py"))
PARTS = {part: row for row, parts in enumerate(ROWS) for part in parts}


def part_of(module: str) -> str:
    """The part that a module belongs to, by its path such as ``atlas/file/header``: the longest that begins it."""
    fitting = [part for part in PARTS if module == part or module.startswith(f"{part}/")]
    return max(fitting, key=len) if fitting else module


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return "/".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """(top-level library or "crp_kit", module of crp_kit) of each import, wherever it stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                library, *module = alias.name.split(".")
                yield library, "/".join(module) if library == "crp_kit" else ""
        elif isinstance(node, ast.ImportFrom):
            yield from targets(node, path)


def targets(node: ast.ImportFrom, path: Path) -> Iterator[tuple[str, str]]:
    named = (node.module or "").split(".") if node.module else []
    if node.level == 0 and named[0] != "crp_kit":
        yield named[0], ""
        return
    package = path.relative_to(PACKAGE).parent.parts
    whole = [*package[: len(package) - node.level + 1], *named] if node.level else named[1:]
    for alias in node.names:
        inside = "/".join([*whole, alias.name])
        yield "crp_kit", inside if is_module(inside) else "/".join(whole)


def is_module(module: str) -> bool:
    return (PACKAGE / f"{module}.py").exists() or (PACKAGE / module).is_dir()


@cache
def all_imports() -> dict[str, list[tuple[str, str]]]:
    """The imports of every module, read when the first test needs them: each process of a run collects these tests."""
    return {module_of(path): [*imports(path)] for path in MODULES}


def test_each_module_belongs_to_a_row() -> None:
    assert [module for module in all_imports() if part_of(module) not in PARTS] == []


def test_modules_import_only_their_own_part_and_what_is_below_it() -> None:
    upward = []
    for module, imported in all_imports().items():
        part = part_of(module)
        reached = {other: part_of(other) for library, other in imported if library == "crp_kit"}
        upward += [(module, other) for other, row in reached.items() if row != part and PARTS[row] >= PARTS[part]]
    assert upward == []


def test_modules_import_only_the_libraries_they_may() -> None:
    def allowed(module: str, library: str) -> bool:
        return any(module == part or module.startswith(f"{part}/") for part in LIBRARIES[library])

    used = [(module, library) for module, imported in all_imports().items() for library, _ in imported]
    assert [use for use in used if use[1] in LIBRARIES and not allowed(*use)] == []


def test_files_do_not_import_each_other_in_a_circle() -> None:
    imported = all_imports().items()
    edges = {module: {other for library, other in used if library == "crp_kit"} for module, used in imported}
    left = {module: reached - {module} for module, reached in edges.items()}
    while left:
        free = {module for module, reached in left.items() if not reached & set(left)}
        assert free, f"a circle among {sorted(left)}"
        left = {module: reached for module, reached in left.items() if module not in free}


def test_importing_crp_kit_loads_neither_matplotlib_nor_the_command_line() -> None:
    heavy = ["matplotlib", "crp_kit.cli", "click", "h5py", "torchvision", "crp_kit.views"]
    code = f"import sys, crp_kit; print([name for name in {heavy} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert ran.stdout.strip() == "[]"


def test_the_command_line_starts_without_torch() -> None:
    heavy = ["torch", "torchvision", "numpy", "scipy", "h5py", "matplotlib", "crp_kit.atlas", "crp_kit.study.study"]
    code = f"import sys, crp_kit.cli; print([name for name in {heavy} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert ran.stdout.strip() == "[]"
