"""Ctrl-C at the worst of times: twice, and while something is imported."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PICTURES = 200
SEGMENT = ("segment", "photos", "-l", "sky,grass", "--size", "64")
# Presses Ctrl-C when a module is looked for, as often as asked; ``swallow`` is what extension modules make of it.
PRESSING = """
import os, signal, sys

class Pressing:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r} and sys.meta_path[0] is self:
            del sys.meta_path[0]
            try:
                os.kill(os.getpid(), signal.SIGINT)
            except KeyboardInterrupt:
                if {swallow}:
                    raise ImportError("initialization failed") from None
                raise

sys.meta_path.insert(0, Pressing())
"""


@pytest.mark.parametrize("more", [["--jobs", "2"], []], ids=["two processes", "one"])
def test_a_second_ctrl_c_right_after_the_first_ends_the_run(
    clippy: Any,
    clippy_command: list[str],
    clippy_environment: dict[str, str],
    draw: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    more: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    first = draw(tmp_path / "photos/000.png", (80, 60)).read_bytes()
    for number in range(1, PICTURES):
        (tmp_path / f"photos/{number:03}.png").write_bytes(first)
    running = subprocess.Popen(
        [*clippy_command, *SEGMENT, *more],
        env=clippy_environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 90
        while not list(tmp_path.glob("clippy-out/*.labels.png")):
            assert running.poll() is None, running.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.005)
        for _ in range(2):
            os.killpg(running.pid, signal.SIGINT)  # a terminal sends it to all processes of the command
            time.sleep(0.02)
        _, err = running.communicate(timeout=30)
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
    assert running.returncode in (130, -signal.SIGINT)
    assert err in ("", "error: interrupted; the same command again does what is left\n")
    assert clippy(*SEGMENT, *more).code == 0
    assert len(list(tmp_path.glob("clippy-out/*.labels.png"))) == PICTURES
    assert not list(tmp_path.glob("clippy-out/.clippy*"))


@pytest.fixture
def pressing(process: Any, tmp_path: Path, clippy_environment: dict[str, str]) -> Callable[..., Any]:
    """Run the command with Ctrl-C pressed when it looks for a module."""

    def run(module: str, *, swallow: bool = False, **more: Any) -> Any:
        (tmp_path / "hook").mkdir()
        (tmp_path / "hook/sitecustomize.py").write_text(PRESSING.format(module=module, swallow=swallow))
        paths = os.pathsep.join([str(tmp_path / "hook"), clippy_environment["PYTHONPATH"]])
        return process(*SEGMENT, env={"PYTHONPATH": paths}, **more)

    return run


@pytest.mark.parametrize(
    ("module", "swallow", "code", "message"),
    [
        pytest.param("typer", False, -signal.SIGINT, "", id="before anything has begun"),
        pytest.param("clippy_core.segmentation.inputs", False, 130, "error: interrupted\n", id="in a command"),
        pytest.param("clippy_core.segmentation.inputs", True, 130, "error: interrupted\n", id="and swallowed"),
    ],
)
def test_ctrl_c_during_an_import_is_no_traceback(
    pressing: Any, module: str, swallow: bool, code: int, message: str
) -> None:
    assert pressing(module, swallow=swallow) == (code, "", message)


def test_a_command_that_is_to_ignore_ctrl_c_ignores_it(
    pressing: Any, draw: Callable[..., Path], tmp_path: Path
) -> None:
    draw(tmp_path / "photos/a.png", (80, 60))
    ignored = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)}
    assert pressing("clippy_core.segmentation.inputs", **ignored).code == 0
