"""Axes of a run that the user names or the graph knows: classes of the output, features of an input."""

from __future__ import annotations

from ..errors import ConceptAxisError, ConditionError
from ..graph.axes.feature_axis import NO_AXIS, feature_axis
from ..graph.graph import Ref
from ..propagation.run import Run

__all__ = ["check_class_output", "class_axis", "heatmap_axis", "known_class_axis"]


def class_axis(run: Run) -> int:
    """Return the axis of the model's output that enumerates its classes, the batch axis counted.

    It is the one that the attribution was made with (``class_axis=``); otherwise axis 1 of (sample, class), and of an
    output with more axes the channel axis that the graph knows.

    Raises
    ------
    ConceptAxisError
        If the graph does not know it, or there is no such axis.
    """
    known, shape = known_class_axis(run), tuple(run.graph.shape(run.graph.output))
    if run.detections:
        raise ConceptAxisError(
            "the model's output is boxes, none of which stands for a class alone: start from "
            "crp_kit.targets.Box(class), on the command line from --target box:CLASS:RANK"
        )
    if known is None:
        raise ConceptAxisError(
            f"which axis of the model's output, of shape {shape}, enumerates its classes is not known: name it with "
            f"CondAttribution(model, class_axis=...), choose a part with output=..., or name single neurons with "
            f"mask_map={{'y': NeuronConcept()}}"
        )
    return known


def known_class_axis(run: Run) -> int | None:
    """Return the axis of the model's output that enumerates its classes, as `class_axis`, or None if it is unknown."""
    shape, chosen = tuple(run.graph.shape(run.graph.output)), run.class_axis
    if run.detections:
        return None
    if chosen is not None:
        return _counted("class_axis", chosen, shape, what="the model's output")
    known = 1 if len(shape) == 2 else run.channel_axes.get(run.graph.output)
    return known if known and len(shape) > 1 else None


def check_class_output(run: Run) -> None:
    """Raise a `ConditionError` unless the model's output is (sample, class) or (sample, class, ...)."""
    shape = run.graph.shape(run.graph.output)
    if len(shape) < 2 or shape[0] != run.graph.batch:
        raise ConditionError(
            f"the model's output has shape {tuple(shape)}; (sample, class) is needed: choose with output=..."
        )


def heatmap_axis(run: Run, source: Ref) -> int | None:
    """Return the axis of an input over which its heatmap is the sum, its channels or features; None if there is none.

    It is the one that the attribution was made with (``feature_axis=``); otherwise the one that the graph knows. Of an
    input with four axes or more, which nothing in the graph contradicts, it is that of torch's images: axis 1.

    Raises
    ------
    ConceptAxisError
        If the graph does not know the axis of an input (sample, a, b), or there is no such axis.
    """
    shape, chosen = tuple(run.graph.shape(source)), run.feature_axis
    if chosen == "none":
        return None
    if chosen is not None:
        return _counted("feature_axis", chosen, shape, what=f"the input {run.graph.label(source)!r}")
    if run.graph.node(source).kwargs["embedded"]:
        return len(shape) - 1
    if len(shape) < 3:
        return None
    known = feature_axis(run.graph, source)
    if known is None and len(shape) == 3:
        raise ConceptAxisError(
            f"which axis of the input {run.graph.label(source)!r}, of shape {shape}, holds its features is not known, "
            f"and a heatmap is the sum over it: say CondAttribution(model, feature_axis=-1) for (batch, token, feature)"
            f", feature_axis=1 for (batch, channel, length), or feature_axis='none' for relevance that is not summed"
        )
    return 1 if known is None else None if known == NO_AXIS else known


def _counted(name: str, axis: int, shape: tuple[int, ...], *, what: str) -> int:
    """Return an axis counted from the front, if it is one behind the batch axis."""
    counted = axis + len(shape) if axis < 0 else axis
    if not 1 <= counted < len(shape):
        raise ConceptAxisError(
            f"{name}={axis} is no axis of {what}, whose shape is {shape}: it is one of those behind the batch axis, "
            f"1 to {len(shape) - 1} or -1"
        )
    return counted
