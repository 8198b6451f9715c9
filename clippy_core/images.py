"""Reading any picture safely, as a person sees it.

What comes out is always 8-bit RGB in the orientation the picture is displayed in. The policy for unusual files:

- The format is decided by content, never by the file's name, from an allow-list.
- EXIF orientation is applied. Embedded ICC profiles are converted to sRGB; CMYK without one uses Pillow's formula.
- Transparency is composited on white. 16-bit grey is scaled to 8 bits, not clipped; signed, 32-bit integer and float
  pictures are refused, because their range is unknown.
- Of an animation the first frame is used, and the result says so.
- A truncated file is refused. A JPEG whose compressed bytes were overwritten in place decodes without any complaint
  in every common library; that cannot be noticed here.
- More than ``max_pixels`` pixels (default 128 million) or an aspect ratio beyond 100:1 is refused from the header,
  before anything is decoded.
"""

import io
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from clippy_core.errors import ImageError, visible

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")
SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("jpg", "jpeg", "jpe", "jfif", "mpo", "png", "webp", "gif", "bmp", "tif", "tiff"),
        *("ppm", "pgm", "pbm", "pnm", "avif", "jp2", "j2k"),
    )
)
MAX_PIXELS = 128_000_000
MAX_ASPECT = 100
PREFIX = 16
"""Bytes by which Pillow recognises a format."""


@dataclass(frozen=True)
class Picture:
    """A decoded picture.

    Attributes:
        pixels_HW3: ``uint8`` RGB in 0…255, sRGB, oriented as displayed.
        format: What the content is, such as ``"JPEG"``.
        notes: One line for each thing that was decided for the user, such as using the first frame of an animation.
    """

    pixels_HW3: "np.ndarray"
    format: str
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.pixels_HW3.shape[0], self.pixels_HW3.shape[1]


def read_picture(source: "str | os.PathLike[str] | bytes | BinaryIO", *, max_pixels: int = MAX_PIXELS) -> Picture:
    """Decode one picture from a path, bytes or a binary stream.

    Raises:
        ImageError: It does not exist, cannot be read, is empty, is not a picture of an accepted format, is truncated
            or damaged, or is larger than ``max_pixels``; one line that says which.
    """
    from PIL import Image, UnidentifiedImageError

    stream, name = _stream_of(source)
    with stream:
        if not stream.read(1):
            raise ImageError(f"{name}: the file is empty")
        stream.seek(0)
        try:
            with warnings.catch_warnings():
                # Pillow's own size warning is replaced by the explicit limit; EXIF oddities are no reason to stop.
                warnings.simplefilter("ignore")
                with _room_for(max_pixels):
                    image = Image.open(stream, formats=FORMATS)
                with image, _room_for(image.width * image.height):
                    _check_header(image, name, max_pixels)
                    return _decode(image, in_place=True)
        except ImageError:
            raise
        except UnidentifiedImageError as error:
            raise ImageError(f"{name}: {_unidentified(stream)}") from error
        except Image.DecompressionBombError as error:
            raise ImageError(f"{name}: more pixels than the limit of {max_pixels:,} (--max-pixels)") from error
        except Exception as error:
            # Decoders raise anything from OSError to SyntaxError on damaged bytes; to the user it is one bad picture.
            raise ImageError(f"{name}: damaged or truncated ({_reason(error)})") from error


def to_picture(image: Any, *, max_pixels: int = MAX_PIXELS) -> Picture:
    """A :class:`Picture` from whatever a caller has.

    Args:
        image: A path, bytes, a binary stream, a ``PIL.Image``, a :class:`Picture`, or an array: H×W×3 RGB, H×W×4 RGBA
            or H×W grey, ``uint8`` in 0…255 or floating point in 0…1.
        max_pixels: The largest picture accepted.

    Raises:
        ImageError: As :func:`read_picture`, or an array of another shape, dtype or range.
    """
    if isinstance(image, Picture):
        return image
    if isinstance(image, (str, os.PathLike, bytes)) or hasattr(image, "read"):
        return read_picture(image, max_pixels=max_pixels)
    import numpy as np
    from PIL import Image

    if isinstance(image, Image.Image):
        _check_header(image, "image", max_pixels)
        try:
            return _decode(image, in_place=False)
        except Exception as error:
            # A lazily opened file is decoded only here, with all that can be wrong with one.
            raise ImageError(f"image: damaged or truncated ({_reason(error)})") from error
    if not isinstance(image, np.ndarray):
        raise ImageError(
            f"image: a path, bytes, PIL image or H×W×3 array is expected, not {type(image).__module__}."
            f"{type(image).__qualname__}"
        )
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3, 4)) or 0 in image.shape:
        raise ImageError(f"image: an array of shape H×W, H×W×3 or H×W×4 is expected, not {image.shape}")
    if image.dtype.kind == "f":
        if not np.isfinite(image).all() or image.min() < 0 or image.max() > 1:
            raise ImageError("image: floating-point arrays must lie in 0…1 and be finite")
        image = np.rint(image * 255).astype(np.uint8)
    if image.dtype != np.uint8:
        raise ImageError(f"image: dtype uint8 (0…255) or floating point (0…1) is expected, not {image.dtype}")
    image = image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image
    pil = Image.fromarray(np.ascontiguousarray(image))
    _check_header(pil, "image", max_pixels)
    return _decode(pil, in_place=True)


