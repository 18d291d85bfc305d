"""Check of a model before a run: operations without a rule, rules that do not conserve, modules that never run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import torch

from ..attribution.cond_attribution import CondAttribution
from ..conditions import OutputSelector
from ..errors import ModelError
from ..graph.graph import Node
from ..graph.nested import leaves
from ..graph.operations import Kind, Trait
from ..graph.recording.shadow import unwrap
from ..propagation.attention import AttentionStep
from ..propagation.engine import Engine
from ..propagation.own_steps import GateStep
from ..propagation.run import Run
from ..propagation.step_choice import BatchNormRule
from ..result_table import Framed
from ..rules.maps.base import RuleMap
from ..rules.module_stand_ins import shown_module
from ..rules.plain_gradient import plain_gradients
from ..rules.presets import Composite
from ..tables import html_table
from .layers import attribution_of

__all__ = ["Finding", "ModelCheck", "check_model"]

Level = Literal["error", "warning", "note"]
_SHOWN = 3


@dataclass(frozen=True)
class Finding:
    """Something about a model that matters for its relevance.

    Parameters
    ----------
    level : {"error", "warning", "note"}
        An error makes relevance wrong there; a warning is a choice that changes it; a note is for information.
    what : str
        The finding in a few words.
    nodes : tuple of str
        Names of the nodes or modules that it is about.
    advice : str
        What follows from it, or how to change it.
    """

    level: Level
    what: str
    nodes: tuple[str, ...]
    advice: str

    def __str__(self) -> str:
        where = f" ({self.where()})" if self.nodes else ""
        return f"{self.level}: {self.what}{where}: {self.advice}"

    def where(self) -> str:
        """Return the first few nodes, and how many more there are."""
        more = f" and {len(self.nodes) - _SHOWN} more" if len(self.nodes) > _SHOWN else ""
        return ", ".join(self.nodes[:_SHOWN]) + more


@dataclass(frozen=True, repr=False)
class ModelCheck(Framed):
    """The findings about a model. Made by `check_model`. Its data frame has a row for each finding.

    Parameters
    ----------
    findings : tuple of Finding
        Errors first.
    composite : str
        Name of the composite.
    """

    findings: tuple[Finding, ...]
    composite: str

    @property
    def ok(self) -> bool:
        """Whether no finding is an error."""
        return not any(finding.level == "error" for finding in self.findings)

    def __len__(self) -> int:
        return len(self.findings)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def as_dicts(self) -> list[dict[str, Any]]:
        """Return the findings as dictionaries of strings and lists."""
        return [{**asdict(finding), "nodes": list(finding.nodes)} for finding in self.findings]

    def _framed(self) -> list[dict[str, Any]]:
        return self.as_dicts()

    def __repr__(self) -> str:
        return "\n".join([self._summary(), *map(str, self.findings)])

    def _summary(self) -> str:
        counts = {level: sum(finding.level == level for finding in self.findings) for level in get_args(Level)}
        summary = ", ".join(f"{count} {level}{'s' if count > 1 else ''}" for level, count in counts.items() if count)
        return f"ModelCheck under {self.composite}: {summary or 'nothing to say'}"

    def _repr_html_(self) -> str:
        rows = [(finding.level, finding.what, finding.where(), finding.advice) for finding in self.findings]
        heads = ("level", "what", "where", "advice")
        return html_table(heads, rows, text_columns=heads, caption=self._summary())


def check_model(
    model: torch.nn.Module | CondAttribution,
    sample: Any,
    composite: Composite | str | None = None,
    *,
    output: OutputSelector = None,
) -> ModelCheck:
    """Return findings about a model before a run, each with advice. One forward is run, no relevance is computed.

    Parameters
    ----------
    model : torch.nn.Module or CondAttribution
        It is not changed. A `CondAttribution` is checked with all of its settings.
    sample : torch.Tensor, tuple or dict
        Model input, (batch, channel, height, width) for images; a batch of one is enough.
    composite : zennit Composite or str, optional
        Rules; a preset name; ``None`` for plain gradients.
    output : str, int or callable, optional
        The part of the model's output that is attributed, if that is not one tensor.

    Returns
    -------
    ModelCheck
        A model that cannot be attributed at all is an error among the findings.

    Raises
    ------
    InputError
        If the model is no module, or the sample has no tensor.
    CompositeError
        If there is no such composite.

    Examples
    --------
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))
    >>> for finding in check_model(model.eval(), torch.zeros(1, 3, 4, 4), "epsilon_plus"):
    ...     print(finding.level, finding.nodes, finding.what)
    warning ('2',) BatchNorms that belong to no convolution or linear layer
    """
    attribution = attribution_of(model, output)
    chosen = attribution.resolve_composite(composite)
    name = "plain gradients" if chosen is None else type(chosen).__name__.strip("_")
    try:
        run = attribution.engine.run(sample, chosen)
    except ModelError as error:
        return ModelCheck((Finding("error", "the model cannot be attributed", (), str(error)),), name)
    view = _View(run, attribution.engine, chosen)
    findings = [finding for check in _CHECKS for finding in check(view)]
    return ModelCheck(tuple(sorted(findings, key=lambda finding: get_args(Level).index(finding.level))), name)


class _View:
    """A planned run, and the nodes of it that relevance reaches."""

    def __init__(self, run: Run, engine: Engine, composite: Composite | None) -> None:
        self.model, self.batch_norm = unwrap(engine.model), engine.batch_norm
        self.run, self.plan, self.graph, self.composite = run, run.plan, run.graph, composite
        reached = {ref.node for ref in run.plan.flow.from_start(run.graph.output)}
        self.nodes = [node for node in run.graph if node.index in reached and node.kind is not Kind.INPUT]
        self.relevance = not run.plan.flow.gradient

    def names(self, which: Callable[[Node], bool]) -> tuple[str, ...]:
        return tuple(node.name for node in self.nodes if which(node))

    def finding(self, level: Level, what: str, which: Callable[[Node], bool], advice: str) -> Iterable[Finding]:
        names = self.names(which)
        return [Finding(level, what, names, advice)] if names else []


def _without_rule(view: _View) -> Iterator[Finding]:
    """Yield nodes where relevance passes as plain gradient."""
    if not view.relevance:
        return
    names = view.names(lambda node: view.plan.steps[node.index].quality == "gradient")
    for reason in plain_gradients(view.graph, names):
        yield Finding(reason.level, reason.what, reason.nodes, reason.advice)


def _counting(view: _View) -> Iterator[Finding]:
    """Yield nodes whose rule depends on how many modules the composite was asked about before."""
    composite = view.composite
    if composite is None or isinstance(composite, RuleMap):
        return
    asked = [(node.name, module) for node in view.graph if (module := shown_module(node)) is not None]
    once, doubled = dict[Any, Any](), dict[Any, Any]()
    depends = []
    for name, module in asked:
        answers = [composite.module_map(context, name, module) for context in (once, doubled)]
        composite.module_map(doubled, name, module)
        if answers[0] is not answers[1]:
            depends.append(name)
    if depends:
        yield Finding(
            "warning",
            "rules that depend on how many modules the composite was asked about before",
            tuple(depends),
            "operations that are functional, run twice, never run or are registered in another order count differently "
            "than in zennit: give rules by name, or by index with crp_kit.rules.maps",
        )


def _norms(view: _View) -> Iterator[Finding]:
    """Yield BatchNorms that are not folded."""
    chosen = view.batch_norm
    others = ", ".join(repr(rule) for rule in get_args(BatchNormRule) if rule != chosen)
    if view.relevance:
        yield from view.finding(
            "warning",
            "BatchNorms that belong to no convolution or linear layer",
            lambda node: node.kind is Kind.BATCH_NORM and node.index not in view.plan.units.folded,
            f"they are treated as {chosen!r}; CondAttribution(model, batch_norm=...) also knows {others}, which differ "
            "in what their shifts absorb",
        )


def _shares(view: _View) -> Iterator[Finding]:
    """Yield nodes that divide relevance by convention, or do not conserve it."""
    if not view.relevance:
        return
    steps = view.plan.steps
    divided = {node.index for node in view.nodes if isinstance(s := steps[node.index], GateStep) and len(s.to) > 1}
    softmax = {node.index for node in view.nodes if isinstance(steps[node.index], AttentionStep)} | {
        node.index for node in view.nodes if node.spec.has(Trait.SOFTMAX) and steps[node.index].quality == "approximate"
    }
    yield from view.finding(
        "warning",
        "products of signals that share relevance equally",
        lambda node: node.index in divided,
        "no factor of these products is a gate (behind a sigmoid or softmax, smaller, or a function of the other)",
    )
    yield from view.finding(
        "warning",
        "attention whose softmax does not conserve relevance",
        lambda node: node.index in softmax,
        "AttnLRP's Taylor expansion has a constant part; other composites hold attention weights fixed, and conserve",
    )
    yield from view.finding(
        "note",
        "factors that depend on the input and are held fixed (gates, attention weights, deviations of norms)",
        lambda node: steps[node.index].quality == "approximate" and node.index not in divided | softmax,
        "this is what LRP does there; the rule table says which",
    )


def _never_run(view: _View) -> Iterator[Finding]:
    """Yield modules that the forward does not run, or whose output does not depend on the input."""
    ran = set(view.graph.names) | {node.owner for node in view.graph}
    inside = tuple(f"{node.owner}." for node in view.graph if node.is_module)
    read = {id(value) for node in view.graph for value in leaves((node.args, node.kwargs))}
    idle = tuple(
        name
        for name, module in view.model.named_modules()
        if name
        and not any(True for _ in module.children())
        and name not in ran
        and not name.startswith(inside)
        and not any(id(parameter) in read for parameter in module.parameters())
    )
    if idle:
        advice = "they cannot be conditioned or recorded; parts used in training only are of this kind"
        yield Finding("note", "modules that never run, or make nothing that depends on the input", idle, advice)


def _modes(view: _View) -> Iterator[Finding]:
    """Yield differences between the model and the copy that is attributed."""
    if any(module.training for module in view.model.modules()):
        advice = "it is attributed as a copy in evaluation mode; call model.eval() if its own predictions should agree"
        yield Finding("note", "the model is in training mode", (), advice)
    if view.run.recording.value(view.graph.output).dtype in (torch.float16, torch.bfloat16):
        advice = "its forward keeps that precision; rules are computed in float32"
        yield Finding("note", "the model runs in half precision", (), advice)


_CHECKS = (_without_rule, _counting, _norms, _shares, _never_run, _modes)
