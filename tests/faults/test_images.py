"""Files that are no good: each is refused with one line that names it, before it costs anything."""

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from clippy_core.errors import ImageError
from clippy_core.images import MAX_PIXELS, read_picture, to_picture


def photograph(height=96, width=128):
    """Something with texture, so that its compressed form is long."""
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def encoded(kind, image=None, **options):
    buffer = io.BytesIO()
    (image or Image.fromarray(photograph())).save(buffer, kind, **options)
    return buffer.getvalue()


def png_header(width, height, body=b"", colour_type=2):
    """The start of a PNG, made by hand: no library would write one of this size."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def refusal(source, **options):
    """The message, which must be one line."""
    with pytest.raises(ImageError) as caught:
        read_picture(source, **options)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


# --- damaged -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.02, 0.25, 0.5, 0.75, 0.95])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        pytest.param("JPEG", {}, id="JPEG"),
        pytest.param("JPEG", {"progressive": True}, id="progressive JPEG"),
        pytest.param("PNG", {}, id="PNG"),
        pytest.param("WEBP", {}, id="WebP"),
        pytest.param("WEBP", {"lossless": True}, id="lossless WebP"),
        pytest.param("GIF", {}, id="GIF"),
        pytest.param("TIFF", {}, id="TIFF"),
        pytest.param("TIFF", {"compression": "tiff_lzw"}, id="TIFF-LZW"),
        pytest.param("BMP", {}, id="BMP"),
        pytest.param("PPM", {}, id="PPM"),
        pytest.param("AVIF", {}, id="AVIF"),
        pytest.param("JPEG2000", {}, id="JPEG 2000"),
    ],
)
def test_a_truncated_file_is_refused(tmp_path, kind, options, share):
    data = encoded(kind, **options)
    path = tmp_path / "photo.jpg"
    path.write_bytes(data[: int(len(data) * share)])
    assert refusal(path).startswith(f"{path}: ")


def test_a_jpeg_cut_in_half_is_called_truncated(tmp_path):
    data = encoded("JPEG")
    path = tmp_path / "photo.jpg"
    path.write_bytes(data[: len(data) // 2])
    assert "truncated" in refusal(path)


@pytest.mark.parametrize(
    ("kind", "options"),
    [("TIFF", {"compression": "tiff_lzw"}), ("TIFF", {"compression": "tiff_deflate"}), ("AVIF", {}), ("GIF", {})],
)
def test_a_file_cut_before_what_its_format_needs_is_called_truncated(kind, options):
    data = encoded(kind, **options)  # a TIFF's directory is at its end
    assert refusal(data[:100]) == (
        f"image: begins like {kind}, but is damaged, truncated or of a kind of {kind} that is not read"
    )


def test_a_truncated_pil_image_is_refused_when_it_is_first_decoded():
    data = encoded("JPEG")
    with Image.open(io.BytesIO(data[: len(data) // 2])) as lazy, pytest.raises(ImageError, match="truncated"):
        to_picture(lazy)


def test_a_jpeg_with_zeroed_scan_bytes_decodes_as_documented():
    data = bytearray(encoded("JPEG"))
    middle = len(data) // 2
    data[middle : middle + 200] = bytes(200)
    picture = read_picture(bytes(data))
    assert picture.size == (96, 128)
    assert (picture.pixels_HW3 != read_picture(encoded("JPEG")).pixels_HW3).any()
    from clippy_core import images

    assert "cannot be noticed here" in images.__doc__


@pytest.mark.parametrize("damage", ["crc", "deflate"])
def test_a_png_with_a_flipped_bit_is_refused(damage):
    data = bytearray(encoded("PNG"))
    at = data.index(b"IDAT") + 4 + 500
    data[at] ^= 0x10
    if damage == "deflate":  # with a checksum that fits again, only the decoder can notice
        start = data.index(b"IDAT")
        (length,) = struct.unpack(">I", data[start - 4 : start])
        data[start + 4 + 2 : start + 4 + 40] = b"\xff" * 38
        data[start + 4 + length : start + 8 + length] = struct.pack(
            ">I", zlib.crc32(bytes(data[start : start + 4 + length]))
        )
    assert "damaged or truncated" in refusal(bytes(data))


@settings(max_examples=60)
@given(data=st.data())
@pytest.mark.parametrize(
    ("kind", "options"),
    [("JPEG", {}), ("PNG", {}), ("WEBP", {}), ("GIF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("BMP", {})],
)
def test_whatever_the_bytes_the_answer_is_a_picture_or_an_image_error(kind, options, data):
    whole = FUZZED.setdefault(kind, encoded(kind, Image.fromarray(photograph(24, 20)), **options))
    changed = bytearray(whole)
    # Headers are where the decisions are; half of the changes go there.
    position = st.one_of(st.integers(0, min(64, len(whole) - 1)), st.integers(0, len(whole) - 1))
    for at, value in data.draw(st.lists(st.tuples(position, st.integers(0, 255)), max_size=8), label="overwritten"):
        changed[at] = value
    at, extra = data.draw(st.tuples(position, st.binary(max_size=16)), label="inserted")
    changed[at:at] = extra
    cut = data.draw(st.one_of(st.just(len(changed)), st.integers(0, len(changed))), label="cut at")
    assert_picture_or_one_line(bytes(changed[:cut]))


FUZZED: dict[str, bytes] = {}


def assert_picture_or_one_line(data):
    try:
        picture, message = read_picture(data, max_pixels=1_000_000), "a picture"
    except ImageError as error:
        picture, message = None, str(error)
    assert picture is None or picture.pixels_HW3.shape == (*picture.size, 3)
    assert len(message.splitlines()) == 1


@settings(max_examples=100)
@given(
    st.binary(max_size=200), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"P6 ", b"II*\0"])
)
def test_random_bytes_are_an_image_error_unless_they_are_a_picture(data, magic):
    assert_picture_or_one_line(magic + data)


# --- not a picture -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "the file is empty", id="zero bytes"),
        pytest.param(b"just text\n", "not a picture in an accepted format", id="text"),
        pytest.param(b"<!DOCTYPE html><html><body>404</body></html>", "not a picture in an accepted format", id="HTML"),
        pytest.param(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a picture in an accepted format", id="SVG"),
        pytest.param(b"\0" * 4096, "not a picture in an accepted format", id="zeros"),
        pytest.param(b"%PDF-1.7\n%\xe2\xe3", "not a picture in an accepted format", id="PDF"),
        pytest.param(b"\xff", "not a picture in an accepted format", id="one byte"),
    ],
)
def test_something_else_named_jpg_is_refused(tmp_path, content, message):
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    said = refusal(path)
    assert said.startswith(f"{path}: {message}")
    if content:
        assert "JPEG, PNG" in said


@pytest.mark.parametrize("kind", ["ICO", "TGA", "PCX", "SGI", "DDS", "EPS", "PDF"])
def test_a_format_outside_the_allow_list_is_refused_even_if_pillow_reads_it(kind):
    data = encoded(kind, Image.fromarray(photograph(32, 32)))
    assert "not a picture in an accepted format" in refusal(data)


def test_tiff_bytes_named_png_are_accepted_by_content(tmp_path):
    path = tmp_path / "scan.png"
    path.write_bytes(encoded("TIFF"))
    picture = read_picture(path)
    assert picture.format == "TIFF"
    np.testing.assert_array_equal(picture.pixels_HW3, photograph())


# --- not a file --------------------------------------------------------------------------------------------------


def test_a_missing_file_is_refused(tmp_path):
    path = tmp_path / "gone.jpg"
    assert refusal(path) == f"{path}: cannot be read (No such file or directory)"


def test_a_directory_is_refused(tmp_path):
    assert refusal(tmp_path) == f"{tmp_path}: not a regular file"


def test_a_fifo_is_refused_without_waiting_for_a_writer(tmp_path):
    path = tmp_path / "pipe.jpg"
    os.mkfifo(path)
    assert refusal(path) == f"{path}: not a regular file"


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no /dev/zero here")
def test_a_device_is_refused_instead_of_read_for_ever():
    assert refusal("/dev/zero") == "/dev/zero: not a regular file"


def test_a_dangling_link_and_a_link_to_itself_are_refused(tmp_path):
    dangling, loop = tmp_path / "dangling.jpg", tmp_path / "loop.jpg"
    dangling.symlink_to(tmp_path / "gone.jpg")
    loop.symlink_to(loop)
    assert "cannot be read (No such file or directory)" in refusal(dangling)
    assert refusal(loop).startswith(f"{loop}: cannot be read (")


def test_a_file_without_read_permission_is_refused(tmp_path):
    path = tmp_path / "secret.jpg"
    path.write_bytes(encoded("JPEG"))
    path.chmod(0)
    superuser = os.geteuid() == 0
    if superuser:  # permissions do not bind the superuser, so be nobody for a moment
        os.seteuid(65534)
    try:
        message = refusal(path)
    finally:
        if superuser:
            os.seteuid(0)
    assert message == f"{path}: cannot be read (Permission denied)"


def test_a_folder_without_read_permission_is_called_a_folder(tmp_path, monkeypatch):
    def closed(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", closed)  # permissions do not bind the superuser
    assert refusal(tmp_path) == f"{tmp_path}: a folder that cannot be opened (Permission denied)"


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("\0.jpg", id="null byte"),
        pytest.param("x" * 300 + ".jpg", id="longer than a name can be"),
        pytest.param("two\nlines.jpg", id="line break"),
        pytest.param("\r\x1b[31mred.jpg", id="terminal control"),
        pytest.param("ab.jpg", id="unusual line breaks"),
        pytest.param(os.fsdecode(b"caf\xe9.jpg"), id="not UTF-8"),
        pytest.param("", id="empty"),
    ],
)
def test_a_missing_file_of_any_name_is_one_printable_line(tmp_path, name):
    message = refusal(os.path.join(tmp_path, name)) if name else refusal(name)  # noqa: PTH118
    assert message.isprintable()
    message.encode()


def test_a_stream_that_fails_is_refused():
    class Broken:
        name = "<stdin>"

        def read(self):
            raise OSError(5, "Input/output error")

    assert refusal(Broken()) == "<stdin>: cannot be read (Input/output error)"


def test_an_empty_stream_is_named():
    class Empty:
        name = "<stdin>"

        def read(self):
            return b""

    assert refusal(Empty()) == "<stdin>: the file is empty"


def test_a_text_stream_is_refused():
    assert "cannot be read" in refusal(io.StringIO("no bytes"))


# --- too large ---------------------------------------------------------------------------------------------------

MEASURE = """
import resource, sys
import numpy, PIL.Image
from clippy_core.images import read_picture, ImageError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    try:
        read_picture(path)
    except ImageError as error:
        print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_gigapixel_header_is_refused_before_anything_is_decoded(tmp_path):
    sizes = {"huge": (50_000, 50_000), "large": (16_000, 16_000)}
    for name, (width, height) in sizes.items():
        row = b"\0" * (width * 3 + 1)
        (tmp_path / f"{name}.png").write_bytes(png_header(width, height, zlib.compress(row * 50)))
    (tmp_path / "webp.webp").write_bytes(webp_header(16_000, 16_000))
    paths = [str(path) for path in sorted(tmp_path.iterdir())]
    done = subprocess.run([sys.executable, "-c", MEASURE, *paths], capture_output=True, text=True, check=True)
    *messages, kilobytes = done.stdout.splitlines()
    assert [message.split(": ")[0] for message in messages] == paths
    assert all(f"{MAX_PIXELS:,}" in message and "--max-pixels" in message for message in messages)
    assert int(kilobytes) < 50_000


