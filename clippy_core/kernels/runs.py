"""From rectangles with few prompts to a label map, as runs along pixel rows.

C rectangle, R pixel row of a rectangle, n prompt slot, S piece of a row. A *line* is one pixel row of one rectangle
(a flat index into C x R), a *slot* one of the n prompts of the line's rectangle.
"""

from dataclasses import dataclass

import numpy as np

from clippy_core.kernels.geometry import Axis
from clippy_core.kernels.pruning import BLOCK, NEVER, PAIRS, Rectangles


class RunPainter:
    """Collects runs, in any order, and renders them.

    A run starts at a pixel and ends where the next one starts. A wanted value (score, margin) is linear along a run:
    ``base + slope * t``, with t the pixel's position in its cell.
    """

    def __init__(self, ys: Axis, xs: Axis, groups: np.ndarray | None, scores: bool, margins: bool) -> None:
        self.ys, self.xs, self.groups, self.scores, self.margins = ys, xs, groups, scores, margins
        self.starts: list[np.ndarray] = []
        self.prompts: list[np.ndarray] = []
        self.ramps: list[np.ndarray] = []
        self.waiting: list[Rectangles] = []

    def add(self, y: np.ndarray, x: np.ndarray, prompt: np.ndarray, ramps: list[np.ndarray]) -> None:
        """Record runs that start at distinct pixels (y, x); the clamped pixels to the left belong to the first."""
        x = np.where(x <= self.xs.low, 0, x)
        self.starts.append((y - self.ys.low) * self.xs.n_out + x)
        self.prompts.append(prompt)
        if ramps:
            self.ramps.append(np.stack(ramps))

    def paint(self, batch: Rectangles) -> None:
        """Paint rectangles with a single prompt whole; keep the others until there are enough to work off together."""
        if not (self.scores or self.margins):
            self._paint_whole(batch, np.flatnonzero(batch.count_C == 1))
            batch = batch.select(batch.count_C > 1)
        self.waiting.append(batch)
        if sum(len(batch.prompt_N) for batch in self.waiting) >= PAIRS:
            self.flush()

    def flush(self) -> None:
        """Work off waiting rectangles, those with similar numbers of prompts together, padded to equal numbers."""
        if not self.waiting:
            return
        batch = Rectangles.concatenate(self.waiting)
        self.waiting = []
        order = np.argsort(batch.count_C, kind="stable")
        count = batch.count_C[order]
        height = batch.bottom_C[order] - batch.top_C[order] + 1
        at = 0
        while at < len(order):
            n = _bucket(int(count[at]))
            until = int(np.searchsorted(count, n, side="right"))
            tallest = int(height[at:until].max())
            step, rows = max(1, BLOCK // (n * tallest)), max(1, BLOCK // n)
            for a in range(at, until, step):
                for row in range(0, tallest, rows):
                    strip = Strip(self, batch, order[a : min(a + step, until)], n, row, min(row + rows, tallest))
                    self.add(*strip.runs())
            at = until

    def _paint_whole(self, batch: Rectangles, at: np.ndarray) -> None:
        if len(at):
            count = (batch.bottom_C - batch.top_C + 1)[at]
            y = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count - batch.top_C[at], count)
            self.add(y, np.repeat(batch.left_C[at], count), np.repeat(batch.prompt_N[batch.first_C[at]], count), [])

    def render(self) -> tuple[np.ndarray, list[np.ndarray]]:
        """Write the runs out: int32 labels (H, W), then scores and margins as wanted.

        Rows that are clamped to the first or last patch row are copies.
        """
        start = np.concatenate(self.starts)
        bits = max(int(len(start) - 1).bit_length(), 1)
        order = np.sort(start << bits | np.arange(len(start)))
        start, order = order >> bits, order & ((1 << bits) - 1)
        height, width = self.ys.high - self.ys.low + 1, self.xs.n_out
        first_row = slice(0, int(np.searchsorted(start, width)))
        last_row = slice(int(np.searchsorted(start, (height - 1) * width)), len(start))
        above, below = self.ys.low, self.ys.n_out - 1 - self.ys.high

        def with_copies(run: np.ndarray) -> np.ndarray:
            return np.concatenate([np.tile(run[first_row], above), run, np.tile(run[last_row], below)])

        length = with_copies(np.diff(start, append=height * width))
        prompt = np.concatenate(self.prompts)[order]
        label = (prompt if self.groups is None else self.groups[prompt]).astype(np.int32)
        labels_HW = np.repeat(with_copies(label), length).reshape(self.ys.n_out, width)
        if not self.ramps:
            return labels_HW, []
        ramps = np.concatenate(self.ramps, axis=1)[:, order]
        ramps = [with_copies(ramp) for ramp in ramps]
        return labels_HW, [
            self._write(base, slope, length) for base, slope in zip(ramps[::2], ramps[1::2], strict=True)
        ]

    def _write(self, base: np.ndarray, slope: np.ndarray, length: np.ndarray) -> np.ndarray:
        """Evaluate one linear function per run, some rows at a time."""
        height, width = self.ys.n_out, self.xs.n_out
        value_HW = np.empty((height, width), np.float32)
        t_W = self.xs.t.astype(np.float32)
        first_of_row = np.searchsorted(np.cumsum(length) - length, np.arange(height + 1) * width)
        rows = max(1, BLOCK // width)
        for y in range(0, height, rows):
            until = min(y + rows, height)
            part = slice(first_of_row[y], first_of_row[until])
            line = np.repeat(slope[part], length[part]).reshape(-1, width)
            line *= t_W
            line += np.repeat(base[part], length[part]).reshape(-1, width)
            value_HW[y:until] = line
        return value_HW


@dataclass
class _Pieces:
    """Pieces of lines: pixels ``x`` to ``end``, won by slot ``a`` at the first and ``b`` at the last pixel."""

    line: np.ndarray
    x: np.ndarray
    end: np.ndarray
    a: np.ndarray
    b: np.ndarray
    parent: np.ndarray

    def part(self, at: np.ndarray) -> "_Pieces":
        return _Pieces(self.line[at], self.x[at], self.end[at], self.a[at], self.b[at], self.parent[at])


@dataclass
class _Breaks:
    """Places where a line changes its winner: from pixel ``x`` on it is ``slot``."""

    line: np.ndarray
    x: np.ndarray
    slot: np.ndarray
    parent: np.ndarray


class Strip:
    """Rows ``row`` to ``until`` of some rectangles, their prompts padded to ``n``.

    Along a line each slot is straight between the rectangle's first and last pixel; ``first_nL`` and ``last_nL`` are
    the logits there.
    """

    def __init__(self, painter: RunPainter, batch: Rectangles, at: np.ndarray, n: int, row: int, until: int) -> None:
        self.painter, self.rows = painter, until - row
        self.left_C, self.right_C = batch.left_C[at], batch.right_C[at]
        top_C, bottom_C = batch.top_C[at], batch.bottom_C[at]
        y_CR = top_C[:, None] + np.arange(row, until)
        self.valid_L = (y_CR <= bottom_C[:, None]).ravel()
        y_CR = np.minimum(y_CR, bottom_C[:, None])
        self.y_L = y_CR.ravel()

        slot_n1 = np.arange(n)[:, None]
        self.padding_nC = slot_n1 >= batch.count_C[at]
        pair_nC = batch.first_C[at] + np.where(self.padding_nC, 0, slot_n1)
        self.prompt_nC = batch.prompt_N[pair_nC]
        corners_4nC = batch.corners_4N[:, pair_nC]
        corners_4nC[:, self.padding_nC] = NEVER
        t = painter.ys.t
        span_C = np.where(bottom_C > top_C, t[bottom_C] - t[top_C], 1.0)
        share_CR = ((t[y_CR] - t[top_C][:, None]) / span_C[:, None]).astype(np.float32)
        self.first_nL = _lines(corners_4nC[0], corners_4nC[2], share_CR)
        self.last_nL = _lines(corners_4nC[1], corners_4nC[3], share_CR)
        self.t_left_C, self.t_right_C = painter.xs.t[self.left_C], painter.xs.t[self.right_C]
        self.span_C = np.where(self.right_C > self.left_C, self.t_right_C - self.t_left_C, 1.0)

    def runs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[np.ndarray]]:
        """Row, first pixel, prompt and ramps of every run."""
        line = np.flatnonzero(self.valid_L)
        rectangle = line // self.rows
        x, end = self.left_C[rectangle], self.right_C[rectangle]
        winner, at_end = first_largest(self.first_nL)[line], first_largest(self.last_nL)[line]
        split = np.flatnonzero(winner != at_end)
        breaks = self._settle(_Pieces(line, x, end, winner, at_end, line).part(split))
        line = np.concatenate([line, *(piece.line for piece in breaks)])
        x = np.concatenate([x, *(piece.x for piece in breaks)])
        winner = np.concatenate([winner, *(piece.slot for piece in breaks)])
        ramps = []
        if self.painter.margins:
            line, x, winner, runner = self._runners_up(line, x, winner)
            ramps = [a - b for a, b in zip(self._ramp(winner, line), self._ramp(runner, line), strict=True)]
        if self.painter.scores:
            ramps = [*self._ramp(winner, line), *ramps]
        return self.y_L[line], x, self.prompt_nC[winner, line // self.rows], ramps

    def _ramp(self, slot: np.ndarray, line: np.ndarray) -> list[np.ndarray]:
        rectangle = line // self.rows
        first = self.first_nL[slot, line]
        slope = (self.last_nL[slot, line] - first) / self.span_C[rectangle]
        return [(first - slope * self.t_left_C[rectangle]).astype(np.float32), slope.astype(np.float32)]

    def _winners(
        self, line: np.ndarray, pixels: tuple[np.ndarray, ...], without: np.ndarray | None
    ) -> list[np.ndarray]:
        """Best slot of each line at each of some pixels, leaving out those of label ``without``."""
        rectangle = line // self.rows
        first_nS = self.first_nL.take(line, axis=1)
        step_nS = self.last_nL.take(line, axis=1)
        step_nS -= first_nS
        if without is not None:
            left_out = self.label_nC.take(rectangle, axis=1) == without
            first_nS[left_out], step_nS[left_out] = NEVER, 0
        t_left_S, span_S = self.t_left_C[rectangle], self.span_C[rectangle]
        winners = []
        for x in pixels:
            value_nS = step_nS * ((self.painter.xs.t[x] - t_left_S) / span_S).astype(np.float32)
            value_nS += first_nS
            winners.append(first_largest(value_nS))
        return winners

    def _crossing(self, line: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """First pixel at which slot ``b`` has overtaken slot ``a``, up to rounding."""
        gap = self.first_nL[a, line] - self.first_nL[b, line]
        gain = self.last_nL[b, line] - self.last_nL[a, line] + gap
        share = np.divide(gap, gain, out=np.zeros_like(gap), where=gain != 0)
        rectangle, xs = line // self.rows, self.painter.xs
        t = self.t_left_C[rectangle] + share * self.span_C[rectangle]
        position = xs.cell[self.left_C[rectangle]] + t
        return np.ceil((position + 0.5) * (xs.n_out / xs.n_in) - 0.5).astype(np.int64)

    def _settle(self, open_: _Pieces, without: np.ndarray | None = None) -> list[_Breaks]:
        """Find every change of winner on pieces whose two ends have different winners."""
        breaks = []
        while len(open_.line):
            line, x, end, a, b = open_.line, open_.x, open_.end, open_.a, open_.b
            near = np.clip(self._crossing(line, a, b), x + 1, end)
            leave_out = None if without is None else without[open_.parent]
            before, after = self._winners(line, (near - 1, near), leave_out)
            # The winners at the ends are known; computing them again must not contradict what is recorded.
            before, after = np.where(near - 1 == x, a, before), np.where(near == end, b, after)
            change = np.flatnonzero(before != after)
            breaks.append(_Breaks(line[change], near[change], after[change], open_.parent[change]))
            left, right = np.flatnonzero(a != before), np.flatnonzero(after != b)
            both = np.concatenate([left, right])
            open_ = _Pieces(
                line[both],
                np.concatenate([x[left], near[right]]),
                np.concatenate([near[left] - 1, end[right]]),
                np.concatenate([a[left], after[right]]),
                np.concatenate([before[left], b[right]]),
                open_.parent[both],
            )
        return breaks

    def _runners_up(
        self, line: np.ndarray, x: np.ndarray, winner: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Split runs further, so that each also has one runner-up: line, first pixel, winner and runner-up."""
        groups = self.painter.groups
        label_nC = self.prompt_nC if groups is None else groups[self.prompt_nC]
        self.label_nC = np.where(self.padding_nC, -1, label_nC)
        order = np.lexsort((x, line))
        line, x, winner = line[order], x[order], winner[order]
        rectangle = line // self.rows
        last_of_line = np.append(line[1:] != line[:-1], True)
        end = np.where(last_of_line, self.right_C[rectangle], np.append(x[1:], 0) - 1)
        without = self.label_nC[winner, rectangle]
        a, b = self._winners(line, (x, end), without)
        pieces = _Pieces(line, x, end, a, b, np.arange(len(line)))
        breaks = self._settle(pieces.part(np.flatnonzero(a != b)), without)
        return (
            np.concatenate([line, *(piece.line for piece in breaks)]),
            np.concatenate([x, *(piece.x for piece in breaks)]),
            np.concatenate([winner, *(winner[piece.parent] for piece in breaks)]),
            np.concatenate([a, *(piece.slot for piece in breaks)]),
        )


def _bucket(n: int) -> int:
    """Round a number of prompts up to 1, 4, 8, 16, ..."""
    return 1 if n == 1 else max(4, 1 << (n - 1).bit_length())


def _lines(top_nC: np.ndarray, bottom_nC: np.ndarray, share_CR: np.ndarray) -> np.ndarray:
    line_nCR = (bottom_nC - top_nC)[:, :, None] * share_CR
    line_nCR += top_nC[:, :, None]
    return line_nCR.reshape(len(top_nC), -1)


def first_largest(values_nS: np.ndarray) -> np.ndarray:
    """``argmax(0)``, several times faster where the first axis is short: counts the slots before the first maximum."""
    n = len(values_nS)
    if n == 1:
        return np.zeros(values_nS.shape[1:], np.uint8)
    if n > 255:
        return values_nS.argmax(0)
    below = (values_nS != values_nS.max(0)).view(np.uint8)
    still, count = below[0].copy(), below[0].copy()
    for slot in range(1, n - 1):
        still &= below[slot]
        count += still
    return count
