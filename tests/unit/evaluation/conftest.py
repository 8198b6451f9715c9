"""Miniature data sets for every test of the evaluation: ``miniatures.MAKERS["voc"](folder, seed=0)``."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def miniatures() -> ModuleType:
    """The package ``datasets/miniatures``, which no test can import by name."""
    name, home = "evaluation_miniatures", Path(__file__).parent / "datasets" / "miniatures"
    spec = importlib.util.spec_from_file_location(name, home / "__init__.py", submodule_search_locations=[str(home)])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # Where its own parts look for it.
    spec.loader.exec_module(module)
    return module
