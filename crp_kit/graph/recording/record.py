"""Run a model once and record each torch call that depends on its input: the recorded graph.

The model runs its own forward, so any Python in it works. A ``TorchFunctionMode`` sees every torch call; forward hooks
on the shadow copy follow which module made it. In-place calls give their node a new value and leave the old one to the
nodes that read it before.
"""

from __future__ import annotations

import inspect
import re
import sys
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from ...conditions import OutputSelector
from ...errors import CrpKitWarning, DeviceMemoryError, InputError, ModelError
from ..graph import Graph, Ref
from ..nested import mapped, tensors
from .drafted_graph import drafted_graph
from .function_mode import Recorder
from .hidden_dependence import Probe, UnseenDependenceError
from .inputs import Inputs
from .shadow import ScriptedModule, attributes_kept, modules_by_path

_CHANNELS = re.compile(r"expected input\[[\d, ]*\] to have (\d+) channels?, but got")
_SIZES = re.compile(
    r"shapes cannot be multiplied|must match the size|Kernel size can't be greater|size mismatch"
    r"|Output size is too small|is invalid for input of size|doesn't match model"
)
"""What torch says of tensors whose sizes do not fit."""


@dataclass(frozen=True)
class Recording:
    """A recorded graph with the values of one forward.

    Parameters
    ----------
    graph : Graph
    values : list of list
        For each node, its outputs.
    notes : tuple of str
        What was done about the model that the user should know.
    read : frozenset of Ref, optional
        Outputs on whose values constants of the graph depend, such as masks, or the branch of an ``if``.
    maps : frozenset of Ref, optional
        Outputs that are maps of channels, (sample, channel, height, width).
    working : dict, optional
        Where rules keep outputs in the form in which they use them.
    remarks : list of str, optional
        What rules found out that the user should know, until the user is warned of it.
    """

    graph: Graph
    values: list[list[Any]]
    notes: tuple[str, ...] = ()
    read: frozenset[Ref] = frozenset()
    maps: frozenset[Ref] = frozenset()
    working: dict[Ref, torch.Tensor] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def value(self, ref: Ref) -> torch.Tensor:
        """Return the value of an output."""
        value: torch.Tensor = self.values[ref.node][ref.output]
        return value

    def with_detached(self, detached: frozenset[int]) -> Recording:
        """Return the recording with other nodes detached, see `Graph.detached`."""
        same = self.graph.detached == detached
        return self if same else replace(self, graph=replace(self.graph, detached=detached))


