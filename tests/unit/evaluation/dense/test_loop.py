"""Figures of every benchmark's miniature against other people's code and numbers worked out by hand."""

import importlib
from fractions import Fraction

import numpy as np
import pytest
from pycocotools import mask as rle
from sklearn.metrics import confusion_matrix

from clippy_core.errors import DataError, UsageError
from clippy_core.evaluation.dense.dataset import DenseDataset, Example
from clippy_core.evaluation.options import Calibration
from clippy_core.events import BatchFinished, BatchStarted, ItemFinished
from clippy_core.segmentation.options import SegmentOptions

FORMS = [
    ("voc", {"classes": 21}),
    ("voc", {"classes": 20}),
    ("context", {"classes": 60}),
    ("context", {"classes": 59}),
    ("coco-stuff", {}),
    ("coco-object", {}),
    ("coco-panoptic", {}),
    ("ade20k", {}),
    ("cityscapes", {"classes": 19}),
    ("cityscapes", {"classes": 27}),
    ("folder", {}),
]


def read(benchmark, miniatures, folder, **form):
    truth = miniatures.MAKERS[benchmark](folder, seed=3, **form)
    module = importlib.import_module(f"clippy_core.evaluation.benchmarks.{benchmark.replace('-', '_')}")
    return truth, module.read(truth.data, **truth.options)


def said(truth, predictor, dataset):
    """What was drawn and what was said, pixel by pixel, without those that do not count."""
    drawn, told = [], []
    for example in dataset.examples:
        mask_HW = truth.masks[example.name].astype(int)
        sample = type("Sample", (), {"example": example, "size": mask_HW.shape})
        drawn.append(mask_HW[mask_HW != 255])
        told.append(predictor.labels(sample)[mask_HW != 255])
    return np.concatenate(drawn), np.concatenate(told)


@pytest.mark.parametrize(("benchmark", "form"), FORMS, ids=lambda value: str(value))
def test_top_down_is_what_scikit_learn_counts(miniatures, fakes, tmp_path, benchmark, form):
    truth, dataset = read(benchmark, miniatures, tmp_path, **form)
    count = len(dataset.classes)
    # One more than the classes: pixels without a class are misses.
    predictor = fakes.Fake(fakes.noise(count))
    report = fakes.run(dataset, predictor)
    drawn_N, told_N = said(truth, predictor, dataset)
    counts = confusion_matrix(drawn_N, told_N, labels=range(count + 1))[:count]
    assert np.array_equal(report.confusion, counts)
    right, there, claimed = np.diagonal(counts), counts.sum(1), counts[:, :count].sum(0)
    union = there + claimed - right
    iou = {index: right[index] / union[index] for index in range(count) if union[index]}
    seen = [index for index in range(count) if there[index]]
    assert report.metrics["mIoU"] == pytest.approx(np.mean(list(iou.values())), abs=1e-12)
    assert report.metrics["pixel accuracy"] == pytest.approx(right.sum() / counts.sum(), abs=1e-12)
    assert report.metrics["mean accuracy"] == pytest.approx(np.mean(right[seen] / there[seen]), abs=1e-12)
    weighted = sum(iou[index] * there[index] for index in seen) / counts.sum()
    assert report.metrics["frequency-weighted IoU"] == pytest.approx(weighted, abs=1e-12)
    shown = {row["class"]: row["IoU"] for row in report.rows}
    assert list(shown) == list(dataset.classes)
    assert {name: value for name, value in shown.items() if value != "–"} == {
        dataset.classes[index]: f"{value:.3f}" for index, value in iou.items()
    }


@pytest.mark.parametrize(("benchmark", "form"), FORMS, ids=lambda value: str(value))
def test_a_perfect_predictor_has_everything_right(miniatures, fakes, tmp_path, benchmark, form):
    truth, dataset = read(benchmark, miniatures, tmp_path, **form)
    objects = truth.objects
    perfect = fakes.Fake(
        lambda sample: truth.masks[sample.example.name],
        objects and (lambda sample: np.maximum(objects[sample.example.name], 0)),
    )
    metrics = fakes.run(dataset, perfect, metric="both" if objects else "top-down").metrics
    assert {name: value for name, value in metrics.items() if name not in ("objects", "pictures")} == dict.fromkeys(
        ("mIoU", "pixel accuracy", "mean accuracy", "frequency-weighted IoU", *(("JS",) if objects else ())), 1.0
    )


