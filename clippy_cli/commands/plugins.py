"""``clippy plugins``: everything registered and where it comes from."""

from clippy_cli import console, options


def plugins(json: options.Json = False) -> None:
    """Every command, model, benchmark, exporter and writer, and the package it comes from.

    Third-party entries are imported to see whether they can be used; a broken one is named and harms nothing else.
    """
    from clippy_cli.inventory import inventory

    rows = inventory()
    if json:
        console.print_json({"plugins": rows})
    else:
        _print(rows)
    for problem in dict.fromkeys(row["error"] for row in rows if row["error"]):
        console.warn(problem)


def _print(rows: list[dict[str, str | None]]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("kind", "name", "package", "what it is"):
        table.add_column(heading, overflow="fold")
    previous = None
    for row in rows:
        kind, previous = ("" if row["kind"] == previous else row["kind"]), row["kind"]
        about = Text("cannot be used", "red") if row["error"] else console.plain(row["summary"] or "")
        table.add_row(kind, console.plain(row["name"] or ""), console.plain(row["package"] or ""), about)
    console.results().print(table)
