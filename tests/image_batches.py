"""Files as one batch of a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from crp_kit.data.preprocess import Preprocess, load_views


class ImageBatch(NamedTuple):
    """What a model sees of files, before and after normalisation: (sample, channel, height, width), or (…, *place)."""

    views: torch.Tensor
    inputs: torch.Tensor


def load_images(paths: Sequence[str | Path], preprocess: Preprocess | None = None) -> ImageBatch:
    preprocess = preprocess or Preprocess()
    views = load_views(paths, preprocess)
    return ImageBatch(views, preprocess.normalise(views))
