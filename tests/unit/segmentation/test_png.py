"""PNG files hold exactly the pixels given, for every reader, whatever the shape and however they were cut in strips."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from clippy_core.segmentation.writers import png
from clippy_core.segmentation.writers.png import png_chunks, write_png

KINDS = {"RGB": (np.uint8, 3), "P": (np.uint8, None), "L": (np.uint8, None), "I;16": (np.uint16, None)}
PALETTE = np.random.default_rng(1).permutation(256 * 3).reshape(256, 3).astype(np.uint8)


def picture(mode, height, width, seed, plain):
    """Noise, or large areas of one value as in a label map."""
    dtype, channels = KINDS[mode]
    shape = (height, width) if channels is None else (height, width, channels)
    noise = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
    return np.sort(noise, axis=0) // 64 * 64 if plain else noise


def encoded(pixels, palette=None):
    return b"".join(png_chunks(pixels, palette))


@pytest.mark.parametrize("mode", KINDS)
@given(
    st.integers(1, 70), st.integers(1, 70), st.integers(0, 99), st.booleans(), st.sampled_from([1, 50, 1000, 1 << 20])
)
@example(1, 1, 0, False, 1)
@example(1, 70, 0, False, 1)
@example(70, 1, 0, False, 1)
def test_pillow_and_opencv_read_back_every_pixel(mode, height, width, seed, plain, strip_bytes):
    pixels = picture(mode, height, width, seed, plain)
    palette = PALETTE if mode == "P" else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(png, "STRIP_BYTES", strip_bytes)
        data = encoded(pixels, palette)
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.mode, image.size) == ("PNG", mode, (width, height))
        np.testing.assert_array_equal(np.asarray(image), pixels)
        image.seek(0)
    shown = PALETTE[pixels] if mode == "P" else pixels
    read = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(read[..., ::-1] if shown.ndim == 3 else read, shown)


def test_the_file_is_what_the_specification_says():
    """Every chunk's checksum holds, and the image data is one zlib stream, checksum included, with nothing after it."""
    pixels = picture("RGB", 300, 200, 0, False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(png, "STRIP_BYTES", 20_000)
        data = encoded(pixels)
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    kinds, stream, at = [], b"", 8
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        assert struct.unpack_from(">I", data, at + 8 + size) == (zlib.crc32(kind + body),)
        stream += body if kind == b"IDAT" else b""
        kinds.append(kind)
        at += size + 12
    assert at == len(data)
    assert kinds == [b"IHDR", *[b"IDAT"] * (len(kinds) - 2), b"IEND"]
    assert len(kinds) > 10
    inflate = zlib.decompressobj()
    assert len(inflate.decompress(stream)) == 300 * (1 + 200 * 3)
    assert inflate.eof
    assert inflate.unused_data == b""


@pytest.mark.parametrize(
    "view",
    [
        lambda pixels: pixels[::-1],
        lambda pixels: pixels[:, ::2],
        lambda pixels: np.asfortranarray(pixels),
        lambda pixels: pixels.astype(pixels.dtype.newbyteorder()),
    ],
    ids=["upside down", "every other column", "columns first", "other byte order"],
)
@pytest.mark.parametrize("mode", ["RGB", "I;16"])
def test_the_layout_in_memory_does_not_matter(mode, view):
    pixels = view(picture(mode, 20, 30, 0, False))
    pixels.setflags(write=False)
    with Image.open(io.BytesIO(encoded(pixels))) as image:
        np.testing.assert_array_equal(np.asarray(image), pixels)


def test_a_label_map_takes_little_room():
    label_map = np.arange(6).reshape(2, 3).astype(np.uint8).repeat(500, axis=0).repeat(500, axis=1)
    assert len(encoded(label_map, PALETTE)) < 30_000


def test_the_same_pixels_are_the_same_bytes_wherever_the_packer_lies(monkeypatch):
    """ISA-L takes one hash near a stream's beginning from the address, by 64 KiB, of the stream's own state instead.

    Whether that shows depends on 13 bits of the hash and on bytes near the beginning coming back: here all of them do.
    Eight thousand streams in different places are alive at once.
    """
    streams = []
    make = png.isal_zlib.compressobj

    def kept(*arguments):
        streams.append(make(*arguments))
        return streams[-1]

    monkeypatch.setattr(png.isal_zlib, "compressobj", kept)
    random = np.random.default_rng(0)
    head = random.integers(0, 256, 24, np.uint8)
    again = [np.concatenate([random.integers(0, 256, 9, np.uint8), head[at : at + 4]]) for at in range(12)]
    data_N = np.concatenate([head, *again])
    packed = {png._deflate(data_N) for _ in range(8000)}
    assert len(streams) == 8000
    assert len(packed) == 1
    assert zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed.pop()) == data_N.tobytes()


def test_an_interrupted_file_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "picture.png"
    path.write_bytes(b"old")
    monkeypatch.setattr(png, "_strip", lambda *_: (_ for _ in ()).throw(MemoryError))
    with pytest.raises(MemoryError):
        write_png(path, np.zeros((3, 3), np.uint8))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
