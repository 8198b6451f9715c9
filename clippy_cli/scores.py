"""What ``clippy eval`` shows: its progress, and its tables in the terminal."""

from typing import TYPE_CHECKING

from clippy_cli import console
from clippy_cli.progress import BatchProgress
from clippy_core import events

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

    from clippy_core.evaluation.benchmarks import Report
    from clippy_core.evaluation.published import Comparison
    from clippy_core.evaluation.report import Table

MAX_ROWS = 200
"""Longer tables are cut in the terminal; the files have them whole."""


class Measuring(BatchProgress):
    """A sink for benchmarks: pictures done, pictures a second, time left; names every picture with ``--verbose``."""

    def _columns(self) -> "tuple[ProgressColumn, ...]":
        from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn, TimeRemainingColumn
        from rich.text import Text

        class Speed(ProgressColumn):
            def render(self, task: "object") -> Text:
                speed = getattr(task, "finished_speed", None) or getattr(task, "speed", None)
                return Text("" if speed is None else f"{speed:.3g} images/s")

        return TextColumn("measuring"), BarColumn(), MofNCompleteColumn(), Speed(), TimeRemainingColumn()

    def __call__(self, event: events.Event) -> None:
        """Hear of an event."""
        if isinstance(event, events.Noticed):
            with self.aside():
                console.warn(event.text) if event.serious else console.notice(event.text)
        super().__call__(event)


def print_scores(report: "Report", comparison: "Comparison", *, protocol: bool) -> None:
    """Print the tables, the metrics last, where the eye rests.

    Args:
        report: What was measured.
        comparison: What others published.
        protocol: Whether to print every choice that was made too.
    """
    from clippy_core.evaluation import report as reports

    details = reports.details_table(report)
    if details is not None:
        _print(details)
    if protocol:
        _print(reports.protocol_table(report))
    context = reports.context_table(comparison)
    if context is not None:
        _print(context, titled=True)
    _print(reports.metrics_table(report, comparison))
    for line in reports.sources(comparison):
        console.results().print(console.plain(line, "dim"))


def _print(table: "Table", *, titled: bool = False) -> None:
    from rich import box
    from rich.table import Table as Grid

    grid = Grid(
        box=box.SIMPLE_HEAD, pad_edge=False, title=console.plain(table.title) if titled else None, title_justify="left"
    )
    for heading, numeric in zip(table.headings, table.numeric, strict=True):
        grid.add_column(console.plain(heading), justify="right" if numeric else "left", overflow="fold")
    for row in table.rows[:MAX_ROWS]:
        grid.add_row(*map(console.plain, row))
    console.results().print(grid)
    if len(table.rows) > MAX_ROWS:
        console.results().print(f"… and {len(table.rows) - MAX_ROWS:,} more rows in eval.md", markup=False)
