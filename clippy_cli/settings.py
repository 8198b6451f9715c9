"""Options that are fields of a configuration: one row each, from which both the option and its help are made."""

import inspect
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import typer


class Flag(NamedTuple):
    """One option that sets one field.

    Attributes:
        names: What the user types, such as ``"--lr"``; several, separated by spaces.
        field: The field, as ``table.name``.
        kind: Type of the value; ``list`` for text that may be given several times, ``tuple`` for a,b,c.
        panel: Heading in the help.
        help: What it does, with its unit; the default is added from the configuration.
        metavar: What stands for the value in the help; ``""`` for a switch.
        default: Words for the default where the field's own value would say little.
    """

    names: str
    field: str
    kind: type
    panel: str
    help: str
    metavar: str = ""
    default: str | None = None

    @property
    def key(self) -> str:
        """Name of the parameter that carries the value."""
        return self.field.replace(".", "__")

    def parameter(self, defaults: dict[str, Any]) -> inspect.Parameter:
        """The parameter as Typer reads it; None stands for *not given*."""
        table, name = self.field.split(".")
        default = self.default if self.default is not None else _shown(defaults[table][name])
        text = f"{self.help} (default: {default})" if default else self.help
        names = self.names.split()
        if self.kind is bool:
            names[-1] = f"{names[-1]}/--no-{names[-1].removeprefix('--')}"
        option = typer.Option(
            *names, help=text, metavar=self.metavar or None, rich_help_panel=self.panel, show_default=False
        )
        kind: Any = list[str] if self.kind is list else str if self.kind is tuple else self.kind
        annotation = Annotated[kind | None, option]
        return inspect.Parameter(self.key, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)

    def value(self, given: Any) -> Any:
        """The field's value from what was typed."""
        if self.kind is tuple:
            return tuple(item.strip() for item in given.split(",") if item.strip())
        return tuple(given) if self.kind is list else given


def with_flags(flags: tuple[Flag, ...], defaults: dict[str, Any]) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Give a command an option for every flag.

    The command is called with ``given``, the tables of fields that were typed, and with its own parameters.

    Args:
        flags: The options.
        defaults: Tables of every field's default.
    """

    def decorate(command: Callable[..., int]) -> Callable[..., int]:
        def called(**values: Any) -> int:
            given: dict[str, dict[str, Any]] = {}
            for flag in flags:
                value = values.pop(flag.key)
                if value not in (None, []):
                    table, name = flag.field.split(".")
                    given.setdefault(table, {})[name] = flag.value(value)
            return command(given=given, **values)

        own = [parameter for name, parameter in inspect.signature(command).parameters.items() if name != "given"]
        own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
        parameters = [*own, *(flag.parameter(defaults) for flag in flags)]
        called.__signature__ = inspect.Signature(parameters, return_annotation=int)  # type: ignore[attr-defined]
        called.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters} | {"return": int}
        called.__doc__, called.__name__ = command.__doc__, command.__name__
        return called

    return decorate


def _shown(value: Any) -> str:
    if value in (None, ()):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return (
        ",".join(map(str, value))
        if isinstance(value, tuple)
        else f"{value:,}"
        if isinstance(value, int)
        else str(value)
    )
