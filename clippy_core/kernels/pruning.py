"""Exact pruning: which prompts can win (or come second) in which rectangle of pixels.

K prompt, h/w patch grid, C rectangle, N (rectangle, prompt) pair; the four corners of a rectangle are upper left,
upper right, lower left, lower right. See ``cpu_numpy`` for why the rules are exact.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from clippy_core.kernels.geometry import Axis

BLOCK = 1 << 16
"""Numbers in one temporary array (a quarter of a megabyte of float32): large enough to hide numpy's cost per call,
small enough for the cache and for a few megabytes in total."""

PAIRS = 1 << 15
"""(rectangle, prompt) pairs worked off together."""

SLACK = 1e-6
"""Pruning keeps prompts within this fraction of the largest logit below a bound, so that rounding drops no winner."""

NEVER = np.float32(-3e38)
"""Stands for a prompt that takes no part."""

CROWDED = 8
"""A rectangle with more prompts than this is cut in four before its rows are looked at ..."""

TALL = 6
"""... if it has at least this many pixel rows and columns."""


@dataclass
class Rectangles:
    """Rectangles of pixels, each inside one cell, and the prompts that can still win there.

    Pixels are distinct ones: those clamped to the same spot as their neighbour are left to the painter. The prompts of
    rectangle c are ``prompt_N[first_C[c] : first_C[c] + count_C[c]]``, ascending.
    """

    top_C: np.ndarray
    bottom_C: np.ndarray
    left_C: np.ndarray
    right_C: np.ndarray
    first_C: np.ndarray
    count_C: np.ndarray
    prompt_N: np.ndarray
    corners_4N: np.ndarray

    @classmethod
    def concatenate(cls, batches: list["Rectangles"]) -> "Rectangles":
        """Join batches into one."""
        if len(batches) == 1:
            return batches[0]
        top_C, bottom_C, left_C, right_C, count_C, prompt_N = (
            np.concatenate([getattr(batch, name) for batch in batches])
            for name in ("top_C", "bottom_C", "left_C", "right_C", "count_C", "prompt_N")
        )
        corners_4N = np.concatenate([batch.corners_4N for batch in batches], axis=1)
        first_C = np.cumsum(count_C) - count_C
        return cls(top_C, bottom_C, left_C, right_C, first_C, count_C, prompt_N, corners_4N)

    def of_pair(self) -> np.ndarray:
        """(N,) rectangle of each pair."""
        return np.repeat(np.arange(len(self.count_C)), self.count_C)

    def keep(self, keep_N: np.ndarray) -> "Rectangles":
        """Drop pairs; every rectangle must keep at least one."""
        count_C = np.add.reduceat(keep_N, self.first_C, dtype=np.int64)
        at = np.flatnonzero(keep_N)
        return Rectangles(
            self.top_C,
            self.bottom_C,
            self.left_C,
            self.right_C,
            np.cumsum(count_C) - count_C,
            count_C,
            self.prompt_N[at],
            self.corners_4N.take(at, axis=1),
        )

    def select(self, keep_C: np.ndarray) -> "Rectangles":
        """Some of the rectangles with their pairs."""
        at = np.flatnonzero(np.repeat(keep_C, self.count_C))
        count_C = self.count_C[keep_C]
        return Rectangles(
            self.top_C[keep_C],
            self.bottom_C[keep_C],
            self.left_C[keep_C],
            self.right_C[keep_C],
            np.cumsum(count_C) - count_C,
            count_C,
            self.prompt_N[at],
            self.corners_4N.take(at, axis=1),
        )


class Pruner:
    """Yields rectangles that cover the output, with few enough prompts to look at each."""

    def __init__(
        self,
        logits_hwK: np.ndarray,
        ys: Axis,
        xs: Axis,
        groups: np.ndarray | None,
        *,
        largest: float,
        runner_up: bool,
    ) -> None:
        """Args: see ``cpu_numpy.label_map``; ``runner_up`` keeps what can come second as well."""
        self.logits_hwK, self.ys, self.xs, self.groups, self.runner_up = logits_hwK, ys, xs, groups, runner_up
        self.slack = SLACK * largest

    def rectangles(self) -> Iterator[Rectangles]:
        """Batches of rectangles, pruned."""
        for batch in self._cells():
            stack = [self._tighten(batch)]
            while stack:
                batch = stack.pop()
                tall_C = (batch.bottom_C - batch.top_C >= TALL) & (batch.right_C - batch.left_C >= TALL)
                crowded_C = tall_C & (batch.count_C > CROWDED)
                if not crowded_C.any():
                    yield batch
                    continue
                if not crowded_C.all():
                    yield batch.select(~crowded_C)
                    batch = batch.select(crowded_C)
                share = -(-len(batch.prompt_N) // PAIRS)
                part_C = batch.first_C * share // len(batch.prompt_N)
                for part in range(share):
                    chosen = part_C == part
                    if chosen.any():
                        stack.append(self._tighten(self._quarter(batch.select(chosen))))

    def _cells(self) -> Iterator[Rectangles]:
        """One rectangle a cell: first the cells with one certain winner, then the others in batches.

        The others come with the prompts that pass a first bound: some corner reaches the value that one corner winner
        (for runners-up: two labels) is sure to have in the whole cell.
        """
        h, w, K = self.logits_hwK.shape
        flat_PK = self.logits_hwK.reshape(-1, K)
        live = (np.diff(self.ys.start) > 0)[:, None] & (np.diff(self.xs.start) > 0)
        patch_4C = _corners(np.arange(h * w).reshape(h, w))
        if self.runner_up:
            cell_C, patch_4C = np.flatnonzero(live), patch_4C[:, live]
            sure_C = None
        else:
            winner_4C = _corners(flat_PK.argmax(-1).reshape(h, w))
            uniform = (winner_4C == winner_4C[0]).all(0)
            if (live & uniform).any():
                yield self._gather(np.flatnonzero(live & uniform), winner_4C[0][live & uniform])
            cell_C, patch_4C, winner_4C = (
                np.flatnonzero(live & ~uniform),
                patch_4C[:, live & ~uniform],
                winner_4C[:, live & ~uniform],
            )
            sure_C = flat_PK[patch_4C[:, None], winner_4C].min(0).max(0)

        cells, prompts, waiting = [], [], 0
        step = max(1, BLOCK // K)
        for at in range(0, len(cell_C), step):
            part = slice(at, at + step)
            limit = self._second_bound(flat_PK, patch_4C[:, part]) if sure_C is None else sure_C[part]
            alive = _reduce(np.maximum, flat_PK, patch_4C[:, part]) >= (limit - np.float32(self.slack))[:, None]
            where, prompt = np.divmod(_flat_nonzero(alive), K)
            cells.append(cell_C[part][where])
            prompts.append(prompt)
            waiting += len(where)
            if waiting >= PAIRS or at + step >= len(cell_C):
                yield self._gather(np.concatenate(cells), np.concatenate(prompts))
                cells, prompts, waiting = [], [], 0

    def _second_bound(self, flat_PK: np.ndarray, patch_4C: np.ndarray) -> np.ndarray:
        """Per cell, a value that at least two different labels reach at every pixel of the cell."""
        smallest_CK = _reduce(np.minimum, flat_PK, patch_4C)
        if self.groups is not None:
            smallest_CK = np.maximum.reduceat(smallest_CK, _firsts(self.groups), axis=-1)
        np.put_along_axis(smallest_CK, smallest_CK.argmax(-1)[:, None], NEVER, -1)
        return smallest_CK.max(-1)

    def _gather(self, cell_N: np.ndarray, prompt_N: np.ndarray) -> Rectangles:
        """Fetch the patch logits of the pairs and interpolate them to the corner pixels of the cells."""
        h, w, K = self.logits_hwK.shape
        flat = self.logits_hwK.reshape(-1)
        first_C = _firsts(cell_N)
        count_C = np.diff(first_C, append=len(cell_N))
        row_C, column_C = np.divmod(cell_N[first_C], self.xs.cells)
        base_N = np.repeat((row_C * w + column_C) * K, count_C) + prompt_N
        right, down = (K if w > 1 else 0), (w * K if h > 1 else 0)
        patches_4N = np.stack([flat.take(base_N + shift) for shift in (0, right, down, down + right)])
        top_C, bottom_C = _ends(self.ys, row_C)
        left_C, right_C = _ends(self.xs, column_C)
        tops, bottoms, lefts, rights = (
            np.repeat(pixels.t[at_C].astype(np.float32), count_C)
            for pixels, at_C in ((self.ys, top_C), (self.ys, bottom_C), (self.xs, left_C), (self.xs, right_C))
        )
        upper_2N = _mix(patches_4N[:2], patches_4N[2:], tops)
        lower_2N = _mix(patches_4N[:2], patches_4N[2:], bottoms)
        corners_4N = np.stack([_mix(line[0], line[1], t) for line in (upper_2N, lower_2N) for t in (lefts, rights)])
        return Rectangles(top_C, bottom_C, left_C, right_C, first_C, count_C, prompt_N, corners_4N)

    def _quarter(self, batch: Rectangles) -> Rectangles:
        """Cut every rectangle in four."""
        row_C, column_C = (batch.top_C + batch.bottom_C) // 2, (batch.left_C + batch.right_C) // 2
        upper_2N, lower_2N = batch.corners_4N[:2], batch.corners_4N[2:]
        down_N, down_next_N = (
            np.repeat(_share(self.ys, batch.top_C, batch.bottom_C, row), batch.count_C) for row in (row_C, row_C + 1)
        )
        along_N, along_next_N = (
            np.repeat(_share(self.xs, batch.left_C, batch.right_C, column), batch.count_C)
            for column in (column_C, column_C + 1)
        )
        lines = (upper_2N, _mix(upper_2N, lower_2N, down_N), _mix(upper_2N, lower_2N, down_next_N), lower_2N)
        points = [(left, _mix(left, right, along_N), _mix(left, right, along_next_N), right) for left, right in lines]
        corners = [
            np.stack([points[y][x], points[y][x + 1], points[y + 1][x], points[y + 1][x + 1]])
            for y in (0, 2)
            for x in (0, 2)
        ]
        count_C = np.tile(batch.count_C, 4)
        return Rectangles(
            np.concatenate([batch.top_C, batch.top_C, row_C + 1, row_C + 1]),
            np.concatenate([row_C, row_C, batch.bottom_C, batch.bottom_C]),
            np.concatenate([batch.left_C, column_C + 1] * 2),
            np.concatenate([column_C, batch.right_C] * 2),
            np.cumsum(count_C) - count_C,
            count_C,
            np.tile(batch.prompt_N, 4),
            np.concatenate(corners, axis=1),
        )

    def _tighten(self, batch: Rectangles) -> Rectangles:
        """Apply the exact bound to each rectangle, then drop what one corner winner beats everywhere."""
        smallest_N = batch.corners_4N.min(0)
        if self.runner_up:
            bound_C = self._second_of_pairs(batch, smallest_N)
        else:
            bound_C = np.maximum.reduceat(smallest_N, batch.first_C)
        bound_C -= np.float32(self.slack)
        batch = batch.keep(batch.corners_4N.max(0) >= np.repeat(bound_C, batch.count_C))
        if self.runner_up or not (batch.count_C > 2).any():
            return batch
        keep_N = np.ones(len(batch.prompt_N), bool)
        place_N = np.arange(len(batch.prompt_N))
        for corner_N in batch.corners_4N:
            best_C = np.maximum.reduceat(corner_N, batch.first_C)
            winner_C = np.minimum.reduceat(
                np.where(corner_N == np.repeat(best_C, batch.count_C), place_N, len(place_N)), batch.first_C
            )
            beaten = np.ones(len(batch.prompt_N), bool)
            for other_N in batch.corners_4N:
                beaten &= np.repeat(other_N[winner_C], batch.count_C) > other_N
            keep_N &= ~beaten
        return batch.keep(keep_N)

    def _second_of_pairs(self, batch: Rectangles, smallest_N: np.ndarray) -> np.ndarray:
        """Per rectangle, the second largest of its labels' sure values; every rectangle has at least two labels."""
        label_N = batch.prompt_N if self.groups is None else self.groups[batch.prompt_N]
        rectangle_N = batch.of_pair()
        new_N = np.append(True, (label_N[1:] != label_N[:-1]) | (rectangle_N[1:] != rectangle_N[:-1]))
        first_G = np.flatnonzero(new_N)
        sure_G = np.maximum.reduceat(smallest_N, first_G)
        first_C = np.searchsorted(first_G, batch.first_C)
        count_C = np.diff(first_C, append=len(first_G))
        best_C = np.maximum.reduceat(sure_G, first_C)
        at_G = np.where(sure_G == np.repeat(best_C, count_C), np.arange(len(sure_G)), len(sure_G))
        sure_G[np.minimum.reduceat(at_G, first_C)] = NEVER
        return np.maximum.reduceat(sure_G, first_C)


