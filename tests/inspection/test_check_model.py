"""A check before a run finds what would make relevance wrong, and says what to do about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import invoke
from torch import nn
from torch.nn import functional as F
from torchvision import models
from zennit.composites import LayerMapComposite
from zennit.core import Composite, Hook
from zennit.rules import Epsilon, ZPlus
from zennit.types import Linear

import crp_kit as crp
from crp_kit.inspection import ModelCheck, check_model


class Made(nn.Module):
    """A model of a function between two linear layers."""

    def __init__(self, function: object, **modules: nn.Module) -> None:
        super().__init__()
        self.first, self.last, self.function = nn.Linear(4, 4), nn.Linear(4, 2), function
        for name, module in modules.items():
            setattr(self, name, module)
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.function(self, self.first(x)))  # type: ignore[operator]


class Hidden(nn.Module):
    """A module whose inside cannot be seen: a custom autograd function around numpy."""

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = _Cubed.apply(h)  # type: ignore[no-untyped-call]
        return result


class _Cubed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(h)
        return torch.from_numpy(h.detach().numpy() ** 3)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        (h,) = ctx.saved_tensors
        return gradient * 3 * h**2


X = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))


def check(function: object, composite: object = "epsilon_plus", **modules: nn.Module) -> ModelCheck:
    return check_model(Made(function, **modules), X, composite)


def test_a_plain_network_has_nothing_to_say() -> None:
    found = check(lambda m, h: m.act(h), act=nn.ReLU())
    assert len(found) == 0
    assert found.ok
    assert repr(found) == "ModelCheck under EpsilonPlus: nothing to say"


@pytest.mark.parametrize(
    ("function", "modules", "level", "nodes", "what", "advice"),
    [
        (lambda m, h: torch.special.erfcx(h), {}, "error", ("special_erfcx",), "no rule is known", "elementwise="),
        (
            lambda m, h: m.act(h),
            {"act": Hidden()},
            "error",
            ("act",),
            "cannot be looked into",
            "scripted modules",
        ),
        (lambda m, h: h.softmax(-1), {}, "warning", ("softmax",), "softmax", "start at the logits"),
        (lambda m, h: m.norm(F.relu(h)) + h, {"norm": nn.BatchNorm1d(4)}, "warning", ("norm",), "BatchNorms", "'pass'"),
        (lambda m, h: h * m.other(h), {"other": nn.Linear(4, 4)}, "warning", ("mul",), "share", "gate"),
        (lambda m, h: h * m.other(h).sigmoid(), {"other": nn.Linear(4, 4)}, "note", ("mul",), "held fixed", "LRP"),
        (lambda m, h: h, {"unused": nn.Linear(4, 4)}, "note", ("unused",), "never run", "cannot be conditioned"),
    ],
)
def test_each_peculiarity_is_found_with_its_place_and_advice(
    function: object,
    modules: dict[str, nn.Module],
    level: str,
    nodes: tuple[str, ...],
    what: str,
    advice: str,
) -> None:
    found = check(function, **modules)
    assert [(one.level, one.nodes) for one in found] == [(level, nodes)]
    assert what in found.findings[0].what
    assert advice in found.findings[0].advice
    assert found.ok == (level != "error")


def test_layers_that_the_composite_forgets_are_errors() -> None:
    found = check(lambda m, h: F.relu(h), LayerMapComposite([(Linear, Epsilon())]))
    assert [(one.level, one.nodes) for one in found] == [("error", ("relu",))]
    assert "composite gives no rule" in found.findings[0].what


def test_softmax_under_attnlrp_is_a_warning() -> None:
    found = check(lambda m, h: h.softmax(-1) * h, "attnlrp")
    assert ("warning", ("softmax",)) in [(one.level, one.nodes) for one in found]


def test_batch_statistics_are_an_error_that_explains() -> None:
    norm = nn.BatchNorm1d(4, track_running_stats=False)
    found = check(lambda m, h: m.norm(h), norm=norm)
    assert [one.level for one in found] == ["error"]
    assert "track_running_stats=True" in found.findings[0].advice
    with pytest.raises(crp.CrpKitError, match="one sample's relevance would depend on the others"):
        crp.CondAttribution(Made(lambda m, h: m.norm(h), norm=norm))(X, [{"y": [0]}], "epsilon_plus")


def test_a_forward_that_fails_is_an_error_among_the_findings() -> None:
    found = check_model(nn.Linear(3, 2), X, "epsilon_plus")
    assert [one.what for one in found] == ["the model cannot be attributed"]
    assert not found.ok


def test_training_mode_and_half_precision_are_noted() -> None:
    model = Made(lambda m, h: h, drop=nn.Dropout()).to(torch.bfloat16)
    notes = [one.what for one in check_model(model.eval(), X.to(torch.bfloat16), "epsilon_plus")]
    assert "the model runs in half precision" in notes
    notes = [one.what for one in check_model(Made(lambda m, h: h).train(), X, "epsilon_plus")]
    assert "the model is in training mode" in notes


def test_under_plain_gradients_nothing_lacks_a_rule() -> None:
    assert check(lambda m, h: torch.special.erfcx(h), None).ok


def test_parameters_that_are_read_without_their_module_do_run() -> None:
    model = models.VisionTransformer(8, 4, 1, 2, 8, 16, num_classes=3).eval()
    found = check_model(model, torch.randn(1, 3, 8, 8), "epsilon_plus")
    assert not [one for one in found if "never run" in one.what]


def test_the_declared_and_the_chosen_count() -> None:
    class Odd(nn.Module):
        def forward(self, h: torch.Tensor) -> torch.Tensor:
            return torch.special.erfcx(h)

    model = Made(lambda m, h: m.odd(h), odd=Odd())
    assert not check_model(model, X, "epsilon_plus").ok
    assert check_model(crp.CondAttribution(model, elementwise=Odd), X, "epsilon_plus").ok


def test_findings_are_shown_as_text_html_and_dictionaries() -> None:
    found = check(lambda m, h: torch.special.erfcx(h))
    assert repr(found).splitlines()[0] == "ModelCheck under EpsilonPlus: 1 error"
    assert repr(found).splitlines()[1].startswith("error: no rule is known for the operation special_erfcx")
    assert "<td>special_erfcx</td>" in found._repr_html_()
    assert found.as_dicts()[0]["nodes"] == ["special_erfcx"]


def test_the_command_prints_the_findings_and_exits_with_1_for_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "odd.py").write_text(
        "import torch\n\n\n"
        "class Odd(torch.nn.Module):\n"
        "    def forward(self, x):\n"
        "        return torch.special.erfcx(x)\n\n\n"
        "def make():\n"
        "    conv = torch.nn.Conv2d(3, 2, 3)\n"
        "    return torch.nn.Sequential(conv, Odd(), torch.nn.BatchNorm2d(2), torch.nn.Flatten()).eval()\n"
    )
    monkeypatch.chdir(tmp_path)

    def run(*options: str) -> tuple[int, str]:
        result = invoke("check", "--model", "odd.py:make", "--size", 8, *options)
        return result.exit_code, result.stdout

    status, text = run()
    assert status == 1
    assert "1 error, 1 warning" in text
    status, text = run("--json")
    assert status == 1
    assert [one["level"] for one in json.loads(text)] == ["error", "warning"]
    assert run("--elementwise", "Odd")[0] == 0
    assert "treated as 'pass'" in run("--batch-norm", "pass")[1]


def test_a_composite_that_counts_its_calls_is_warned_of() -> None:
    class Counting(Composite):  # type: ignore[misc]
        """A rule for every second linear layer that it is asked about."""

        def __init__(self) -> None:
            super().__init__(module_map=self.choose)
            self.rules = (Epsilon(), ZPlus())

        def choose(self, ctx: dict[str, int], name: str, module: nn.Module) -> Hook | None:
            if not isinstance(module, nn.Linear):
                return None
            ctx["asked"] = ctx.get("asked", 0) + 1
            return self.rules[ctx["asked"] % 2]

    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)).eval()
    findings = {finding.what: finding for finding in check_model(model, torch.zeros(1, 4), Counting())}
    counting = findings["rules that depend on how many modules the composite was asked about before"]
    assert counting.nodes == ("1",)  # asked second or third: the third and the fifth question have one answer
    for composite in ("epsilon_plus_flat", "epsilon_alpha2_beta1_flat", "attnlrp"):
        others = check_model(model, torch.zeros(1, 4), composite)
        assert not any("how many modules" in finding.what for finding in others)
