"""Complex numbers between real ones: linear maps have their rule, everything else is named."""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from nets import lrp_0
from torch import fft, nn

from crp_kit import CondAttribution, CrpKitWarning

Function = Callable[[torch.Tensor], torch.Tensor]
LENGTH = 8
KERNEL = torch.linspace(-1, 1, LENGTH, dtype=torch.float64).sin()
TURNS = torch.polar(torch.ones(4, dtype=torch.float64), torch.linspace(0, 3, 4, dtype=torch.float64))


def rotated(x: torch.Tensor) -> torch.Tensor:
    """Rotary embedding of pairs of features, (batch, channel, 8)."""
    pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * TURNS.to(pairs.dtype)).flatten(2).type_as(x)


def low_pass(x: torch.Tensor) -> torch.Tensor:
    spectrum = fft.rfft(x)
    spectrum[..., 3:] = 0
    spectrum *= 2
    return fft.irfft(spectrum, n=LENGTH)


def mixed_modes(x: torch.Tensor) -> torch.Tensor:
    spectrum = fft.rfft(x)
    kept = torch.zeros_like(spectrum)
    weight = torch.complex(KERNEL[:4].reshape(2, 2), KERNEL[4:].reshape(2, 2)).to(spectrum.dtype)
    kept[..., :2] = torch.einsum("bct,cd->bdt", spectrum[..., :2], weight)
    return fft.irfft(kept, n=LENGTH)


LINEAR: dict[str, Function] = {
    "rotary embedding": rotated,
    "convolution by a spectrum": lambda x: fft.irfft(fft.rfft(x) * fft.rfft(KERNEL.to(x)), n=LENGTH),
    "low pass in place": low_pass,
    "modes mixed into zeros": mixed_modes,
    "mask of like zeros": lambda x: fft.ifft(torch.where(KERNEL > 0, f := fft.fft(x), torch.zeros_like(f))).real,
    "parts": lambda x: torch.cat([(z := torch.complex(x[..., :4], x[..., 4:]) * (1 + 2j)).real, z.imag], -1),
    "two spectra": lambda x: fft.irfft(fft.rfft(x) + 1j * fft.rfft(x.flip(1)) / 2, n=LENGTH),
    "scaled in place behind": lambda x: rotated(x).mul_(2),
    "axes of an image": lambda x: fft.irfft2(fft.rfft2(x[:, None], norm="ortho") * 0.5, s=x.shape[1:])[:, 0],
}
NAMED: dict[str, tuple[Function, str]] = {
    "absolute values": (lambda x: fft.rfft(x).abs(), "1"),
    "power": (lambda x: ((z := fft.rfft(x)) * z.conj()).real, "1"),
    "product of two signals": (lambda x: fft.irfft(fft.rfft(x) * fft.rfft(x.flip(1)), n=LENGTH), "1.fft_irfft"),
    "written through a view": (lambda x: _halved(fft.rfft(x)), "1"),
    "real memory written": (lambda x: _doubled(fft.rfft(x)), "1"),
}


def _halved(spectrum: torch.Tensor) -> torch.Tensor:
    spectrum[..., :2].mul_(0.5)
    return fft.irfft(spectrum, n=LENGTH)


def _doubled(spectrum: torch.Tensor) -> torch.Tensor:
    spectrum.real.mul_(2)
    return fft.irfft(spectrum, n=LENGTH)


class Part(nn.Module):
    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


def net(function: Function) -> nn.Sequential:
    torch.manual_seed(0)
    first, last = nn.Conv1d(2, 2, 3, padding=1), nn.LazyLinear(3)
    model = nn.Sequential(first, Part(function), nn.Flatten(), last).double().eval()
    model(data())
    return model


def data() -> torch.Tensor:
    return torch.randn(2, 2, LENGTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def attribution(function: Function) -> CondAttribution:
    return CondAttribution(net(function), feature_axis="none")


def gradient(model: nn.Module, target: int) -> torch.Tensor:
    leaf = data().requires_grad_()
    return torch.autograd.grad(model(leaf)[:, target].sum(), leaf)[0]


@pytest.mark.parametrize("name", LINEAR)
def test_a_linear_map_by_complex_numbers_is_exact(name: str) -> None:
    found = attribution(LINEAR[name])(data(), [{"y": [1]}], lrp_0(), pairing="product", record_layer=["0"])
    expected = data() * gradient(net(LINEAR[name]), 1)
    assert torch.allclose(found.input_relevance, expected, rtol=1e-6, atol=1e-8 * float(expected.abs().max()))
    assert torch.allclose(found.prediction, net(LINEAR[name])(data()), rtol=1e-12)
    assert found.gradient_nodes == ()


def test_relevance_of_pairs_may_begin_at_an_odd_place_of_its_memory() -> None:
    """Torch itself cannot differentiate the model then; multiplied by one, the gradient has memory of its own."""

    def odd(x: torch.Tensor, by: int | None = None) -> torch.Tensor:
        pairs = rotated(x).flatten(1)
        return torch.cat([x.flatten(1)[:, :1], pairs if by is None else pairs * by], 1)

    x = data()[:1]
    found = attribution(odd)(x, [{"y": [1]}], lrp_0())
    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(net(lambda x: odd(x, 1))(leaf)[:, 1].sum(), leaf)
    assert torch.allclose(found.input_relevance, x * expected, rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize("name", ["rotary embedding", "modes mixed into zeros"])
def test_rows_together_are_rows_alone_and_those_of_single_precision(name: str) -> None:
    rows = [{"0": ids, "y": [target]} for ids, target in itertools.product(([0], [], [0, 1]), (0, 2))]
    together = attribution(LINEAR[name])(data(), rows, "epsilon_plus", pairing="product").input_relevance
    kept = attribution(LINEAR[name])
    alone = [kept(data(), [row], "epsilon_plus", pairing="product").input_relevance for row in rows]
    assert torch.allclose(together, torch.stack(alone, 1).flatten(0, 1), rtol=1e-9, atol=1e-12)
    single = CondAttribution(net(LINEAR[name]).float(), feature_axis="none")
    rounded = single(data().float(), rows, "epsilon_plus", pairing="product").input_relevance
    assert rounded.dtype == torch.float32
    assert torch.allclose(rounded.double(), together, rtol=1e-3, atol=1e-4 * float(together.abs().max()))


@pytest.mark.parametrize("name", NAMED)
def test_what_is_not_linear_passes_its_gradient_and_is_named(name: str) -> None:
    function, node = NAMED[name]
    with pytest.warns(CrpKitWarning, match="plain gradient"):
        found = attribution(function)(data(), [{"y": [1]}], lrp_0(), pairing="product")
    assert found.gradient_nodes == (node,)
    assert torch.allclose(found.prediction, net(function)(data()), rtol=1e-12)


@pytest.mark.parametrize("name", [*LINEAR, *NAMED])
def test_without_a_composite_the_gradient_is_autograds(name: str) -> None:
    function = LINEAR[name] if name in LINEAR else NAMED[name][0]
    found = attribution(function)(data(), [{"y": [2]}], None, init_rel=1.0, pairing="product").input_relevance
    torch.testing.assert_close(found, gradient(net(function), 2), rtol=1e-9, atol=1e-11)
