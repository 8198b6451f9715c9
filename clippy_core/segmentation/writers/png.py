"""PNG files in little more time than writing the bytes takes.

The image data of a PNG is one zlib stream, cut into IDAT chunks wherever one likes. Here the picture is cut into strips
of rows which threads filter and deflate side by side: each ends on a byte boundary, so the strips in order, between a
header and a checksum, are that stream. A row is filtered by the row above it (*Up*), whatever the pixels' format, which
suits photographs and label maps alike. ISA-L deflates five times as fast as zlib does at its level 1, to the same size.

The same pixels give the same bytes, wherever and whenever they are written. ISA-L by itself does not see to that: its
main loop, when it is the one to begin a stream, hashes the third position from a register that still holds the address
of the stream's own state (``write_first_byte`` in ``igzip_icf_body_h1_gr_bt.asm``, ISA-L 2.32.1), so that one stream in
some thousands finds other matches. The routine that ends a stream begins one correctly, and it is given the few bytes
that the main loop will not take; that costs six to eight bytes a strip.
"""

import os
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from isal import isal_zlib

from clippy_core.files import atomic_write

STRIP_BYTES = 1 << 20
LEVEL = 1
SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE = 0, 2, 3
UP = 2
STREAM_HEAD = b"\x78\x01"
BEGUN = 4
"""Bytes that begin a stream: more than ISA-L makes a tail of literals (3), no more than its loop leaves over (16)."""
LAST_BLOCK = b"\x03\x00"
"""An empty last block: the strips before it need not know which of them is the last."""


def write_png(path: str | os.PathLike[str], pixels: np.ndarray, palette: np.ndarray | None = None) -> None:
    """Write a picture to ``path`` atomically.

    Args:
        path: The file.
        pixels: H×W×3 RGB or H×W grey in ``uint8``, H×W grey in ``uint16``.
        palette: RGB colours, ``uint8`` of shape (N, 3); makes H×W ``uint8`` pixels indices into it.
    """
    with atomic_write(path) as file:
        file.writelines(png_chunks(pixels, palette))


def png_chunks(pixels: np.ndarray, palette: np.ndarray | None = None) -> Iterator[bytes]:
    """The file piece by piece; arguments as for :func:`write_png`."""
    height, width = pixels.shape[:2]
    bits, big_endian = pixels.dtype.itemsize * 8, pixels.dtype.newbyteorder(">")
    colour_type = RGB if pixels.ndim == 3 else GREY if palette is None else PALETTE
    rows_HN = np.ascontiguousarray(pixels, big_endian).reshape(height, -1).view(np.uint8)
    yield SIGNATURE + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0))
    if palette is not None:
        yield _chunk(b"PLTE", palette.tobytes())
    yield _chunk(b"IDAT", STREAM_HEAD)
    step = max(1, STRIP_BYTES // rows_HN.shape[1])
    checksum = isal_zlib.adler32(b"")
    for filtered, chunk in _strips(rows_HN, step):
        checksum = isal_zlib.adler32(filtered, checksum)
        yield chunk
    yield _chunk(b"IDAT", LAST_BLOCK + struct.pack(">I", checksum)) + _chunk(b"IEND", b"")


def _strips(rows_HN: np.ndarray, step: int) -> Iterator[tuple[np.ndarray, bytes]]:
    """What :func:`_strip` makes of every ``step`` rows, in order; a thread costs more than a single strip does."""
    if len(rows_HN) <= step:
        yield _strip(rows_HN, 0, step)
        return
    with ThreadPoolExecutor() as pool:
        yield from pool.map(lambda top: _strip(rows_HN, top, top + step), range(0, len(rows_HN), step))


def _strip(rows_HN: np.ndarray, top: int, bottom: int) -> tuple[np.ndarray, bytes]:
    """Rows ``top`` to ``bottom`` filtered, and the same deflated in a chunk."""
    rows_hN = rows_HN[top:bottom]
    filtered_hN = np.empty((rows_hN.shape[0], rows_hN.shape[1] + 1), np.uint8)
    filtered_hN[:, 0] = UP
    filtered_hN[0, 1:] = rows_hN[0] - rows_HN[top - 1] if top else rows_hN[0]
    np.subtract(rows_hN[1:], rows_hN[:-1], out=filtered_hN[1:, 1:])
    return filtered_hN, _chunk(b"IDAT", _deflate(filtered_hN.reshape(-1)))


def _deflate(data_N: np.ndarray) -> bytes:
    """Blocks of a raw deflate stream that end on a byte boundary; why in two pieces is said at the top."""
    packer = isal_zlib.compressobj(LEVEL, isal_zlib.DEFLATED, -isal_zlib.MAX_WBITS)
    pieces = (data_N[:BEGUN], data_N[BEGUN:])
    return b"".join(packer.compress(piece) + packer.flush(isal_zlib.Z_SYNC_FLUSH) for piece in pieces)


def _chunk(kind: bytes, data: bytes) -> bytes:
    check = isal_zlib.crc32(data, isal_zlib.crc32(kind))
    return b"".join((struct.pack(">I", len(data)), kind, data, struct.pack(">I", check)))