@pytest.mark.parametrize(("benchmark", "form"), FORMS, ids=lambda value: str(value))
def test_a_constant_predictor_has_its_share(miniatures, fakes, tmp_path, benchmark, form):
    truth, dataset = read(benchmark, miniatures, tmp_path, **form)
    drawn = np.concatenate([mask_HW[mask_HW != 255] for mask_HW in truth.masks.values()])
    present, pixels = np.unique(drawn, return_counts=True)
    value = int(present[pixels.argmax()])
    metrics = fakes.run(dataset, fakes.Fake(lambda sample: np.full(sample.size, value))).metrics
    share = Fraction(int(pixels.max()), int(pixels.sum()))
    assert metrics["mIoU"] == pytest.approx(float(share / len(present)), abs=1e-12)
    assert metrics["pixel accuracy"] == pytest.approx(float(share), abs=1e-12)
    assert metrics["mean accuracy"] == pytest.approx(1 / len(present), abs=1e-12)
    assert metrics["frequency-weighted IoU"] == pytest.approx(float(share**2), abs=1e-12)


@pytest.mark.parametrize("benchmark", ["voc", "coco-object", "coco-panoptic", "ade20k", "cityscapes", "folder"])
def test_bottom_up_is_what_pycocotools_overlaps(miniatures, fakes, tmp_path, benchmark):
    truth, dataset = read(benchmark, miniatures, tmp_path)
    segments = fakes.noise(5, "segments")
    report = fakes.run(dataset, fakes.Fake(fakes.noise(3), segments), metric="bottom-up")
    best: list[float] = []
    for example in dataset.examples:
        objects_HW = truth.objects[example.name]
        sample = type("Sample", (), {"example": example, "size": objects_HW.shape})
        counted_HW = objects_HW >= 0
        found = [encode((segments(sample) == number) & counted_HW) for number in range(6)]
        wanted = [encode(objects_HW == number) for number in np.unique(objects_HW[objects_HW > 0])]
        best += np.asarray(rle.iou(found, wanted, [0] * len(wanted))).max(0).tolist()
    assert report.metrics["objects"] == len(best) > 10
    assert report.metrics["JS"] == pytest.approx(np.mean(best), abs=1e-9)
    assert "mIoU" not in report.metrics


def encode(mask_HW):
    return rle.encode(np.asfortranarray(mask_HW, dtype=np.uint8))


def test_js_by_hand(fakes, tmp_path):
    dataset = one_picture(
        tmp_path,
        mask_HW=np.zeros((2, 4), np.uint8),
        objects_HW=np.array([[1, 1, 2, 0], [1, -1, 2, 0]], np.int32),
    )
    segments_HW = np.array([[0, 0, 0, 1], [0, 0, 1, 1]])
    report = fakes.run(dataset, fakes.Fake(lambda sample: segments_HW, lambda sample: segments_HW), metric="both")
    # Object 1 has 3 pixels, all in segment 0, which has 4 that count: 3/4. Object 2 has one of its 2 pixels in each
    # segment: 1/5 with segment 0, 1/4 with segment 1.
    assert report.metrics["JS"] == pytest.approx((3 / 4 + 1 / 4) / 2, abs=1e-9)
    assert report.images[0]["JS"] == pytest.approx(1 / 2)
    assert report.images[0]["objects"] == 2


def one_picture(folder, mask_HW, objects_HW=None, background: int | None = 0):
    from PIL import Image

    height, width = mask_HW.shape
    Image.new("RGB", (width, height)).save(folder / "a.png")
    return DenseDataset(
        *("two2", "val", ("background", "cat"), (Example("a", folder / "a.png"),)),
        read_mask=lambda example: mask_HW,
        read_objects=None if objects_HW is None else lambda example: objects_HW,
        background=background,
    )


def test_every_picture_has_a_line(miniatures, fakes, tmp_path):
    truth, dataset = read("voc", miniatures, tmp_path / "data")
    predictor = fakes.Fake(fakes.noise(21), fakes.noise(5, "segments"))
    report = fakes.run(dataset, predictor, metric="both", out=tmp_path / "out")
    for example, row in zip(dataset.examples, report.images, strict=True):
        alone = DenseDataset(**{**vars(dataset), "examples": (example,)})
        expected = fakes.run(alone, predictor, metric="both").metrics
        assert row["picture"] == example.name
        assert row["seconds"] > 0
        for figure in ("mIoU", "pixel accuracy", "JS", "objects"):
            assert row[figure] == pytest.approx(expected[figure], abs=1e-9)
    lines = (tmp_path / "out" / "images.csv").read_text().splitlines()
    assert lines[0] == "picture,mIoU,pixel accuracy,JS,objects,seconds"
    assert [line.split(",")[0] for line in lines[1:]] == list(truth.names)
    assert [line.split(",")[1] for line in lines[1:]] == [f"{row['mIoU']:.6f}" for row in report.images]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["images.csv"]


