"""Pictures become squares: the right part, the right pixels, the policy of ``clippy_core.images``."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from clippy_core.errors import ImageError
from clippy_core.training.data.decode import draw_view, fill_square


def generator(seed=0):
    return np.random.default_rng(seed)


def to_square(image, size, crop, flip, generator):
    square = torch.empty((size, size, 3), dtype=torch.uint8)
    fill_square(square, image, crop, flip, generator)
    return square


def smooth(height, width):
    """A picture without fine detail, so that ways of resizing agree."""
    coarse = np.random.default_rng(0).integers(40, 216, (8, 8, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image, kind="JPEG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"quality": 95, "subsampling": 0} | options if kind == "JPEG" else options))
    return buffer.getvalue()


def whole(data, size=64):
    return to_square(data, size, 1, False, generator())


def difference(one, other):
    return np.abs(np.asarray(one).astype(int) - np.asarray(other).astype(int)).mean()


@given(
    height=st.integers(1, 900),
    width=st.integers(1, 900),
    crop=st.floats(0.01, 1),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=200)
def test_a_view_lies_inside(height, width, crop, seed):
    view = draw_view((height, width), crop, True, generator(seed))
    assert view.top >= 0
    assert view.left >= 0
    assert view.height > 0
    assert view.width > 0
    assert view.top + view.height <= height
    assert view.left + view.width <= width


def test_views_have_the_share_and_ratio_that_are_asked_for():
    views = [draw_view((400, 400), 0.5, False, generator(seed)) for seed in range(300)]
    shares = np.array([view.height * view.width / 400**2 for view in views])
    ratios = np.array([view.width / view.height for view in views])
    assert 0.49 < shares.min() < 0.53
    assert 0.9 < shares.max() <= 1.0
    assert 0.74 < ratios.min() < 0.8
    assert 1.25 < ratios.max() < 1.35
    assert len({(view.top, view.left) for view in views}) > 200


def test_the_same_numbers_as_torchvision_defines_for_a_ratio_that_never_fits():
    view = draw_view((100, 1000), 0.9, False, generator())
    assert view == (0, 433, 100, 133, False)


def test_crop_one_is_the_whole_picture_squashed():
    assert draw_view((30, 170), 1, False, generator()) == (0, 0, 30, 170, False)


def test_half_are_mirrored():
    mirrored = [draw_view((10, 10), 1, True, generator(seed)).mirrored for seed in range(400)]
    assert 150 < sum(mirrored) < 250
    assert not any(draw_view((10, 10), 1, False, generator(seed)).mirrored for seed in range(50))


@pytest.mark.parametrize(("height", "width"), [(64, 64), (200, 150), (300, 900), (1100, 1300), (40, 30)])
def test_pixels_are_those_of_pillow(height, width):
    image = smooth(height, width)
    square = whole(encoded(image))
    assert square.shape == (64, 64, 3)
    assert square.dtype == torch.uint8
    expected = image.resize((64, 64), Image.Resampling.BICUBIC)
    assert difference(square, expected) < 2.5


def test_lossless_pixels_differ_from_pillow_by_rounding_only():
    image = smooth(150, 210)
    expected = np.asarray(image.resize((64, 64), Image.Resampling.BICUBIC)).astype(int)
    found = whole(encoded(image, "PNG")).numpy().astype(int)
    assert np.abs(found - expected).max() <= 1


def test_a_part_of_a_reduced_jpeg_is_the_part_of_the_whole():
    image = smooth(1200, 1600)
    data = encoded(image)
    square = to_square(data, 64, 0.3, False, generator(3))
    view = draw_view((1200, 1600), 0.3, False, generator(3))
    box = (view.left, view.top, view.left + view.width, view.top + view.height)
    assert difference(square, image.resize((64, 64), Image.Resampling.BICUBIC, box=box)) < 2.5


def test_mirrored_is_the_mirror_image():
    data = encoded(smooth(90, 120))
    seed = next(seed for seed in range(20) if draw_view((90, 120), 1, True, generator(seed)).mirrored)
    mirrored = to_square(data, 64, 1, True, generator(seed)).numpy().astype(int)
    assert np.abs(mirrored - whole(data).flip(1).numpy()).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(orientation):
    image = smooth(96, 160)
    exif = Image.Exif()
    exif[0x0112] = orientation
    from PIL import ImageOps

    data = encoded(image, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert difference(whole(data), upright.resize((64, 64), Image.Resampling.BICUBIC)) < 2


@pytest.mark.parametrize(
    ("kind", "mode"), [("PNG", "RGBA"), ("PNG", "P"), ("PNG", "LA"), ("WEBP", "RGB"), ("JPEG", "L"), ("JPEG", "CMYK")]
)
def test_every_kind_of_pixel_becomes_rgb(kind, mode):
    assert whole(encoded(smooth(80, 90).convert(mode), kind)).shape == (64, 64, 3)


def test_transparency_is_white():
    clear = Image.new("RGBA", (80, 80), (255, 0, 0, 0))
    assert whole(encoded(clear, "PNG")).min() == 255


def test_a_profile_is_applied_as_for_any_other_picture():
    from clippy_core.images import read_picture

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for icc in (srgb, profile, b"nonsense"):
        data = encoded(smooth(64, 64), icc_profile=icc)
        assert difference(whole(data), read_picture(data).pixels_HW3) < 1


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_cut_jpeg_is_refused(share):
    data = encoded(smooth(200, 200))
    with pytest.raises(ImageError, match="damaged or truncated"):
        whole(data[: int(len(data) * share)])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"<html>not found</html>", "not a picture"),
        (b"\xff\xd8\xff\xe0 nothing", "image"),
        (encoded(Image.new("RGB", (2000, 1))), "more elongated than 100:1"),
    ],
)
def test_what_is_no_picture_is_refused_in_one_line(data, message):
    with pytest.raises(ImageError, match=message) as caught:
        whole(data)
    assert "\n" not in str(caught.value)
    assert "--max-pixels" not in str(caught.value)


def test_an_array_of_the_right_size_passes_unchanged():
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    assert np.array_equal(to_square(pixels, 64, 1, False, generator()).numpy(), pixels)


@given(
    left=st.floats(0, 0.9),
    top=st.floats(0, 0.9),
    width=st.floats(0.02, 0.1),
    height=st.floats(0.02, 0.1),
    crop=st.floats(0.3, 1),
    seed=st.integers(0, 1000),
    kind=st.sampled_from(["array", "JPEG"]),
)
@settings(max_examples=60)
def test_a_box_is_found_again_in_the_square(left, top, width, height, crop, seed, kind):
    """A bright rectangle in a dark picture lies where its box says, whatever crop and mirroring were drawn."""
    box = (left, top, left + width, top + height)
    pixels = np.zeros((200, 300, 3), np.uint8)
    pixels[round(box[1] * 200) : round(box[3] * 200), round(box[0] * 300) : round(box[2] * 300)] = 255
    square = torch.empty((128, 128, 3), dtype=torch.uint8)
    image = pixels if kind == "array" else encoded(Image.fromarray(pixels))
    found = fill_square(square, image, crop, True, generator(seed), box)
    assert 0 <= found[0] < found[2] <= 1
    assert 0 <= found[1] < found[3] <= 1
    rows, columns = np.nonzero(square.numpy()[..., 0] > 127)
    edges = columns.min() / 128, rows.min() / 128, (columns.max() + 1) / 128, (rows.max() + 1) / 128
    assert edges == pytest.approx(found, abs=0.03)


def test_without_a_box_the_whole_square_is_meant_and_the_draws_are_the_same():
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    squares = [torch.empty((32, 32, 3), dtype=torch.uint8) for _ in range(2)]
    assert fill_square(squares[0], image, 0.3, True, generator(4)) == (0, 0, 1, 1)
    view = draw_view((60, 80), 0.3, True, generator(4))
    part = image[view.top : view.top + view.height, view.left : view.left + view.width]
    assert difference(squares[0], to_square(part[:, ::-1] if view.mirrored else part, 32, 1, False, generator())) < 1
