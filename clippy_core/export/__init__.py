"""Taking a model elsewhere.

An exporter is a function ``export(model, out) -> files written`` that gets a loaded model and an output folder. Other
packages register theirs under the entry-point group ``clippy.exporters``.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from clippy_core.registry import Registry

if TYPE_CHECKING:
    from clippy_core.model.weights import LoadedModel

Exporter = Callable[["LoadedModel", Path], list[Path]]

EXPORTERS = Registry(
    "clippy.exporters",
    "exporter",
    {
        "safetensors": (
            "clippy_core.export.directory:export_directory",
            "model directory in fp32 that --model and load() read",
        )
    },
)
