"""From what was typed after ``clippy eval`` to how a benchmark measures, checked before anything heavy is imported."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from clippy_cli import options, usable
from clippy_core.registry import OWN_DISTRIBUTION

if TYPE_CHECKING:
    from clippy_core.evaluation.benchmarks import Benchmark
    from clippy_core.evaluation.options import BenchmarkOptions, Calibration

FORMATS = ("table", "markdown", "latex", "csv", "json")
TEMPLATES = ("openai", "paper")
LIMITS = 1000
"""More limits than that to try are taken for a slip."""

PICTURES, CLASSES = {"templates", "background"}, {"protocol", "split", "templates", "plots", "cache", "overwrite"}
MEANT = {
    "points": PICTURES,
    "shapes": PICTURES | {"plots"},
    **dict.fromkeys(("imagenet", "imagenet-v2", "waterbirds", "image-folder"), CLASSES),
}
"""Options that mean something to a benchmark of ours; to those that are not listed, all of them do."""
ALONE = ("points",)
"""Benchmarks that do not share their work."""


def find(name: str, data: Path | None) -> "tuple[Benchmark, Path | None]":
    """The benchmark and its folder.

    Raises:
        UsageError: An unknown benchmark, or a folder that is missing or not wanted.
        DataError: There is no such folder.
        PluginError: The benchmark cannot be imported.
    """
    from clippy_core.evaluation.benchmarks import BENCHMARKS, check_data

    run = usable.load(BENCHMARKS, name)
    return run, check_data(name, run, data)


def output_format(wanted: str | None, *, json: bool) -> str:
    """What is printed on stdout.

    Raises:
        UsageError: An unknown format, or ``--json`` with another one.
    """
    from clippy_core.errors import UsageError

    if wanted is not None and wanted not in FORMATS:
        raise UsageError(f"--format is {wanted!r}; accepted: {', '.join(FORMATS)}")
    if json and wanted not in (None, "json"):
        raise UsageError(f"--json and --format {wanted} exclude each other: stdout carries one document")
    return "json" if json else wanted or "table"


def read_options(
    benchmark: str,
    typed: dict[str, Any],
    *,
    limit: int | None,
    out: Path,
    picture: tuple[int | None, list[str] | None, int | None, int | None],
) -> "BenchmarkOptions":
    """How to measure.

    Args:
        benchmark: Its name.
        typed: Values of the options that were typed, by name.
        limit: How many pictures.
        out: Folder for what is written.
        picture: ``--size``, ``--template``, ``--window`` and ``--stride``.

    Raises:
        UsageError: A value that is not accepted, options that exclude each other, or one that means nothing to this
            benchmark.
    """
    from clippy_core.evaluation.options import BenchmarkOptions, GroupingOptions

    _refuse_what_means_nothing(benchmark, typed)
    size, template, window, stride = picture
    prompts = _prompts(typed.get("templates"), template)
    background = typed.get("background", "none")
    grouping = {"method": typed.get("grouping"), "groups": typed.get("groups")}
    chosen = BenchmarkOptions(
        options.segment_options(size, prompts, background, window, stride),
        limit,
        classes=_at_least(typed, "classes", 1),
        split=typed.get("split"),
        protocol=typed.get("protocol"),
        overrides=_overrides(benchmark, typed),
        metric=typed.get("metric", "top-down"),
        grouping=GroupingOptions(**{name: value for name, value in grouping.items() if value is not None}),
        out=out,
        cache=_cache_folder(typed.get("cache")),
        worst=_at_least(typed, "worst", 0) or 0,
        calibrate=read_calibration(typed["calibrate"]) if "calibrate" in typed else None,
        overwrite=typed.get("overwrite", False),
    )
    _check_fit(benchmark, typed, chosen)
    return chosen


def read_calibration(text: str) -> "Calibration":
    """Limits to try from ``KIND=V,V,…`` or ``KIND=FROM:TO:STEP``, ``@SHARE`` of the pictures after it.

    Raises:
        UsageError: Text that is neither, or numbers that are not accepted.
    """
    from clippy_core.errors import UsageError
    from clippy_core.evaluation.options import Calibration

    kind, separator, rest = text.partition("=")
    values, at, share = rest.partition("@")
    accepted = (
        "accepted: KIND=V,V,… or KIND=FROM:TO:STEP, with @SHARE after it or not, such as threshold=0.1:0.3:0.05@0.2"
    )
    try:
        if not separator:
            raise ValueError("no =")
        numbers = _range(values) if ":" in values else tuple(float(value) for value in values.split(","))
        part = {"share": float(share)} if at else {}
    except ValueError as error:
        raise UsageError(f"--calibrate is {text!r}; {accepted}") from error
    return Calibration(numbers, kind=kind.strip(), **part)


def _range(text: str) -> tuple[float, ...]:
    """``FROM:TO:STEP`` with both ends, rounded so that 0.1 + 0.2 is 0.3."""
    first, last, step = (float(value) for value in text.split(":"))
    if not step > 0 or not 0 <= (last - first) / step < LIMITS:
        raise ValueError(f"{text}: no ascending range of at most {LIMITS} numbers")
    return tuple(round(first + index * step, 10) for index in range(int((last - first) / step + 1e-9) + 1))


def processes(benchmark: str, gpus: int | None, procs: int | None, device: str) -> tuple[int, str]:
    """How many processes, and where they compute.

    Raises:
        UsageError: Numbers that are not accepted, options that exclude each other, or a benchmark that one process
            measures.
        DeviceError: There are fewer GPUs.
    """
    from clippy_cli.processes import require_gpus
    from clippy_core.errors import UsageError

    if gpus is None and procs is None:
        return 1, device
    if gpus is not None and procs is not None:
        raise UsageError("--gpus and --procs exclude each other: a process measures on a GPU or on the CPU")
    name, count = ("--gpus", gpus) if gpus is not None else ("--procs", procs)
    if count is None or count < 1:
        raise UsageError(f"{name} is {count}; accepted: 1 or more")
    kind = "cuda" if gpus is not None else "cpu"
    if device not in ("auto", kind):
        raise UsageError(f"{name} {count} computes on {kind}; leave --device {device} out")
    if benchmark in ALONE and count > 1:
        raise UsageError(f"{name} {count}: benchmark {benchmark!r} is measured by one process")
    if gpus is not None:
        require_gpus(count, "--device cpu measures on the CPU, --procs N in N processes on it")
    return count, kind


def is_dense(benchmark: str) -> bool:
    """Whether a benchmark of ours gives every pixel a class."""
    from clippy_core.evaluation.benchmarks import BENCHMARKS

    return benchmark not in MEANT and BENCHMARKS.entry(benchmark).source == OWN_DISTRIBUTION


def resumes(benchmark: str) -> bool:
    """Whether a benchmark is known to go on after it was interrupted."""
    return is_dense(benchmark) or MEANT.get(benchmark) is CLASSES


def _refuse_what_means_nothing(benchmark: str, typed: dict[str, Any]) -> None:
    from clippy_core.errors import UsageError

    useless = sorted(typed.keys() - MEANT.get(benchmark, typed.keys()))
    if useless:
        names = ", ".join(f"--{name}" for name in useless)
        raise UsageError(f"{names}: means nothing to benchmark {benchmark!r}; see clippy eval --help")


def _check_fit(benchmark: str, typed: dict[str, Any], chosen: "BenchmarkOptions") -> None:
    """What does not fit together, and names of protocols and their fields."""
    from clippy_core.errors import UsageError

    if chosen.metric == "top-down" and typed.keys() & {"grouping", "groups"}:
        raise UsageError("--grouping and --groups need --metric bottom-up or both")
    if chosen.calibrate is not None and "background" in typed:
        raise UsageError("--calibrate chooses the limit that --background sets; leave one of them out")
    if "plots" in typed:
        from clippy_core.evaluation.plots import require_matplotlib

        if chosen.metric == "bottom-up":
            raise UsageError("--plots draws figures by class, which --metric bottom-up does not have")
        require_matplotlib()
    if is_dense(benchmark):
        from clippy_core.evaluation.protocols import resolve

        resolve(chosen)


def _prompts(named: str | None, template: list[str] | None) -> list[str] | None:
    from clippy_core.errors import UsageError
    from clippy_core.evaluation.vocabulary.templates import OPENAI_80, PAPER

    if named is None:
        return template
    if template:
        raise UsageError("--templates names a set of prompts and --template gives one; leave one of them out")
    if named not in TEMPLATES:
        raise UsageError(f"--templates is {named!r}; accepted: {', '.join(TEMPLATES)}, or prompts by --template")
    return list(OPENAI_80 if named == "openai" else PAPER)


def _overrides(benchmark: str, typed: dict[str, Any]) -> dict[str, Any]:
    """Fields of the protocol that options for a single picture cannot say."""
    overrides = {"synonyms": typed["synonyms"]} if "synonyms" in typed else {}
    if is_dense(benchmark) and typed.get("background", "").strip().casefold() == "none":
        # For a picture, no rule is the default; here it has to go before the rule of the protocol.
        overrides |= {"background": "none", "limit": "none"}
    return overrides


def _cache_folder(folder: Path | None) -> Path | None:
    from clippy_core.errors import UsageError

    if folder is not None and folder.exists() and not folder.is_dir():
        raise UsageError(f"--cache {folder}: is a file; accepted: a folder, which is made if it is missing")
    return folder


def _at_least(typed: dict[str, Any], name: str, least: int) -> int | None:
    from clippy_core.errors import UsageError

    value = typed.get(name)
    if value is not None and value < least:
        raise UsageError(f"--{name} is {value}; accepted: {least} or more")
    return value
