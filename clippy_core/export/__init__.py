"""Taking a model elsewhere.

An exporter is a function ``export(loaded, out, options) -> files written`` that gets a loaded model, an output folder
and :class:`~clippy_core.export.options.ExportOptions`; one that has nothing to choose may leave ``options`` out. Other
packages register theirs under the entry-point group ``clippy.exporters``.
"""

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clippy_core.errors import UsageError
from clippy_core.export.options import ExportOptions
from clippy_core.registry import Registry

if TYPE_CHECKING:
    from clippy_core.model.weights import LoadedModel

Exporter = Callable[..., Sequence[Path]]

EXPORTERS = Registry(
    "clippy.exporters",
    "exporter",
    {
        "onnx": (
            "clippy_core.export.onnx:export_onnx",
            "ONNX files for any picture size, checked against PyTorch before they are kept",
        ),
        "torch": (
            "clippy_core.export.program:export_programs",
            "torch.export programs (.pt2) that run without this package",
        ),
        "safetensors": (
            "clippy_core.export.directory:export_directory",
            "model directory in fp32 that --model and load() read",
        ),
    },
)


def run_exporter(
    name: str, exporter: Exporter, loaded: "LoadedModel", out: Path, options: ExportOptions | None = None
) -> list[Path]:
    """Call an exporter, with the options if it takes any.

    Args:
        name: What it is registered as.
        exporter: The function.
        loaded: The model.
        out: The folder.
        options: How; None for the defaults.

    Returns:
        The files it wrote.

    Raises:
        UsageError: Options for an exporter that takes none.
        PartialError: A file failed the exporter's own check and was not kept.
    """
    options = options or ExportOptions()
    if takes_options(exporter):
        return list(exporter(loaded, out, options))
    if chosen := options.chosen():
        raise UsageError(f"exporter {name!r} takes no {', '.join(chosen)}; only the model and --out")
    return list(exporter(loaded, out))


def takes_options(exporter: Exporter) -> bool:
    """Whether an exporter has a third argument."""
    try:
        parameters = inspect.signature(exporter).parameters.values()
    except (TypeError, ValueError):
        # Callables written in C may have no signature to read.
        return False
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return True
    return (
        sum(parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD) for parameter in parameters)
        > 2
    )
