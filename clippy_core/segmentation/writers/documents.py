"""Text outputs."""

from pathlib import Path

from clippy_core.files import write_json
from clippy_core.segmentation.result import Segmentation
from clippy_core.segmentation.writers import with_suffix


def write_json_summary(result: Segmentation, stem: Path) -> list[Path]:
    """``.json``: image, size, model, every label with pixels, fraction, score and box, and the time each step took."""
    path = with_suffix(stem, ".json")
    write_json(path, result.to_dict())
    return [path]
