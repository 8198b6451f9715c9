"""``clippy export``: write a model in another form."""

from pathlib import Path
from typing import Annotated

import typer

from clippy_cli import console, options, usable


def export(
    form: Annotated[str, typer.Argument(metavar="FORM", help="An exporter that `clippy plugins` lists.")],
    model: options.Model = "clippy-lite",
    checkpoint: options.Checkpoint = None,
    out: options.Out = Path("clippy-export"),
    json: options.Json = False,
) -> None:
    """Write a model in another form."""
    from clippy_core.export import EXPORTERS
    from clippy_core.model.presets import find

    exporter = usable.load(EXPORTERS, form)
    if checkpoint is None:
        directory = find(model)
        from clippy_core.model.weights import load_directory

        loaded = load_directory(directory)
    else:
        from clippy_core.model.convert import load_checkpoint

        loaded = load_checkpoint(model, checkpoint)
    files = [str(file) for file in exporter(loaded, out)]
    if json:
        console.print_json({"model": model, "form": form, "files": files})
        return
    for file in files:
        console.results().print(file, markup=False, soft_wrap=True)
