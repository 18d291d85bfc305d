"""The table of operations: names are canonical, roles are parameters, and the documented list is made from it."""

from __future__ import annotations

from pathlib import Path

import pytest
from processes import run_script

from crp_kit.graph.operation_names import canonical_name
from crp_kit.graph.registry import operations

ROOT = Path(__file__).resolve().parents[2]


def test_operations_are_entered_under_their_canonical_names() -> None:
    assert {name: canonical_name(name) for name in operations()} == {name: name for name in operations()}


def test_roles_are_parameters_and_no_factor_is_fixed() -> None:
    assert len(operations()) > 250
    for name, spec in operations().items():
        for roles in (spec.factors, spec.fixed, spec.like):
            assert roles == ("*",) or set(roles) <= set(spec.parameters), name
        assert not set(spec.factors) & set(spec.fixed), name


@pytest.mark.parametrize(
    ("raw", "name"),
    [("__iadd__", "add"), ("__rsub__", "sub"), ("true_divide", "div"), ("__matmul__", "matmul"), ("concat", "cat")],
)
def test_spellings_of_one_operation_have_one_entry(raw: str, name: str) -> None:
    assert canonical_name(raw) == name
    assert name in operations()


@pytest.mark.slow
def test_the_documented_list_of_operations_is_made_from_the_table() -> None:
    made = run_script(ROOT / "scripts" / "list_operations").stdout.strip()
    page = (ROOT / "tutorials" / "coverage.md").read_text()
    written = page.partition("<!-- operations -->")[2].partition("<!-- end of operations -->")[0].strip()
    # what is unknown depends on torch's release; what has a rule does not
    assert written.partition("**Unknown**")[0] == made.partition("**Unknown**")[0]
