"""What backgrounds do: composing, and effects of a bias that is planted in a fake encoder and worked out by hand.

The fake sees two colours in a picture: the subject's in the middle, the background's in the corner. With a factor of
ln 3 on cosines, a subject multiplies the odds of its class by 3, and a background those of "its" class by 9.
"""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from clippy_core import events
from clippy_core.analysis import maps
from clippy_core.analysis.backgrounds import compose
from clippy_core.analysis.backgrounds.effects import softmax
from clippy_core.analysis.backgrounds.numbers import class_rows, flip_counts, group_rows, headline, subject_rows
from clippy_core.analysis.backgrounds.run import BackgroundsOptions, analyse_backgrounds, find_views, measure
from clippy_core.analysis.report import write_report
from clippy_core.errors import DataError, ImageError, UsageError
from clippy_core.model.dual_encoder import ImageEmbedding
from clippy_core.prompts import parse_labels
from clippy_core.segmentation.segmenter import LabelEmbeddings

CLASSES = {"ball": (255, 0, 0), "cube": (0, 255, 0)}
GROUNDS = {"lawn": (10, 200, 220), "road": (90, 40, 250)}
BELONGS = {"lawn": 0, "road": 1}
SIDE = 40


class Biased:
    """An encoder for which the background counts more than the subject."""

    def __init__(self, subject=1.0, ground=2.0):
        self.weights = subject, ground
        self.config = SimpleNamespace(name="biased", vision=SimpleNamespace(size=SIDE), templates=("{}",))
        self.model = SimpleNamespace(logit_scale=torch.tensor(math.log(math.log(3))))

    def embed_labels(self, labels, options=None):
        of_word = tuple(number for number, label in enumerate(labels) for _ in label.words)
        words_KD = torch.eye(len(labels))[list(of_word)]
        return LabelEmbeddings(tuple(label.name for label in labels), words_KD, of_word)

    def encode_batch(self, pictures, options=None):
        (pixels_HW3,) = pictures
        middle, corner = pixels_HW3[pixels_HW3.shape[0] // 2, pixels_HW3.shape[1] // 2], pixels_HW3[0, 0]
        subject, ground = nearest(middle, CLASSES), nearest(corner, GROUNDS)
        pooled_D = torch.zeros(len(CLASSES))
        pooled_D[subject] += self.weights[0]
        pooled_D[BELONGS[list(GROUNDS)[ground]]] += self.weights[1]
        return ImageEmbedding(pooled_D[None], torch.zeros(1, 1, len(CLASSES)), (1, 1))

    def label(self, features_PD, grid, size, embeddings, options=None):
        """The left half of every picture is a ball, the right half a cube."""
        label_map_HW = np.zeros(size, np.uint8)
        label_map_HW[:, size[1] // 2 :] = 1
        return label_map_HW


def nearest(colour, table):
    return int(np.argmin([np.abs(np.subtract(other, colour.astype(int))).sum() for other in table.values()]))


def save_cutout(path, colour, size=(20, 10), edge=4):
    """A box of one colour with a transparent rim."""
    rgba = np.zeros((size[0] + 2 * edge, size[1] + 2 * edge, 4), np.uint8)
    rgba[edge : edge + size[0], edge : edge + size[1]] = (*colour, 255)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgba).save(path)


@pytest.fixture
def folder(tmp_path):
    for name, colour in CLASSES.items():
        save_cutout(tmp_path / "data/subjects" / f"{name}-1.png", colour)
        save_cutout(tmp_path / "data/subjects" / name / "b.png", colour, size=(10, 20))
    (tmp_path / "data/backgrounds").mkdir()
    for name, colour in GROUNDS.items():
        for number in (1, 2):
            Image.new("RGB", (50, 60), colour).save(tmp_path / f"data/backgrounds/{name}_{number}.png")
    return tmp_path / "data"


@pytest.fixture
def effects(folder):
    options = BackgroundsOptions()
    return measure(Biased(), find_views(Biased(), folder, options), options)


def test_the_planted_bias_is_found_to_the_digit(effects):
    # On its own background 3·9 : 1, on the other 3 : 9.
    own, other = 27 / 28, 3 / 12
    assert effects.subjects == ("ball-1", "cube-1", "ball/b", "cube/b")
    assert effects.grounds == ("lawn_1", "lawn_2", "road_1", "road_2")
    assert effects.kinds == ("lawn", "lawn", "road", "road")
    ball, cube = [own, own, other, other], [other, other, own, own]
    np.testing.assert_allclose(effects.true_SG, [ball, cube, ball, cube], rtol=1e-6)
    half = (own - other) / 2
    np.testing.assert_allclose(effects.change_SG[0], [half, half, -half, -half], rtol=1e-6)
    np.testing.assert_allclose(effects.drop_S, own - other, rtol=1e-6)
    np.testing.assert_allclose(effects.cosine_SG[0], [3, 3, 1, 1])
    np.testing.assert_array_equal(effects.right_SG[0], [1, 1, 0, 0])
    # A cube on a lawn is a ball with 9 : 3, on a road with 1 : 27.
    added = (9 / 12 - 1 / 28) / 2
    np.testing.assert_allclose(effects.push(), [[added, -added], [-added, added]], rtol=1e-6)


def test_the_figures_to_know_first(effects):
    found = headline(effects)
    assert found["average"] == 0.5
    assert found["drop"] == 1.0
    assert found["flips"] == 8
    assert found["drop in probability"] == pytest.approx(27 / 28 - 0.25)
    assert found["mean drop of a subject"] == pytest.approx(27 / 28 - 0.25)
    assert (found["best group"]["accuracy"], found["worst group"]["accuracy"]) == (1.0, 0.0)
    assert [(pull["background"], pull["label"]) for pull in found["push"]] == [("lawn", "ball"), ("road", "cube")]
    assert flip_counts(effects) == [
        {"class": "ball", "on": "road", "becomes": "cube", "times": 4},
        {"class": "cube", "on": "lawn", "becomes": "ball", "times": 4},
    ]
    rows = subject_rows(effects)
    assert [row["taken for"] for row in rows] == [{"cube": 2}, {"ball": 2}, {"cube": 2}, {"ball": 2}]
    assert (rows[0]["right"], rows[0]["pictures"]) == (2, 4)
    assert [row["worst background"] for row in class_rows(effects)] == ["road", "lawn"]
    assert [(row[0], row[1], row[2]) for row in group_rows(effects)[:2]] == [("ball", "road", 4), ("cube", "lawn", 4)]


def test_without_bias_nothing_is_found(folder):
    options = BackgroundsOptions()
    effects = measure(Biased(ground=0.0), find_views(Biased(), folder, options), options)
    np.testing.assert_allclose(effects.true_SG, 0.75)
    np.testing.assert_allclose(effects.drop_S, 0, atol=1e-12)
    assert headline(effects)["flips"] == 0
    assert headline(effects)["push"] == []


def test_the_share_of_own_pixels_is_of_the_subject_alone(effects):
    # Subjects are in the middle, half of each on either side.
    np.testing.assert_allclose(effects.own_SG, 0.5)


def test_probabilities_are_those_of_scipy():
    from scipy.special import softmax as reference

    cosine_K = np.random.default_rng(0).uniform(-1, 1, 9).astype(np.float32)
    np.testing.assert_allclose(softmax(cosine_K, 37.0), reference(37.0 * cosine_K.astype(np.float64)), rtol=1e-9)


def test_a_composition_is_the_over_operator():
    rng = np.random.default_rng(1)
    cutout_hw4 = rng.integers(0, 256, (7, 5, 4)).astype(np.uint8)
    ground_HW3 = rng.integers(0, 256, (11, 11, 3)).astype(np.uint8)
    picture_HW3, own_HW = compose.lay_over(cutout_hw4, ground_HW3)
    expected = Image.fromarray(ground_HW3).convert("RGBA")
    expected.alpha_composite(Image.fromarray(cutout_hw4), (3, 2))
    assert np.abs(picture_HW3.astype(int) - np.asarray(expected.convert("RGB"))).max() <= 1
    np.testing.assert_array_equal(own_HW[2:9, 3:8], cutout_hw4[..., 3] >= 128)
    assert own_HW.sum() == (cutout_hw4[..., 3] >= 128).sum()


@pytest.mark.parametrize(("scale", "longest"), [(0.5, 20), (1.0, 40), (0.05, 2)])
def test_scale_is_the_longer_side_of_what_can_be_seen(folder, scale, longest):
    views = find_views(Biased(), folder, BackgroundsOptions(scale=scale))
    for view in views:
        rows, columns = np.flatnonzero(view.own_HW.any(1)), np.flatnonzero(view.own_HW.any(0))
        assert max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1 == longest
        assert view.pixels_HW3.shape == (SIDE, SIDE, 3)


def test_only_the_background_changes(folder):
    views = [view for view in find_views(Biased(), folder, BackgroundsOptions()) if view.subject == 0]
    first = views[0]
    for view in views[1:]:
        np.testing.assert_array_equal(view.own_HW, first.own_HW)
        np.testing.assert_array_equal(view.pixels_HW3[view.own_HW], first.pixels_HW3[first.own_HW])
    assert len({view.pixels_HW3[0, 0].tobytes() for view in views}) == 2


@pytest.mark.parametrize(
    ("files", "kinds"),
    [
        (["polar_bear.png"], ["polar bear"]),
        (["dog-2.png", "dog (3).png", "dog4.png"], ["dog", "dog", "dog"]),
        (["red fox/1.png", ".hidden/1.png", "red fox/.x.png"], ["red fox"]),
        (["7.png", "7.jpg"], ["7", "7"]),
    ],
)
def test_pictures_are_called_by_file_or_folder(tmp_path, files, kinds):
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_bytes(b"")
    found = compose.find_named(tmp_path)
    assert [named.kind for named in found] == kinds
    assert len({named.name for named in found}) == len(found)


def test_bad_files_are_left_out_and_named(folder):
    (folder / "subjects/bad.png").write_bytes(b"no picture")
    Image.new("RGB", (9, 9)).save(folder / "subjects/opaque.png")
    Image.new("RGBA", (9, 9)).save(folder / "subjects/nothing.png")
    (folder / "backgrounds/torn.jpg").write_bytes(b"\xff\xd8\xff")
    heard = []
    options = BackgroundsOptions()
    effects = measure(Biased(), find_views(Biased(), folder, options), options, heard.append)
    assert len(effects.answers) == 16
    assert effects.labels == ("ball", "cube")
    reasons = dict(effects.failures)
    assert "no transparency" in reasons[str(folder / "subjects/opaque.png")]
    assert "all of it is transparent" in reasons[str(folder / "subjects/nothing.png")]
    assert len(reasons) == 4
    assert sum(isinstance(event, events.ItemFinished) for event in heard) == 16


def empty(folder, pattern):
    for path in folder.glob(pattern):
        path.unlink()


def tear(folder, pattern):
    for path in folder.glob(pattern):
        path.write_bytes(b"torn")


def rename(folder, pattern):
    for path in folder.glob(pattern):
        path.rename(folder / f"x{path.name}")


@pytest.mark.parametrize(
    ("spoil", "pattern", "words"),
    [
        (empty, "backgrounds/[!l]*", None),
        (empty, "backgrounds/*", "no picture in this folder"),
        (tear, "backgrounds/*[!1].png", None),
        (tear, "backgrounds/[!l]*.png|lawn_2", "two or more are needed"),
        (tear, "subjects/**/*.png", "no usable subject"),
        (rename, "backgrounds", "its companion folder is missing"),
        (rename, "*s", "no metadata.csv"),
    ],
)
def test_folders_that_do_not_fit(folder, spoil, pattern, words):
    first, _, more = pattern.partition("|")
    spoil(folder, first)
    if more:
        spoil(folder, f"backgrounds/{more}*")
    if words is None:
        assert len(find_views(Biased(), folder, BackgroundsOptions())) == 8
        return
    with pytest.raises(DataError, match=words) as caught:
        find_views(Biased(), folder, BackgroundsOptions())
    assert "\n" not in str(caught.value)


def test_labels_name_every_subject_and_have_a_rival(folder):
    with pytest.raises(UsageError, match="'cube' by its name"):
        find_views(Biased(), folder, BackgroundsOptions(parse_labels("ball,dog")))
    views = find_views(Biased(), folder, BackgroundsOptions(parse_labels("dog,sphere|Ball,cube")))
    np.testing.assert_array_equal(views.truth_S, [1, 2, 1, 2])
    for path in folder.glob("subjects/**/*"):
        if path.is_file() and "cube" in str(path):
            path.unlink()
    with pytest.raises(UsageError, match="give it rivals"):
        find_views(Biased(), folder, BackgroundsOptions())


@pytest.mark.parametrize(
    ("labels", "error", "words"),
    [
        ("", UsageError, "give it rivals"),
        ("ball,dog", UsageError, "'cube' by its name"),
        ("", DataError, "two or more"),
    ],
)
def test_what_was_left_out_is_named_before_an_error_about_the_rest(folder, labels, error, words):
    torn = sorted(path for path in folder.glob("subjects/**/*") if path.is_file() and "cube" in str(path))
    if labels:
        torn = torn[:1]
    if error is DataError:
        torn = sorted(folder.glob("backgrounds/*"))[1:]
    for path in torn:
        path.write_bytes(b"torn")
    heard = []
    options = BackgroundsOptions(parse_labels(labels) if labels else ())
    with pytest.raises(error, match=words):
        find_views(Biased(), folder, options, heard.append)
    assert sorted(event.text.split(": ")[1] for event in heard) == sorted(map(str, torn))
    assert all(event.serious and event.text.count(event.text.split(": ")[1]) == 1 for event in heard)


@pytest.mark.parametrize("wrong", [{"scale": 0.01}, {"scale": 1.5}, {"scale": math.nan}, {"size": 3}, {"limit": 0}])
def test_options_out_of_range(wrong):
    with pytest.raises(UsageError, match="accepted"):
        BackgroundsOptions(**wrong)


def test_one_class_whatever_its_case(folder):
    save_cutout(folder / "subjects/Ball-7.png", (200, 0, 0))
    views = find_views(Biased(), folder, BackgroundsOptions())
    assert [label.name for label in views.labels] == ["Ball", "cube"]
    np.testing.assert_array_equal(views.truth_S, [0, 0, 1, 0, 1])


def test_a_cutout_is_cut_to_what_is_seen(tmp_path):
    save_cutout(tmp_path / "a.png", (1, 2, 3), size=(6, 4), edge=5)
    cutout_hw4 = compose.read_cutout(tmp_path / "a.png", max_pixels=10_000)
    assert cutout_hw4.shape == (6, 4, 4)
    np.testing.assert_array_equal(cutout_hw4[0, 0], (1, 2, 3, 255))
    with pytest.raises(ImageError, match="limit"):
        compose.read_cutout(tmp_path / "a.png", max_pixels=10)


@pytest.fixture
def birds(tmp_path):
    """Two species on both places, a third on water only; every picture has the colours that the fake looks for."""
    colours, places = list(CLASSES.values()), list(GROUNDS.values())
    rows = ["img_id,img_filename,y,split,place,place_filename"]
    kinds = [("001.Black_Tern", 0, (0, 0, 1)), ("002.Grey_Gull", 1, (0, 1, 1)), ("003.Loon", 1, (1,))]
    for species, kind, seen in kinds:
        for number, place in enumerate(seen):
            pixels_HW3 = np.zeros((60, 50, 3), np.uint8)
            pixels_HW3[:] = places[place]
            pixels_HW3[20:40, 15:35] = colours[kind]
            path = tmp_path / "birds" / species / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels_HW3).save(path)
            rows.append(f"{len(rows)},{species}/{number}.png,{kind},2,{place},x.jpg")
    (tmp_path / "birds/metadata.csv").write_text("\n".join(rows))
    return tmp_path / "birds"


