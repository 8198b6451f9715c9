"""From a picture to the tensor a tower takes. Imports no torch."""

import numpy as np

from clippy_core.model.config import VisionConfig


def working_size(size: tuple[int, int], short_side: int, stride: int) -> tuple[int, int]:
    """Height and width a picture is resized to: short side ``short_side``, both sides multiples of ``stride``.

    Rounding to the grid changes the aspect ratio by less than half a cell a side; in return every cell looks at
    picture only, never at padding. A side never becomes smaller than one cell.
    """
    scale = short_side / min(size)
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
