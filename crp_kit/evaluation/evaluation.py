"""Evaluation of the concepts of a study."""

from __future__ import annotations

from .composite_methods import CompositeEvaluations
from .effects import EffectEvaluations
from .maps import MapEvaluations
from .reference_methods import ReferenceEvaluations
from .robustness_methods import RobustnessEvaluations

__all__ = ["Evaluation"]


class Evaluation(EffectEvaluations, MapEvaluations, RobustnessEvaluations, ReferenceEvaluations, CompositeEvaluations):
    """Evaluations of a study. `Study.evaluate` returns it.

    Parameters
    ----------
    subject : Subject
        What is evaluated: model, data, rules and concepts.
    """
