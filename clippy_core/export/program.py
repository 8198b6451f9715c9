"""A model as ``torch.export`` programs: graphs with their weights that torch runs without this package."""

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clippy_core.errors import PartialError, UsageError
from clippy_core.export import graphs, metadata, parity
from clippy_core.export.options import ExportOptions
from clippy_core.export.publish import folder_beside, publish
from clippy_core.files import to_json, write_json
from clippy_core.model.directory import CONFIG, TOKENIZER, sha256
from clippy_core.model.weights import LoadedModel

PARTS = {"vision": graphs.vision_part, "text": graphs.text_part, "segmenter": graphs.segmenter_part}
SHEET = "torch.json"


def export_programs(loaded: LoadedModel, out: Path, options: ExportOptions | None = None) -> list[Path]:
    """Write ``vision.pt2``, ``text.pt2`` and ``segmenter.pt2``, the tokenizer, the configuration and ``torch.json``.

    Each program is loaded again and compared with the model on inputs that tracing never saw. Pictures have at least
    two rows and two columns of the grid and at most :data:`~clippy_core.export.graphs.MAX_CELLS`.

    Returns:
        The files written.

    Raises:
        UsageError: A part or an option that programs do not have.
        PartialError: A program differs from the model; the message names part, figure and tolerance. The others were
            kept.
        OSError: The folder cannot be written.
    """
    options = options or ExportOptions()
    _require_plain(options)
    common = {key: value for key, value in metadata.describe(loaded, options).items() if key != "opset"}
    common["torch"] = torch.__version__
    seed = secrets.randbits(32) if options.seed is None else options.seed
    entries: dict[str, Any] = {}
    figures: dict[str, Any] = {}
    failures = []
    with folder_beside(Path(out)) as making:
        for name in (part for part in PARTS if part in options.parts):
            path = making / f"{name}.pt2"
            options.say(f"tracing {name}")
            part = PARTS[name](loaded.model.eval())
            torch.export.save(graphs.trace(part), path)
            options.say(f"checking {name}")
            found, failure = _check(name, path, part.inputs, loaded, seed)
            if failure is None:
                entries[path.name] = {"bytes": path.stat().st_size, "sha256": sha256(path), "axes": part.axes}
                figures[name] = found | {"seed": seed}
            else:
                failures.append(f"{path.name} differs from the model and was not kept: {failure}")
        (making / TOKENIZER).write_bytes(loaded.tokenizer.path.read_bytes())
        (making / CONFIG).write_bytes(to_json(loaded.model.config.to_dict(), indent=2))
        write_json(making / SHEET, {**common, "files": entries, "parity": figures})
        files = publish(making, Path(out), [*entries, TOKENIZER, CONFIG, SHEET]) if entries else []
    if failures:
        raise PartialError("; ".join(failures))
    return files


def _require_plain(options: ExportOptions) -> None:
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown:
        raise UsageError(f"--parts has {unknown[0]!r}; `clippy export torch` knows {', '.join(PARTS)}")
    chosen = [name for name in options.chosen() if name != "--parts"]
    if chosen:
        raise UsageError(f"`clippy export torch` has no {', '.join(chosen)}; only `clippy export onnx` has")


def _check(
    name: str, path: Path, inputs: Sequence[str], loaded: LoadedModel, seed: int
) -> tuple[dict[str, Any], str | None]:
    """Figures of a program that is read again, and what is wrong with it in words."""
    module = torch.export.load(path).module()

    def run(arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
        found = module(*(torch.from_numpy(arrays[name]) for name in inputs))
        return [tensor.numpy() for tensor in (found if isinstance(found, tuple) else (found,))]

    return parity.compare(name, run, loaded, seed).judge(parity.TOLERANCES["fp32"])
