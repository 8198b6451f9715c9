"""``coco.json``: a run as one COCO data set with compressed RLE.

A mask in COCO is the lengths of runs down the columns, zeros and ones in turn. All masks of a picture are read off one
list of runs of the whole label map, so a hundred labels cost hardly more than one, and no mask is ever drawn.

Format: https://cocodataset.org/#format-data ; RLE as in ``pycocotools/mask.py``.

Shapes: H/W pixel, R run of equal labels down the columns.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from clippy_core.errors import DataError
from clippy_core.files import atomic_write, to_json, write_bytes
from clippy_core.segmentation.result import Segmentation
from clippy_core.segmentation.writers import CollectingWriter, fragment_path, stem_of_fragment
from clippy_core.version import __version__

NAME = "coco.json"
ID_BITS = 53
"""What every JSON reader can tell apart; two of a million pictures share an id once in 18,000 runs."""


def encode_masks(label_map_HW: np.ndarray, indices: Sequence[int]) -> dict[int, str]:
    """Compressed RLE of some labels of a map.

    Args:
        label_map_HW: Label indices, any unsigned integers.
        indices: The labels, each of which has a pixel.

    Returns:
        The ``counts`` of each label's mask, as ``pycocotools`` writes them.
    """
    from pycocotools import mask as rle_codec

    height, width = label_map_HW.shape
    flat_N = label_map_HW.ravel(order="F")
    start_R = np.flatnonzero(np.concatenate([[True], flat_N[1:] != flat_N[:-1]]))
    end_R = np.append(start_R[1:], flat_N.size)
    label_R = flat_N[start_R]
    order_R = np.argsort(label_R, kind="stable")
    first_K, last_K = (np.searchsorted(label_R[order_R], indices, side) for side in ("left", "right"))
    masks = {}
    for index, first, last in zip(indices, first_K.tolist(), last_K.tolist(), strict=True):
        runs = order_R[first:last]
        edges = np.stack([start_R[runs], end_R[runs]], axis=1).ravel()
        counts = np.diff(edges, prepend=0, append=flat_N.size)
        # A mask that reaches the last pixel ends with its ones.
        counts = counts[:-1] if counts[-1] == 0 else counts
        rle: Any = rle_codec.frPyObjects({"size": [height, width], "counts": counts.tolist()}, height, width)
        masks[index] = rle["counts"].decode("ascii")
    return masks


def image_id(file_name: str) -> int:
    """A number for a picture that depends on nothing but its name: the start of the name's SHA-256."""
    return int.from_bytes(hashlib.sha256(os.fsencode(file_name)).digest()[:8], "big") >> (64 - ID_BITS)


def annotations(result: Segmentation) -> list[dict[str, Any]]:
    """An annotation for each label that has a pixel, without ids of its own and of the picture; category = index + 1.

    The background, if there is one, is no category.
    """
    found = [label for label in result.summary()[1 if result.has_background else 0 :] if label.pixels]
    masks = encode_masks(result.label_map, [label.index for label in found])
    return [
        {
            "category_id": label.index + 1,
            "segmentation": {"size": [result.height, result.width], "counts": masks[label.index]},
            "area": label.pixels,
            "bbox": list(label.bbox),
            "iscrowd": 0,
            "score": round(label.score, 5),
        }
        for label in found
    ]


def write_fragment(result: Segmentation, stem: Path) -> list[Path]:
    """The picture's part of the data set: a line about it, and a line for each annotation."""
    first = 1 if result.has_background else 0
    head = {
        "name": Path(result.source).name or result.source,
        "width": result.width,
        "height": result.height,
        "model": result.model,
        "categories": [
            {"id": i + 1, "name": result.labels[i], "supercategory": ""} for i in range(first, len(result.labels))
        ],
    }
    path = fragment_path(stem, "coco", ".jsonl")
    write_bytes(path, b"".join(map(to_json, [head, *annotations(result)])))
    return [path]


def merge_fragments(out: Path, fragments: Sequence[Path]) -> list[Path]:
    """``OUT/coco.json`` of the pictures' fragments, which are read one at a time.

    Raises:
        DataError: A fragment is missing, damaged, or about other labels than the first.
    """
    heads = _heads(out, fragments)
    _, first = next(heads, ("", {}))
    categories, ids = first.get("categories", []), dict[int, None]()
    description = f"segmented by {first['model']}" if first else "no picture could be segmented"
    path = out / NAME
    with atomic_write(path) as file:
        file.write(b'{"info": ' + _dump({"description": description, "version": __version__}))
        file.write(b',\n"licenses": [],\n"categories": ' + _dump(categories) + b',\n"images": [')
        for number, (name, head) in enumerate(_heads(out, fragments)):
            if head["categories"] != categories:
                raise DataError(f"{name}: segmented with other labels than the run; --overwrite makes it anew")
            identity = image_id(name)
            while identity in ids:
                identity += 1
            ids[identity] = None
            image = {"id": identity, "file_name": name, "width": head["width"], "height": head["height"]}
            _write_entry(file, image, first=number == 0)
        file.write(b'],\n"annotations": [')
        number = 0
        for identity, fragment in zip(ids, fragments, strict=True):
            for line in _annotations(fragment):
                number += 1
                start = to_json({"id": number, "image_id": identity}).rstrip(b"}\n")
                file.write((b"\n" if number == 1 else b",\n") + start + b", " + line[1:])
        file.write(b"]}\n")
    return [path]


def _heads(out: Path, fragments: Sequence[Path]) -> Iterator[tuple[str, dict[str, Any]]]:
    """What each fragment says of its picture, and the picture's path below the input."""
    for fragment in fragments:
        _, head = next(_lines(fragment, 0), (b"", {}))
        if not {"name", "width", "height", "categories", "model"} <= head.keys():
            raise _damaged(fragment)
        stem = stem_of_fragment(fragment).relative_to(out)
        name = Path(head["name"])
        # Of two inputs with one path below what the user gave (x/img.jpg y/img.jpg), one has outputs of another name.
        own = stem.name in (name.stem, name.name)
        yield (stem.parent / name if own else stem).as_posix(), head


def _annotations(fragment: Path) -> Iterator[bytes]:
    return (line for line, _ in _lines(fragment, 1))


def _lines(fragment: Path, first: int) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """The objects in a fragment from line ``first``, as they are written and as they are meant."""
    try:
        with open(fragment, "rb") as file:
            for number, line in enumerate(file):
                if number >= first:
                    yield line.strip(), dict(json.loads(line))
    except OSError as error:
        raise DataError(f"{fragment}: cannot be read ({error.strerror}); --overwrite makes it anew") from error
    except (ValueError, TypeError) as error:
        raise _damaged(fragment) from error


def _damaged(fragment: Path) -> DataError:
    return DataError(f"{fragment}: damaged; --overwrite makes it anew")


def _write_entry(file: IO[bytes], entry: dict[str, Any], *, first: bool) -> None:
    file.write((b"\n" if first else b",\n") + _dump(entry))


def _dump(value: Any) -> bytes:
    return to_json(value).rstrip(b"\n")


write_coco = CollectingWriter(write_fragment, merge_fragments)
"""The writer ``coco``."""
