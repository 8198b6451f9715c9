"""``clippy models``: which models there are."""

from typing import Annotated, Any

import typer

from clippy_cli import console, options

app = typer.Typer(add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})


@app.callback(invoke_without_command=True)
def models(context: typer.Context, json: options.Json = False) -> None:
    """Which models there are, where their weights come from, and which are on disk."""
    if context.invoked_subcommand is None:
        list_models(json)


@app.command("list")
def list_models(json: options.Json = False) -> None:
    """One line a model."""
    from clippy_core.model.catalogue import catalogue

    cards = catalogue()
    if json:
        console.print_json({"models": cards})
        return
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("model", "on disk", "what it is", "licence", "package"):
        table.add_column(heading, overflow="fold")
    for card in cards:
        if card["error"]:
            console.warn(card["error"])
        on_disk = _megabytes(card["bytes"]) if card["bytes"] else "–"
        table.add_row(card["name"], on_disk, card["description"], card["licence"], card["package"])
    console.results().print(table)


@app.command("info")
def info(
    name: Annotated[str, typer.Argument(metavar="MODEL", help="A model's name or directory.")],
    json: options.Json = False,
) -> None:
    """Everything known about one model."""
    from clippy_core.model.catalogue import describe

    card = describe(name)
    if json:
        console.print_json(card)
        return
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for key, value in card.items():
        if value not in (None, ""):
            table.add_row(f"[bold]{key.replace('_', ' ')}[/bold]", _shown(key, value))
    console.results().print(table)


def _shown(key: str, value: Any) -> str:
    if key == "bytes":
        return _megabytes(value)
    if isinstance(value, int):
        return f"{value:,}"
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
