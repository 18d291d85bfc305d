"""Fits of directions to the activations of a layer, or to its relevance, streamed over the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch

from ..atlas.build.target_policy import known_target, target_policy
from ..attribution.subject import Subject
from ..checks import check_integer
from ..concepts import DictionaryConcept, DirectionConcept, NearestCentre, NonNegativeCode
from ..data.fingerprints import fingerprint
from ..data.random_state import random_state_kept
from ..errors import ConditionError, InputError
from ..models.state_dict import state_digest
from ..progress import Progress
from ..statistics.dictionary_learning import centres, factors
from ..statistics.subspaces import SecondMoments
from ..version import __version__
from .observations import Observed, observed, sample_numbers

__all__ = ["FitOptions", "Method", "fitted_directions", "provenance_of"]

Method = Literal["pca", "nmf", "kmeans", "prca"]


@dataclass(frozen=True)
class FitOptions:
    """Settings of a fit, checked.

    Parameters
    ----------
    method : {"pca", "nmf", "kmeans", "prca"}
    n : int
        Number of directions.
    target : str or Target
        What relevance starts from, for PRCA.
    positions : int
        Positions of each sample's map that NMF and k-means see.
    limit : int or None
        The first samples only.
    batch_size : int
    seed : int
    """

    method: Method
    n: int
    target: Any
    positions: int
    limit: int | None
    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise InputError(f"method is 'pca', 'nmf', 'kmeans' or 'prca'; got {self.method!r}")
        for name, low in (("n", 1), ("positions", 1), ("batch_size", 1), ("seed", 0)):
            check_integer(name, getattr(self, name), low=low)
        if self.limit is not None:
            check_integer("limit", self.limit, low=1)


def fitted_directions(
    subject: Subject, layer: str, options: FitOptions, *, verbose: bool = False
) -> DirectionConcept | DictionaryConcept:
    """Return the directions; see `crp_kit.Study.fit_directions`."""
    numbers = sample_numbers(subject, options.limit)
    policy, targets = target_policy(known_target(options.target, subject.class_number)), None
    if options.method == "prca":
        if subject.composite is None:
            raise ConditionError("PRCA is of relevance, and gradients are none: make the study with rules for LRP")
        targets = policy
    fit: _Moments | _Rows = _Rows(options) if options.method in ("nmf", "kmeans") else _Moments()
    with random_state_kept(), Progress(len(numbers), options.method, unit="image", verbose=verbose) as bar:
        for part in observed(subject, layer, numbers, targets=targets, batch_size=options.batch_size):
            fit.add(part)
            bar.update(len(part.numbers))
    concept = fit.concept(options)
    concept.provenance = {
        **provenance_of(subject, layer, len(numbers)),
        "method": options.method,
        "n": options.n,
        **({"target": str(options.target)} if targets is not None else {}),
        **({"seed": options.seed, "positions": options.positions} if isinstance(fit, _Rows) else {}),
    }
    return concept


def provenance_of(subject: Subject, layer: str, samples: int) -> dict[str, Any]:
    """Return where directions of a study come from."""
    return {
        "layer": layer,
        "samples": samples,
        "model": type(subject.model).__name__,
        "model_sha256": state_digest(subject.model),
        "dataset_sha256": "" if subject.dataset is None else fingerprint(subject.samples),
        "composite": subject.rules_name,
        "crp_kit": __version__,
    }


class _Moments:
    """Second moments of all positions, for PCA and PRCA."""

    def __init__(self) -> None:
        self.moments: SecondMoments | None = None

    def add(self, part: Observed) -> None:
        if self.moments is None:
            self.moments = SecondMoments.empty(part.activation.shape[2])
        coefficient = None if part.coefficient is None else part.coefficient.flatten(0, 1).numpy()
        self.moments.add(part.activation.flatten(0, 1).numpy(), coefficient)

    def concept(self, options: FitOptions) -> DirectionConcept:
        assert self.moments is not None
        if options.method == "prca":
            return DirectionConcept(self.moments.prca(options.n))
        directions, mean = self.moments.pca(options.n)
        return DirectionConcept(directions, mean=mean)


class _Rows:
    """Activations at some positions of each sample, drawn by the sample's number, for NMF and k-means."""

    def __init__(self, options: FitOptions) -> None:
        self.options = options
        self.parts: list[torch.Tensor] = []

    def add(self, part: Observed) -> None:
        for number, rows in zip(part.numbers, part.activation, strict=True):
            generator = torch.Generator().manual_seed(self.options.seed * 1_000_003 + number)
            chosen = torch.randperm(len(rows), generator=generator)[: self.options.positions]
            self.parts.append(rows[chosen].float())  # as models have them: half the memory

    def concept(self, options: FitOptions) -> DictionaryConcept:
        rows = torch.cat(self.parts).double().numpy()
        if options.method == "kmeans":
            return DictionaryConcept(NearestCentre(centres(rows, options.n, seed=options.seed)), "decoder")
        return DictionaryConcept(NonNegativeCode(factors(rows, options.n, seed=options.seed)), "decoder")
