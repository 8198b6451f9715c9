"""From the bytes of a picture to the square that is trained on.

What is accepted and how unusual files are treated is the policy of :mod:`clippy_core.images`. The common case, an
upright JPEG in RGB, takes a shorter way to the same pixels: libjpeg decodes it at a half, a quarter or an eighth where
the crop allows, and it is cropped before anything else is done. Pixels stay 8-bit integers throughout; resizing is
PyTorch's antialiased bicubic filter on integers, which gives what Pillow's gives, to rounding, in a sixth of the time.

Shapes: H×W a picture, S the side of the square.
"""

import io
import math
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from clippy_core.errors import ImageError
from clippy_core.images import FORMATS, MAX_ASPECT, MAX_PIXELS, read_picture
from clippy_core.training.data import WHOLE, Box

if TYPE_CHECKING:
    import torch
    from PIL import Image, ImageCms

LARGEST = 256 << 20
"""Bytes of an encoded picture beyond which it is refused."""
RATIOS = (3 / 4, 4 / 3)
ORIENTATION = 0x0112


class View(NamedTuple):
    """The part of a picture that is trained on.

    Attributes:
        top: First row.
        left: First column.
        height: Rows.
        width: Columns.
        mirrored: Left and right change places.
    """

    top: int
    left: int
    height: int
    width: int
    mirrored: bool

    def locate(self, box: Box, size: tuple[int, int]) -> Box:
        """Where a box of the picture, in shares of its ``size`` (height, width), lies in this part, cut at its edge."""
        left, right = ((side * size[1] - self.left) / self.width for side in (box[0], box[2]))
        top, bottom = ((side * size[0] - self.top) / self.height for side in (box[1], box[3]))
        if self.mirrored:
            left, right = 1 - right, 1 - left
        return (max(0.0, left), max(0.0, top), min(1.0, right), min(1.0, bottom))


