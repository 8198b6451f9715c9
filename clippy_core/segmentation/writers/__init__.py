"""Output formats. A writer is a function ``write(result, stem) -> files written``.

``stem`` is the folder and file name without a suffix; the writer appends its own. Files are written atomically.
Other packages register writers under the entry-point group ``clippy.writers``.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from clippy_core.registry import Registry

if TYPE_CHECKING:
    from clippy_core.segmentation.result import Segmentation

Writer = Callable[["Segmentation", Path], list[Path]]

WRITERS = Registry(
    "clippy.writers",
    "writer",
    {
        "overlay": ("clippy_core.segmentation.writers.pictures:write_overlay", "picture with labels drawn in"),
        "labelmap": ("clippy_core.segmentation.writers.pictures:write_label_map", "indexed PNG, one label a pixel"),
        "json": ("clippy_core.segmentation.writers.documents:write_json_summary", "what was found, as JSON"),
        "masks": ("clippy_core.segmentation.writers.pictures:write_masks", "one black-and-white PNG a label"),
        "scores": ("clippy_core.segmentation.writers.pictures:write_scores", "winner's cosine as 16-bit PNG"),
    },
)


def with_suffix(stem: Path, suffix: str) -> Path:
    """``stem`` with ``suffix`` appended; dots in the stem stay (``Path.with_suffix`` would replace the last part)."""
    return stem.parent / f"{stem.name}{suffix}"
