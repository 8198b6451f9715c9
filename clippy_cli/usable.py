"""Plug-ins that can be imported and are what they were registered as."""

from typing import Any

from clippy_core.errors import PluginError
from clippy_core.registry import Registry


def load(registry: Registry, name: str) -> Any:
    """The object registered under ``name``, known to be callable, as every kind of plug-in is.

    Raises:
        UsageError: No such name; the message offers the nearest ones.
        PluginError: Two packages claim the name, it cannot be imported, or it is no function.
    """
    entry = registry.entry(name)
    target = entry.load()
    if not callable(target):
        kind = f"{'an' if registry.kind[0] in 'aeiou' else 'a'} {registry.kind}"
        raise PluginError(
            f"plug-in {name!r} of package {entry.source!r} cannot be used: "
            f"{entry.target} is of type {type(target).__name__}; {kind} is a function"
        )
    return target
