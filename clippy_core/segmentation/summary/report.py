"""A report on a whole run: which labels where, and the pictures to look at first."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clippy_core.files import write_bytes
from clippy_core.segmentation.summary.findings import Entry, Findings, gather

if TYPE_CHECKING:
    from clippy_core.segmentation.batch.manifest import Record
    from clippy_core.segmentation.summary.contact_sheet import Block

PAGE, SHEET = "summary.html", "contact-sheet.png"


def write_summary(out: Path, records: "Sequence[Record]") -> list[Path]:
    """Write ``summary.html``, which needs no other file, and ``contact-sheet.png`` if there are overlays.

    What is said rests on the outputs ``json`` and ``overlay``; where they are not among the run's outputs, the report
    says what is missing. The same outputs give the same bytes.

    Args:
        out: The output folder.
        records: What became of each input; gone through once.

    Returns:
        The files written.

    Raises:
        OSError: A file cannot be written.
    """
    from clippy_core.segmentation.summary.contact_sheet import draw_sheet
    from clippy_core.segmentation.summary.page import page
    from clippy_core.segmentation.writers.png import write_png

    findings = gather(out, iter(records))
    blocks = _blocks(out, findings)
    files = [out / PAGE]
    if any(tile.small_hw3 is not None for block in blocks for tile in block.tiles):
        files.append(out / SHEET)
        write_png(out / SHEET, draw_sheet(blocks))
    write_bytes(out / PAGE, page(findings, blocks, SHEET if len(files) > 1 else None))
    return files


def _blocks(out: Path, findings: Findings) -> "list[Block]":
    from clippy_core.segmentation.summary.contact_sheet import Block, make_tile

    titles: list[tuple[str, list[Entry]]] = [("Least certain", findings.least), ("Most certain", findings.most)]
    if not findings.described:
        titles = [("First pictures", findings.first)]
        if not any(entry.overlay for entry in findings.first):
            return []  # nothing to say of them that the manifest does not
    return [Block(title, [make_tile(out, entry) for entry in entries]) for title, entries in titles if entries]
