"""A small model with everything in it that can be named wrongly, and every mistake with what is said about it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from zennit.composites import EpsilonPlusFlat

from crp_kit import NeuronConcept
from crp_kit.errors import (
    CompositeError,
    ConceptRangeError,
    ConditionError,
    InputError,
    ModelError,
    UnknownLayerError,
    UnreachableLayerError,
)


class Net(nn.Module):
    """Convolutions, a BatchNorm, a shortcut, a gate, a node of two outputs, a module that never runs."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.conv1, self.bn = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4)
            self.conv2, self.gate = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 4)
            self.pool, self.drop, self.head = nn.AdaptiveAvgPool2d(1), nn.Dropout(), nn.Linear(4, 3)
            self.unused = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = self.bn(self.conv1(x)).relu()
        first, second = self.conv2(a).chunk(2, 1)
        gate = torch.sigmoid(self.gate(self.pool(a).flatten(1)))
        y = (torch.cat([second, first], 1) + a) * gate[:, :, None, None]
        return self.head(self.drop(self.pool(y).flatten(1)))  # type: ignore[no-any-return]


def images() -> torch.Tensor:
    return torch.randn(2, 2, 5, 5, generator=torch.Generator().manual_seed(0))


@dataclass(frozen=True)
class Mistake:
    """A call that is refused: how the data are spoilt, the condition sets, the options, and what is said."""

    error: type[Exception]
    message: str
    conditions: Any = field(default_factory=lambda: [{"y": [0]}])
    options: dict[str, Any] = field(default_factory=dict)
    spoil: Callable[[torch.Tensor], Any] = lambda x: x
    composite: Any = field(default_factory=EpsilonPlusFlat)


def layer(name: str, ids: Any = (0,), **options: Any) -> dict[str, Any]:
    return {"conditions": [{name: list(ids), "y": [0]}], "options": options}


def option(**options: Any) -> dict[str, Any]:
    return {"options": options}


def mask(value: Any) -> dict[str, Any]:
    return layer("conv1", mask_map=value)


