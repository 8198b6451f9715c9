"""Where text goes: results to stdout, everything else to stderr, plain when nobody is looking."""

import json
import os
import sys
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

QUIET, NORMAL, VERBOSE = 0, 1, 2
PLAIN_WIDTH = 120


class Settings:
    """What the global options chose; set once, before a command runs."""

    verbosity: int = NORMAL
    colour: bool = True


@cache
def results() -> "Console":
    """The console on stdout."""
    return _console(sys.stdout)


@cache
def messages() -> "Console":
    """The console on stderr."""
    return _console(sys.stderr)


def interactive() -> bool:
    """Whether stderr is a terminal that can redraw a line."""
    return messages().is_terminal and not messages().is_dumb_terminal


def notice(text: str) -> None:
    """Say something in passing; not with ``--quiet``."""
    if Settings.verbosity > QUIET:
        messages().print(text, style="dim", markup=False, highlight=False, soft_wrap=True)


def warn(text: str) -> None:
    """Say something that may matter; also with ``--quiet``."""
    _line("warning: ", text, "yellow")


def fail(text: str) -> None:
    """Say in one line why the command ends."""
    _line("error: ", text, "bold red")


def print_json(document: Any) -> None:
    """One document on stdout, in ASCII so that any locale can carry it."""
    sys.stdout.write(json.dumps(document, indent=2) + "\n")
    sys.stdout.flush()


def _line(prefix: str, text: str, style: str) -> None:
    from rich.text import Text

    one_line = " ".join(text.split())
    messages().print(Text.assemble((prefix, style), one_line), soft_wrap=True, highlight=False)


def _console(stream: Any) -> "Console":
    from rich.console import Console

    # A terminal says how wide it is; a pipe or a file must not wrap a table at 80 columns.
    width = None if stream.isatty() or "COLUMNS" in os.environ else PLAIN_WIDTH
    return Console(file=stream, no_color=True if not Settings.colour else None, width=width, highlight=False)