def record(
    shadow: torch.nn.Module,
    data: Any,
    *,
    output: OutputSelector = None,
    opaque: frozenset[str] = frozenset(),
    elementwise: frozenset[str] = frozenset(),
    probe: Probe | None = None,
    known: Graph | None = None,
    replaced: tuple[Ref, torch.Tensor] | None = None,
    kernels: Mapping[Any, Callable[..., Any]] | None = None,
) -> Recording:
    """Run the shadow copy once and return its recorded graph.

    Parameters
    ----------
    shadow : torch.nn.Module
        From `make_shadow`; hooks are added for the time of the call. What the forward writes to parameters, buffers and
        attributes, and in lists and dictionaries that are attributes, is undone.
    data : torch.Tensor, tuple or dict
        The model's input: one tensor, positional or keyword inputs.
    output : optional
        Which part of the model's output is attributed: a key, an index, an attribute, or a function of the output.
    opaque : frozenset of str, optional
        Paths of modules that become one node each.
    elementwise : frozenset of str, optional
        Paths of modules that become one node each, as activations.
    probe : {"dependence", "gradients"}, optional
        Run with gradients, to find dependences on the input that no torch call shows; with ``"gradients"`` also custom
        autograd functions whose calls can be seen.
    known : Graph, optional
        Of an earlier forward of the shadow, see `crp_kit.graph.recording.drafted_graph.drafted_graph`.
    replaced : (Ref, torch.Tensor), optional
        An output that gets another value, with which the forward goes on.
    kernels : mapping from callable to callable, optional
        Torch functions, and what computes them in their place, up to rounding.

    Raises
    ------
    UnseenDependenceError
        The module at `path` has to be opaque.
    InputError
        If the data has no tensor, or no batch axis.
    ModelError
        If the forward fails, or its output is no tensor that depends on the input.
    DeviceMemoryError
        If memory does not suffice for the forward.
    """
    recorder = Recorder(shadow, opaque, probe, elementwise, replaced=replaced, kernels=kernels)
    with (
        attributes_kept([module for _, module in recorder.modules]),
        recorder.hooks(),
        recorder.tape.own.restored(),
        torch.set_grad_enabled(probe is not None),
        _uncompiled(),
    ):
        inputs = Inputs.of(data)
        args, kwargs, batch = recorder.enter_inputs(inputs)
        try:
            with recorder:
                result = _select(shadow(*args, **kwargs), output)
        except (UnseenDependenceError, InputError):
            raise
        except ModelError as error:
            _refuse_integers(recorder, inputs, error)
            raise
        except torch.cuda.OutOfMemoryError as error:
            raise DeviceMemoryError("the model's forward", batch) from error
        except Exception as error:
            _refuse_integers(recorder, inputs, error)
            shapes = ", ".join(str(tuple(t.shape)) for t in tensors((args, kwargs)))
            hint = _calling_hint(shadow, inputs, (args, kwargs)) if isinstance(error, TypeError) else _size_hint(error)
            raise ModelError(f"the model's forward failed for input of shape {shapes}: {error}{hint}") from error
    ref = recorder.tape.ref(result)
    if ref is None:
        _refuse_integers(recorder, inputs, None)
        raise ModelError("the model's output does not depend on its input, or only through integers and booleans")
    graph = drafted_graph(recorder, ref, batch, gradients=probe is not None, known=known)
    notes = tuple(dict.fromkeys(recorder.notes))
    return Recording(graph, recorder.tape.values, notes, frozenset(recorder.read.refs))


def _uncompiled() -> AbstractContextManager[object]:
    """Let compiled parts of a model run as they are written: the compiler would compile the recorder into them."""
    set_stance = getattr(torch.compiler, "set_stance", None)  # torch < 2.6 has none
    if "torch._dynamo" not in sys.modules or set_stance is None:
        return nullcontext()
    stance: AbstractContextManager[object] = set_stance("force_eager")
    return stance


def _calling_hint(shadow: torch.nn.Module, inputs: Inputs, arguments: tuple[tuple[Any, ...], dict[str, Any]]) -> str:
    """Return how to give a forward its data if the arguments that were made of it do not fit its parameters."""
    args, kwargs = arguments
    try:
        inspect.signature(shadow.forward).bind(*args, **kwargs)
    except TypeError:
        container = type(inputs.tree).__name__
        if inputs.calling == "arguments" and not isinstance(inputs.tree, torch.Tensor):
            return f". If the forward takes the {container} itself, use CondAttribution(model, inputs='single')"
        if isinstance(inputs.tree, torch.Tensor):
            return (
                ". It was called with one tensor: give a tuple or a dict of all that it takes, or wrap the model in a "
                "module whose forward takes that tensor alone"
            )
    return ""


def _size_hint(error: Exception) -> str:
    """Return what to try after an error of torch about channels or sizes."""
    channels = _CHANNELS.search(str(error))
    if channels:
        many = f"{channels[1]} channel{'s' * (channels[1] != '1')}"
        return (
            f". The model takes inputs of {many}, which a Preprocess with as many numbers in mean and std makes, or "
            f"--channels {channels[1]}"
        )
    if not _SIZES.search(str(error)):
        return ""
    return ". The model may be made for inputs of another size, which Preprocess(resize=, crop=) or --size chooses"


def _refuse_integers(recorder: Recorder, inputs: Inputs, cause: Exception | None) -> None:
    """Raise an error if all there is to attribute are integers, and no table was looked up by them."""
    if recorder.tape.drafts:
        return
    first = next(iter(inputs.by_sample.values()))
    raise InputError(
        f"data has to be floating point to carry relevance; got {first.dtype}: use data.float(). Integers can be token "
        f"ids where the forward looks them up, as indices of an embedding or a table; this one does not"
    ) from cause


