"""Configurations: frozen dataclasses that read plain data and refuse what does not fit, naming the field.

Imports no torch. A configuration class derives from :class:`FromDict` and calls :func:`check_types` and
:func:`require` in its ``__post_init__``.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import fields
from types import UnionType
from typing import Any, Self, get_args, get_origin

from clippy_core.errors import ConfigError


class FromDict:
    """Frozen dataclasses that are read from plain dictionaries and name a field they do not know."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build from plain data, as read from JSON or TOML.

        Raises:
            ConfigError: A field that does not exist, is missing, or has a value that is not accepted.
        """
        if not isinstance(values, Mapping):
            raise ConfigError(f"{cls.__name__}: a table of fields is expected, not {values!r}")
        known = {entry.name for entry in fields(cls)}  # type: ignore[arg-type]
        unknown = sorted(set(values) - known, key=str)
        if unknown:
            raise ConfigError(f"{cls.__name__} has no field {unknown[0]!r}; known: {', '.join(sorted(known))}")
        try:
            return cls(**values)
        except TypeError as error:
            raise ConfigError(f"{cls.__name__}: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """Plain data that :meth:`from_dict` reads back."""
        return dataclasses.asdict(self)  # type: ignore[call-overload]


_TYPE_NAMES: dict[Any, str] = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    dict: "a table",
    tuple: "a list",
    type(None): "none",
}


def check_types(config: Any, table: str) -> None:
    """Refuse a field whose value is of another type than declared; lists, as JSON has them, become tuples."""
    for entry in fields(config):
        value = getattr(config, entry.name)
        if isinstance(value, list):
            value = tuple(value)
            object.__setattr__(config, entry.name, value)
        declared = get_args(entry.type) if isinstance(entry.type, UnionType) else (entry.type,)
        kinds: list[Any] = [get_origin(kind) or kind for kind in declared]
        fits = type(value) in kinds or (not isinstance(value, bool) and isinstance(value, tuple(kinds)))
        whole_for_number = float in kinds and type(value) is int
        accepted = " or ".join(_TYPE_NAMES.get(kind, str(kind)) for kind in kinds)
        require(fits or whole_for_number, f"{table}{entry.name}", value, accepted)


def require(condition: bool, name: str, value: Any, accepted: str) -> None:
    """Raise :class:`ConfigError` with the field's name, its value and what is accepted, unless ``condition`` holds."""
    if not condition:
        raise ConfigError(f"{name} is {value!r}; accepted: {accepted}")
