"""The report on a run as one HTML file that needs nothing else: no network, no scripts, pictures inside."""

import base64
import os
from collections.abc import Iterator, Sequence
from html import escape
from urllib.parse import quote

from clippy_core.segmentation.background import BACKGROUND
from clippy_core.segmentation.palette import label_colours
from clippy_core.segmentation.summary.contact_sheet import Block, Tile, certainty_text, jpeg, shares_text
from clippy_core.segmentation.summary.findings import Findings, LabelTotal, is_unrated
from clippy_core.version import __version__

MAX_ROWS, MAX_ABSENT = 300, 100
STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --paper: #fff; --faint: #666; --rule: #ddd; --bar: #0072b2;
  --plate: #f4f4f4; }
@media (prefers-color-scheme: dark) { :root { --ink: #eee; --paper: #161616; --faint: #aaa; --rule: #3a3a3a;
  --bar: #56b4e9; --plate: #222; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 72rem; font: 16px/1.45 system-ui, sans-serif; color: var(--ink);
  background: var(--paper); overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
p { margin: .25rem 0; } .faint, figcaption span { color: var(--faint); font-size: .875rem; }
.note { background: var(--plate); border-left: 4px solid #d55e00; padding: .5rem .75rem; margin: .75rem 0; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: .3rem .5rem .3rem 0;
  border-bottom: 1px solid var(--rule); vertical-align: top; } th { font-size: .8rem; color: var(--faint); }
td:first-child { min-width: 6.5rem; } table.labels { max-width: 48rem; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
td.n { white-space: nowrap; }
i.swatch { display: inline-block; width: .8em; height: .8em; border: 1px solid #8888; border-radius: 2px;
  margin-right: .4em; }
div.bar { height: 3px; background: var(--bar); min-width: 1px; }
div.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 9.5rem), 1fr)); gap: .75rem; }
@media (min-width: 50rem) { div.grid { grid-template-columns: repeat(4, 1fr); } }
figure { margin: 0; break-inside: avoid; } figure img, figure div.none { width: 100%; height: auto; display: block;
  border-radius: 4px; } div.none { aspect-ratio: 4/3; background: var(--plate); color: var(--faint); display: grid;
  place-items: center; } figcaption { font-size: .875rem; padding-top: .25rem; } figcaption span { display: block; }
