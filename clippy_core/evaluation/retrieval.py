"""Does a caption find its picture among all pictures, and a picture its caption?

Shapes: N picture, M caption, D embedding.
"""

import numpy as np

from clippy_core.errors import DataError

KS = (1, 5, 10)
TIE = 1e-9
"""Cosines closer than this are equal: far more than float64 loses, far less than embeddings differ by."""


def ranks(
    images_ND: np.ndarray, texts_MD: np.ndarray, owners_M: np.ndarray | None = None, *, tile: int = 1024
) -> tuple[np.ndarray, np.ndarray]:
    """How many wrong ones stand before the right one, for every picture and for every caption.

    Ties count against the model. Of several captions of one picture, the best is taken, and its other captions are
    not wrong ones. Never holds more than ``tile`` × ``tile`` cosines.

    Args:
        images_ND: One vector a picture.
        texts_MD: One vector a caption.
        owners_M: Index of each caption's picture; without it, caption ``i`` belongs to picture ``i``.
        tile: Rows and columns compared at a time.

    Returns:
        Ranks from 0 of pictures' captions, shape (N,), and of captions' pictures, shape (M,); ``int64``.

    Raises:
        DataError: Shapes that do not fit each other, or a picture without a caption.
    """
    if owners_M is None:
        owners_M = np.arange(len(texts_MD))
    well_formed = images_ND.ndim == texts_MD.ndim == 2 and images_ND.shape[1:] == texts_MD.shape[1:]
    if not well_formed or len(owners_M) != len(texts_MD):
        raise DataError(f"{images_ND.shape} pictures, {texts_MD.shape} captions, {owners_M.shape} owners do not fit")
    if set(owners_M.tolist()) != set(range(len(images_ND))):
        raise DataError(f"{len(images_ND)} pictures, but captions of {len(set(owners_M.tolist()))}; each needs one")
    images_ND, texts_MD = images_ND.astype(np.float64), texts_MD.astype(np.float64)
    own_M = np.einsum("md,md->m", images_ND[owners_M], texts_MD)
    best_N = np.full(len(images_ND), -np.inf)
    np.maximum.at(best_N, owners_M, own_M)

    of_images_N, of_texts_M = np.zeros(len(images_ND), np.int64), np.zeros(len(texts_MD), np.int64)
    for top in range(0, len(images_ND), tile):
        rows = slice(top, top + tile)
        for left in range(0, len(texts_MD), tile):
            columns = slice(left, left + tile)
            cosines_nm = images_ND[rows] @ texts_MD[columns].T
            wrong_nm = owners_M[columns] != np.arange(top, top + len(cosines_nm))[:, None]
            of_images_N[rows] += (wrong_nm & (cosines_nm >= best_N[rows, None] - TIE)).sum(1)
            of_texts_M[columns] += (wrong_nm & (cosines_nm >= own_M[columns] - TIE)).sum(0)
    return of_images_N, of_texts_M


def recall(
    images_ND: np.ndarray, texts_MD: np.ndarray, owners_M: np.ndarray | None = None, *, tile: int = 1024
) -> dict[str, float]:
    """Share of pictures and captions whose counterpart is among the first 1, 5 and 10; raises as :func:`ranks`."""
    to_texts_N, to_images_M = ranks(images_ND, texts_MD, owners_M, tile=tile)
    return {
        **{f"image to text R@{k}": float((to_texts_N < k).mean()) for k in KS},
        **{f"text to image R@{k}": float((to_images_M < k).mean()) for k in KS},
    }
