"""Groups: silhouettes are scikit-learn's, JS is the evaluation's, names are those of mean features."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.cluster import SpectralClustering
from sklearn.metrics import adjusted_rand_score, silhouette_score

from clippy_core.analysis.colours import montage
from clippy_core.analysis.group import report as reports
from clippy_core.analysis.group.run import GroupOptions, analyse_groups, by_size, name_segments
from clippy_core.analysis.group.silhouette import choose_count, silhouette
from clippy_core.analysis.report import write_report
from clippy_core.analysis.words import Words
from clippy_core.errors import DataError, UsageError
from clippy_core.evaluation.benchmarks.folder import run as evaluate_folder
from clippy_core.evaluation.options import BenchmarkOptions, GroupingOptions
from clippy_core.images import read_picture
from clippy_core.prompts import parse_labels
from clippy_core.segmentation.grouping import group
from clippy_core.segmentation.inputs import Input, find_inputs
from clippy_core.segmentation.options import SegmentOptions


def unit(features):
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def blobs(count, each=25, channels=20, spread=0.05, seed=0):
    """Unit features around so many directions that are far from each other, and which is which."""
    rng = np.random.default_rng(seed)
    centres = np.linalg.qr(rng.normal(size=(channels, channels)))[0][:count]
    truth = rng.permutation(np.repeat(np.arange(count), each))
    return unit(centres[truth] + rng.normal(0, spread, (len(truth), channels))), truth


@pytest.fixture
def data(tmp_path):
    """A folder as for ``clippy eval folder``: three noisy pictures with up to three objects each."""
    for number in range(3):
        rng = np.random.default_rng(number)
        size = 48 + 8 * number, 64
        pixels = rng.integers(0, 60, (*size, 3), np.uint8)
        objects = np.zeros(size, np.uint8)
        for mark in range(1, number + 2):
            top, left = rng.integers(0, 24, 2)
            pixels[top : top + 20, left : left + 24] = rng.integers(100, 256, 3, np.uint8)
            objects[top : top + 20, left : left + 24] = mark
        objects[:2] = 255
        for kind, array in (("images", pixels), ("instances", objects), ("masks", np.minimum(objects, 1))):
            path = tmp_path / "data" / kind / "deep" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)
    (tmp_path / "data/labels.txt").write_text("ground\nthing\n")
    return tmp_path / "data"


@pytest.mark.parametrize("groups", [2, 3, 7])
@pytest.mark.parametrize("seed", range(3))
def test_silhouettes_are_scikit_learn_s(groups, seed):
    rng = np.random.default_rng(seed)
    features, labels = unit(rng.normal(size=(60, 9))), rng.integers(0, groups, 60)
    assert silhouette(features, labels) == pytest.approx(silhouette_score(features, labels, metric="cosine"), abs=1e-9)


def test_a_location_alone_in_its_group_counts_nothing():
    features = unit(np.random.default_rng(0).normal(size=(9, 5)))
    labels = np.array([0, 0, 0, 0, 3, 3, 3, 3, 9])
    assert silhouette(features, labels) == pytest.approx(silhouette_score(features, labels, metric="cosine"), abs=1e-9)


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2]])
def test_one_group_or_only_single_locations_have_no_silhouette(labels):
    assert np.isnan(silhouette(unit(np.eye(3)), np.array(labels)))


@pytest.mark.parametrize("method", ["kmeans", "spectral"])
@pytest.mark.parametrize("count", [2, 4, 6])
def test_the_number_of_groups_is_found_where_it_is_clear(method, count):
    features, truth = blobs(count)
    found, tried = choose_count(features, lambda k: group(torch.from_numpy(features), method, k).numpy())
    assert len(set(found.tolist())) == count
    assert adjusted_rand_score(truth, found) == 1
    assert max(tried, key=lambda number: tried[number]) == count
    clusters = SpectralClustering(count, affinity="precomputed", random_state=0)
    assert adjusted_rand_score(clusters.fit_predict(np.clip(features @ features.T, 0, None)), found) == 1


def test_few_or_equal_locations_are_some_groups_all_the_same():
    for features in (np.ones((1, 3)), np.ones((5, 3)), np.eye(3)):
        found, tried = choose_count(
            unit(features), lambda k, f=features: group(torch.from_numpy(f), "kmeans", k).numpy()
        )
        assert found.shape == (len(features),)
        assert all(np.isfinite(value) for value in tried.values())


def test_segments_are_numbered_by_size():
    groups, shares = by_size(np.array([7, 3, 3, 9, 9, 9]))
    assert groups.tolist() == [2, 1, 1, 0, 0, 0]
    assert shares.tolist() == pytest.approx([1 / 2, 1 / 3, 1 / 6])


def test_names_are_those_nearest_to_the_mean_feature():
    words = Words(("x", "y|z", "w"), np.eye(4, dtype=np.float32), np.array([0, 1, 3]))
    features = unit(np.array([[1, 0, 0, 0], [1, 0.2, 0, 0], [0, 0, 2, 1], [0, 0.1, 1, 0]], float)).astype(np.float32)
    named = name_segments(features, np.array([0, 0, 1, 1]), words, most=2)
    for pair, rows in zip(named, (features[:2], features[2:]), strict=True):
        mean = rows.mean(0) / np.linalg.norm(rows.mean(0))
        cosines = {"x": mean[0], "y|z": max(mean[1], mean[2]), "w": mean[3]}
        want = sorted(cosines.items(), key=lambda item: -item[1])[:2]
        assert [name for name, _ in pair] == [name for name, _ in want]
        assert [value for _, value in pair] == pytest.approx([value for _, value in want], abs=1e-6)


@pytest.mark.parametrize(("method", "segments", "size"), [("pca", 8, None), ("kmeans", 3, 48), ("spectral", 4, 64)])
def test_js_is_the_evaluation_s(vit, data, tmp_path, method, segments, size):
    options = GroupOptions(method, segments, 3, size, masks=data)
    report = analyse_groups(vit, find_inputs([str(data / "images")], tmp_path / "out"), options, tmp_path / "out")
    with warnings.catch_warnings():
        # The evaluation has a class without a pixel in some pictures, which it says.
        warnings.simplefilter("ignore")
        theirs = evaluate_folder(
            vit,
            data,
            BenchmarkOptions(
                segment=SegmentOptions(size=size), metric="bottom-up", grouping=GroupingOptions(method, segments, 3)
            ),
        )
    assert report.numbers["JS"] == theirs.metrics["JS"]
    assert report.numbers["objects"] == theirs.metrics["objects"] == 6
    assert 0 < report.numbers["JS"] < 1
    by_picture = {Path(one["picture"]).stem: one["JS"] for one in report.numbers["pictures"]}
    assert by_picture == {Path(row["picture"]).stem: row["JS"] for row in theirs.images}


def test_segments_are_those_of_the_grouping(vit, picture_file, tmp_path):
    path = picture_file("a.png")
    options = GroupOptions("kmeans", 3, names=parse_labels("dog|cat,boat"))
    report = analyse_groups(vit, [Input(str(path), Path("a"))], options, tmp_path / "out")
    write_report(report, tmp_path / "out")
    found = json.loads((tmp_path / "out/group.json").read_text())["numbers"]["pictures"][0]
    features_PD, _ = vit.encode(read_picture(path).pixels_HW3)
    groups = group(features_PD, "kmeans", 3).numpy()
    counts = np.sort(np.bincount(groups))[::-1] / len(groups)
    assert [segment["share"] for segment in found["segments"]] == pytest.approx(counts[counts > 0].tolist(), abs=1e-5)
    theirs = silhouette_score(features_PD.numpy(), groups, metric="cosine")
    assert found["silhouette"] == pytest.approx(theirs, abs=1e-5)
    assert all(set(segment["names"]) == {"dog", "boat"} for segment in found["segments"])
    with Image.open(tmp_path / "out/a.segments.png") as image:
        assert image.size == (256, 192)


def test_a_number_of_segments_of_its_own_for_every_picture(vit, picture_file, tmp_path):
    inputs = [Input(str(picture_file(f"{seed}.png", seed)), Path(str(seed))) for seed in range(2)]
    report = analyse_groups(vit, inputs, GroupOptions(segments=None), tmp_path / "out")
    for one in report.numbers["pictures"]:
        tried = one["silhouette by number"]
        assert one["silhouette"] == pytest.approx(max(tried.values()))
    assert [figure.name for figure in report.sections[0].figures] == ["group.overview", "group.numbers"]


def test_small_pictures_side_by_side_have_no_legend(vit, picture_file, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(reports, "montage", lambda rows, cell: drawn.append(rows) or montage(rows, cell))
    analyse_groups(vit, [Input(str(picture_file("a.png")), Path("a"))], GroupOptions(), tmp_path)
    (picture_HW3,), (tinted_HW3,) = drawn[0]
    with Image.open(tmp_path / "a.segments.png") as image:
        annotated_HW3 = np.asarray(image)
    dark = {"legend": (annotated_HW3.max(2) < 60).mean(), "sheet": (tinted_HW3.max(2) < 60).mean()}
    assert dark["legend"] > dark["sheet"] + 0.05
    assert tinted_HW3.shape == picture_HW3.shape == annotated_HW3.shape


def test_masks_that_do_not_help(vit, data, picture_file, tmp_path):
    elsewhere = [Input(str(picture_file("a.png")), Path("a"))]
    with pytest.raises(DataError, match="none of these pictures is in"):
        analyse_groups(vit, elsewhere, GroupOptions(masks=data), tmp_path / "out")
    with pytest.raises(DataError, match="labelled folder"):
        analyse_groups(vit, elsewhere, GroupOptions(masks=tmp_path), tmp_path / "out")
    for path in sorted((data / "instances").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (data / "instances").rmdir()
    with pytest.raises(UsageError, match="instances, which has the number of every object"):
        analyse_groups(vit, elsewhere, GroupOptions(masks=data), tmp_path / "out")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"method": "som"}, "--method is 'som'; accepted: pca, kmeans, spectral"),
        ({"segments": 1}, "--segments is 1; accepted: 2 to 64, or auto"),
        ({"segments": 65}, "--segments is 65"),
    ],
)
def test_what_is_not_accepted(fields, words):
    with pytest.raises(UsageError, match=words):
        GroupOptions(**fields)
