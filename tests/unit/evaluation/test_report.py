"""A report as JSON, Markdown, LaTeX and CSV, read back by other means than it was written."""

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest

from clippy_core.evaluation.benchmarks import Report
from clippy_core.evaluation.published import Comparison, compare
from clippy_core.evaluation.report import (
    cell,
    context_table,
    details_table,
    document,
    metrics_table,
    plain,
    protocol_table,
    sources,
    to_csv,
    to_json,
    to_latex,
    to_markdown,
    write_all,
)

NASTY = 'a|b*c_d\\e & 100 % #1 {x} ~ ^ <i> "q" $ `z` [ok]'
VOC = Report(
    "voc21",
    {"mIoU": 0.4213, "JS": float("nan"), "pictures": 1449.0},
    {
        "model": "clippy-lite",
        "pool": "max",
        "size": 256,
        "templates": tuple(f"{n} {{}}" for n in range(80)),
        "rule": None,
    },
    [{"class": "cat", "IoU": "0.500", "pixels": 12}, {"class": NASTY, "IoU": "–", "objects": 3}],
)
ALONE = Comparison()


def markdown_rows(text):
    """Cells of every row of every table, as a reader of GitHub's Markdown splits them."""
    rows = []
    for line in text.splitlines():
        if line.startswith("| "):
            cells = re.split(r"(?<!\\)\|", line)[1:-1]
            rows.append([re.sub(r"\\(.)", r"\1", one.strip()) for one in cells])
    return rows


def test_json_is_strict_and_has_everything():
    found = json.loads(to_json(VOC, compare(VOC), version="1.0"), parse_constant=pytest.fail)
    assert found["metrics"] == {"mIoU": 0.4213, "JS": None, "pictures": 1449.0}
    assert len(found["protocol"]["templates"]) == 80
    assert found["rows"][1]["class"] == NASTY
    assert found["version"] == "1.0"
    assert {"method": "CLIPpy, CC-12M", "percent": 50.8}.items() <= found["published"]["beside"][0].items()


def test_the_document_leaves_rows_of_single_pictures_to_the_csv():
    report = Report("folder", {}, {}, images=[{"name": "a"}])
    assert "images" not in document(report, ALONE)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(0.5), 0.5),
        (np.arange(3), [0, 1, 2]),
        ((1, (2.0, float("inf"))), [1, [2.0, None]]),
        ({1: Path("a/b")}, {"1": "a/b"}),
        (frozenset({"b", "a"}), ["a", "b"]),
        (True, True),
        (ALONE, {"beside": [], "context": []}),
    ],
)
def test_plain_values(value, expected):
    assert plain(value) == expected
    json.dumps(plain(value), allow_nan=False)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.42134, "0.4213"),
        (1449.0, "1449"),
        (float("nan"), "–"),
        (None, "none"),
        (True, "yes"),
        ((1, 2), "1 / 2"),
        ((), "none"),
        (("a", "b"), "a; b"),
        (tuple("abcdef"), "a; b; c; … 6 in all"),
        ({"window": 224, "stride": 112}, "window: 224; stride: 112"),
        ("text", "text"),
    ],
)
def test_cells(value, shown):
    assert cell(value) == shown


def test_details_have_the_union_of_columns():
    table = details_table(VOC)
    assert table is not None
    assert table.headings == ("class", "IoU", "pixels", "objects")
    assert table.rows == (("cat", "0.500", "12", ""), (NASTY, "–", "", "3"))
    assert table.numeric == (False, True, True, True)
    assert details_table(Report("x", {}, {})) is None


def test_published_figures_stand_beside_the_metric_they_are_of():
    table = metrics_table(VOC, compare(VOC))
    assert table.headings == ("metric", "value", "CLIPpy, CC-12M", "CLIPpy, HQITP-134M")
    assert table.rows[0] == ("mIoU", "0.4213", "0.508", "0.522")
    assert table.rows[1] == ("JS", "–", "0.475", "0.546")
    assert table.rows[2] == ("pictures", "1449", "", "")
    assert [line.partition(": ")[0] for line in sources(compare(VOC))] == ["CLIPpy, CC-12M / CLIPpy, HQITP-134M"]