MISTAKES: dict[str, Mistake] = {
    "unknown layer": Mistake(
        UnknownLayerError, "no layer named 'conv3'; did you mean 'conv2' or 'conv1'?.*get_layer_names", **layer("conv3")
    ),
    "unknown record layer": Mistake(UnknownLayerError, "no layer named 'bn1'; did", **option(record_layer=["bn1"])),
    "unknown start layer": Mistake(
        UnknownLayerError, "no layer named 'con2'", [{"conv1": [0]}], {"start_layer": "con2"}
    ),
    "nothing like it": Mistake(
        UnknownLayerError, "no layer named 'zzzzzz'; see crp_kit.get_layer_names", **layer("zzzzzz")
    ),
    "never run": Mistake(UnknownLayerError, "the forward never runs 'unused'", **layer("unused")),
    "two outputs": Mistake(
        UnknownLayerError, r"'chunk' has 2 outputs \(chunk:0, chunk:1\): name one", **layer("chunk")
    ),
    "in a gate": Mistake(UnreachableLayerError, "no relevance can pass 'gate'.*inside a gate", **layer("gate")),
    "not upstream of the start": Mistake(
        UnreachableLayerError,
        r"no relevance can pass 'conv2': it carries none between the start \('conv1'\)",
        [{"conv2": [0]}],
        {"start_layer": "conv1"},
    ),
    "channel out of range": Mistake(
        ConceptRangeError,
        "channel 4, 9 of 'conv1' is out of range: it has 4 of them, counted from 0 to 3",
        **layer("conv1", (4, 1, 9)),
    ),
    "negative channel": Mistake(ConceptRangeError, "channel -1 of 'conv1' is out of range", **layer("conv1", (-1,))),
    "neuron out of range": Mistake(
        ConceptRangeError,
        "neuron 100 of 'conv1' is out of range: it has 100 of them",
        **layer("conv1", (100,), mask_map=NeuronConcept()),
    ),
    "class out of range": Mistake(ConceptRangeError, "3 of 'y' is out of range: it has 3 of them", [{"y": [3]}]),
    "negative class": Mistake(ConceptRangeError, "-1 of 'y' is out of range", [{"y": -1}]),
    "no sets": Mistake(ConditionError, "the list of condition sets is empty; give at least one", []),
    "no set": Mistake(ConditionError, "a condition set maps layer names to concept ids.*got int: 5", [{"y": 0}, 5]),
    "text": Mistake(ConditionError, "conditions are a list of condition sets; got str", "y:0"),
    "text as id": Mistake(ConditionError, "ids of 'conv1' are an id or a list of ids; got '3'", {"conv1": "3", "y": 0}),
    "fraction as id": Mistake(ConditionError, r"id of 'conv1' is a whole number.*got 1\.0", **layer("conv1", (1.0,))),
    "tuple as channel": Mistake(
        ConditionError, r"a channel of 'conv1' is a whole number; got \(1, 2\)", **layer("conv1", ((1, 2),))
    ),
    "no start": Mistake(ConditionError, "has no start: add 'y'.*start_layer or init_rel", [{"conv1": [0]}]),
    "empty set": Mistake(ConditionError, r"ConditionSet\(\{\}\) has no start", [{}]),
    "two starts": Mistake(
        ConditionError, "start_layer='conv2' and 'y' in .* are two starts", **option(start_layer="conv2")
    ),
    "zip of unequal lengths": Mistake(
        ConditionError,
        "pairing='zip' needs as many condition sets as samples; got 2 samples and 3 sets",
        [{"y": [0]}] * 3,
        {"pairing": "zip"},
    ),
    "pairing": Mistake(ConditionError, "pairing is 'auto', 'zip' or 'product'; got 'all'", **option(pairing="all")),
    "batch size 0": Mistake(
        ConditionError, "batch_size is a whole number of at least 1; got 0", **option(batch_size=0)
    ),
    "batch size -1": Mistake(ConditionError, "batch_size .* got -1", **option(batch_size=-1)),
    "batch size 1.5": Mistake(ConditionError, r"batch_size .* got 1\.5", **option(batch_size=1.5)),
    "init_rel's shape": Mistake(
        ConditionError,
        r"init_rel of shape \(1, 7\) does not fit the start, whose shape is \(2, 3\)",
        **option(init_rel=torch.ones(2, 7)),
    ),
    "init_rel's length": Mistake(
        ConditionError,
        r"init_rel of shape \(5, 3\) fits neither the 2 samples nor the 4 rows",
        [{"y": [0]}, {"y": [1]}],
        {"init_rel": torch.ones(5, 3), "pairing": "product"},
    ),
    "init_rel's type": Mistake(
        ConditionError, "init_rel is a number, a tensor or a function; got str", **option(init_rel="one")
    ),
    "init_rel as truth value": Mistake(ConditionError, "init_rel is a number.*got bool", **option(init_rel=True)),
    "init_rel returns nothing": Mistake(
        ConditionError,
        "function init_rel has to return a tensor; it returned NoneType",
        **option(init_rel=lambda value: None),
    ),
    "init_rel is NaN": Mistake(ConditionError, "init_rel is NaN or infinite", **option(init_rel=float("nan"))),
    "mask's shape": Mistake(
        ConditionError,
        r"mask of 'conv1' has to be a tensor that broadcasts to \(4, 5, 5\)",
        **mask(lambda ids, shape, *, layer_name: torch.ones(7)),
    ),
    "mask as in zennit-crp": Mistake(
        ConditionError,
        r"mask function of 'conv1' returned a function of relevance, as those of zennit-crp do; here mask\(",
        **mask(lambda ids, shape, *, layer_name: lambda gradient: gradient),
    ),
    "mask is nothing": Mistake(
        ConditionError, "mask of 'conv1' has to be a tensor", **mask(lambda ids, shape, *, layer_name: None)
    ),
    "mask is a number": Mistake(ConditionError, r"mask of 'conv1' is a function or a Concept.*; got 5", **mask(5)),
    "mask is a class": Mistake(ConditionError, "got the class NeuronConcept", **mask(NeuronConcept)),
    "mask for no layer": Mistake(UnknownLayerError, "no layer named 'conv9'", **mask({"conv9": NeuronConcept()})),
    "mask raises": Mistake(ZeroDivisionError, "division by zero", **mask(lambda ids, shape, *, layer_name: 1 / 0)),
    "composite's name": Mistake(
        CompositeError,
        "no composite named 'epsilon_plus_flt'; did you mean 'epsilon_plus_flat'",
        composite="epsilon_plus_flt",
    ),
    "no composite's name": Mistake(CompositeError, "no composite named 'xyz'; known are gradient", composite="xyz"),
    "composite's class": Mistake(
        CompositeError,
        r"is the class EpsilonPlusFlat; give an instance: EpsilonPlusFlat\(\)",
        composite=EpsilonPlusFlat,
    ),
    "composite's type": Mistake(
        CompositeError, "composite is a zennit Composite, a preset name or None; got int", composite=5
    ),
    "composite without a range": Mistake(
        CompositeError, "epsilon_gamma_box needs the lowest and highest values", composite="epsilon_gamma_box"
    ),
    "integers": Mistake(
        InputError, r"has to be floating point.*got torch.int32: use data.float\(\)", spoil=lambda x: x.int()
    ),
    "an array": Mistake(InputError, "data is a tensor .*; got ndarray", spoil=lambda x: x.numpy()),
    "NaN": Mistake(
        InputError,
        r"data has 1 values that are NaN or infinite \(of 100\)",
        spoil=lambda x: x.index_put((torch.tensor(0),) * 4, torch.tensor(torch.nan)),
    ),
    "infinity": Mistake(InputError, "values that are NaN or infinite", spoil=lambda x: x / 0),
    "no batch axis": Mistake(
        InputError, r"needs a batch axis in front: conv2d at 'conv1' got shape \(2, 5, 5\)", spoil=lambda x: x[0]
    ),
    "one axis": Mistake(
        InputError, r"needs a batch axis in front: \(batch, ...\); got shape \(5,\)", spoil=lambda x: x[0, 0, 0]
    ),
    "an axis too many": Mistake(
        ModelError, r"forward failed for input of shape \(1, 2, 2, 5, 5\)", spoil=lambda x: x[None]
    ),
    "empty batch": Mistake(InputError, r"data is empty: its shape is \(0, 2, 5, 5\)", spoil=lambda x: x[:0]),
    "another precision": Mistake(ModelError, "forward failed for input of shape .*double", spoil=lambda x: x.double()),
    "wrong channels": Mistake(
        ModelError,
        r"forward failed for input of shape \(2, 1, 5, 5\): .*takes inputs of 2 channels, .*--channels 2",
        spoil=lambda x: x[:, :1],
    ),
}
