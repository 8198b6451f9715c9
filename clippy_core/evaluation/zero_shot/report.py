"""From what a model said to a report.

Shapes: N picture, C class.
"""

import csv
import io
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from clippy_core.errors import ImageError
from clippy_core.evaluation.benchmarks import Report
from clippy_core.evaluation.classification import TopK
from clippy_core.evaluation.options import BenchmarkOptions
from clippy_core.evaluation.vocabulary import templates
from clippy_core.evaluation.zero_shot.classify import Answers, classify
from clippy_core.evaluation.zero_shot.dataset import ClassificationSet
from clippy_core.evaluation.zero_shot.protocol import CROP, ClassificationProtocol, choose
from clippy_core.files import write_bytes
from clippy_core.images import read_picture
from clippy_core.segmentation.segmenter import Segmenter

IMAGES = "images.csv"
NAMED = 100
"""So many pictures that were left out are named."""


def report(segmenter: Segmenter, dataset: ClassificationSet, options: BenchmarkOptions) -> Report:
    """Top-1 and top-5 over all pictures and for every class; raises as ``choose`` and ``classify``."""
    protocol = choose(options, dataset.name)
    answers = classify(segmenter, dataset, protocol, options)
    top = TopK(len(dataset.labels))
    top.add_ranks(answers.ranks_N[answers.used_N], answers.truth_N[answers.used_N])
    right_C, among_C = top.per_class(1), top.per_class(5)
    metrics = {
        "top-1": top.accuracy(1),
        "top-5": top.accuracy(5),
        "mean of classes": float(np.nanmean(right_C)),
        **counts(answers),
    }
    rows = [
        {"class": label.name, "pictures": int(total), "top-1": float(right_C[index]), "top-5": float(among_C[index])}
        for index, (label, total) in enumerate(zip(dataset.labels, top.counts[:, 0], strict=True))
        if total
    ]
    choices = describe(segmenter, dataset, protocol, options, answers)
    return Report(dataset.name, metrics, choices, rows, images(dataset, answers, options), timing=timing(answers))


def counts(answers: Answers) -> dict[str, float]:
    """How many pictures could be used, and how many not."""
    return {"pictures": float(answers.used_N.sum()), "pictures left out": float(len(answers.left_out))}


def images(dataset: ClassificationSet, answers: Answers, options: BenchmarkOptions) -> list[dict[str, Any]]:
    """One row a picture: its class, the model's answer, and the place of its class among all, from 1.

    Also written to ``images.csv`` in the folder for outputs, if there is one. Where a picture cannot be used, answer
    and place are empty, and ``why`` is the reason.

    Raises:
        OSError: The file cannot be written.
    """
    rows = []
    for picture, rank, answer in zip(answers.pictures, answers.ranks_N, answers.answers_N, strict=True):
        said, place = (dataset.labels[answer].name, int(rank) + 1) if rank >= 0 else (None, None)
        truth = dataset.labels[picture.label].name
        why = "" if rank >= 0 else _reason(picture.path, options.segment.max_pixels)
        rows.append({"picture": dataset.name_of(picture), "class": truth, "answer": said, "place": place, "why": why})
    if options.out is not None and options.share.rank == 0:
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_bytes(options.out / IMAGES, text.getvalue().encode("utf-8", "backslashreplace"))
    return rows


def _reason(path: Path, max_pixels: int) -> str:
    """Why a picture cannot be used.

    It is read once more: processes and attempts tell each other numbers, and no words.
    """
    try:
        read_picture(path, max_pixels=max_pixels)
    except ImageError as error:
        return " ".join(str(error).removeprefix(f"{path}: ").split())
    return "it could not be read before"


def timing(answers: Answers) -> dict[str, float]:
    """How long the slowest process took, and how fast all were together on what was left to do."""
    now = len(answers.pictures) - answers.earlier
    return {"seconds": answers.seconds, "images/s": now / max(answers.seconds, 1e-9), "pictures": float(now)}


def describe(
    segmenter: Segmenter,
    dataset: ClassificationSet,
    protocol: ClassificationProtocol,
    options: BenchmarkOptions,
    answers: Answers,
) -> dict[str, Any]:
    """Every choice that could change a figure, and what was left out."""
    stride, known = segmenter.model.vision.stride, {value: name for name, value in templates.SETS.items()}
    side = protocol.side(segmenter.config, stride)
    cut = f"short side {side} (bicubic), centre crop {side} × {side}"
    whole = f"short side {side} (bicubic), whole picture, sides rounded to {stride}"
    twice = [name for name, count in Counter(label.name for label in dataset.labels).items() if count > 1]
    left_out = [dataset.name_of(picture) for picture in answers.left_out]
    return {
        "protocol": options.protocol or "paper",
        "model": segmenter.config.name,
        "pool": segmenter.config.vision.pool,
        "precision": str(segmenter.placement.dtype).removeprefix("torch."),
        "split": dataset.split,
        "layout": dataset.layout,
        "pictures": len(answers.pictures),
        "pictures of the split": len(dataset.pictures),
        "choice of pictures": "all" if len(answers.pictures) == len(dataset.pictures) else "evenly spaced",
        "classes": len(dataset.labels),
        "synonyms": {label.name: label.words for label in dataset.labels if label.words != (label.name,)},
        "names of two classes": twice,
        "templates": known.get(protocol.prompts, protocol.prompts),
        "size": side,
        "preparation": cut if protocol.picture == CROP else whole,
        "orientation and colour": "as displayed: EXIF orientation applied, colour profile converted to sRGB",
        "equal scores": "the class that comes first is the answer",
        "left out": left_out[:NAMED] + ([f"and {len(left_out) - NAMED:,} more"] if len(left_out) > NAMED else []),
        "notes": dataset.notes,
    }