def test_waterbirds_by_species_and_place(birds):
    options = BackgroundsOptions()
    effects = measure(Biased(), find_views(Biased(), birds, options), options)
    assert effects.subjects == ("Black Tern", "Grey Gull", "Loon")
    own, other = 27 / 28, 3 / 12
    np.testing.assert_allclose(effects.true_SG, [[own, other], [other, own], [math.nan, own]], rtol=1e-6)
    np.testing.assert_array_equal(effects.count_SG, [[2, 1], [1, 2], [0, 1]])
    assert np.isnan(effects.own_SG).all()
    # Groups weigh pictures, not species: three waterbirds on water, one on land.
    np.testing.assert_allclose(effects.by_group(effects.true_SG), [[own, other], [other, own]], rtol=1e-6)
    assert [row[2] for row in group_rows(effects)] == [1, 1, 3, 2]
    assert headline(effects)["average"] == pytest.approx(5 / 7)


def test_waterbirds_with_a_limit_and_a_bad_picture(birds):
    (birds / "002.Grey_Gull/0.png").write_bytes(b"torn")
    options = BackgroundsOptions()
    effects = measure(Biased(), find_views(Biased(), birds, options), options)
    assert [path.rpartition("/")[2] for path, _ in effects.failures] == ["0.png"]
    assert effects.count_SG.sum() == 6
    assert len(find_views(Biased(), birds, BackgroundsOptions(limit=3))) == 3


