"""Target policies: the classes that the relevance of a sample starts from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import index

import torch

from ...attribution.layer_relevance import Choice
from ...attribution.predicted_class import class_scores, predicted_classes
from ...data.labels import LabelMask
from ...errors import InputError
from ...targets import Target, parse_target
from ...targets.text import FORMS, is_target_text
from . import by_class_policies
from .by_class_policies import Labels, UnlabelledError

__all__ = ["TargetPolicy", "TargetRule", "UnlabelledError", "known_target", "target_policy"]

TargetRule = Callable[[torch.Tensor, tuple[int, ...] | None], Iterable[Choice]]
"""From a sample's model output (class, ...) and its label ids, if any, to class ids or targets."""
TargetPolicy = Callable[[torch.Tensor, Labels], Sequence[tuple[Choice, ...]]]
"""From the model output (sample, class, ...) and the samples' label ids to what each sample starts from."""

_FORMS = (
    "'label', 'prediction', 'top:P' or 'top:P:N' (every class of a probability above P, at most N), 'regions' or "
    f"'regions:SHARE', 'masks', 'boxes' or 'boxes:SCORE', 'binary' or 'binary:prediction'; {FORMS}; a Target, or a "
    "function"
)


def known_target(target: str | Target | TargetRule, number: Callable[[int | str], int]) -> str | Target | TargetRule:
    """Return a target with its classes by number, also one that is given as text; anything else as it is."""
    if is_target_text(target):
        target = parse_target(str(target))
    return target.numbered(number) if isinstance(target, Target) else target


def target_policy(target: str | Target | TargetRule) -> TargetPolicy:
    """Return the policy of a spec.

    Parameters
    ----------
    target : str, Target or callable
        ``"label"``; ``"prediction"``, the highest output; ``"top:0.1"`` or ``"top:0.1:3"``, every class whose softmax
        probability is above 0.1, at most 3 of them; ``"regions"`` or ``"regions:0.05"``, each class over the positions
        where it has the highest score, if these are more than 5 %; ``"masks"``, each class of the mask that is the
        label; ``"boxes"`` or ``"boxes:0.5"``, the best box of each class, with a score of at least 0.5; ``"binary"`` or
        ``"binary:prediction"``, for one logit, class 0 or 1 by the label or by the sign; a target, which is that of
        every sample; or a function of one sample's output and label ids, which returns class ids or targets.

    Raises
    ------
    InputError
        If it is none of these.
    """
    if isinstance(target, Target):
        return lambda output, _: [(target,)] * len(output)
    if callable(target) and not isinstance(target, type):
        rule = target
        return lambda output, labels: [_chosen(rule, *one) for one in zip(output, labels, strict=True)]
    if target == "label":
        return _labels
    if target == "prediction":
        return lambda output, _: [(int(cls),) for cls in predicted_classes(output)]
    if target in _BY_LABEL:
        return _BY_LABEL[target]
    if target == "binary:prediction":
        return lambda output, _: by_class_policies.signs(output)
    kind, _, numbers = str(target).partition(":")
    share, _, most = numbers.partition(":")
    try:
        if kind == "top":
            return _Top(float(share), int(most) if most else None)
        if kind in _ABOVE and not most:
            above, bound = _ABOVE[kind], _bound(numbers)
            return lambda output, _: above(output, bound)
    except ValueError as error:
        raise InputError(f"target is {_FORMS}; got {target!r}") from error
    raise InputError(f"target is {_FORMS}; got {target!r}")


def _chosen(rule: TargetRule, output: torch.Tensor, label: tuple[int, ...] | None) -> tuple[Choice, ...]:
    """Return the classes and targets that a function chooses for one sample, each once.

    Raises
    ------
    InputError
        If it fails, or chooses something else; two targets of one class, under which an atlas can count only one of
        them, or one of no class.
    """
    try:
        choices = rule(output, label)
    except Exception as error:  # a function of the user's own may fail in any way
        raise InputError(f"the function that chooses targets fails: {type(error).__name__}: {error}") from error
    try:
        chosen = tuple(dict.fromkeys(one if isinstance(one, Target) else index(one) for one in choices))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"the function that chooses targets returns a list of class ids or targets for each sample; it returned "
            f"{choices!r:.80}"
        ) from error
    classes = [choice.class_number if isinstance(choice, Target) else choice for choice in chosen]
    if None in classes:
        raise InputError(
            f"an atlas counts samples by what a function chooses for each, and {chosen[classes.index(None)]} is of no "
            f"class; as the target of all samples it needs none"
        )
    if len(set(classes)) < len(classes):
        raise InputError(f"the function that chooses targets returned two of one class: {', '.join(map(str, chosen))}")
    return chosen


_BY_LABEL: dict[object, TargetPolicy] = {"masks": by_class_policies.masks, "binary": by_class_policies.binary}
_ABOVE = {"regions": by_class_policies.regions, "boxes": by_class_policies.boxes}


def _bound(text: str) -> float:
    """Return a share or score, 0 for none."""
    bound = float(text or 0)
    if not 0 <= bound < 1:
        raise ValueError
    return bound


def _labels(output: torch.Tensor, labels: Labels) -> list[tuple[int, ...]]:
    for row, label in enumerate(labels):
        if label is None:
            raise UnlabelledError(row)
        if isinstance(label, LabelMask):
            raise UnlabelledError(row, "its label is a mask, which target='masks' starts from")
    return [label for label in labels if label is not None]


class _Top:
    """Every class of a probability above a bound, the most probable first."""

    def __init__(self, share: float, most: int | None) -> None:
        if not 0 <= share < 1 or (most is not None and most < 1):
            raise ValueError
        self.share, self.most = share, most

    def __call__(self, output: torch.Tensor, _: Labels) -> list[tuple[int, ...]]:
        probability, order = class_scores(output).softmax(1).sort(stable=True, dim=1, descending=True)
        counts = (probability > self.share).sum(1).tolist()
        return [tuple(row[: min(count, self.most or count)].tolist()) for row, count in zip(order, counts, strict=True)]
