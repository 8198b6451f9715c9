"""The command line: global options, commands by name, and the one place where errors become exit codes."""

import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from clippy_cli import console
from clippy_cli.commands import COMMANDS
from clippy_core import errors
from clippy_core.registry import OWN_DISTRIBUTION, Entry
from clippy_core.version import __version__

DONE, BUG, USAGE, PARTIAL, DATA, MISSING, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130
EXIT_CODES: tuple[tuple[type[errors.ClippyError], int], ...] = (
    (errors.UsageError, USAGE),
    (errors.PluginError, USAGE),
    (errors.DataError, DATA),
    (errors.DeviceError, MISSING),
    (errors.PartialError, PARTIAL),
)
GLOBAL_FLAGS = ("-v", "--verbose", "-q", "--quiet", "--no-color")


class CommandGroup(TyperGroup):
    """Commands from the registry: listed by name, imported only when one is called."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        """Every registered name."""
        return COMMANDS.names()

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]
        """What help needs to know of a command."""
        if cmd_name not in COMMANDS:
            return None
        claims = [entry for entry in COMMANDS if entry.name == cmd_name]
        return TyperCommand(name=cmd_name, callback=None, params=[], help=_summary(claims))

    def resolve_command(self, ctx: typer.Context, args: list[str]) -> Any:  # type: ignore[override]
        """The command itself, imported."""
        entry = COMMANDS.entry(args[0])
        return entry.name, _as_command(entry), args[1:]

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Parse the global options, wherever they stand."""
        return super().parse_args(ctx, _global_flags_first(args))


app = typer.Typer(
    name="clippy",
    cls=CommandGroup,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"clippy {__version__}\n")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_version)
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say only what went wrong.")] = False,
    no_color: Annotated[bool, typer.Option("--no-color", help="No colour, as with NO_COLOR set.")] = False,
) -> None:
    """Say what you are looking for in words, get back where it is.

    [bold]clippy segment photo.jpg --labels "dog,grass,sky"[/bold]
    """
    console.Settings.verbosity = console.VERBOSE if verbose else console.QUIET if quiet else console.NORMAL
    console.Settings.colour = not no_color


def run(args: list[str]) -> int:
    """Run the command line and return its exit code; errors are printed as one line."""
    try:
        result = typer.main.get_command(app).main(args or ["--help"], prog_name="clippy", standalone_mode=False)
    except errors.ClippyError as error:
        console.fail(str(error))
        return next(code for kind, code in EXIT_CODES if isinstance(error, kind))
    except typer.TyperException as error:
        console.fail(error.format_message())
        return USAGE
    except (KeyboardInterrupt, typer.Abort):
        console.fail("interrupted")
        return INTERRUPTED
    return result if isinstance(result, int) else DONE


def entry() -> None:
    """The console script: as :func:`run`, and quiet when whoever reads the output has gone."""
    # Text in any locale: what the terminal cannot write becomes an escape instead of a traceback.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    code = DONE
    try:
        code = run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader closed the pipe; Python's own flush at exit must not complain about it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        code = INTERRUPTED
    sys.exit(code)


def _summary(claims: list[Entry]) -> str:
    if len(claims) > 1:
        return f"(unusable: registered by {' and '.join(entry.source for entry in claims)})"
    return claims[0].summary or f"(from package {claims[0].source})"


def _as_command(entry: Entry) -> Any:
    target = entry.load()
    if not isinstance(target, typer.Typer):
        if not callable(target):
            raise errors.PluginError(
                f"command {entry.name!r} of package {entry.source!r} is neither a function nor a Typer app"
            )
        function, target = target, typer.Typer(add_completion=False, rich_markup_mode="rich")
        target.command(entry.name, context_settings={"help_option_names": ["-h", "--help"]})(function)
    command = typer.main.get_command(target)
    command.name = entry.name
    return command


def _global_flags_first(args: list[str]) -> list[str]:
    """Let ``-q`` and its kin stand after a built-in command too; a plug-in may use these letters for itself."""
    name = next((arg for arg in args if not arg.startswith("-")), None)
    if name is None or name not in COMMANDS or any(e.source != OWN_DISTRIBUTION for e in COMMANDS if e.name == name):
        return args
    until = args.index("--") if "--" in args else len(args)
    flags = [arg for arg in args[:until] if arg in GLOBAL_FLAGS]
    return flags + [arg for arg in args[:until] if arg not in GLOBAL_FLAGS] + args[until:]
