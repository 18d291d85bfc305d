"""Dictionaries without a linear encoder: non-negative codes, and the nearest of some centres."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ..errors import InputError
from .direction_arrays import checked_directions, checked_matrix

__all__ = ["CODEBOOKS", "NearestCentre", "NonNegativeCode"]

_SWEEPS = 1000
_CHANGE = 1e-8
"""The change of a code, relative to its largest entry, at which it has converged."""


class _Entries(torch.nn.Module):
    """A dictionary with its entries, (concept, channel), as a buffer."""

    entries: torch.Tensor

    def __init__(self, entries: Any) -> None:
        super().__init__()
        self.register_buffer("entries", checked_matrix("entries", entries))

    def _check_width(self, activation: torch.Tensor) -> None:
        if activation.shape[-1] != self.entries.shape[1]:
            raise InputError(f"the entries are for {self.entries.shape[1]} channels; got {activation.shape[-1]}")

    def decode(self, code: torch.Tensor) -> torch.Tensor:
        """Return the sum of the entries by their code.

        Parameters
        ----------
        code : torch.Tensor
            (..., concept).

        Returns
        -------
        torch.Tensor
            (..., channel).
        """
        return code @ self.entries.to(code)


class NonNegativeCode(_Entries):
    """A dictionary whose code has no negative entries and rebuilds the activation best, as that of NMF.

    Parameters
    ----------
    entries : array
        (concept, channel).

    Raises
    ------
    InputError
        If the entries are no finite matrix, or one is zero everywhere.

    Examples
    --------
    >>> NonNegativeCode([[1.0, 0.0], [1.0, 1.0]]).encode(torch.tensor([[3.0, 2.0]])).round(decimals=4)
    tensor([[1., 2.]], dtype=torch.float64)
    """

    def __init__(self, entries: Any) -> None:
        super().__init__(checked_directions("entries", entries))

    def encode(self, activation: torch.Tensor) -> torch.Tensor:
        """Return the code, by coordinate descent on the squared error.

        Parameters
        ----------
        activation : torch.Tensor
            (..., channel).

        Returns
        -------
        torch.Tensor
            (..., concept), of at least 0.
        """
        self._check_width(activation)
        target, gram = activation.to(self.entries) @ self.entries.T, self.entries @ self.entries.T
        code = torch.zeros_like(target)
        for _ in range(_SWEEPS):
            before = code.clone()
            for number, length in enumerate(gram.diagonal().tolist()):
                if length > 0:
                    slack = target[..., number] - code @ gram[number]
                    code[..., number] = (code[..., number] + slack / length).clamp(min=0)
            change = (code - before).abs().amax(-1)
            if bool((change <= _CHANGE * code.abs().amax(-1)).all()):
                break
        return code


class NearestCentre(_Entries):
    """A dictionary whose code is 1 for the nearest entry and 0 for all others, as that of k-means.

    Parameters
    ----------
    entries : array
        (concept, channel), the centres.

    Raises
    ------
    InputError
        If the entries are no finite matrix.

    Examples
    --------
    >>> NearestCentre([[0.0, 0.0], [1.0, 1.0]]).encode(torch.tensor([[0.9, 0.7]]))
    tensor([[0., 1.]], dtype=torch.float64)
    """

    def encode(self, activation: torch.Tensor) -> torch.Tensor:
        """Return the code.

        Parameters
        ----------
        activation : torch.Tensor
            (..., channel).

        Returns
        -------
        torch.Tensor
            (..., concept), zeros and one 1.
        """
        self._check_width(activation)
        nearest = torch.cdist(activation.to(self.entries).reshape(1, -1, activation.shape[-1]), self.entries[None])
        index = nearest[0].argmin(-1).reshape(activation.shape[:-1])
        code: torch.Tensor = torch.nn.functional.one_hot(index, len(self.entries)).to(self.entries)
        return code


CODEBOOKS: Mapping[str, type[_Entries]] = {"non-negative": NonNegativeCode, "nearest": NearestCentre}
"""By the name that files have for them."""
