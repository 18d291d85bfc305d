"""LRP-0 relevance of whole models and of masked nodes in them: gradient x input of the detached network.

What autograd carries in such a network is a factor: relevance at a node is the node's value times that factor. A mask
multiplies relevance, so it may multiply the factor.
"""

import copy
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import GradientEdge, get_gradient_edge, saved_tensors_hooks
from torch.utils.hooks import RemovableHandle

from .detached import DetachedNonlinearities
from .signals import Data, declare_activations, signal_of, with_signal
from .start import called, output_tensor

Mask = Callable[[torch.Tensor], torch.Tensor]
FORWARD_TOLERANCE = 1e-12


class OracleRun:
    """One forward of a model's detached float64 copy, and any number of masked backwards.

    Parameters
    ----------
    model : nn.Module
        A model in evaluation mode; it is copied and stays as it is.
    x : Tensor or dict
        Input (batch, channel, height, width), or named arguments of which one is floating point: the signal.
    selection : Tensor
        Factor of each output neuron in the start value, of the output's shape; usually one-hot for each sample.
    names : iterable of str
        Modules whose outputs shall be masked or recorded. A repeated call has a suffix: ``relu``, ``relu_1``.

    Attributes
    ----------
    output : Tensor
        Output of the detached copy, equal to the model's own.
    start : Tensor
        Start value of each sample (batch,).
    values, edges : dict
        Value and gradient edge of each named module's output.
    root : torch.autograd.graph.Node
        Autograd node of the start value, where backwards begin.

    Raises
    ------
    ValueError
        If a module does not run, or the detached copy gives another output than the model.
    """

    def __init__(self, model: nn.Module, x: Data, selection: torch.Tensor, names: Iterable[str] = ()) -> None:
        own = float64_copy(model)
        self._leaf = signal_of(x).detach().double().clone().requires_grad_()
        self.edges: dict[str, GradientEdge] = {}
        self.values: dict[str, torch.Tensor] = {}
        with torch.no_grad():
            expected = output_tensor(called(own, with_signal(x, self._leaf.detach().clone())))
        declare_activations(own)
        kept = {tensor.untyped_storage().data_ptr() for tensor in (*own.parameters(), *own.buffers())}
        handles = self._register(own, names)
        keeping = saved_tensors_hooks(lambda tensor: _frozen(tensor, kept), lambda tensor: tensor)
        with torch.enable_grad(), keeping, DetachedNonlinearities():
            output = output_tensor(called(own, with_signal(x, self._leaf.clone())))
        for handle in handles:
            handle.remove()
        self.selection = selection.detach().double()
        self._total = (output * self.selection).sum()
        self.root = get_gradient_edge(self._total).node
        self.output = output.detach()
        self.start = (self.output * self.selection).flatten(1).sum(1)
        self.forward_error = float((self.output - expected).norm() / expected.norm())
        if not self.forward_error < FORWARD_TOLERANCE:
            raise ValueError(f"the detached network differs from the model: relative error {self.forward_error:.1e}")
        missing = sorted(set(names) - set(self.edges))
        if missing:
            raise ValueError(f"modules that did not run with a live signal: {missing}")

    def relevance(self, masks: Mapping[str, Mask] | None = None) -> torch.Tensor:
        """Input relevance with every path masked at the named nodes that it passes."""
        return self.relevances(masks)[0]

    def relevances(
        self, masks: Mapping[str, Mask] | None = None, record: Iterable[str] = ()
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Input relevance, and the relevance that arrives at each recorded node before that node's own mask."""
        recorded: dict[str, torch.Tensor] = {name: torch.zeros_like(self.values[name]) for name in record}
        with ExitStack() as stack:
            for name in {*(masks or {}), *recorded}:
                handle = self._hook_factor(name, (masks or {}).get(name), recorded)
                stack.callback(handle.remove)
            (factor,) = torch.autograd.grad(self._total, self._leaf, retain_graph=True)
        return self._leaf.detach() * factor, recorded

    def _hook_factor(self, name: str, mask: Mask | None, recorded: dict[str, torch.Tensor]) -> RemovableHandle:
        """Put a mask, and a recorder, on what flows back into one node."""
        node, place = self.edges[name].node, self.edges[name].output_nr

        def change(factors: tuple[torch.Tensor | None, ...]) -> tuple[torch.Tensor | None, ...]:
            factor = factors[place]
            if factor is None:
                return factors
            if name in recorded:
                recorded[name] = self.values[name] * factor
            masked = factor if mask is None else mask(factor)
            return (*factors[:place], masked, *factors[place + 1 :])

        return node.register_prehook(change)

    def _register(self, model: nn.Module, names: Iterable[str]) -> list[RemovableHandle]:
        """Hook every module that a name may mean: itself, or the module without a numeric suffix."""
        wanted, handles = set(names), []
        calls: Counter[str] = Counter()
        for path, module in model.named_modules():
            if not any(name == path or name.rpartition("_")[0] == path for name in wanted):
                continue
            before: list[list[Any]] = []

            def enter(module: nn.Module, args: tuple[Any, ...], before: list[list[Any]] = before) -> None:
                before.append([value.grad_fn for value in args if isinstance(value, torch.Tensor)])

            def leave(
                module: nn.Module,
                args: tuple[Any, ...],
                output: Any,
                path: str = path,
                before: list[list[Any]] = before,
            ) -> Any:
                earlier, count = before.pop(), calls[path]
                calls[path] += 1
                name = f"{path}_{count}" if count else path
                return self._note(name, args, output, earlier) if name in wanted else output

            handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
        return handles

    def _note(self, name: str, args: tuple[Any, ...], output: Any, earlier: list[Any]) -> Any:
        """Remember the gradient edge of a module's output, as a node of its own where it is not changed in place."""
        value = output[0] if isinstance(output, (tuple, list)) else output
        if not value.requires_grad:
            return output
        if name in self.edges:
            raise ValueError(f"two calls are named {name}")
        in_place = any(value is given for given in args) and value.grad_fn not in earlier
        if not in_place:
            value = value.clone()
        self.edges[name] = get_gradient_edge(value)
        self.values[name] = value.detach().clone()
        return type(output)((value, *output[1:])) if isinstance(output, (tuple, list)) else value


def whole_model_relevance(model: nn.Module, x: Data, selection: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """LRP-0 relevance of the input and the start value of each sample.

    Parameters
    ----------
    model : nn.Module
        A model in evaluation mode.
    x : Tensor or dict
        Input (batch, channel, height, width), or named arguments of which one is floating point.
    selection : Tensor
        Tensor of the output's shape, usually one-hot for each sample.

    Returns
    -------
    relevance, start : Tensor
        Relevance of each value of the signal in float64, of its shape, and start values (batch,).
    """
    run = OracleRun(model, x, selection)
    return run.relevance(), run.start


def float64_copy(model: nn.Module) -> nn.Module:
    """Copy of a model in float64 whose parameters require no gradients; float64 tensors are shared, not copied."""
    memo: dict[int, Any] = {}
    for parameter in model.parameters():
        value = parameter.detach()
        memo[id(parameter)] = nn.Parameter(value.double() if value.is_floating_point() else value, requires_grad=False)
    return copy.deepcopy(model, memo).double()


def _frozen(tensor: torch.Tensor, kept: set[int]) -> torch.Tensor:
    """Tensor that no later in-place statement of the model changes."""
    tensor = tensor.detach()
    return tensor if tensor.untyped_storage().data_ptr() in kept else tensor.clone()
