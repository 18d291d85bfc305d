"""One side's process: it answers each line of JSON on stdin with one on stdout.

It is started as `python -m benchmarks.worker SIDE DEVICE`.
"""

from __future__ import annotations

import gc
import hashlib
import importlib
import json
import os
import sys
import traceback
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .cases import Case
from .work import Work, measured, memory, nothing

PACKAGES = ("crp-kit", "zennit-crp", "zennit", "captum", "lxt", "transformers", "torch", "torchvision", "numpy", "h5py")


class Side:
    """What a side is asked: to prepare a case, then to run it, and what came out."""

    def __init__(self, side: str, device: str) -> None:
        self.makers, self.device = importlib.import_module(f".{side}", __package__).WORKS, device
        if device.startswith("cuda"):
            torch.cuda.set_device(torch.device(device).index or 0)
        self.wait = torch.cuda.synchronize if device.startswith("cuda") else nothing
        self.work = Work(nothing)
        self.output: Any = None
        torch.backends.cudnn.allow_tf32 = False  # all sides calculate in float32

    def about(self) -> dict[str, Any]:
        """Return versions and threads."""
        device = torch.cuda.get_device_name() if self.device.startswith("cuda") else self.device
        versions = dict(filter(all, map(_version, PACKAGES)))
        if "crp-kit" in versions:
            versions["crp-kit"] += f" ({code_digest()})"
        return {"threads": torch.get_num_threads(), "device": device, "versions": versions}

    def prepare(self, case: dict[str, Any], folder: str) -> dict[str, Any]:
        """Make what a case needs, and forget the one before."""
        self.work, self.output = Work(nothing), None
        gc.collect()
        self.work = self.makers[case["kind"]](Case(**case), self.device, Path(folder))
        return {}

    def warm(self) -> dict[str, Any]:
        self.work.warm()
        return {}

    def run(self, least: float) -> dict[str, Any]:
        """Return what a run costs."""
        self.output, costs = measured(self.work, self.wait, least)
        return costs

    def memory(self) -> dict[str, Any]:
        return {"memory": memory(self.work, self.device)}

    def result(self, path: str) -> dict[str, Any]:
        """Write the arrays that the last run gave to a file, and return the rest."""
        parts = self.work.result(self.output)
        arrays = {name: part for name, part in parts.items() if isinstance(part, np.ndarray)}
        np.savez(path, **arrays)
        return {name: part for name, part in parts.items() if name not in arrays}


def code_digest() -> str:
    """Return some digits of a SHA-256 of crp-kit's source: measurements of other code do not go into one table."""
    folder = Path(importlib.import_module("crp_kit").__file__ or "").parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:8]


def _version(package: str) -> tuple[str, str]:
    try:
        return package, version(package)
    except PackageNotFoundError:
        return package, ""


def serve(side: Side, answers: Any) -> None:
    """Answer until stdin ends."""
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = {"answer": getattr(side, asked.pop("do"))(**asked)}
        except Exception:  # noqa: BLE001 whoever asked decides what an error means
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


def main() -> None:
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no answer
    serve(Side(*sys.argv[1:]), answers)


if __name__ == "__main__":
    main()
