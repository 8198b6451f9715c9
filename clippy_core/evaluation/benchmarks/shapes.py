"""The built-in procedural world, on scenes that no training sees: naming, grouping, retrieval and classification.

- mIoU: every pixel gets one of all class names; over all classes, over things, over stuff.
- JS: bottom-up groups of locations (nearest location for each pixel) against every thing.
- Retrieval: captions against pictures, all against all, both directions.
- Top-1, top-5: which of the thing classes is in a picture that has one thing.

Shapes: N scene, B scene of a batch, D embedding, C class, P location, H/W pixel.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from clippy_core.evaluation.benchmarks import BenchmarkOptions, Report, traits
from clippy_core.evaluation.classification import TopK
from clippy_core.evaluation.confusion import Confusion
from clippy_core.evaluation.jaccard import Jaccard
from clippy_core.evaluation.retrieval import recall
from clippy_core.model.engine import Encoded
from clippy_core.prompts import parse_labels
from clippy_core.segmentation.grouping import group_patches, upsample_groups
from clippy_core.segmentation.options import SegmentOptions
from clippy_core.segmentation.palette import label_colours
from clippy_core.segmentation.segmenter import LabelEmbeddings, Segmenter
from clippy_core.shapes import CLASSES, MAX_SIZE, MIN_SIZE, THINGS, Scene, scene

HELD_OUT_SEED = 1
"""Training is on the world of seed 0."""

SCENES, BATCH, GROUPS, SNAPSHOTS = 1000, 50, 8, 6


class _Counts(NamedTuple):
    """What adds up over batches and processes."""

    confusion: Confusion
    jaccard: Jaccard
    top: TopK
    images_ND: np.ndarray
    texts_ND: np.ndarray


def snapshots(segmenter: Segmenter, count: int = SNAPSHOTS) -> tuple[np.ndarray, ...]:
    """Label maps of the first held-out scenes in the labels' colours, RGB ``uint8`` H×W×3: to watch grouping grow."""
    options = SegmentOptions()
    embeddings = segmenter.embed_labels(parse_labels(CLASSES), options)
    scenes = _scenes(range(count), _side(segmenter, options))
    maps_HW = _label_maps(segmenter, scenes, segmenter.encode_batch(_pixels(scenes), options), embeddings, options)
    return tuple(label_colours(len(CLASSES))[label_map_HW] for label_map_HW in maps_HW)


@traits(needs_data=False, snapshots=snapshots)
def run(segmenter: Segmenter, data: Path | None, options: BenchmarkOptions) -> Report:
    """Measure on held-out scenes; ``data`` means nothing."""
    total, share = options.limit or SCENES, options.share
    counts = _measure(segmenter, options, total)
    confusion, jaccard, top = counts.confusion, counts.jaccard, counts.top
    for part in (confusion, jaccard, top):
        part.counts = share.add_up(part.counts)
    # Rows that other processes embedded are zero here, so adding changes none.
    images_ND, texts_ND = share.add_up(counts.images_ND), share.add_up(counts.texts_ND)
    iou_C = confusion.iou
    metrics = {
        "mIoU": confusion.miou,
        "mIoU of things": _mean(iou_C[: len(THINGS)]),
        "mIoU of stuff": _mean(iou_C[len(THINGS) :]),
        "pixel accuracy": confusion.accuracy,
        "JS": jaccard.mean,
        "top-1 of things": top.accuracy(1),
        "top-5 of things": top.accuracy(5),
        **recall(images_ND, texts_ND),
    }
    right_C = top.per_class(1)
    rows = [
        {"class": name, "IoU": _shown(iou_C[index]), "top-1": _shown(right_C[index]) if index < len(THINGS) else ""}
        for index, name in enumerate(CLASSES)
    ]
    choices = _protocol(segmenter, options, total)
    return Report("shapes", metrics, choices, rows, confusion=confusion.counts.tolist())


def _measure(segmenter: Segmenter, options: BenchmarkOptions, total: int) -> _Counts:
    """This process's share of the scenes."""
    chosen = options.segment
    embeddings = segmenter.embed_labels(parse_labels(CLASSES), chosen)
    # Without the word of a background rule, which is the first.
    classes_CD = embeddings.words_KD[-len(CLASSES) :].cpu().numpy()
    shape = (total, classes_CD.shape[1])
    counts = _Counts(
        *(Confusion(len(CLASSES)), Jaccard(), TopK(len(THINGS))), *(np.zeros(shape, np.float32) for _ in range(2))
    )
    shift = 0 if chosen.rule.kind == "none" else 1
    for numbers in options.share.batches(range(total), BATCH):
        scenes = _scenes(numbers, _side(segmenter, chosen))
        found = segmenter.encode_batch(_pixels(scenes), chosen)
        for one, map_HW in zip(scenes, _label_maps(segmenter, scenes, found, embeddings, chosen), strict=True):
            counts.confusion.add(one.mask_HW, map_HW.astype(np.int64) - shift)
        groups_BP = group_patches(found.patches_BPD, GROUPS).cpu().numpy()
        for one, groups_P in zip(scenes, groups_BP, strict=True):
            counts.jaccard.add(one.instances_HW, upsample_groups(groups_P, found.grid, one.mask_HW.shape))
        pooled_BD = found.pooled_BD.cpu().numpy()
        counts.images_ND[list(numbers)] = pooled_BD
        counts.texts_ND[list(numbers)] = segmenter.embed_words([one.caption for one in scenes], ("{}",)).cpu().numpy()
        single = [index for index, one in enumerate(scenes) if one.instances_HW.max() == 1]
        truth = np.array([scenes[index].mask_HW.min() for index in single], np.int64)
        counts.top.add(pooled_BD[single] @ classes_CD[: len(THINGS)].T, truth)
    return counts


def _label_maps(
    segmenter: Segmenter,
    scenes: list[Scene],
    found: Encoded,
    embeddings: LabelEmbeddings,
    options: SegmentOptions,
) -> Iterator[np.ndarray]:
    for one, patches_PD in zip(scenes, found.patches_BPD, strict=True):
        grid = found.grid
        if options.windows is not None:
            patches_PD, grid = segmenter.encode(one.pixels_HW3, options)
        yield segmenter.label(patches_PD, grid, one.mask_HW.shape, embeddings, options, images_ahead=SCENES)


def _side(segmenter: Segmenter, options: SegmentOptions) -> int:
    """Scenes are drawn at the size that the model works at, so nothing is resized."""
    return min(max(options.size or segmenter.config.vision.size, MIN_SIZE), MAX_SIZE)


def _scenes(numbers: Sequence[int], size: int) -> list[Scene]:
    return [scene(number, seed=HELD_OUT_SEED, size=size) for number in numbers]


def _pixels(scenes: list[Scene]) -> list[np.ndarray]:
    return [one.pixels_HW3 for one in scenes]


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")


def _shown(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.3f}"


def _protocol(segmenter: Segmenter, options: BenchmarkOptions, total: int) -> dict[str, Any]:
    choices = asdict(options.segment)
    choices["size"] = options.segment.size or segmenter.config.vision.size
    choices["templates"] = options.segment.templates or segmenter.config.templates
    return {
        "model": segmenter.config.name,
        "pool": segmenter.config.vision.pool,
        "scenes": total,
        "scene seed": HELD_OUT_SEED,
        "scene size": _side(segmenter, options.segment),
        "groups": GROUPS,
        "precision": str(segmenter.placement.dtype).removeprefix("torch."),
        **choices,
    }
