"""What is said when something goes wrong: Typer's and the system's complaints in this tool's words, one line each."""

import errno
import platform
import sys
from typing import Any

import typer

from clippy_core.version import __version__

ACCEPTED = {"int_parsing": "a whole number", "float_parsing": "a number"}


def usage(error: typer.TyperException) -> str:
    """A command line that Typer refuses: what arrived, and what is accepted or where that is said."""
    context = getattr(error, "ctx", None)
    message = error.format_message().strip().rstrip(".")
    message = message[:1].lower() + message[1:]
    known = getattr(context.command, "commands", None) if context else None
    if message.startswith("no such command") and context and known:
        message, _, near = message.removesuffix("?").partition(". Did you mean ")
        hint = f"did you mean {near.replace(chr(39), '')}?" if near else f"known: {', '.join(known)}"
        return f"{context.command_path} has {message.replace('such ', '')}; {hint}"
    if possibilities := getattr(error, "possibilities", None):
        return f"no such option: {getattr(error, 'option_name', '')}; did you mean {' or '.join(possibilities)}?"
    message = _refused_value(error) or message
    return f"{message}; see {context.command_path} --help" if context else message


def _refused_value(error: Any) -> str | None:
    """``--size is 'x'; accepted: a whole number``, if that is what is wrong."""
    parameter, problems = getattr(error, "param", None), getattr(error.__cause__, "errors", None)
    if parameter is None or problems is None:
        return None
    problem = problems()[0]
    return f"{parameter.opts[0]} is {problem['input']!r}; accepted: {ACCEPTED.get(problem['type'], problem['msg'])}"


def surroundings(error: OSError) -> str:
    """A file, folder or device of the user's that the system does not let us use."""
    name = error.filename if error.filename2 is None else error.filename2
    reason = error.strerror or str(error) or type(error).__name__
    if name is None and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"an output cannot be written: {reason}"
    return f"{name}: {reason}" if name is not None else reason


def locale(error: UnicodeEncodeError) -> str:
    """Text that no file's name can hold here."""
    return (
        f"{error.object!r} is no file name in this locale ({error.encoding}); LC_ALL=C.UTF-8 or PYTHONUTF8=1 allows it"
    )


def bug() -> str:
    """The line after the traceback of a mistake that is ours or a plug-in's: what a report should contain."""
    versions = [f"clippy {__version__}", f"Python {platform.python_version()}", platform.platform()]
    if torch := sys.modules.get("torch"):
        versions.insert(1, f"torch {torch.__version__}")
    return f"this is a bug in clippy or in a plug-in; please report it with the lines above ({', '.join(versions)})"
