"""Pictures and labels in one map: neighbours, duplicates, clusters and places against scikit-learn and by hand."""

import csv
import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance

from clippy_core import events
from clippy_core.analysis.embed import run as embed
from clippy_core.analysis.embed.clusters import call_clusters, centre, cluster
from clippy_core.analysis.embed.duplicates import Duplicate, find_duplicates, groups, perceptual_hash
from clippy_core.analysis.embed.report import short_names, to_csv
from clippy_core.analysis.embed.run import EmbedOptions, Gallery, analyse_embed, arrange, look_at_all, nearest
from clippy_core.analysis.maps import _apart, _one_a_cell, project
from clippy_core.analysis.report import write_report
from clippy_core.analysis.sheets import Tile, sheet
from clippy_core.analysis.words import Words
from clippy_core.errors import DataError, UsageError
from clippy_core.model.dual_encoder import ImageEmbedding
from clippy_core.prompts import parse_labels
from clippy_core.segmentation.inputs import find_inputs
from clippy_core.segmentation.segmenter import LabelEmbeddings

LABELS = parse_labels("red,green,blue")


class Colours:
    """An encoder whose embedding is the mean colour, and whose labels are the three primaries."""

    def __init__(self):
        self.config = SimpleNamespace(name="colours", vision=SimpleNamespace(size=32), templates=("{}",))
        self.model = SimpleNamespace(logit_scale=torch.tensor(np.log(10.0)))

    def embed_labels(self, labels, options=None):
        return LabelEmbeddings(
            tuple(label.name for label in labels), torch.eye(3)[: len(labels)], (0, 1, 2)[: len(labels)]
        )

    def encode_batch(self, pictures, options=None):
        mean_3 = torch.tensor(pictures[0].mean((0, 1)) + 1e-3)
        return ImageEmbedding(torch.nn.functional.normalize(mean_3, dim=0)[None].float(), torch.zeros(1, 1, 3), (1, 1))


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def textured(seed, size=(120, 90)):
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 12, 3)).astype(np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


@pytest.mark.parametrize("block", [7, 512])
def test_neighbours_are_scikit_learns(monkeypatch, block):
    from sklearn.neighbors import NearestNeighbors

    monkeypatch.setattr(embed, "BLOCK", block)
    vectors_ND = unit(np.random.default_rng(0).normal(size=(30, 8)))
    places_NT, cosines_NT = nearest(vectors_ND, 6)
    distances, expected = NearestNeighbors(n_neighbors=7, metric="cosine").fit(vectors_ND).kneighbors(vectors_ND)
    np.testing.assert_array_equal(places_NT, expected[:, 1:])
    np.testing.assert_allclose(cosines_NT, 1 - distances[:, 1:], atol=1e-6)


def test_neighbours_of_few():
    places_NT, _ = nearest(unit(np.eye(3)[:2]), 6)
    np.testing.assert_array_equal(places_NT, [[1], [0]])
    assert nearest(unit(np.eye(3)[:1]), 6)[0].shape == (1, 0)


def test_the_hash_says_where_it_becomes_brighter():
    # Nine columns of ten pixels: brighter to the right four times, darker four times, the same in all eight rows.
    levels_9 = np.array([0, 50, 100, 150, 200, 150, 100, 50, 0], np.uint8)
    grey_HW = np.repeat(np.tile(levels_9, (80, 1)), 10, axis=1)
    assert perceptual_hash(np.dstack([grey_HW] * 3)) == int("11110000" * 8, 2)
    assert perceptual_hash(np.full((40, 50, 3), 7, np.uint8)) == 0
    noisy_HW = 200 + np.random.default_rng(0).integers(0, 3, (8, 9))
    assert perceptual_hash(np.dstack([noisy_HW.astype(np.uint8)] * 3)) == 0


def test_a_picture_saved_again_is_alike_and_another_is_not():
    picture = textured(1)
    first = perceptual_hash(np.asarray(picture))
    buffer = io.BytesIO()
    ImageEnhance.Brightness(picture).enhance(0.8).resize((70, 50)).save(buffer, "JPEG", quality=40)
    again = perceptual_hash(np.asarray(Image.open(buffer)))
    assert (first ^ again).bit_count() <= 10
    others = [perceptual_hash(np.asarray(textured(seed))) for seed in range(2, 30)]
    assert min((first ^ other).bit_count() for other in others) > 10


def test_duplicates_are_alike_to_the_model_and_to_the_eye():
    vectors_ND = unit(np.array([[1, 0, 0], [1, 0.01, 0], [1, 0, 0.01], [0, 1, 0], [1, 0.02, 0]]))
    hash_N = np.array([0, 0b111, 0xFFFF << 30, 0, 0b1111111], np.uint64)
    pairs, copies = find_duplicates(vectors_ND, hash_N, 0.97)
    # The third differs in 16 bits, the fourth in its cosine.
    assert {(pair.one, pair.other, pair.bits) for pair in pairs} == {(0, 1, 3), (1, 4, 4), (0, 4, 7)}
    assert [pair.cosine for pair in pairs] == sorted((pair.cosine for pair in pairs), reverse=True)
    assert copies == [(0, 1, 4)]
    assert find_duplicates(vectors_ND, hash_N, 0.9999999)[1] == []
    assert find_duplicates(vectors_ND, hash_N, -1.0)[1] == [(0, 1, 3, 4)]


def test_groups_are_joined_through_others():
    pairs = [Duplicate(4, 5, 1, 0), Duplicate(1, 2, 1, 0), Duplicate(0, 2, 1, 0), Duplicate(5, 7, 1, 0)]
    assert groups(pairs) == [(0, 1, 2), (4, 5, 7)]


@pytest.mark.parametrize("wanted", [None, 3])
def test_clusters_are_those_that_were_made(wanted):
    from sklearn.metrics import adjusted_rand_score, silhouette_score

    rng = np.random.default_rng(5)
    truth_N = np.repeat([0, 1, 2], [20, 12, 6])
    vectors_ND = unit(np.eye(5)[truth_N] + 0.5 + rng.normal(size=(38, 5)) * 0.05)
    cluster_N, silhouette = cluster(vectors_ND, wanted)
    assert adjusted_rand_score(truth_N, cluster_N) == 1
    np.testing.assert_array_equal(np.bincount(cluster_N), [20, 12, 6])
    assert silhouette == pytest.approx(silhouette_score(centre(vectors_ND), truth_N), abs=1e-6)


@pytest.mark.parametrize(
    ("count", "wanted", "expected"), [(1, None, 1), (3, None, 1), (3, 2, 2), (3, 9, 3), (6, 1, 1), (5, None, None)]
)
def test_clusters_of_few(count, wanted, expected):
    vectors_ND = unit(np.random.default_rng(6).normal(size=(count, 4)))
    cluster_N, _ = cluster(vectors_ND, wanted)
    assert cluster_N.shape == (count,)
    if expected:
        assert len(np.unique(cluster_N)) == expected


def test_copies_of_one_picture_are_one_cluster():
    cluster_N, silhouette = cluster(unit(np.ones((9, 4))), None)
    assert not cluster_N.any()
    assert np.isnan(silhouette)


def test_a_cluster_is_called_by_what_sets_it_apart():
    # The second label is higher everywhere, but no more so in one cluster than in the other.
    cosine_NK = np.array([[0.3, 0.8, 0.1], [0.4, 0.8, 0.1], [0.1, 0.8, 0.2], [0.1, 0.8, 0.4]])
    assert call_clusters(cosine_NK, np.array([0, 0, 1, 1]), "abc") == ("a", "c")
    assert call_clusters(cosine_NK, np.zeros(4, int), "abc") == ("b",)


def test_principal_components_are_those_of_an_svd():
    vectors_ND = np.random.default_rng(7).normal(size=(20, 6))
    at_N2 = project(vectors_ND, "pca")
    left, values, _ = np.linalg.svd(vectors_ND - vectors_ND.mean(0), full_matrices=False)
    np.testing.assert_allclose(np.abs(at_N2), np.abs(left[:, :2] * values[:2]), atol=1e-9)


def test_the_map_keeps_neighbourhoods_and_repeats_itself():
    rng = np.random.default_rng(8)
    truth_N = np.repeat([0, 1, 2], 15)
    vectors_ND = unit(np.eye(16)[truth_N] + rng.normal(size=(45, 16)) * 0.05)
    at_N2 = project(vectors_ND)
    np.testing.assert_array_equal(at_N2, project(vectors_ND))
    distances_NN = np.linalg.norm(at_N2[:, None] - at_N2[None], axis=2) + 1e9 * np.eye(45)
    np.testing.assert_array_equal(truth_N[distances_NN.argmin(1)], truth_N)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("method", ["tsne", "pca"])
def test_a_map_of_few(count, method):
    at_N2 = project(unit(np.random.default_rng(9).normal(size=(count, 5))), method)
    assert at_N2.shape == (count, 2)
    assert np.isfinite(at_N2).all()


def test_one_picture_a_cell_the_nearest_to_its_middle():
    middle = 0.5 / 22
    place_N2 = np.array([[0.001, 0.001], [middle, middle], [0.9, 0.9], [1.0, 1.0]])
    np.testing.assert_array_equal(_one_a_cell(place_N2), [1, 2, 3])


def test_words_do_not_hide_each_other():
    place_N2 = np.full((12, 2), 0.5)
    moved_N2 = _apart(place_N2, ["word"] * 12)
    np.testing.assert_array_equal(moved_N2[:, 0], 0.5)
    assert np.diff(np.sort(moved_N2[:, 1])).min() > 0.03


def test_a_sheet_has_a_row_for_each_and_room_for_its_words():
    tile = Tile(np.full((30, 60, 3), 200, np.uint8), ("a name that is far too long for its place", "0.5"), "bad")
    page_HW3 = sheet([("first", [tile, tile]), ("second", [tile])], cell=64)
    assert page_HW3.shape[1] == 2 * (64 + 8) + 8
    # Below its heading, the first picture has its frame's colour at the edge and its own inside.
    top, left = 8 + 24, 8
    np.testing.assert_array_equal(page_HW3[top, left], (200, 60, 30))
    np.testing.assert_array_equal(page_HW3[top + 16, left + 32], (200, 200, 200))
    # Words stay under their own picture.
    assert (page_HW3[top + 33 : top + 60, left + 64 : left + 72] == 255).all()
    assert (page_HW3[top + 33 : top + 60, left : left + 64] < 255).any()


@pytest.mark.parametrize(
    ("sources", "names"),
    [
        (["/a/b/1.png", "/a/b/2.png"], ["1.png", "2.png"]),
        (["/a/b/1.png", "/a/c/2.png"], ["b/1.png", "c/2.png"]),
        (["d/1.png"], ["1.png"]),
        (["1.png", "/a/2.png"], ["1.png", "/a/2.png"]),
        (["-", "1.png"], ["-", "1.png"]),
    ],
)
def test_names_leave_out_what_is_common(sources, names):
    assert short_names(sources) == names


@pytest.fixture
def folder(tmp_path):
    """Six pictures of colours, one of them twice, and one that is none."""
    colours = {"r1": (250, 9, 9), "r2": (200, 40, 20), "g1": (5, 240, 10), "g2": (40, 180, 60), "b1": (9, 9, 200)}
    (tmp_path / "in").mkdir()
    for number, (name, colour) in enumerate(colours.items()):
        picture = Image.blend(textured(number), Image.new("RGB", (120, 90), colour), 0.8)
        picture.save(tmp_path / "in" / f"{name}.png")
    Image.open(tmp_path / "in/g1.png").resize((60, 45)).save(tmp_path / "in/g1-small.png")
    (tmp_path / "in/torn.png").write_bytes(b"torn")
    return tmp_path / "in"


def test_a_folder_from_end_to_end(folder, tmp_path):
    heard = []
    inputs = find_inputs([str(folder)], tmp_path / "out")
    found, report = analyse_embed(Colours(), inputs, EmbedOptions(LABELS), tmp_path / "out", heard.append)
    by_name = {source.rpartition("/")[2]: place for place, source in enumerate(found.gallery.sources)}
    said = {name: found.names[found.label_N[place]] for name, place in by_name.items()}
    assert said == {
        "b1.png": "blue",
        "g1-small.png": "green",
        "g1.png": "green",
        "g2.png": "green",
        "r1.png": "red",
        "r2.png": "red",
    }
    assert [tuple(found.gallery.sources[place].rpartition("/")[2] for place in group) for group in found.copies] == [
        ("g1-small.png", "g1.png")
    ]
    assert [path.rpartition("/")[2] for path, _ in found.gallery.failures] == ["torn.png"]
    assert sum(isinstance(event, events.ItemFinished) for event in heard) == 7
    files = write_report(report, tmp_path / "out")
    assert {"embed.map.png", "embed.labels.png", "embed.duplicates.png", "report.html"} <= {file.name for file in files}
    assert report.numbers["left out"][0]["picture"].endswith("torn.png")
    with open(tmp_path / "out/embed.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["picture"] for row in rows] == list(found.gallery.sources)
    assert [row["label1"] for row in rows] == [said[row["picture"].rpartition("/")[2]] for row in rows]
    copy = next(row for row in rows if row["picture"].endswith("/g1.png"))
    assert copy["copy_of"].endswith("g1-small.png")
    assert copy["nearest_picture"].endswith("g1-small.png")


def test_probabilities_and_relative_labels():
    from scipy.special import softmax

    pooled_ND = unit(np.array([[3, 2.9, 0.1], [3, 1, 0.1], [3, 1, 0.9]]))
    gallery = Gallery(
        ("a", "b", "c"), pooled_ND, np.arange(3, dtype=np.uint64), [np.zeros((2, 2, 3), np.uint8)] * 3, [], 1
    )
    words = Words(("x", "y", "z"), np.eye(3, dtype=np.float32), np.arange(3))
    found = arrange(gallery, words, 10.0, EmbedOptions(LABELS))
    np.testing.assert_allclose(found.probability_NK, softmax(10 * pooled_ND.astype(float), axis=1), rtol=1e-5)
    np.testing.assert_array_equal(found.label_N, [0, 0, 0])
    # x is high for all; what sets the pictures apart is y for the first and z for the last.
    np.testing.assert_array_equal(found.relative_N, [1, 0, 2])
    expected = np.linalg.norm(pooled_ND.mean(0) - np.full(3, 1 / 3))
    assert found.gap == pytest.approx(expected, abs=1e-6)
    assert found.timing["images/s"] == 3


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("labels", ["red", "red,green"])
def test_one_picture_or_one_label_is_enough(tmp_path, count, labels):
    for number in range(count):
        textured(number).save(tmp_path / f"{number}.png")
    inputs = find_inputs([str(tmp_path)], tmp_path / "out")
    found, report = analyse_embed(Colours(), inputs, EmbedOptions(parse_labels(labels)), tmp_path / "out")
    write_report(report, tmp_path / "out")
    assert len(found.at_N2) == count
    assert to_csv(found).count("\n") == count + 1


def test_what_is_kept_of_a_picture_is_small(folder, tmp_path):
    Image.new("RGB", (3000, 2000), (9, 200, 9)).save(folder / "large.png")
    gallery = look_at_all(Colours(), find_inputs([str(folder)], tmp_path / "out"), EmbedOptions(LABELS))
    assert max(max(picture.shape) for picture in gallery.small) <= 112
    # A view into a batch, or into the decoded picture, would keep all of it alive.
    assert all(picture.base is None or picture.base.nbytes <= 112 * 112 * 3 for picture in gallery.small)


def test_no_usable_picture(tmp_path):
    (tmp_path / "a.png").write_bytes(b"torn")
    with pytest.raises(DataError, match=r"a\.png"):
        look_at_all(Colours(), find_inputs([str(tmp_path)], tmp_path / "out"), EmbedOptions(LABELS))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"labels": ()}, "--labels"),
        ({"projection": "umap"}, "accepted: tsne, pca"),
        ({"duplicates": 1.5}, "-1 to 1"),
        ({"duplicates": float("nan")}, "-1 to 1"),
        ({"clusters": 0}, "1 or more"),
        ({"size": 7}, "--size is 7"),
        ({"templates": ("photo",)}, "exactly once"),
    ],
)
def test_mistakes(wrong, words):
    with pytest.raises(UsageError) as caught:
        EmbedOptions(**({"labels": LABELS} | wrong))
    assert words in str(caught.value)
