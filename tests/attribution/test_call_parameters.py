"""A call takes and documents the parameters of `generate`."""

import inspect

import pytest
import torch
from torch import nn

from crp_kit import CondAttribution


def test_a_call_has_the_signature_of_generate() -> None:
    call, generate = (inspect.signature(method) for method in (CondAttribution.__call__, CondAttribution.generate))
    assert call.parameters == generate.parameters
    assert len(call.parameters) == 14
    assert call.return_annotation == "Attribution"


def test_a_call_documents_every_parameter_and_error() -> None:
    doc = inspect.getdoc(CondAttribution.__call__)
    assert doc is not None
    for name in list(inspect.signature(CondAttribution.__call__).parameters)[1:]:
        assert f"\n{name} : " in doc
    sections = [line for line in doc.splitlines() if line in ("Parameters", "Returns", "Raises")]
    assert sections == ["Parameters", "Returns", "Raises"]


def test_a_parameter_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'recordlayer'"):
        CondAttribution(nn.Linear(2, 2))(torch.ones(1, 2), [{"y": [0]}], recordlayer=[])  # type: ignore[call-arg]