def draw_view(size: tuple[int, int], crop: float, flip: bool, generator: np.random.Generator) -> View:
    """A random part of a picture of ``size`` (height, width).

    The share of the area is uniform in ``crop``…1 and the aspect ratio log-uniform in 3/4…4/3; after ten draws that do
    not fit, the largest centred part whose ratio does. A ``crop`` of 1 is the whole picture, whatever its ratio.

    Source: ``torchvision.transforms.RandomResizedCrop`` defines it, after Szegedy et al. 2015, section 6.
    """
    height, width = size
    mirrored = bool(flip and generator.random() < 0.5)
    if crop == 1:
        return View(0, 0, height, width, mirrored)
    for _ in range(10):
        area = height * width * generator.uniform(crop, 1)
        ratio = math.exp(generator.uniform(math.log(RATIOS[0]), math.log(RATIOS[1])))
        columns, rows = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < columns <= width and 0 < rows <= height:
            top, left = generator.integers((height - rows + 1, width - columns + 1))
            return View(int(top), int(left), rows, columns, mirrored)
    rows = min(height, max(1, round(width / RATIOS[0])))
    columns = min(width, max(1, round(height * RATIOS[1])))
    return View((height - rows) // 2, (width - columns) // 2, rows, columns, mirrored)


def draw_view_of(
    box: Box | None, size: tuple[int, int], crop: float, flip: bool, generator: np.random.Generator
) -> View:
    """As :func:`draw_view`, but the middle of ``box`` is in it: the first of ten draws, else the whole picture."""
    if box is None:
        return draw_view(size, crop, flip, generator)
    row, column = (box[1] + box[3]) / 2 * size[0], (box[0] + box[2]) / 2 * size[1]
    for _ in range(10):
        view = draw_view(size, crop, flip, generator)
        if view.top <= row < view.top + view.height and view.left <= column < view.left + view.width:
            return view
    return View(0, 0, *size, view.mirrored)


def fill_square(
    square_SS3: "torch.Tensor",
    image: bytes | np.ndarray,
    crop: float,
    flip: bool,
    generator: np.random.Generator,
    box: Box | None = None,
) -> Box:
    """Put a random part of a picture into ``square_SS3``; returns where ``box`` is in it.

    Args:
        square_SS3: Contiguous ``uint8`` memory for RGB.
        image: An encoded file, or ``uint8`` RGB pixels of shape (H, W, 3).
        crop: Smallest share of the area.
        flip: Mirror half of the pictures.
        generator: Decides which part.
        box: Part of the picture, in shares of width and height, whose middle has to be in it; None for all of it.

    Raises:
        ImageError: As :func:`clippy_core.images.read_picture`.
    """
    if isinstance(image, bytes):
        if len(image) > LARGEST:
            raise ImageError(f"the image has {len(image):,} bytes; at most {LARGEST:,} are accepted")
        plain = _open_plain_jpeg(image)
        if plain is not None:
            with plain:
                size = plain.height, plain.width  # before decoding at a lower size changes it
                view = draw_view_of(box, size, crop, flip, generator)
                _fill_from_jpeg(square_SS3, plain, view)
                return WHOLE if box is None else view.locate(box, size)
        image = _read(image)
    size = (image.shape[0], image.shape[1])
    view = draw_view_of(box, size, crop, flip, generator)
    rows, columns = slice(view.top, view.top + view.height), slice(view.left, view.left + view.width)
    _resize(square_SS3, image[rows, columns], view.mirrored)
    return WHOLE if box is None else view.locate(box, size)


def _read(image: bytes) -> np.ndarray:
    try:
        return read_picture(image).pixels_HW3
    except ImageError as error:
        raise ImageError(str(error).replace(" (--max-pixels)", "")) from error


def _open_plain_jpeg(data: bytes) -> "Image.Image | None":
    """The header, if nothing has to be decided: RGB, upright, of an accepted size."""
    if not data.startswith(b"\xff\xd8"):
        return None
    from PIL import Image

    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        upright = not {"exif", "xmp"} & image.info.keys() or image.getexif().get(ORIENTATION, 1) == 1
    except Exception:
        # Whatever is wrong with it, the long way says so in one line.
        return None
    width, height = image.size
    small = width * height <= MAX_PIXELS and max(width, height) <= MAX_ASPECT * min(width, height)
    if image.format == "JPEG" and image.mode == "RGB" and upright and small:
        return image
    image.close()
    return None


def _fill_from_jpeg(square_SS3: "torch.Tensor", image: "Image.Image", view: View) -> None:
    size = len(square_SS3)
    width, height = image.size
    # The smallest size to decode at which the part still has as many pixels as the square.
    image.draft("RGB", (max(1, math.ceil(width * size / view.width)), max(1, math.ceil(height * size / view.height))))
    across, down = image.width / width, image.height / height
    left, top = math.floor(view.left * across), math.floor(view.top * down)
    right = max(left + 1, min(image.width, round((view.left + view.width) * across)))
    bottom = max(top + 1, min(image.height, round((view.top + view.height) * down)))
    profile = image.info.get("icc_profile")
    try:
        pixels = np.asarray(image)
    except Exception as error:
        # Decoders raise anything on damaged bytes; to the user it is one bad picture.
        raise ImageError(f"image: damaged or truncated ({error})") from error
    _resize(square_SS3, pixels[top:bottom, left:right], view.mirrored)
    if profile:
        _convert_to_srgb(square_SS3, profile)


def _resize(square_SS3: "torch.Tensor", pixels_HW3: np.ndarray, mirrored: bool) -> None:
    import torch

    if mirrored:
        pixels_HW3 = pixels_HW3[:, ::-1]
    # The copy is of the part alone, and PyTorch does not accept memory that may not be written.
    pixels = torch.from_numpy(pixels_HW3.copy())
    if pixels.shape == square_SS3.shape:
        square_SS3.copy_(pixels)
        return
    # What torch.nn.functional.interpolate calls, which would return new memory in another order.
    target, source = square_SS3.permute(2, 0, 1)[None], pixels.permute(2, 0, 1)[None]
    torch.ops.aten._upsample_bicubic2d_aa.out(source, target.shape[2:], False, None, None, out=target)


def _convert_to_srgb(square_SS3: "torch.Tensor", profile: bytes) -> None:
    import torch
    from PIL import Image, ImageCms

    try:
        transform = _transform_of(profile)
        converted = ImageCms.applyTransform(Image.fromarray(square_SS3.numpy()), transform)
        if converted is not None:
            square_SS3.copy_(torch.from_numpy(np.array(converted)))
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        # A broken or mismatched profile is common in the wild; the picture without it is what viewers show.
        return


@lru_cache(maxsize=32)
def _transform_of(profile: bytes) -> "ImageCms.ImageCmsTransform":
    from PIL import ImageCms

    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), "RGB", "RGB")
