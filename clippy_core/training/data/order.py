"""Which sample comes at which position: pure functions of seed, epoch and position."""

import numpy as np

ATTEMPTS = 8
"""How many other samples are tried in place of one that cannot be used."""


def generator_of(seed: int, *words: int) -> np.random.Generator:
    """A generator for a whole epoch, decided by its arguments alone."""
    return np.random.default_rng([seed, *words])


def generator_at(seed: int, epoch: int, position: int) -> np.random.Generator:
    """The generator of one position in an epoch; cheap enough to make one a sample."""
    return np.random.Generator(np.random.Philox(key=np.array([(epoch << 32) + seed, position], np.uint64)))


def permutation(length: int, epoch: int, seed: int) -> np.ndarray:
    """All numbers below ``length`` in random order, ``int64``."""
    return generator_of(seed, epoch).permutation(length)


def spares(positions_B: np.ndarray, length: int, epoch: int, seed: int) -> np.ndarray:
    """Positions of an epoch to try, one after the other, where a sample cannot be used; ``int64``, B×attempts.

    They lie anywhere in the epoch, because neighbours may suffer from the same damage.
    """
    words = positions_B.astype(np.uint64)[:, None] * np.uint64(ATTEMPTS) + np.arange(ATTEMPTS, dtype=np.uint64)
    key = int(generator_of(seed, epoch, 1).integers(2**63))
    return (_mixed(words ^ np.uint64(key)) % np.uint64(length)).astype(np.int64)


def _mixed(words: np.ndarray) -> np.ndarray:
    """Numbers that look random, each decided by the one at its place.

    Source: Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators", figure 16 (mix64variant13).
    """
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
