"""The page of a report: one HTML file, written piece by piece, that looks at nothing outside itself.

Readable from a 360-pixel telephone to a wide screen, in light and dark, and on paper. It has no script, and its own
policy forbids the browser to load anything.
"""

import base64
import io
from collections.abc import Callable, Iterator, Sequence
from html import escape
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from clippy_core.version import __version__

if TYPE_CHECKING:
    from clippy_core.analysis.report import Figure, Report, Section, Table

HEAVY = 20_000
"""Bytes of a PNG from which on the page may hold a JPEG instead."""
WORTH = 0.6
"""It does if that has at most this part of the bytes."""
WIDEST = 1600
QUALITY = 85
SECTIONS_WITHOUT_INDEX = 3
STYLE = """
:root{color-scheme:light dark;--ink:#1d2329;--soft:#5b6670;--page:#fbfbf9;--card:#fff;--line:#dcdfe2;--link:#1c5f93}
@media(prefers-color-scheme:dark){:root{--ink:#e8e8e4;--soft:#a3abb3;--page:#15181b;--card:#1e2226;--line:#363c42;
--link:#7fb8e6}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue",sans-serif;overflow-wrap:anywhere}
main{max-width:1120px;margin:0 auto;padding:1.2rem 1rem 3rem}
h1{font-size:1.6rem;line-height:1.2;margin:.2rem 0 .6rem}
h2{font-size:1.2rem;line-height:1.3;margin:2.2rem 0 .5rem;border-top:1px solid var(--line);padding-top:1rem}
p{max-width:46rem;margin:.5rem 0}
a{color:var(--link)}
nav ul{columns:16rem;padding-left:1.2rem;margin:.6rem 0}
.figures{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,19rem),1fr));gap:1rem;margin:1rem 0}
.figures .wide{grid-column:1/-1}
figure{margin:0;background:var(--card);border:1px solid var(--line);border-radius:8px;padding:.5rem;
break-inside:avoid}
figure img{display:block;max-width:100%;height:auto;margin:0 auto;border-radius:4px}
figcaption{font-size:.86rem;line-height:1.4;color:var(--soft);margin-top:.4rem}
figcaption b{color:var(--ink)}
.table{overflow-x:auto;margin:1rem 0}
table{border-collapse:collapse;font-size:.9rem;min-width:12rem}
caption{text-align:left;font-weight:600;padding:.2rem 0;break-after:avoid}
th,td{padding:.25rem .7rem .25rem 0;border-bottom:1px solid var(--line);text-align:left;vertical-align:top;
overflow-wrap:normal}
th{font-weight:600;color:var(--soft);white-space:nowrap}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.note{font-size:.86rem;color:var(--soft)}
details{margin:2rem 0 0}
summary{cursor:pointer;color:var(--soft)}
footer{margin-top:2rem;font-size:.86rem;color:var(--soft)}
@media print{:root{color-scheme:light;--ink:#000;--soft:#444;--page:#fff;--card:#fff;--line:#bbb;--link:#000}
main{max-width:none;padding:0}nav{display:none}h2{break-after:avoid}tr{break-inside:avoid}
.figures{grid-template-columns:repeat(auto-fill,minmax(7.5cm,1fr))}body{font-size:10.5pt}}
"""
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def page(report: "Report", read: "Callable[[Figure], bytes]") -> Iterator[bytes]:
    """The page in pieces, UTF-8.

    Args:
        report: What it says.
        read: Gives the PNG file of a picture when its turn has come.
    """
    for text in _page(report, read):
        yield text.encode("utf-8", "xmlcharrefreplace")


