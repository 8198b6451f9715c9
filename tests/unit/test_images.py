"""Any picture becomes 8-bit sRGB as a person sees it: orientation, depth, colour models, transparency, arrays."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from clippy_core.errors import ImageError
from clippy_core.images import FORMATS, MAX_ASPECT, SUFFIXES, Picture, read_picture, to_picture

RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth, colour_type, rows, extra=b""):
    """A PNG written by hand, for what Pillow reads but does not write."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    body = b"".join(b"\0" + row for row in rows)
    parts = [chunk(b"IHDR", header), extra, chunk(b"IDAT", zlib.compress(body)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def asymmetric():
    """4 high, 6 wide in blocks of 16 pixels, no two of them alike: every turn and flip of it is another picture."""
    values = np.linspace(20, 235, 24).astype(np.uint8).reshape(4, 6)
    blocks = np.stack([values, values[::-1, ::-1], np.roll(values, 7)], axis=-1)
    return blocks.repeat(16, axis=0).repeat(16, axis=1)


# EXIF 2.32, table 6: what the stored rows and columns are in the picture as displayed.
DISPLAYED = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels),
}


@pytest.mark.parametrize("orientation", DISPLAYED)
@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [
        pytest.param("PNG", {}, 0, id="PNG"),
        pytest.param("TIFF", {}, 0, id="TIFF"),
        pytest.param("TIFF", {"compression": "tiff_lzw"}, 0, id="TIFF-LZW"),
        pytest.param("WEBP", {"lossless": True}, 0, id="WebP"),
        pytest.param("JPEG", {"quality": 95, "subsampling": 0}, 4, id="JPEG"),
        pytest.param("AVIF", {"quality": 95, "subsampling": "4:4:4"}, 8, id="AVIF"),
    ],
)
def test_exif_orientation_is_applied(kind, options, tolerance, orientation):
    stored = asymmetric()
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(stored), kind, exif=exif, **options)
    read = read_picture(data).pixels_HW3
    want = DISPLAYED[orientation](stored)
    assert read.shape == want.shape
    assert np.abs(read.astype(int) - want).max() <= tolerance
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(read, np.asarray(ImageOps.exif_transpose(image).convert("RGB")))


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_ignored(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(asymmetric()), "PNG", exif=exif)
    np.testing.assert_array_equal(read_picture(data).pixels_HW3, asymmetric())


def test_orientation_of_a_16_bit_or_transparent_picture_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6
    wide = Image.fromarray(np.array([[0, 65535, 0], [0, 0, 0]], np.uint16))
    np.testing.assert_array_equal(
        read_picture(encoded(wide, "PNG", exif=exif)).pixels_HW3[..., 0], [[0, 0], [0, 255], [0, 0]]
    )
    clear = Image.fromarray(np.array([[[9, 9, 9, 0], [9, 9, 9, 255], [9, 9, 9, 0]]], np.uint8))
    np.testing.assert_array_equal(
        read_picture(encoded(clear, "PNG", exif=exif)).pixels_HW3[..., 0], [[255], [9], [255]]
    )


SIXTEEN = np.array([[0, 1, 128, 255, 256], [257, 32767, 32768, 65534, 65535]], np.uint16)
SCALED = np.rint(SIXTEEN / 65535 * 255).astype(np.uint8)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(encoded(Image.fromarray(SIXTEEN), "PNG"), id="PNG"),
        pytest.param(encoded(Image.fromarray(SIXTEEN), "TIFF"), id="TIFF"),
        pytest.param(encoded(Image.fromarray(SIXTEEN), "TIFF", compression="tiff_deflate"), id="TIFF-deflate"),
        pytest.param(encoded(Image.fromarray(SIXTEEN.astype(">u2")), "TIFF"), id="TIFF-big-endian"),
        pytest.param(b"P5 5 2 65535\n" + SIXTEEN.astype(">u2").tobytes(), id="PGM"),
    ],
)
def test_16_bit_grey_is_scaled_not_clipped(data):
    read = read_picture(data).pixels_HW3
    np.testing.assert_array_equal(read, SCALED[..., None].repeat(3, axis=2))


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(np.array([[0, 65536]], np.int32), id="beyond 16 bits"),
        pytest.param(np.array([[0, 255]], np.int32), id="32-bit integers with low values"),
        pytest.param(np.array([[-1, 5]], np.int32), id="negative"),
        pytest.param(np.array([[0.0, 0.5]], np.float32), id="floating point"),
    ],
)
def test_pixels_without_a_known_range_are_refused(values):
    kind = "floating-point" if values.dtype.kind == "f" else "signed or 32-bit integer"
    message = f"^image: {kind} pixels have no defined range; accepted: unsigned, up to 16 bits$"
    with pytest.raises(ImageError, match=message):
        read_picture(encoded(Image.fromarray(values), "TIFF"))
    with pytest.raises(ImageError, match=message):
        to_picture(Image.fromarray(values))


