"""``clippy eval``: measure a model on a benchmark."""

import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from clippy_cli import console, options
from clippy_cli.settings import Flag, with_flags

if TYPE_CHECKING:
    from clippy_core.evaluation.benchmarks import Benchmark, Report
    from clippy_core.evaluation.options import BenchmarkOptions
    from clippy_core.segmentation.segmenter import Segmenter

GOES_ON = "the same command again goes on where this one stopped"
PARTIAL = 3
"""Exit code of a run that reached its end without some of its pictures."""
TERMINATED = 128 + signal.SIGTERM
GRACE = 3.0
"""Seconds that the processes behind the first wait before they say what went wrong."""
MOST_NAMED = 12
"""So many files are named."""
PROTOCOL, MEASURED, OUTPUTS = "Protocol", "What is measured", "Outputs"
NAMED = "paper, kahnchana, kahnchana-aligned, sclip; to classify paper, kahnchana, openai, whole."
FLAGS = (
    Flag(
        "--protocol", "choose.protocol", str, PROTOCOL, f"Choices by name: {NAMED} Other options go before.", "NAME",
        "paper",
    ),
    Flag("--classes", "choose.classes", int, PROTOCOL, "Classes, where a data set has several sets.", "N", "the usual"),
    Flag("--split", "choose.split", str, PROTOCOL, "Part of the data set.", "NAME", "the protocol's"),
    Flag("--templates", "choose.templates", str, PROTOCOL, "A named set of prompts.", "openai|paper", "the protocol's"),
    Flag("--synonyms", "choose.synonyms", bool, PROTOCOL, "Ask for the data set's synonyms too.", "", "the protocol's"),
    Flag(
        "--background", "choose.background", str, PROTOCOL,
        "What the background is: none, threshold=T (cosine), margin=T, softmax=P, or words: wall|floor.", "RULE",
        "the protocol's",
    ),
    Flag(
        "--metric", "choose.metric", str, MEASURED, "mIoU of labels, JS of groups, or both.",
        "top-down|bottom-up|both", "top-down",
    ),
    Flag("--grouping", "choose.grouping", str, MEASURED, "How groups are made.", "pca|kmeans|spectral", "pca"),
    Flag("--groups", "choose.groups", int, MEASURED, "How many groups a picture.", "N", "8"),
    Flag(
        "--calibrate", "choose.calibrate", str, MEASURED,
        "Choose the background's limit on pictures that are then not reported: threshold=0.1,0.2,0.3, or "
        "margin=FROM:TO:STEP, or softmax=…; @SHARE after it says how many of the pictures.", "KIND=LIMITS", "off",
    ),
    Flag("--worst", "choose.worst", int, OUTPUTS, "Draw the N pictures with the lowest mIoU.", "N", "0"),
    Flag("--cache", "choose.cache", Path, OUTPUTS, "Keep features here for the next metric.", "DIR", "off"),
    Flag(
        "--format", "choose.format", str, OUTPUTS, "What is printed on stdout.", "table|markdown|latex|csv|json",
        "table",
    ),
)  # fmt: skip


@with_flags(FLAGS, {})
def evaluate(
    given: dict[str, dict[str, Any]],
    context: typer.Context,
    benchmark: Annotated[str, typer.Argument(metavar="BENCHMARK", help="A benchmark that `clippy plugins` lists.")],
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="The data set's folder; not for `shapes`, which has none."),
    ] = None,
    model: options.Model = "clippy-lite",
    checkpoint: options.Checkpoint = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    gpus: Annotated[
        int | None, typer.Option("--gpus", metavar="N", help="Measure in N processes, each on a GPU of its own.")
    ] = None,
    procs: Annotated[
        int | None, typer.Option("--procs", metavar="N", help="Measure in N processes on the CPU.")
    ] = None,
    template: options.Template = None,
    size: options.Size = None,
    window: options.Window = None,
    stride: options.Stride = None,
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", help="Use only N pictures.")] = None,
    out: options.Out = Path("clippy-out"),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Begin again instead of going on with a run that was interrupted.")
    ] = False,
    plots: Annotated[
        bool, typer.Option("--plots", help="Draw figures by class and the confusion matrix; needs matplotlib.")
    ] = False,
    json: options.Json = False,
) -> int:
    """Measure a model on a benchmark.

    Prints a table, with published figures beside it where there are any, and writes eval.json with every choice that
    was made. The same command again goes on with a run that was interrupted.
    """
    from clippy_cli import measuring
    from clippy_core.launch import is_one_of_several

    switches = {name: True for name, on in (("plots", plots), ("overwrite", overwrite)) if on}
    typed: dict[str, Any] = given.get("choose", {}) | switches
    shown = measuring.output_format(typed.pop("format", None), json=json)
    run, data = measuring.find(benchmark, data)
    picture = (size, template, window, stride)
    chosen = measuring.read_options(benchmark, typed, limit=limit, out=out, picture=picture)
    count, device = measuring.processes(benchmark, gpus, procs, device)
    if count > 1 and not is_one_of_several():
        return _launch(context, count, goes_on=measuring.resumes(benchmark))
    try:
        report = _measure(run, data, chosen, Weights(model, checkpoint, device, precision))
    except KeyboardInterrupt:
        if is_one_of_several():
            raise SystemExit(128 + signal.SIGINT) from None  # the process that started all of them says it
        raise _interrupted(goes_on=measuring.resumes(benchmark)) from None
    except SystemExit as ended:
        if ended.code == TERMINATED and not is_one_of_several():
            _say_terminated(goes_on=measuring.resumes(benchmark))
        raise
    if report is None:
        return 0
    _publish(report, shown, chosen, checkpoint, protocol="protocol" in typed, plots=plots)
    left_out = int(report.metrics.get("pictures left out", 0))
    if left_out:
        console.warn(f"pictures that could not be used and are not counted: {left_out:,}; images.csv names them")
    return PARTIAL if left_out else 0