a { color: inherit; }
@media print { :root { --ink: #000; --paper: #fff; --faint: #555; --rule: #ccc; --plate: #f4f4f4; }
  body { padding: 0; max-width: none; font-size: 11px; } div.grid { grid-template-columns: repeat(4, 1fr); }
  div.bar, i.swatch { print-color-adjust: exact; -webkit-print-color-adjust: exact; } tr { break-inside: avoid; } }
"""


def page(findings: Findings, blocks: Sequence[Block], sheet: str | None) -> bytes:
    """The page.

    Args:
        findings: What the run found.
        blocks: Pictures to show, made small.
        sheet: File name of the contact sheet, beside the page, or None.
    """
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{_count(findings.pictures, 'picture')} segmented</title>\n<style>{STYLE}</style>\n</head>\n<body>",
        *_head(findings),
        *_missing(findings, blocks),
        *_labels(findings),
        *(part for block in blocks for part in _block(block)),
        *_failures(findings),
        *_foot(findings, sheet),
        "</body>\n</html>\n",
    ]
    return "\n".join(parts).encode("utf-8", "backslashreplace")


def _head(findings: Findings) -> Iterator[str]:
    found = sum(1 for total in findings.labels.values() if total.pictures)
    known = f" of {len(findings.labels)}" if findings.described else ""
    yield f"<h1>{_count(findings.pictures, 'picture')} segmented</h1>"
    facts = [f"{found}{known} {'label' if len(findings.labels) == 1 else 'labels'} found"]
    if findings.failed:
        facts.append(f'<a href="#failures">{_count(findings.failed, "input")} failed</a>')
    if findings.model:
        facts.append(f"model {escape(findings.model)}")
    yield f'<p class="faint">{" · ".join(facts)}</p>'


def _missing(findings: Findings, blocks: Sequence[Block]) -> Iterator[str]:
    """What could not be said, and what would help."""
    if findings.pictures and not findings.described:
        yield (
            '<p class="note">No scores: <code>json</code> is not among the outputs. With it this page shows every '
            "label's score and the most and least certain pictures; shares are means over pictures.</p>"
        )
    elif findings.described < findings.pictures:
        lacking = _count(findings.pictures - findings.described, "picture")
        yield f'<p class="note">{lacking} without a JSON output that can be read; not in the table below.</p>'
    tiles = [tile for block in blocks for tile in block.tiles]
    if tiles and all(tile.entry.overlay is None for tile in tiles):
        yield '<p class="note">No pictures: <code>overlay</code> is not among the outputs.</p>'


def _labels(findings: Findings) -> Iterator[str]:
    rows = sorted(
        ((name, total) for name, total in findings.labels.items() if total.pictures), key=lambda row: -row[1].pixels
    )
    if not rows:
        return
    yield '<h2>Labels</h2>\n<table class="labels">\n<tr><th>label</th><th class="n">pictures</th>'
    yield '<th class="n">share of pixels</th><th class="n">mean score</th></tr>'
    colours = label_colours(len(findings.labels), background=_has_background(findings)).tolist()
    for name, total in rows[:MAX_ROWS]:
        yield _label_row(findings, name, total, colours[total.index] if total.index >= 0 else None)
    yield "</table>"
    if len(rows) > MAX_ROWS:
        yield f'<p class="faint">and {len(rows) - MAX_ROWS} more, each with a smaller share</p>'
    absent = [name for name, total in findings.labels.items() if not total.pictures]
    if absent:
        more = f" and {len(absent) - MAX_ABSENT} more" if len(absent) > MAX_ABSENT else ""
        yield f'<p class="faint">Found nowhere: {escape(", ".join(absent[:MAX_ABSENT]))}{more}</p>'


def _has_background(findings: Findings) -> bool:
    first = next(iter(findings.labels.items()), ("", LabelTotal()))
    return first[0] == BACKGROUND and first[1].index == 0


def _label_row(findings: Findings, name: str, total: LabelTotal, colour: list[int] | None) -> str:
    share = total.pixels / findings.pixels
    swatch = f'<i class="swatch" style="background:rgb({",".join(map(str, colour))})"></i>' if colour else ""
    rated = findings.described and not is_unrated(name, total.index, total.scores)
    score = f"{total.scores / total.pictures:.3f}" if rated else "–"
    inputs = findings.described or findings.pictures
    return (
        f'<tr><td>{swatch}{escape(name)}<div class="bar" style="width:{share:.1%}"></div></td>'
        f'<td class="n">{total.pictures:,} ({total.pictures / inputs:.0%})</td>'
        f'<td class="n">{share:.1%}</td><td class="n">{score}</td></tr>'
    )


def _block(block: Block) -> Iterator[str]:
    yield f'<h2>{escape(block.title)}</h2>\n<div class="grid">'
    yield from map(_figure, block.tiles)
    yield "</div>"


def _figure(tile: Tile) -> str:
    entry = tile.entry
    if tile.small_hw3 is None:
        picture = '<div class="none">no overlay</div>' if entry.overlay else ""
    else:
        data = base64.b64encode(jpeg(tile.small_hw3)).decode("ascii")
        height, width = tile.small_hw3.shape[:2]
        alternative = escape(f"{entry.source} with labels drawn in", quote=True)
        picture = f'<img src="data:image/jpeg;base64,{data}" width="{width}" height="{height}" alt="{alternative}">'
    if entry.overlay is not None:
        picture = f'<a href="{quote(os.fsencode(entry.overlay))}">{picture}</a>'
    lines = "".join(f"<span>{escape(text)}</span>" for text in (certainty_text(entry), shares_text(entry)) if text)
    return f"<figure>{picture}<figcaption>{_breakable(entry.source)}{lines}</figcaption></figure>"


def _failures(findings: Findings) -> Iterator[str]:
    if not findings.failed:
        return
    yield '<h2 id="failures">Failed</h2>\n<table>\n<tr><th>input</th><th>why</th></tr>'
    for source, reason in findings.failures:
        yield f"<tr><td>{_breakable(source)}</td><td>{escape(reason.removeprefix(f'{source}: '))}</td></tr>"
    yield "</table>"
    if findings.failed > len(findings.failures):
        yield f'<p class="faint">and {findings.failed - len(findings.failures):,} more, in manifest.jsonl</p>'


def _foot(findings: Findings, sheet: str | None) -> Iterator[str]:
    yield "<h2>How to read this</h2>"
    if findings.described:
        yield (
            '<p class="faint">A score is the highest cosine between a label and any place in a picture; the mean is '
            "over the pictures that have the label. A picture's certainty is the mean of its labels' scores, weighted "
            "by their shares. Certainties compare pictures of one run; they are no probabilities.</p>"
        )
    link = f' · <a href="{sheet}">contact sheet</a>' if sheet else ""
    yield f'<p class="faint">clippy {__version__} · every input is a line of manifest.jsonl{link}</p>'


def _breakable(path: str) -> str:
    """A path that may break after its slashes."""
    return escape(path).replace("/", "/<wbr>")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
