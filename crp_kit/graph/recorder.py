"""The mode that writes the torch calls of one forward down, and the hooks that say which module made them."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch.autograd.function import BackwardCFunction
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from ..errors import InputError, ModelError
from .chance import takes_batch_statistics, without_dropout
from .names import ModuleCall
from .nodes import INPUT_NAME, Ref
from .ops import CONSTANTS, RESHAPING, OnCopy, canonical_name, in_reading_order, is_inplace, out_of_place, raw_name
from .shadow import shared_tensors
from .tree import leaves, mapped, tensors
from .write import memory_of, overlaps, write_through

_STEP_INTO = (functional.multi_head_attention_forward,)
Probe = Literal["dependence", "gradients"]
_CONVOLVED_AXES = {"conv1d": 1, "conv2d": 2, "conv3d": 3}


class UnseenDependenceError(Exception):
    """A tensor depends on the input through something that makes no torch call that can be seen.

    Parameters
    ----------
    path : str
        The module that was running.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(f"something in module {path!r} depends on the input in a way that cannot be seen")


@dataclass
class Draft:
    """A node in the making: one call, with a `Ref` for each argument that depends on the input."""

    op: str
    owner: str
    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass
class _Frame:
    """A module that is running, and what it was called with."""

    call: ModuleCall
    inputs: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)


