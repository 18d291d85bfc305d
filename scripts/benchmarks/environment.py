"""The environments of other packages, made from PyPI with the torch of this one.

zennit-crp holds zennit at another release than crp-kit uses; lxt wants a release of transformers and much that its
forms for images never import.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class PeerEnvironment:
    """Packages of one environment, some of them without what they depend on."""

    folder: Path
    packages: tuple[str, ...]
    alone: tuple[str, ...] = ()

    def python(self, folder: Path | None = None) -> str:
        """Return its Python: of a folder that the user names, or made here."""
        python = (folder or self.folder).resolve() / "bin" / "python"
        if folder is None:
            self._make(python)
        elif not python.exists():
            sys.exit(f"benchmark: error: {folder} is no environment: it has no bin/python")
        return str(python)

    def _make(self, python: Path) -> None:
        """Make the environment, or leave it if it is there."""
        torches = [f"{name}=={version(name).split('+')[0]}" for name in ("torch", "torchvision")]
        wanted = [*self.packages, *torches]
        stamp = self.folder / ".installed"
        if stamp.exists() and stamp.read_text().split() == [*wanted, *self.alone]:
            return
        print(f"benchmark: making {self.folder} with {', '.join(wanted)}; this takes minutes", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", self.folder], check=True, stdout=sys.stderr)
        install = [python, "-m", "pip", "install", "--quiet", "--quiet"]
        subprocess.run([*install, *wanted], check=True, stdout=sys.stderr)
        if self.alone:
            subprocess.run([*install, "--no-deps", *self.alone], check=True, stdout=sys.stderr)
        stamp.write_text("\n".join([*wanted, *self.alone]))


ZENNIT_CRP = PeerEnvironment(ROOT / ".venv-peers", ("zennit-crp==0.6.0",))
LRP = PeerEnvironment(
    ROOT / ".venv-lrp", ("captum==0.9.0", "transformers==4.52.4", "zennit==0.5.1", "tabulate"), ("lxt==2.1",)
)
ENVIRONMENTS = {"peer": ZENNIT_CRP, "captum": LRP, "lxt": LRP, "lxt_explicit": LRP}
"""Whose Python each side runs in, where it is not this one."""
