"""What the analyses have in common in the terminal: options, progress, and how a report is shown."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clippy_cli import console, options
from clippy_cli.progress import BatchProgress
from clippy_core import events
from clippy_core.errors import visible

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

    from clippy_core.analysis.report import Report, Table
    from clippy_core.prompts import Label
    from clippy_core.segmentation.inputs import Input
    from clippy_core.segmentation.segmenter import Segmenter

PARTIAL = 3
MAX_ROWS = 40
MAX_FAILURES = 20
OUT = Path("clippy-analysis")

ACCEPTED = "Images, folders, glob patterns, lists (.txt, @FILE), shards (.tar), or - for standard input; no videos."
Inputs = Annotated[list[str], typer.Argument(metavar="IMAGES...", help=ACCEPTED)]
Labels = Annotated[
    list[str] | None,
    typer.Option("--labels", "-l", metavar="WORDS", help='Labels to compare with: "dog|puppy,grass". (default: none)'),
]
LabelsFile = Annotated[
    Path | None, typer.Option("--labels-file", metavar="FILE", help="The same from a file, one label a line.")
]
Show = Annotated[bool, typer.Option("--show", help="Show the main picture in the terminal.")]


class Analysing(BatchProgress):
    """A sink for analyses, which may look at all pictures more than once.

    Args:
        steps: What each time is called.
    """

    def __init__(self, *steps: str) -> None:
        super().__init__()
        self._steps = list(steps) or ["looking"]

    def _columns(self) -> "tuple[ProgressColumn, ...]":
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

        step, failures = TextColumn("{task.description}"), TextColumn("{task.fields[failed]} failed")
        return step, BarColumn(), MofNCompleteColumn(), failures, TimeRemainingColumn()

    def __call__(self, event: events.Event) -> None:
        """Hear of an event."""
        if isinstance(event, events.BatchStarted) and self._bar is not None:
            step = self._steps.pop(0) if len(self._steps) > 1 else self._steps[0]
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._task = self._bar.add_task(step, total=event.total, completed=event.skipped, failed=self._failed)
            return
        if isinstance(event, events.Noticed):
            with self.aside():
                console.warn(event.text) if event.serious else console.notice(event.text)
        super().__call__(event)


def read_labels(labels: list[str] | None, labels_file: Path | None) -> "tuple[Label, ...]":
    """Labels by either option; none if neither is given.

    Raises:
        UsageError: Both, or labels that cannot be understood.
        DataError: The file cannot be read.
    """
    from clippy_core import prompts
    from clippy_core.errors import UsageError

    given = options.joined(labels)
    if given is not None and labels_file is not None:
        raise UsageError("--labels and --labels-file say the same thing twice; accepted: one of them")
    if labels_file is not None:
        return prompts.read_labels(labels_file)
    return () if given is None else prompts.parse_labels(given)


def find_pictures(inputs: Sequence[str], out: Path) -> "list[Input]":
    """The pictures, known to be there if only one is named, before seconds are spent on loading a model.

    Raises:
        UsageError: None is given.
        DataError: A folder or a pattern without a picture, or a single one that does not exist.
    """
    from clippy_core.errors import UsageError
    from clippy_core.images import read_picture
    from clippy_core.segmentation.inputs import STDIN, find_inputs

    if not inputs or not all(inputs):
        raise UsageError(
            "no input was given; accepted: images, folders, glob patterns, lists, shards, - for standard input"
        )
    items = find_inputs(inputs, out)
    first = items[0]
    if len(items) == 1 and first.source != STDIN and first.place is None and not Path(first.source).exists():
        read_picture(first.source)
    return items


def check_size(size: int | None) -> None:
    """Refuse a size that no picture can be brought to, as :class:`SegmentOptions` does; raises UsageError."""
    from clippy_core.segmentation.options import SegmentOptions

    SegmentOptions(size=size)


def load(model: str, checkpoint: Path | None, device: str) -> "Segmenter":
    """The model, run by torch, because an analysis looks inside."""
    from clippy_core.segmentation.segmenter import load as load_model

    segmenter = load_model(model, checkpoint=checkpoint, device=device, runtime="torch")
    if segmenter.placement.notice:
        console.warn(segmenter.placement.notice)
    return segmenter


def run(analyse: "Callable[[events.Sink], Report]", out: Path, *, steps: Sequence[str], show: bool, json: bool) -> int:
    """Analyse, write the report and show it; returns the exit code.

    Args:
        analyse: Makes the report; told where events go.
        out: The report's folder.
        steps: What the passes over the pictures are called.
        show: Whether the main picture is wanted in the terminal.
        json: Whether stdout gets the JSON document instead of tables.
    """
    from clippy_core.analysis.report import require_extra

    require_extra()  # before seconds are spent on loading a model
    show = show and can_show(to_messages=json)
    with Analysing(*steps) as progress:
        report = analyse(progress)
    return publish(report, out, show=show, json=json)


def publish(report: "Report", out: Path, *, show: bool, json: bool) -> int:
    """Write a report and say what is in it; the exit code is 3 if pictures were left out."""
    from clippy_core.analysis.report import picture_path, to_document, write_report

    files = write_report(report, out)
    if json:
        console.print_json(to_document(report, [file.relative_to(out).as_posix() for file in files]))
    else:
        for section in report.sections[:1]:
            for table in section.tables:
                print_table(table)
    if show and report.main:
        show_picture(picture_path(out, report.main), to_messages=json)
    failures = report.numbers.get("left out") or []
    for failure in failures[:MAX_FAILURES]:
        name = visible(failure["picture"])
        console.warn(f"left out: {name}: {visible(failure['why']).removeprefix(f'{name}: ')}")
    if len(failures) > MAX_FAILURES:
        console.warn(f"left out: {len(failures) - MAX_FAILURES:,} more; {report.what}.json names them")
    console.notice(f"wrote {len(files)} files; open {out / 'report.html'}")
    return PARTIAL if failures else 0


def print_table(table: "Table") -> None:
    """A table of a report on stdout, cut to a length that a terminal can take."""
    from rich import box
    from rich.table import Table as Grid

    from clippy_core.analysis.html import formatted

    cells, numeric = formatted(table)
    headings, *shown = ([*map(console.plain, row)] for row in (table.columns, *cells[:MAX_ROWS]))
    plain = [[cell.plain for cell in row] for row in (headings, *shown)]
    widths, padding = column_widths(plain, console.results().width)
    grid = Grid(
        box=box.SIMPLE_HEAD,
        padding=(0, padding),
        pad_edge=False,
        title=console.plain(table.title, "bold"),
        title_justify="left",
    )
    for heading, right, width in zip(headings, numeric, widths, strict=True):
        grid.add_column(heading, justify="right" if right else "left", overflow="fold", width=width)
    for row in shown:
        grid.add_row(*row)
    console.results().print(grid)
    if len(cells) > MAX_ROWS:
        console.results().print(f"… and {len(cells) - MAX_ROWS:,} more rows in the report", markup=False)


def column_widths(rows: Sequence[Sequence[str]], width: int) -> tuple[list[int], int]:
    """Widths for columns of text, and spaces beside each, such that words are broken only where even they do not fit.

    Args:
        rows: Text by column, the headings among it.
        width: Of the terminal.
    """
    from rich.cells import cell_len

    columns = list(zip(*rows, strict=True))
    whole = [max(map(cell_len, column)) for column in columns]
    found = [max(cell_len(word) for text in column for word in text.split() or [""]) for column in columns]
    # The table has an edge of one space, and one between columns besides their padding on both sides.
    rooms = {padding: width - 2 - (1 + 2 * padding) * (len(columns) - 1) for padding in (1, 0)}
    padding, room = next(((key, room) for key, room in rooms.items() if sum(found) <= room), (0, rooms[0]))
    while sum(found) > room and max(found) > 1:
        found[found.index(max(found))] -= 1
    while sum(found) < room and found != whole:
        lacking = [wanted - given for wanted, given in zip(whole, found, strict=True)]
        found[lacking.index(max(lacking))] += 1
    return found, padding


def can_show(*, to_messages: bool) -> bool:
    """Whether the terminal can show a picture; says so if not."""
    from clippy_cli import preview

    possible = preview.can_show(console.messages() if to_messages else console.results())
    if not possible:
        console.warn(
            "--show needs a terminal with colours; this output is none, and pictures are only written to files"
        )
    return possible


def show_picture(path: Path, *, to_messages: bool) -> None:
    """A picture of a report, made of characters."""
    from PIL import Image

    from clippy_cli.preview import HalfBlocks

    target = console.messages() if to_messages else console.results()
    with Image.open(path) as image:
        target.print(HalfBlocks(image.convert("RGB")))
