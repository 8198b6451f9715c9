"""From a picture to the tensor a tower takes. Imports no torch."""

import numpy as np

from clippy_core.model.config import VisionConfig

MOST_ELONGATED = 10
"""Long side of the model's input over the short side that was asked for, above which the picture gets smaller."""


def working_size(size: tuple[int, int], short_side: int, stride: int) -> tuple[int, int]:
    """Height and width a picture is resized to: short side ``short_side``, both sides multiples of ``stride``.

    Rounding to the grid changes the aspect ratio by less than half a cell a side; in return every cell looks at
    picture only, never at padding. A side never becomes smaller than one cell. A picture more elongated than
    ``MOST_ELONGATED`` gets the long side of one that is just so, because a line of 1 × 100 pixels is not worth the
    time and memory of a panorama.
    """
    scale = short_side / min(size)
    if max(size) > MOST_ELONGATED * min(size):
        scale = MOST_ELONGATED * short_side / max(size)
    height, width = (max(stride, round(side * scale / stride) * stride) for side in size)
    return height, width


def to_input(pixels_HW3: np.ndarray, size: tuple[int, int], config: VisionConfig) -> np.ndarray:
    """Resize (bicubic, antialiased) and normalise: ``uint8`` RGB in, ``float32`` of shape (3, height, width) out."""
    from PIL import Image

    height, width = size
    image = Image.fromarray(pixels_HW3)
    # Averaging blocks down to three times the target first costs a fraction of one wide filter and looks the same.
    resized = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0))
    mean, std = np.array(config.mean, np.float32), np.array(config.std, np.float32)
    normalised_HW3 = resized.astype(np.float32) * (1 / 255 / std) - mean / std
    return np.ascontiguousarray(normalised_HW3.transpose(2, 0, 1))
