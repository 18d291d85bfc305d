"""Run a model once and write down each torch call that depends on its input: the recorded graph.

The model runs its own forward, so any Python in it works. A ``TorchFunctionMode`` sees every torch call; forward hooks
on the shadow copy say which module made it. In-place calls give their node a new value and leave the old one to those
who read it earlier.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from ..errors import InputError, ModelError
from .names import ModuleCall, assign_names
from .nodes import INPUT_NAME, Graph, Node, Ref, leaves
from .ops import Kind, OnCopy, canonical_name, in_reading_order, is_inplace, kind_of, out_of_place, raw_name
from .write import overlaps, write_through

OutputSelector = None | str | int | Callable[[Any], torch.Tensor]
_STEP_INTO = (functional.multi_head_attention_forward,)


class UnseenDependence(Exception):
    """A tensor depends on the input through something that makes no torch call that can be seen."""

    def __init__(self, path: str) -> None:
        self.path = path


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
    """

    graph: Graph
    values: list[list[Any]]
    notes: tuple[str, ...] = ()

    def value(self, ref: Ref) -> torch.Tensor:
        """Return the value of an output."""
        value: torch.Tensor = self.values[ref.node][ref.output]
        return value


@dataclass
class _Draft:
    op: str
    owner: str
    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass
class _Frame:
    call: ModuleCall
    inputs: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)


def record(
    shadow: torch.nn.Module,
    data: Any,
    *,
    output: OutputSelector = None,
    opaque: frozenset[str] = frozenset(),
    probe: bool = False,
) -> Recording:
    """Run the shadow copy once and return its recorded graph.

    Parameters
    ----------
    shadow : torch.nn.Module
        From `make_shadow`; hooks are added for the time of the call.
    data : torch.Tensor, tuple or dict
        What the model is called with: one tensor, positional or keyword inputs.
    output : optional
        Which part of the model's output is attributed: a key, an index, or a function of the output.
    opaque : frozenset of str, optional
        Paths of modules that become one node each.
    probe : bool, optional
        Run with gradients, to find dependences on the input that no torch call shows.

    Raises
    ------
    UnseenDependence
        While probing: the module at `path` has to be opaque.
    ModelError
        If the forward fails, or its output is no tensor that depends on the input.
    """
    recorder = _Recorder(shadow, opaque, probe)
    with recorder.hooks(), recorder.restored(), torch.enable_grad() if probe else torch.no_grad():
        args, kwargs, batch = recorder.enter_inputs(data)
        try:
            with recorder:
                result = shadow(*args, **kwargs)
                result = _select(result, output)
        except (UnseenDependence, ModelError, InputError):
            raise
        except Exception as error:
            shapes = ", ".join(str(tuple(t.shape)) for t in (*args, *kwargs.values()) if isinstance(t, torch.Tensor))
            raise ModelError(f"the model's forward failed for input of shape {shapes}: {error}") from error
    ref = recorder.ref(result)
    if ref is None:
        raise ModelError("the model's output does not depend on its input, or only through integers and booleans")
    return recorder.recording(ref, batch)


def _select(result: Any, output: OutputSelector) -> torch.Tensor:
    """Return the tensor to attribute from whatever the model returned."""
    if callable(output):
        selected = output(result)
    elif output is not None:
        try:
            selected = result[output]
        except (KeyError, IndexError, TypeError) as error:
            raise ModelError(f"the model's output ({_describe(result)}) has no part {output!r}") from error
    else:
        selected = result
    if isinstance(selected, torch.Tensor) and selected.is_floating_point():
        return selected
    raise ModelError(
        f"the model's output is {_describe(selected)}, not a floating-point tensor; choose the part to attribute with "
        f"CondAttribution(model, output=...): a key, an index, or a function"
    )


def _describe(result: Any) -> str:
    if isinstance(result, Mapping):
        return f"a {type(result).__name__} with keys {', '.join(map(repr, result))}"
    if isinstance(result, (tuple, list)):
        return f"a {type(result).__name__} of {len(result)}"
    return f"a tensor of {result.dtype}" if isinstance(result, torch.Tensor) else f"a {type(result).__name__}"


