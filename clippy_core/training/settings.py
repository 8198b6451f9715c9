"""From a preset's recipe, a TOML file, ``--set a.b=c`` and flags to one configuration. Imports no torch.

Later sources win, field by field: preset < file < ``--set`` < flag.
"""

import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from clippy_core.errors import ClippyError, ConfigError, DataError
from clippy_core.files import write_bytes
from clippy_core.model.presets import MODELS, get_preset
from clippy_core.training.config import TABLES, TrainConfig

Tables = Mapping[str, Mapping[str, Any]]


def resolve(file: Tables, assignments: Iterable[str], flags: Tables) -> TrainConfig:
    """The configuration of a run.

    Args:
        file: Tables of a TOML file; empty if there is none.
        assignments: ``table.field=value``, the value as TOML has it; text may go without quotes, ``none`` is no value.
        flags: Tables of what was given as options of its own.

    Raises:
        ConfigError: A table or field that does not exist, or a value that is not accepted.
    """
    given = _merged(_merged(_checked(file), _assigned(assignments)), flags)
    model = given.get("model", {}).get("name", TrainConfig().model.name)
    return TrainConfig.from_dict(_merged(recipe(model), given))


def recipe(model: Any) -> Tables:
    """What the preset of that name says about training; nothing for a directory or an unknown name."""
    try:
        return get_preset(model).training if isinstance(model, str) and model in MODELS else {}
    except ClippyError:
        return {}  # the name is refused where the model is built, in words about the model


def read_toml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The tables of a configuration file.

    Raises:
        DataError: The file cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"--config {path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise DataError(f"--config {path}: not TOML ({error})") from error


def write_toml(path: str | os.PathLike[str], config: TrainConfig) -> None:
    """Write a configuration so that :func:`read_toml` and :func:`resolve` give it back."""
    import tomli_w

    tables = {
        table: {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}
        for table, fields in config.to_dict().items()
    }
    # TOML has no word for "no value"; a field without one says so in its own words.
    marked = {
        table: {name: "none" if value is None else value for name, value in fields.items()}
        for table, fields in tables.items()
    }
    write_bytes(path, tomli_w.dumps(marked).encode())


def _checked(tables: Tables) -> dict[str, dict[str, Any]]:
    checked: dict[str, dict[str, Any]] = {}
    for table, fields in tables.items():
        if table not in TABLES:
            raise ConfigError(f"there is no table {table!r}; known: {', '.join(TABLES)}")
        if not isinstance(fields, Mapping):
            raise ConfigError(f"{table} is {fields!r}; accepted: a table of fields")
        checked[table] = {name: None if value == "none" else value for name, value in fields.items()}
    return checked


def _assigned(assignments: Iterable[str]) -> dict[str, dict[str, Any]]:
    tables: dict[str, dict[str, Any]] = {}
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        table, dot, name = path.strip().partition(".")
        if not equals or not dot or not name:
            raise ConfigError(f"--set {assignment!r}: accepted: table.field=value, such as optim.lr=1e-4")
        tables.setdefault(table, {})[name] = _value(text.strip())
    return _checked(tables)


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _merged(lower: Tables, upper: Tables) -> dict[str, dict[str, Any]]:
    return {table: {**lower.get(table, {}), **upper.get(table, {})} for table in {**lower, **upper}}