def test_a_pil_image_of_a_16_bit_file_is_scaled_though_pillow_keeps_it_in_32_bits():
    with Image.open(io.BytesIO(b"P5 5 2 65535\n" + SIXTEEN.astype(">u2").tobytes())) as image:
        np.testing.assert_array_equal(to_picture(image).pixels_HW3[..., 0], SCALED)


def test_16_bits_a_channel_keep_their_top_8():
    colour = png(1, 1, 16, 2, [struct.pack(">3H", 0xFFFF, 0x8000, 0x0000)])
    assert read_picture(colour).pixels_HW3.tolist() == [[[255, 128, 0]]]
    with_alpha = png(2, 1, 16, 4, [struct.pack(">4H", 0x8000, 0xFFFF, 0x8000, 0)])
    assert read_picture(with_alpha).pixels_HW3.tolist() == [[[128] * 3, [255] * 3]]


def test_cmyk_jpeg_is_converted():
    inks = np.zeros((16, 64, 4), np.uint8)
    for column, ink in enumerate([(0, 0, 0, 0), (0, 255, 255, 0), (255, 0, 255, 0), (0, 0, 0, 255)]):
        inks[:, column * 16 : column * 16 + 16] = ink
    read = read_picture(encoded(Image.fromarray(inks, "CMYK"), "JPEG", quality=100)).pixels_HW3
    for column, colour in enumerate([WHITE, RED, GREEN, BLACK]):
        assert np.abs(read[8, column * 16 + 8].astype(int) - colour).max() <= 4


def test_palette_with_transparency_is_composited_on_white():
    image = Image.new("P", (3, 1))
    image.putpalette([*RED, *GREEN, *BLUE])
    image.putdata([0, 1, 2])
    assert read_picture(encoded(image, "PNG", transparency=1)).pixels_HW3.tolist() == [[[*RED], [*WHITE], [*BLUE]]]
    assert read_picture(encoded(image, "GIF", transparency=2)).pixels_HW3.tolist() == [[[*RED], [*GREEN], [*WHITE]]]
    half = encoded(image, "PNG", transparency=bytes([255, 128, 0]))
    assert read_picture(half).pixels_HW3.tolist() == [[[*RED], [127, 255, 127], [*WHITE]]]
    assert to_picture(image).pixels_HW3.tolist() == [[[*RED], [*GREEN], [*BLUE]]]


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_colour_under_transparency_does_not_show(kind):
    pixels = np.array([[[255, 0, 0, 0], [255, 0, 0, 255], [0, 0, 0, 128], [0, 0, 255, 51]]], np.uint8)
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    read = read_picture(encoded(Image.fromarray(pixels), kind, **options)).pixels_HW3
    colours, alpha = pixels[..., :3].astype(float), pixels[..., 3:] / 255
    np.testing.assert_array_equal(read, np.rint(colours * alpha + 255 * (1 - alpha)))


def test_grey_with_alpha_is_composited_on_white():
    image = Image.fromarray(np.array([[[0, 255], [0, 0], [0, 128]]], np.uint8), "LA")
    assert read_picture(encoded(image, "PNG")).pixels_HW3[0, :, 0].tolist() == [0, 255, 127]


def test_a_transparent_colour_key_is_composited_on_white():
    key = png(2, 1, 8, 2, [bytes([255, 0, 0, 1, 2, 3])], chunk(b"tRNS", struct.pack(">3H", 1, 2, 3)))
    assert read_picture(key).pixels_HW3.tolist() == [[[*RED], [*WHITE]]]


