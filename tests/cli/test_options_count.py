"""Every option of a command that asks an atlas changes what is printed or written, or is refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest
from command_line import invoke
from score_atlas import score_atlas

import crp_kit as crp
from crp_kit.cli.atlas import atlas as group

DRAW = np.random.default_rng(0)
LABELS = np.arange(90) % 3
PREDICTIONS = np.where(DRAW.uniform(size=90) < 0.3, (LABELS + 1) % 3, LABELS)
VALUES = DRAW.normal(size=(90, 6)) + 2 * np.eye(3, 6)[LABELS]

CALLS = (
    "stats", "stats --concept 2", "stats --class 1", "stats --class 1 --concept 4",
    "markers --class 1", "contrast --a 0", "contrast --a 0 --b 1", "mistakes --class 1",
    "mistakes --class 1 --taken-for 2",
    "similar", "similar --concept 2", "similar --clusters 2", "prototypes --class 1", "outliers", "outliers --class 1",
    "outliers --against other.h5", "strategies --class 1", "names", "compare other.h5",
    "compare other.h5 --drift classes",
    "compare other.h5 --drift concepts", "export -o {out}", "export -o {out} --what class-top",
    "export -o {out} --what moments", "export -o {out} --what samples", "info",
)  # fmt: skip
VALUES_OF = {
    "--layer": "layer1", "--mode": "activation", "--label": "0", "--prediction": "0", "--correct": None,
    "--wrong": None, "--attribute": "high", "--json": None, "--csv": None, "--width": "3.4", "--class": "2",
    "--top": "1", "-n": "3", "--concept": "3", "--a": "attribute:high", "--b": "2", "--taken-for": "0",
    "--metric": "cosine", "--clusters": "3", "--against": "other.h5", "--length": "1", "--seed": "5",
    "--other-layer": "layer1",
    "--threshold": "0.99", "--drift": "concepts", "--level": "0.3", "--permutations": "30", "--what": "moments",
    "--empty-classes": None,
}  # fmt: skip
"""Of each option a value that is not its default; flags have none."""
FILES = {"-o", "--output", "--overwrite", "--save", "--quiet", "--help"}
"""Options of what is written, and of progress."""


REDUNDANT = {("prototypes --class 1", "--correct"), ("outliers --against other.h5", "--correct")}
"""Options that choose the samples which the answer is of in any case: those that are predicted right."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two atlases of one model."""
    path = tmp_path_factory.mktemp("options")
    for name, shift in (("a.h5", 0.0), ("other.h5", 3.0)):
        values = VALUES + shift * np.eye(3, 6)[(LABELS + 1) % 3]
        score_atlas(path / name, LABELS.tolist(), values, predictions=PREDICTIONS, n_classes=4).file.close()
        crp.annotate_atlas(path / name, {"odd": LABELS == 1, "high": VALUES[:, 2] > 1, "low": VALUES[:, 4] < -0.5})
    return path


def cases() -> Iterator[tuple[str, str]]:
    for call in CALLS:
        name, *arguments = call.split()
        for parameter in group.commands[name].params:
            if isinstance(parameter, click.Option):
                for option in (*parameter.opts, *parameter.secondary_opts):
                    if (
                        (call, option) not in REDUNDANT
                        and option not in FILES | set(arguments)
                        and (option.startswith("--") or len(parameter.opts) == 1)
                    ):
                        yield call, option


def printed(folder: Path, call: str, *more: str) -> tuple[int, str]:
    """Return the exit code of a command, and what it prints, draws into a file, or writes."""
    name, *arguments = call.replace("{out}", str(folder / "out.csv")).split()
    arguments = [str(folder / word) if word == "other.h5" else word for word in arguments]
    more = tuple(str(folder / word) if word == "other.h5" else word for word in more)
    layer = () if name in ("export", "info") or "--layer" in more else ("--layer", "layer0")
    (folder / "out.csv").unlink(missing_ok=True)
    result = invoke("atlas", name, folder / "a.h5", *arguments, *layer, *more)
    written = (folder / "out.csv").read_text() if (folder / "out.csv").exists() else ""
    return result.exit_code, result.output + written


@pytest.fixture(scope="module")
def plain(folder: Path) -> dict[str, tuple[int, str]]:
    return {call: printed(folder, call) for call in CALLS}


@pytest.mark.parametrize(("call", "option"), list(cases()))
def test_an_option_changes_the_answer_or_is_refused(
    folder: Path, plain: dict[str, tuple[int, str]], call: str, option: str
) -> None:
    assert plain[call][0] in (0, 1), plain[call]
    value = VALUES_OF[option]
    code, text = printed(folder, call, option, *(() if value is None else (value,)))
    assert code == 2 or text != plain[call][1]


@pytest.mark.slow
def test_questions_that_need_no_model_need_no_torch(folder: Path) -> None:
    calls = [call for call in CALLS if "{out}" not in call and call != "info"]
    commands = [
        ["atlas", name, "a.h5", *arguments, "--layer", "layer0"]
        for name, *arguments in (call.split() for call in calls)
    ]
    code = f"""
import sys
from click.testing import CliRunner
from crp_kit.cli import main
codes = [CliRunner().invoke(main, command).exit_code for command in {commands}]
print(max(codes) < 2, "torch" in sys.modules)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder)
    assert ran.stdout.strip() == "True False"
