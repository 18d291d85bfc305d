"""The function mode that records the torch calls of one forward, and the hooks that follow which module makes them."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from ...errors import InputError, ModelError
from ..graph import Ref
from ..nested import leaves, mapped, tensors
from ..operation_names import in_reading_order, is_quantised, raw_name
from ..operations import Kind, OperationSpec, Trait
from ..registry import operation_of, spec_of
from .complex_values import ComplexValues
from .decompositions import decomposition_of
from .eval_mode import WITH_DROPOUT, takes_batch_statistics, without_dropout
from .hidden_dependence import Detector, Probe, UnseenDependenceError
from .in_place import MOVING, RESHAPING, is_in_place, overwrite, rebind, value_after
from .inputs import Inputs, is_token_ids
from .live_values import Draft, Tape
from .node_names import ModuleCall
from .shadow import ModelTensors, ModuleRun, modules_by_path, state_tensors
from .token_ids import TokenIds, samples_first
from .values_read import ValuesRead

_STEP_INTO = (functional.multi_head_attention_forward,)


@dataclass
class _Frame:
    """A running module: how often it ran before, its first node, its arguments, the copies that an opaque one got."""

    path: str
    number: int
    start: int
    inputs: tuple[Any, ...]
    kwargs: dict[str, Any]
    copies: Any = ()


class Recorder(TorchFunctionMode):
    """Records the calls of one forward.

    Parameters
    ----------
    shadow : torch.nn.Module
    opaque : frozenset of str
        Paths of modules that become one node each.
    probe : str or None
        The forward runs with gradients; a tensor that has one without a recorded call raises `UnseenDependenceError`.
    elementwise : frozenset of str, optional
        Paths of modules that become one node each, as activations.
    replaced : (Ref, torch.Tensor), optional
        An output that gets another value, with which the forward goes on.
    kernels : mapping from callable to callable, optional
        Torch functions, and what computes them in their place, up to rounding.

    Attributes
    ----------
    modules : list of (str, torch.nn.Module)
        The paths and modules of the shadow.
    tape : Tape
        The nodes and their values.
    calls : list of ModuleCall
        In the order in which they ended.
    notes : list of str
        What was done about the model that the user should know.
    read : ValuesRead
        Outputs on whose values constants of the graph depend.
    """

    def __init__(
        self,
        shadow: torch.nn.Module,
        opaque: frozenset[str],
        probe: Probe | None,
        elementwise: frozenset[str] = frozenset(),
        *,
        replaced: tuple[Ref, torch.Tensor] | None = None,
        kernels: Mapping[Any, Callable[..., Any]] | None = None,
    ) -> None:
        super().__init__()
        self.shadow, self.opaque, self.elementwise = shadow, opaque | elementwise, elementwise
        self.modules = modules_by_path(shadow)
        self.tape = Tape(ModelTensors([module for _, module in self.modules]))
        self.calls: list[ModuleCall] = []
        self.notes: list[str] = []
        self.read = ValuesRead()
        self._replaced, self._kernels = replaced, kernels or {}
        self._ids, self._samples = TokenIds(), 1
        self._complex = ComplexValues(self.tape)
        self._detector = None if probe is None else Detector(probe, self.tape, self._complex)
        self._frames: list[_Frame] = []
        self._path = ""  # of the innermost module that is running
        self._counts: dict[str, int] = {}
        self._input_ranks: set[int] = set()
        self._paused = False

    # ------------------------------------------------------------------ life cycle

    @contextmanager
    def hooks(self) -> Iterator[None]:
        """Follow which module is running."""
        handles = []
        try:
            for path, module in self.modules:
                handles.append(module.register_forward_pre_hook(partial(self._enter, path), with_kwargs=True))
                handles.append(module.register_forward_hook(partial(self._leave, path), always_call=True))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def enter_inputs(self, data: Any) -> tuple[tuple[Any, ...], dict[str, Any], int]:
        """Make the input nodes; return positional and keyword arguments of the model, and the number of samples."""
        inputs = Inputs.of(data)
        order = {name: number for number, (name, _) in enumerate(inputs.named())}

        self._samples = inputs.samples

        def entered(name: str, tensor: torch.Tensor) -> torch.Tensor:
            own = tensor.detach().clone()
            about = {"name": name, "shared": name in inputs.shared, "order": order[name], "embedded": False}
            if not own.is_floating_point():
                if inputs.starts_with_ids and is_token_ids(own):
                    self._ids.enter(own, about)
                return own
            own = own if self._detector is None else self._detector.entered(own)
            entered_value: torch.Tensor = self._replacement(own)
            self.tape.add(Draft(spec_of("input"), "", _input_value, (), about), entered_value)
            self._input_ranks.add(own.ndim)
            return entered_value

        own = inputs.replaced(entered)
        with self:  # a list of samples is made of one tensor by a call that has to be seen
            args, kwargs = own.arguments()
        return args, kwargs, inputs.samples

    # ------------------------------------------------------------------ modules

    def _enter(self, path: str, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Note that a module runs; an opaque one gets copies of its arguments."""
        if self._paused:
            return None
        if self._detector is not None:
            self._paused = True  # what is looked up here is no call of the model
            self._detector.check((args, kwargs), self._path)
            self._paused = False
        number = self._counts.get(path, 0)
        self._counts[path] = number + 1
        frame = _Frame(path, number, len(self.tape.drafts), args, kwargs)
        self._frames.append(frame)
        self._path = path
        if path not in self.opaque:
            return None
        self._paused = True
        for tensor in state_tensors(module):
            self.tape.own.remember(tensor)
            tensor.data = tensor.data.clone()
            self.tape.locate(tensor)
        frame.copies = mapped((args, kwargs), lambda tensor: tensor.clone())
        return frame.copies

    def _leave(self, path: str, module: torch.nn.Module, args: tuple[Any, ...], result: Any) -> Any:
        """Note what a module returned; return it."""
        if self._path != path or not self._frames or (self._paused and path not in self.opaque):
            return None
        self._paused = True
        frame = self._frames.pop()
        self._path = self._frames[-1].path if self._frames else ""
        if path in self.opaque:
            result = self._opaque_result(frame, module, result)
        if self._detector is not None:
            self._detector.check(result, path)
        ref, stop = self.tape.first_ref(result), len(self.tape.drafts)
        self.calls.append(ModuleCall(path, frame.number, frame.start, stop, path in self.opaque, ref))
        self._paused = False
        return result

    def _opaque_result(self, frame: _Frame, module: torch.nn.Module, result: Any) -> Any:
        """Make a node of a whole module; return its result."""
        returned = any(result is value for value in frame.copies[0])
        result = mapped(result, lambda tensor: tensor.view_as(tensor))
        name = "elementwise" if frame.path in self.elementwise else "identity" if returned else "opaque"
        result = self._record(Draft(spec_of(name), frame.path, ModuleRun(module), frame.inputs, frame.kwargs), result)
        self._overwrite_inputs(frame, result)
        return result

    def _overwrite_inputs(self, frame: _Frame, result: Any) -> None:
        """Let what a module that works in place was given be what it returned."""
        pairs = zip(tensors((frame.inputs, frame.kwargs)), tensors(frame.copies), strict=True)
        for own, copy in pairs:
            if copy._version and isinstance(result, torch.Tensor) and torch.equal(copy, result):
                self._write(own, result)

    # ------------------------------------------------------------------ calls

    def __torch_function__(
        self, func: Callable[..., Any], types_: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if self._paused:
            return func(*args, **kwargs)
        if func in _STEP_INTO:
            with self:
                return _body(func)(*args, **kwargs)
        decomposition = decomposition_of(func)
        if decomposition is not None and self.tape.first_ref((args, kwargs)) is not None:
            return self._decomposed(func, decomposition, args, kwargs)
        raw = raw_name(func)
        if raw == "__set__":
            self._set_property(func, args)
            return None
        self.read.note_arguments((args, kwargs))
        if self._detector is not None:
            self._detector.check((args, kwargs), self._path)
        spec = operation_of(func, raw)
        args, kwargs = self._checked(spec, func, args, kwargs)
        draft = Draft(spec, self._path, func, args, kwargs)
        written = kwargs.pop("out", None)
        if written is not None:
            return self._write_out(written, self._record(draft, func(*args, **kwargs)))
        writes = Trait.DROPOUT not in spec.traits  # dropout is off, and hands its argument on
        if writes and args and isinstance(args[0], torch.Tensor) and is_in_place(raw, func, args, kwargs):
            return self._in_place(raw, draft)
        draft.func, draft.args = in_reading_order(raw, func, args)
        result = self._record(draft, self._kernels.get(func, func)(*args, **kwargs))
        if raw in MOVING:
            self.tape.locate(args[0])
        return result

    def _decomposed(
        self, func: Callable[..., Any], decomposition: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Record the operations that a fused call consists of; the last of them has the call's name."""
        name, first = operation_of(func).name, len(self.tape.drafts)
        with self:
            result = decomposition(*args, **kwargs)
        for draft in self.tape.drafts[first:]:
            draft.title = f"{name}.{draft.spec.name}"
        ref = self.tape.first_ref(result)
        if ref is not None and ref.node >= first:
            self.tape.drafts[ref.node].title = name
        return result

    def _record(self, draft: Draft, result: Any) -> Any:
        """Make a node of a call if it depends on the input; return the result, with no tensor of the call in it."""
        outputs = tensors(result)
        arguments = tensors((draft.args, draft.kwargs))
        # most calls read the values of all their arguments, which are collected once
        read = tensors(draft.spec.values_read(draft.args, draft.kwargs)) if draft.spec.like else arguments
        refs = [ref for ref in map(self.tape.ref, read) if ref is not None]
        live = bool(refs)
        if live:
            self.read.note_result(raw_name(draft.func), refs, outputs)
        if not outputs:
            return result
        if live and self._detector is not None:
            self._detector.check_dense(outputs, self._path)
        is_hidden = self._complex.are_among(read)
        if (live or is_hidden) and any(map(torch.is_complex, outputs)):
            self.tape.notice(outputs)
            self._complex.note(draft, result)
            return result
        if is_hidden and any(map(torch.is_floating_point, outputs)):
            live, draft = True, self._complex.as_node(draft)
            if self._detector is not None and not self._complex.is_right(draft, result):
                raise UnseenDependenceError(self._path)
        if not live and self._ids:
            ids = self._ids.looked_up(draft, outputs)
            if ids is not None:
                return self._embedded(draft, ids, outputs[0])
            self._ids.follow(draft, outputs)
        if not live or not any(map(torch.is_floating_point, outputs)):
            self.tape.notice(outputs)
            return result
        passed = set(map(id, arguments))
        if not passed.isdisjoint(map(id, outputs)):
            result = mapped(result, lambda t: t.view_as(t) if id(t) in passed else t)
        result = self._replacement(result)
        self.tape.add(draft, result)
        return result

    def _replacement(self, result: Any) -> Any:
        """Return the result of the next node, in which an output that is replaced has its other value."""
        if self._replaced is None or self._replaced[0].node != len(self.tape.drafts):
            return result
        ref, value = self._replaced
        old = leaves(result)[ref.output]
        return mapped(result, lambda tensor: value.clone() if tensor is old else tensor)

    def _embedded(self, draft: Draft, ids: Any, value: torch.Tensor) -> torch.Tensor:
        """Make an input of what ids were looked up; return it as the model expects it."""
        name = f"{draft.owner}.{draft.spec.name}" if draft.owner else draft.spec.name
        about = {**ids.about, "name": name, "embedded": True}
        order, by = samples_first(ids, self._samples)
        own = value.detach().clone()
        if order:
            own = own.reshape(*by[1:], *own.shape[1:]) if order == "unflatten" else own.movedim(*by)
        own = self._replacement(own.contiguous())
        own = own if self._detector is None else self._detector.entered(own)
        self.tape.add(Draft(spec_of("input"), draft.owner, _input_value, (), about), own)
        if not order:
            return own
        with self:
            return own.flatten(0, 1) if order == "unflatten" else own.movedim(by[1], by[0])

    def _checked(
        self, spec: OperationSpec, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of a call with dropout switched off, if it is one that can be recorded."""
        if is_quantised(func):
            raise ModelError(
                f"the model is quantised: {spec.name!r} at {self._path!r} computes with integers, and no relevance can "
                f"pass; explain the floating-point model that it was made from"
            )
        quiet = None if WITH_DROPOUT.isdisjoint(spec.traits) else without_dropout(spec, func, args, kwargs)
        if quiet is not None:
            self.notes.append(f"dropout that is on in evaluation mode (in {self._path!r}) was switched off")
            args, kwargs = quiet
        if spec.kind in (Kind.BATCH_NORM, Kind.LINEAR):
            signal = args[0] if args else kwargs.get("input")
            if isinstance(signal, torch.Tensor) and self.tape.ref(signal) is not None:
                self._check_batch(spec, signal, args, kwargs)
        return args, kwargs

    def _check_batch(
        self, spec: OperationSpec, signal: torch.Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Refuse what would let one sample's relevance depend on others, or on no batch axis."""
        if spec.kind is Kind.BATCH_NORM and takes_batch_statistics(spec, args, kwargs):
            raise ModelError(
                f"BatchNorm {self._path!r} normalises by the statistics of the batch, also in evaluation mode: one "
                f"sample's relevance would depend on the others. Give it running statistics (track_running_stats=True)"
            )
        axes, shape = spec.spatial_axes, signal.shape
        convolves = spec.kind is Kind.LINEAR and axes and Trait.TRANSPOSED not in spec.traits
        if convolves and len(shape) == axes + 1 and self._input_ranks == {axes + 1}:
            raise InputError(
                f"data needs a batch axis in front: {spec.name} at {self._path!r} got shape {tuple(shape)} where it "
                f"takes {axes + 2} axes, (batch, channel, ...); use data[None] for one sample"
            )

    # ------------------------------------------------------------------ in-place calls

    def _in_place(self, raw: str, draft: Draft) -> Any:
        target = draft.args[0]
        draft.func, new = value_after(raw, draft.func, draft.args, draft.kwargs)
        new = self._record(draft, new)
        if self._ids:
            self._ids.rename(target, new)
        self._complex.rename(target, new)
        if raw not in RESHAPING:
            return self._write(target, new)
        rebind(self.tape, target, new)
        return target

    def _set_property(self, func: Callable[..., Any], args: tuple[Any, ...]) -> None:
        """Assign to an attribute of a tensor, such as ``weight.data = …``."""
        if getattr(getattr(func, "__self__", None), "__name__", "") == "data":
            rebind(self.tape, args[0], args[1])
        else:
            func(*args)

    def _write_out(self, written: Any, result: Any) -> Any:
        """Write the results of a call into the tensors given as ``out=``."""
        for target, new in zip(tensors(written), tensors(result), strict=True):
            self._write(target, new)
        return written

    def _write(self, target: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        """Let a tensor of the model be the new value; return it."""
        self._complex.forget_others_of(target)
        written = overwrite(self.tape, target, new, owner=self._path)
        if self._detector is not None:
            self._detector.mark(written)
        return target


def _input_value(*, name: str, shared: bool, order: int, embedded: bool) -> torch.Tensor:
    raise AssertionError(f"the value of the input {name!r} is not computed")


def _body(func: Callable[..., Any]) -> Callable[..., Any]:
    """Return a torch function that runs its own Python, of which each call is then seen, instead of being one call."""
    code: types.FunctionType = func  # type: ignore[assignment]
    scope = {**code.__globals__, "has_torch_function": lambda _: False}
    copy = types.FunctionType(code.__code__, scope, code.__name__, code.__defaults__, code.__closure__)
    copy.__kwdefaults__ = code.__kwdefaults__
    return copy
