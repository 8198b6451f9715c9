"""The picture a person looks at: every shape and label is drawn, nothing is tinted that should not be."""

import itertools
from contextlib import contextmanager

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from clippy_core.segmentation import overlay
from clippy_core.segmentation.overlay import TINT, draw_overlay, font_for, outline, place_captions, tint

NAMES = {
    "plain": "dog",
    "long": "a very long label that says much more than any legend could ever have the room to show " * 5,
    "one word": "x" * 500,
    "emoji": "🐕👨‍👩‍👧🏳️‍🌈",
    "right to left": "שלום עולם שجرة كبيرة",
    "CJK": "大きな犬と小さな猫",
    "combining": "z̷̢̛a̶l̷g̵o̸",
    "markup": "<b>&amp;%s{}",
}


def stripes(height, width, count):
    """Vertical bands, one a label."""
    return (np.arange(width) * count // width).astype(np.uint8)[None].repeat(height, axis=0)


@pytest.mark.parametrize("count", [1, 2, 40])
@pytest.mark.parametrize(
    ("height", "width"),
    [(1, 1), (1, 100), (100, 1), (2, 3), (300, 3), (3, 300), (40, 2000), (2000, 40), (96, 95), (120, 600), (600, 120)],
)
def test_pictures_of_any_shape_are_drawn_at_their_own_size(segmentation, height, width, count):
    result = segmentation(stripes(height, width, min(count, width)), [f"label {i}" for i in range(count)])
    pixels = draw_overlay(result)
    assert (pixels.shape, pixels.dtype) == ((height, width, 3), np.uint8)


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize(("height", "width"), [(200, 300), (60, 120)])
def test_labels_of_any_text_are_drawn(segmentation, name, height, width):
    result = segmentation(stripes(height, width, 2), [name, "grass"])
    assert draw_overlay(result).shape == (height, width, 3)


@pytest.mark.parametrize("count", [256, 1000])
def test_hundreds_of_labels_are_drawn(segmentation, count):
    label_map = np.arange(200 * 300).reshape(200, 300) * count // 60_000
    result = segmentation(label_map.astype(np.uint16), [f"label {i}" for i in range(count)])
    assert draw_overlay(result).shape == (200, 300, 3)


def test_a_picture_larger_than_the_placing_size_is_drawn(segmentation):
    result = segmentation(stripes(900, 1600, 3))
    changed = draw_overlay(result) != result.picture.pixels_HW3
    assert changed.any(axis=2).mean() > 0.95


def test_the_bands_that_threads_draw_leave_no_seam(segmentation, monkeypatch):
    label_map = np.random.default_rng(0).integers(0, 4, (60, 40)).repeat(20, axis=0).repeat(20, axis=1)
    result = segmentation(label_map)
    result.picture.pixels_HW3[:] = np.random.default_rng(1).integers(0, 256, (1200, 800, 3))
    monkeypatch.setattr(overlay, "BAND_ROWS", 1200)
    whole = draw_overlay(result)
    for rows in (1, 7, 128):
        monkeypatch.setattr(overlay, "BAND_ROWS", rows)
        np.testing.assert_array_equal(draw_overlay(result), whole)


@given(st.floats(0, 60), st.floats(0, 60), st.floats(20, 70), st.floats(10, 40), st.integers(0, 9))
def test_drawing_on_a_part_is_drawing_on_the_picture(x, y, width, height, margin):
    pixels = np.random.default_rng(0).integers(0, 256, (101, 131, 3), np.uint8)
    font = font_for("dog", 12.5)

    def draw_dog(draw, left, top):
        box = (x - left, y - top, x + width - left, y + height - top)
        draw.rounded_rectangle(box, radius=4.5, fill=(200, 10, 10, 205), outline=(20, 20, 20, 160), width=2)
        draw.text((x + 3.3 - left, y + height / 2 - top), "dog", font=font, fill="white", anchor="lm")

    image = Image.fromarray(pixels)
    draw_dog(ImageDraw.Draw(image, "RGBA"), 0, 0)
    with overlay._part(pixels, (x, y, x + width, y + height), margin + 12) as part:
        draw_dog(*part)
    np.testing.assert_array_equal(pixels, np.asarray(image))


# --- tint --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_label_tints_its_region_with_its_colour(segmentation, dtype):
    rng = np.random.default_rng(0)
    result = segmentation(rng.integers(0, 5, (30, 40)).astype(dtype))
    result.picture.pixels_HW3[:] = rng.integers(0, 256, (30, 40, 3))
    want = result.picture.pixels_HW3 * (1 - TINT) + result.colours[result.label_map] * TINT
    assert np.abs(tint(result).astype(float) - want).max() <= 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_background_and_undecided_pixels_keep_their_colour(segmentation, dtype):
    label_map = np.array([[0, 0, 1, 2, np.iinfo(dtype).max]], dtype).repeat(4, axis=0)
    result = segmentation(label_map, ["background", "dog", "grass"], has_background=True)
    result.picture.pixels_HW3[:] = np.random.default_rng(0).integers(0, 256, (4, 5, 3))
    tinted, plain = tint(result), result.picture.pixels_HW3
    np.testing.assert_array_equal(tinted[:, [0, 1, 4]], plain[:, [0, 1, 4]])
    assert (tinted[:, [2, 3]] != plain[:, [2, 3]]).any(axis=2).all()


def test_without_a_background_label_0_is_tinted_like_any_other(segmentation):
    result = segmentation([[0, 0]], ["dog"])
    assert (tint(result) != result.picture.pixels_HW3).any()


def test_a_picture_of_background_only_stays_as_it_is_but_for_the_legend(segmentation):
    result = segmentation(np.zeros((200, 300), np.uint8), ["background", "dog"], has_background=True)
    changed = (draw_overlay(result) != result.picture.pixels_HW3).any(axis=2)
    assert 0 < changed.mean() < 0.1


def test_drawing_leaves_the_picture_and_the_label_map_alone(segmentation):
    result = segmentation(stripes(100, 150, 4))
    pixels, label_map = result.picture.pixels_HW3.copy(), result.label_map.copy()
    draw_overlay(result)
    np.testing.assert_array_equal(result.picture.pixels_HW3, pixels)
    np.testing.assert_array_equal(result.label_map, label_map)


def test_a_read_only_picture_is_drawn(segmentation):
    result = segmentation(stripes(100, 150, 4))
    result.picture.pixels_HW3.setflags(write=False)
    result.label_map.setflags(write=False)
    assert draw_overlay(result).shape == (100, 150, 3)


def test_labels_look_different_in_the_overlay(segmentation):
    result = segmentation(stripes(400, 600, 6))
    image = draw_overlay(result).astype(int)
    middles = [np.median(image[150:180, x - 20 : x + 20].reshape(-1, 3), axis=0) for x in range(50, 600, 100)]
    for a, b in itertools.combinations(middles, 2):
        assert np.abs(a - b).max() > 20


# --- outlines ----------------------------------------------------------------------------------------------------


def test_borders_are_light_lines_with_a_dark_rim():
    label_map = stripes(60, 80, 2)
    pixels = np.full((60, 80, 3), 120, np.uint8)
    outline(label_map, pixels)
    assert (pixels[:, 40] == 255).all()
    assert (pixels[:, [39, 41]] < 120).all()
    assert (pixels[:, :36] == 120).all()
    assert (pixels[:, 45:] == 120).all()


def test_without_a_border_nothing_is_drawn():
    pixels = np.full((20, 30, 3), 120, np.uint8)
    outline(np.zeros((20, 30), np.uint8), pixels)
    assert (pixels == 120).all()


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 12), st.integers(1, 40), st.integers(0, 9))
def test_outlines_drawn_in_bands_are_those_of_the_whole_picture(height, width, block, rows, seed):
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 3, (height // block + 1, width // block + 1)).astype(np.uint8)
    scale = 10 if seed % 2 else 1  # thick strokes, and thin ones
    label_map = small.repeat(block * scale, axis=0).repeat(block * scale, axis=1)[: height * scale, : width * scale]
    pixels = rng.integers(0, 256, (*label_map.shape, 3), np.uint8)
    want = pixels.copy()
    border = np.zeros(label_map.shape, np.uint8)
    border[:, 1:] |= label_map[:, 1:] != label_map[:, :-1]
    border[1:] |= label_map[1:] != label_map[:-1]
    reach = max(1, round(min(label_map.shape) / 360))
    for size, colour in ((2 * reach + 1, overlay.RIM), (reach, overlay.LINE)):
        ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
        want[cv2.dilate(border, ellipse) == 1] = colour
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overlay, "BAND_ROWS", rows)
        outline(label_map, pixels)
    np.testing.assert_array_equal(pixels, want)


