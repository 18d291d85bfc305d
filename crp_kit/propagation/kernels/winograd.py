"""Transposes of 3x3 convolutions with 16 multiplications where the definition has 36: Winograd's F(2x2, 3x3).

The input is cut into tiles of 4x4 that overlap by two, from each of which come 2x2 values of the output. Tiles and
kernels are transformed by sums and differences, multiplied element-wise, which for many channels is a matrix product
for each of the 16 elements, and transformed back. After S. Winograd (Arithmetic Complexity of Computations, SIAM 1980)
and A. Lavin, S. Gray (Fast Algorithms for Convolutional Neural Networks, CVPR 2016).

All values of a tile have the rounding error of its largest ones: a zero may become 1e-8 of the largest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from ...matrix_product import matrix_product

__all__ = ["winograd_transpose", "winograd_wins"]

_PAIRS = 1 << 16
"""With fewer pairs of channels the transformations cost what the products save."""
_POSITIONS = 384
"""With fewer positions the transformation of the kernels costs what the products save."""
_VALUES = 1 << 18
"""Elements of maps that are transformed at once: few stay in the cache, many read the kernels less often."""


def winograd_wins(weight: torch.Tensor, rows: torch.Tensor) -> bool:
    """Return whether the transpose is faster this way: on the CPU, for enough channels and positions.

    Parameters
    ----------
    weight : torch.Tensor
        (out, in, 3, 3).
    rows : torch.Tensor
        (batch, out, height, width).
    """
    pairs, positions = weight.shape[0] * weight.shape[1], rows.numel() // weight.shape[0]
    return rows.device.type == "cpu" and pairs >= _PAIRS and positions >= _POSITIONS


def winograd_transpose(weight: torch.Tensor, padding: Sequence[int]) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the transpose of a convolution of stride one.

    Parameters
    ----------
    weight : torch.Tensor
        (out, in, 3, 3).
    padding : sequence of int
        Of the convolution, at most 2 on each side.

    Returns
    -------
    callable
        From (batch, out, height, width) to (batch, in, height', width'), channels last.
    """
    kernels = _transformed(weight)
    top, left = (2 - edge for edge in padding)

    def transpose(rows: torch.Tensor) -> torch.Tensor:
        maps = rows.permute(0, 2, 3, 1)
        count, height, width, channels = maps.shape
        out = maps.new_empty((count, height + 2 * top - 2, width + 2 * left - 2, weight.shape[1]))
        down, across = (out.shape[1] + 1) // 2, (out.shape[2] + 1) // 2
        step = min(count, max(1, _VALUES // (channels * height * width)))
        padded = maps.new_zeros((step, 2 * down + 2, 2 * across + 2, channels))
        strips = maps.new_empty((4, step, down, 2 * across + 2, channels))
        tiles = maps.new_empty((4, 4, step, down, across, channels))
        for first in range(0, count, step):
            part = maps[first : first + step]
            padded[: len(part), top : top + height, left : left + width] = part
            _into_tiles([padded[:, i : i + 2 * down : 2] for i in range(4)], strips)
            _into_tiles([strips[:, :, :, j : j + 2 * across : 2] for j in range(4)], tiles)
            products = [
                [matrix_product(tile, kernel) for tile, kernel in zip(*line, strict=True)]
                for line in zip(tiles, kernels, strict=True)
            ]
            _out_of_tiles(products, out[first : first + step])
        return out.permute(0, 3, 1, 2)

    return transpose


def _transformed(weight: torch.Tensor) -> torch.Tensor:
    """Return the transformed kernels of the transpose, (4, 4, out, in), in which kernels are flipped."""
    along_axis = weight.new_tensor([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]]).flip(1)
    along_both = torch.einsum("vj,ui->vuij", along_axis, along_axis).reshape(16, 9)
    kernels: torch.Tensor = along_both @ weight.permute(2, 3, 0, 1).reshape(9, -1)
    return kernels.view(4, 4, *weight.shape[:2])


def _into_tiles(lines: Sequence[torch.Tensor], out: torch.Tensor) -> None:
    """Transform tiles along one axis, from their four lines."""
    torch.sub(lines[0], lines[2], out=out[0])
    torch.add(lines[1], lines[2], out=out[1])
    torch.sub(lines[2], lines[1], out=out[2])
    torch.sub(lines[1], lines[3], out=out[3])


def _out_of_tiles(products: Sequence[Sequence[torch.Tensor]], out: torch.Tensor) -> None:
    """Transform products back into maps: 4 across of 4 down, (batch, tile, tile, channel), which are overwritten."""
    columns = (
        [first.add_(second).add_(third) for first, second, third, _ in zip(*products, strict=True)],
        [second.sub_(third).sub_(fourth) for _, second, third, fourth in zip(*products, strict=True)],
    )
    for j, column in enumerate(columns):
        upper, lower = out[:, 0::2, j::2], out[:, 1::2, j::2]
        first, second, third, fourth = (_cropped(line, upper) for line in column)
        torch.add(first.add_(second), third, out=upper)
        second.sub_(third)
        torch.sub(_cropped(second, lower), _cropped(fourth, lower), out=lower)


def _cropped(line: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return the part of the tiles that is inside of the map, which may end within the last ones."""
    return line[: like.shape[0], : like.shape[1], : like.shape[2]]
