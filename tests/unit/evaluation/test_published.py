"""Published figures stand beside the reports they can be compared with, and beside no others."""

import re
from pathlib import Path

import pytest

from clippy_core.evaluation.benchmarks import BENCHMARKS, Report
from clippy_core.evaluation.published import FIGURES, OTHERS, compare


def beside(benchmark, metrics, **protocol):
    """(metric, percent) of what stands beside such a report."""
    report = Report(benchmark, dict.fromkeys(metrics, 0.5), {"model": "clippy-lite", "pool": "max", **protocol})
    return [(figure.metric, figure.percent) for figure in compare(report).beside]


def context(benchmark, metrics=("mIoU",), **protocol):
    report = Report(benchmark, dict.fromkeys(metrics, 0.5), protocol)
    return {figure.method: figure.percent for figure in compare(report).context}


@pytest.mark.parametrize(
    ("benchmark", "metrics", "expected"),
    [
        ("voc21", ("mIoU",), [("mIoU", 50.8), ("mIoU", 52.2)]),
        ("voc21", ("JS",), [("JS", 47.5), ("JS", 54.6)]),
        ("voc20", ("mIoU", "JS"), []),
        ("ade20k150", ("mIoU",), [("mIoU", 13.1), ("mIoU", 13.5)]),
        ("coco-panoptic133", ("JS",), [("JS", 26.0), ("JS", 27.2)]),
        ("coco-object81", ("mIoU", "JS"), [("mIoU", 28.5), ("mIoU", 32.0)]),
        ("imagenet", ("top-1", "top-5"), [("top-1", 45.3), ("top-1", 60.3)]),
        ("imagenet-v2", ("top-1",), [("top-1", 40.0), ("top-1", 54.8)]),
        ("waterbirds", ("waterbird on land",), [("waterbird on land", 74.9)]),
        ("shapes", ("mIoU", "JS"), []),
        ("folder", ("mIoU",), []),
    ],
)
def test_figures_of_the_paper(benchmark, metrics, expected):
    assert beside(benchmark, metrics) == expected


def test_the_number_of_classes_may_stand_in_the_protocol():
    assert beside("voc", ("mIoU",), classes=21) == beside("voc21", ("mIoU",))
    assert beside("voc", ("mIoU",), classes=["cat"] * 20) == []


def test_the_public_checkpoint_has_its_own_figures():
    assert ("top-1", 44.98) in beside("imagenet", ("top-1",), model="clippy-B-16")
    assert ("mIoU", 42.1) in beside("voc21", ("mIoU",), model="clippy-B-16")
    assert ("mIoU", 42.1) not in beside("voc21", ("mIoU",), model="clippy-B-16-paper")


def test_the_ablation_stands_beside_models_that_pool_so():
    assert ("mIoU", 11.6) in beside("voc21", ("mIoU",), pool="mean")
    assert ("mIoU", 4.0) in beside("voc21", ("mIoU",), pool="cls")
    assert ("top-1", 42.3) not in beside("imagenet", ("top-1",), pool="max")


def test_records_of_other_methods_by_data_set():
    assert context("context60") == {"TCL": 24.3, "SCLIP": 31.7, "NACLIP": 35.0, "ProxyCLIP-B": 35.3}
    assert context("context59") == {}
    assert context("cityscapes19")["dino.txt-L"] == 36.9
    assert context("cityscapes27") == {}
    assert context("coco-stuff171")["Talk2DINO"] == 30.2
    assert context("waterbirds", ("waterbird on water", "waterbird on land")) == {"CLIP, the same data": 48.1}


def test_every_figure_is_of_a_benchmark_that_exists():
    assert {figure.benchmark for figure in FIGURES} <= set(BENCHMARKS.names())


def test_every_figure_is_in_the_documentation():
    page = (Path(__file__).parents[3] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    _, published = page.split("## Published figures")
    found = set(re.findall(r"\d+\.\d+", published))
    assert {f"{figure.percent:.2f}".removesuffix("0") for figure in FIGURES} - found == set()


def test_no_figure_is_there_twice():
    keys = [(figure.benchmark, figure.classes, figure.metric, figure.method) for figure in FIGURES]
    assert len(set(keys)) == len(keys)
    assert all(0 < figure.percent < 100 and figure.source for figure in FIGURES)
    assert sum(figure.family == OTHERS for figure in FIGURES) == 4 * 6 + 3 + 2 + 2