@pytest.mark.parametrize(("value", "want"), [(0, 255), (1, 0)])
def test_bilevel_pictures_are_black_and_white(value, want):
    image = Image.new("1", (4, 2), 1 - value)
    assert read_picture(encoded(image, "PNG")).pixels_HW3.tolist() == [[[want] * 3] * 4] * 2


def swapped_profile():
    """sRGB with red and blue exchanged: a picture converted from it has its channels exchanged."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile.replace(b"rXYZ", b"????", 1).replace(b"bXYZ", b"rXYZ", 1).replace(b"????", b"bXYZ", 1)


def with_profile(mode):
    image = Image.fromarray(np.array([[[200, 90, 10], [10, 60, 250], [128, 128, 128]]], np.uint8))
    if mode == "P":
        return image.quantize(8)
    image = image.convert(mode)
    if "A" in mode:
        image.putalpha(Image.fromarray(np.array([[255, 255, 0]], np.uint8)))
    return image


@pytest.mark.parametrize(
    ("mode", "kind"), [("RGB", "PNG"), ("RGBA", "PNG"), ("P", "PNG"), ("RGB", "TIFF"), ("RGB", "WEBP")]
)
def test_icc_profiles_are_converted_to_srgb(mode, kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    read = read_picture(encoded(with_profile(mode), kind, icc_profile=swapped_profile(), **options)).pixels_HW3
    want = [[10, 90, 200], [250, 60, 10], [255, 255, 255] if mode == "RGBA" else [128, 128, 128]]
    assert np.abs(read[0].astype(int) - want).max() <= 2


def test_a_colour_key_survives_the_conversion_of_a_profile():
    profile = chunk(b"iCCP", b"swapped\0\0" + zlib.compress(swapped_profile()))
    key = profile + chunk(b"tRNS", struct.pack(">3H", 1, 2, 3))
    read = read_picture(png(2, 1, 8, 2, [bytes([200, 90, 10, 1, 2, 3])], key)).pixels_HW3
    assert np.abs(read[0].astype(int) - [[10, 90, 200], WHITE]).max() <= 2


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize("profile", [b"no profile at all", swapped_profile()[:300], b"\0" * 128])
def test_a_broken_profile_is_ignored(mode, profile):
    image = with_profile(mode)
    plain, broken = (read_picture(encoded(image, "PNG", icc_profile=entry)).pixels_HW3 for entry in (None, profile))
    np.testing.assert_array_equal(plain, broken)


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_a_profile_for_another_colour_model_is_ignored(mode):
    image = with_profile(mode)
    plain, colour = (encoded(image, "PNG", icc_profile=entry) for entry in (None, swapped_profile()))
    np.testing.assert_array_equal(read_picture(plain).pixels_HW3, read_picture(colour).pixels_HW3)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame_is_used_and_said_so(kind):
    frames = [Image.new("RGB", (8, 6), colour) for colour in (RED, GREEN, BLUE)]
    options = {"lossless": True} if kind == "WEBP" else {}
    picture = read_picture(encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options))
    assert (picture.pixels_HW3 == RED).all()
    assert picture.notes == ("animation: the first of 3 frames is used",)


def test_a_still_picture_needs_no_note():
    for kind in ("GIF", "WEBP", "PNG", "TIFF", "JPEG"):
        assert read_picture(encoded(Image.new("RGB", (8, 6), RED), kind)).notes == ()


def test_a_multi_picture_jpeg_is_read_as_its_first_picture():
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, BLUE)]
    picture = read_picture(encoded(frames[0], "MPO", save_all=True, append_images=frames[1:]))
    assert np.abs(picture.pixels_HW3.astype(int) - RED).max() <= 4


@pytest.mark.parametrize("kind", FORMATS)
def test_every_accepted_format_is_read(kind):
    picture = read_picture(encoded(Image.fromarray(asymmetric()), kind))
    assert (picture.format, picture.size, picture.pixels_HW3.dtype) == (kind, (64, 96), np.uint8)
    assert np.abs(picture.pixels_HW3.astype(int) - asymmetric()).mean() < 20


def test_every_accepted_format_has_its_suffix():
    Image.init()
    for suffix, kind in Image.registered_extensions().items():
        if suffix in SUFFIXES:
            assert kind in (*FORMATS, "MPO")
    assert {kind for suffix, kind in Image.registered_extensions().items() if suffix in SUFFIXES} >= set(FORMATS)


GREY = np.array([[0, 128, 255], [3, 4, 5]], np.uint8)
RGB = np.stack([GREY, GREY[::-1], 255 - GREY], axis=-1)


@pytest.mark.parametrize(
    ("array", "want"),
    [
        pytest.param(RGB, RGB, id="RGB"),
        pytest.param(GREY, GREY[..., None].repeat(3, 2), id="grey"),
        pytest.param(GREY[..., None], GREY[..., None].repeat(3, 2), id="grey with a channel axis"),
        pytest.param(np.dstack([RGB, np.full((2, 3), 255, np.uint8)]), RGB, id="opaque RGBA"),
        pytest.param(np.dstack([RGB, np.zeros((2, 3), np.uint8)]), np.full((2, 3, 3), 255), id="clear RGBA"),
        pytest.param(RGB / np.float32(255), RGB, id="float32"),
        pytest.param(RGB / np.float64(255), RGB, id="float64"),
        pytest.param((RGB / 255).astype(np.float16), RGB, id="float16"),
        pytest.param(GREY / np.float32(255), GREY[..., None].repeat(3, 2), id="float grey"),
        pytest.param(np.asfortranarray(RGB), RGB, id="column order"),
        pytest.param(RGB[:, ::-1], RGB[:, ::-1], id="reversed view"),
        pytest.param(np.ones((1, 1, 3), np.uint8), np.ones((1, 1, 3)), id="one pixel"),
        pytest.param(np.ones((1, MAX_ASPECT), np.uint8), np.ones((1, MAX_ASPECT, 3)), id="as elongated as accepted"),
    ],
)
def test_arrays_of_every_accepted_kind(array, want):
    picture = to_picture(array)
    np.testing.assert_array_equal(picture.pixels_HW3, want)
    assert picture.pixels_HW3.dtype == np.uint8
    assert picture.format == "array"


@pytest.mark.parametrize(
    ("array", "message"),
    [
        pytest.param(np.zeros((2, 2, 2), np.uint8), r"shape .* \(2, 2, 2\)", id="two channels"),
        pytest.param(np.zeros((2, 2, 5), np.uint8), r"shape .* \(2, 2, 5\)", id="five channels"),
        pytest.param(np.zeros((3, 8, 8), np.uint8), r"shape .* \(3, 8, 8\)", id="channels first"),
        pytest.param(np.zeros((1, 8, 8, 3), np.uint8), r"shape .* \(1, 8, 8, 3\)", id="a batch"),
        pytest.param(np.zeros(9, np.uint8), r"shape .* \(9,\)", id="one axis"),
        pytest.param(np.array(3, np.uint8), r"shape .* \(\)", id="no axis"),
        pytest.param(np.zeros((0, 4, 3), np.uint8), r"shape .* \(0, 4, 3\)", id="no row"),
        pytest.param(np.zeros((4, 0), np.uint8), r"shape .* \(4, 0\)", id="no column"),
        pytest.param(np.zeros((2, 2, 3), np.int64), "not int64", id="int64"),
        pytest.param(np.zeros((2, 2, 3), np.uint16), "not uint16", id="uint16"),
        pytest.param(np.zeros((2, 2, 3), np.int8), "not int8", id="int8"),
        pytest.param(np.zeros((2, 2, 3), bool), "not bool", id="bool"),
        pytest.param(np.zeros((2, 2, 3), complex), "not complex128", id="complex"),
        pytest.param(np.full((2, 2, 3), "x"), "not <U1", id="text"),
        pytest.param(np.full((2, 2, 3), 1.001), "0…1", id="floats above 1"),
        pytest.param(np.full((2, 2, 3), -0.001), "0…1", id="floats below 0"),
        pytest.param(np.full((2, 2, 3), 255.0), "0…1", id="floats up to 255"),
        pytest.param(np.full((2, 2, 3), np.nan), "finite", id="NaN"),
        pytest.param(np.full((2, 2, 3), np.inf), "finite", id="infinite"),
        pytest.param(np.zeros((1, MAX_ASPECT + 1), np.uint8), "more elongated than 100:1", id="too wide"),
        pytest.param(np.zeros((MAX_ASPECT * 2 + 1, 2), np.uint8), "more elongated than 100:1", id="too high"),
        pytest.param(None, "not builtins.NoneType", id="None"),
        pytest.param(7, "not builtins.int", id="int"),
        pytest.param([[0, 1], [2, 3]], "not builtins.list", id="list"),
    ],
)
def test_arrays_and_objects_that_are_no_picture_are_refused(array, message):
    with pytest.raises(ImageError, match=message) as caught:
        to_picture(array)
    assert "\n" not in str(caught.value)


def test_an_array_above_the_limit_is_refused():
    with pytest.raises(ImageError, match=r"5×4 is 20 pixels; the limit is 19"):
        to_picture(np.zeros((4, 5), np.uint8), max_pixels=19)
    assert to_picture(np.zeros((4, 5), np.uint8), max_pixels=20).size == (4, 5)


def test_the_picture_shares_no_memory_with_the_caller():
    array = RGB.copy()
    picture = to_picture(array)
    array[:] = 0
    np.testing.assert_array_equal(picture.pixels_HW3, RGB)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB", "I;16", "RGBX"])
def test_pil_images_of_any_mode(mode):
    picture = to_picture(Image.new(mode, (5, 4)))
    assert picture.pixels_HW3.shape == (4, 5, 3)


def test_a_pil_image_is_taken_as_it_stands():
    image = Image.fromarray(RGB)
    np.testing.assert_array_equal(to_picture(image).pixels_HW3, RGB)
    assert image.size == (3, 2)


def test_a_pil_image_is_turned_as_its_exif_says():
    exif = Image.Exif()
    exif[0x0112] = 3
    with Image.open(io.BytesIO(encoded(Image.fromarray(asymmetric()), "PNG", exif=exif))) as image:
        for _ in range(2):  # the caller's image stays as it was
            np.testing.assert_array_equal(to_picture(image).pixels_HW3, asymmetric()[::-1, ::-1])
        np.testing.assert_array_equal(np.asarray(image), asymmetric())


def test_the_frame_a_caller_chose_is_used_and_stays_chosen():
    frames = [Image.new("RGB", (8, 6), colour) for colour in (RED, GREEN, BLUE)]
    with Image.open(io.BytesIO(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))) as image:
        image.seek(2)
        picture = to_picture(image)
        assert image.tell() == 2
    assert (picture.pixels_HW3 == BLUE).all()
    assert picture.notes == ()


def test_a_pil_image_without_pixels_is_refused():
    with pytest.raises(ImageError):
        to_picture(Image.new("RGB", (0, 5)))


def test_a_picture_passes_through():
    picture = Picture(RGB, "PNG")
    assert to_picture(picture) is picture


def test_paths_bytes_and_streams_give_the_same(tmp_path):
    data = encoded(Image.fromarray(RGB), "PNG")
    path = tmp_path / "photo.png"
    path.write_bytes(data)

    class Pipe:
        """A stream that can only be read, like standard input."""

        def read(self):
            return data

    with open(path, "rb") as file:
        for source in (path, str(path), data, io.BytesIO(data), file, Pipe()):
            picture = to_picture(source)
            np.testing.assert_array_equal(picture.pixels_HW3, RGB)
            assert picture.format == "PNG"


@pytest.mark.parametrize(
    "name", ["a b.png", "żółw-🐢.png", "-dash.png", "[1]*.png", "a\nb.png", os.fsdecode(b"\xff\xfe.png")]
)
def test_odd_file_names_are_read(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(encoded(Image.fromarray(RGB), "PNG"))
    np.testing.assert_array_equal(read_picture(path).pixels_HW3, RGB)


def test_a_name_says_nothing_about_the_content(tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(encoded(Image.fromarray(RGB), "TIFF"))
    assert read_picture(path).format == "TIFF"