class Recorder(TorchFunctionMode):
    """Writes the calls of one forward down.

    Parameters
    ----------
    shadow : torch.nn.Module
    opaque : frozenset of str
        Paths of modules that become one node each.
    probe : str or None
        The forward runs with gradients; a tensor that has one without a seen call raises `UnseenDependenceError`.

    Attributes
    ----------
    drafts : list of Draft
        By node.
    values : list of list
        For each node, its outputs.
    calls : list of ModuleCall
        In the order in which they ended.
    notes : list of str
        What was done about the model that the user should know.
    """

    def __init__(self, shadow: torch.nn.Module, opaque: frozenset[str], probe: Probe | None) -> None:
        super().__init__()
        self.shadow, self.opaque, self.probe = shadow, opaque, probe
        self.drafts: list[Draft] = []
        self.values: list[list[Any]] = []
        self.calls: list[ModuleCall] = []
        self.notes: list[str] = []
        self._known: Any = WeakIdKeyDictionary()
        self._held: set[int] = set()
        self._shared = shared_tensors(shadow)
        self._overwritten: dict[int, torch.Tensor] = {}
        self._frames: list[_Frame] = []
        self._counts: dict[str, int] = {}
        self._input_ranks: set[int] = set()
        self._input_leaves: list[torch.Tensor] = []
        self._paused = False

    # ------------------------------------------------------------------ life cycle

    @contextmanager
    def hooks(self) -> Iterator[None]:
        """Follow which module is running."""
        with ExitStack() as stack:
            for path, module in self.shadow.named_modules():
                before = module.register_forward_pre_hook(self._entering(path), with_kwargs=True)
                after = module.register_forward_hook(self._leaving(path))
                stack.callback(before.remove)
                stack.callback(after.remove)
            yield

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Give parameters, buffers and tensor attributes that the forward wrote to their old values back."""
        try:
            yield
        finally:
            for key, old in self._overwritten.items():
                self._shared[key].data = old

    def enter_inputs(self, data: Any) -> tuple[tuple[Any, ...], dict[str, Any], int]:
        """Make the input nodes and return what to call the model with, and the number of samples."""
        named: dict[str, Any]
        if isinstance(data, Mapping):
            named = dict(data)
        elif isinstance(data, (tuple, list)):
            named = {INPUT_NAME if i == 0 else f"{INPUT_NAME}_{i}": value for i, value in enumerate(data)}
        else:
            named = {INPUT_NAME: data}
        first = next((value for value in named.values() if isinstance(value, torch.Tensor)), None)
        if first is None:
            raise InputError(f"the model input is a tensor (or a dict or tuple with one); got {type(data).__name__}")
        named = mapped(named, lambda tensor: tensor.detach().clone())
        for name, value in named.items():
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                own = value
                if self.probe:
                    self._input_leaves.append(value.requires_grad_())
                    own = value.view_as(value)
                self._register(Draft("input", "", _input_value, (), {"name": name}), own)
                self._input_ranks.add(own.ndim)
                named[name] = own
        batch = first.shape[0] if first.ndim else 1
        if isinstance(data, Mapping):
            return (), named, batch
        return tuple(named.values()), {}, batch

    def ref(self, value: Any) -> Ref | None:
        """Return which output a tensor is, or None if it does not depend on the input."""
        return self._known.get(value) if isinstance(value, torch.Tensor) else None

    # ------------------------------------------------------------------ modules

    @property
    def _path(self) -> str:
        """Path of the innermost module that is running."""
        return self._frames[-1].call.path if self._frames else ""

    def _entering(self, path: str) -> Callable[..., Any]:
        def hook(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if self._paused:
                return None
            number = self._counts.get(path, 0)
            self._counts[path] = number + 1
            call = ModuleCall(path, number, type(module), not any(True for _ in module.children()), len(self.drafts))
            self._frames.append(_Frame(call, args, kwargs))
            if path not in self.opaque:
                return None
            self._paused = True
            return mapped((args, kwargs), lambda tensor: tensor.clone())

        return hook

    def _leaving(self, path: str) -> Callable[..., Any]:
        def hook(module: torch.nn.Module, args: tuple[Any, ...], result: Any) -> Any:
            if self._paused and (self._path != path or path not in self.opaque):
                return None
            self._paused = True  # what is looked up here is no call of the model
            result = self._left(self._frames.pop(), module, result)
            self._paused = False
            return result

        return hook

    def _left(self, frame: _Frame, module: torch.nn.Module, result: Any) -> Any:
        """Note what a module returned; return it."""
        call = frame.call
        if call.path in self.opaque:
            result = mapped(result, lambda tensor: tensor.view_as(tensor))
            result = self._record(Draft("opaque", call.path, _ModuleCall(module), frame.inputs, frame.kwargs), result)
        self._check_seen(result, call.path)
        refs = [self.ref(value) for value in tensors(result)]
        call.stop = len(self.drafts)
        call.result = next((ref for ref in refs if ref is not None), None)
        self.calls.append(call)
        return result

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
        raw = raw_name(func)
        if raw == "__set__":
            return self._set_property(func, args)
        self._check_seen((args, kwargs), self._path)
        op = canonical_name(raw)
        args, kwargs = self._checked(op, func, args, kwargs)
        written = kwargs.pop("out", None)
        if written is not None:
            return self._write_out(written, self._record(self._draft(op, func, args, kwargs), func(*args, **kwargs)))
        writes = "dropout" not in op  # dropout is off, and hands on what it was given
        if writes and args and isinstance(args[0], torch.Tensor) and is_inplace(raw, func, args, kwargs):
            return self._inplace(raw, func, args, kwargs)
        replay, operands = in_reading_order(raw, func, args)
        return self._record(self._draft(op, replay, operands, kwargs), func(*args, **kwargs))

    def _draft(self, op: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Draft:
        return Draft(op, self._path, func, args, kwargs)

    def _record(self, draft: Draft, result: Any) -> Any:
        """Make a node of a call if it depends on the input; return the result, with no tensor of the call in it."""
        arguments, outputs = tensors((draft.args, draft.kwargs)), tensors(result)
        live = draft.op not in CONSTANTS and any(self.ref(value) is not None for value in arguments)
        if live and self.probe and any(value.is_complex() for value in outputs):
            raise UnseenDependenceError(self._path)
        if not live or not any(value.is_floating_point() for value in outputs):
            for value in outputs:
                if value not in self._known:
                    self._known[value] = None
            return result
        given = {id(value) for value in arguments}
        if any(id(value) in given for value in outputs):
            result = mapped(result, lambda t: t.view_as(t) if id(t) in given else t)
        self._register(draft, result)
        return result

    def _register(self, draft: Draft, result: Any) -> None:
        draft.args, draft.kwargs = mapped((draft.args, draft.kwargs), self._constant_or_ref)
        index, parts = len(self.drafts), leaves(result)
        self.drafts.append(draft)
        self.values.append([value.detach() if isinstance(value, torch.Tensor) else value for value in parts])
        for output, value in enumerate(parts):
            if isinstance(value, torch.Tensor):
                self._known[value] = Ref(index, output) if value.is_floating_point() else None
                self._held.add(memory_of(value))

    def _constant_or_ref(self, tensor: torch.Tensor) -> Any:
        """Return what stands for a tensor among the arguments of a draft."""
        ref = self.ref(tensor)
        if ref is not None:
            return ref
        if id(tensor) in self._shared and id(tensor) not in self._overwritten:
            return tensor
        self._held.add(memory_of(tensor))
        return tensor.detach()

    def _check_seen(self, tree: Any, path: str) -> None:
        """While probing, make sure that every tensor with a gradient came from a call that was seen."""
        if not self.probe:
            return
        for value in tensors(tree):
            if value.grad_fn is None or id(value) in self._shared:
                continue
            if self.ref(value) is None and self._depends(value):
                raise UnseenDependenceError(path)
            custom = issubclass(type(value.grad_fn), BackwardCFunction)
            if self.probe == "gradients" and custom and self._depends(value):
                raise UnseenDependenceError(path)

    def _depends(self, value: torch.Tensor) -> bool:
        """Return whether autograd knows of a dependence on the input."""
        waiting, met = [value.grad_fn], set()
        while waiting:
            function = waiting.pop()
            if function is None or function in met:
                continue
            if any(getattr(function, "variable", None) is leaf for leaf in self._input_leaves):
                return True
            met.add(function)
            waiting += [following for following, _ in function.next_functions]
        return False

    def _checked(
        self, op: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Switch dropout off; refuse what would let one sample's relevance depend on others, or on no batch axis."""
        quiet = without_dropout(op, func, args, kwargs)
        if quiet is not None:
            self.notes.append(f"dropout that is on in evaluation mode (in {self._path!r}) was switched off")
            args, kwargs = quiet
        if takes_batch_statistics(op, args, kwargs):
            raise ModelError(
                f"BatchNorm {self._path!r} normalises by the statistics of the batch, also in evaluation mode: one "
                f"sample's relevance would depend on the others. Give it running statistics (track_running_stats=True)"
            )
        axes = _CONVOLVED_AXES.get(op)
        signal = args[0] if args else kwargs.get("input")
        shape = signal.shape if isinstance(signal, torch.Tensor) and self.ref(signal) is not None else ()
        if axes is not None and len(shape) == axes + 1 and self._input_ranks == {axes + 1}:
            raise InputError(
                f"data needs a batch axis in front: {op} at {self._path!r} got shape {tuple(shape)} where it takes "
                f"{axes + 2} axes, (batch, channel, ...); use data[None] for one sample"
            )
        return args, kwargs

    # ------------------------------------------------------------------ in-place calls

    def _inplace(self, raw: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        target = args[0]
        replay = out_of_place(raw, func)
        new = replay(*args, **kwargs)
        if new.dtype != target.dtype:
            replay = OnCopy(func)
            new = replay(*args, **kwargs)
        new = self._record(self._draft(canonical_name(raw), replay, args, kwargs), new)
        if raw in RESHAPING:
            self._known[target] = self.ref(new)
            self._remember(target)
            target.data = new.detach()
            return target
        return self._overwrite(target, new)

    def _set_property(self, func: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """Assign to an attribute of a tensor, such as ``weight.data = …``."""
        target, value = args[0], args[1]
        if getattr(getattr(func, "__self__", None), "__name__", "") == "data":
            self._remember(target)
            self._known[target] = self.ref(value)
        return func(*args)

    def _write_out(self, written: Any, result: Any) -> Any:
        """Write the results of a call into the tensors given as ``out=``."""
        for target, new in zip(tensors(written), tensors(result), strict=True):
            self._overwrite(target, new)
        return written

    def _overwrite(self, target: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        """Let the tensor object that the model holds be the new value, and so for every other view of its memory."""
        self._make_private(target)
        ref = self.ref(new)
        aliases = [other for other in list(self._known.keys()) if other is not target and overlaps(other, target)]
        dead = ref is None and self.ref(target) is None and all(self.ref(alias) is None for alias in aliases)
        if not aliases and not dead and new.shape == target.shape:
            target.data = _like(new.detach(), target)
        else:
            self._keep_old_values(target)
            before = [] if dead else [(alias, alias.detach().clone()) for alias in aliases]
            target.data.copy_(new.detach())
            for alias, old in before:
                self._write_alias(alias, old, target=target, ref=ref)
        if not dead:
            self._known[target] = ref
            self._mark(target)
        return target

    def _mark(self, tensor: torch.Tensor) -> None:
        """While probing, let what reads a tensor that was written have a gradient."""
        if self.probe and self.ref(tensor) is not None and not tensor.requires_grad and id(tensor) not in self._shared:
            self._input_leaves.append(tensor.requires_grad_())

    def _remember(self, tensor: torch.Tensor) -> None:
        """Note what a parameter, buffer or attribute of the model is before it becomes something else."""
        if id(tensor) in self._shared:
            self._overwritten.setdefault(id(tensor), tensor.data)

    def _make_private(self, target: torch.Tensor) -> None:
        """Move everything that lies in the memory about to be overwritten out of the model's own memory."""
        address = memory_of(target)
        owners = [t for key, t in self._shared.items() if key not in self._overwritten and memory_of(t) == address != 0]
        if not owners:
            return
        storage = target.untyped_storage().clone()  # type: ignore[no-untyped-call]
        members = {id(t): t for t in (*owners, *self._known.keys(), target) if memory_of(t) == address}
        for member in members.values():
            self._remember(member)
            place = member.storage_offset(), member.shape, member.stride()
            member.data = torch.empty(0, dtype=member.dtype, device=member.device).set_(storage, *place)

    def _keep_old_values(self, target: torch.Tensor) -> None:
        """Copy every recorded value and constant that lies in the memory about to be overwritten."""
        if memory_of(target) not in self._held:
            return

        def copied(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.clone() if id(tensor) not in self._shared and overlaps(tensor, target) else tensor

        self.values = [mapped(values, copied) for values in self.values]
        for draft in self.drafts:
            draft.args, draft.kwargs = mapped((draft.args, draft.kwargs), copied)

    def _write_alias(self, alias: torch.Tensor, old: torch.Tensor, *, target: torch.Tensor, ref: Ref | None) -> None:
        """Record that a view of the same memory changed with it."""
        self._known[old] = self.ref(alias)
        if (ref is None and self.ref(alias) is None) or not alias.is_floating_point():
            return
        written = target.detach()
        self._known[written] = ref
        draft = self._draft("write_through", write_through(alias, target), (old, written), {})
        self._register(draft, alias)
        self.values[-1] = [alias.detach().clone()]
        self._mark(alias)


class _ModuleCall:
    """A module as a function of its inputs."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.module, self.__name__ = module, type(module).__name__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)


def float_shape(value: Any) -> torch.Size | None:
    """Return the shape of a floating-point tensor, None for anything else."""
    return value.shape if isinstance(value, torch.Tensor) and value.is_floating_point() else None


def _like(new: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return a value that lies in memory of its own, with the strides of the tensor that it replaces."""
    if new.stride() == target.stride() and memory_of(new) != memory_of(target):
        return new
    layout = torch.empty_strided(target.shape, target.stride(), dtype=new.dtype, device=new.device)
    return layout.copy_(new)


def _input_value(*, name: str) -> torch.Tensor:
    raise AssertionError(f"the value of the input {name!r} is given, not computed")


def _body(func: Callable[..., Any]) -> Callable[..., Any]:
    """Return a torch function that runs its own Python, of which each call is then seen, instead of being one call."""
    code: types.FunctionType = func  # type: ignore[assignment]
    scope = {**code.__globals__, "has_torch_function": lambda _: False}
    copy = types.FunctionType(code.__code__, scope, code.__name__, code.__defaults__, code.__closure__)
    copy.__kwdefaults__ = code.__kwdefaults__
    return copy
