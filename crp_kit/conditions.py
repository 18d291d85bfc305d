"""Condition sets, parsed and checked: plain data, no tensors."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from .errors import ConditionError

if TYPE_CHECKING:
    import torch

OutputSelector = None | str | int | Callable[[Any], "torch.Tensor"]
"""The part of a model's output that is attributed: all of it, a key, an index, or a function of the output."""
OUTPUT = "y"
"""The name of the model output in a condition set."""
Pairing = Literal["auto", "zip", "product"]
"""Rows from samples and condition sets: sample i under set i, every sample under every set, or by their lengths."""


@dataclass(frozen=True)
class ConditionSet:
    """The concepts that relevance may pass, layer by layer.

    Parameters
    ----------
    layers : tuple of (str, tuple)
        Node name and concept ids, sorted by name; an empty tuple of ids lets nothing pass.
    targets : tuple or None
        Ids of the model output, such as classes; ``None`` where the set does not name the output.

    Examples
    --------
    >>> ConditionSet.of({"layer4.1.conv2": [23, 7], "y": 207})
    ConditionSet({'layer4.1.conv2': [23, 7], 'y': [207]})
    """

    layers: tuple[tuple[str, tuple[Any, ...]], ...]
    targets: tuple[Any, ...] | None

    @classmethod
    def of(cls, mapping: Mapping[str, Any]) -> ConditionSet:
        """Return a condition set, parsed and checked.

        Parameters
        ----------
        mapping : dict of str to int or collection of int
            Node name to the concept ids that relevance may pass, such as ``{"layer4.1.conv2": [23], "y": [207]}``;
            ``"y"`` is the model output. An id is a whole number, or what the layer's concept takes, such as a tuple.

        Returns
        -------
        ConditionSet

        Raises
        ------
        ConditionError
            If it is no mapping, is empty, has a name that is no string, or has ids that are neither an id nor a
            collection of ids.
        """
        if not isinstance(mapping, Mapping):
            raise ConditionError(
                f"a condition set maps layer names to concept ids, such as {{'layer4.1.conv2': [23], 'y': [207]}}; "
                f"got {type(mapping).__name__}: {mapping!r}"
            )
        names = [name for name in mapping if not isinstance(name, str)]
        if names:
            raise ConditionError(f"layer names are strings; got {names[0]!r} in {dict(mapping)!r}")
        parsed = {name: _ids(name, ids) for name, ids in mapping.items()}
        targets = parsed.pop(OUTPUT, None)
        return cls(tuple(sorted(parsed.items())), targets)

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Names of the conditioned layers, sorted, without ``"y"``."""
        return tuple(name for name, _ in self.layers)

    def as_dict(self) -> dict[str, list[Any]]:
        """Return the set as the plain dictionary that a user would write."""
        plain = {name: list(ids) for name, ids in self.layers}
        return plain if self.targets is None else {**plain, OUTPUT: list(self.targets)}

    def __repr__(self) -> str:
        return f"ConditionSet({self.as_dict()!r})"


def _ids(name: str, ids: Any) -> tuple[Any, ...]:
    """Concept ids of one layer as a tuple of plain, hashable values."""
    if hasattr(ids, "tolist"):
        ids = ids.tolist()
    if isinstance(ids, bool) or ids is None or isinstance(ids, (str, bytes, float, Mapping)):
        raise ConditionError(f"the concept ids of {name!r} are an id or a list of ids; got {ids!r}")
    if not isinstance(ids, Iterable):
        return (ids,)
    plain = [concept.tolist() if hasattr(concept, "tolist") else concept for concept in ids]
    wrong = [concept for concept in plain if isinstance(concept, (bool, float, bytes)) or concept is None]
    if wrong:
        raise ConditionError(f"a concept id of {name!r} is a whole number, or what its Concept takes; got {wrong[0]!r}")
    return tuple(tuple(concept) if isinstance(concept, list) else concept for concept in plain)


def parse_conditions(conditions: Any) -> tuple[ConditionSet, ...]:
    """Check a list of condition sets; one set alone counts as a list of one.

    Raises
    ------
    ConditionError
        If the list is empty or one of its sets is not valid.
    """
    if isinstance(conditions, Mapping):
        conditions = [conditions]
    if not isinstance(conditions, Sequence) or isinstance(conditions, (str, bytes)):
        raise ConditionError(f"conditions are a list of condition sets; got {type(conditions).__name__}")
    if not conditions:
        raise ConditionError("the list of condition sets is empty; give at least one, such as [{'y': [207]}]")
    return tuple(c if isinstance(c, ConditionSet) else ConditionSet.of(c) for c in conditions)


def parse_condition_text(text: str) -> tuple[str, list[Any]]:
    """Read ``"layer4.2.conv3:35,89"`` as the layer and its concept ids.

    An empty list (``"layer4:"``) lets nothing pass; ``5-8`` is a range with both ends. Classes of ``"y"`` may be names,
    and of directions ``mean`` and ``rest`` are ids too.

    Raises
    ------
    ConditionError
        With the text and a mark below the position of the mistake.

    Examples
    --------
    >>> parse_condition_text("layer4.2.conv3:35,89-91")
    ('layer4.2.conv3', [35, 89, 90, 91])
    >>> parse_condition_text("y:282,Egyptian cat")
    ('y', [282, 'Egyptian cat'])
    """
    layer, colon, listed = text.rpartition(":")
    if text.partition(":")[0].strip() == OUTPUT:
        layer, colon, listed = text.partition(":")  # names of classes may have a colon
    if not colon:
        _fail(text, len(text), "expected ':' and concept ids after the layer name")
    if not layer.strip():
        _fail(text, 0, "expected a layer name before ':'")
    ids: list[Any] = []
    position = len(layer) + 1
    if not listed.strip():
        return layer.strip(), ids
    for part in listed.split(","):
        ids += _ids_of(part, text, position, names=layer.strip() == OUTPUT)
        position += len(part) + 1
    return layer.strip(), ids


def _ids_of(part: str, text: str, position: int, *, names: bool) -> Sequence[Any]:
    """Return the ids that a part of a text means: one, those of a range, a name, or a share of directions."""
    if part.strip() in ("mean", "rest") and not names:
        return [part.strip()]
    match = re.fullmatch(r"\s*(\d+)(?:\s*-\s*(\d+))?\s*", part)
    if match is None:
        if names and re.search(r"[^\W\d_]", part):
            return [part.strip()]
        _fail(text, position, f"expected a concept id such as 35 or a range such as 5-8, got {part.strip()!r}")
    first, last = int(match[1]), int(match[2] or match[1])
    if last < first:
        _fail(text, position, f"the range {part.strip()!r} runs backwards")
    return range(first, last + 1)


def _fail(text: str, position: int, expected: str) -> NoReturn:
    raise ConditionError(f"{expected}\n  {text}\n  {' ' * position}^")
