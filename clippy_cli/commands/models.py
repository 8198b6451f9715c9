"""``clippy models``: which models there are."""

from typing import Annotated, Any

import typer

from clippy_cli import console, options

TITLES = {"bytes": "size on disk", "size": "picture size"}

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
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("model", "on disk", "parameters", "pixels", "what it is", "licence", "package"):
        numbers = heading in ("on disk", "parameters", "pixels")
        table.add_column(heading, overflow="fold", justify="right" if numbers else "left", no_wrap=numbers)
    for card in cards:
        if card["error"]:
            console.warn(card["error"])
        on_disk = _megabytes(card["bytes"]) if card["bytes"] else "–"
        about = Text("cannot be used", "red") if card["error"] else console.plain(card["description"])
        parameters = f"{card['parameters'] / 1e6:.1f} M" if card["parameters"] else "–"
        numbers = on_disk, parameters, str(card["size"] or "–")
        names = map(console.plain, (card["licence"], card["package"]))
        table.add_row(console.plain(card["name"]), *numbers, about, *names)
    console.results().print(table)


@app.command("info")
def info(
    name: Annotated[str, typer.Argument(metavar="MODEL", help="A model's name or directory, or hf:ORG/NAME.")],
    json: options.Json = False,
) -> None:
    """Everything known about one model."""
    from clippy_core.model.catalogue import describe

    card = describe(name)
    if json:
        console.print_json(card)
        return
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for key, value in card.items():
        if value not in (None, ""):
            table.add_row(Text(TITLES.get(key, key.replace("_", " ")), "bold"), console.plain(_shown(key, value)))
    console.results().print(table)


@app.command("pull")
def pull_model(
    name: Annotated[str, typer.Argument(metavar="MODEL", help="A model's name.")],
    json: options.Json = False,
) -> None:
    """Fetch a published model and keep it in the cache; an interrupted download goes on where it was."""
    from clippy_cli.progress import Bytes
    from clippy_core.model.pull import pull

    with Bytes(f"fetching {name}") as progress:
        directory = pull(name, progress=progress)
    if json:
        console.print_json({"model": name, "directory": str(directory)})
    else:
        console.print_path(directory)


@app.command("push")
def push_model(
    name: Annotated[str, typer.Argument(metavar="MODEL", help="A model's name or directory.")],
    repository: Annotated[str, typer.Argument(metavar="REPO", help="Repository on the hub: ORG/NAME.")],
    private: Annotated[
        bool, typer.Option("--private", help="If the repository has to be made, make it private.")
    ] = False,
    revision: Annotated[
        str | None, typer.Option("--revision", metavar="BRANCH", help="Branch to push to. (default: main)")
    ] = None,
    message: Annotated[
        str | None, typer.Option("--message", metavar="TEXT", help="Message of the commit. (default: names the model)")
    ] = None,
    json: options.Json = False,
) -> None:
    """Put a model on the Hugging Face hub, from where --model hf:ORG/NAME loads it.

    The token is the one of `hf auth login` or HF_TOKEN.
    """
    from clippy_core.model.presets import find
    from clippy_core.model.push import push

    url = push(find(name), repository, private=private, revision=revision, message=message)
    if json:
        console.print_json({"model": name, "url": url})
    else:
        console.results().print(url, markup=False, soft_wrap=True)


def _shown(key: str, value: Any) -> str:
    if key == "bytes":
        return _megabytes(value)
    if key == "size":
        return f"{value} pixels on the short side"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
