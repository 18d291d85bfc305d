"""``crp-kit rules``: the library's table on stdout, and a check with an exit code."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from command_line import invoke

import crp_kit as crp
from crp_kit.models.load import load_model

DEMO = ("--model", "demo:resnet")


crp_kit = partial(invoke, "rules")


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A model with an operation that has no rule."""
    (tmp_path / "odd.py").write_text(
        "import torch\n\n\n"
        "class Odd(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.conv = torch.nn.Conv2d(3, 2, 3)\n\n"
        "    def forward(self, x):\n"
        "        return torch.special.erfcx(self.conv(x)).mean((2, 3))\n\n\n"
        "def make():\n"
        "    return Odd().eval()\n"
    )
    monkeypatch.chdir(tmp_path)
    return "odd.py:make"


def test_rules_prints_the_table_of_the_library() -> None:
    result = crp_kit(*DEMO, "--composite", "epsilon_alpha2_beta1")
    loaded = load_model("demo:resnet")
    assert result.exit_code == 0
    assert result.stderr == ""
    assert result.stdout == repr(crp.rule_table(loaded.model, loaded.sample(), "epsilon_alpha2_beta1")) + "\n"


def test_rules_as_json_are_the_rows_of_the_table() -> None:
    loaded = load_model("demo:resnet")
    expected = crp.rule_table(loaded.model, loaded.sample(), "epsilon_plus_flat").as_dicts()
    assert json.loads(crp_kit(*DEMO, "--json").stdout) == expected


@pytest.mark.parametrize(("size", "height", "width"), [("32", 32, 32), ("32x48", 32, 48)])
def test_option_size_sets_the_size_of_the_image(size: str, height: int, width: int) -> None:
    graph = crp.trace_model_graph(load_model("demo:resnet").model, torch.zeros(1, 3, height, width))
    rows = {row["name"]: row["shape"] for row in json.loads(crp_kit(*DEMO, "--size", size, "--json").stdout)}
    assert rows["input"] == [3, height, width]
    assert rows["layer1.0.conv1"] == list(graph.shape("layer1.0.conv1"))


def test_check_is_silent_where_every_node_has_a_rule() -> None:
    result = crp_kit(*DEMO, "--check")
    assert result.exit_code == 0
    assert result.stderr == ""


def test_check_names_the_nodes_without_a_rule_and_exits_with_1(odd: str) -> None:
    result = crp_kit("--model", odd, "--size", 8, "--check")
    assert result.exit_code == 1
    assert "special_erfcx" in result.stdout
    assert result.stderr == "crp-kit: 1 of 4 nodes have no proper rule: special_erfcx\n"


def test_an_operation_declared_element_wise_passes_the_check(tmp_path: Path, odd: str) -> None:
    source = (tmp_path / "odd.py").read_text().replace("class Odd", "class Act(torch.nn.Module):\n"
        "    def forward(self, x):\n        return torch.special.erfcx(x)\n\n\nclass Odd")  # fmt: skip
    source = source.replace("nn.Conv2d(3, 2, 3)", "nn.Sequential(torch.nn.Conv2d(3, 2, 3), Act())")
    (tmp_path / "own.py").write_text(source.replace("torch.special.erfcx(self.conv(x))", "self.conv(x)"))
    assert crp_kit("--model", "own.py:make", "--size", 8, "--check").exit_code == 1
    result = crp_kit("--model", "own.py:make", "--size", 8, "--check", "--elementwise", "Act")
    assert (result.exit_code, result.stderr) == (0, "")


def test_the_box_of_the_box_rule_is_that_of_the_models_inputs() -> None:
    loaded = load_model("demo:resnet")
    rows = json.loads(crp_kit(*DEMO, "--composite", "epsilon_gamma_box", "--json").stdout)
    first = next(row["rule"] for row in rows if row["index"] == 0)
    low = ", ".join(f"{value:.3g}" for value in loaded.preprocess.low.flatten().tolist())
    assert first.startswith(f"ZBox(low=[{low}], high=[")


def test_without_check_nodes_without_a_rule_are_only_shown(odd: str) -> None:
    result = crp_kit("--model", odd, "--size", 8)
    assert result.exit_code == 0
    assert "1 plain gradient" in result.stdout.splitlines()[0]


def test_plain_gradients_pass_the_check(odd: str) -> None:
    assert crp_kit("--model", odd, "--size", 8, "--composite", "gradient", "--check").exit_code == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--composite", "epsilon_pluss"), "no composite named 'epsilon_pluss'; did you mean"),
        (("--size", "0"), "--size is written like 224 or 480x640; got '0'"),
        (("--size", "big"), "--size is written like 224 or 480x640; got 'big'"),
        (("--size", "1x1x1"), "--size is written like 224 or 480x640; got '1x1x1'"),
    ],
)
def test_mistakes_are_one_line_with_the_fix(options: tuple[str, ...], message: str) -> None:
    result = crp_kit(*DEMO, *options)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("crp-kit: error: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
