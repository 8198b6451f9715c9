"""Figures that others have published, to stand beside one's own.

They hold for the models and protocols of their papers. A figure is offered only where benchmark, number of classes and
metric are the same; whether the protocol is, the reader has to judge by the sources and by the report's own choices.
"""

import re
from dataclasses import dataclass

from clippy_core.evaluation.benchmarks import Report

PAPER = "Perceptual Grouping in Contrastive Vision-Language Models, arXiv 2210.09996"
CODE = "github.com/kahnchana/clippy, release v1.0"
PAPERS_MODEL, PUBLIC_CHECKPOINT, OTHERS = "clippy", "clippy-B-16", "others"
MODEL_OF_THE_PUBLIC_CHECKPOINT = "clippy-B-16"


@dataclass(frozen=True)
class Published:
    """One figure.

    Attributes:
        benchmark: Name of the benchmark.
        metric: Name of the metric in that benchmark's report.
        percent: The figure as it was published, in per cent.
        method: Whose it is: a method, with its training data where the paper has several.
        source: Where it was published.
        family: :data:`PAPERS_MODEL`, :data:`PUBLIC_CHECKPOINT` (which only stands beside that very checkpoint) or
            :data:`OTHERS`.
        classes: Number of classes it was measured with; None where the benchmark has one number only.
        pool: Pooling of the model, for the paper's ablation; None for its main models.
        condition: What else it was measured under, such as a size.
    """

    benchmark: str
    metric: str
    percent: float
    method: str
    source: str
    family: str = PAPERS_MODEL
    classes: int | None = None
    pool: str | None = None
    condition: str = ""

    @property
    def fraction(self) -> float:
        """The figure as reports have it, 0…1."""
        return round(self.percent / 100, 6)


@dataclass(frozen=True)
class Comparison:
    """What stands beside a report.

    Attributes:
        beside: Figures of the same kind of model, a column each in the table of metrics.
        context: Figures of other methods.
    """

    beside: tuple[Published, ...] = ()
    context: tuple[Published, ...] = ()


# Benchmark, classes, metric; figures with CC-12M and with HQITP-134M, None where there is none.
_MAIN = (
    ("imagenet", None, "top-1", 45.3, 60.3),
    ("imagenet-v2", None, "top-1", 40.0, 54.8),
    ("voc", 21, "mIoU", 50.8, 52.2),
    ("voc", 21, "JS", 47.5, 54.6),
    ("ade20k", None, "mIoU", 13.1, 13.5),
    ("ade20k", None, "JS", 28.9, 29.5),
    ("coco-panoptic", None, "mIoU", 23.8, 25.5),
    ("coco-panoptic", None, "JS", 26.0, 27.2),
    ("coco-object", None, "mIoU", 28.5, 32.0),
)
# Pooling, then ImageNet top-1, VOC mIoU and VOC JS, all with CC-12M.
_POOLING = (("max", 42.3, 50.8, 47.5), ("mean", 44.0, 11.6, 38.1), ("cls", 46.0, 4.0, 40.4))
_RECORDED = (
    ("voc", 21), ("context", 60), ("coco-object", None), ("coco-stuff", None), ("ade20k", None), ("cityscapes", 19),
)  # fmt: skip
# Method, paper, mIoU in the order of the benchmarks above.
_RECORDS = (
    ("TCL", "arXiv 2212.00785", (51.2, 24.3, 30.4, 19.6, 14.9, 23.5)),
    ("SCLIP", "arXiv 2312.01597", (59.6, 31.7, 33.5, 22.8, 16.5, 32.3)),
    ("NACLIP", "arXiv 2404.08181", (64.1, 35.0, 36.2, 25.7, 19.1, 38.3)),
    ("ProxyCLIP-B", "arXiv 2408.04883", (61.3, 35.3, 37.5, 26.5, 20.2, 38.1)),
    ("Talk2DINO", "arXiv 2411.19331", (65.8, None, None, 30.2, None, 38.1)),
    ("dino.txt-L", "arXiv 2412.16334", (None, None, None, None, 24.7, 36.9)),
)


def _from_the_paper() -> tuple[Published, ...]:
    columns = ("CLIPpy, CC-12M", "CLIPpy, HQITP-134M")
    main = [
        Published(benchmark, metric, percent, method, PAPER, classes=classes)
        for benchmark, classes, metric, *figures in _MAIN
        for method, percent in zip(columns, figures, strict=True)
    ]
    birds = [
        Published("waterbirds", f"waterbird on {place}", percent, method, PAPER, family, condition="448 pixels")
        for method, family, figures in (
            ("CLIPpy, HQITP-134M", PAPERS_MODEL, (76.9, 74.9)),
            ("CLIP, the same data", OTHERS, (80.2, 48.1)),
        )
        for place, percent in zip(("water", "land"), figures, strict=True)
    ]
    pooling = [
        Published(benchmark, metric, percent, f"CLIPpy, CC-12M, pooling ablation: {pool}", PAPER, classes=n, pool=pool)
        for pool, *figures in _POOLING
        for (benchmark, n, metric), percent in zip(
            (("imagenet", None, "top-1"), ("voc", 21, "mIoU"), ("voc", 21, "JS")), figures, strict=True
        )
    ]
    return (*main, *birds, *pooling)


def _of_the_public_checkpoint() -> tuple[Published, ...]:
    method = "the public checkpoint"
    return (
        Published("imagenet", "top-1", 44.98, method, CODE, PUBLIC_CHECKPOINT),
        Published(
            "voc", "mIoU", 42.1, method, CODE, PUBLIC_CHECKPOINT, 21,
            condition="train split, protocol kahnchana: masks squashed where pictures are cropped",
        ),
    )  # fmt: skip


def _records() -> tuple[Published, ...]:
    return tuple(
        Published(benchmark, "mIoU", percent, method, source, OTHERS, classes)
        for method, source, figures in _RECORDS
        for (benchmark, classes), percent in zip(_RECORDED, figures, strict=True)
        if percent is not None
    )


FIGURES = (*_from_the_paper(), *_of_the_public_checkpoint(), *_records())
"""All of them."""


def compare(report: Report) -> Comparison:
    """The figures that stand beside a report; none for benchmarks that nobody has published figures of."""
    name, classes = _identify(report)
    model, pool = report.protocol.get("model"), report.protocol.get("pool")
    beside, context = [], []
    for figure in FIGURES:
        if figure.benchmark != name or figure.metric not in report.metrics:
            continue
        if figure.classes is not None and figure.classes != classes:
            continue
        if figure.family == OTHERS:
            context.append(figure)
        elif figure.family == PUBLIC_CHECKPOINT:
            beside += [figure] * (model == MODEL_OF_THE_PUBLIC_CHECKPOINT)
        elif figure.pool is None or (figure.pool == pool and pool != "max"):
            beside.append(figure)
    return Comparison(tuple(beside), tuple(context))


def _identify(report: Report) -> tuple[str, int | None]:
    """Benchmark and number of classes; dense data sets are called such as ``voc21``."""
    name, classes = report.benchmark, report.protocol.get("classes")
    known = {figure.benchmark for figure in FIGURES}
    match = re.fullmatch(r"(.+?)(\d+)", name)
    if name not in known and match and match[1] in known:
        name, classes = match[1], int(match[2])
    if isinstance(classes, (list, tuple)):
        classes = len(classes)
    return name, classes