def webp_header(width, height):
    """A lossless WebP that ends after its size."""
    bits = (width - 1) | (height - 1) << 14
    body = b"VP8L" + struct.pack("<I", 6) + b"\x2f" + struct.pack("<I", bits) + b"\0"
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


@pytest.mark.parametrize(
    ("limit", "message"), [(12_287, "128×96 is 12,288 pixels; the limit is 12,287 (--max-pixels)"), (12_288, None)]
)
def test_the_limit_can_be_lowered_to_the_pixel(limit, message):
    if message is None:
        assert read_picture(encoded("PNG"), max_pixels=limit).size == (96, 128)
    else:
        assert refusal(encoded("PNG"), max_pixels=limit) == f"image: {message}"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF"])
def test_the_limit_can_be_raised_above_pillows_own(monkeypatch, kind):
    data = encoded(kind)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert read_picture(data).size == (96, 128)
    assert Image.MAX_IMAGE_PIXELS == 1000
    assert "limit" in refusal(data, max_pixels=5000)
    assert Image.MAX_IMAGE_PIXELS == 1000


def test_a_program_without_pillows_limit_still_has_ours(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert "is 2,500,000,000 pixels" in refusal(png_header(50_000, 50_000))
    assert Image.MAX_IMAGE_PIXELS is None


def test_a_144_megapixel_header_is_refused():
    message = refusal(png_header(12_000, 12_000))
    assert message == "image: 12000×12000 is 144,000,000 pixels; the limit is 128,000,000 (--max-pixels)"


@pytest.mark.slow
def test_a_picture_beyond_pillows_limit_is_read_if_ours_is_raised():
    buffer = io.BytesIO()
    Image.new("1", (14_000, 13_000), 1).save(buffer, "PNG")  # 182 million pixels; Pillow stops at 179 million
    assert read_picture(buffer.getvalue(), max_pixels=200_000_000).size == (13_000, 14_000)


@pytest.mark.parametrize(("width", "height"), [(20_000, 1), (1, 20_000), (201, 2), (2, 201)])
def test_extremely_elongated_pictures_are_refused(width, height):
    data = encoded("PNG", Image.new("RGB", (width, height)))
    assert refusal(data) == f"image: {width}×{height} is more elongated than 100:1"


@pytest.mark.parametrize(("width", "height"), [(100, 1), (1, 100), (200, 2)])
def test_the_most_elongated_pictures_accepted_are_read(width, height):
    assert read_picture(encoded("PNG", Image.new("RGB", (width, height)))).size == (height, width)
