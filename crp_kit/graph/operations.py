"""Descriptions of operations: the part that one plays for relevance, its arguments, axes and traits, its own step.

`operation_table` describes those that crp-kit knows, `registry` keeps them and takes those that users add.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

import torch

from ..errors import OperationError
from .nested import leaves

__all__ = ["OF_TORCH", "Kind", "OperationSpec", "Trait"]


class Kind(Enum):
    """The part that an operation plays for relevance."""

    INPUT = "input"
    LINEAR = "linear layer"
    BATCH_NORM = "batch norm"
    NORM = "norm with its deviation detached"
    DEVIATION = "deviation or distance, by contribution with itself detached"
    SUM = "sum of signals"
    AFFINE = "affine map without weights"
    PRODUCT = "product of a signal and a gate"
    ACTIVATION = "activation"
    STRUCTURAL = "moves values without changing them"
    GRADIENT = "known to be differentiated plainly"
    DETACHED = "carries no relevance"
    OPAQUE = "module whose inside cannot be seen"
    UNKNOWN = "unknown operation"

    __hash__ = object.__hash__  # a member is one object, and Enum's hash of its name is slower


OF_TORCH = (Kind.INPUT, Kind.LINEAR, Kind.BATCH_NORM, Kind.NORM, Kind.OPAQUE, Kind.UNKNOWN)
"""Kinds whose steps recompute torch's own function, or that no call has."""


class Trait(Enum):
    """A property for which algorithms ask an operation, beside its kind."""

    ADDED_AXIS = "inserts an axis of size 1"
    ATTENTION = "the fused attention of query, key and value"
    AVERAGE = "averages each channel over places: a factor or shift of a channel goes through it"
    BY_OUTPUT = "gives one output for each operand"
    CONCATENATION = "joins tensors along an axis"
    COPY = "overwrites all of its first argument with its second"
    DROPOUT = "is switched off by its argument for training, and then the identity"
    ELEMENTWISE = "each element of the output is a function of one element of each operand (activations always are)"
    EXPONENTIAL = "makes positive numbers of scores, which softmax divides by their sum"
    FLATTENING = "may join the axes behind the channels with them"
    LOOKUP = "reads rows of a table by indices"
    MATRIX_PRODUCT = "a product of two (batches of) matrices"
    MAXIMUM = "picks values by comparing them, as max pooling does"
    MODULE = "a whole module whose inside is not recorded"
    MEMORY_ORDER = "may fail, or give something else, where values are stored in another order"
    ORDERING = "sorts values"
    PASSED_ON = "element-wise without a rule in composites: LRP passes its relevance on"
    PROBABILITIES = "makes probabilities of logits, or their logarithms"
    QUADRATIC = "a product of deviations with themselves"
    REDUCTION = "reduces axes named `dim`; the others stay"
    RELU = "max(x, 0)"
    RESHAPE = "gives the same elements another shape, in the same order"
    SAME_AXES = "the axes of the output are those of its operands"
    SAME_VALUES = "leaves every value as it is, perhaps in another precision"
    SCALING = "multiplies or divides element by element"
    SHIFTS_INTEGERS = "moves or bounds integers, so that token ids stay token ids"
    SOFTMAX = "makes attention weights of scores"
    STRIDED_VIEW = "a view that strides describe"
    TABLE = "its first argument is read at indices"
    TRANSPARENT = "the identity: a BatchNorm is folded into a layer through it"
    TRANSPOSED = "a transposed convolution"
    WRITE = "writes its last argument into its first"
    WRITE_THROUGH = "recorded for a view of memory that was written, no call of the model"

    __hash__ = object.__hash__  # as for `Kind`


