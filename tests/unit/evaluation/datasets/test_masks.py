"""Reading masks: every kind of file, turned pictures, and files that are no masks."""

import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from clippy_core.errors import DataError
from clippy_core.evaluation.dense.dataset import Example
from clippy_core.evaluation.dense.masks import look_up, numbered_from_one, read_colours, read_values, table
from clippy_core.images import read_picture

VALUES_HW = np.random.default_rng(0).integers(0, 2, (5, 9)).astype(np.uint8)


@pytest.fixture
def example(tmp_path):
    Image.new("RGB", (9, 5)).save(tmp_path / "picture.jpg")
    return Example("picture", tmp_path / "picture.jpg")


def png(values_HW, bits, colour_type=0):
    """A PNG written by hand, ``bits`` a pixel; grey (0) or palette (3)."""

    def chunk(kind, data):
        return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)

    height, width = values_HW.shape
    bits_HWB = values_HW[..., None] >> np.arange(bits)[::-1] & 1
    rows = [b"\0" + np.packbits(row.ravel().astype(np.uint8)).tobytes() for row in bits_HWB]
    head = width.to_bytes(4) + height.to_bytes(4) + bytes([bits, colour_type, 0, 0, 0])
    palette = chunk(b"PLTE", bytes(range(2**bits)) * 3) if colour_type == 3 else b""
    body = chunk(b"IDAT", zlib.compress(b"".join(rows)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + palette + body + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("bits", "colour_type"), [(1, 0), (2, 0), (4, 0), (8, 0), (16, 0), (1, 3), (2, 3), (4, 3), (8, 3)]
)
def test_values_are_those_in_the_file(tmp_path, example, bits, colour_type):
    values_HW = np.random.default_rng(bits).integers(0, 2**bits, (5, 9))
    path = tmp_path / "mask.png"
    path.write_bytes(png(values_HW, bits, colour_type))
    found_HW = read_values(path, example)
    assert found_HW.dtype == (np.uint16 if bits == 16 else np.uint8)
    assert np.array_equal(found_HW, values_HW)


@pytest.mark.parametrize("suffix", ["tif", "bmp", "gif", "pgm"])
def test_other_formats_without_loss_are_read(tmp_path, example, suffix):
    path = tmp_path / f"mask.{suffix}"
    Image.fromarray(VALUES_HW).save(path)
    assert np.array_equal(read_values(path, example), VALUES_HW)


def test_colours_of_a_palette_mean_nothing(tmp_path, example):
    found = []
    for seed in (1, 2):
        image = Image.frombytes("P", (9, 5), VALUES_HW.tobytes())
        image.putpalette(np.random.default_rng(seed).integers(0, 256, 768).astype(np.uint8).tobytes())
        image.save(tmp_path / "mask.png")
        found.append(read_values(tmp_path / "mask.png", example))
    assert all(np.array_equal(found_HW, VALUES_HW) for found_HW in found)


def test_the_palette_of_the_miniatures_is_that_of_voc(miniatures, tmp_path):
    truth = miniatures.MAKERS["voc"](tmp_path, seed=0)
    with Image.open(truth.data / "VOC2012" / "SegmentationClass" / "2007_000033.png") as image:
        colours_N3 = np.array(image.getpalette()).reshape(-1, 3)
    # Background, aeroplane, person, tv monitor, void: as printed in the development kit.
    assert colours_N3[[0, 1, 15, 20]].tolist() == [[0, 0, 0], [128, 0, 0], [192, 128, 128], [0, 64, 128]]
    assert colours_N3[255].tolist() == [224, 224, 192]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("drawn_on", ["displayed", "stored"])
def test_masks_lie_on_the_picture_as_displayed(tmp_path, orientation, drawn_on):
    """The picture shows its own mask, so both must agree however they were stored."""
    stored_HW3 = np.random.default_rng(0).integers(0, 255, (5, 9, 3)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored_HW3).save(tmp_path / "picture.png", exif=exif)
    with Image.open(tmp_path / "picture.png") as image:
        displayed_HW3 = np.asarray(ImageOps.exif_transpose(image))
    turned = drawn_on == "displayed" or orientation < 5  # Of two readings of one size the displayed one is taken.
    drawn_HW3 = displayed_HW3 if turned else stored_HW3
    Image.fromarray(drawn_HW3[..., 0]).save(tmp_path / "mask.png")
    Image.fromarray(drawn_HW3).save(tmp_path / "colours.png")
    example = Example("picture", tmp_path / "picture.png")
    seen_HW3 = read_picture(example.image).pixels_HW3
    assert np.array_equal(read_values(tmp_path / "mask.png", example), seen_HW3[..., 0])
    assert np.array_equal(read_colours(tmp_path / "colours.png", example), seen_HW3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a picture in an accepted format"),
        (b"text", "not a picture in an accepted format"),
        (png(VALUES_HW, 8)[:60], "damaged or cannot be read"),
        (png(VALUES_HW, 8)[:-30], "damaged or cannot be read"),
        (png(VALUES_HW[:, :8], 8), "8×5 pixels, but .*picture.jpg has 9×5; a mask has the size of its picture"),
        (png(VALUES_HW.T, 8), "5×9 pixels, but .*picture.jpg has 9×5"),
    ],
)
def test_files_that_are_no_masks_are_named(tmp_path, example, content, message):
    path = tmp_path / "mask.png"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_values(path, example)
    assert str(caught.value).startswith(str(path))