class _Recorder(TorchFunctionMode):
    """Writes the calls of one forward down."""

    def __init__(self, shadow: torch.nn.Module, opaque: frozenset[str], probe: bool) -> None:
        super().__init__()
        self.shadow, self.opaque, self.probe = shadow, opaque, probe
        self.drafts: list[_Draft] = []
        self.values: list[list[Any]] = []
        self.known: Any = WeakIdKeyDictionary()
        self.shared = {id(t): t for t in (*shadow.parameters(), *shadow.buffers())}
        self.overwritten: dict[int, torch.Tensor] = {}
        self.frames: list[_Frame] = []
        self.calls: list[ModuleCall] = []
        self.counts: dict[str, int] = {}
        self.paused = False
        self.notes: list[str] = []

    # ------------------------------------------------------------------ life cycle

    @contextmanager
    def hooks(self) -> Iterator[None]:
        """Follow which module is running."""
        with ExitStack() as stack:
            for path, module in self.shadow.named_modules():
                if isinstance(module, torch.jit.ScriptModule) and path not in self.opaque:
                    continue
                before = module.register_forward_pre_hook(self._entering(path), with_kwargs=True)
                after = module.register_forward_hook(self._leaving(path))
                stack.callback(before.remove)
                stack.callback(after.remove)
            yield

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Give parameters and buffers that the forward wrote to their old values back."""
        try:
            yield
        finally:
            for key, old in self.overwritten.items():
                self.shared[key].data = old

    def enter_inputs(self, data: Any) -> tuple[tuple[Any, ...], dict[str, Any], int]:
        """Make the input nodes and return what to call the model with, and the number of samples."""
        named: dict[str, Any]
        if isinstance(data, Mapping):
            named = dict(data)
        elif isinstance(data, (tuple, list)):
            named = {INPUT_NAME if i == 0 else f"{INPUT_NAME}_{i}": value for i, value in enumerate(data)}
        else:
            named = {INPUT_NAME: data}
        tensors = [value for value in named.values() if isinstance(value, torch.Tensor)]
        if not tensors:
            raise InputError(f"the model input is a tensor (or a dict or tuple with one); got {type(data).__name__}")
        for name, value in named.items():
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                own = value.detach().clone()
                own = own.requires_grad_().view_as(own) if self.probe else own
                self._register(_Draft("input", "", _input_value, (), {"name": name}), own)
                named[name] = own
        batch = tensors[0].shape[0] if tensors[0].ndim else 1
        if isinstance(data, Mapping):
            return (), named, batch
        return tuple(named.values()), {}, batch

    def recording(self, output: Ref, batch: int) -> Recording:
        """Return what was recorded, with names."""
        naming = assign_names([(draft.op, draft.owner, draft.kwargs) for draft in self.drafts], self.calls)
        modules = dict(self.shadow.named_modules())
        nodes = tuple(
            Node(
                index=index,
                op=draft.op,
                owner=draft.owner,
                func=draft.func,
                args=draft.args,
                kwargs=draft.kwargs,
                shapes=tuple(_float_shape(value) for value in self.values[index]),
                module=modules.get(naming.modules[index] or "") if naming.modules[index] is not None else None,
                name=naming.labels[index],
            )
            for index, draft in enumerate(self.drafts)
        )
        names = dict(naming.aliases)
        for node in nodes:
            outputs = [i for i, shape in enumerate(node.shapes) if shape is not None]
            if len(outputs) == 1:
                names[node.name] = Ref(node.index, outputs[0])
            else:
                names.pop(node.name, None)
                names.update({f"{node.name}:{i}": Ref(node.index, i) for i in outputs})
        graph = Graph(nodes, output, names, tuple(path for path in modules if path), batch)
        return Recording(graph, self.values, tuple(dict.fromkeys(self.notes)))

    # ------------------------------------------------------------------ modules

    def _entering(self, path: str) -> Callable[..., Any]:
        def hook(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if self.paused:
                return None
            number = self.counts.get(path, 0)
            self.counts[path] = number + 1
            call = ModuleCall(path, number, type(module), not any(True for _ in module.children()), len(self.drafts))
            self.frames.append(_Frame(call, args, kwargs))
            if path not in self.opaque:
                return None
            self.paused = True
            return _copied(args), _copied(kwargs)

        return hook

    def _leaving(self, path: str) -> Callable[..., Any]:
        def hook(module: torch.nn.Module, args: tuple[Any, ...], result: Any) -> Any:
            if self.paused and (not self.frames or self.frames[-1].call.path != path or path not in self.opaque):
                return None
            frame = self.frames.pop()
            if path in self.opaque:
                self.paused = False
                func = _ModuleCall(module)
                result = self._record(_Draft("opaque", path, func, frame.inputs, frame.kwargs), result)
            for value in leaves(result):
                if isinstance(value, torch.Tensor):
                    self._check_seen(value, path)
            refs = [self.ref(value) for value in leaves(result) if isinstance(value, torch.Tensor)]
            frame.call.stop = len(self.drafts)
            frame.call.result = next((ref for ref in refs if ref is not None), None)
            self.calls.append(frame.call)
            return result

        return hook

    # ------------------------------------------------------------------ calls

    def __torch_function__(
        self, func: Callable[..., Any], types_: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if self.paused:
            return func(*args, **kwargs)
        if func in _STEP_INTO:
            with self:
                return _body(func)(*args, **kwargs)
        raw = raw_name(func)
        if raw == "__set__":
            return func(*args, **kwargs)
        if self.probe:
            for value in leaves((args, kwargs)):
                if isinstance(value, torch.Tensor):
                    self._check_seen(value, self.frames[-1].call.path if self.frames else "")
        op = canonical_name(raw)
        args, kwargs = self._made_deterministic(op, args, kwargs)
        written = kwargs.pop("out", None)
        if isinstance(written, torch.Tensor):
            return self._overwrite(written, self._record(self._draft(op, func, args, kwargs), func(*args, **kwargs)))
        if args and isinstance(args[0], torch.Tensor) and is_inplace(raw, func, args, kwargs):
            return self._inplace(raw, op, func, args, kwargs)
        replay, operands = in_reading_order(raw, func, args)
        return self._record(self._draft(op, replay, operands, kwargs), func(*args, **kwargs))

    def _draft(self, op: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Draft:
        return _Draft(op, self.frames[-1].call.path if self.frames else "", func, args, kwargs)

    def _record(self, draft: _Draft, result: Any) -> Any:
        """Make a node of a call if it depends on the input; return the result, with no tensor of the call in it."""
        live = any(self.ref(value) is not None for value in leaves((draft.args, draft.kwargs)))
        outputs = leaves(result)
        if not live or not any(_float_shape(value) is not None for value in outputs):
            for value in outputs:
                if isinstance(value, torch.Tensor) and value not in self.known:
                    self.known[value] = None
            return result
        given = {id(value) for value in leaves((draft.args, draft.kwargs)) if isinstance(value, torch.Tensor)}
        result = _map(result, lambda t: t.view_as(t) if id(t) in given else t)
        self._register(draft, result)
        return result

    def _register(self, draft: _Draft, result: Any) -> None:
        draft.args, draft.kwargs = self._with_refs(draft.args), self._with_refs(draft.kwargs)
        index = len(self.drafts)
        self.drafts.append(draft)
        self.values.append([value.detach() if isinstance(value, torch.Tensor) else value for value in leaves(result)])
        for output, value in enumerate(leaves(result)):
            if isinstance(value, torch.Tensor):
                self.known[value] = Ref(index, output) if value.is_floating_point() else None

    def _with_refs(self, tree: Any) -> Any:
        """Arguments with a `Ref` for each tensor that depends on the input."""

        def replace(tensor: torch.Tensor) -> Any:
            ref = self.ref(tensor)
            if ref is not None:
                return ref
            untouched = id(tensor) in self.shared and id(tensor) not in self.overwritten
            return tensor if untouched else tensor.detach()

        return _map(tree, replace)

    def ref(self, value: Any) -> Ref | None:
        """Return which output a tensor is, or None if it does not depend on the input."""
        return self.known.get(value) if isinstance(value, torch.Tensor) else None

    def _check_seen(self, value: torch.Tensor, path: str) -> None:
        if self.probe and value.requires_grad and value not in self.known and id(value) not in self.shared:
            raise UnseenDependence(path)

    def _made_deterministic(
        self, op: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Switch dropout off, and refuse batch statistics: both would make relevance depend on chance or neighbours."""
        if "dropout" in op and self.ref(args[0] if args else None) is not None:
            active = kwargs.get("training", args[2] if len(args) > 2 else True)
            if active:
                self.notes.append("dropout that is on in evaluation mode was switched off for the attribution")
                if len(args) > 2:
                    args = (*args[:2], False, *args[3:])
                else:
                    kwargs = {**kwargs, "training": False}
        if op == "batch_norm" and (kwargs.get("training", args[5] if len(args) > 5 else False)):
            path = self.frames[-1].call.path if self.frames else ""
            raise ModelError(
                f"BatchNorm {path!r} normalises by the statistics of the batch, also in evaluation mode: one sample's "
                f"relevance would depend on the others. Give it running statistics (track_running_stats=True)"
            )
        return args, kwargs

    # ------------------------------------------------------------------ in-place calls

    def _inplace(
        self, raw: str, op: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        target = args[0]
        replay = out_of_place(raw, func)
        new = replay(*args, **kwargs)
        if new.dtype != target.dtype:
            replay = OnCopy(func)
            new = replay(*args, **kwargs)
        new = self._record(self._draft(op, replay, args, kwargs), new)
        return self._overwrite(target, new)

    def _overwrite(self, target: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        """Let the tensor object that the model holds be the new value, and so for every other view of its memory."""
        ref = self.ref(new)
        if id(target) in self.shared and id(target) not in self.overwritten:
            self.overwritten[id(target)] = target.data
            target.data = target.data.clone()
        elif ref is None and self.ref(target) is None:
            target.data.copy_(new.detach())
            return target
        aliases = [other for other in list(self.known.keys()) if other is not target and overlaps(other, target)]
        if not aliases:
            target.data = new.detach().clone() if new.data_ptr() == target.data_ptr() else new.detach()
            self.known[target] = ref
            return target
        self._keep_old_values(target)
        before = [(alias, alias.detach().clone()) for alias in aliases]
        target.data.copy_(new.detach())
        self.known[target] = ref
        for alias, old in before:
            self._write_alias(alias, old, target)
        return target

    def _keep_old_values(self, target: torch.Tensor) -> None:
        """Copy every recorded value and constant that lies in the memory about to be overwritten."""

        def copied(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.clone() if overlaps(tensor, target) else tensor

        for index, values in enumerate(self.values):
            self.values[index] = [copied(v) if isinstance(v, torch.Tensor) else v for v in values]
        for draft in self.drafts:
            draft.args, draft.kwargs = _map(draft.args, copied), _map(draft.kwargs, copied)

    def _write_alias(self, alias: torch.Tensor, old: torch.Tensor, target: torch.Tensor) -> None:
        """Record that a view of the same memory changed with it."""
        source = self.ref(alias)
        if source is None:
            self.known[old] = None
        else:
            self.known[old] = source
        func = write_through(alias, target)
        draft = self._draft("write_through", func, (old, target), {})
        if any(self.ref(value) is not None for value in (old, target)) and alias.is_floating_point():
            self._register(draft, alias)
            self.values[-1] = [alias.detach().clone()]


class _ModuleCall:
    """A module as a function of its inputs."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.module, self.__name__ = module, type(module).__name__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)


def _input_value(*, name: str) -> torch.Tensor:
    raise AssertionError(f"the value of the input {name!r} is given, not computed")


def _body(func: Callable[..., Any]) -> Callable[..., Any]:
    """Return a torch function that runs its own Python, of which each call is then seen, instead of being one call."""
    scope = {**func.__globals__, "has_torch_function": lambda _: False}
    copy = types.FunctionType(func.__code__, scope, func.__name__, func.__defaults__, func.__closure__)
    copy.__kwdefaults__ = func.__kwdefaults__
    return copy


def _float_shape(value: Any) -> torch.Size | None:
    return value.shape if isinstance(value, torch.Tensor) and value.is_floating_point() else None


def _copied(tree: Any) -> Any:
    return _map(tree, lambda tensor: tensor.clone())


def _map(tree: Any, func: Callable[[torch.Tensor], Any]) -> Any:
    """Apply a function to each tensor in nested tuples, lists and dictionaries; lists are copied."""
    if isinstance(tree, torch.Tensor):
        return func(tree)
    if isinstance(tree, (torch.Size, Ref)):
        return tree
    if isinstance(tree, (tuple, list)):
        parts = [_map(one, func) for one in tree]
        if type(tree) in (tuple, list):
            return type(tree)(parts)
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    if isinstance(tree, dict):
        mapped = {key: _map(one, func) for key, one in tree.items()}
        return mapped if type(tree) is dict else type(tree)(mapped)
    return tree


def seen_through(
    shadow: torch.nn.Module, data: Any, *, output: OutputSelector = None, opaque: frozenset[str] = frozenset()
) -> frozenset[str]:
    """Return the paths of modules that must be opaque nodes, because some dependence inside them cannot be seen.

    Scripted modules always are; others (custom autograd functions) are found by running with gradients.
    """
    for path, module in shadow.named_modules():
        if isinstance(module, torch.jit.ScriptModule) and not _below(path, opaque):
            opaque |= {path}
    while True:
        try:
            record(shadow, data, output=output, opaque=opaque, probe=True)
        except UnseenDependence as found:
            if found.path in opaque:
                raise ModelError(f"what module {found.path!r} returns depends on the input in a hidden way") from None
            opaque |= {found.path}
        else:
            return opaque


def _below(path: str, opaque: frozenset[str]) -> bool:
    return any(not top or path == top or path.startswith(f"{top}.") for top in opaque)