def seen_through(
    shadow: torch.nn.Module,
    data: Any,
    *,
    output: OutputSelector = None,
    opaque: frozenset[str] = frozenset(),
    elementwise: frozenset[str] = frozenset(),
    gradients: bool = False,
) -> tuple[frozenset[str], Graph | None]:
    """Return what forwards with gradients show and others do not.

    Scripted modules are always opaque; others (custom autograd functions, sparse tensors) show with gradients.

    Parameters
    ----------
    shadow, data, output, opaque, elementwise
        As for `record`.
    gradients : bool, optional
        Plain gradients are wanted: a module with a custom autograd function is opaque even if every call in it can be
        seen, since the function's own backward counts.

    Returns
    -------
    opaque : frozenset of str
        Paths of modules that must be opaque nodes, because some dependence inside them cannot be seen, and of `opaque`.
    graph : Graph or None
        The graph with what no gradient leads back from; None if the model cannot run with gradients.
    """
    opaque |= {path for path, module in modules_by_path(shadow) if isinstance(module, ScriptedModule)}
    probe: Probe = "gradients" if gradients else "dependence"
    while True:
        try:
            seen = record(shadow, data, output=output, opaque=opaque, elementwise=elementwise, probe=probe)
        except UnseenDependenceError as error:
            if error.path in opaque:
                raise ModelError(f"what module {error.path!r} returns depends on the input in a hidden way") from error
            opaque |= {error.path}
        except (ModelError, DeviceMemoryError) as error:
            failure = str(error)
            break
        else:
            return opaque, seen.graph
    record(shadow, data, output=output, opaque=opaque, elementwise=elementwise)
    warnings.warn(
        f"the model cannot run with gradients, so custom autograd functions in it would go unseen: {failure}",
        CrpKitWarning,
        stacklevel=2,
    )
    return opaque, None


def first_sample(data: Any) -> Any:
    """Return the first of several samples, or None if tensors of the data differ in number, or may point at others."""
    values = tensors(data)
    if isinstance(data, Inputs) and data.shared:
        return None
    counts = {value.shape[:1] for value in values}
    divisible = len(counts) == 1 and max(counts) > (1,) and all(value.is_floating_point() for value in values)
    return mapped(data, lambda value: value[:1]) if divisible else None


def _select(result: Any, output: OutputSelector) -> torch.Tensor:
    """Return the tensor to attribute from whatever the model returned."""
    selected = result if output is None else _part(result, output)
    if isinstance(selected, torch.Tensor) and selected.is_floating_point():
        return selected
    advice = "its forward has to return scores in floating point, such as logits"
    parts = selected if isinstance(selected, Mapping) else dict(enumerate(selected)) if _is_row(selected) else {}
    names = [name for name, part in parts.items() if isinstance(part, torch.Tensor) and part.is_floating_point()]
    if names or not isinstance(selected, torch.Tensor | None):
        example = f", such as {names[0]!r}" if names else ""
        advice = (
            f"choose the part to attribute with CondAttribution(model, output=...): a key, an index, an attribute, or "
            f"a function{example}"
        )
    raise ModelError(f"the model's output is {_describe(selected)}, not a floating-point tensor; {advice}")


def _is_row(result: Any) -> bool:
    return isinstance(result, (tuple, list))


def _part(result: Any, output: str | int | Callable[[Any], Any]) -> Any:
    if callable(output):
        return output(result)
    try:
        if isinstance(output, str) and not isinstance(result, Mapping):
            return getattr(result, output)
        return result[output]
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ModelError(f"the model's output ({_describe(result)}) has no part {output!r}") from error


def _describe(result: Any) -> str:
    if isinstance(result, Mapping):
        return f"a {type(result).__name__} with keys {', '.join(map(repr, result))}"
    if _is_row(result):
        return f"a {type(result).__name__} of {len(result)}"
    return f"a tensor of {result.dtype}" if isinstance(result, torch.Tensor) else f"a {type(result).__name__}"