def test_published_figures_have_the_digits_that_were_published():
    report = Report("coco-object81", {"mIoU": 0.25}, {"model": "clippy-B-16"})
    assert metrics_table(report, compare(report)).rows == (("mIoU", "0.25", "0.285", "0.320"),)
    report = Report("imagenet", {"top-1": 0.25}, {"model": "clippy-B-16"})
    assert metrics_table(report, compare(report)).rows == (("top-1", "0.25", "0.453", "0.603", "0.4498"),)


def test_context_has_a_row_a_method():
    table = context_table(compare(VOC))
    assert table is not None
    assert table.headings == ("method", "mIoU", "source")
    assert [row[:2] for row in table.rows] == [
        ("TCL", "0.512"),
        ("SCLIP", "0.596"),
        ("NACLIP", "0.641"),
        ("ProxyCLIP-B", "0.613"),
        ("Talk2DINO", "0.658"),
    ]
    assert context_table(ALONE) is None


def test_protocol_is_whole_but_short():
    rows = dict(protocol_table(VOC).rows)
    assert rows["templates"] == "0 {}; 1 {}; 2 {}; … 80 in all"
    assert rows.keys() == VOC.protocol.keys()


def test_markdown_tables_read_back():
    rows = markdown_rows(to_markdown(VOC, compare(VOC)))
    assert ["mIoU", "0.4213", "0.508", "0.522"] in rows
    assert ["cat", "0.500", "12", ""] in rows
    assert [NASTY, "–", "", "3"] in rows
    assert ["size", "256"] in rows


def test_markdown_is_one_line_a_row():
    report = Report("x", {}, {}, [{"class": "two\nlines"}])
    assert ["two lines"] in markdown_rows(to_markdown(report, ALONE))


def test_latex_leaves_no_sign_that_it_would_take_for_a_command():
    text = to_latex(VOC, compare(VOC))
    row = next(line for line in text.splitlines() if "100" in line)
    assert row == (
        r"a\textbar{}b*c\_d\textbackslash{}e \& 100 \% \#1 \{x\} \textasciitilde{} \textasciicircum{} "
        r"\textless{}i\textgreater{} \textquotedbl{}q\textquotedbl{} \$ `z` {[}ok] & -- &  & 3 \\"
    )
    for line in text.splitlines():
        if not line.startswith(("%", "\\")):
            assert line.endswith(r" \\")
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 4


def test_a_long_table_may_break_across_pages():
    report = Report("x", {}, {}, [{"class": str(number)} for number in range(41)])
    text = to_latex(report, ALONE)
    assert r"\begin{longtable}{r}" in text
    assert r"\end{longtable}" in text


def test_csv_reads_back_with_every_column():
    rows = [{"class": 'a,"b"\nc', "IoU": 0.5}, {"class": "d", "JS": float("nan"), "pixels": 1}, {"IoU": "–"}]
    found = list(csv.DictReader(io.StringIO(to_csv(Report("x", {}, {}, rows)))))
    assert found == [
        {"class": 'a,"b"\nc', "IoU": "0.5", "JS": "", "pixels": ""},
        {"class": "d", "IoU": "", "JS": "", "pixels": "1"},
        {"class": "", "IoU": "", "JS": "", "pixels": ""},
    ]


def test_csv_of_a_report_without_rows_has_its_metrics():
    assert to_csv(Report("x", {"JS": 0.25, "mIoU": float("nan")}, {})) == "metric,value\nJS,0.25\nmIoU,\n"


def test_files_are_what_the_functions_return(tmp_path):
    files = write_all(tmp_path / "out", VOC, compare(VOC), version="1.0")
    assert [file.name for file in files] == ["eval.json", "eval.md", "eval.tex"]
    assert files[0].read_text("utf-8") == to_json(VOC, compare(VOC), version="1.0")
    assert files[1].read_text("utf-8") == to_markdown(VOC, compare(VOC))
    assert files[2].read_text("utf-8") == to_latex(VOC, compare(VOC))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["eval.json", "eval.md", "eval.tex"]
