"""Dictionaries as concepts: modules that encode the channels of a layer and decode the code again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch

from ..errors import ConditionError, InputError
from ..numerics import is_finite
from .base import Split
from .codebooks import CODEBOOKS
from .dictionary_module import DictionaryModule
from .direction_arrays import digest_of
from .mixed import MixedConcept
from .split import Code, DecoderSplit, Places, VirtualSplit, concept_values

__all__ = ["DictionaryConcept", "SplitMethod"]

SplitMethod = Literal["virtual", "decoder"]


class DictionaryConcept(MixedConcept):
    """A concept is an entry of a dictionary: a latent of a sparse autoencoder, a component of NMF, a cluster's centre.

    The module has ``encode``, from (..., channel) to (..., concept), and ``decode`` back. Decoding is affine; encoding
    may be anything that autograd differentiates, such as ReLU, top-k or JumpReLU, at each position alone, which is
    tried. It runs as it is, in its own mode and precision.

    Parameters
    ----------
    module : torch.nn.Module
        With methods ``encode`` and ``decode``.
    split : {"virtual", "decoder"}, optional
        ``"virtual"``: relevance is divided as if encode and decode ran behind the layer. ``"decoder"``: the relevance
        of each channel is divided by what each concept contributes to the channel's reconstruction, for dictionaries
        that are not read by an encoder with a useful gradient, such as NMF and k-means.
    axis : int, optional
        Axis that enumerates the channels, the row axis counted; by default that of the recorded graph.

    Raises
    ------
    InputError
        If the module has no ``encode`` or ``decode``, or `split` is not known.

    References
    ----------
    Chormai et al., "Disentangled explanations of neural network predictions by finding relevant subspaces", IEEE
    Transactions on Pattern Analysis and Machine Intelligence 46, 2024, for the virtual layer.

    Examples
    --------
    >>> class Autoencoder(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.reader, self.writer = torch.nn.Linear(32, 100), torch.nn.Linear(100, 32)
    ...
    ...     def encode(self, activation):
    ...         return self.reader(activation).relu()
    ...
    ...     def decode(self, code):
    ...         return self.writer(code)
    >>> concept = DictionaryConcept(Autoencoder(), axis=1)
    >>> concept.values(torch.rand(2, 32, 8, 8)).shape   # 100 latents, mean and rest
    torch.Size([2, 102, 8, 8])
    """

    def __init__(self, module: torch.nn.Module, split: SplitMethod = "virtual", *, axis: int | None = None) -> None:
        super().__init__(axis, None)
        self._run = DictionaryModule(module)
        if split not in get_args(SplitMethod):
            raise InputError(f"split is 'virtual' or 'decoder'; got {split!r}")
        self.module, self.method = module, split

    @property
    def identity(self) -> str:
        module = self.module
        parts = digest_of(value for _, value in sorted(module.state_dict().items()))
        options = [(name, *_plain(part)) for name, part in module.named_modules()]
        settings = hashlib.sha256(repr(options).encode()).hexdigest()[:8]
        return (
            f"DictionaryConcept({type(module).__qualname__}, split={self.method!r}, axis={self.axis}, "
            f"sha256={parts}, settings={settings})"
        )

    def count(self, width: int, *, layer_name: str) -> int:
        return len(self._run.decoder(width, repr(layer_name))[0])

    def _stored(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        known = [name for name, codebook in CODEBOOKS.items() if type(self.module) is codebook]
        if not known:
            raise InputError(
                f"a file of directions holds arrays, and this is a {type(self.module).__name__}: save its state dict, "
                f"and make the DictionaryConcept again"
            )
        return {"made": known[0], "split": self.method}, self.module.state_dict()

    def values(self, activation: torch.Tensor) -> torch.Tensor:
        places = Places(self.channels(activation.ndim), activation.shape)
        flat = places.flat(activation)
        return concept_values(self._code(flat), flat, places)

    def split(self, relevance: torch.Tensor, activation: torch.Tensor) -> Split:
        places = Places(self.channels(activation.ndim), activation.shape)
        flat = places.flat(activation)
        division = VirtualSplit if self.method == "virtual" else DecoderSplit
        return division(self, self._code(flat), flat, places.flat(relevance.flatten(0, 1)), places)

    def _code(self, activation: torch.Tensor) -> _ModuleCode:
        """Return the code of activations, (sample, channel, position)."""
        run = self._run
        decoder, offset = (part.to(activation) for part in run.decoder(activation.shape[1]))
        with _gradients():
            leaf = activation.detach().clone().requires_grad_(self.method == "virtual")
            live = run.encoded(leaf.mT.clone()).mT.to(activation)  # in-place operations change a copy
        run.check(activation.mT, live.detach())
        if self.method == "decoder":
            return _ModuleCode(live.detach(), decoder, offset)
        return _ModuleCode(live.detach(), decoder, offset, leaf, live, run.name)


@dataclass(frozen=True, eq=False)
class _ModuleCode(Code):
    """The code that a module makes; `leaf` and `live` are activation and code with a gradient, (sample, ..., position).

    Each position is encoded alone, so that the gradient of a code's sum is its gradient at each position.
    """

    values: torch.Tensor
    decoder: torch.Tensor
    offset: torch.Tensor
    leaf: torch.Tensor | None = None
    live: torch.Tensor | None = None
    name: str = ""

    def handed_back(self, weights: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        samples = len(self.values)
        distinct = sorted({number for row in numbers.tolist() for number in row})
        if len(distinct) > len(weights) // samples:
            rows = weights.reshape(-1, samples, *weights.shape[1:]), numbers.reshape(-1, samples, numbers.shape[1])
            return torch.cat([self._of_row(*row) for row in zip(*rows, strict=True)])
        back = weights.new_zeros(len(weights), self.decoder.shape[1], weights.shape[2])
        for number in distinct:
            slope = self._pulled(number).repeat(len(weights) // samples, 1, 1)
            weight = (weights * (numbers == number)[..., None]).sum(1, keepdim=True)
            back.addcmul_(slope, weight)
        return back

    def _of_row(self, weights: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        """Return the gradient of one row's weighted codes, (sample, channel, position)."""
        index = numbers[..., None].expand(-1, -1, weights.shape[2])
        return self._gradient(torch.zeros_like(self.values).scatter_add(1, index, weights))

    def _pulled(self, number: int) -> torch.Tensor:
        """Return the gradient of one code at each position, (sample, channel, position)."""
        seed = torch.zeros_like(self.values)
        seed[:, number] = 1
        return self._gradient(seed)

    def _gradient(self, seed: torch.Tensor) -> torch.Tensor:
        assert self.leaf is not None
        assert self.live is not None
        gradient = None
        if self.live.requires_grad:
            with _gradients():
                (gradient,) = torch.autograd.grad(self.live, self.leaf, seed, retain_graph=True, allow_unused=True)
        if gradient is None:
            raise ConditionError(
                f"{self.name}.encode has no gradient, along which relevance is handed on: say split='decoder', or "
                f"encode by operations that autograd differentiates"
            )
        if not is_finite(gradient):
            raise ConditionError(f"the gradient of {self.name}.encode is NaN or infinite at an activation of the layer")
        return gradient


@contextmanager
def _gradients() -> Iterator[None]:
    with torch.inference_mode(False), torch.enable_grad():
        yield


def _plain(module: torch.nn.Module) -> tuple[str, list[tuple[str, Any]]]:
    """Return a module's class and its attributes that are plain values, such as the k of top-k."""
    plain = [
        (name, value) for name, value in sorted(vars(module).items()) if isinstance(value, (bool, int, float, str))
    ]
    return type(module).__qualname__, [(name, value) for name, value in plain if name != "training"]