@pytest.mark.parametrize("layout", ["folder", "birds"])
def test_the_report_of_either_layout(layout, request, tmp_path):
    effects, report = analyse_backgrounds(Biased(), request.getfixturevalue(layout), BackgroundsOptions())
    files = write_report(report, tmp_path / "out")
    names = {file.name for file in files}
    assert {"backgrounds.groups.png", "backgrounds.worst.png", "report.html", "backgrounds.json"} <= names
    assert report.main == "backgrounds.groups"
    assert report.numbers["drop"] == headline(effects)["drop"]
    assert "lawn adds" in report.lead or "land adds" in report.lead


@pytest.mark.parametrize(("rows", "letters"), [(1, 3), (2, 28), (2, 90), (30, 28)])
def test_what_colours_mean_is_written_whole(monkeypatch, rows, letters):
    drawn = []
    monkeypatch.setattr(maps, "figure_png", lambda plot: drawn.append(plot) or b"")
    shade = maps.Shade("RdBu", -1, 1, "change against the average background, points")
    maps.heat_map(np.zeros((rows, 3)), ["row"] * rows, ["c" * letters] * 3, shade)
    (plot,) = drawn
    plot.canvas.draw()
    words = plot.axes[-1].yaxis.label
    assert words.get_text().replace("\n", " ") == shade.meaning
    box = words.get_window_extent()
    assert box.y0 >= 0
    assert box.y1 <= plot.bbox.y1
