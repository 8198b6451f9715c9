"""What a whole run found, gathered from the outputs of its pictures, one at a time.

Memory grows with the labels, not with the pictures.
"""

import json
from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from clippy_core.segmentation.background import BACKGROUND
from clippy_core.segmentation.writers import FRAGMENTS

if TYPE_CHECKING:
    from clippy_core.segmentation.batch.manifest import Record

SHOWN = 12
"""Pictures on either half of the contact sheet."""
MAX_FAILURES = 200
NAMED = 3
"""Labels named with a picture."""
OVERLAYS = (".overlay.png", ".overlay.mp4", ".overlay.avi")


@dataclass(frozen=True)
class Entry:
    """A picture or video of the run.

    Attributes:
        source: The input.
        certainty: Mean score of its labels, weighted by their share of the pixels, −1…1; None if not known, or if
            there is nothing but background.
        shares: Its largest labels and their shares, 0…1.
        overlay: The picture with labels drawn in, relative to the output folder, or None.
    """

    source: str
    certainty: float | None
    shares: tuple[tuple[str, float], ...]
    overlay: str | None


@dataclass
class LabelTotal:
    """One label over all pictures.

    Attributes:
        index: Its place in the list of labels, or −1 if not known.
        pictures: How many have a pixel of it.
        pixels: All its pixels; the sum of its shares where only those are known.
        scores: The sum over these pictures of its score there.
    """

    index: int = -1
    pictures: int = 0
    pixels: float = 0.0
    scores: float = 0.0


@dataclass
class Findings:
    """What a run found.

    Attributes:
        model: Name of the model, or ``""``.
        pictures: How many inputs were segmented.
        described: How many of them have a JSON output that was read.
        pixels: All their pixels; ``pictures`` where only shares are known.
        labels: Every label, in order.
        failed: How many inputs failed.
        failures: Input and reason of the first of them.
        least: Entries with the lowest certainty, lowest first.
        most: Entries with the highest certainty, highest first.
        first: The first entries, for a run without scores.
    """

    model: str = ""
    pictures: int = 0
    described: int = 0
    pixels: float = 0.0
    labels: dict[str, LabelTotal] = field(default_factory=dict)
    failed: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    least: list[Entry] = field(default_factory=list)
    most: list[Entry] = field(default_factory=list)
    first: list[Entry] = field(default_factory=list)


def gather(out: Path, records: "Iterator[Record]") -> Findings:
    """Read what the records name.

    Args:
        out: The output folder.
        records: What became of each input, gone through once.
    """
    findings, shares, rated = Findings(), Findings(), 0
    lowest: list[tuple[float, int, Entry]] = []
    highest: list[tuple[float, int, Entry]] = []
    for number, record in enumerate(records):
        if record.status == "failed":
            findings.failed += 1
            if len(findings.failures) < MAX_FAILURES:
                findings.failures.append((record.input, record.error or "failed"))
            continue
        findings.pictures += 1
        document = _document(out, record)
        _add_shares(shares, record)
        if document is not None:
            _add_document(findings, document)
        entry = _entry(record, document)
        if len(findings.first) < 2 * SHOWN:
            findings.first.append(entry)
        if entry.certainty is not None:
            rated += 1
            _keep(lowest, (entry.certainty, number, entry))
            _keep(highest, (-entry.certainty, -number, entry))
    if not findings.described:
        findings.labels, findings.pixels = shares.labels, shares.pixels
    few = min(SHOWN, rated // 2)
    findings.least = [entry for _, _, entry in lowest[:few]]
    findings.most = [entry for _, _, entry in highest[: min(SHOWN, rated - few)]]
    return findings


def _keep(entries: list[tuple[float, int, Entry]], entry: tuple[float, int, Entry]) -> None:
    insort(entries, entry, key=lambda kept: kept[:2])
    del entries[SHOWN:]


def _document(out: Path, record: "Record") -> dict[str, Any] | None:
    """The record's JSON output; a plug-in may write JSON of its own, so it is known by what it holds."""
    for name in record.outputs:
        if not name.endswith(".json") or name.endswith(".labelme.json") or FRAGMENTS in PurePosixPath(name).parts:
            continue
        try:
            document = json.loads((out / name).read_bytes())
        except (OSError, ValueError):
            continue
        if _is_ours(document):
            return document
    return None


def _is_ours(document: Any) -> bool:
    if not isinstance(document, dict) or not {"width", "height", "model", "labels"} <= document.keys():
        return False
    labels = document["labels"]
    fields = {"index", "name", "pixels", "fraction", "score"}
    return isinstance(labels, list) and all(isinstance(label, dict) and fields <= label.keys() for label in labels)


def _add_document(findings: Findings, document: dict[str, Any]) -> None:
    findings.described += 1
    findings.model = findings.model or str(document["model"])
    findings.pixels += document["width"] * document["height"] * document.get("frames", 1)
    for label in document["labels"]:
        total = findings.labels.setdefault(label["name"], LabelTotal(label["index"]))
        if label["pixels"]:
            total.pictures += 1
            total.pixels += label["pixels"]
            total.scores += label["score"] or 0.0


def _add_shares(findings: Findings, record: "Record") -> None:
    """What the manifest itself says, for a run without JSON outputs."""
    findings.pixels += 1
    for name, share in record.labels.items():
        total = findings.labels.setdefault(name, LabelTotal())
        total.pictures += 1
        total.pixels += share


def _entry(record: "Record", document: dict[str, Any] | None) -> Entry:
    overlay = next((name for name in record.outputs if name.endswith(OVERLAYS)), None)
    if document is None:
        return Entry(record.input, None, _largest(record.labels), overlay)
    found = [label for label in document["labels"] if label["pixels"]]
    rated = [label for label in found if not is_unrated(label["name"], label["index"], label["score"])]
    share = sum(label["fraction"] for label in rated)
    certainty = sum(label["fraction"] * label["score"] for label in rated) / share if share else None
    return Entry(record.input, certainty, _largest({label["name"]: label["fraction"] for label in found}), overlay)


def is_unrated(name: str, index: int, score: float | None) -> bool:
    """Whether a label is a background that the model compared with nothing: no score, or 0 as the sum of none."""
    return name == BACKGROUND and index == 0 and not score


def _largest(shares: dict[str, float]) -> tuple[tuple[str, float], ...]:
    return tuple(sorted(shares.items(), key=lambda item: -item[1])[:NAMED])
