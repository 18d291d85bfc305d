"""The environment of zennit-crp, which holds zennit at another release than crp-kit uses."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

PEER = "zennit-crp==0.6.0"
FOLDER = Path(__file__).resolve().parents[2] / ".venv-peers"


def peers_python(given: Path | None) -> str:
    """Return the Python that has zennit-crp: of an environment that is given, or of one made here, from PyPI."""
    folder = (given or FOLDER).resolve()
    python = folder / "bin" / "python"
    if given is None:
        _make(folder, python)
    elif not python.exists():
        sys.exit(f"benchmark: error: {given} is no environment: it has no bin/python")
    return str(python)


def _make(folder: Path, python: Path) -> None:
    """Make the environment, with the torch of this one, or leave it if it is there."""
    wanted = [PEER, *(f"{name}=={version(name).split('+')[0]}" for name in ("torch", "torchvision"))]
    stamp = folder / ".installed"
    if stamp.exists() and stamp.read_text().split() == wanted:
        return
    print(f"benchmark: making {folder} with {', '.join(wanted)}; this takes minutes", file=sys.stderr, flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True, stdout=sys.stderr)
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--quiet", *wanted], check=True, stdout=sys.stderr)
    stamp.write_text("\n".join(wanted))
