"""What every test starts from: a plain environment, and the command line in this process or as a process of its own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import clippy_core

# Before torch is imported: several test runs on one machine must not wait for each other by spinning.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Wishes of whoever runs the tests that would change what is printed.
WISHES = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "PYTHONIOENCODING")


class Finished(NamedTuple):
    """How a command line ended."""

    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in WISHES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def clippy_command() -> list[str]:
    """The command as a process of its own, the code under test and no other."""
    return [sys.executable, "-m", "clippy_cli"]


@pytest.fixture(scope="session")
def clippy_environment() -> dict[str, str]:
    """The environment for :func:`clippy_command`: finds this code from any folder."""
    environment = {name: value for name, value in os.environ.items() if name not in WISHES}
    paths = [str(Path(clippy_core.__file__).parents[1]), environment.get("PYTHONPATH", "")]
    return environment | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


@pytest.fixture
def process(clippy_command: list[str], clippy_environment: dict[str, str], tmp_path: Path) -> Callable[..., Finished]:
    """Run the command as a real process in ``tmp_path``: ``process("plugins", env={…}, stdin=b"…")``."""

    def run(*args: object, env: dict[str, str] | None = None, stdin: bytes = b"", **more: Any) -> Finished:
        done = subprocess.run(
            [*clippy_command, *map(str, args)],
            **({"capture_output": True, "cwd": tmp_path, "timeout": 120} | more),
            input=stdin,
            env=clippy_environment | (env or {}),
            check=False,
        )
        return Finished(done.returncode, (done.stdout or b"").decode(), (done.stderr or b"").decode())

    return run


@pytest.fixture(scope="session")
def kept_models() -> dict[Any, Any]:
    """Models that an earlier test loaded."""
    return {}


@pytest.fixture
def clippy(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, kept_models: dict[Any, Any]
) -> Callable[..., Finished]:
    """Run the command in this process, where a model is loaded once and then kept."""
    from clippy_cli.main import run
    from clippy_core.model.presets import find
    from clippy_core.segmentation import segmenter

    load = segmenter.load

    def load_once(model: Any, **placement: str) -> Any:
        key = (find(model), *sorted(placement.items()))
        if key not in kept_models:
            kept_models[key] = load(model, **placement)
        return kept_models[key]

    def finish(*args: object) -> Finished:
        capsys.readouterr()
        code = run([str(arg) for arg in args])
        return Finished(code, *capsys.readouterr())

    monkeypatch.setattr(segmenter, "load", load_once)
    return finish


@pytest.fixture(scope="session")
def draw() -> Callable[..., Path]:
    """Write a small picture of a meadow under a sky: ``draw(path, size=(120, 80))``, in the format of the suffix."""

    def picture(path: Path, size: tuple[int, int] = (120, 80)) -> Path:
        from PIL import Image, ImageDraw

        width, height = size
        image = Image.new("RGB", size, (120, 175, 235))
        pencil = ImageDraw.Draw(image)
        pencil.rectangle((0, height // 2, width, height), fill=(60, 150, 50))
        pencil.ellipse((width // 3, height // 3, width // 2, height - 8), fill=(150, 95, 45))
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
        return path

    return picture
