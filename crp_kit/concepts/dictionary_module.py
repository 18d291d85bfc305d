"""Module of a dictionary, run with checks: its codes, what its decoder writes, and each position encoded alone."""

from __future__ import annotations

from typing import Any

import torch

from ..errors import ConditionError, InputError
from ..numerics import is_finite

__all__ = ["DictionaryModule"]

_UNITS_AT_ONCE = 1024
"""How many codes are decoded at once where the matrix of a decoder is read."""
_TRIED = 4
"""How many activations of a layer are encoded together and alone."""


class DictionaryModule:
    """A module with ``encode``, from (..., channel) to (..., concept), and ``decode`` back.

    Parameters
    ----------
    module : torch.nn.Module

    Raises
    ------
    InputError
        If it is no such module.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        missing = [name for name in ("encode", "decode") if not callable(getattr(module, name, None))]
        if not isinstance(module, torch.nn.Module) or missing:
            shown = f"the class {module.__name__}" if isinstance(module, type) else type(module).__name__
            lacks = f", which has no {' and no '.join(missing)}" if missing else ""
            raise InputError(f"a dictionary is a torch.nn.Module with encode and decode; got {shown}{lacks}")
        self.module = module
        self._decoders: dict[tuple[Any, ...], tuple[torch.Tensor, torch.Tensor]] = {}
        self._alone: tuple[Any, ...] | None = None
        """The state in which encoding each activation alone was tried."""

    @property
    def name(self) -> str:
        """Its class, for error messages."""
        return type(self.module).__name__

    def encoded(self, activation: torch.Tensor, where: str = "the layer") -> torch.Tensor:
        """Return codes of (..., channel), whose shape and type are checked."""
        self._check_mode()
        like = next(self.module.parameters(), next(self.module.buffers(), activation))
        inputs = activation.to(like) if like.is_floating_point() else activation.to(like.device)
        try:
            code = self.module.encode(inputs)  # type: ignore[operator]
        except Exception as error:  # a module of the user's own may fail in any way
            width = activation.shape[-1]
            raise ConditionError(f"{self.name}.encode fails for the {width} channels of {where}: {error}") from error
        if not isinstance(code, torch.Tensor) or code.shape[:-1] != activation.shape[:-1] or not code.shape[-1]:
            shown = tuple(code.shape) if isinstance(code, torch.Tensor) else type(code).__name__
            raise ConditionError(
                f"{self.name}.encode makes (..., concept) of (..., channel); of {tuple(activation.shape)} it made "
                f"{shown}"
            )
        if not code.is_floating_point():
            raise ConditionError(f"{self.name}.encode makes floating point; it made {code.dtype}")
        return code

    def decoder(self, width: int, where: str = "the layer") -> tuple[torch.Tensor, torch.Tensor]:
        """Return what the decoder adds for a unit of each concept, (concept, channel), and its offset, (channel,)."""
        key = (width, *self._state())
        if key not in self._decoders:
            self._decoders.clear()
            with torch.inference_mode(False), torch.no_grad():
                code = self.encoded(torch.zeros(1, width), where)
                self._decoders[key] = self._read_decoder(code[0], width)
        return self._decoders[key]

    def check(self, activation: torch.Tensor, code: torch.Tensor) -> None:
        """Make sure that a code is finite and, by a trial for each state, that each position is encoded on its own.

        Parameters
        ----------
        activation : torch.Tensor
            (sample, position, channel), of a layer.
        code : torch.Tensor
            Of it.

        Raises
        ------
        ConditionError
            If it is not finite, or the code of an activation depends on what is encoded with it, or on chance.
        """
        self._check_alone(activation)
        if not is_finite(code):
            raise ConditionError(f"{self.name}.encode makes codes that are NaN or infinite of activations of the layer")

    def _check_alone(self, activation: torch.Tensor) -> None:
        state = (activation.shape[-1], *self._state())
        if self._alone == state or not activation.numel():
            return
        with torch.inference_mode(False), torch.no_grad(), torch.random.fork_rng(devices=[]):
            rows = _trial(activation)
            together = self.encoded(rows.reshape(_TRIED, -1, rows.shape[1]).clone()).reshape(len(rows), -1)
            alone = torch.cat([self.encoded(row.clone()[None, None])[0] for row in rows])
            # A threshold may lie within rounding of one activation, but not of many.
            if int(_differ(together, alone).sum()) > _TRIED:
                raise ConditionError(
                    f"{self.name}.encode makes another code of an activation alone than of the same one among others: "
                    f"it has to encode each position by itself, without statistics of the batch and without chance"
                )
            decoder, offset = (part.to(together) for part in self.decoder(rows.shape[1]))
            self._check_affine(together[together.isfinite().all(1)], decoder, offset)
        self._alone = state

    def _check_mode(self) -> None:
        """Refuse a BatchNorm that would take statistics of what is encoded, and change its own by it."""
        for name, part in self.module.named_modules():
            if isinstance(part, torch.nn.modules.batchnorm._BatchNorm) and (part.training or part.running_mean is None):
                raise ConditionError(
                    f"the BatchNorm {name!r} of {self.name} takes statistics of what is encoded together, so that the "
                    f"code of a position depends on others: call eval() on the module, with running statistics"
                )

    def _state(self) -> tuple[Any, ...]:
        """Return what changes when parameters, buffers or modes do."""
        values = (value for value in self.module.state_dict().values() if not value.is_inference())
        tensors = (number for value in values for number in (value.data_ptr(), value._version))
        return (*tensors, *(part.training for part in self.module.modules()))

    def _read_decoder(self, like: torch.Tensor, width: int) -> tuple[torch.Tensor, torch.Tensor]:
        count = len(like)
        offset = self._decoded(like.new_zeros(1, count), width)[0]
        rows = []
        for first in range(0, count, _UNITS_AT_ONCE):
            numbers = torch.arange(first, min(first + _UNITS_AT_ONCE, count), device=like.device)
            units = torch.nn.functional.one_hot(numbers, count).to(like)
            rows.append(self._decoded(units, width) - offset)
        decoder = torch.cat(rows)
        self._check_affine(torch.rand(3, count, generator=torch.Generator().manual_seed(0)).to(like), decoder, offset)
        return decoder, offset

    def _check_affine(self, code: torch.Tensor, decoder: torch.Tensor, offset: torch.Tensor) -> None:
        expected, actual = code @ decoder + offset, self._decoded(code, decoder.shape[1])
        scale = code.abs() @ decoder.abs() + offset.abs()
        if not bool(((expected - actual).abs() <= 1e-3 * scale + 1e-6).all()):
            raise ConditionError(f"{self.name}.decode is not affine in the code, as a decoder has to be")

    def _decoded(self, code: torch.Tensor, width: int) -> torch.Tensor:
        try:
            decoded: Any = self.module.decode(code)  # type: ignore[operator]
        except Exception as error:  # as for encode
            raise ConditionError(
                f"{self.name}.decode fails for a code of shape {tuple(code.shape)}: {error}"
            ) from error
        if not isinstance(decoded, torch.Tensor) or decoded.shape != (*code.shape[:-1], width):
            shown = tuple(decoded.shape) if isinstance(decoded, torch.Tensor) else type(decoded).__name__
            raise ConditionError(
                f"{self.name}.decode makes (..., {width} channels) of (..., concept); of {tuple(code.shape)} it made "
                f"{shown}"
            )
        if not decoded.is_floating_point() or not is_finite(decoded):
            shown = "values that are NaN or infinite" if decoded.is_floating_point() else str(decoded.dtype)
            raise ConditionError(f"{self.name}.decode makes finite floating point; it made {shown}")
        return decoded


def _trial(activation: torch.Tensor) -> torch.Tensor:
    """Return activations to try, (row, channel): some of a layer, the same doubled, and drawn ones of their size."""
    flat = activation.detach().reshape(-1, activation.shape[-1])
    chosen = flat[torch.linspace(0, len(flat) - 1, _TRIED, device=flat.device).long()]
    drawn = torch.rand(chosen.shape, generator=torch.Generator().manual_seed(0)).to(chosen)
    size = chosen.abs().max()
    return torch.cat([chosen, 2 * chosen, drawn * torch.where(size > 0, size, 1)])


def _differ(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return which rows, (row, concept), differ by more than rounding: (row,)."""
    tolerance = max(1e-4, 8 * torch.finfo(one.dtype).eps)
    one, other = (codes.double().nan_to_num(1e30, 1e30, -1e30) for codes in (one, other))
    apart, size = (one - other).norm(dim=1), torch.maximum(one.norm(dim=1), other.norm(dim=1))
    return torch.gt(apart, tolerance * size)
