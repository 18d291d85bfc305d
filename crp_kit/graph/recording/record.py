"""Run a model once and record each torch call that depends on its input: the recorded graph.

The model runs its own forward, so any Python in it works. A ``TorchFunctionMode`` sees every torch call; forward hooks
on the shadow copy follow which module made it. In-place calls give their node a new value and leave the old one to the
nodes that read it before.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from ...conditions import OutputSelector
from ...errors import CrpKitWarning, DeviceMemoryError, InputError, ModelError
from ..graph import Graph, Node, Ref
from ..nested import mapped, tensors
from ..operations import Kind, Trait
from .function_mode import Recorder
from .hidden_dependence import Probe, UnseenDependenceError
from .inputs import Inputs
from .live_values import Draft, Tape
from .node_names import assign_names
from .shadow import ScriptedModule, attributes_kept, modules_by_path


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
    maps: frozenset[Ref] = frozenset()
    working: dict[Ref, torch.Tensor] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def value(self, ref: Ref) -> torch.Tensor:
        """Return the value of an output."""
        value: torch.Tensor = self.values[ref.node][ref.output]
        return value

    @property
    def structure(self) -> tuple[Any, ...]:
        """Equal for two recordings of the same calls, whatever their shapes."""
        return (self.graph.output, *((node.spec, node.owner, node.name, node.inputs) for node in self.graph))


def record(
    shadow: torch.nn.Module,
    data: Any,
    *,
    output: OutputSelector = None,
    opaque: frozenset[str] = frozenset(),
    elementwise: frozenset[str] = frozenset(),
    probe: Probe | None = None,
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
    recorder = Recorder(shadow, opaque, probe, elementwise)
    with (
        attributes_kept([module for _, module in recorder.modules]),
        recorder.hooks(),
        recorder.tape.own.restored(),
        torch.set_grad_enabled(probe is not None),
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
            hint = _calling_hint(shadow, inputs, (args, kwargs)) if isinstance(error, TypeError) else ""
            raise ModelError(f"the model's forward failed for input of shape {shapes}: {error}{hint}") from error
    ref = recorder.tape.ref(result)
    if ref is None:
        _refuse_integers(recorder, inputs, None)
        raise ModelError("the model's output does not depend on its input, or only through integers and booleans")
    graph = _graph(recorder, ref, batch, gradients=probe is not None)
    return Recording(graph, recorder.tape.values, tuple(dict.fromkeys(recorder.notes)))


@dataclass(frozen=True)
class Seen:
    """Results of a forward with gradients that a forward without them does not show.

    Parameters
    ----------
    opaque : frozenset of str
        Paths of modules that must be opaque nodes, because some dependence inside them cannot be seen.
    structure : tuple, optional
        Structure of the recording with gradients; empty if the model cannot run with them.
    detached : frozenset of int, optional
        See `Graph.detached`.
    """

    opaque: frozenset[str]
    structure: tuple[Any, ...] = ()
    detached: frozenset[int] = frozenset()

    def marked(self, recording: Recording) -> Recording:
        """Return a recording of the same calls with what no gradient leads back from; any other as it is."""
        if not self.detached or recording.structure != self.structure:
            return recording
        return replace(recording, graph=replace(recording.graph, detached=self.detached))


def _calling_hint(shadow: torch.nn.Module, inputs: Inputs, arguments: tuple[tuple[Any, ...], dict[str, Any]]) -> str:
    """Return how to give a forward its data if the arguments that were made of it do not fit its parameters."""
    args, kwargs = arguments
    try:
        inspect.signature(shadow.forward).bind(*args, **kwargs)
    except TypeError:
        container = type(inputs.tree).__name__
        if inputs.calling == "arguments" and not isinstance(inputs.tree, torch.Tensor):
            return f". If the forward takes the {container} itself, use CondAttribution(model, inputs='single')"
    return ""


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
) -> Seen:
    """Return which modules must be opaque nodes, and what no gradient leads back from, from forwards with gradients.

    Scripted modules always are; others (custom autograd functions, complex numbers) show when run with gradients.

    Parameters
    ----------
    shadow, data, output, opaque, elementwise
        As for `record`; the result contains `opaque`.
    gradients : bool, optional
        Plain gradients are wanted: a module with a custom autograd function is opaque even if every call in it can be
        seen, since the function's own backward counts.
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
            return Seen(opaque, seen.structure, seen.graph.detached)
    record(shadow, data, output=output, opaque=opaque, elementwise=elementwise)
    warnings.warn(
        f"the model cannot run with gradients, so custom autograd functions in it would go unseen: {failure}",
        CrpKitWarning,
        stacklevel=2,
    )
    return Seen(opaque)


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
    raise ModelError(
        f"the model's output is {_describe(selected)}, not a floating-point tensor; choose the part to attribute with "
        f"CondAttribution(model, output=...): a key, an index, an attribute, or a function"
    )


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
    if isinstance(result, (tuple, list)):
        return f"a {type(result).__name__} of {len(result)}"
    return f"a tensor of {result.dtype}" if isinstance(result, torch.Tensor) else f"a {type(result).__name__}"


def _graph(recorder: Recorder, output: Ref, batch: int, *, gradients: bool) -> Graph:
    """Return what was recorded, with names."""
    tape, modules = recorder.tape, dict(recorder.modules)
    through = {index for index, draft in enumerate(tape.drafts) if draft.spec.has(Trait.WRITE_THROUGH)}
    naming = assign_names([_functional_name(draft) for draft in tape.drafts], recorder.calls, through)
    nodes = tuple(
        Node(
            index=index,
            spec=draft.spec,
            owner=draft.owner,
            func=draft.func,
            args=draft.args,
            kwargs=draft.kwargs,
            shapes=draft.shapes,
            module=modules.get(path) if path is not None else _layer_of(draft, modules),
            name=label,
        )
        for index, (draft, label, path) in enumerate(zip(tape.drafts, naming.labels, naming.modules, strict=True))
    )
    names = dict(naming.aliases)
    for node in nodes:
        outputs = [i for i, shape in enumerate(node.shapes) if shape is not None]
        if len(outputs) == 1:
            names[node.name] = Ref(node.index, outputs[0])
        else:
            names.pop(node.name, None)
            names.update({f"{node.name}:{i}": Ref(node.index, i) for i in outputs})
    names_of_modules = tuple(path for path in modules if path)
    graph = Graph(nodes, output, names, names_of_modules, batch, _detached(tape, gradients=gradients))
    # of a forward that is all under torch.no_grad it is not known what its author means to be constant
    return replace(graph, detached=_detached(tape, gradients=False)) if output.node in graph.constants else graph


def _functional_name(draft: Draft) -> str:
    """Return the name of a call that is not a whole module, or of an input."""
    if draft.spec.kind is Kind.INPUT:
        return str(draft.kwargs["name"])
    operation = draft.title or draft.spec.name
    return f"{draft.owner}.{operation}" if draft.owner else operation


def _layer_of(draft: Draft, modules: Mapping[str, torch.nn.Module]) -> torch.nn.Module | None:
    """Return the convolution or linear layer whose own forward makes a call, among calls of other operations."""
    layer = modules.get(draft.owner)
    return layer if draft.spec.layer is not None and isinstance(layer, draft.spec.layer) else None


def _detached(tape: Tape, *, gradients: bool) -> frozenset[int]:
    """Return the nodes from whose output no gradient leads back; those under ``torch.no_grad`` only where it shows."""
    return frozenset(
        index
        for index, draft in enumerate(tape.drafts)
        if draft.spec.kind is Kind.DETACHED or (gradients and not draft.differentiable)
    )