@dataclass(frozen=True, eq=False)
class OperationSpec:
    """An operation: how it is recognised, what it is under LRP, and which of its arguments play which part.

    Parameters
    ----------
    name : str
        Canonical name, by which nodes are called: ``"erf"`` for ``torch.erf``, ``Tensor.erf`` and ``Tensor.erf_``.
    kind : Kind
        The part that it plays for relevance, by its member or its member's name in small letters. Users may say
        ``"activation"`` (relevance passes, under the composite's rule for activations), ``"sum"`` and ``"affine"``
        (each input gets what it contributes), ``"product"`` (gates get nothing), ``"deviation"`` (by contribution),
        ``"structural"`` (relevance goes where the value came from), ``"gradient"`` (plain gradient, with a warning), or
        ``"detached"`` (nothing passes).
    functions : tuple of callable, optional
        What is meant: operators of ``torch.library``, functions or methods of torch. By default every torch function,
        method or operator of that name.
    parameters : tuple of str, optional
        Parameter names in positional order; needed where another argument of this class names one of them.
    factors : tuple of str, optional
        Arguments whose product it is; those that are signals share relevance. ``("*",)``: all of them.
    fixed : tuple of str, optional
        Arguments that a gradient reaches but LRP holds fixed: interpolation weights, sampling positions, denominators.
    like : tuple of str, optional
        Arguments of which only the shape, the type or the device is read. ``("*",)``: all of them.
    gate : bool, optional
        The value multiplies other signals as a constant: sigmoid, softmax, deviations.
    deviation : bool or callable, optional
        The value normalises others, so that it is a constant factor under every rule; or a function that returns
        whether that of a `crp_kit.graph.graph.Node` does.
    axes : callable or str, optional
        How channels and samples move from an operand to the output: a function as in `crp_kit.graph.axes.layout`, or
        the name of an operation that moves them alike. By default an activation leaves them where they are, and for
        any other operation they are unknown.
    channel_axis : int, optional
        Axis of the output along which it makes channels of its own, such as -1 for a linear layer.
    feature_axis : int, optional
        Axis of its signal that holds channels or features, whatever its size.
    spatial_axes : int, optional
        Number of axes behind the channels that it mixes along: 2 for ``conv2d`` and ``max_pool2d``.
    signs : tuple of int, optional
        Of a sum of two operands, the sign of each.
    layer : type, optional
        The class of torch's own layers that make this call.
    traits : frozenset of Trait, optional
        Properties for which algorithms ask it, beside its kind.
    step : callable, optional
        Its own rule for the relevance pass: ``step(relevance, output, *args, **kwargs)``, with `relevance` (row,
        *output's shape), `output` and the call's own arguments as they were in the forward. It returns the relevance
        of the argument that carries it, (row, *argument's shape), or a tuple for several, in their order, and writes to
        none of what it gets. It counts as exact. Of one argument, a step that mixes samples of a batch is found out and
        applied to each sample alone; of several, it must keep them apart itself. A rule that a composite has for the
        module of the call goes first; under a composite that is no LRP, the plain gradient passes.
    kind_of_call : callable, optional
        Where the arguments of a call decide: from this spec, the positional and the keyword arguments, with a `Ref` for
        each that depends on the input, to the kind of that call.

    Raises
    ------
    OperationError
        If the kind is none, or something is not what it should be.
    """

    name: str
    kind: Kind
    functions: tuple[Callable[..., Any], ...] = ()
    parameters: tuple[str, ...] = ()
    factors: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()
    like: tuple[str, ...] = ()
    gate: bool = False
    deviation: bool | Callable[[Any], bool] = False
    axes: Callable[..., Any] | str | None = None
    channel_axis: int | None = None
    feature_axis: int | None = None
    spatial_axes: int = 0
    signs: tuple[int, ...] = ()
    layer: type[torch.nn.Module] | None = None
    traits: frozenset[Trait] = frozenset()
    step: Callable[..., Any] | None = None
    kind_of_call: Callable[[OperationSpec, Sequence[Any], Mapping[str, Any]], Kind] | None = None
    _of_other_kind: dict[Kind, OperationSpec] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", _kind(self.kind))
        if self.step is not None and not callable(self.step):
            raise OperationError(
                f"step is a function (relevance, output, *args, **kwargs) that returns the relevance of the arguments; "
                f"got {self.step!r} for operation {self.name!r}"
            )
        for role in ("factors", "fixed", "like"):
            names: Any = getattr(self, role)
            if isinstance(names, str) or set(names) - {"*", *self.parameters}:
                raise OperationError(
                    f"{role} is a tuple of names among the parameters {self.parameters} of operation {self.name!r}; "
                    f"got {names!r}: list all of its parameters in positional order with parameters=(...)"
                )

    def has(self, trait: Trait) -> bool:
        """Return whether the operation has a property.

        Parameters
        ----------
        trait : Trait
            One of the properties that `traits` may hold.

        Returns
        -------
        bool
        """
        return trait in self.traits

    @property
    def is_convolution(self) -> bool:
        """Whether it is a convolution, transposed or not, rather than a linear layer."""
        return self.kind is Kind.LINEAR and self.spatial_axes > 0

    def of_call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> OperationSpec:
        """Return what a call is: this spec, or the same under another kind if its arguments say so.

        Parameters
        ----------
        args : sequence
            Positional arguments of the call.
        kwargs : dict of str to Any
            Keyword arguments of the call.

        Returns
        -------
        OperationSpec
            The same object each time, since recorded structures are compared by it.
        """
        kind = self.kind if self.kind_of_call is None else self.kind_of_call(self, args, kwargs)
        if kind is self.kind:
            return self
        if kind not in self._of_other_kind:
            self._of_other_kind[kind] = replace(self, kind=kind, kind_of_call=None)
        return self._of_other_kind[kind]

    def argument(self, args: Sequence[Any], kwargs: Mapping[str, Any], name: str, *, default: Any = None) -> Any:
        """Return one argument of a call by its parameter name, however it was passed.

        Parameters
        ----------
        args : sequence
            Positional arguments of the call.
        kwargs : dict of str to Any
            Keyword arguments of the call.
        name : str
            One of `parameters`.
        default : Any, optional
            Returned where the call has no such argument.

        Returns
        -------
        Any
        """
        for keyword in (name, _OF_NUMPY.get(name, name)):
            if keyword in kwargs:
                return kwargs[keyword]
        index = self.parameters.index(name)
        return args[index] if index < len(args) else default

    def arguments(self, args: Sequence[Any], kwargs: Mapping[str, Any], names: tuple[str, ...]) -> list[Any]:
        """Return the arguments of a call that play a part, such as those that `factors` names, as a flat list.

        Parameters
        ----------
        args : sequence
            Positional arguments of the call.
        kwargs : dict of str to Any
            Keyword arguments of the call.
        names : tuple of str
            Some of `parameters`, or ``("*",)`` for all arguments.

        Returns
        -------
        list
            Lists, tuples and dictionaries among the arguments are replaced by what they hold.
        """
        if names == ("*",):
            return leaves((args, dict(kwargs)))
        return leaves([self.argument(args, kwargs, name) for name in names])

    def values_read(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Return the arguments of which a call reads the values, without those that give a shape, type or device.

        Parameters
        ----------
        args : tuple
            Positional arguments of the call.
        kwargs : dict of str to Any
            Keyword arguments of the call.

        Returns
        -------
        Any
            Nested sequences and dictionaries with the arguments, those that `like` names left out.
        """
        if not self.like:
            return args, kwargs
        if self.like == ("*",):
            return ()
        positions = {self.parameters.index(name) for name in self.like}
        kept = [value for index, value in enumerate(args) if index not in positions]
        return kept, [value for name, value in kwargs.items() if name not in self.like]


_OF_NUMPY = {"dim": "axis"}
"""A second name that torch accepts for a parameter, since NumPy has it."""


def _kind(kind: Kind | str) -> Kind:
    if isinstance(kind, Kind):
        return kind
    if isinstance(kind, str) and kind.upper() in Kind.__members__:
        return Kind[kind.upper()]
    names = ", ".join(repr(member.name.lower()) for member in Kind if member not in OF_TORCH)
    raise OperationError(f"kind is one of {names}; got {kind!r}")
