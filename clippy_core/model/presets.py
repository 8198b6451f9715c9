"""The models that can be asked for by name. Imports no torch.

A preset is data: a configuration and where its weights come from. To add one, write a function that returns a
:class:`Preset` and register it here, or from another package under the entry-point group ``clippy.models``.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from clippy_core.errors import DataError
from clippy_core.model.config import ModelConfig
from clippy_core.registry import Registry

BUNDLED = Path(__file__).parent / "bundled"


@dataclass(frozen=True)
class Preset:
    """A model that can be asked for by name.

    Attributes:
        config: What to build.
        directory: Model directory with the weights on this machine, or None where there are none yet.
        source: Where the weights come from, in words.
    """

    config: ModelConfig
    directory: Path | None
    source: str


def clippy_lite() -> Preset:
    """The model that ships inside the package."""
    directory = BUNDLED / "clippy-lite"
    config = ModelConfig.from_dict(json.loads((directory / "config.json").read_text(encoding="utf-8")))
    return Preset(config, directory, "ships inside the package")


MODELS = Registry(
    "clippy.models",
    "model",
    {"clippy-lite": ("clippy_core.model.presets:clippy_lite", "small, bundled, works offline")},
)


def find(model: str | os.PathLike[str]) -> Path:
    """Where the weights of a model lie, by registered name or by directory.

    Raises:
        UsageError: An unknown name; the message offers near ones.
        DataError: A path that does not exist, or a model whose weights are not on this machine.
    """
    if isinstance(model, str) and model in MODELS:
        directory = MODELS.load(model)().directory
        if directory is None:
            raise DataError(f"model {model!r} has no weights on this machine")
        return Path(directory)
    path = Path(model)
    if path.is_dir():
        return path
    if isinstance(model, str) and os.sep not in model and not path.exists():
        MODELS.entry(model)  # raises, with the nearest names
    raise DataError(f"model {str(model)!r}: no such model directory")
