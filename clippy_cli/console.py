"""Where text goes: results to stdout, everything else to stderr, plain when nobody is looking."""

import codecs
import json
import os
import shutil
import sys
from functools import cache
from typing import TYPE_CHECKING, Any, TextIO, cast

from clippy_core.errors import visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

QUIET, NORMAL, VERBOSE = 0, 1, 2
PLAIN_WIDTH = 120
# Signs of ours that an 8-bit or ASCII terminal may lack, and what it shows instead.
SIGNS = str.maketrans({"■": "#", "–": "-", "−": "-", "…": "...", "·": "|", "×": "x", "▀": "#"})


class Settings:
    """What the global options chose; set once, before a command runs."""

    verbosity: int = NORMAL
    colour: bool = True


def reset() -> None:
    """Forget what an earlier command line in this process chose, and where its streams went."""
    Settings.verbosity, Settings.colour = NORMAL, True
    results.cache_clear()
    messages.cache_clear()


class _Forgiving:
    """A stream that takes everything: a message that cannot be written, say to a full disk, changes no outcome.

    Args:
        stream: Where the text goes as long as it can.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write as far as possible; returns the length of ``text``."""
        try:
            self._stream.write(text)
        except OSError:
            give_up(self._stream)
        return len(text)

    def flush(self) -> None:
        """Flush as far as possible."""
        try:
            self._stream.flush()
        except OSError:
            give_up(self._stream)


def prepare_streams() -> None:
    """Make stdout and stderr take any text in any locale, and exist even if the caller closed them.

    What cannot be written to stderr is lost without a word; for stdout, which has the results, that is an error.
    """
    codecs.register_error("clippy", _replacement)
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="clippy")  # type: ignore[attr-defined]
    sys.stderr = cast("TextIO", _Forgiving(sys.stderr))


def give_up(stream: TextIO) -> None:
    """Send the rest of a stream nowhere: its reader has gone, but the job goes on, and Python must not complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


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
    return sys.stderr.isatty() and messages().is_terminal and not messages().is_dumb_terminal


def plain(content: object, style: str = "") -> "Text":
    """Text as it is, without markup; what would move the cursor or change colours is escaped."""
    from rich.text import Text

    return Text(visible(str(content)), style)


def notice(text: str) -> None:
    """Say something in passing; not with ``--quiet``."""
    if Settings.verbosity > QUIET:
        messages().print(plain(text, "dim"), highlight=False, soft_wrap=True)


def warn(text: str) -> None:
    """Say something that may matter; also with ``--quiet``."""
    _line("warning: ", text, "yellow")


def fail(text: str) -> None:
    """Say in one line why the command ends."""
    _line("error: ", text, "bold red")


def print_path(path: object) -> None:
    """A file or folder on stdout: by its true name for a program, by a visible one on a terminal."""
    text = str(path)
    results().print(visible(text) if results().is_terminal else text, markup=False, soft_wrap=True)


def print_json(document: Any) -> None:
    """One document on stdout, in ASCII so that any locale can carry it."""
    try:
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        give_up(sys.stdout)


def _line(prefix: str, text: str, style: str) -> None:
    from rich.text import Text

    one_line = visible(" ".join(text.split()))
    messages().print(Text.assemble((prefix, style), one_line), soft_wrap=True, highlight=False)


def _console(stream: Any) -> "Console":
    from rich.console import Console

    class Patient(Console):
        """Goes on without a reader, where Rich would end the process with exit code 1."""

        def on_broken_pipe(self) -> None:
            give_up(stream)

    # A terminal says how wide it is; a pipe or a file must not wrap a table at 80 columns.
    width, height = (None if stream.isatty() or "COLUMNS" in os.environ else PLAIN_WIDTH), None
    if os.environ.get("TERM") in ("dumb", "unknown"):  # Rich takes these for 80 columns wide, whatever they say
        width, height = shutil.get_terminal_size((width or PLAIN_WIDTH, 25))
    colourless = True if not Settings.colour else None
    return Patient(file=stream, no_color=colourless, width=width, height=height, highlight=False)


def _replacement(error: UnicodeError) -> tuple[str | bytes, int]:
    if isinstance(error, UnicodeEncodeError):
        sign = error.object[error.start : error.start + 1].translate(SIGNS)
        if sign.isascii():
            return sign, error.start + 1
    return codecs.backslashreplace_errors(error)
