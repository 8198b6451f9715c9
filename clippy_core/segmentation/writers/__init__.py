"""Output formats. A writer is a function ``write(result, stem) -> files written``.

``stem`` is the folder and file name without a suffix; the writer appends its own. Files are written atomically, and
several pictures may be written at the same time by several threads and processes.

A file that covers a whole run grows from fragments: the writer leaves one a picture, at :func:`fragment_path`, and has
an attribute ``collect``, a function that makes the file of them when the run ends. So a run that was killed and one
that several processes share end with the same file. See :class:`CollectingWriter`.

Other packages register writers under the entry-point group ``clippy.writers``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from clippy_core.registry import Registry

if TYPE_CHECKING:
    from clippy_core.segmentation.result import Segmentation

Writer = Callable[["Segmentation", Path], list[Path]]
Collect = Callable[[Path, Sequence[Path]], list[Path]]
FRAGMENTS = ".clippy"
FRAME = "frame-"
"""How the stems of a video's frames begin, in a folder of the video's stem."""
VIDEO_ENDINGS = {"overlay": ".overlay.mp4", "json": ".json"}
"""What is appended to a video's stem for outputs that are one file a video; all others are written for each frame.
Where MP4 cannot be written, the overlay is AVI."""

_PACKAGE = "clippy_core.segmentation.writers"
WRITERS = Registry(
    "clippy.writers",
    "writer",
    {
        "overlay": (f"{_PACKAGE}.pictures:write_overlay", "picture with labels drawn in"),
        "labelmap": (f"{_PACKAGE}.pictures:write_label_map", "indexed PNG, one label a pixel"),
        "json": (f"{_PACKAGE}.documents:write_json_summary", "what was found, as JSON"),
        "masks": (f"{_PACKAGE}.pictures:write_masks", "one black-and-white PNG a label"),
        "scores": (f"{_PACKAGE}.pictures:write_scores", "winner's cosine as 16-bit PNG"),
        "scoremaps": (f"{_PACKAGE}.documents:write_score_maps", "every label's cosines on the model's grid, as npz"),
        "coco": (f"{_PACKAGE}.coco:write_coco", "COCO data set of the whole run, compressed RLE"),
        "polygons": (f"{_PACKAGE}.polygons:write_polygons", "outlines with holes, as GeoJSON"),
        "labelme": (f"{_PACKAGE}.labelme:write_labelme", "outlines that LabelMe opens"),
        "csv": (f"{_PACKAGE}.tables:write_csv", "table of the whole run, a row a picture and label"),
    },
)

ENDINGS = {
    "overlay": ".overlay.png",
    "labelmap": ".labels.png",
    "json": ".json",
    "scores": ".scores.png",
    "scoremaps": ".scores.npz",
    "polygons": ".geojson",
    "labelme": ".labelme.json",
}
"""What our own writers append to a picture's stem, those of one file a picture."""
RUN_FILES = {"coco": "coco.json", "csv": "summary.csv"}
"""What our own writers call the file that covers a run."""
JSON_KINDS = (
    (b'"width": ', b'"height": ', b'"model": '),
    (b'{"info": {"description": "',),
    (b'"flags": {},\n"shapes": [',),
)
"""What the beginnings of our own JSON documents have: ``json``, ``coco`` and ``labelme``, which LabelMe itself indents.
With pictures called ``coco`` or ``a.labelme`` each may take the place of another."""
RUN_KINDS = {"coco": JSON_KINDS, "csv": ((b"image,index,label,",),)}
"""The same of the files that cover a run."""


@dataclass(frozen=True)
class CollectingWriter:
    """A writer whose pictures end in files that cover the run.

    Attributes:
        write: Leaves one fragment of a picture at :func:`fragment_path`.
        collect: Makes the files of them: gets the output folder and the fragments of the run, which are read lazily
            and may be gone through more than once, in the order of their paths; answers with the files written.
    """

    write: Writer
    collect: Collect

    def __call__(self, result: "Segmentation", stem: Path) -> list[Path]:
        """Write the picture's fragment."""
        return self.write(result, stem)


def with_suffix(stem: Path, suffix: str) -> Path:
    """``stem`` with ``suffix`` appended; dots in the stem stay (``Path.with_suffix`` would replace the last part)."""
    return stem.parent / f"{stem.name}{suffix}"


def fragment_path(stem: Path, writer: str, suffix: str) -> Path:
    """Where a picture's fragment for a writer lies: ``FOLDER/.clippy/WRITER/NAME.SUFFIX`` for ``FOLDER/NAME``."""
    return with_suffix(stem.parent / FRAGMENTS / writer / stem.name, suffix)


def stem_of_fragment(fragment: Path) -> Path:
    """The folder of the picture's outputs and their common name, the suffix of the fragment taken off."""
    return fragment.parents[2] / fragment.stem
