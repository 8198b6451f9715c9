"""What a result looks like in the terminal and as ``--json``."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clippy_cli import console
from clippy_core.errors import visible
from clippy_core.version import __version__

if TYPE_CHECKING:
    from clippy_core.segmentation.batch.manifest import Record
    from clippy_core.segmentation.batch.run import Job
    from clippy_core.segmentation.result import Segmentation

MAX_ROWS = 30
MAX_FAILURES = 20
BACKGROUND = "background"
BOX = "box (x, y, w, h)"
# Columns of the table of labels, and how wide a terminal must be to have them beside the label.
COLUMNS = {"share": 0, "pixels": 46, "score": 32, BOX: 66}


def print_labels(result: "Segmentation") -> None:
    """A table of the labels that were found, the largest first; a narrow terminal gets fewer columns."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    labels = sorted(result.summary(), key=lambda label: (-label.pixels, label.index))
    width = console.results().width
    shown = [name for name, needed in COLUMNS.items() if width >= needed]
    table = Table(box=box.SIMPLE_HEAD, title=console.plain(result.source, "bold"), title_justify="left", pad_edge=False)
    table.add_column("label", overflow="fold")
    for name in shown:
        table.add_column(name, justify="left" if name == BOX else "right", no_wrap=True)
    for label in labels[:MAX_ROWS]:
        red, green, blue = result.colours[label.index]
        cells = {
            "share": f"{label.fraction:.1%}",
            "pixels": f"{label.pixels:,}",
            "score": "–" if math.isnan(label.score) else f"{label.score:.3f}",
            BOX: ", ".join(map(str, label.bbox)) if label.pixels else "–",
        }
        name = Text.assemble(("■ ", f"rgb({red},{green},{blue})"), console.plain(label.name))
        table.add_row(name, *(cells[column] for column in shown), style=None if label.pixels else "dim")
    if len(labels) > MAX_ROWS:
        table.add_row(Text(f"… and {len(labels) - MAX_ROWS} more", "dim"))
    console.results().print(table)


def print_outputs(files: Sequence[Path], seconds: Mapping[str, float]) -> None:
    """Where the outputs are and where the time went, to stderr."""
    for file in files:
        console.notice(f"wrote {file}")
    steps = " · ".join(f"{step} {value:.2f} s" for step, value in seconds.items())
    console.notice(f"{steps} · total {sum(seconds.values()):.2f} s")


def print_batch(records: "Sequence[Record]", out: Path, files: Sequence[Path] = (), untried: int = 0) -> None:
    """How a run over several inputs ended: files that cover it, failures by name, and how to try them again."""
    from rich import box
    from rich.table import Table

    for file in files:
        console.notice(f"wrote {file}")
    counts, failed = {"ok": 0, "skipped": 0, "failed": 0}, []
    for record in records:
        counts[record.status] += 1
        if record.status == "failed" and len(failed) < MAX_FAILURES:
            failed.append(record)
    parts = [f"{counts['ok']} done", f"{counts['skipped']} finished before", f"{counts['failed']} failed"]
    parts += [f"{untried:,} not tried"] if untried else []
    console.notice(" · ".join([*parts, f"outputs in {out}"]))
    if not failed:
        return
    table = Table(box=box.SIMPLE_HEAD, title="failed", title_style="bold red", title_justify="left", pad_edge=False)
    table.add_column("input", overflow="fold")
    table.add_column("why", overflow="fold")
    for record in failed:
        name = visible(record.input)
        table.add_row(console.plain(name), console.plain(visible(record.error or "").removeprefix(f"{name}: ")))
    if counts["failed"] > MAX_FAILURES:
        more = f"… and {counts['failed'] - MAX_FAILURES:,} more"
        table.add_row(more, console.plain(f"all are in {out / 'manifest.jsonl'}"))
    console.messages().print(table)
    console.notice(f"the same command again tries only the {'rest' if untried else 'failed ones'}")


def print_shares(records: "Sequence[Record]", job: "Job") -> None:
    """Which labels were found over all pictures of a run, earlier attempts included, to stdout."""
    from rich import box
    from rich.table import Table

    names = [label.name for label in job.labels]
    names = names if job.options.rule.kind == "none" else [BACKGROUND, *names]
    pictures, share, count = dict.fromkeys(names, 0), dict.fromkeys(names, 0.0), 0
    for record in records:
        count += bool(record.labels)
        for name, fraction in record.labels.items():
            pictures[name] = pictures.get(name, 0) + 1
            share[name] = share.get(name, 0.0) + fraction
    if not count:
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("label", overflow="fold")
    table.add_column("pictures", justify="right", no_wrap=True)
    table.add_column("mean share", justify="right", no_wrap=True)
    order = sorted(share, key=lambda name: -share[name])
    for name in order[:MAX_ROWS]:
        table.add_row(console.plain(name), f"{pictures[name]:,}", f"{share[name] / count:.1%}")
    if len(order) > MAX_ROWS:
        table.add_row(f"… and {len(order) - MAX_ROWS} more", "", "")
    console.results().print(table)


def image_document(result: "Segmentation", files: Sequence[Path]) -> dict[str, Any]:
    """One picture of the ``--json`` document."""
    return {**result.to_dict(), "status": "ok", "outputs": [str(file) for file in files], "error": None}


def run_document(images: list[dict[str, Any]], seconds: Mapping[str, float]) -> dict[str, Any]:
    """The ``--json`` document of a run."""
    return {
        "images": images,
        "done": sum(image["status"] == "ok" for image in images),
        "skipped": sum(image["status"] == "skipped" for image in images),
        "failed": sum(image["status"] == "failed" for image in images),
        "seconds": {step: round(value, 4) for step, value in seconds.items()},
        "version": __version__,
    }


def batch_document(
    records: "Sequence[Record]", out: Path, files: Sequence[Path] = (), untried: int = 0
) -> dict[str, Any]:
    """The ``--json`` document of a run over several inputs; details of each lie in its own ``.json`` output."""
    images = [
        {
            "image": record.input,
            "status": record.status,
            "outputs": [str(out / name) for name in record.outputs],
            "error": record.error,
            "notes": record.notes,
            "seconds": {"total": round(record.seconds, 4)},
        }
        for record in records
    ]
    document = run_document(images, {"total": sum(image["seconds"]["total"] for image in images)})
    return {**document, "untried": untried, "files": [str(file) for file in files]}


def can_show(*, to_messages: bool) -> bool:
    """Whether the terminal can show a picture; says so if not."""
    from clippy_cli import preview

    possible = preview.can_show(console.messages() if to_messages else console.results())
    if not possible:
        console.warn(
            "--show needs a terminal with colours; this output is none, and the overlay is only written to a file"
        )
    return possible


def show(result: "Segmentation", *, to_messages: bool) -> None:
    """The overlay as a picture made of characters."""
    from clippy_cli.preview import HalfBlocks

    target = console.messages() if to_messages else console.results()
    target.print(HalfBlocks(result.overlay(annotated=False)))
