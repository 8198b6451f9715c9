"""Packages of other people, made here and installed by pip into folders of their own."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

import pytest

HELLO = """
    from dataclasses import replace
    from pathlib import Path

    import typer

    tools = typer.Typer()


    def hello(name: str = "world", loud: bool = False) -> None:
        "Greet someone."
        greeting = f"hello {name}"
        print(greeting.upper() if loud else greeting)


    @tools.command()
    def count(words: list[str]) -> None:
        "Count words."
        print(len(words))


    @tools.command()
    def give_up() -> None:
        "Say that something is not possible."
        from clippy_core.errors import DataError

        raise DataError("hello-clippy: nothing to count")


    def boom() -> None:
        "Meet a bug."
        raise RuntimeError("the bottom of the sea")


    def model():
        from clippy_core.model.presets import MODELS, Preset

        bundled = MODELS.load("clippy-lite")()
        config = replace(bundled.config, name="theirs", description="a model of another package")
        return Preset(config, Path(@MODEL@), "made in a test")


    def benchmark(segmenter, data, options):
        from clippy_core.evaluation.benchmarks import Report

        pictures = sorted(Path(data).glob("*.jpg"))[: options.limit]
        rows = []
        for picture in pictures:
            result = segmenter.segment(picture, ["sky", "grass"], options.segment)
            rows.append({"picture": picture.name, "labels": len(result.masks())})
        return Report("their-benchmark", {"pictures": float(len(pictures))}, {"model": segmenter.config.name}, rows)


    def exporter(model, out):
        from clippy_core.files import write_bytes

        write_bytes(out / "size.txt", str(sum(p.numel() for p in model.model.parameters())).encode())
        return [out / "size.txt"]


    def writer(result, stem):
        from clippy_core.files import write_bytes

        path = stem.parent / f"{stem.name}.names.txt"
        write_bytes(path, ",".join(result.labels).encode())
        return [path]
"""
BROKEN = """
    NUMBER = 7


    def no_preset():
        return {"name": "a table"}


    def failing():
        raise OSError("their disk is gone")


    def command(labels: str) -> None:
        pass
"""
# Entry points by package: name → (module's source, group → name → object).
PACKAGES: dict[str, tuple[str, dict[str, dict[str, str]]]] = {
    "hello-clippy": (
        HELLO,
        {
            "commands": {"hello": "hello", "tools": "tools", "boom": "boom"},
            "models": {"theirs": "model"},
            "benchmarks": {"their-benchmark": "benchmark"},
            "exporters": {"their-exporter": "exporter"},
            "writers": {"their-writer": "writer"},
        },
    ),
    "broken-clippy": (
        BROKEN,
        {
            "commands": {"not-there": "gone", "a-number": "NUMBER"},
            "models": {"no-preset": "no_preset", "failing": "failing", "model-number": "NUMBER"},
            "benchmarks": {"no-benchmark": "nothing.at.all"},
            "exporters": {"exporter-number": "NUMBER"},
            "writers": {"writer-number": "NUMBER"},
        },
    ),
    "clash-clippy": (
        BROKEN,
        {"commands": {"models": "command"}, "writers": {"masks": "command"}, "benchmarks": {"points": "command"}},
    ),
}


class ThirdParty(NamedTuple):
    """Where the packages were installed, by name, and the directory of the model that one of them brings."""

    folders: dict[str, Path]
    model: Path

    def path(self, *names: str) -> dict[str, str]:
        """Environment in which these packages are installed beside the code under test."""
        from clippy_core import __file__ as core

        return {"PYTHONPATH": ":".join(map(str, [*(self.folders[name] for name in names), Path(core).parents[1]]))}


@pytest.fixture(scope="session")
def third_party(tmp_path_factory: pytest.TempPathFactory) -> ThirdParty:
    """Three packages: one that adds one of everything, one that is broken, one that claims names that are taken."""
    root = tmp_path_factory.mktemp("third-party")
    model = _their_model(root / "weights")
    for name, (source, groups) in PACKAGES.items():
        _write_package(root / "source" / name, name, source.replace("@MODEL@", repr(str(model))), groups)
    # An import that fails is the most common way to be broken.
    (root / "source/broken-clippy/broken_clippy_torn.py").write_text('raise ImportError("libtorn.so is missing")\n')
    running = [_install(root / "source" / name, root / "installed" / name) for name in PACKAGES]
    for process in running:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output
    return ThirdParty({name: root / "installed" / name for name in PACKAGES}, model)


def _their_model(folder: Path) -> Path:
    """The bundled model under another name."""
    from clippy_core.model.presets import find

    bundled = find("clippy-lite")
    folder.mkdir()
    config = json.dumps(json.loads((bundled / "config.json").read_bytes()) | {"name": "theirs"}).encode()
    manifest = json.loads((bundled / "manifest.json").read_bytes())
    manifest["files"]["config.json"] |= {"bytes": len(config), "sha256": hashlib.sha256(config).hexdigest()}
    (folder / "config.json").write_bytes(config)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    for name in ("model.safetensors", "tokenizer.json"):
        (folder / name).symlink_to(bundled / name)
    return folder


def _write_package(folder: Path, name: str, source: str, groups: dict[str, dict[str, str]]) -> None:
    module = name.replace("-", "_")
    folder.mkdir(parents=True)
    (folder / f"{module}.py").write_text(dedent(source))
    modules = [module, f"{module}_torn"] if name == "broken-clippy" else [module]
    lines = [
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"',
        f'[project]\nname = "{name}"\nversion = "1.0"',
        f"[tool.setuptools]\npy-modules = {modules}",
    ]
    for group, entries in groups.items():
        lines.append(f'[project.entry-points."clippy.{group}"]')
        lines += [f'{entry} = "{module}:{target}"' for entry, target in entries.items()]
        if group == "commands" and name == "broken-clippy":
            lines.append(f'torn = "{module}_torn:run"')
    (folder / "pyproject.toml").write_text("\n".join(lines) + "\n")


def _install(source: Path, target: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", "install", "--quiet"]
    options = ["--no-index", "--no-deps", "--no-build-isolation", "--no-compile", "--target", str(target), str(source)]
    return subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
