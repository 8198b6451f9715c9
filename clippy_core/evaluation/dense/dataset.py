"""A data set of pictures with a class for every pixel, whatever its files look like. Imports no torch.

Shapes: H/W pixel.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

IGNORE = 255
"""Value of pixels in a mask that count for nothing, in every data set; official values are mapped to it on reading."""


@dataclass(frozen=True)
class Example:
    """One picture of a data set.

    Attributes:
        name: What the data set calls it, unique and stable, such as ``2007_000033``.
        image: The picture's file.
        annotation: Whatever the data set needs to read its mask and objects.
    """

    name: str
    image: Path
    annotation: Any = None


@dataclass(frozen=True)
class DenseDataset:
    """Pictures with masks, in the order of their official list.

    Attributes:
        name: Name with the number of classes, such as ``voc21``.
        split: Which part, such as ``val``.
        classes: Names as they are put into prompts, in the order of mask values.
        examples: The pictures.
        read_mask: The class of every pixel, ``uint8`` or ``uint16`` H×W: 0…C − 1, or :data:`IGNORE`.
        read_objects: Number of the object at every pixel, ``int32`` H×W from 1; 0 for none, −1 for pixels that count
            for nothing. None if the data set has no instances.
        background: Index of the class that stands for *none of the others*, if there is one.
        background_names: Words that such a class may be asked for by: things and stuff the data set does not name.
        synonyms: Other words for a class, by its name; the highest cosine of all words of a class counts.
        notes: What a reader of the figures should know, such as files that were missing.
    """

    name: str
    split: str
    classes: tuple[str, ...]
    examples: tuple[Example, ...]
    read_mask: "Callable[[Example], np.ndarray]"
    read_objects: "Callable[[Example], np.ndarray] | None" = None
    background: int | None = None
    background_names: tuple[str, ...] = ()
    synonyms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
