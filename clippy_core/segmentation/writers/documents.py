"""What a picture has in it, as text and as arrays.

Shapes: h/w grid of the model's locations, K label.
"""

import io
import zipfile
from pathlib import Path

import numpy as np

from clippy_core.errors import UsageError
from clippy_core.files import refuse_foreign, write_bytes, write_json
from clippy_core.segmentation.result import Segmentation
from clippy_core.segmentation.writers import JSON_KINDS, with_suffix

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The date of everything in an archive: the earliest that the format knows."""


def write_json_summary(result: Segmentation, stem: Path) -> list[Path]:
    """``.json``: image, size, model, every label with pixels, fraction, score and box, and the time each step took.

    Raises:
        DataError: There is a file of that name by somebody else.
    """
    path = with_suffix(stem, ".json")
    refuse_foreign(path, *JSON_KINDS)
    write_json(path, result.to_dict())
    return [path]


def write_score_maps(result: Segmentation, stem: Path) -> list[Path]:
    """``.scores.npz``: the cosine of every location of the model's grid with every label.

    ``scores`` is ``float32`` of shape (K, h, w), −1…1; ``labels`` are the K names; ``size`` is the picture's height and
    width in pixels. A background that is a rule on certainty has no cosine of its own and no map: the labels are
    those that the model compared.

    Raises:
        UsageError: The segmentation was made without score maps.
    """
    scores_hwK = getattr(result, "score_grid", None)
    if scores_hwK is None:
        raise UsageError("the scoremaps output needs a segmentation made with score_map=True")
    names = result.labels[len(result.labels) - scores_hwK.shape[2] :]
    arrays = {
        "scores": np.ascontiguousarray(scores_hwK.transpose(2, 0, 1), np.float32),
        "labels": np.array(names),
        "size": np.array([result.height, result.width]),
    }
    path = with_suffix(stem, ".scores.npz")
    write_bytes(path, _archive(arrays))
    return [path]


def _archive(arrays: dict[str, np.ndarray]) -> bytes:
    """The bytes of an ``.npz`` file, without the time of day that ``numpy.savez`` writes into it."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            file = io.BytesIO()
            np.lib.format.write_array(file, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", EPOCH), file.getvalue(), zipfile.ZIP_DEFLATED)
    return packed.getvalue()