# --- captions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(80, 120), (1500, 900)])
def test_names_stand_inside_their_regions(segmentation, height, width):
    label_map = stripes(height, width, 4)
    label_map[height // 2 :, : width // 2] = 3
    captions = place_captions(segmentation(label_map))
    assert {caption.label for caption in captions} == {0, 1, 2, 3}
    for caption in captions:
        assert label_map[int(caption.y), int(caption.x)] == caption.label


def test_a_name_stands_in_the_widest_spot_of_its_region(segmentation):
    label_map = np.zeros((100, 200), np.uint8)
    label_map[45:50, 20:180] = 1  # a thin arm ...
    label_map[30:70, 120:170] = 1  # ... with a broad end
    (caption,) = [caption for caption in place_captions(segmentation(label_map)) if caption.label == 1]
    assert 135 <= caption.x <= 155
    assert 45 <= caption.y <= 55


def test_specks_background_and_undecided_pixels_get_no_name(segmentation):
    label_map = np.zeros((100, 200), np.uint8)
    label_map[:50] = 255
    label_map[90:92, 10:12] = 1
    label_map[60:90, 100:150] = 2
    result = segmentation(label_map, ["background", "speck", "dog"], has_background=True)
    assert [caption.label for caption in place_captions(result)] == [2]


def test_a_label_in_many_places_is_named_at_most_three_times(segmentation):
    label_map = (np.indices((120, 160)) // 20).sum(axis=0) % 2
    captions = place_captions(segmentation(label_map, ["a", "b"]))
    assert [caption.label for caption in captions].count(0) <= 3
    assert [caption.label for caption in captions].count(1) <= 3


# --- legend ------------------------------------------------------------------------------------------------------


def legend(result, monkeypatch):
    """The panel's box and the texts in it: what is written and the box that it takes up in the picture."""
    texts = []
    open_part = overlay._part

    @contextmanager
    def noting(*arguments, **options):
        with open_part(*arguments, **options) as (draw, left, top):
            write = draw.text

            def note(position, text, **style):
                x0, y0, x1, y1 = draw.textbbox(position, text, font=style["font"], anchor=style["anchor"])
                texts.append((text, (x0 + left, y0 + top, x1 + left, y1 + top)))
                write(position, text, **style)

            monkeypatch.setattr(draw, "text", note)
            yield draw, left, top

    monkeypatch.setattr(overlay, "_part", noting)
    pixels = np.zeros((result.height, result.width, 3), np.uint8)
    return overlay._draw_legend(pixels, result, max(10.0, min(result.height, result.width) / 32)), texts


@pytest.mark.parametrize(
    ("height", "width", "names"),
    [
        (400, 600, ["dog", "grass"]),
        (150, 110, ["dog", "a name to shrink for"]),
        (600, 120, ["castle", "blue sky with clouds", "tree", "water", "mountain"]),
        (120, 160, ["castle", "blue sky with clouds", "tree", "water", "mountain"]),
        (200, 2000, [f"label {i}" for i in range(40)]),
        (2000, 200, [f"a rather long label {i}" for i in range(40)]),
    ],
)
def test_the_legend_lies_within_the_picture(segmentation, monkeypatch, height, width, names):
    (left, top, right, bottom), texts = legend(segmentation(stripes(height, width, len(names)), names), monkeypatch)
    assert texts
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    for _, (x0, y0, x1, y1) in texts:
        assert left - 1 <= x0 <= x1 <= right + 1
        assert top - 1 <= y0 <= y1 <= bottom + 1


def test_the_legend_lists_the_labels_found_largest_first(segmentation, monkeypatch):
    label_map = np.zeros((200, 300), np.uint8)
    label_map[:, 200:] = 2
    label_map[:2, :10] = 3
    _, texts = legend(segmentation(label_map, ["sky", "not here", "dog", "speck"]), monkeypatch)
    assert [text for text, _ in texts] == ["sky", "67%", "dog", "33%", "speck", "<1%"]


def test_a_long_legend_says_how_many_it_leaves_out(segmentation, monkeypatch):
    _, texts = legend(segmentation(stripes(600, 800, 40), [f"label {i}" for i in range(40)]), monkeypatch)
    names = [text for text, _ in texts if not text.endswith("%") and text]
    assert len(names) == overlay.MAX_LEGEND_ROWS
    assert names[-1] == "and 25 more"


def test_text_beyond_ascii_gets_a_font_that_is_there():
    for name in NAMES.values():
        assert font_for(name, 12.5).getbbox(name[:20])
