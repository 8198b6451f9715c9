"""What a classifier is shown: against torchvision's transforms and the segmenter's own resizing."""

import warnings

import numpy as np
import pytest
from PIL import Image
from torchvision import transforms

from clippy_core.errors import ImageError
from clippy_core.evaluation.zero_shot.pictures import centre_crop, read_ahead, resize_whole
from clippy_core.model.config import VisionConfig
from clippy_core.model.preprocess import to_input, working_size

SIZES = [(41, 60), (60, 41), (48, 48), (224, 301), (500, 375), (333, 1000), (33, 39), (225, 224)]


def noise(size):
    return np.random.default_rng(sum(size)).integers(0, 256, (*size, 3)).astype(np.uint8)


@pytest.mark.parametrize("side", [32, 224])
@pytest.mark.parametrize("size", SIZES)
def test_the_crop_is_torchvision_s(size, side):
    published = transforms.Compose(
        [transforms.Resize(side, transforms.InterpolationMode.BICUBIC), transforms.CenterCrop(side)]
    )
    expected = np.asarray(published(Image.fromarray(noise(size))))
    assert np.array_equal(centre_crop(noise(size), side), expected)


@pytest.mark.parametrize("size", SIZES)
def test_a_whole_picture_is_as_the_segmenter_sees_it(size):
    config, target = VisionConfig("vit_base_patch16_224"), working_size(size, 64, 16)
    prepared = resize_whole(noise(size), 64, 16)
    assert prepared.shape == (*target, 3)
    assert np.array_equal(to_input(prepared, target, config), to_input(noise(size), target, config))


def test_batches_come_in_order_with_what_is_wrong_in_its_place(tmp_path):
    for number in range(9):
        Image.fromarray(np.full((4, 4, 3), number, np.uint8)).save(tmp_path / f"{number}.png")
    (tmp_path / "4.png").write_bytes(b"")
    batches = [[0, 1], [2, 3], [4, 5], [6, 7], [8]]
    filters = list(warnings.filters)
    found = list(read_ahead(batches, lambda number: tmp_path / f"{number}.png", lambda pixels: pixels))
    assert warnings.filters == filters
    assert [[number for number, _ in batch] for batch in found] == batches
    pixels = dict(item for batch in found for item in batch)
    assert isinstance(pixels[4], ImageError)
    assert all((pixels[number] == number).all() for number in range(9) if number != 4)


def test_pictures_beyond_the_limit_are_refused(tmp_path):
    Image.new("RGB", (20, 20)).save(tmp_path / "0.png")
    (((_, found),),) = read_ahead([[0]], lambda _: tmp_path / "0.png", lambda pixels: pixels, max_pixels=399)
    assert "400 pixels" in str(found)


def test_what_preparing_raises_is_not_hidden(tmp_path):
    Image.new("RGB", (20, 20)).save(tmp_path / "0.png")

    def fail(pixels):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(read_ahead([[0]], lambda _: tmp_path / "0.png", fail))