def _page(report: "Report", read: "Callable[[Figure], bytes]") -> Iterator[str]:
    yield (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(report.title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f'<meta name="generator" content="clippy {escape(__version__)}">\n<link rel="icon" href="data:,">\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{escape(report.title)}</h1>\n{_paragraphs(report.lead)}"
    )
    if len(report.sections) > SECTIONS_WITHOUT_INDEX:
        links = "".join(f'<li><a href="#s{n}">{escape(part.title)}</a></li>\n' for n, part in _numbered(report))
        yield f'<nav aria-label="Contents">\n<ul>\n{links}</ul>\n</nav>\n'
    for number, section in _numbered(report):
        yield from _section(number, section, read)
    if report.settings:
        yield f"<details>\n<summary>What was asked for</summary>\n{_settings(report.settings)}</details>\n"
    yield (
        f"<footer>clippy {escape(__version__)}, <code>clippy analyze {escape(report.what)}</code>. All numbers are in "
        f"{escape(report.what)}.json.</footer>\n</main>\n</body>\n</html>\n"
    )


def _numbered(report: "Report") -> "Iterator[tuple[int, Section]]":
    yield from enumerate(report.sections, start=1)


def _section(number: int, section: "Section", read: "Callable[[Figure], bytes]") -> Iterator[str]:
    yield f'<section id="s{number}">\n<h2>{escape(section.title)}</h2>\n{_paragraphs(section.text)}'
    if section.figures:
        yield '<div class="figures">\n'
        for figure in section.figures:
            yield _figure(figure, read(figure))
        yield "</div>\n"
    for table in section.tables:
        yield _table(table)
    yield "</section>\n"


def _figure(figure: "Figure", png: bytes) -> str:
    kind, data, (width, height) = compact(png)
    caption = f" {escape(figure.caption)}" if figure.caption else ""
    # A drawing with small type in it needs the whole width; a picture among others does not.
    wide = ' class="wide"' if width > 640 else ""
    return (
        f'<figure{wide}><img alt="{escape(figure.title)}" width="{width}" height="{height}" '
        f'src="data:image/{kind};base64,{base64.b64encode(data).decode()}">'
        f"<figcaption><b>{escape(figure.title)}.</b>{caption}</figcaption></figure>\n"
    )


def compact(png: bytes) -> tuple[str, bytes, tuple[int, int]]:
    """A PNG file as a page should hold it: its kind (``png`` or ``jpeg``), its bytes, its width and height."""
    from PIL import Image

    with Image.open(io.BytesIO(png)) as image:
        size = image.size
        if len(png) <= HEAVY:
            return "png", png, size
        small = image.convert("RGB")
        if size[0] > WIDEST:
            small = small.resize((WIDEST, max(1, round(size[1] * WIDEST / size[0]))), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        small.save(buffer, format="jpeg", quality=QUALITY)
    data = buffer.getvalue()
    return ("jpeg", data, small.size) if len(data) <= WORTH * len(png) else ("png", png, size)


def _table(table: "Table") -> str:
    cells, numeric = formatted(table)
    marks = [' class="n"' if right else "" for right in numeric]
    head = "".join(
        f'<th scope="col"{mark}>{escape(name)}</th>' for name, mark in zip(table.columns, marks, strict=True)
    )
    rows = "".join(
        "<tr>" + "".join(f"<td{mark}>{escape(cell)}</td>" for cell, mark in zip(row, marks, strict=True)) + "</tr>\n"
        for row in cells
    )
    note = f'<p class="note">{escape(table.caption)}</p>\n' if table.caption else ""
    return (
        f'<div class="table" tabindex="0"><table>\n<caption>{escape(table.title)}</caption>\n<thead><tr>{head}</tr>'
        f"</thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n{note}"
    )


def formatted(table: "Table") -> tuple[list[list[str]], list[bool]]:
    """The cells as text, and which columns are numbers."""
    columns = [[row[place] for row in table.rows] for place in range(len(table.columns))]
    texts = [_format(column) for column in columns]
    return [list(row) for row in zip(*texts, strict=True)], [_is_numeric(column) for column in columns]


def _is_numeric(column: Sequence[Any]) -> bool:
    given = [value for value in column if value is not None]
    return bool(given) and all(isinstance(value, Real) and not isinstance(value, bool) for value in given)


def _format(column: Sequence[Any]) -> list[str]:
    """Values as text; numbers that are not whole get as many decimals as the largest of them needs."""
    broken = [abs(float(value)) for value in column if isinstance(value, Real) and not isinstance(value, Integral)]
    largest = max((size for size in broken if size < float("inf")), default=0.0)
    decimals = next((count for limit, count in ((1000, 0), (100, 1), (10, 2)) if largest >= limit), 3)
    return [_cell(value, decimals) for value in column]


def _cell(value: Any, decimals: int) -> str:
    if value is None or (isinstance(value, Real) and value != value):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Integral):
        return f"{int(value):,}"
    return f"{float(value):z,.{decimals}f}" if isinstance(value, Real) else str(value)


def _settings(settings: dict[str, Any]) -> str:
    from clippy_core.analysis.report import Table, to_plain

    def shown(value: Any) -> str:
        return ", ".join(map(str, value)) if isinstance(value, list) else "–" if value is None else str(value)

    rows = tuple((name, shown(to_plain(value))) for name, value in settings.items())
    return _table(Table("Settings", ("setting", "value"), rows))


def _paragraphs(text: str) -> str:
    # A number stays with its unit.
    parts = [" ".join(part.split()).replace(" %", "\u00a0%") for part in text.split("\n\n")]
    return "".join(f"<p>{escape(part)}</p>\n" for part in parts if part)