def _stream_of(source: "str | os.PathLike[str] | bytes | BinaryIO") -> tuple[BinaryIO, str]:
    if isinstance(source, bytes):
        return io.BytesIO(source), "image"
    path = Path(source) if isinstance(source, (str, os.PathLike)) else None
    name = visible(str(path if path is not None else getattr(source, "name", "stream")))
    try:
        if path is None:
            return io.BytesIO(source.read()), name  # type: ignore[union-attr]
        if path.exists() and not path.is_file():
            raise ImageError(f"{name}: {_no_file(path)}")
        return open(path, "rb"), name
    except (OSError, ValueError, TypeError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or _reason(error)
        raise ImageError(f"{name}: cannot be read ({reason})") from error


def _no_file(path: Path) -> str:
    """What is there instead of a file; a folder that was searched for pictures comes here if it could not be opened."""
    if path.is_dir():
        try:
            os.scandir(path).close()
        except OSError as error:
            return f"a folder that cannot be opened ({error.strerror or _reason(error)})"
    return "not a regular file"


def _reason(error: Exception) -> str:
    lines = str(error).splitlines()
    return visible(lines[0]) if lines else type(error).__name__


_pillow_limit = threading.Lock()


@contextmanager
def _room_for(pixels: int) -> Iterator[None]:
    """Let Pillow open and decode ``pixels`` pixels, if that is beyond the limit it has for the whole process.

    Others wait meanwhile, which is no loss: a header takes no time, and two such pictures at once are too many.
    """
    from PIL import Image

    with _pillow_limit:
        before = Image.MAX_IMAGE_PIXELS
        if before is not None and pixels > 2 * before:
            Image.MAX_IMAGE_PIXELS = pixels
            try:
                yield
            finally:
                Image.MAX_IMAGE_PIXELS = before
            return
    yield


def _unidentified(stream: BinaryIO) -> str:
    """Why no decoder takes a file: what it begins like, where it begins like one of the accepted formats."""
    from PIL import Image

    stream.seek(0)
    prefix = stream.read(PREFIX)
    for name in FORMATS:
        accept = Image.OPEN[name][1] if name in Image.OPEN else None
        if accept is not None and accept(prefix):
            return f"begins like {name}, but is damaged, truncated or of a kind of {name} that is not read"
    return f"not a picture in an accepted format ({', '.join(FORMATS)})"


def _check_header(image: "Image.Image", name: str, max_pixels: int) -> None:
    """Refuse what is too large, too elongated or has pixels of an unknown range, before it is decoded."""
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError(
            f"{name}: {width}×{height} is {width * height:,} pixels; the limit is {max_pixels:,} (--max-pixels)"
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ImageError(f"{name}: {width}×{height} is more elongated than {MAX_ASPECT}:1")
    # Pillow keeps 16-bit PGM, and in some versions 16-bit PNG, in 32 bits; any other picture kept so has its own range.
    if image.mode == "F" or (image.mode == "I" and image.format not in ("PNG", "PPM")):
        kind = "floating-point" if image.mode == "F" else "signed or 32-bit integer"
        raise ImageError(f"{name}: {kind} pixels have no defined range; accepted: unsigned, up to 16 bits")


def _decode(image: "Image.Image", *, in_place: bool) -> Picture:
    import numpy as np
    from PIL import ImageOps

    notes = []
    name = image.format or "array"
    # An open file stands at its first frame; where a caller has gone to another one, that one is meant.
    if getattr(image, "is_animated", False) and name != "MPO" and image.tell() == 0:
        notes.append(f"animation: the first of {getattr(image, 'n_frames', '?')} frames is used")
    image.load()
    # A turned copy of a large picture costs as much again, but a caller's own image stays as it is.
    image = (ImageOps.exif_transpose(image, in_place=True) or image) if in_place else ImageOps.exif_transpose(image)
    return Picture(np.asarray(_to_rgb(image)), name, tuple(notes))


def _to_rgb(image: "Image.Image") -> "Image.Image":
    from PIL import Image

    profile = image.info.get("icc_profile")
    alpha = None
    if image.mode == "I" or image.mode.startswith("I;16"):
        image = _scale_16_bit(image)
    elif image.has_transparency_data:
        rgba = image.convert("RGBA")
        alpha = rgba.getchannel("A")
        image = (image if image.mode == "LA" else rgba).convert("L" if image.mode == "LA" else "RGB")
    rgb = _to_srgb(image, profile).convert("RGB")
    if alpha is None:
        return rgb
    white = Image.new("RGB", rgb.size, "white")
    white.paste(rgb, mask=alpha)
    return white


def _scale_16_bit(image: "Image.Image") -> "Image.Image":
    import numpy as np
    from PIL import Image

    values = np.asarray(image).astype(np.uint32)
    return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))


def _to_srgb(image: "Image.Image", profile: bytes | None) -> "Image.Image":
    if not profile:
        return image
    from PIL import ImageCms

    if image.mode not in ("L", "CMYK"):
        image = image.convert("RGB")
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        # A broken or mismatched profile is common in the wild; the picture without it is what viewers show.
        return image
    return converted or image
