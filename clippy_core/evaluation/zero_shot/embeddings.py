"""Pictures as the model sees them, batch by batch, decoded ahead, or from the cache.

Shapes: B picture, D embedding, H/W pixel.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from clippy_core.errors import ImageError
from clippy_core.evaluation.dense.cache import FeatureCache, hash_key
from clippy_core.evaluation.zero_shot.pictures import centre_crop, read_ahead, resize_whole
from clippy_core.evaluation.zero_shot.protocol import CROP, ClassificationProtocol
from clippy_core.segmentation.options import SegmentOptions
from clippy_core.segmentation.segmenter import Segmenter

Batch = Sequence[Path]


class Embedded(NamedTuple):
    """A batch of pictures.

    Attributes:
        pooled_BD: One unit vector a picture, ``float32``; zeros for one that cannot be used, no column if none can.
        errors: What is wrong with each picture; empty for those that can be used.
    """

    pooled_BD: np.ndarray
    errors: tuple[str, ...]


class Embedder:
    """A model that looks at pictures.

    Args:
        segmenter: The model.
        protocol: How pictures are prepared.
        max_pixels: Larger pictures cannot be used.
        cache: Where embeddings are kept; None to keep none.
        identity: What the model is, for the cache.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        protocol: ClassificationProtocol,
        max_pixels: int,
        cache: FeatureCache | None = None,
        identity: str = "",
    ) -> None:
        self.segmenter = segmenter
        stride = segmenter.model.vision.stride
        side = protocol.side(segmenter.config, stride)
        self._options = SegmentOptions(size=side, max_pixels=max_pixels)
        crop, whole = partial(centre_crop, side=side), partial(resize_whole, side=side, stride=stride)
        self._prepare = crop if protocol.picture == CROP else whole
        self._cache = cache
        self._about = [identity, "pooled", side, protocol.picture, max_pixels]

    def __call__(self, batches: Sequence[Batch]) -> Iterator[Embedded]:
        """The batches, in order."""
        keys = [[*self._about, [about(path) for path in batch]] if self._cache else [] for batch in batches]
        absent = [batch for batch, key in zip(batches, keys, strict=True) if not self._has(key)]
        ahead = self._read(absent)
        waiting = iter(absent)
        upcoming = next(waiting, None)
        for batch, key in zip(batches, keys, strict=True):
            if batch is upcoming:
                upcoming, decoded = next(waiting, None), next(ahead)
                compute = partial(self._embed, decoded)
            else:
                # It is in the cache. Should it turn out to be damaged there, nobody has decoded it ahead.
                compute = partial(self._embed_late, batch)
            kept = self._cache.get(key, compute) if self._cache else compute()
            yield Embedded(kept["pooled_BD"], tuple(kept["errors"].tolist()))

    def _has(self, key: list[Any]) -> bool:
        return self._cache is not None and (self._cache.folder / f"{hash_key(key)}.npz").is_file()

    def _read(self, batches: Sequence[Batch]) -> Iterator[list[np.ndarray | ImageError]]:
        for read in read_ahead(batches, Path, self._prepare, max_pixels=self._options.max_pixels):
            yield [pixels for _, pixels in read]

    def _embed_late(self, batch: Batch) -> dict[str, np.ndarray]:
        (decoded,) = self._read([batch])
        return self._embed(decoded)

    def _embed(self, decoded: list[np.ndarray | ImageError]) -> dict[str, np.ndarray]:
        """Pictures of one size go through the model together."""
        sizes: dict[tuple[int, ...], list[int]] = {}
        for index, pixels_HW3 in enumerate(decoded):
            if isinstance(pixels_HW3, np.ndarray):
                sizes.setdefault(pixels_HW3.shape, []).append(index)
        pooled_BD = np.zeros((len(decoded), 0), np.float32)
        for indices in sizes.values():
            pictures = [pixels for index in indices if isinstance(pixels := decoded[index], np.ndarray)]
            some_BD = self.segmenter.encode_batch(pictures, self._options).pooled_BD.float().cpu().numpy()
            if not pooled_BD.size:
                pooled_BD = np.zeros((len(decoded), some_BD.shape[1]), np.float32)
            pooled_BD[indices] = some_BD
        errors = [str(pixels) if isinstance(pixels, ImageError) else "" for pixels in decoded]
        return {"pooled_BD": pooled_BD, "errors": np.array(errors, str)}


def about(path: Path) -> list[Any]:
    """What tells a picture from what it was before it was changed; its path alone if there is none."""
    try:
        found = path.stat()
    except OSError:
        return [str(path.absolute())]
    return [str(path.absolute()), found.st_size, found.st_mtime_ns]
