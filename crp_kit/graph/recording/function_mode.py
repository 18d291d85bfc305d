"""The function mode that records the torch calls of one forward, and the hooks that follow which module makes them."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from ...errors import InputError, ModelError
from ..nested import mapped, tensors
from ..operation_names import in_reading_order, raw_name
from ..operations import OperationSpec, Trait
from ..registry import operation_of, spec_of
from .decompositions import decomposition_of
from .eval_mode import takes_batch_statistics, without_dropout
from .hidden_dependence import Detector, Probe
from .in_place import MOVING, RESHAPING, is_in_place, overwrite, rebind, value_after
from .inputs import Inputs, is_token_ids
from .live_values import Draft, Tape
from .node_names import ModuleCall
from .shadow import ModelTensors, ModuleRun, modules_by_path, state_tensors
from .token_ids import TokenIds, samples_first

_STEP_INTO = (functional.multi_head_attention_forward,)


@dataclass
class _Frame:
    """A running module, the arguments of its call, and the copies of them that an opaque one got."""

    call: ModuleCall
    inputs: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
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

    Attributes
    ----------
    tape : Tape
        The nodes and their values.
    calls : list of ModuleCall
        In the order in which they ended.
    notes : list of str
        What was done about the model that the user should know.
    """

    def __init__(
        self,
        shadow: torch.nn.Module,
        opaque: frozenset[str],
        probe: Probe | None,
        elementwise: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__()
        self.shadow, self.opaque, self.elementwise = shadow, opaque | elementwise, elementwise
        self.tape = Tape(ModelTensors(shadow))
        self.calls: list[ModuleCall] = []
        self.notes: list[str] = []
        self._ids, self._samples = TokenIds(), 1
        self._detector = Detector(probe, self.tape)
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
            for path, module in modules_by_path(self.shadow):
                handles.append(module.register_forward_pre_hook(self._entering(path), with_kwargs=True))
                handles.append(module.register_forward_hook(self._leaving(path), always_call=True))
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
            own = self._detector.entered(own)
            self.tape.add(Draft(spec_of("input"), "", _input_value, (), about), own)
            self._input_ranks.add(own.ndim)
            return own

        own = inputs.replaced(entered)
        with self:  # a list of samples is made of one tensor by a call that has to be seen
            args, kwargs = own.arguments()
        return args, kwargs, inputs.samples

    # ------------------------------------------------------------------ modules

    def _entering(self, path: str) -> Callable[..., Any]:
        def hook(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if self._paused:
                return None
            self._paused = True  # what is looked up here is no call of the model
            self._detector.check((args, kwargs), self._path)
            self._paused = False
            number = self._counts.get(path, 0)
            self._counts[path] = number + 1
            childless = not any(True for _ in module.children())
            call = ModuleCall(path, number, type(module), childless, len(self.tape.drafts), whole=path in self.opaque)
            self._frames.append(_Frame(call, args, kwargs))
            self._path = path
            if path not in self.opaque:
                return None
            self._paused = True
            for tensor in state_tensors(module):
                self.tape.own.remember(tensor)
                tensor.data = tensor.data.clone()
                self.tape.locate(tensor)
            self._frames[-1].copies = mapped((args, kwargs), lambda tensor: tensor.clone())
            return self._frames[-1].copies

        return hook

    def _leaving(self, path: str) -> Callable[..., Any]:
        def hook(module: torch.nn.Module, args: tuple[Any, ...], result: Any) -> Any:
            if self._path != path or not self._frames or (self._paused and path not in self.opaque):
                return None
            self._paused = True
            frame = self._frames.pop()
            self._path = self._frames[-1].call.path if self._frames else ""
            result = self._left(frame, module, result)
            self._paused = False
            return result

        return hook

    def _left(self, frame: _Frame, module: torch.nn.Module, result: Any) -> Any:
        """Note what a module returned; return it."""
        call = frame.call
        if call.path in self.opaque:
            returned = any(result is value for value in frame.copies[0])
            result = mapped(result, lambda tensor: tensor.view_as(tensor))
            name = "elementwise" if call.path in self.elementwise else "identity" if returned else "opaque"
            draft = Draft(spec_of(name), call.path, ModuleRun(module), frame.inputs, frame.kwargs)
            result = self._record(draft, result)
            self._overwrite_inputs(frame, result)
        self._detector.check(result, call.path)
        refs = [self.tape.ref(value) for value in tensors(result)]
        call.stop = len(self.tape.drafts)
        drafts = self.tape.drafts[call.start :]
        call.calls = sum(not draft.spec.has(Trait.WRITE_THROUGH) for draft in drafts)
        call.result = next((ref for ref in refs if ref is not None), None)
        self.calls.append(call)
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
        if decomposition is not None and self._depends((args, kwargs)):
            return self._decomposed(func, decomposition, args, kwargs)
        raw = raw_name(func)
        if raw == "__set__":
            self._set_property(func, args)
            return None
        self._detector.check((args, kwargs), self._path)
        spec = operation_of(func)
        args, kwargs = self._checked(spec, func, args, kwargs)
        written = kwargs.pop("out", None)
        if written is not None:
            return self._write_out(written, self._record(self._draft(spec, func, args, kwargs), func(*args, **kwargs)))
        writes = not spec.has(Trait.DROPOUT)  # dropout is off, and hands its argument on
        if writes and args and isinstance(args[0], torch.Tensor) and is_in_place(raw, func, args, kwargs):
            return self._in_place(raw, func, args, kwargs)
        replay, operands = in_reading_order(raw, func, args)
        result = self._record(self._draft(spec, replay, operands, kwargs), func(*args, **kwargs))
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
        ref = next((ref for value in tensors(result) if (ref := self.tape.ref(value)) is not None), None)
        if ref is not None and ref.node >= first:
            self.tape.drafts[ref.node].title = name
        return result

    def _depends(self, tree: Any) -> bool:
        """Return whether a tensor in a nested structure depends on the input."""
        return any(map(self.tape.ref, tensors(tree)))

    def _draft(
        self, spec: OperationSpec, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Draft:
        return Draft(spec, self._path, func, args, kwargs)

    def _record(self, draft: Draft, result: Any) -> Any:
        """Make a node of a call if it depends on the input; return the result, with no tensor of the call in it."""
        arguments, outputs = tensors((draft.args, draft.kwargs)), tensors(result)
        # most calls read the values of all their arguments, which are collected once
        read = draft.spec.values_read(draft.args, draft.kwargs) if draft.spec.like else arguments
        live = self._depends(read)
        if live:
            self._detector.check_real(outputs, self._path)
        if not live and self._ids:
            ids = self._ids.looked_up(draft, outputs)
            if ids is not None:
                return self._embedded(draft, ids, outputs[0])
            self._ids.follow(draft, outputs)
        if not live or not any(value.is_floating_point() for value in outputs):
            self.tape.notice(outputs)
            return result
        passed = {id(value) for value in arguments}
        if any(id(value) in passed for value in outputs):
            result = mapped(result, lambda t: t.view_as(t) if id(t) in passed else t)
        self.tape.add(draft, result)
        return result

    def _embedded(self, draft: Draft, ids: Any, value: torch.Tensor) -> torch.Tensor:
        """Make an input of what ids were looked up; return it as the model expects it."""
        name = f"{draft.owner}.{draft.spec.name}" if draft.owner else draft.spec.name
        about = {**ids.about, "name": name, "embedded": True}
        order, by = samples_first(ids, self._samples)
        own = value.detach().clone()
        if order:
            own = own.reshape(*by[1:], *own.shape[1:]) if order == "unflatten" else own.movedim(*by)
        own = self._detector.entered(own.contiguous())
        self.tape.add(Draft(spec_of("input"), draft.owner, _input_value, (), about), own)
        if not order:
            return own
        with self:
            return own.flatten(0, 1) if order == "unflatten" else own.movedim(by[1], by[0])

    def _checked(
        self, spec: OperationSpec, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Switch dropout off; refuse what would let one sample's relevance depend on others, or on no batch axis."""
        quiet = without_dropout(spec, func, args, kwargs)
        if quiet is not None:
            self.notes.append(f"dropout that is on in evaluation mode (in {self._path!r}) was switched off")
            args, kwargs = quiet
        signal = args[0] if args else kwargs.get("input")
        live = isinstance(signal, torch.Tensor) and self.tape.ref(signal) is not None
        if live and takes_batch_statistics(spec, args, kwargs):
            raise ModelError(
                f"BatchNorm {self._path!r} normalises by the statistics of the batch, also in evaluation mode: one "
                f"sample's relevance would depend on the others. Give it running statistics (track_running_stats=True)"
            )
        axes = spec.spatial_axes if spec.is_convolution and not spec.has(Trait.TRANSPOSED) else None
        shape = signal.shape if isinstance(signal, torch.Tensor) and live else ()
        if axes is not None and len(shape) == axes + 1 and self._input_ranks == {axes + 1}:
            raise InputError(
                f"data needs a batch axis in front: {spec.name} at {self._path!r} got shape {tuple(shape)} where it "
                f"takes {axes + 2} axes, (batch, channel, ...); use data[None] for one sample"
            )
        return args, kwargs

    # ------------------------------------------------------------------ in-place calls

    def _in_place(self, raw: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        target = args[0]
        replay, new = value_after(raw, func, args, kwargs)
        new = self._record(self._draft(operation_of(func), replay, args, kwargs), new)
        if self._ids:
            self._ids.rename(target, new)
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
        self._detector.mark(overwrite(self.tape, target, new, owner=self._path))
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
