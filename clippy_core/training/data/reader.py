"""Samples to a batch: read, decode, crop, tokenise. Runs in worker processes, or in the training process without any.

Shapes: B samples, S side of the square, L tokens.
"""

import multiprocessing
import os
import signal
import threading
import warnings
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from typing import NamedTuple

import numpy as np
import torch

from clippy_core.errors import ClippyError, DataError, ImageError
from clippy_core.model.tokenizer import Tokenizer
from clippy_core.training.data import WHOLE, Batch, Box, Source
from clippy_core.training.data.captions import pick
from clippy_core.training.data.decode import fill_square
from clippy_core.training.data.order import generator_at


class Task(NamedTuple):
    """Consecutive positions of an epoch.

    Attributes:
        epoch: Which epoch.
        position: The first position.
        numbers_B: The samples there.
        spares_BA: Samples to try, one after the other, in place of one that cannot be used.
    """

    epoch: int
    position: int
    numbers_B: np.ndarray
    spares_BA: np.ndarray


@dataclass(frozen=True)
class Reader:
    """Makes batches; pickled into worker processes.

    Attributes:
        source: Where samples come from.
        tokenizer: Captions to token numbers.
        size: S.
        crop: Smallest share of a picture's area that is kept.
        flip: Mirror half of the pictures.
        strict: A sample that cannot be used is an error.
        seed: Decides crops, mirroring and which of several captions.
    """

    source: Source
    tokenizer: Tokenizer
    size: int
    crop: float
    flip: bool
    strict: bool
    seed: int

    def __getitem__(self, task: Task) -> Batch | ClippyError:
        """The batch, or what was wrong: an exception that crosses processes would lose its one line."""
        try:
            with warnings.catch_warnings():
                # Oddities in pictures' headers are no reason to speak.
                warnings.simplefilter("ignore")
                return self.batch(task)
        except ClippyError as error:
            return error

    def batch(self, task: Task) -> Batch:
        """Read and prepare the samples of ``task``.

        Raises:
            DataError: A sample cannot be used, and ``strict``, or none of the spares could be used either.
        """
        pixels_BSS3 = torch.empty((len(task.numbers_B), self.size, self.size, 3), dtype=torch.uint8)
        captions, keys, boxes, faults = [], [], [], []
        for row, square_SS3 in enumerate(pixels_BSS3):
            generator = generator_at(self.seed, task.epoch, task.position + row)
            caption, key, box, wrong = self._fill(square_SS3, task, row, generator)
            captions.append(caption)
            keys.append(key)
            boxes.append(box)
            faults += [f"{line}; replaced by {key}" for line in wrong[:1]] + wrong[1:]
        ids_BL, mask_BL = self.tokenizer(captions)
        return Batch(
            pixels_BSS3.permute(0, 3, 1, 2),
            torch.from_numpy(ids_BL),
            torch.from_numpy(mask_BL),
            tuple(keys),
            tuple(faults),
            torch.tensor(boxes, dtype=torch.float32) if any(box != WHOLE for box in boxes) else None,
        )

    def _fill(
        self, square_SS3: torch.Tensor, task: Task, row: int, generator: np.random.Generator
    ) -> tuple[str, str, Box, list[str]]:
        """Put pixels in their place; returns caption, key, box, and a line for each sample that could not be used."""
        wrong: list[str] = []
        for number in (task.numbers_B[row], *task.spares_BA[row]):
            try:
                sample = self.source.read(int(number))
                try:
                    box = fill_square(square_SS3, sample.image, self.crop, self.flip, generator, sample.box)
                except ImageError as error:
                    raise DataError(f"{sample.key}: {str(error).removeprefix('image: ')}") from error
                return pick(sample.caption, generator), sample.key, box, wrong
            except DataError as error:
                if self.strict:
                    raise
                wrong.append(str(error))
        raise DataError(f"{len(wrong)} samples in a row cannot be used; the last: {wrong[-1]}")


def prepare_worker(_worker: int) -> None:
    """What a worker process does first: one thread, and signals are the training process's business.

    When that one dies, however, so does the worker. PyTorch looks at the parent, which is the server that workers are
    forked from, and that one lives as long as its children.
    """
    for name in ("SIGINT", "SIGTERM"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(1)
    training = multiprocessing.parent_process()
    if training is not None:
        threading.Thread(target=_end_with, args=(training,), daemon=True).start()


def _end_with(process: BaseProcess) -> None:
    process.join()
    os._exit(1)