def _corners(grid_hw: np.ndarray) -> np.ndarray:
    """(4, rows of cells, columns of cells): a grid seen from the four corners of each cell."""
    rows, columns = max(grid_hw.shape[0] - 1, 1), max(grid_hw.shape[1] - 1, 1)
    return np.stack([grid_hw[a : a + rows, b : b + columns] for a in _pair(grid_hw, 0) for b in _pair(grid_hw, 1)])


def _pair(grid_hw: np.ndarray, dimension: int) -> tuple[int, int]:
    return 0, int(grid_hw.shape[dimension] > 1)


def _reduce(choose: np.ufunc, flat_PK: np.ndarray, patch_4C: np.ndarray) -> np.ndarray:
    """float32 (C, K): the smallest or largest of each prompt's four corners."""
    result_CK = flat_PK[patch_4C[0]]
    for patch_C in patch_4C[1:]:
        choose(result_CK, flat_PK[patch_C], out=result_CK)
    return result_CK


def _firsts(sorted_N: np.ndarray) -> np.ndarray:
    """Places where a sorted array takes a new value."""
    return np.flatnonzero(np.diff(sorted_N, prepend=sorted_N[0] - 1))


def _flat_nonzero(mask: np.ndarray) -> np.ndarray:
    """``np.flatnonzero`` for masks that are nearly empty: looks at eight places at a time."""
    flat = mask.reshape(-1).view(np.uint8)
    whole = len(flat) // 8 * 8
    word = np.flatnonzero(flat[:whole].view(np.uint64))
    inside = np.flatnonzero(flat[:whole].reshape(-1, 8)[word].reshape(-1))
    return np.concatenate([(word << 3)[inside >> 3] + (inside & 7), whole + np.flatnonzero(flat[whole:])])


def _ends(pixels: Axis, cell_C: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last distinct pixel of cells that are not empty."""
    return np.maximum(pixels.start[cell_C], pixels.low), np.minimum(pixels.start[cell_C + 1] - 1, pixels.high)


def _share(pixels: Axis, first_C: np.ndarray, last_C: np.ndarray, at_C: np.ndarray) -> np.ndarray:
    """How far pixel ``at`` lies from ``first`` (0) to ``last`` (1)."""
    return ((pixels.t[at_C] - pixels.t[first_C]) / (pixels.t[last_C] - pixels.t[first_C])).astype(np.float32)


def _mix(a: np.ndarray, b: np.ndarray, t: np.ndarray) -> np.ndarray:
    return a * (1 - t) + b * t
