"""``clippy eval``: measure a model on a benchmark."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clippy_cli import console, options, usable

if TYPE_CHECKING:
    from clippy_core.evaluation.benchmarks import Report


def evaluate(
    benchmark: Annotated[str, typer.Argument(metavar="BENCHMARK", help="A benchmark that `clippy plugins` lists.")],
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="The data set's folder; not for `shapes`, which has none."),
    ] = None,
    model: options.Model = "clippy-lite",
    checkpoint: options.Checkpoint = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    template: options.Template = None,
    size: options.Size = None,
    window: options.Window = None,
    stride: options.Stride = None,
    background: options.Background = "none",
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", help="Use only the first N pictures.")] = None,
    out: options.Out = Path("clippy-out"),
    json: options.Json = False,
) -> None:
    """Measure a model on a benchmark; prints a table and writes eval.json with every choice that was made."""
    from clippy_core.errors import UsageError
    from clippy_core.evaluation.benchmarks import BENCHMARKS, BenchmarkOptions, check_data
    from clippy_core.files import write_json
    from clippy_core.version import __version__

    if limit is not None and limit < 1:
        raise UsageError(f"--limit is {limit}; accepted: 1 or more")
    run = usable.load(BENCHMARKS, benchmark)
    data = check_data(benchmark, run, data)
    chosen = BenchmarkOptions(options.segment_options(size, template, background, window, stride), limit)
    from clippy_core.segmentation.segmenter import load

    segmenter = load(model, checkpoint=checkpoint, device=device, precision=precision)
    if segmenter.placement.notice:
        console.warn(segmenter.placement.notice)
    report = run(segmenter, data, chosen)
    document = {**asdict(report), "checkpoint": checkpoint and str(checkpoint), "version": __version__}
    write_json(out / "eval.json", document)
    if json:
        console.print_json(document)
    else:
        _print(report)
    console.notice(f"wrote {out / 'eval.json'}")


def _print(report: "Report") -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    if report.rows:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for heading in report.rows[0]:
            table.add_column(Text(heading))
        for row in report.rows:
            table.add_row(*(Text(_shown(row.get(heading, ""))) for heading in report.rows[0]))
        console.results().print(table)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("metric")
    table.add_column("value", justify="right")
    for name, value in report.metrics.items():
        table.add_row(Text(name), f"{value:.4g}")
    console.results().print(table)


def _shown(value: Any) -> str:
    """A cell; several numbers, such as how many of how many, stand beside each other."""
    return " / ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
