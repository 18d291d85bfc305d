"""Dictionaries as concepts: modules that encode the channels of a layer and decode the code again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch

from ..errors import ConditionError, InputError
from .base import Split
from .codebooks import CODEBOOKS
from .direction_arrays import digest_of
from .mixed import MixedConcept
from .split import Code, DecoderSplit, Places, VirtualSplit, concept_values

__all__ = ["DictionaryConcept", "SplitMethod"]

SplitMethod = Literal["virtual", "decoder"]
_UNITS_AT_ONCE = 1024
"""How many codes are decoded at once where the matrix of a decoder is read."""


class DictionaryConcept(MixedConcept):
    """A concept is an entry of a dictionary: a latent of a sparse autoencoder, a component of NMF, a cluster's centre.

    The module has ``encode``, from (..., channel) to (..., concept), and ``decode`` back. Decoding is affine; encoding
    may be anything that autograd differentiates, such as ReLU, top-k or JumpReLU, at each position alone. It runs as it
    is, in its own mode and precision.

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
        missing = [name for name in ("encode", "decode") if not callable(getattr(module, name, None))]
        if not isinstance(module, torch.nn.Module) or missing:
            lacks = f", which has no {' and no '.join(missing)}" if missing else ""
            raise InputError(
                f"a dictionary is a torch.nn.Module with encode and decode; got {type(module).__name__}{lacks}"
            )
        if split not in get_args(SplitMethod):
            raise InputError(f"split is 'virtual' or 'decoder'; got {split!r}")
        self.module, self.method = module, split
        self._decoders: dict[tuple[int, ...], tuple[torch.Tensor, torch.Tensor]] = {}

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
        return len(self._decoder(width, layer_name)[0])

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
        decoder, offset = (part.to(activation) for part in self._decoder(activation.shape[1], "the layer"))
        if self.method == "decoder":
            with torch.no_grad():
                return _ModuleCode(self._encoded(activation.mT).mT.to(activation), decoder, offset)
        with _gradients():
            leaf = activation.detach().clone().requires_grad_()
            live = self._encoded(leaf.mT).mT.to(activation)
        return _ModuleCode(live.detach(), decoder, offset, leaf, live)

    def _encoded(self, activation: torch.Tensor, layer_name: str = "the layer") -> torch.Tensor:
        """Return codes of (..., channel)."""
        like = next(self.module.parameters(), next(self.module.buffers(), activation))
        inputs = activation.to(like) if like.is_floating_point() else activation.to(like.device)
        try:
            code = self.module.encode(inputs)  # type: ignore[operator]
        except Exception as error:  # a module of the user's own may fail in any way
            raise ConditionError(
                f"{type(self.module).__name__}.encode fails for the {activation.shape[-1]} channels of {layer_name!r}: "
                f"{error}"
            ) from error
        if not isinstance(code, torch.Tensor) or code.shape[:-1] != activation.shape[:-1]:
            shown = tuple(code.shape) if isinstance(code, torch.Tensor) else type(code).__name__
            raise ConditionError(
                f"{type(self.module).__name__}.encode makes (..., concept) of (..., channel); of "
                f"{tuple(activation.shape)} it made {shown}"
            )
        if not code.is_floating_point():
            raise ConditionError(f"{type(self.module).__name__}.encode makes floating point; it made {code.dtype}")
        return code

    def _decoder(self, width: int, layer_name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what the decoder adds for a unit of each concept, (concept, channel), and its offset, (channel,)."""
        values = (value for value in self.module.state_dict().values() if not value.is_inference())
        key = (width, *(number for value in values for number in (value.data_ptr(), value._version)))
        if key not in self._decoders:
            self._decoders.clear()
            with torch.inference_mode(False), torch.no_grad():
                code = self._encoded(torch.zeros(1, width), layer_name)
                self._decoders[key] = self._read_decoder(code[0], width)
        return self._decoders[key]

    def _read_decoder(self, like: torch.Tensor, width: int) -> tuple[torch.Tensor, torch.Tensor]:
        count = len(like)
        offset = self._decoded(like.new_zeros(1, count), width)[0]
        rows = []
        for first in range(0, count, _UNITS_AT_ONCE):
            numbers = torch.arange(first, min(first + _UNITS_AT_ONCE, count), device=like.device)
            units = torch.nn.functional.one_hot(numbers, count).to(like)
            rows.append(self._decoded(units, width) - offset)
        decoder = torch.cat(rows)
        drawn = torch.rand(3, count, generator=torch.Generator().manual_seed(0)).to(like)
        expected, actual = drawn @ decoder + offset, self._decoded(drawn, width)
        scale = drawn @ decoder.abs() + offset.abs()
        if not bool(((expected - actual).abs() <= 1e-3 * scale + 1e-6).all()):
            raise ConditionError(
                f"{type(self.module).__name__}.decode is not affine in the code, as a decoder has to be"
            )
        return decoder, offset

    def _decoded(self, code: torch.Tensor, width: int) -> torch.Tensor:
        try:
            decoded: Any = self.module.decode(code)  # type: ignore[operator]
        except Exception as error:  # as for encode
            name = type(self.module).__name__
            raise ConditionError(f"{name}.decode fails for a code of shape {tuple(code.shape)}: {error}") from error
        if not isinstance(decoded, torch.Tensor) or decoded.shape != (*code.shape[:-1], width):
            shown = tuple(decoded.shape) if isinstance(decoded, torch.Tensor) else type(decoded).__name__
            raise ConditionError(
                f"{type(self.module).__name__}.decode makes (..., {width} channels) of (..., concept); of "
                f"{tuple(code.shape)} it made {shown}"
            )
        return decoded


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
        if not self.live.requires_grad:
            return torch.zeros_like(self.leaf)
        with _gradients():
            (gradient,) = torch.autograd.grad(self.live, self.leaf, seed, retain_graph=True, allow_unused=True)
        return torch.zeros_like(self.leaf) if gradient is None else gradient


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