def test_what_a_picture_has_not_is_empty(fakes, tmp_path):
    dataset = one_picture(tmp_path, np.full((3, 5), 255, np.uint8), np.zeros((3, 5), np.int32))
    report = fakes.run(dataset, fakes.Fake(fakes.noise(1), fakes.noise(3)), metric="both", out=tmp_path / "out")
    assert {name: report.images[0][name] for name in ("mIoU", "pixel accuracy", "JS", "objects")} == {
        "mIoU": None,
        "pixel accuracy": None,
        "JS": None,
        "objects": 0,
    }
    assert (tmp_path / "out" / "images.csv").read_text().splitlines()[1].startswith("a,,,,0,0.")
    assert np.isnan(report.metrics["mIoU"])
    assert np.isnan(report.metrics["JS"])


def test_limit_takes_pictures_from_all_over_the_list(miniatures, fakes, tmp_path):
    _, dataset = read("voc", miniatures, tmp_path)
    predictor = fakes.Fake(fakes.noise(21))
    report = fakes.run(dataset, predictor, limit=2)
    names = [example.name for example in dataset.examples]
    assert predictor.seen == [names[0], names[2]]
    assert report.protocol["choice of pictures"] == "evenly spaced"
    assert (report.protocol["pictures"], report.protocol["pictures of the split"]) == (2, 4)
    assert [row["picture"] for row in report.images] == predictor.seen


def test_the_sink_hears_of_every_picture(miniatures, fakes, tmp_path):
    truth, dataset = read("voc", miniatures, tmp_path)
    heard = []
    report = fakes.run(dataset, fakes.Fake(fakes.noise(21)), sink=heard.append)
    assert heard[0] == BatchStarted(4, 0)
    assert [event.source for event in heard[1:-1] if isinstance(event, ItemFinished)] == list(truth.names)
    assert isinstance(heard[-1], BatchFinished)
    assert (heard[-1].done, heard[-1].failed) == (4, 0)
    assert report.timing["pictures"] == 4
    assert report.timing["images/s"] == pytest.approx(4 / report.timing["seconds"])


def test_a_limit_of_certainty_makes_background(fakes, tmp_path):
    mask_HW = np.array([[0, 1], [1, 0]], np.uint8)
    sure_HW = np.array([[0.1, 0.3], [0.25, 0.2]], np.float32)
    predictor = fakes.Fake(lambda sample: np.ones((2, 2)), certainty=lambda sample: sure_HW)
    segment = SegmentOptions(background="threshold=0.25")
    report = fakes.run(one_picture(tmp_path, mask_HW), predictor, segment=segment)
    assert report.metrics["mIoU"] == 1.0
    assert report.protocol["limit"] == "threshold=0.25"
    assert report.protocol["changed"] == ("background", "limit")


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"metric": "both"}, "no objects"),
        ({"metric": "bottom-up"}, "accepted: top-down"),
        ({"calibrate": Calibration((0.1,))}, "1 picture cannot be split"),
    ],
)
def test_what_a_data_set_cannot_give(fakes, tmp_path, wanted, words):
    dataset = one_picture(tmp_path, np.zeros((2, 2), np.uint8))
    with pytest.raises(UsageError, match=words):
        fakes.run(dataset, fakes.Fake(fakes.noise(1)), **wanted)


@pytest.mark.parametrize(
    "wanted",
    [{"segment": SegmentOptions(background="threshold=0.2")}, {"segment": SegmentOptions(background="wall")}],
)
def test_a_background_without_a_class_for_it(fakes, tmp_path, wanted):
    dataset = one_picture(tmp_path, np.zeros((2, 2), np.uint8), background=None)
    with pytest.raises(UsageError, match=r"no class for background; leave --background out"):
        fakes.run(dataset, fakes.Fake(fakes.noise(1)), **wanted)


def test_what_a_preset_has_for_the_background_is_left_out_without_a_class_for_it(fakes, tmp_path):
    dataset = one_picture(tmp_path, np.zeros((2, 2), np.uint8), background=None)
    predictor = fakes.Fake(lambda sample: np.zeros(sample.size), certainty=lambda sample: np.zeros(sample.size))
    for name in ("sclip", "kahnchana-aligned"):
        report = fakes.run(dataset, predictor, protocol=name)
        found = [report.protocol[field] for field in ("background", "limit", "distractors")]
        assert found == ["none", "none", ()]
        assert "has no class for it" in report.protocol["remarks"][-1]
        assert report.metrics["mIoU"] == 1.0


def test_a_damaged_mask_ends_it_and_is_named(miniatures, fakes, tmp_path):
    _, dataset = read("voc", miniatures, tmp_path)
    damaged = tmp_path / "VOCdevkit" / "VOC2012" / "SegmentationClass" / "2009_001299.png"
    damaged.write_bytes(damaged.read_bytes()[:60])
    with pytest.raises(DataError, match=r"2009_001299\.png"):
        fakes.run(dataset, fakes.Fake(fakes.noise(21)))
