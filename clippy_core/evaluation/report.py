"""A report as text: JSON, Markdown, LaTeX and CSV, and the tables that they and the terminal show.

Figures keep the unit of the report, so published ones are shown as fractions beside it.
"""

import csv
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clippy_core.evaluation.benchmarks import Report
from clippy_core.evaluation.published import Comparison, Published

MISSING = "–"
LISTED = 4
"""So many items of a list are written out in a table; the JSON document has all of them."""
LONG_TABLE = 40
"""LaTeX tables with more rows may break across pages."""


@dataclass(frozen=True)
class Table:
    """Text in rows and columns.

    Attributes:
        title: What it shows.
        headings: One a column.
        rows: Cells, as many a row as there are headings.
        numeric: Which columns hold figures, and so are set flush right.
    """

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[bool, ...]


def details_table(report: Report) -> Table | None:
    """The report's rows, such as one a class; None without any."""
    headings = tuple(dict.fromkeys(heading for row in report.rows for heading in row))
    if not headings:
        return None
    rows = tuple(tuple(cell(row.get(heading, "")) for heading in headings) for row in report.rows)
    numeric = tuple(all(_looks_numeric(row[index]) for row in rows) for index in range(len(headings)))
    return Table(f"{report.benchmark}: in detail", headings, rows, numeric)


def metrics_table(report: Report, comparison: Comparison) -> Table:
    """Every metric, and beside it what others published of the same kind of model."""
    columns = list(dict.fromkeys(figure.method for figure in comparison.beside))
    by_place = {(figure.metric, figure.method): figure for figure in comparison.beside}
    rows = tuple(
        (name, cell(value), *(_figure(by_place.get((name, column))) for column in columns))
        for name, value in report.metrics.items()
    )
    return Table(report.benchmark, ("metric", "value", *columns), rows, (False, *[True] * (1 + len(columns))))


def context_table(comparison: Comparison) -> Table | None:
    """Published figures of other methods; None if there are none."""
    metrics = list(dict.fromkeys(figure.metric for figure in comparison.context))
    if not metrics:
        return None
    methods = list(dict.fromkeys((figure.method, figure.source) for figure in comparison.context))
    by_place = {(figure.method, figure.metric): figure for figure in comparison.context}
    rows = tuple(
        (method, *(_figure(by_place.get((method, metric))) for metric in metrics), source) for method, source in methods
    )
    headings = ("method", *metrics, "source")
    return Table("Published by others, for context", headings, rows, (False, *[True] * len(metrics), False))


def protocol_table(report: Report) -> Table:
    """Every choice that could change a figure; long lists are shortened."""
    rows = tuple((name, cell(value)) for name, value in report.protocol.items())
    return Table("Protocol", ("choice", "value"), rows, (False, False))


def limits_table(report: Report) -> Table | None:
    """Every limit of the background that was tried, whole, the chosen one marked; None if none was."""
    tried = report.protocol.get("calibration")
    if not isinstance(tried, Mapping):
        return None
    chosen = tried["limit"].partition("=")[2]
    rows = tuple(
        (limit, cell(miou), "chosen" if limit == chosen else "") for limit, miou in tried["mIoU by limit"].items()
    )
    title = f"Limits tried, on {tried['pictures']:,} other pictures"
    return Table(title, ("limit", "mIoU", ""), rows, (True, True, False))


def sources(comparison: Comparison) -> tuple[str, ...]:
    """Where the figures beside the report's own come from, and under which conditions; one line a source."""
    methods: dict[tuple[str, str], list[str]] = {}
    for figure in comparison.beside:
        methods.setdefault((figure.source, figure.condition), []).append(figure.method)
    return tuple(
        f"{' / '.join(dict.fromkeys(names))}{f' ({condition})' if condition else ''}: {source}"
        for (source, condition), names in methods.items()
    )


