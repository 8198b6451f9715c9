"""What a run is trained on: sources of samples, their order, and batches made of them.

Every source is addressed by number and every epoch is a fixed permutation of those numbers, decided by the seed and the
epoch alone. So a position in the stream says which sample comes next, however many processes or workers there are, and
a run that was killed goes on with exactly the sample that would have come.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    import torch


Box = tuple[float, float, float, float]
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class Sample:
    """A picture and what is said about it.

    Attributes:
        key: What it is called in messages; unique in its source.
        image: Encoded bytes of a file, or RGB pixels (``uint8``, H×W×3).
        caption: One line of text, or several lines, of which one is drawn each time the sample is used.
        box: The part of the picture that the caption speaks of, as (left, top, right, bottom) in shares of the
            displayed width and height, 0…1; None for all of it.
    """

    key: str
    image: "bytes | np.ndarray"
    caption: str
    box: Box | None = None


class Source(Protocol):
    """Samples by number. Sources are pickled into worker processes, where files are opened anew."""

    def __len__(self) -> int:
        """Samples in an epoch."""
        ...

    def order(self, epoch: int, seed: int) -> np.ndarray:
        """The numbers of an epoch's samples in the order of training, ``int64``, each number once."""
        ...

    def read(self, number: int) -> Sample:
        """The sample of that number.

        Raises:
            DataError: It cannot be read; one line that names it.
        """
        ...

    def counts(self) -> dict[str, int]:
        """What was found when the source was opened, such as ``{"samples": 100, "partial": 2, "bad shards": 1}``."""
        ...

    def problems(self) -> list[str]:
        """One line for each thing found wrong when the source was opened, such as a shard that is cut short."""
        ...


class Batch(NamedTuple):
    """Samples of one forward pass on one process, on the CPU.

    Attributes:
        pixels_B3HW: ``uint8`` tensor, RGB in 0…255, channels-last memory.
        ids_BL: Token numbers, ``int64`` tensor.
        mask_BL: 1 for tokens, 0 for padding, ``int64`` tensor.
        keys: What each sample is called.
        faults: One line for each sample that could not be used and was replaced.
        boxes_B4: ``float32`` tensor, the part of each square that its caption speaks of, as (left, top, right, bottom)
            in shares of its side; None where every caption speaks of all of its picture.
    """

    pixels_B3HW: "torch.Tensor"
    ids_BL: "torch.Tensor"
    mask_BL: "torch.Tensor"
    keys: tuple[str, ...]
    faults: tuple[str, ...]
    boxes_B4: "torch.Tensor | None" = None
