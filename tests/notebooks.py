"""Notebooks run in this process, with crp-kit's commands in it as well: no kernel, and no interpreter, is started."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from command_line import invoke
from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell


class _Displayed(DisplayHook):
    """Hand values of cells to where pictures go."""

    def write_format_data(self, format_dict: Any, md_dict: Any = None) -> None:
        self.shell.display_pub.publish(format_dict, md_dict)


class _Shell(InteractiveShell):
    displayhook_class = _Displayed

    def enable_gui(self, gui: Any = None) -> None:
        """Start no loop of events."""

    def system(self, cmd: str) -> None:
        program, *arguments = shlex.split(self.var_expand(cmd, depth=1))
        assert program == "crp-kit"
        sys.stdout.write(invoke(*arguments).output)


def _replaced(cell: str, smaller: Mapping[str, str]) -> str:
    for words, others in smaller.items():
        cell = cell.replace(words, others)
    return cell


def run(path: Path, smaller: Mapping[str, str]) -> int:
    """Run a notebook with some words replaced, and return how many pictures it shows."""
    shell = _Shell.instance()
    shell.display_pub = CapturingDisplayPublisher()
    cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    missing = [words for words in smaller if not any(words in cell for cell in cells)]
    assert not missing, missing
    for cell in cells:
        shell.run_cell(_replaced(cell, smaller), store_history=True).raise_error()
    return sum("image/png" in output["data"] for output in shell.display_pub.outputs)
