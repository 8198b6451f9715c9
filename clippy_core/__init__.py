"""CLIPpy: say what you are looking for in words, get back where it is.

>>> import clippy_core
>>> result = clippy_core.load("clippy-lite").segment("photo.jpg", ["dog", "grass"])
>>> result.save("clippy-out/photo")

Importing this package is light; torch, timm and transformers are imported when a model is loaded.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from clippy_core.version import __version__

if TYPE_CHECKING:
    from clippy_core.model.config import ModelConfig as ModelConfig
    from clippy_core.segmentation.result import Segmentation as Segmentation
    from clippy_core.segmentation.segmenter import Segmenter as Segmenter
    from clippy_core.segmentation.segmenter import load as load

__all__ = ["ModelConfig", "Segmentation", "Segmenter", "__version__", "load"]

_LAZY = {
    "load": "clippy_core.segmentation.segmenter",
    "Segmenter": "clippy_core.segmentation.segmenter",
    "Segmentation": "clippy_core.segmentation.result",
    "ModelConfig": "clippy_core.model.config",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
