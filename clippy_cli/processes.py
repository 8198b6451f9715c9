"""Commands that run in several processes: what was typed, typed again for each of them, and the GPUs they need."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import typer
from typer.core import TyperArgument

from clippy_cli import console


def retype(context: typer.Context) -> list[str]:
    """The command line of a command, with what was typed and nothing else, and the global options in force."""
    options, arguments = [], []
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is None or source.name != "COMMANDLINE":
            continue
        value: Any = context.params[parameter.name or ""]
        values = [str(item) for item in (value if isinstance(value, (list, tuple)) else [value])]
        if isinstance(parameter, TyperArgument):
            arguments += values
        elif isinstance(value, bool):
            options.append(parameter.opts[0] if value else parameter.secondary_opts[0])
        else:
            # As one word, so that a value may begin with a dash.
            options += [f"{max(parameter.opts, key=len)}={item}" for item in values]
    return [context.info_name or "", *options, *global_switches(), *(["--", *arguments] if arguments else [])]


def global_switches() -> list[str]:
    """The global options in force."""
    switches = {"--no-color": not console.Settings.colour}
    switches |= {
        "-v": console.Settings.verbosity == console.VERBOSE,
        "-q": console.Settings.verbosity == console.QUIET,
    }
    return [switch for switch, on in switches.items() if on]


@contextmanager
def unwinding_on_sigterm() -> Iterator[None]:
    """Let SIGTERM end the process by an exception, with exit code 143, so that what was counted is saved on the way."""
    if threading.current_thread() is not threading.main_thread():  # where no handler can be set
        yield
        return

    def leave(number: int, _: object) -> NoReturn:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def count_gpus() -> int:
    """How many GPUs this machine has."""
    import torch

    return torch.cuda.device_count()


def require_gpus(wanted: int, instead: str) -> None:
    """Make sure that there are as many GPUs.

    Args:
        wanted: How many.
        instead: What works without, for the message.

    Raises:
        DeviceError: There are fewer.
    """
    from clippy_core.errors import DeviceError

    found = count_gpus()
    if found < wanted:
        noun = "GPU was" if found == 1 else "GPUs were"
        raise DeviceError(f"--gpus {wanted}: {found or 'no'} {noun} found on this machine; {instead}")
