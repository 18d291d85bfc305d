"""Models by name, their state dicts, checks of their parameters, and detectors as models with one tensor as output."""

from ..data.preprocess import Preprocess
from .detection_output import DetectionOutput
from .detectors import Detector, detector
from .load import LoadedModel, load_model

__all__ = ["DetectionOutput", "Detector", "LoadedModel", "Preprocess", "detector", "load_model"]
