"""Towers as graphs without weights, which ship inside the package. Imports neither torch nor onnxruntime.

What a tower computes is decided by its architecture; the weights lie in the model directory already. So a graph of a
few hundred kilobytes, together with any ``model.safetensors`` of that architecture, is a model that ONNX Runtime can
run: nothing is exported first, nothing is stored twice, and a model that was trained further needs no new graph.

A folder in ``weightless`` holds ``vision.onnx`` (input ``pixels`` float32 (B, 3, H, W), outputs ``patches``
(B, h, w, D) and ``pooled`` (B, D)), ``text.onnx`` (inputs ``ids`` and ``mask`` int64 (B, L), output ``embeddings``
(B, D)) and ``graph.json``, which says whose they are and which weights each of them takes, by name and shape. Weights
are external data without a file. One of them, the table of token embeddings, is an *input* of the text graph instead,
so that only the rows that a text needs are ever unpacked. ``recipes/clippy-lite/graphs.py`` writes such a folder.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clippy_core.errors import CheckpointError
from clippy_core.model.config import ModelConfig
from clippy_core.model.directory import read_json
from clippy_core.model.stored import StoredWeights

FOLDER = Path(__file__).parent / "weightless"
DOCUMENT = "graph.json"
FORMAT = 1
NOT_ARCHITECTURE = {"vision": ("size", "mean", "std"), "text": ("max_tokens",)}
"""Fields that say how to prepare the input, and leave what is computed from it as it is."""


@dataclass(frozen=True)
class Graph:
    """The graphs of one architecture.

    Attributes:
        folder: Where they lie.
        stride: Pixels per grid cell.
        weights: Shape of every weight by name, for each part.
        table: Name of the weights that are token embeddings.
    """

    folder: Path
    stride: int
    weights: dict[str, dict[str, tuple[int, ...]]]
    table: str

    def require_fit(self, stored: StoredWeights, config: ModelConfig) -> None:
        """Make sure that the graphs' weights are there, and no others.

        Raises:
            CheckpointError: They are not; one line that names the first few.
        """
        expected = self.weights["vision"] | self.weights["text"]
        problems = [f"misses {name}" for name in expected if name not in stored.names]
        problems += [f"has an unknown {name}" for name in sorted(stored.names - expected.keys()) if not _unused(name)]
        problems += [
            f"has {name} of shape {list(stored.shape(name))} instead of {list(shape)}"
            for name, shape in expected.items()
            if name in stored.names and stored.shape(name) != shape
        ]
        if problems:
            more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
            raise CheckpointError(f"{stored.path}: does not fit {config.name!r}: {'; '.join(problems[:3])}{more}")


def find_graph(config: ModelConfig, folder: Path = FOLDER) -> Graph | None:
    """The graphs of a model's architecture, if there are any."""
    wanted = architecture(config)
    for path in sorted(folder.glob(f"*/{DOCUMENT}")):
        document = read_json(path)
        if document.get("format") == FORMAT and document.get("architecture") == wanted:
            weights = {
                part: {name: tuple(shape) for name, shape in shapes.items()}
                for part, shapes in document["weights"].items()
            }
            return Graph(path.parent, document["stride"], weights, document["table"])
    return None


def architecture(config: ModelConfig) -> str:
    """A hash of everything in a configuration that decides what the towers compute."""
    document: dict[str, Any] = {
        part: {name: value for name, value in config.to_dict()[part].items() if name not in left_out}
        for part, left_out in NOT_ARCHITECTURE.items()
    }
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _unused(name: str) -> bool:
    return name == "logit_scale" or name.endswith(".num_batches_tracked")
