"""How to measure, checked before anything heavy is imported."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clippy_core.errors import UsageError
from clippy_core.evaluation.share import Share
from clippy_core.events import Sink, ignore
from clippy_core.segmentation.options import SegmentOptions

METRICS = ("top-down", "bottom-up", "both")
GROUPINGS = ("pca", "kmeans", "spectral")
MAX_GROUPS = 64
CERTAINTIES = ("threshold", "margin", "softmax")


@dataclass(frozen=True)
class GroupingOptions:
    """How the locations of a picture are grouped without labels.

    Attributes:
        method: ``pca`` (the paper's: the first principal components of the picture's own features are the centres),
            ``kmeans`` or ``spectral``.
        groups: How many groups, 2 to 64.
        seed: Where k-means starts from; ``pca`` has no chance in it.
    """

    method: str = "pca"
    groups: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in GROUPINGS:
            raise UsageError(f"--grouping is {self.method!r}; accepted: {', '.join(GROUPINGS)}")
        if not 2 <= self.groups <= MAX_GROUPS:
            raise UsageError(f"--groups is {self.groups}; accepted: 2 to {MAX_GROUPS}")


@dataclass(frozen=True)
class Calibration:
    """A limit below which a pixel is background, chosen on pictures that are then not reported.

    Attributes:
        values: The limits to try.
        share: Which part of the pictures they are tried on, above 0 and below 1; evenly spaced over the list.
        kind: What is compared with the limit: ``threshold`` (the winner's cosine), ``margin`` (its lead over the
            runner-up) or ``softmax`` (its probability).
    """

    values: tuple[float, ...]
    share: float = 0.1
    kind: str = "threshold"

    def __post_init__(self) -> None:
        if not self.values:
            raise UsageError("--calibrate: at least one limit to try is expected, such as 0.1,0.2,0.3")
        if not 0 < self.share < 1:
            raise UsageError(f"--calibrate: a share of {self.share:g} of the pictures; accepted: above 0, below 1")
        if self.kind not in CERTAINTIES:
            raise UsageError(f"--calibrate: {self.kind!r} is unknown; accepted: {', '.join(CERTAINTIES)}")


@dataclass(frozen=True)
class BenchmarkOptions:
    """How to measure.

    Attributes:
        segment: Options for each picture; what is set goes before the protocol's choice.
        limit: Use only this many pictures, 1 or more; None for all.
        share: Which part of the pictures this process looks at. A benchmark that does not share leaves all the work
            to every process.
        classes: Number of classes, of a data set that has several protocols; None for its usual one.
        split: Part of the data set; None for the protocol's, or else the usual one.
        protocol: Name of a preset in ``clippy_core.evaluation.protocols``; None for ``paper``.
        overrides: Fields of the protocol that are to differ, by name, such as ``{"synonyms": True}``.
        metric: ``top-down``, ``bottom-up`` or ``both``.
        grouping: How bottom-up segments are made.
        out: Folder for the CSV of pictures, the state of an unfinished run and overlays; None to write nothing.
        overwrite: Start again, whatever an unfinished run left in ``out``.
        cache: Folder in which features are kept for the next run; None to keep none.
        worst: So many of the pictures with the lowest mIoU are drawn, prediction beside truth.
        calibrate: Limit to be chosen, or None.
        sink: Told of every picture.
    """

    segment: SegmentOptions = field(default_factory=SegmentOptions)
    limit: int | None = None
    share: Share = field(default_factory=Share)
    classes: int | None = None
    split: str | None = None
    protocol: str | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    metric: str = "top-down"
    grouping: GroupingOptions = field(default_factory=GroupingOptions)
    out: Path | None = None
    overwrite: bool = False
    cache: Path | None = None
    worst: int = 0
    calibrate: Calibration | None = None
    sink: Sink = ignore

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"--limit is {self.limit}; accepted: 1 or more")
        if self.metric not in METRICS:
            raise UsageError(f"--metric is {self.metric!r}; accepted: {', '.join(METRICS)}")
        if self.worst < 0 or (self.worst and self.out is None):
            raise UsageError(f"--worst is {self.worst}; accepted: 0 or more, with a folder to write to")
        if self.metric == "bottom-up" and (self.worst or self.calibrate is not None):
            raise UsageError("--metric bottom-up has no labels; leave --worst and --calibrate out")
