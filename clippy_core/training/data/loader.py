"""Batches in the order of training, from any step on, by as many processes as there are.

In an epoch of N samples a step takes G = batch × processes × accumulated ones in a row; what is left at the end of an
epoch and fills no step is dropped. Part a of step s on rank r starts at position s·G + a·(processes·batch) + r·batch of
the epoch. So all processes together see what one process with the whole batch would see, and who reads what has no
influence on what is read.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch

from clippy_core.errors import UsageError
from clippy_core.model.tokenizer import Tokenizer
from clippy_core.training.config import DataConfig
from clippy_core.training.data import WHOLE, Batch, Source
from clippy_core.training.data.order import spares
from clippy_core.training.data.reader import Reader, Task
from clippy_core.training.data.workers import read_ahead

CHUNK = 256
"""Largest number of samples one worker prepares at once; a larger batch is put together from several."""


class Loader:
    """Endless batches of one process.

    Args:
        source: Where samples come from.
        tokenizer: Captions to token numbers.
        config: Crops, workers, strictness.
        size: Side of the square pictures in pixels.
        batch_size: Samples a process in one forward pass.
        accumulate: Forward passes a step.
        rank: This process, 0…world-1.
        world: Processes that share each batch.
        seed: Decides order and crops.
    """

    def __init__(
        self,
        source: Source,
        tokenizer: Tokenizer,
        config: DataConfig,
        *,
        size: int,
        batch_size: int,
        accumulate: int,
        rank: int,
        world: int,
        seed: int,
    ) -> None:
        self._source, self._seed, self._workers = source, seed, config.workers
        self._reader = Reader(source, tokenizer, size, config.crop, config.flip, config.strict, seed)
        self._batch_size, self._accumulate = batch_size, accumulate
        self._rank, self._world = rank, world
        self._chunk = math.ceil(batch_size / math.ceil(batch_size / CHUNK))

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps that an epoch's samples fill.

        Raises:
            UsageError: Not even one.
        """
        step = self._batch_size * self._world * self._accumulate
        if len(self._source) < step:
            raise UsageError(
                f"a step takes {step:,} samples (batch {self._batch_size} × {self._world} processes × accumulated "
                f"{self._accumulate}), but an epoch has only {len(self._source):,}; use a smaller batch or more data"
            )
        return len(self._source) // step

    def batches(self, step: int) -> Iterator[list[Batch]]:
        """The parts of each optimiser step, after ``step`` steps that are already done, without end.

        Raises:
            UsageError: An epoch does not fill a step.
            DataError: Samples that cannot be used, or a worker process that died; one line.
        """
        _ = self.steps_per_epoch
        chunks = read_ahead(self._reader, self._tasks(step), self._workers, self._ahead())
        count = math.ceil(self._batch_size / self._chunk)
        try:
            while True:
                yield [_joined([next(chunks) for _ in range(count)]) for _ in range(self._accumulate)]
        finally:
            chunks.close()

    def _ahead(self) -> int:
        """Chunks that each worker keeps ready: two, or as many as two batches take."""
        chunks = math.ceil(self._batch_size / self._chunk)
        return max(2, math.ceil(2 * chunks / max(1, self._workers)))

    def _tasks(self, step: int) -> Iterator[Task]:
        steps = self.steps_per_epoch
        epoch, step = divmod(step, steps)
        while True:
            order = self._source.order(epoch, self._seed)
            for start in self._starts(step, steps):
                for offset in range(0, self._batch_size, self._chunk):
                    length = min(self._chunk, self._batch_size - offset)
                    positions = np.arange(start + offset, start + offset + length)
                    others = order[spares(positions, len(order), epoch, self._seed)]
                    yield Task(epoch, start + offset, order[positions], others)
            epoch, step = epoch + 1, 0

    def _starts(self, step: int, steps: int) -> Iterator[int]:
        """Where this rank's parts begin in the epoch, from ``step`` on."""
        together = self._batch_size * self._world
        for part in range(step * self._accumulate, steps * self._accumulate):
            yield part * together + self._rank * self._batch_size


def _joined(chunks: list[Batch]) -> Batch:
    """One batch of several, padded to the longest text."""
    if len(chunks) == 1:
        return chunks[0]
    longest = max(chunk.ids_BL.shape[1] for chunk in chunks)

    def padded(rows_BL: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.pad(rows_BL, (0, longest - rows_BL.shape[1]))

    return Batch(
        # Joined as they lie in memory, channels last.
        torch.cat([chunk.pixels_B3HW.permute(0, 2, 3, 1) for chunk in chunks]).permute(0, 3, 1, 2),
        torch.cat([padded(chunk.ids_BL) for chunk in chunks]),
        torch.cat([padded(chunk.mask_BL) for chunk in chunks]),
        tuple(key for chunk in chunks for key in chunk.keys),
        tuple(fault for chunk in chunks for fault in chunk.faults),
        _joined_boxes(chunks),
    )


def _joined_boxes(chunks: list[Batch]) -> torch.Tensor | None:
    if all(chunk.boxes_B4 is None for chunk in chunks):
        return None
    whole_4 = torch.tensor(WHOLE)
    return torch.cat(
        [whole_4.expand(len(chunk.keys), 4) if chunk.boxes_B4 is None else chunk.boxes_B4 for chunk in chunks]
    )
