"""The models that can be asked for by name. Imports no torch.

A preset is data: a configuration and where its weights come from. To add one, write a function that returns a
:class:`Preset` and register it here, or from another package under the entry-point group ``clippy.models``.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clippy_core.errors import ClippyError, DataError, PluginError
from clippy_core.model.config import ModelConfig
from clippy_core.model.hub import PREFIX, fetch_directory
from clippy_core.registry import OWN_DISTRIBUTION, Registry

BUNDLED = Path(__file__).parent / "bundled"


@dataclass(frozen=True)
class PublishedWeights:
    """A checkpoint that somebody publishes.

    Attributes:
        url: Where it is.
        sha256: Its hash in hexadecimal, or None where none is published; then the first download's is recorded.
    """

    url: str
    sha256: str | None


@dataclass(frozen=True)
class Preset:
    """A model that can be asked for by name.

    Attributes:
        config: What to build.
        directory: Model directory with the weights on this machine, or None where there are none yet.
        source: Where the weights come from, in words.
        weights: A checkpoint that somebody publishes, which ``clippy models pull`` fetches, if there is one.
        init_vision: Where training of the image tower starts, such as ``"timm:vit_base_patch16_224.dino"``.
        init_text: Where training of the text tower starts, such as ``"hf:sentence-transformers/sentence-t5-base"``.
        tokenizer: Hub id or directory whose ``tokenizer.json`` belongs to the text tower.
        parameters: Numbers that the model has to learn, for models whose weights are not on this machine.
        training: Tables of a training configuration that suit this model, such as ``{"optim": {"lr": 1e-3}}``.
    """

    config: ModelConfig
    directory: Path | None
    source: str
    weights: PublishedWeights | None = None
    init_vision: str | None = None
    init_text: str | None = None
    tokenizer: str | None = None
    parameters: int | None = None
    training: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def clippy_lite() -> Preset:
    """The model that ships inside the package."""
    directory = BUNDLED / "clippy-lite"
    config = ModelConfig.from_dict(json.loads((directory / "config.json").read_text(encoding="utf-8")))
    return Preset(config, directory, "ships inside the package")


MODELS = Registry(
    "clippy.models",
    "model",
    {
        "clippy-lite": ("clippy_core.model.presets:clippy_lite", "small, bundled, works offline"),
        "clippy-B-16": ("clippy_core.model.families:clippy_b_16", "the published checkpoint's model"),
        "clippy-B-16-paper": ("clippy_core.model.families:clippy_b_16_paper", "the paper's model, patches only"),
        "clippy-S-16": ("clippy_core.model.families:clippy_s_16", "a smaller image tower"),
        "clippy-B-14-dinov2": ("clippy_core.model.families:clippy_b_14_dinov2", "DINOv2 with registers"),
        "clippy-B-16-dinov3": ("clippy_core.model.families:clippy_b_16_dinov3", "DINOv3 with registers"),
        "clippy-micro": ("clippy_core.model.families:clippy_micro", "for experiments on a CPU"),
    },
)


def get_preset(name: str) -> Preset:
    """What is registered under a name.

    Raises:
        UsageError: An unknown name; the message offers near ones.
        PluginError: Two packages claim the name, or the package's function fails or returns something else.
    """
    entry = MODELS.entry(name)
    make = entry.load()
    try:
        preset = make()
    except ClippyError:
        raise
    except Exception as error:
        # A plug-in may raise anything; a failing preset of our own is a mistake of ours and propagates.
        if entry.source == OWN_DISTRIBUTION:
            raise
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise PluginError(f"model {name!r} of package {entry.source!r} failed: {reason}") from error
    if not isinstance(preset, Preset):
        raise PluginError(f"model {name!r} of package {entry.source!r} is a {type(preset).__name__}, not a Preset")
    return preset


def find(model: str | os.PathLike[str]) -> Path:
    """Where the weights of a model lie: by registered name, by directory, or as ``hf:ORG/NAME`` on the hub.

    A model on the hub is fetched into the hub's own cache first; without a network, what is there is used.

    Raises:
        UsageError: An unknown name; the message offers near ones.
        PluginError: A model of another package that cannot be used; see :func:`get_preset`.
        DataError: A path that does not exist, a model whose weights are not on this machine, or one on the hub that
            cannot be had.
    """
    if isinstance(model, str) and model in MODELS:
        directory = get_preset(model).directory
        if directory is None:
            raise DataError(_how_to_get(model))
        return Path(directory)
    if isinstance(model, str) and model.startswith(PREFIX):
        return fetch_directory(model)
    path = Path(model)
    if path.is_dir() and model != "":
        return path
    if isinstance(model, str) and os.sep not in model and not path.exists():
        MODELS.entry(model)  # raises, with the nearest names
    raise DataError(f"model {str(model)!r}: no such model directory")


def _how_to_get(name: str) -> str:
    preset = get_preset(name)
    if preset.weights is None:
        return f"model {name!r} has no weights on this machine: none are published; give yours by --checkpoint FILE"
    return (
        f"model {name!r} has no weights on this machine; fetch them with `clippy models pull {name}`, or download "
        f"{preset.weights.url} by hand and give it with --model {name} --checkpoint FILE"
    )