def cell(value: Any) -> str:
    """A value as it stands in a table: four digits, numbers of a pair beside each other, long lists shortened."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, float):
        return MISSING if math.isnan(value) else f"{value:.4g}"
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return _shorten([f"{key}: {cell(item)}" for key, item in value.items()], "; ") or "none"
    if isinstance(value, (list, tuple, set, frozenset)):
        items = [cell(item) for item in value]
        numbers = bool(items) and all(isinstance(item, (int, float)) for item in value)
        return (" / ".join(items) if numbers and len(items) <= LISTED else _shorten(items, "; ")) or "none"
    return str(value)


def document(report: Report, comparison: Comparison, **more: Any) -> dict[str, Any]:
    """Everything as plain data for JSON: no figure is NaN, which JSON does not know, but null.

    Args:
        report: What was measured.
        comparison: What others published.
        **more: Further entries, such as ``version``.
    """
    parts = {name: value for name, value in vars(report).items() if name != "images"}
    published = {"beside": comparison.beside, "context": comparison.context}
    return plain({**parts, "published": published, **more})


def plain(value: Any) -> Any:
    """A value as JSON has it: dictionaries, lists, text, numbers, true, false, null."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(plain(item) for item in value)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def to_json(report: Report, comparison: Comparison, **more: Any) -> str:
    """The whole document, indented; see :func:`document`."""
    return json.dumps(document(report, comparison, **more), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def to_markdown(report: Report, comparison: Comparison) -> str:
    """A page: metrics beside published figures, context, the protocol, details."""
    parts = [f"# {_markdown(report.benchmark)}"]
    for table in _tables(report, comparison):
        parts.append(_markdown_table(table, heading=table.title != report.benchmark))
        if table.title == report.benchmark and sources(comparison):
            parts.append("\n".join(f"- {_markdown(line)}" for line in sources(comparison)))
    return "\n\n".join(parts) + "\n"


def to_latex(report: Report, comparison: Comparison) -> str:
    """The same tables for LaTeX, to be taken into a document as they are."""
    parts = ["% needs \\usepackage{booktabs,longtable}"]
    for table in _tables(report, comparison):
        parts.append(_latex_table(table))
        if table.title == report.benchmark:
            parts += [f"% {line}" for line in sources(comparison)]
    return "\n".join(parts) + "\n"


def to_csv(report: Report) -> str:
    """The report's rows, such as one a class, with the union of their columns; the metrics if it has no rows.

    A figure that does not exist is an empty cell.
    """
    rows = report.rows or [{"metric": name, "value": value} for name, value in report.metrics.items()]
    headings = list(dict.fromkeys(heading for row in rows for heading in row))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(headings)
    for row in rows:
        values = (plain(row.get(heading)) for heading in headings)
        writer.writerow(["" if value in (None, MISSING) else value for value in values])
    return buffer.getvalue()


def _tables(report: Report, comparison: Comparison) -> list[Table]:
    tables = (
        metrics_table(report, comparison),
        context_table(comparison),
        protocol_table(report),
        limits_table(report),
        details_table(report),
    )
    return [table for table in tables if table is not None]


def _figure(figure: Published | None) -> str:
    # With all digits that were published, 0.320 as well as 0.4498.
    return "" if figure is None else f"{figure.fraction:.4f}".removesuffix("0")


def _shorten(items: Sequence[str], between: str) -> str:
    more = [f"… {len(items)} in all"] if len(items) > LISTED else []
    return between.join([*items[: LISTED - len(more)], *more])


def _looks_numeric(text: str) -> bool:
    return text in ("", MISSING) or re.fullmatch(r"[-+−]?[\d.,]+(e[-+]?\d+)?( ?%)?( / [\d.,]+)*", text) is not None


def _markdown_table(table: Table, *, heading: bool) -> str:
    lines = [f"## {_markdown(table.title)}\n"] if heading else []
    lines.append("| " + " | ".join(map(_markdown, table.headings)) + " |")
    lines.append("|" + "|".join("--:" if right else "---" for right in table.numeric) + "|")
    lines += ["| " + " | ".join(map(_markdown, row)) + " |" for row in table.rows]
    return "\n".join(lines)


def _markdown(text: str) -> str:
    """Text that Markdown shows as it is, in one line."""
    return re.sub(r"([\\`*_{}\[\]<>|~#&])", r"\\\1", " ".join(text.split()))


def _latex_table(table: Table) -> str:
    columns = "".join("r" if right else "l" for right in table.numeric)
    environment = "longtable" if len(table.rows) > LONG_TABLE else "tabular"
    title = " ".join(table.title.split())
    lines = [f"% {title}", f"\\begin{{{environment}}}{{{columns}}}", "\\toprule"]
    lines += [" & ".join(map(_latex, table.headings)) + " \\\\", "\\midrule"]
    lines += [" & ".join(map(_latex, row)) + " \\\\" for row in table.rows]
    return "\n".join([*lines, "\\bottomrule", f"\\end{{{environment}}}"])


_LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}", "–": "--", "−": "$-$", "×": r"$\times$",
    "→": r"$\rightarrow$", "…": r"\ldots{}", **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}  # fmt: skip


def _latex(text: str) -> str:
    """Text that LaTeX shows as it is."""
    # A bracket after the end of a row would be taken for that row's option.
    return "".join(_LATEX.get(sign, sign) for sign in " ".join(text.split())).replace("[", "{[}")


def write_all(folder: Path, report: Report, comparison: Comparison, **more: Any) -> tuple[Path, ...]:
    """Write ``eval.json``, ``eval.md`` and ``eval.tex``, each whole or not at all; returns where they are."""
    from clippy_core.files import write_bytes

    texts = {
        "eval.json": to_json(report, comparison, **more),
        "eval.md": to_markdown(report, comparison),
        "eval.tex": to_latex(report, comparison),
    }
    for name, text in texts.items():
        write_bytes(folder / name, text.encode("utf-8", "backslashreplace"))
    return tuple(folder / name for name in texts)
