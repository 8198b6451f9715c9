"""Pictures that are there twice: alike to the model and alike to the eye.

A high cosine alone says that two pictures show the same kind of thing; a difference hash alone takes smooth pictures
for one another. Together they mean one picture, perhaps resized, recompressed, brightened or lightly cropped.

Shapes: N picture, H/W pixel.
Source of the hash: N. Krawetz, *Kind of Like That*, hackerfactor.com, 2013 (dHash).
"""

from dataclasses import dataclass

import numpy as np

BITS = 10
"""Of 64: hashes that differ in at most so many are alike."""
MARGIN = 2
"""Of 255: what is brighter by no more is as bright, so that the noise of compression in a plain sky says nothing."""
BLOCK = 512


@dataclass(frozen=True)
class Duplicate:
    """Two pictures that are one.

    Attributes:
        one: Number of the first.
        other: Number of the second.
        cosine: Of their embeddings.
        bits: How many of 64 bits of their hashes differ.
    """

    one: int
    other: int
    cosine: float
    bits: int


def perceptual_hash(pixels_HW3: np.ndarray) -> int:
    """64 bits, row by row from the top left: whether it becomes brighter from each of 8×8 places to the next one."""
    import cv2

    grey_HW = cv2.cvtColor(pixels_HW3, cv2.COLOR_RGB2GRAY)
    small_89 = cv2.resize(grey_HW, (9, 8), interpolation=cv2.INTER_AREA).astype(np.int16)
    bits_8B = np.packbits(small_89[:, 1:] > small_89[:, :-1] + MARGIN, axis=1)
    return int.from_bytes(bits_8B.tobytes(), "big")


def find_duplicates(
    pooled_ND: np.ndarray, hash_N: np.ndarray, cosine: float
) -> tuple[list[Duplicate], list[tuple[int, ...]]]:
    """Pairs with at least that cosine and hashes that are alike, and the groups they make.

    Args:
        pooled_ND: Unit vectors.
        hash_N: From :func:`perceptual_hash`, ``uint64``.
        cosine: -1…1.

    Returns:
        Pairs, the most alike first; groups of numbers, each ascending, in order of their first.
    """
    pairs = []
    for first in range(0, len(pooled_ND), BLOCK):
        cosines_BN = pooled_ND[first : first + BLOCK] @ pooled_ND.T
        for row, other in zip(*np.nonzero(cosines_BN >= cosine - 1e-6), strict=True):
            one = first + int(row)
            bits = int(np.bitwise_count(hash_N[one] ^ hash_N[other]))
            if one < other and bits <= BITS:
                pairs.append(Duplicate(one, int(other), min(1.0, float(cosines_BN[row, other])), bits))
    return sorted(pairs, key=lambda pair: (-pair.cosine, pair.bits, pair.one, pair.other)), groups(pairs)


def groups(pairs: list[Duplicate]) -> list[tuple[int, ...]]:
    """Numbers that are joined by pairs, directly or through others."""
    parent: dict[int, int] = {}

    def root(number: int) -> int:
        while parent.setdefault(number, number) != number:
            number = parent[number]
        return number

    for pair in pairs:
        one, other = sorted((root(pair.one), root(pair.other)))
        parent[other] = one
    together: dict[int, list[int]] = {}
    for number in sorted(parent):
        together.setdefault(root(number), []).append(number)
    return [tuple(numbers) for _, numbers in sorted(together.items())]
