"""Pictures and masks as a protocol wants them: what the model is shown, and what its answer is compared with.

Shapes: H/W pixel, S side of a square.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from clippy_core.evaluation.dense.dataset import DenseDataset, Example
from clippy_core.evaluation.protocols import Protocol
from clippy_core.images import MAX_PIXELS, read_picture


@dataclass(frozen=True, eq=False)
class Sample:
    """One picture, ready to be looked at.

    Attributes:
        index: Its place among the pictures that are measured.
        example: What the data set says of it.
        pixels_HW3: What the model is shown, ``uint8`` RGB; a picture that is cropped is so already.
        size: Height and width that the label map is to have.
        truth_HW: The mask, of that size; None where it is not needed.
        objects_HW: Numbers of objects, of that size; None where they are not needed.
    """

    index: int
    example: Example
    pixels_HW3: np.ndarray
    size: tuple[int, int]
    truth_HW: np.ndarray | None = None
    objects_HW: np.ndarray | None = None


@dataclass(frozen=True)
class Reader:
    """Reads pictures of a data set; ``reader(index)`` is called in threads.

    Attributes:
        dataset: The data set.
        examples: Its pictures that are measured.
        protocol: How they are prepared.
        side: The short side in pixels.
        masks: Whether masks are needed.
        objects: Whether objects are needed.
        max_pixels: Larger pictures are refused.
    """

    dataset: DenseDataset
    examples: tuple[Example, ...]
    protocol: Protocol
    side: int
    masks: bool
    objects: bool
    max_pixels: int = MAX_PIXELS

    def __call__(self, index: int) -> Sample:
        """Read and prepare one picture.

        Raises:
            DataError: The picture, its mask or its objects cannot be used.
        """
        example, dataset = self.examples[index], self.dataset
        pixels_HW3 = read_picture(example.image, max_pixels=self.max_pixels).pixels_HW3
        truth_HW = dataset.read_mask(example) if self.masks else None
        objects_HW = dataset.read_objects(example) if self.objects and dataset.read_objects is not None else None
        size = pixels_HW3.shape[0], pixels_HW3.shape[1]
        if self.protocol.picture == "crop":
            pixels_HW3, size = crop_picture(pixels_HW3, self.side), (self.side, self.side)
            fit = crop_mask if self.protocol.mask == "crop" else squash_mask
            truth_HW, objects_HW = (
                None if values_HW is None else fit(values_HW, self.side) for values_HW in (truth_HW, objects_HW)
            )
        return Sample(index, example, pixels_HW3, size, truth_HW, objects_HW)


def crop_picture(pixels_HW3: np.ndarray, side: int) -> np.ndarray:
    """The short side resized to ``side`` (bicubic, antialiased) and the middle cut out, ``uint8`` S×S×3."""
    return _crop(Image.fromarray(pixels_HW3), side, Image.Resampling.BICUBIC)


def crop_mask(values_HW: np.ndarray, side: int) -> np.ndarray:
    """The part of a mask that :func:`crop_picture` shows, nearest pixel, S×S of the same dtype."""
    return _crop(_as_image(values_HW), side, Image.Resampling.NEAREST).astype(values_HW.dtype)


def squash_mask(values_HW: np.ndarray, side: int) -> np.ndarray:
    """The whole mask brought to a square, nearest pixel, S×S of the same dtype."""
    squashed = _as_image(values_HW).resize((side, side), Image.Resampling.NEAREST)
    return np.asarray(squashed).astype(values_HW.dtype)


def _as_image(values_HW: np.ndarray) -> Image.Image:
    """Whole numbers as a picture that keeps all of them; objects are numbered with a sign."""
    return Image.fromarray(values_HW if values_HW.dtype == np.uint8 else values_HW.astype(np.int32))


def _crop(image: Image.Image, side: int, resampling: Image.Resampling) -> np.ndarray:
    # As torchvision does: the long side is rounded down, half pixels of the cut to even.
    short = min(image.size)
    width, height = (side if length == short else int(side * length / short) for length in image.size)
    left, top = round((width - side) / 2), round((height - side) / 2)
    return np.asarray(image.resize((width, height), resampling))[top : top + side, left : left + side]