class Weights(NamedTuple):
    """Which model computes, and where."""

    model: str
    checkpoint: Path | None
    device: str
    precision: str


def _launch(context: typer.Context, count: int, *, goes_on: bool) -> int:
    """Measure in several processes, each of which runs this command again; returns the exit code."""
    from clippy_cli.processes import retype
    from clippy_core.launch import launch

    code = launch(retype(context), processes=count, hint=GOES_ON if goes_on else "start it again")
    if code == 128 + signal.SIGINT:
        raise _interrupted(goes_on=goes_on)
    if code == TERMINATED:
        _say_terminated(goes_on=goes_on)
    return code


def _interrupted(*, goes_on: bool) -> typer.Abort:
    return typer.Abort(GOES_ON) if goes_on else typer.Abort()


def _say_terminated(*, goes_on: bool) -> None:
    console.fail("; ".join(["ended by SIGTERM", *([GOES_ON] if goes_on else [])]))


def _measure(run: "Benchmark", data: Path | None, chosen: "BenchmarkOptions", weights: Weights) -> "Report | None":
    """The report; None in those of several processes that do not speak."""
    from clippy_cli.processes import unwinding_on_sigterm
    from clippy_cli.scores import Measuring
    from clippy_core.errors import ClippyError
    from clippy_core.evaluation.several import join, own_device
    from clippy_core.launch import is_leader

    if not is_leader():
        console.Settings.verbosity = console.QUIET
    try:
        with unwinding_on_sigterm(), join() as share, Measuring() as progress:
            segmenter = _load(weights._replace(device=own_device(weights.device)))
            report = run(segmenter, data, replace(chosen, sink=progress, share=share))  # type: ignore[arg-type]
    except ClippyError:
        if not is_leader():
            # What is wrong for all is said by the first, whose end ends this one; what is wrong here is said then.
            time.sleep(GRACE)
        raise
    return report if is_leader() else None


def _load(weights: Weights) -> "Segmenter":
    from clippy_core.launch import is_leader
    from clippy_core.segmentation.segmenter import load

    segmenter = load(
        weights.model,
        checkpoint=weights.checkpoint,
        device=weights.device,
        precision=weights.precision,
        runtime="torch",
    )
    if segmenter.placement.notice and is_leader():
        console.warn(segmenter.placement.notice)
    return segmenter


def _publish(
    report: "Report",
    shown: str,
    chosen: "BenchmarkOptions",
    checkpoint: Path | None,
    *,
    protocol: bool,
    plots: bool,
) -> None:
    """Write the files and print what was asked for."""
    from clippy_cli.scores import print_scores
    from clippy_core.evaluation import report as reports
    from clippy_core.evaluation.published import compare
    from clippy_core.version import __version__

    comparison, out = compare(report), chosen.out
    assert out is not None, "the command always has one"
    more = {"checkpoint": checkpoint and str(checkpoint), "version": __version__}
    files = [*reports.write_all(out, report, comparison, **more)]
    if plots:
        from clippy_core.evaluation.plots import write_plots

        files += write_plots(out, report, console.notice)
    if shown == "json":
        console.print_json(reports.document(report, comparison, **more))
    elif shown == "table":
        print_scores(report, comparison, protocol=protocol)
    else:
        texts = {
            "markdown": reports.to_markdown,
            "latex": reports.to_latex,
            "csv": lambda report, _: reports.to_csv(report),
        }
        console.results().out(texts[shown](report, comparison), highlight=False, end="")
    for note in report.protocol.get("notes") or ():
        console.warn(f"{report.benchmark}: {note}")
    if report.timing:
        console.notice("pictures: {pictures:.0f} in {seconds:.1f} s, {images/s:.3g} images/s".format(**report.timing))
    files += [out / "images.csv"] if report.images else []
    files += sorted((out / "worst").glob("*.png")) if chosen.worst else []
    console.notice(f"wrote {', '.join(map(str, files[:MOST_NAMED]))}")
    if len(files) > MOST_NAMED:
        console.notice(f"and {len(files) - MOST_NAMED:,} more pictures in {out / 'worst'}")
