"""Imports run one way, and what should be light is light."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import clippy_core

ROOT = Path(clippy_core.__file__).resolve().parents[1]
FILES = sorted(path for package in ("clippy_core", "clippy_cli") for path in (ROOT / package).rglob("*.py"))

JOBS = {"segmentation", "training", "evaluation", "analysis", "export"}
BASE = {"configuration", "errors", "events", "files", "images", "launch", "meeting", "prompts", "registry", "shapes"}
BASE |= {"version"}
# What each part of the core may import besides itself; the command line may import everything.
MAY_IMPORT = {
    "errors": set(),
    "version": set(),
    "registry": {"errors"},
    "kernels": {"errors"},
    "model": {"kernels"} | BASE,
    **{job: {"model", "kernels"} | BASE for job in JOBS},
    **dict.fromkeys(BASE - {"errors", "version", "registry"}, BASE),
}
MAY_IMPORT["evaluation"] |= {"segmentation"}
MAY_IMPORT["analysis"] |= {"segmentation", "evaluation"}

HEAVY = {"torch", "timm", "transformers", "numpy", "PIL", "cv2", "safetensors", "tokenizers", "torchvision", "scipy"}
WITHOUT_TORCH = [
    "clippy_core.errors",
    "clippy_core.registry",
    "clippy_core.prompts",
    "clippy_core.configuration",
    "clippy_core.export.options",
    "clippy_core.model.card",
    "clippy_core.model.config",
    "clippy_core.model.directory",
    "clippy_core.model.hub",
    "clippy_core.model.presets",
    "clippy_core.model.push",
]
LIGHT = [
    "clippy_core",
    *WITHOUT_TORCH,
    "clippy_core.events",
    "clippy_core.files",
    "clippy_core.images",
    "clippy_core.launch",
    "clippy_core.model.device",
    "clippy_core.meeting",
    "clippy_core.model.embedding_cache",
    "clippy_core.model.engine",
    "clippy_core.model.fingerprint",
    "clippy_core.model.graphs",
    "clippy_core.model.onnx_engine",
    "clippy_core.model.onnx_towers",
    "clippy_core.model.runtime",
    "clippy_core.model.stored",
    "clippy_core.model.catalogue",
    "clippy_core.segmentation.options",
    "clippy_core.segmentation.background",
    "clippy_core.segmentation.inputs",
    "clippy_core.segmentation.batch.manifest",
    "clippy_core.segmentation.writers",
    "clippy_core.segmentation.writers.collected",
    "clippy_core.segmentation.batch.run",
    "clippy_core.segmentation.batch.lock",
    "clippy_core.segmentation.batch.parts",
    "clippy_core.segmentation.batch.pipeline",
    "clippy_core.segmentation.batch.ranks",
    "clippy_core.segmentation.batch.ray_run",
    "clippy_core.segmentation.batch.reading",
    "clippy_core.segmentation.segmenter",
    "clippy_core.segmentation.batch.sharing",
    "clippy_core.segmentation.shards",
    "clippy_core.segmentation.stems",
    "clippy_core.segmentation.summary.report",
    "clippy_core.segmentation.video.labelling",
    "clippy_core.segmentation.walking",
    "clippy_core.segmentation.windows",
    "clippy_core.evaluation.benchmarks",
    "clippy_core.export",
    "clippy_cli.inventory",
]


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(tree, importer, is_package):
    """Every module a file imports, at the top or in a function, by statement or as a ``"module:object"`` string."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = importer.split(".")
                kept = len(parents) - node.level + is_package
                base = ".".join([*parents[:kept], *([base] if base else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names if base in ("clippy_core", "clippy_cli"))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found = re.fullmatch(r"(clippy_(?:core|cli)(?:\.\w+)+)(?::[\w.]+)?", node.value)
            if found:
                yield found[1]


def violations(source, importer, *, is_package=False):
    """Imports in a file of the package that ``style`` forbids, as text."""
    tree = ast.parse(source)
    wrong = []
    # The package itself has no part: it offers names of others, which it imports when they are asked for.
    part = importer.split(".")[1] if importer.startswith("clippy_core.") else None
    for target in imported_modules(tree, importer, is_package):
        package, *rest = target.split(".")
        if importer.startswith("clippy_core") and package in ("typer", "rich", "click", "clippy_cli"):
            wrong.append(f"{importer} imports {target}")
        if importer in WITHOUT_TORCH and package in ("torch", "timm", "transformers", "torchvision"):
            wrong.append(f"{importer} imports {target}")
        if part is None or package != "clippy_core" or not rest or rest[0] == part or rest[0].startswith("__"):
            continue
        if rest[0] not in MAY_IMPORT[part]:
            wrong.append(f"{importer} imports {target}")
    if importer.startswith("clippy_core"):
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                wrong.append(f"{importer} prints in line {node.lineno}")
            if isinstance(node, ast.Attribute) and node.attr in ("stdout", "stderr"):
                wrong.append(f"{importer} uses sys.{node.attr} in line {node.lineno}")
    return wrong


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path):
    assert violations(path.read_text(encoding="utf-8"), module_name(path), is_package=path.name == "__init__.py") == []


def test_every_part_of_the_core_has_its_place_in_the_order():
    parts = {module_name(path).split(".")[1] for path in FILES if module_name(path).startswith("clippy_core.")}
    assert parts - MAY_IMPORT.keys() == set()


def test_the_order_has_no_circle():
    done, remaining = set(), {part: set(allowed) - {part} for part, allowed in MAY_IMPORT.items()}
    # The base modules stand on one level.
    remaining = {part: allowed - BASE if part in BASE else allowed for part, allowed in remaining.items()}
    while ready := {part for part, allowed in remaining.items() if allowed <= done}:
        done |= ready
        remaining = {part: allowed for part, allowed in remaining.items() if part not in ready}
    assert remaining == {}


@pytest.mark.parametrize(
    ("importer", "source", "message"),
    [
        ("clippy_core.kernels.x", "from clippy_core.model import text", "imports clippy_core.model"),
        ("clippy_core.model.x", "import clippy_core.segmentation.segmenter", "imports clippy_core.segmentation"),
        ("clippy_core.segmentation.x", "def f():\n    from clippy_core.evaluation import y", "clippy_core.evaluation"),
        ("clippy_core.training.x", "from clippy_core.segmentation import y", "imports clippy_core.segmentation"),
        ("clippy_core.export.x", "from clippy_core import analysis", "imports clippy_core.analysis"),
        ("clippy_core.errors", "from clippy_core.registry import Registry", "imports clippy_core.registry"),
        ("clippy_core.prompts", "from .model import config", "imports clippy_core.model"),
        ("clippy_core.model.x", "from ..export import y", "imports clippy_core.export"),
        ("clippy_core.model.x", "R = 'clippy_core.training.loop:train'", "imports clippy_core.training.loop"),
        ("clippy_core.images", "import rich", "imports rich"),
        ("clippy_core", "import typer.core", "imports typer.core"),
        ("clippy_core.training.x", "from clippy_cli import console", "imports clippy_cli"),
        ("clippy_core.model.presets", "def f():\n    import torch.nn", "imports torch.nn"),
        ("clippy_core.export.x", "def f():\n    print('x')", "prints in line 2"),
        ("clippy_core.export.x", "import sys\nsys.stderr.write('x')", "uses sys.stderr in line 2"),
    ],
)
def test_what_is_forbidden_is_found(importer, source, message):
    assert any(message in wrong for wrong in violations(source, importer))


@pytest.mark.parametrize(
    ("importer", "source"),
    [
        ("clippy_core.evaluation.x", "from clippy_core.segmentation.segmenter import load"),
        ("clippy_core.export.x", "from clippy_core.model.weights import load_directory"),
        ("clippy_core.segmentation.x", "from clippy_core.kernels import label_map\nfrom . import y"),
        ("clippy_core.model.weights", "import torch"),
        ("clippy_cli.commands.x", "from clippy_core.training import y\nprint('x')"),
        ("clippy_core.export.x", "'''Unlike clippy_core.training: nothing is trained.'''"),
    ],
)
def test_what_is_allowed_is_not_found(importer, source):
    assert violations(source, importer) == []


def python(code, *args):
    """Standard output of a fresh interpreter that finds this code."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [sys.executable, "-c", code, *args],
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


HELP = """
import contextlib, io, json, sys
from clippy_cli.main import run
found = {}
for arguments in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        code = run(arguments)
    top = sorted({name.partition(".")[0] for name in sys.modules})
    found[" ".join(arguments)] = [code, shown.getvalue(), top]
print(json.dumps(found))
"""


def test_help_and_version_import_nothing_heavy():
    calls = [["--version"], ["--help"], ["segment", "--help"], ["models", "--help"], ["eval", "--help"]]
    calls += [["analyze", "--help"], ["analyze", "features", "--help"], ["export", "--help"]]
    found = json.loads(python(HELP, json.dumps(calls)))
    for call, (code, shown, modules) in found.items():
        assert code == 0
        assert shown
        assert HEAVY & set(modules) == set(), f"clippy {call}"
    assert {"segment", "eval", "analyze", "export", "models", "plugins"} <= set(found["--help"][1].split())


IMPORT_EACH = """
import importlib, json, sys
found = {}
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
    found[name] = sorted({module.partition(".")[0] for module in sys.modules})
print(json.dumps(found))
"""


def test_light_modules_pull_in_no_torch():
    """Imported one after the other; the first that pulls something in is the one at fault."""
    found = json.loads(python(IMPORT_EACH, json.dumps(LIGHT)))
    assert list(found) == LIGHT
    heavy = {name: sorted({"torch", "timm", "transformers", "torchvision"} & set(found[name])) for name in LIGHT}
    assert {name: modules for name, modules in heavy.items() if modules} == {}


def test_modules_that_import_no_torch_import_nothing_else_heavy():
    found = json.loads(python(IMPORT_EACH, json.dumps(["clippy_core", *WITHOUT_TORCH])))
    assert {name: sorted(HEAVY & set(modules)) for name, modules in found.items() if HEAVY & set(modules)} == {}
