"""Pictures of which each has one class. Imports no torch."""

from dataclasses import dataclass
from pathlib import Path

from clippy_core.prompts import Label


@dataclass(frozen=True)
class LabelledPicture:
    """A picture and the index of its class."""

    path: Path
    label: int


@dataclass(frozen=True)
class ClassificationSet:
    """Pictures with classes.

    Attributes:
        name: What the data set is called.
        split: Which part of it.
        root: Folder that the pictures' names are relative to.
        labels: The classes; two may have the same name.
        pictures: All pictures, in a fixed order.
        layout: How they were found, such as ``WNID/*.JPEG``.
        notes: What a reader of the figures should know.
    """

    name: str
    split: str
    root: Path
    labels: tuple[Label, ...]
    pictures: tuple[LabelledPicture, ...]
    layout: str
    notes: tuple[str, ...] = ()

    def name_of(self, picture: LabelledPicture) -> str:
        """What a picture is called in outputs, wherever the data set lies."""
        return picture.path.relative_to(self.root).as_posix()
