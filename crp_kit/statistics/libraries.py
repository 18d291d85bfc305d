"""Import of scikit-learn, which is an extra, when a statistic first needs it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ..errors import CrpKitError

__all__ = ["scikit_learn"]


def scikit_learn(module: str) -> Any:
    """Return a module of scikit-learn, such as ``"mixture"``.

    Raises
    ------
    CrpKitError
        If scikit-learn is not installed.

    Examples
    --------
    >>> scikit_learn("mixture").GaussianMixture(2).n_components
    2
    """
    try:
        return import_module(f"sklearn.{module}")
    except ImportError as error:
        raise CrpKitError("this statistic needs scikit-learn: pip install 'crp-kit[statistics]'") from error