def test_pictures_that_are_no_masks_are_named(tmp_path, example):
    Image.new("RGB", (9, 5)).save(tmp_path / "mask.png")
    with pytest.raises(DataError, match="mode RGB; a mask has one number a pixel"):
        read_values(tmp_path / "mask.png", example)
    Image.new("L", (9, 5)).save(tmp_path / "grey.png")
    with pytest.raises(DataError, match="mode L; an RGB picture is expected"):
        read_colours(tmp_path / "grey.png", example)
    Image.new("L", (9, 5)).save(tmp_path / "mask.jpg")
    with pytest.raises(DataError, match=r"not a picture in an accepted format \(PNG, TIFF"):
        read_values(tmp_path / "mask.jpg", example)
    with pytest.raises(DataError, match=r"nowhere.png: no such file"):
        read_values(tmp_path / "nowhere.png", example)
    Image.fromarray(np.full((5, 9), -1, np.int32)).save(tmp_path / "mask.tif")
    with pytest.raises(DataError, match="values from -1 to -1; at most 16 bits"):
        read_values(tmp_path / "mask.tif", example)
    example.image.unlink()
    with pytest.raises(DataError, match=r"picture.jpg: no such file"):
        read_colours(tmp_path / "mask.png", example)


def test_tables(tmp_path):
    values_HW = np.array([[3, 5, 255], [5, 0, 3]], np.uint16)
    path = tmp_path / "mask.png"
    table_V = table({3: 0, 5: 1, 0: 7}, ignored=(255,))
    assert look_up(values_HW, table_V, path).tolist() == [[0, 1, 255], [1, 7, 0]]
    values_HW[0] = 4, 256, 9
    with pytest.raises(DataError, match=r"mask.png: 3 pixels have values that stand for no class \(4, 9, 256\)"):
        look_up(values_HW, table_V, path)
    assert look_up(values_HW[:1], table({4: 1}, other=0, size=257), path).tolist() == [[1, 0, 0]]


def test_objects_are_numbered_in_the_order_of_their_values():
    values_HW = np.array([[70_000, 5, 5], [9, 9, 123_456]])
    assert numbered_from_one(values_HW, values_HW != 9).tolist() == [[2, 1, 1], [0, 0, 3]]
    assert numbered_from_one(values_HW, values_HW < 0).tolist() == [[0, 0, 0], [0, 0, 0]]
