"""Errors of crp-kit, all derived from `CrpKitError`, with the values that they are about."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from .printable import printable


class CrpKitError(Exception):
    """Base of every error that crp-kit raises on purpose.

    Names in its message may come from other people's files: control characters are escaped, line breaks apart.

    Parameters
    ----------
    *args : object
        The message.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*(printable(text, keep="\n") if isinstance(text, str) else text for text in args))


class ConditionError(CrpKitError, ValueError):
    """A condition set, or an argument that goes with condition sets, that has no meaning."""


class UnknownLayerError(ConditionError):
    """A layer name that the recorded graph does not have.

    Parameters
    ----------
    name : str
        The name that was asked for.
    known : iterable of str
        The names that exist; the nearest ones are suggested.
    reason : str, optional
        The message instead of "no layer named …", where the name exists in the model but not in the graph.
    advice : str, optional
        Where the names are listed.
    """

    def __init__(
        self, name: str, known: Iterable[str], reason: str | None = None, advice: str = "see crp_kit.get_layer_names"
    ) -> None:
        self.name = name
        near = difflib.get_close_matches(name, sorted(set(known)), n=3, cutoff=0.5) if isinstance(name, str) else []
        self.suggestions = near
        message = reason or f"no layer named {name!r}"
        hint = f"; did you mean {' or '.join(map(repr, self.suggestions))}?" if self.suggestions else ""
        super().__init__(f"{message}{hint} {advice[:1].upper()}{advice[1:]}" if hint else f"{message}; {advice}")


class UnreachableLayerError(ConditionError):
    """A layer through which no relevance can pass between the start and the model input."""


class ConceptRangeError(ConditionError, IndexError):
    """A concept id (a channel, a neuron, a class) outside of what the layer has.

    Parameters
    ----------
    layer : str
        Name of the node, or ``"y"``.
    ids : sequence of int
        The ids that are out of range.
    size : int
        Number of concepts that the layer has.
    what : str
        The noun for one of them, such as ``"channel"``.
    """

    def __init__(self, layer: str, ids: Sequence[int], size: int, *, what: str = "channel") -> None:
        self.layer, self.ids, self.size = layer, list(ids), size
        shown = ", ".join(map(str, self.ids[:5])) + (", …" if len(self.ids) > 5 else "")
        super().__init__(
            f"{what} {shown} of {layer!r} is out of range: it has {size} of them, counted from 0 to {size - 1}"
        )


class ConceptAxisError(ConditionError):
    """The axis of a node's output that enumerates its concepts is unknown, ambiguous or does not exist."""


class InputError(CrpKitError, ValueError):
    """Data or an argument that is not valid: its type, shape, values, or that it is empty."""


class ModelError(CrpKitError, RuntimeError):
    """A model that cannot be recorded, or whose output cannot be attributed."""


class CompositeError(CrpKitError, ValueError):
    """A composite that is unknown, or a rule that does not fit the node it was given to."""


class OperationError(CrpKitError, ValueError):
    """An operation that cannot be registered as it is described."""


class NonFiniteRelevanceError(CrpKitError, ArithmeticError):
    """Relevance became infinite or not-a-number.

    Parameters
    ----------
    layer : str
        Node whose rule produced the first non-finite value.
    rule : str
        The rule that ran there.
    """

    def __init__(self, layer: str, rule: str) -> None:
        self.layer, self.rule = layer, rule
        super().__init__(
            f"relevance became non-finite at {layer!r} (rule: {rule}); a larger stabilizer, "
            f"or another rule for this layer, keeps its denominators away from zero"
        )


class DeviceMemoryError(CrpKitError, MemoryError):
    """The memory of the device does not suffice, not even for the smallest piece of what was asked for.

    Parameters
    ----------
    work : str
        The step that it was needed for.
    samples : int
        Number of samples in that step.
    """

    def __init__(self, work: str, samples: int) -> None:
        self.work, self.samples = work, samples
        shown = "one sample" if samples == 1 else f"{samples} samples at once"
        fewer = "" if samples == 1 else "fewer samples (a smaller batch_size) or "
        super().__init__(f"the device's memory does not suffice for {work} of {shown}; {fewer}smaller inputs need less")


class AtlasError(CrpKitError, ValueError):
    """A file that is no atlas, is damaged or not finished, or does not belong to the model or data at hand.

    Its message is one line: line breaks are escaped too.

    Parameters
    ----------
    *args : object
        The message.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*(printable(text) if isinstance(text, str) else text for text in args))


class CrpKitWarning(UserWarning):
    """A choice or limit that the user should know of; the result is right."""
