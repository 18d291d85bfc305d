"""Models by name, their state dicts, checks of their parameters, and detectors as models with one tensor as output."""

from ..data.preprocess import Preprocess
from .detection_output import DetectionOutput
from .detectors import Detector, detector
from .load import load_model
from .loaded import LoadedModel

__all__ = ["DetectionOutput", "Detector", "LoadedModel", "Preprocess", "detector", "load_model"]
