"""The shapes benchmark with models that know everything, one thing, or nothing."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from clippy_core.evaluation.benchmarks import BENCHMARKS, BenchmarkOptions, needs_data, snapshots_of
from clippy_core.evaluation.benchmarks.shapes import HELD_OUT_SEED, run, snapshots
from clippy_core.evaluation.share import Share
from clippy_core.model.dual_encoder import ImageEmbedding
from clippy_core.segmentation.options import SegmentOptions
from clippy_core.segmentation.palette import label_colours
from clippy_core.segmentation.segmenter import LabelEmbeddings
from clippy_core.shapes import CLASSES, THINGS, scene

SIZE, TOTAL = 32, 110
LIMITED = BenchmarkOptions(limit=TOTAL)


class Oracle:
    """Looks up the truth about held-out scenes; every pixel is a location, every class a direction."""

    placement = SimpleNamespace(dtype=torch.float32)

    def __init__(self, answer=None):
        vision = SimpleNamespace(size=SIZE, pool="max")
        self.config = SimpleNamespace(name="oracle", vision=vision, templates=("{}",))
        self.answer = answer
        self.scenes = [scene(number, seed=HELD_OUT_SEED, size=SIZE) for number in range(TOTAL)]
        self.by_pixels = {one.pixels_HW3.tobytes(): index for index, one in enumerate(self.scenes)}
        self.by_caption = {one.caption: index for index, one in enumerate(self.scenes)}

    def directions(self, labels):
        return torch.eye(len(CLASSES) + TOTAL)[list(labels)]

    def embed_labels(self, labels, options):
        names = tuple(label.name for label in labels)
        assert names == CLASSES
        return LabelEmbeddings(names, self.directions(range(len(CLASSES))), tuple(range(len(CLASSES))))

    def embed_words(self, words, templates):
        assert templates == ("{}",)
        return self.directions(len(CLASSES) + self.by_caption[word] for word in words)

    def encode_batch(self, pictures, options):
        numbers = [self.by_pixels[pixels.tobytes()] for pixels in pictures]
        masks_BP = torch.tensor(np.stack([self.scenes[number].mask_HW.ravel() for number in numbers]), dtype=torch.long)
        if self.answer is not None:
            masks_BP[:] = self.answer
        patches_BPD = torch.stack([self.directions(mask_P.tolist()) for mask_P in masks_BP])
        pooled_BD = patches_BPD.amax(1)
        if self.answer is None:
            pooled_BD += 9 * self.directions(len(CLASSES) + number for number in numbers)
        return ImageEmbedding(pooled_BD, patches_BPD, (SIZE, SIZE))

    def label(self, features_PD, grid, size, embeddings, options, *, images_ahead):
        found_HW = (features_PD @ embeddings.words_KD.T).argmax(1).reshape(size).numpy()
        return (found_HW + (options.rule.kind != "none")).astype(np.uint8)


@pytest.fixture(scope="module")
def oracle():
    return Oracle()


@pytest.fixture(scope="module")
def report(oracle):
    return run(oracle, None, LIMITED)


def test_a_perfect_model_scores_one(report):
    assert report.metrics == {
        "mIoU": 1.0,
        "mIoU of things": 1.0,
        "mIoU of stuff": 1.0,
        "pixel accuracy": 1.0,
        "JS": pytest.approx(report.metrics["JS"]),
        "top-1 of things": 1.0,
        "top-5 of things": 1.0,
        **{f"image to text R@{k}": 1.0 for k in (1, 5, 10)},
        **{f"text to image R@{k}": 1.0 for k in (1, 5, 10)},
    }
    assert report.metrics["JS"] > 0.6  # two things of a kind are one group


def test_a_constant_model_scores_what_can_be_worked_out():
    grass, oracle = CLASSES.index("grass"), Oracle(CLASSES.index("grass"))
    metrics = run(oracle, None, LIMITED).metrics
    share = np.mean([one.mask_HW == grass for one in oracle.scenes])
    assert metrics["mIoU"] == pytest.approx(share / len(CLASSES))
    assert metrics["mIoU of things"] == 0
    assert metrics["pixel accuracy"] == pytest.approx(share)
    objects = [one.instances_HW == i for one in oracle.scenes for i in range(1, one.instances_HW.max() + 1)]
    assert metrics["JS"] == pytest.approx(np.mean([mask.mean() for mask in objects if mask.any()]), abs=1e-9)
    # Equal scores count against the model.
    assert metrics["top-1 of things"] == metrics["top-5 of things"] == metrics["text to image R@10"] == 0


@pytest.mark.parametrize("background", ["threshold=0.5", "wall|floor"])
def test_a_background_is_no_class(oracle, background):
    options = BenchmarkOptions(SegmentOptions(background=background), limit=TOTAL)
    assert run(oracle, None, options).metrics["mIoU"] == 1.0


def test_rows_and_protocol_can_be_written_down(report):
    assert [row["class"] for row in report.rows] == list(CLASSES)
    counts_CC = np.array(report.confusion)
    assert counts_CC.sum() == np.trace(counts_CC) == TOTAL * SIZE * SIZE
    assert report.rows[0] == {"class": "ball", "IoU": "1.000", "top-1": "1.000"}
    assert report.rows[-1]["top-1"] == ""
    protocol = json.loads(json.dumps(report.protocol))
    expected = {"model": "oracle", "pool": "max", "scenes": TOTAL, "scene seed": 1, "scene size": SIZE, "groups": 8}
    assert expected.items() <= protocol.items()


@pytest.mark.parametrize("world", [2, 3, 5])
def test_any_number_of_processes_counts_the_same(oracle, report, world):
    """Processes take turns: each leaves its arrays, the last one adds everybody's up."""
    calls = [[] for _ in range(world)]

    def keep(rank):
        def add_up(array):
            calls[rank].append(array.copy())
            if rank < world - 1:
                return array
            return sum(arrays[len(calls[rank]) - 1] for arrays in calls)

        return add_up

    for rank in range(world):
        found = run(oracle, None, BenchmarkOptions(limit=TOTAL, share=Share(rank, world, keep(rank))))
    assert found.metrics == report.metrics


def test_snapshots_are_label_maps_of_the_first_scenes(oracle):
    found = snapshots(oracle, 4)
    for picture, one in zip(found, oracle.scenes, strict=False):
        assert (picture.shape, picture.dtype) == ((SIZE, SIZE, 3), np.uint8)
        assert np.array_equal(picture, label_colours(len(CLASSES))[one.mask_HW])
    assert len(found) == 4


def test_the_benchmark_is_registered_with_its_traits():
    assert BENCHMARKS.load("shapes") is run
    assert not needs_data(run)
    assert snapshots_of(run) is snapshots
    assert needs_data(BENCHMARKS.load("points"))
    assert snapshots_of(BENCHMARKS.load("points")) is None


def test_training_never_sees_what_is_measured():
    from clippy_core.training.config import DataConfig
    from clippy_core.training.data.sources import open_source

    source = open_source(DataConfig(samples=5, size=32))
    assert all(source.read(number).key.startswith("shapes/0/") for number in source.order(0, 0).tolist())
    assert HELD_OUT_SEED != 0
    assert len(THINGS) + 10 == len(CLASSES)
