"""Outlines: filled again they are the label map, and what they are made of is what the formats ask for."""

import base64
import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from clippy_core.segmentation.writers import WRITERS
from clippy_core.segmentation.writers.labelme import closed_line, simplified
from clippy_core.segmentation.writers.outlines import find_regions

RING = np.array([[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]], np.uint8)
BULLSEYE = np.pad(np.pad(np.pad([[2]], 1, constant_values=1), 1, constant_values=0), 1, constant_values=1)
FALLING = np.array([[1, 0], [0, 1]], np.uint8)
RISING = FALLING[::-1]
LETTER_C = np.array([[1, 1, 1, 0], [1, 0, 0, 1], [1, 1, 1, 1]], np.uint8)  # closes at a corner
CHAIN = np.array([[1, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 1], [1, 1, 1, 1]], np.uint8)  # holes that touch


def filled(rings, shape):
    """Pixels whose centre lies inside an odd number of closed lines: crossings to the left of it are counted."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    crossings = np.zeros(shape, int)
    for ring in rings:
        for (x0, y0), (x1, y1) in zip(ring, [*ring[1:], ring[0]], strict=True):
            if y0 != y1:
                spans = (y > min(y0, y1)) & (y <= max(y0, y1))
                crossings += spans & (x0 + (y - y0) / (y1 - y0) * (x1 - x0) < x)
    return crossings % 2 == 1


def area(ring):
    """By the shoelace formula."""
    x, y = np.array(ring, float).T
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) / 2)


def around(region):
    return [region.outer, *region.holes]


@st.composite
def label_maps(draw):
    """Any map of few labels, with pixels that are not decided, blocky enough to have regions."""
    dtype = draw(st.sampled_from([np.uint8, np.uint16]))
    shape = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    values = st.one_of(st.integers(0, 2), st.just(int(np.iinfo(dtype).max)))
    scale = draw(st.integers(1, 3))
    return draw(arrays(dtype, shape, elements=values)).repeat(scale, axis=0).repeat(scale, axis=1)


def labels_in(label_map):
    return [index for index in range(3) if (label_map == index).any()]


# --- outlines ----------------------------------------------------------------------------------------------------


@settings(max_examples=300)
@given(label_maps())
def test_filled_again_outlines_are_the_label_map(label_map):
    for index, regions in find_regions(label_map, labels_in(label_map)).items():
        rings = [ring for region in regions for ring in around(region)]
        np.testing.assert_array_equal(filled(rings, label_map.shape), label_map == index)
        assert sum(map(area, rings)) == np.sum(label_map == index)


@settings(max_examples=300)
@given(label_maps())
def test_regions_are_apart_turn_the_right_way_and_no_ring_touches_itself(label_map):
    from scipy import ndimage

    for index, regions in find_regions(label_map, labels_in(label_map)).items():
        parts, count = ndimage.label(label_map == index)  # connected by edges
        assert len(regions) == count
        covered = [filled(around(region), label_map.shape) for region in regions]
        for mask in covered:
            number = parts[mask][0]
            np.testing.assert_array_equal(mask, parts == number)
        for region in regions:
            assert area(region.outer) > 0
            assert all(area(hole) < 0 for hole in region.holes)
            for ring in around(region):
                assert len(set(ring)) == len(ring) >= 4
                steps = np.abs(np.diff([*ring, ring[0]], axis=0))
                assert (np.sort(steps, axis=1)[:, 0] == 0).all()  # along rows and columns of pixels only


def test_one_pixel_is_a_square():
    (region,) = find_regions(np.array([[0, 0], [0, 7]], np.uint8), [7])[7]
    assert region.outer == [(1, 1), (2, 1), (2, 2), (1, 2)]
    assert region.holes == []


def test_a_hole_belongs_to_what_surrounds_it():
    (region,) = find_regions(RING, [0])[0]
    assert region.outer == [(0, 0), (4, 0), (4, 4), (0, 4)]
    assert region.holes == [[(1, 1), (1, 3), (3, 3), (3, 1)]]


def test_rings_in_rings_are_regions_of_their_own():
    found = find_regions(BULLSEYE.astype(np.uint8), [0, 1, 2])
    assert [len(region.holes) for region in found[1]] == [1, 1]
    assert [area(region.outer) for region in found[1]] == [49, 9]
    assert [area(region.holes[0]) for region in found[1]] == [-25, -1]
    assert [(area(region.outer), len(region.holes)) for region in found[0]] == [(25, 1)]
    assert [area(region.outer) for region in found[2]] == [1]


@pytest.mark.parametrize("label_map", [FALLING, RISING])
def test_pixels_that_touch_at_a_corner_are_two_regions(label_map):
    for regions in find_regions(label_map, [0, 1]).values():
        assert [area(region.outer) for region in regions] == [1, 1]


def test_a_line_that_closes_at_a_corner_has_a_hole():
    (region,) = find_regions(LETTER_C, [1])[1]
    assert area(region.outer) == 11
    assert [area(hole) for hole in region.holes] == [-2]


def test_holes_that_touch_are_two():
    (region,) = find_regions(CHAIN, [1])[1]
    assert sorted(area(hole) for hole in region.holes) == [-1, -1]


# --- GeoJSON -----------------------------------------------------------------------------------------------------


def test_geojson_is_what_rfc_7946_asks_for_and_gives_the_label_map_back(segmentation, tmp_path):
    label_map = np.random.default_rng(0).integers(0, 3, (12, 17)).repeat(2, axis=0).astype(np.uint8)
    label_map[3:5, 3:9] = 255
    result = segmentation(label_map, ["sky", "żółw", "grass", "absent"])
    (path,) = WRITERS.load("polygons")(result, tmp_path / "photo")
    assert path.name == "photo.geojson"
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["type"] == "FeatureCollection"
    assert (document["image"], document["width"], document["height"]) == ("photo.png", 17, 24)
    assert [feature["properties"]["name"] for feature in document["features"]] == ["sky", "żółw", "grass"]
    again = np.full(label_map.shape, 255)
    for feature in document["features"]:
        assert feature["type"] == "Feature"
        assert feature["geometry"]["type"] == "MultiPolygon"
        for polygon in feature["geometry"]["coordinates"]:
            assert area(polygon[0]) > 0 > max([area(hole) for hole in polygon[1:]], default=-1)
            for ring in polygon:
                assert ring[0] == ring[-1]
                assert len(ring) >= 5
            again[filled(polygon, label_map.shape)] = feature["properties"]["index"]
        assert feature["properties"]["pixels"] == (label_map == feature["properties"]["index"]).sum()
    np.testing.assert_array_equal(again, label_map)


def test_the_background_has_no_outline(segmentation, tmp_path):
    result = segmentation([[0, 1]], ["background", "dog"], has_background=True)
    for name, key in (("polygons", "features"), ("labelme", "shapes")):
        (path,) = WRITERS.load(name)(result, tmp_path / "photo")
        assert len(json.loads(path.read_text())[key]) == 1


@pytest.mark.parametrize(("name", "key"), [("polygons", "features"), ("labelme", "shapes")])
def test_nothing_but_undecided_pixels_has_no_outlines(segmentation, tmp_path, name, key):
    (path,) = WRITERS.load(name)(segmentation([[255, 255]], ["dog"]), tmp_path / "photo")
    assert json.loads(path.read_text())[key] == []


# --- LabelMe -----------------------------------------------------------------------------------------------------


@settings(max_examples=300)
@given(label_maps())
def test_a_region_with_holes_as_one_line_is_the_same_region(label_map):
    for index, regions in find_regions(label_map, labels_in(label_map)).items():
        for region in regions:
            line = closed_line(region, index, label_map)
            np.testing.assert_array_equal(
                filled([line], label_map.shape), filled(around(region), label_map.shape), err_msg=str(line)
            )


def test_the_slit_to_a_hole_by_hand():
    (region,) = find_regions(RING, [0])[0]
    slit = [(1.25, 0), (1.25, 1)]
    hole = [(1, 1), (1, 3), (3, 3), (3, 1)]
    assert closed_line(region, 0, RING) == [(4, 0), (4, 4), (0, 4), (0, 0), *slit, *hole, *slit[::-1]]


def test_smoothed_lines_differ_only_within_two_pixels_of_a_border():
    import cv2

    noise = np.random.default_rng(1).random((8, 10)).astype(np.float32)
    label_map = (cv2.resize(noise, (200, 160), interpolation=cv2.INTER_CUBIC) * 3).clip(0, 2).astype(np.uint8)
    corners = fewer = holes = 0
    for index, regions in find_regions(label_map, [0, 1, 2]).items():
        lines = [closed_line(region, index, label_map) for region in regions]
        smooth = [simplified(line) for line in lines]
        holes += sum(len(region.holes) for region in regions)
        corners, fewer = corners + sum(map(len, lines)), fewer + sum(map(len, smooth))
        mask = label_map == index
        framed = np.pad(mask.view(np.uint8), 2)  # the picture's edge is a border too
        near = cv2.dilate(framed, np.ones((5, 5))) != cv2.erode(framed, np.ones((5, 5)))
        sure = ~near[2:-2, 2:-2]
        again = filled(smooth, label_map.shape)
        np.testing.assert_array_equal(again[sure], mask[sure])
        assert (again & mask).sum() / (again | mask).sum() > 0.95
    assert holes
    assert fewer < corners / 3


def test_labelme_has_the_fields_that_labelme_reads(segmentation, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (4, 4)).save("photos/img.png")
    result = segmentation(RING, ["sky", "dog"], source="photos/img.png")
    (path,) = WRITERS.load("labelme")(result, tmp_path / "out" / "a" / "img")
    document = json.loads(path.read_text(encoding="utf-8"))
    assert path.name == "img.labelme.json"
    assert list(document) == [
        *("version", "flags", "shapes", "imagePath", "imageData", "imageHeight", "imageWidth"),
    ]
    assert (document["imageHeight"], document["imageWidth"], document["imageData"]) == (4, 4, None)
    assert (path.parent / document["imagePath"]).resolve() == tmp_path / "photos" / "img.png"
    for shape, name in zip(document["shapes"], ["sky", "dog"], strict=True):
        assert (shape["label"], shape["shape_type"]) == (name, "polygon")
        assert (shape["group_id"], shape["flags"], shape["mask"]) == (None, {}, None)
        assert all(type(number) is float for point in shape["points"] for number in point)
    np.testing.assert_array_equal(filled([document["shapes"][1]["points"]], (4, 4)), RING == 1)


def test_an_absolute_path_stays_as_given(segmentation, tmp_path):
    Image.new("RGB", (1, 1)).save(tmp_path / "img.png")
    result = segmentation([[0]], source=str(tmp_path / "img.png"))
    (path,) = WRITERS.load("labelme")(result, tmp_path / "out" / "img")
    assert json.loads(path.read_text())["imagePath"] == str(tmp_path / "img.png")


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("image", "image.png"),
        ("-", "stdin.png"),
        ("shard.tar/a/key.jpg", "key.png"),
        ("clip.mp4/frame-000003", None),
    ],
)
def test_a_picture_that_is_no_file_lies_in_the_document(segmentation, tmp_path, source, name):
    result = segmentation([[0, 0], [0, 0]], source=source, colour=(10, 200, 30))
    (path,) = WRITERS.load("labelme")(result, tmp_path / "img")
    document = json.loads(path.read_text())
    assert document["imagePath"] == (name or "frame-000003.png")
    with Image.open(io.BytesIO(base64.b64decode(document["imageData"]))) as image:
        np.testing.assert_array_equal(np.asarray(image), result.picture.pixels_HW3)
