"""Numbered samples for the atlas, and the built-in demo data and model."""

from crp_kit.data.demo_model import demo_preprocess, demo_resnet
from crp_kit.data.shapes import ShapesDataset

__all__ = ["ShapesDataset", "demo_preprocess", "demo_resnet"]
