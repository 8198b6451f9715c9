"""``clippy export``: write a model in another form."""

from pathlib import Path
from typing import Annotated

import typer

from clippy_cli import console, options, usable


def export(
    form: Annotated[str, typer.Argument(metavar="FORM", help="An exporter that `clippy plugins` lists.")],
    model: options.Model = "clippy-lite",
    out: options.Out = Path("clippy-export"),
    json: options.Json = False,
) -> None:
    """Write a model in another form."""
    from clippy_core.export import EXPORTERS
    from clippy_core.model.presets import find

    exporter = usable.load(EXPORTERS, form)
    directory = find(model)
    from clippy_core.model.weights import load_directory

    files = [str(file) for file in exporter(load_directory(directory), out)]
    if json:
        console.print_json({"model": model, "form": form, "files": files})
        return
    for file in files:
        console.results().print(file, markup=False, soft_wrap=True)
