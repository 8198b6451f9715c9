"""What a model says, against every word's cosine at every pixel; and what is kept of it."""

import math
import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate, normalize

from clippy_core.evaluation.benchmarks import BENCHMARKS, BenchmarkOptions
from clippy_core.evaluation.dense.cache import FeatureCache
from clippy_core.evaluation.dense.dataset import DenseDataset, Example
from clippy_core.evaluation.dense.geometry import Reader, crop_picture
from clippy_core.evaluation.dense.predict import ModelPredictor
from clippy_core.evaluation.options import Calibration, GroupingOptions
from clippy_core.evaluation.protocols import preset
from clippy_core.model.device import place
from clippy_core.model.weights import load_directory
from clippy_core.segmentation.grouping import group, upsample_groups
from clippy_core.segmentation.options import SegmentOptions, Windows
from clippy_core.segmentation.segmenter import Segmenter

SIZE = (45, 61)


@pytest.fixture(scope="module")
def segmenter(tiny_directory):
    return Segmenter(load_directory(tiny_directory), place("cpu"))


@pytest.fixture
def dataset(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (*SIZE, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return DenseDataset(
        *("d4", "val", ("background", "red circle", "photo", "square"), (Example("a", tmp_path / "a.png"),)),
        read_mask=lambda example: np.zeros(SIZE, np.uint8),
        read_objects=lambda example: np.ones(SIZE, np.int32),
        background=0,
        background_names=("under", "over"),
        synonyms={"photo": ("picture",)},
    )


def look(segmenter, dataset, *, grouping=None, certainty=None, cache=None, **choices) -> Any:
    protocol = replace(preset("paper"), **choices)
    predictor = ModelPredictor(segmenter, dataset, protocol, grouping or GroupingOptions(groups=3), cache=cache)
    sample = Reader(dataset, dataset.examples, protocol, predictor.side, masks=True, objects=True)(0)
    return predictor(sample, labels=True, certainty=certainty, segments=True), sample, predictor


def every_cosine(segmenter, sample, words, *, templates=("a photo of a {}.",), size=32, windows=None):
    """Cosines (words, H, W), interpolated all of them."""
    options = SegmentOptions(size=size, windows=windows)
    features_PD, grid = segmenter.encode(sample.pixels_HW3, options)
    vectors_KD = segmenter.embed_words(list(words), templates)
    logits_Khw = (features_PD @ vectors_KD.T).T.reshape(1, len(words), *grid)
    return interpolate(logits_Khw, sample.size, mode="bilinear", align_corners=False)[0].numpy(), features_PD, grid


def agree(found_HW, cosines_CHW):
    """Whether labels are those of the highest cosine, but for ties."""
    best_HW = np.take_along_axis(cosines_CHW, found_HW[None].astype(int), 0)[0]
    return found_HW.shape == cosines_CHW.shape[1:] and (best_HW >= cosines_CHW.max(0) - 1e-6).all()


@pytest.mark.parametrize("certainty", [None, "threshold", "margin", "softmax"])
def test_the_best_word_of_the_best_class(segmenter, dataset, certainty):
    found, sample, _ = look(segmenter, dataset, synonyms=True, certainty=certainty, scale=20.0)
    words = ("under", "over", "red circle", "photo", "picture", "square")
    cosines_KHW, features_PD, grid = every_cosine(segmenter, sample, words)
    cosines_CHW = np.stack([cosines_KHW[:2].max(0), cosines_KHW[2], cosines_KHW[3:5].max(0), cosines_KHW[5]])
    assert len(np.unique(found.labels_HW)) > 1
    assert agree(found.labels_HW, cosines_CHW)
    best_CHW = np.sort(cosines_CHW, axis=0)
    if certainty is None:
        assert found.certainty_HW is None
    elif certainty == "threshold":
        np.testing.assert_allclose(found.certainty_HW, best_CHW[-1], atol=1e-5)
    elif certainty == "margin":
        np.testing.assert_allclose(found.certainty_HW, best_CHW[-1] - best_CHW[-2], atol=1e-5)
    else:
        exp_CHW = np.exp(20 * (best_CHW - best_CHW[-1]))
        np.testing.assert_allclose(found.certainty_HW, 1 / exp_CHW.sum(0), atol=1e-4)
    segments_HW = upsample_groups(group(features_PD, "pca", 3).numpy(), grid, SIZE)
    assert np.array_equal(found.segments_HW, segments_HW)


def test_without_words_the_background_is_never_the_answer(segmenter, dataset):
    found, sample, predictor = look(segmenter, dataset, background="none")
    cosines_KHW, _, _ = every_cosine(segmenter, sample, dataset.classes[1:])
    assert found.labels_HW.min() >= 1
    assert agree(found.labels_HW - 1, cosines_KHW)
    assert predictor.describe()["words"]["background"] == []


def test_labels_times_height_times_width_is_never_there(segmenter, dataset):
    side, count = 512, 171
    names = tuple(f"class {number}" for number in range(count))
    predictor = ModelPredictor(
        segmenter, replace(dataset, classes=names, background=None), preset("paper"), GroupingOptions()
    )
    draws = torch.Generator().manual_seed(0)
    features_PD, words_KD = (normalize(torch.randn(rows, 24, generator=draws), dim=-1) for rows in (16 * 16, count))
    vars(predictor)["_words_KD"] = words_KD
    predictor._label(features_PD, (16, 16), (side, side), None)
    tracemalloc.start()
    labels_HW, _ = predictor._label(features_PD, (16, 16), (side, side), None)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    logits_1Khw = (features_PD @ words_KD.T).T.reshape(1, count, 16, 16)
    assert agree(labels_HW, interpolate(logits_1Khw, (side, side), mode="bilinear")[0].numpy())
    assert labels_HW.nbytes <= peak < count * side * side * 4 / 8


def test_windows_templates_and_size_are_those_of_the_protocol(segmenter, dataset):
    choices = {"windows": Windows(32, 16), "templates": ("{}", "a {}"), "size": 64, "background": "name"}
    found, sample, predictor = look(segmenter, dataset, **choices)
    cosines_KHW, _, _ = every_cosine(
        segmenter, sample, dataset.classes, templates=("{}", "a {}"), size=64, windows=Windows(32, 16)
    )
    assert agree(found.labels_HW, cosines_KHW)
    said = predictor.describe()
    assert (said["size"], said["templates"], said["model"]) == (64, ("{}", "a {}"), "tiny")


def test_a_cropped_picture_is_what_the_model_sees(segmenter, dataset):
    choices = {"picture": "crop", "mask": "crop", "size": 40, "background": "name"}
    found, sample, _ = look(segmenter, dataset, **choices)
    assert np.array_equal(sample.pixels_HW3, crop_picture(np.asarray(Image.open(dataset.examples[0].image)), 40))
    cosines_KHW, _, _ = every_cosine(segmenter, sample, dataset.classes, size=40)
    assert found.labels_HW.shape == (40, 40)
    assert agree(found.labels_HW, cosines_KHW)


def test_features_before_words_give_the_same_labels(segmenter, dataset):
    """The order in which the published code does it: pixels × channels first, then words."""
    found, sample, _ = look(segmenter, dataset, picture="crop", mask="squash", size=48, background="name")
    features_PD, (h, w) = segmenter.encode(sample.pixels_HW3, SegmentOptions(size=48))
    pixels_DHW = interpolate(features_PD.T.reshape(1, -1, h, w), (48, 48), mode="bilinear", align_corners=False)[0]
    vectors_KD = normalize(segmenter.embed_words(list(dataset.classes), ("a photo of a {}.",)), dim=-1)
    assert agree(found.labels_HW, torch.einsum("dhw,kd->khw", pixels_DHW, vectors_KD).numpy())


def test_a_second_metric_costs_no_second_look(segmenter, dataset, tmp_path, monkeypatch):
    plain, _, _ = look(segmenter, dataset)
    cache = FeatureCache(tmp_path / "cache")
    first, _, _ = look(segmenter, dataset, cache=cache)
    assert (cache.found, cache.made) == (0, 2)
    monkeypatch.setattr(Segmenter, "encode", None)
    monkeypatch.setattr(Segmenter, "embed_words", None)
    second, _, _ = look(segmenter, dataset, cache=FeatureCache(tmp_path / "cache"))
    for found in (first, second):
        assert np.array_equal(found.labels_HW, plain.labels_HW)
        assert np.array_equal(found.segments_HW, plain.segments_HW)
    grouped, _, _ = look(
        segmenter, dataset, cache=FeatureCache(tmp_path / "cache"), grouping=GroupingOptions("kmeans", 4)
    )
    assert len(np.unique(grouped.segments_HW)) == 4


@pytest.mark.parametrize(
    "changed",
    [{"size": 40}, {"windows": Windows(16, 16)}, {"picture": "crop", "mask": "squash"}, "picture", "model"],
    ids=str,
)
def test_what_features_depend_on_is_looked_at_anew(segmenter, tiny_directory, dataset, tmp_path, changed):
    folder, other = tmp_path / "cache", {}
    look(segmenter, dataset, cache=FeatureCache(folder))
    if changed == "picture":
        pixels = np.random.default_rng(1).integers(0, 256, (*SIZE, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(dataset.examples[0].image)
    elif changed == "model":
        segmenter = Segmenter(load_directory(tiny_directory), place("cpu"))
        next(segmenter.model.vision.parameters()).data.mul_(1.01)
    else:
        other = changed
    cache = FeatureCache(folder)
    found, _, _ = look(segmenter, dataset, cache=cache, **other)
    assert cache.made == (2 if changed == "model" else 1)
    plain, _, _ = look(segmenter, dataset, **other)
    assert np.array_equal(found.labels_HW, plain.labels_HW)


def test_benchmarks_by_name_measure_a_model(segmenter, miniatures, tmp_path):
    data = miniatures.MAKERS["voc"](tmp_path / "data", seed=0).data
    run = BENCHMARKS.load("voc")
    options = BenchmarkOptions(
        metric="both",
        protocol="kahnchana-aligned",
        split="val",
        cache=tmp_path / "cache",
        out=tmp_path / "out",
        worst=1,
        calibrate=Calibration((0.0, 0.5), share=0.3),
    )
    first = run(segmenter, data, options)
    again = run(segmenter, data, replace(options, cache=None, overwrite=True))
    assert first.metrics == again.metrics
    assert first.protocol == again.protocol
    assert first.benchmark == "voc21"
    assert first.protocol["changed"] == ("split",)
    assert first.protocol["metric"] == "both"
    assert first.protocol["grouping"] == {"method": "pca", "groups": 8, "seed": 0}
    assert first.protocol["words"]["dining table"] == ["table"]
    assert first.protocol["words"]["background"][:2] == ["background", "bag"]
    assert first.metrics["pictures"] == 3
    assert 0 <= first.metrics["mIoU"] < 0.5
    assert not math.isnan(first.metrics["JS"])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["images.csv", "worst"]
