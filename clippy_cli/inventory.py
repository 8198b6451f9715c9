"""All registries side by side, for ``clippy plugins``."""

from clippy_cli import usable
from clippy_cli.commands import COMMANDS
from clippy_core.errors import PluginError
from clippy_core.evaluation.benchmarks import BENCHMARKS
from clippy_core.export import EXPORTERS
from clippy_core.model.presets import MODELS, get_preset
from clippy_core.registry import OWN_DISTRIBUTION, Entry, Registry
from clippy_core.segmentation.writers import WRITERS

REGISTRIES = (COMMANDS, MODELS, BENCHMARKS, EXPORTERS, WRITERS)


def inventory() -> list[dict[str, str | None]]:
    """One row an entry: kind, name, package, target, summary, and why it cannot be used, if so."""
    return [
        {
            "kind": registry.kind,
            "name": entry.name,
            "package": entry.source,
            "target": entry.target,
            "summary": entry.summary or f"from {entry.target}",
            "error": _problem(registry, entry),
        }
        for registry in REGISTRIES
        for entry in registry
    ]


def _problem(registry: Registry, entry: Entry) -> str | None:
    try:
        if registry.entry(entry.name).source != OWN_DISTRIBUTION:
            usable.load(registry, entry.name)
            if registry is MODELS:
                get_preset(entry.name)
    except PluginError as error:
        return str(error)
    return None
