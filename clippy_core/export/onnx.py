"""A model as ONNX files that are known to compute what the model computes."""

import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clippy_core.errors import PartialError
from clippy_core.export import assemble, graphs, metadata, parity, quantise
from clippy_core.export.options import ExportOptions
from clippy_core.export.publish import folder_beside, publish
from clippy_core.files import to_json, write_json
from clippy_core.model.directory import CONFIG, TOKENIZER
from clippy_core.model.weights import LoadedModel

TOWERS = {"vision": "vision", "text": "text", "segmenter": "vision", "labelmap": "vision"}
"""Part → the tower it is made from."""


@dataclass
class Verdict:
    """What came of the parts.

    Attributes:
        entries: File name → what the sheet says about it, of those that passed.
        figures: Part → how far it is from PyTorch, of those that passed.
        failures: One line for each that did not.
    """

    entries: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)


def export_onnx(loaded: LoadedModel, out: Path, options: ExportOptions | None = None) -> list[Path]:
    """Write ONNX files, the tokenizer, the configuration and ``onnx.json`` into a folder.

    All is made in a temporary folder beside ``out`` and checked there: each file by ``onnx.checker``, and under ONNX
    Runtime against PyTorch. Then what passed takes its place, ``onnx.json`` last, and files of an earlier export that
    are no longer listed go. If nothing passed, the folder stays as it was.

    Returns:
        The files written.

    Raises:
        DeviceError: A package that is needed is not installed.
        PartialError: A file failed the check; the message names part, figure and tolerance. The others were kept.
        DataError: No picture to calibrate with, or a model that cannot be traced.
        OSError: The folder cannot be written.
    """
    assemble.require_packages()
    options = options or ExportOptions()
    parts = [part for part in TOWERS if part in options.parts]
    with folder_beside(Path(out)) as making:
        _write(parts, loaded, making, options)
        common = metadata.describe(loaded, options)
        verdict = _judge(parts, loaded, making, options, common)
        _write_beside(loaded, making, {**common, "files": verdict.entries, "parity": verdict.figures})
        names = [name for file, entry in verdict.entries.items() for name in (file, *entry.get("external", ()))]
        files = publish(making, Path(out), [*names, TOKENIZER, CONFIG, metadata.SHEET]) if names else []
    if verdict.failures:
        raise PartialError("; ".join(verdict.failures))
    return files


def _write(parts: list[str], loaded: LoadedModel, making: Path, options: ExportOptions) -> None:
    """Write the files of all parts in the precision asked for."""
    model = loaded.model.eval()
    # Before minutes go into tracing.
    inputs = quantise.calibration_inputs(options.calibrate, loaded) if options.calibrate else None
    vision, text, segmenter = (making / f"{part}.onnx" for part in ("vision", "text", "segmenter"))
    for tower in dict.fromkeys(TOWERS[part] for part in parts):
        options.say(f"tracing {tower}")
        path, part = (text, graphs.text_part(model)) if tower == "text" else (vision, graphs.vision_part(model))
        assemble.write_part(part, path, options.opset)
        if options.precision != "fp32":
            options.say(f"turning {tower} into {options.precision}")
            quantise.quantise(path, options.precision, inputs if tower == "vision" else None)
    if "segmenter" in parts or "labelmap" in parts:
        assemble.write_segmenter(vision, segmenter, model.vision.width)
    if "labelmap" in parts:
        assemble.write_labelmap(segmenter, making / "labelmap.onnx")


def _judge(
    parts: list[str], loaded: LoadedModel, making: Path, options: ExportOptions, common: dict[str, Any]
) -> Verdict:
    """Compare every part with PyTorch."""
    seed = secrets.randbits(32) if options.seed is None else options.seed
    verdict = Verdict()
    for part in parts:
        options.say(f"checking {part}")
        path = making / f"{part}.onnx"
        assemble.set_metadata(path, metadata.properties(common, part))
        try:
            found, failure = parity.check(part, path, loaded, seed).judge(parity.TOLERANCES[options.precision])
        except parity.CannotRunError as error:
            found, failure = {}, f"it cannot be run ({error})"
        if failure is None:
            verdict.entries[path.name] = metadata.describe_file(path)
            verdict.figures[part] = found | {"seed": seed}
        else:
            verdict.failures.append(f"{path.name} in {options.precision} was not kept: {failure}")
    return verdict


def _write_beside(loaded: LoadedModel, making: Path, sheet: dict[str, Any]) -> None:
    """Write what a program needs besides the parts."""
    (making / TOKENIZER).write_bytes(loaded.tokenizer.path.read_bytes())
    (making / CONFIG).write_bytes(to_json(loaded.model.config.to_dict(), indent=2))
    write_json(making / metadata.SHEET, sheet)
