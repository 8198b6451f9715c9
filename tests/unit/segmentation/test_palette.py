"""Colours that stay apart, also for eyes that see fewer of them."""

import itertools

import numpy as np
import pytest

from clippy_core.segmentation.palette import BACKGROUND_COLOUR, PALETTE_N3, UNDECIDED_COLOUR, label_colours

# Machado, Oliveira and Fernandes, 2009, table 1 at severity 1.0; they act on linear RGB.
SIGHT = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}
# Ottosson, 2020: from linear RGB to cone responses, and from their cube roots to OKLab.
TO_CONES = np.array(
    [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
     [0.0883024619, 0.2817188376, 0.6299787005]]
)  # fmt: skip
TO_LAB = np.array(
    [[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099],
     [0.0259040371, 0.7827717662, -0.8086757660]]
)  # fmt: skip


def seen(colours_N3, sight):
    """OKLab coordinates of sRGB colours as someone with this sight sees them."""
    encoded = np.asarray(colours_N3) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    return np.cbrt(np.clip(linear @ SIGHT[sight].T, 0, 1) @ TO_CONES.T) @ TO_LAB.T


def nearest(colours_N3, sight):
    lab = seen(colours_N3, sight)
    return min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(lab, 2))


def test_the_measure_itself_tells_what_is_known():
    white, black = seen([(255, 255, 255), (0, 0, 0)], "normal")
    np.testing.assert_allclose(white, [1, 0, 0], atol=1e-3)
    np.testing.assert_allclose(black, [0, 0, 0], atol=1e-3)
    red_green = [(200, 60, 60), (110, 130, 40)]
    assert nearest(red_green, "deuteranopia") < nearest(red_green, "normal") / 2


# A step of 0.02 is just visible between fields side by side; tinted photographs need several.
@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize(("count", "least"), [(8, 0.07), (16, 0.07), (32, 0.05)])
def test_the_first_colours_are_told_apart_by_every_sight(sight, count, least):
    assert nearest(PALETTE_N3[:count], sight) >= least


def test_all_colours_differ():
    assert len({tuple(colour) for colour in PALETTE_N3.tolist()}) == len(PALETTE_N3) == 32


def test_labels_get_the_colours_in_order_and_start_over():
    for count in (1, 2, 32):
        np.testing.assert_array_equal(label_colours(count), PALETTE_N3[:count])
    many = label_colours(255)
    assert (many.shape, many.dtype) == ((255, 3), np.uint8)
    np.testing.assert_array_equal(many[32:64], PALETTE_N3)
    assert (many[1:] != many[:-1]).any(axis=1).all()


def test_the_background_is_grey_and_shifts_the_palette():
    np.testing.assert_array_equal(label_colours(1, background=True), [BACKGROUND_COLOUR])
    np.testing.assert_array_equal(label_colours(5, background=True), [BACKGROUND_COLOUR, *PALETTE_N3[:4]])
    assert label_colours(65_535, background=True).shape == (65_535, 3)


@pytest.mark.parametrize(("special", "least"), [(BACKGROUND_COLOUR, 0.09), (UNDECIDED_COLOUR, 0.03)])
@pytest.mark.parametrize("sight", SIGHT)
def test_background_and_undecided_are_no_label_colours(sight, special, least):
    assert np.linalg.norm(seen(PALETTE_N3[:16], sight) - seen([special], sight), axis=1).min() >= least
