"""The command line: global options, commands by name, and the one place where errors become exit codes."""

import atexit
import gc
import inspect
import os
import signal
import sys
import traceback
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from clippy_cli import console, usable, wording
from clippy_cli.commands import COMMANDS
from clippy_core import errors, launch
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
HELP_FLAGS = ["-h", "--help"]
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
    context_settings={"help_option_names": HELP_FLAGS},
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
    """Run the command line and return its exit code; errors are printed as one line.

    Exceptions that are nobody's mistake but ours propagate.
    """
    console.reset()
    try:
        command = _tidy(typer.main.get_command(app))
        result = command.main(args or ["--help"], prog_name="clippy", standalone_mode=False)
        if result == INTERRUPTED:  # what Typer makes of Ctrl-C
            raise KeyboardInterrupt
    except errors.ClippyError as error:
        console.fail(str(error))
        return next(code for kind, code in EXIT_CODES if isinstance(error, kind))
    except typer.TyperException as error:
        console.fail(wording.usage(error))
        return USAGE
    except (KeyboardInterrupt, typer.Abort) as error:
        if launch.is_leader() and not launch.is_launched():  # one line, from whoever the user sees
            console.fail("; ".join(["interrupted", *map(str, error.args)]))
        return INTERRUPTED
    except OSError as error:
        console.fail(wording.surroundings(error))
        return DATA
    except UnicodeEncodeError as error:
        if error.encoding == "utf-8":
            raise
        console.fail(wording.locale(error))
        return USAGE
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # nobody reads the help that Typer prints
            return DONE
        raise
    return result if isinstance(result, int) else DONE


def entry() -> NoReturn:
    """The console script: as :func:`run`, with a traceback for a bug, and quiet when nobody reads the output.

    Ctrl-C winds up what was begun, a second one goes without, and once all is wound up another ends the process.
    """
    console.prepare_streams()
    # On a busy machine, OpenMP threads that spin while they wait make a picture take up to 70 times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Imports make a million objects that stay; looking for garbage among them takes one second of the first five.
    gc.set_threshold(100_000, 50, 100)
    interrupts = _Interrupts()
    try:
        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        code = INTERRUPTED
    except Exception:
        if interrupts.heard:  # some extension modules make an ImportError of it
            console.fail("interrupted")
            code = INTERRUPTED
        else:
            traceback.print_exc()
            console.fail(wording.bug())
            code = BUG
    interrupts.end_process()
    if code == INTERRUPTED:
        _end_children()
    _leave(_flushed(code))


class _Interrupts:
    """Ctrl-C as an exception, as Python has it, and whether there was one; nothing if the process is to ignore it."""

    def __init__(self) -> None:
        self.heard = False
        self._ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        if not self._ignored:
            signal.signal(signal.SIGINT, self._hear)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.heard = True
        signal.default_int_handler(number, frame)

    def end_process(self) -> None:
        """From now on, let Ctrl-C end the process at once, without a word."""
        if not self._ignored:
            signal.signal(signal.SIGINT, signal.SIG_DFL)


def _end_children() -> None:
    """End processes that are still there after a second Ctrl-C, for which the exit handlers would wait."""
    if "multiprocessing" in sys.modules:
        for child in sys.modules["multiprocessing"].active_children():
            child.kill()


def _leave(code: int) -> NoReturn:
    """End the process without taking a loaded torch apart object by object, which takes more than a second."""
    atexit._run_exitfuncs()
    sys.stderr.flush()
    os._exit(code)


def _flushed(code: int) -> int:
    """The exit code, once everything that was printed has arrived, or cannot arrive any more."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        console.give_up(sys.stdout)
    except OSError as error:
        console.give_up(sys.stdout)
        console.fail(f"standard output: {wording.surroundings(error)}")
        return code or DATA
    return code


def _summary(claims: list[Entry]) -> str:
    if len(claims) > 1:
        return f"(unusable: registered by {' and '.join(entry.source for entry in claims)})"
    return claims[0].summary or f"(from package {claims[0].source})"


def _as_command(entry: Entry) -> Any:
    target = usable.load(COMMANDS, entry.name)
    if not isinstance(target, typer.Typer):
        function, target = target, typer.Typer(add_completion=False, rich_markup_mode="rich")
        target.command(entry.name, context_settings={"help_option_names": HELP_FLAGS})(function)
    command = typer.main.get_command(target)
    command.name = entry.name
    return _tidy(command)


def _tidy(command: Any) -> Any:
    """Help that reads well: paragraphs fill the line, and nothing pretends to take a value or says it twice."""
    if command.help:
        paragraphs = inspect.cleandoc(command.help).split("\n\n")
        command.help = "\n\n".join(text if "\b" in text else text.replace("\n", " ") for text in paragraphs)
    names = command.context_settings.get("help_option_names", HELP_FLAGS)
    for parameter in (*command.params, command.get_help_option(typer.Context(command, help_option_names=names))):
        if isinstance(parameter, TyperOption) and parameter.is_flag and parameter.metavar is None:
            parameter.metavar = ""
        if isinstance(parameter, TyperArgument) and parameter.nargs == -1 and parameter.metavar:
            parameter.metavar = parameter.metavar.removesuffix("...")  # Typer adds its own
    for below in getattr(command, "commands", {}).values():
        _tidy(below)
    return command


def _global_flags_first(args: list[str]) -> list[str]:
    """Let ``-q`` and its kin stand after a built-in command too; a plug-in may use these letters for itself."""
    name = next((arg for arg in args if not arg.startswith("-")), None)
    if name is None or name not in COMMANDS or any(e.source != OWN_DISTRIBUTION for e in COMMANDS if e.name == name):
        return args
    until = args.index("--") if "--" in args else len(args)
    flags = [arg for arg in args[:until] if arg in GLOBAL_FLAGS]
    return flags + [arg for arg in args[:until] if arg not in GLOBAL_FLAGS] + args[until:]
