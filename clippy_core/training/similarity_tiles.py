"""The similarity matrix of a global batch in tiles, none of which outlives its use unless there is room to keep it.

B pair of this rank, N pair of the global batch, D embedding; r/c row and column of a tile; x/y one side's embeddings
and the other's. What the losses do with the tiles, and what they cost, is in :mod:`clippy_core.training.losses`.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

CPU_SIDE = 1024
"""Largest side of a working tile on the CPU: 4 MB, which stay in the cache between its product and its last use."""
LARGEST = 87.0
"""Float32 exponentials of up to LARGEST are finite."""


class Plan(NamedTuple):
    """How the similarities are computed.

    Attributes:
        scale: Factor on cosines.
        bias: Added after that.
        shift: Taken off logits before exponentials.
        side: Rows and columns of a working tile.
        dtype: Of tiles and of sums over them.
        first: Row of the global batch at which this rank begins.
    """

    scale: float
    bias: float
    shift: float
    side: int
    dtype: torch.dtype
    first: int

    @classmethod
    def of(cls, sides: Sequence[Tensor], tile: int, rank: int, scale: Tensor, bias: Tensor | None = None) -> "Plan":
        """The plan for a loss with a bias, or for one that takes exponentials.

        Args:
            sides: This rank's image and text embeddings (B, D) and, if there are other ranks, everyone's (N, D).
            tile: Largest side of a tile that fits.
            rank: Number of this process.
            scale: Factor on cosines, a scalar.
            bias: Added to logits, a scalar; None for none, and for a shift that keeps exponentials finite.
        """
        own_BD = sides[0]
        side = min(tile, CPU_SIDE) if own_BD.device.type == "cpu" else tile
        dtype = torch.promote_types(own_BD.dtype, torch.float32)
        first, factor = rank * len(own_BD), float(scale)
        if bias is not None:
            return cls(factor, float(bias), 0.0, side, dtype, first)
        largest_sum = factor + math.log(len(sides[-1]))  # as a logarithm, for unit vectors
        return cls(factor, 0.0, max(0.0, largest_sum - LARGEST), side, dtype, first)

    def positives(self, sides: Sequence[Tensor]) -> Tensor:
        """Logits of this rank's pairs."""
        return row_dots(sides[0], sides[1], self.dtype) * self.scale + self.bias


class Tile(NamedTuple):
    """Where a tile lies, and the embeddings that meet in it.

    Attributes:
        rows: Its part of the block's rows.
        columns: Its part of the block's columns.
        x_rD: Rows' embeddings, in the plan's dtype.
        y_cD: Columns' embeddings, likewise.
        offset: Of the global diagonal in it, as ``Tensor.diagonal`` counts; it may miss the tile.
        on: The block's rows whose diagonal element lies in it.
    """

    rows: slice
    columns: slice
    x_rD: Tensor
    y_cD: Tensor
    offset: int
    on: slice


class Block:
    """Similarities of some rows with all columns, tile by tile: image by text (side 0) or text by image (side 1)."""

    def __init__(self, plan: Plan, side: int, x_BD: Tensor, y_ND: Tensor) -> None:
        self.plan, self.side, self.x_BD, self.y_ND = plan, side, x_BD, y_ND
        self.kept: list[Tensor] = []
        self.constant = torch.full((), plan.bias - plan.shift, dtype=plan.dtype, device=x_BD.device)

    def tiles(self) -> Iterator[Tile]:
        """All tiles, row after row."""
        for rows in slices(len(self.x_BD), self.plan.side):
            x_rD = self.x_BD[rows].to(self.plan.dtype)
            for columns in slices(len(self.y_ND), self.plan.side):
                begin = max(rows.start, columns.start - self.plan.first)
                end = max(begin, min(rows.stop, columns.stop - self.plan.first))
                offset = self.plan.first + rows.start - columns.start
                y_cD = self.y_ND[columns].to(self.plan.dtype)
                yield Tile(rows, columns, x_rD, y_cD, offset, slice(begin, end))

    def scratch(self) -> Tensor:
        """Room for one tile."""
        rows, columns = (min(self.plan.side, len(side)) for side in (self.x_BD, self.y_ND))
        return self.x_BD.new_empty(rows * columns, dtype=self.plan.dtype)

    def zeros(self, rows_BD: Tensor) -> Tensor:
        """Accumulators of the same shape, in the plan's dtype."""
        return torch.zeros_like(rows_BD, dtype=self.plan.dtype, memory_format=torch.contiguous_format)

    def logits(self, tile: Tile, out: Tensor) -> Tensor:
        """Logits of a tile, less the shift."""
        return torch.addmm(self.constant, tile.x_rD, tile.y_cD.T, alpha=self.plan.scale, out=out)

    def exponentials(self, room: int = 0) -> Iterator[tuple[Tile, Tensor]]:
        """Tiles of exp(logit − shift), 0 for positives; kept ones are taken, and more are kept within ``room`` values.

        What is not kept is overwritten by the next.
        """
        flat = None
        for index, tile in enumerate(self.tiles()):
            if index < len(self.kept):
                yield tile, self.kept[index]
                continue
            size = len(tile.x_rD) * len(tile.y_cD)
            keep = index == len(self.kept) and size <= room
            if keep:
                room -= size
                weights_rc = tile.x_rD.new_empty(len(tile.x_rD), len(tile.y_cD))
            else:
                flat = self.scratch() if flat is None else flat
                weights_rc = shaped(flat, tile)
            self.logits(tile, weights_rc).exp_().diagonal(tile.offset).zero_()
            if keep:
                self.kept.append(weights_rc)
            yield tile, weights_rc


def in_blocks(plan: Plan, sides: Sequence[Tensor]) -> list[Block]:
    """In one process rows and columns share a block; else a rank has its rows and its columns of the matrix."""
    if len(sides) == 2:
        return [Block(plan, 0, sides[0], sides[1])]
    return [Block(plan, 0, sides[0], sides[3]), Block(plan, 1, sides[1], sides[2])]


def shaped(flat: Tensor, tile: Tile) -> Tensor:
    """A tile's matrix in room for the largest tile."""
    rows, columns = len(tile.x_rD), len(tile.y_cD)
    return flat[: rows * columns].view(rows, columns)


def slices(length: int, side: int) -> list[slice]:
    """The range of ``length`` cut into pieces of ``side``, the last of which may be smaller."""
    return [slice(start, min(start + side, length)) for start in range(0, length, side)]


def row_dots(x_BD: Tensor, y_BD: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Products of rows with rows; some at a time, so that nothing as large as the embeddings is made."""
    dtype = dtype or torch.promote_types(x_BD.dtype, y_BD.dtype)
    rows = slices(len(x_BD), CPU_SIDE)
    return torch.cat([(x_BD[some].to(dtype) * y_BD[some]).sum(1) for some in rows])
