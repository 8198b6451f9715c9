"""Named things that others can add to: commands, models, benchmarks, exporters, writers.

A registry maps a name to a ``"module:object"`` string. Built-ins and entry points of installed packages are kept
side by side, so every name can be listed without importing the code behind it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from clippy_core.errors import PluginError, UsageError

OWN_DISTRIBUTION = "clippy-vlm"


@dataclass(frozen=True)
class Entry:
    """One registered name.

    Attributes:
        name: What the user types.
        target: ``"module:object"``, imported only when the entry is loaded.
        source: The distribution that registered it.
        summary: One line for listings; empty for plug-ins, which are not imported to be listed.
    """

    name: str
    target: str
    source: str = OWN_DISTRIBUTION
    summary: str = ""

    def load(self) -> Any:
        """Import the object.

        Raises:
            PluginError: A third-party object that fails to import, with the package and the reason. A failing
                built-in is our own mistake and propagates as it is.
        """
        module_name, _, attribute = self.target.partition(":")
        if self.source == OWN_DISTRIBUTION:
            return _attribute(import_module(module_name), attribute)
        try:
            return _attribute(import_module(module_name), attribute)
        except (Exception, SystemExit) as error:
            # Whatever third-party code raises while it is imported is that package's fault and is reported as such.
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise PluginError(f"plug-in {self.name!r} of package {self.source!r} cannot be loaded: {reason}") from error


def _attribute(module: Any, dotted: str) -> Any:
    for part in filter(None, dotted.split(".")):
        module = getattr(module, part)
    return module


class Registry:
    """Names of one kind: built-ins given here, plus the entry points of one group.

    Args:
        group: Entry-point group, such as ``"clippy.models"``.
        kind: Singular noun for messages, such as ``"model"``.
        builtins: Name → (``"module:object"``, one-line summary).
    """

    def __init__(self, group: str, kind: str, builtins: Mapping[str, tuple[str, str]]) -> None:
        self.group = group
        self.kind = kind
        self._builtins = [Entry(name, target, summary=summary) for name, (target, summary) in builtins.items()]

    @cached_property
    def _claims(self) -> dict[str, list[Entry]]:
        claims: dict[str, list[Entry]] = {}
        for entry in self._builtins:
            claims.setdefault(entry.name, []).append(entry)
        for point in sorted(entry_points(group=self.group), key=lambda point: point.name):
            source = point.dist.name if point.dist else "unknown"
            # The specification allows spaces and extras, "module : object [extra]", which mean nothing here.
            entry = Entry(point.name, "".join(point.value.partition("[")[0].split()), source)
            if entry not in claims.setdefault(point.name, []):
                claims[point.name].append(entry)
        return claims

    def names(self) -> list[str]:
        """All names, built-ins first, in the order of registration."""
        return list(self._claims)

    def __iter__(self) -> Iterator[Entry]:
        """Every claim, also those that share a name."""
        return (entry for entries in self._claims.values() for entry in entries)

    def __contains__(self, name: str) -> bool:
        return name in self._claims

    def entry(self, name: str) -> Entry:
        """The entry of that name.

        Raises:
            UsageError: No such name; the message offers the nearest ones.
            PluginError: Two packages registered the name; the message names both.
        """
        claims = self._claims.get(name)
        if not claims:
            raise UsageError(f"unknown {self.kind} {name!r}{self._hint(name)}")
        if len(claims) > 1:
            sources = " and ".join(f"{entry.source!r} ({entry.target})" for entry in claims)
            raise PluginError(f"{self.kind} {name!r} is registered by {sources}; uninstall one of them")
        return claims[0]

    def load(self, name: str) -> Any:
        """Import and return the object registered under ``name``; raises as :meth:`entry` and :meth:`Entry.load`."""
        return self.entry(name).load()

    def _hint(self, name: str) -> str:
        near = get_close_matches(name, self.names(), n=3)
        if near:
            return f"; did you mean {' or '.join(near)}?"
        return f"; known: {', '.join(self.names())}" if self._claims else "; none is registered"
