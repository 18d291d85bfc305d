"""The public face: a model with its data, and every analysis of them as a method."""

from .study import Study

__all__ = ["Study"]
