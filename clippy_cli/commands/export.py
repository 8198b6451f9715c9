"""``clippy export``: write a model in another form."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clippy_cli import console, options, usable

if TYPE_CHECKING:
    from clippy_core.model.weights import LoadedModel


def export(
    form: Annotated[str, typer.Argument(metavar="FORM", help="onnx, or another exporter that `clippy plugins` lists.")],
    model: options.Model = "clippy-lite",
    checkpoint: options.Checkpoint = None,
    out: options.Out = Path("clippy-export"),
    parts: Annotated[
        str, typer.Option("--parts", metavar="PARTS", help="What to write: vision, text, segmenter, labelmap.")
    ] = "vision,text,segmenter",
    quantize: Annotated[
        str,
        typer.Option("--quantize", metavar="none|fp16|int8", help="Smaller numbers; none is 32-bit floating point."),
    ] = "none",
    calibrate: Annotated[
        Path | None,
        typer.Option(
            "--calibrate",
            metavar="DIR",
            help="Pictures on which int8 measures its ranges, 64 at most. (default: anew for every input)",
        ),
    ] = None,
    opset: Annotated[int, typer.Option("--opset", metavar="N", help="ONNX operator set, 18 to 23.")] = 20,
    json: options.Json = False,
) -> None:
    """Write a model in another form.

    ONNX files take pictures of any size and any labels. Each is run under ONNX Runtime and compared with PyTorch before
    it is kept; one that differs is deleted, and the exit code is 3.
    """
    from clippy_core.export import EXPORTERS, run_exporter
    from clippy_core.export.options import ExportOptions

    exporter = usable.load(EXPORTERS, form)
    names = tuple(part.strip() for part in parts.split(",") if part.strip())
    chosen: dict[str, Any] = {"parts": names, "quantize": quantize, "calibrate": calibrate, "opset": opset}
    ExportOptions(**chosen)
    loaded, source = _load(model, checkpoint)
    files = run_exporter(form, exporter, loaded, out, ExportOptions(**chosen, source=source, tell=console.notice))
    if json:
        console.print_json({"model": model, "form": form, "files": [str(file) for file in files], **_sheet(files)})
        return
    for file in files:
        console.print_path(file)


def _load(model: str, checkpoint: Path | None) -> "tuple[LoadedModel, Path | None]":
    """The model, and the directory of its weights unless they are those of a checkpoint."""
    if checkpoint is not None:
        from clippy_core.model.convert import load_checkpoint

        return load_checkpoint(model, checkpoint), None
    from clippy_core.model.presets import find

    directory = find(model)
    from clippy_core.model.weights import load_directory

    return load_directory(directory), directory


def _sheet(files: list[Path]) -> dict[str, Any]:
    """Precision and figures of an export that was checked, from the sheet it leaves."""
    from clippy_core.model.directory import read_json

    sheets = [read_json(file) for file in files if file.name in ("onnx.json", "torch.json")]
    return {key: sheets[0][key] for key in ("precision", "parity")} if sheets else {}
