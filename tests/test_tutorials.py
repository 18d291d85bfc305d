"""Every tutorial runs from top to bottom, shows pictures, and lies in git without outputs."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from processes import run_python

TUTORIALS = sorted((Path(__file__).parents[1] / "tutorials").glob("*.ipynb"))
SMALLER = {
    "00_first_hour": {"resize=224, crop=224": "resize=112, crop=112"},
    "02_concept_atlas": {"Flaky(600": "Flaky(96", "300": "48"},
    "04_concept_graph_and_regions": {"ShapesDataset(200": "ShapesDataset(64"},
    "05_targets_and_directions": {"ShapesDataset(300": "ShapesDataset(60"},
    "06_dataset_statistics": {"ShapesDataset(640": "ShapesDataset(320"},
    "07_evaluation": {"ShapesDataset(24": "ShapesDataset(12", "repeats=6": "repeats=2", "steps=9": "steps=5"},
}
"""Sizes that are smaller but at night, and nothing else: the words in the notebook, and those in their place."""
IN_A_KERNEL = "03_rules_and_conservation"
"""The one that runs in a kernel of Jupyter also by day; starting one takes seconds."""


def test_there_are_tutorials() -> None:
    assert TUTORIALS


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_tutorial_is_stored_without_outputs(path: Path) -> None:
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in TUTORIALS if path.stem != IN_A_KERNEL], ids=lambda path: path.stem)
def test_tutorial_runs_and_shows_pictures(path: Path) -> None:
    code = "import json, sys, notebooks\nprint('\\n', notebooks.run(sys.argv[1], json.loads(sys.argv[2])))"
    ran = run_python(code, path, json.dumps(SMALLER.get(path.stem, {})), environment={"MPLBACKEND": ""}, seconds=300)
    assert ran.returncode == 0, ran.stderr + ran.stdout
    assert int(ran.stdout.split()[-1]) >= 4


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Proactor event loop")
@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=pytest.mark.nightly if path.stem != IN_A_KERNEL else ()) for path in TUTORIALS],
    ids=lambda path: path.stem,
)
def test_tutorial_runs_in_a_kernel_and_shows_pictures(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MPLBACKEND", raising=False)
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 4
