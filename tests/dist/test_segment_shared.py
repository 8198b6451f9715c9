"""One folder, shared in every way there is: the output tree is that of one process."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Draw = Callable[..., Path]
PICTURES, BAD = 10, "photos/b/05.png"
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs Ray")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def command(tiny_directory: Path, draw: Draw) -> list[str]:
    """The command line on ten pictures, one of them bad."""
    for number in range(PICTURES):
        draw(Path(f"photos/{'ab'[number % 2]}/{number:02d}.png"), (60 + number, 50))
    Path(BAD).write_text("no picture")
    common = ["segment", "photos", "-l", "sky,grass", "--model", str(tiny_directory), "--device", "cpu"]
    return [*common, "--save", "labelmap,json,coco"]


@pytest.fixture
def want(clippy: Any, command: list[str]) -> dict[str, Any]:
    """What one process leaves."""
    assert clippy(*command, "--out", "one").code == 3
    return _left("one")


def _left(out: str) -> dict[str, Any]:
    """Every file's bytes, and the manifest without what differs from run to run."""
    files = (path for path in Path(out).rglob("*") if path.is_file())
    found: dict[str, Any] = {str(path.relative_to(out)): path.read_bytes() for path in files}
    lines = [json.loads(line) for line in found.pop("manifest.jsonl").splitlines()]
    return found | {"manifest": [{name: line[name] for name in line if name != "seconds"} for line in lines]}


def test_two_processes_on_the_cpu(process: Any, command: list[str], want: dict[str, Any]) -> None:
    done = process(*command, "--out", "two", "--jobs", "2", env={"OMP_NUM_THREADS": "1"})
    assert done.code == 3
    assert f"{PICTURES - 1} done · 0 finished before · 1 failed · outputs in two" in done.err
    assert "Traceback" not in done.err
    assert _left("two") == want


def test_two_ranks_of_torchrun(
    clippy_environment: dict[str, str], clippy: Any, command: list[str], want: dict[str, Any]
) -> None:
    Path(BAD).unlink()  # what fails ends torchrun with a report of its own
    done = subprocess.run(
        [*TORCHRUN, "-m", "clippy_cli", *command, "--out", "two"],
        env=clippy_environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("mean share") == 1, "the first process speaks for all"
    assert f"{PICTURES - 1} done · 0 finished before · 0 failed · outputs in two" in done.stderr
    failed = [line for line in want["manifest"] if line["status"] == "failed"]
    assert [line["input"] for line in failed] == [BAD]
    assert _left("two") == want | {"manifest": [line for line in want["manifest"] if line not in failed]}
    again = clippy(*command, "--out", "two")
    assert again.err.startswith(f"wrote two/coco.json\n0 done · {PICTURES - 1} finished before")


@pytest.mark.parametrize("bad", [0, 1], ids=["first rank", "second rank"])
def test_fail_fast_stops_all_ranks(
    clippy_environment: dict[str, str], clippy: Any, command: list[str], draw: Draw, bad: int
) -> None:
    Path(BAD).unlink()
    for number in range(600):
        draw(Path(f"photos/c/{number:03d}.png"), (60, 50))
    first = sorted(str(path) for path in Path("photos").rglob("*.png"))[bad]
    Path(first).write_text("no picture")
    done = subprocess.run(
        [*TORCHRUN, "-m", "clippy_cli", *command, "--out", "two", "--fail-fast"],
        env=clippy_environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert " not tried · outputs in two" in done.stderr
    records = [json.loads(line) for line in Path("two/manifest.jsonl").read_text().splitlines()]
    assert [record["input"] for record in records if record["status"] == "failed"] == [first]
    assert len(records) < 200, "the rank without the bad picture had 304 to do"
    assert not Path("two/.clippy/run").exists()
    draw(Path(first), (60, 50))
    assert clippy(*command, "--out", "two").code == 0


@needs_ray
def test_two_workers_of_ray(process: Any, command: list[str], want: dict[str, Any]) -> None:
    done = process(*command, "--out", "two", "--cluster", "ray", "--jobs", "2", timeout=240)
    assert done.code == 3, done.err
    assert f"{PICTURES - 1} done · 0 finished before · 1 failed · outputs in two" in done.err
    assert "Traceback" not in done.err
    assert len([line for line in done.err.splitlines() if line.startswith("[")]) <= 1, "Ray's own reports are left out"
    assert _left("two") == want


@needs_ray
def test_a_model_that_is_not_there_is_one_line_through_ray_too(process: Any, command: list[str]) -> None:
    command[command.index("--model") + 1] = "no/such/model"
    done = process(*command, "--cluster", "ray", "--jobs", "1", timeout=240)
    assert done.code in (2, 4)
    (error,) = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert "no/such/model" in error
    assert "Traceback" not in done.err


@needs_ray
@pytest.mark.slow
def test_a_lost_ray_worker_loses_no_picture(
    clippy_command: list[str], clippy_environment: dict[str, str], command: list[str], draw: Draw, clippy: Any
) -> None:
    for number in range(400):
        draw(Path(f"photos/c/{number:03d}.png"), (60, 50))
    mark = {"CLIPPY_TEST_MARK": str(Path.cwd())}
    running = subprocess.Popen(
        [*clippy_command, *command, "--out", "two", "--cluster", "ray", "--jobs", "2"],
        env=clippy_environment | mark | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    _wait_for(lambda: len(list(Path("two").rglob("*.labels.png"))) >= 20, running)
    workers = [number for number, name in _processes(f"CLIPPY_TEST_MARK={Path.cwd()}") if "MapBatches" in name]
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    _, err = running.communicate(timeout=300)
    assert running.returncode == 3, err
    assert "409 done · 0 finished before · 1 failed" in err
    assert clippy(*command, "--out", "one").code == 3
    assert _left("two") == _left("one")


@needs_ray
@pytest.mark.slow
def test_an_interrupted_run_through_ray_goes_on(
    clippy_command: list[str], clippy_environment: dict[str, str], command: list[str], draw: Draw, clippy: Any
) -> None:
    for number in range(400):
        draw(Path(f"photos/c/{number:03d}.png"), (60, 50))
    shared = [*clippy_command, *command, "--out", "two", "--cluster", "ray", "--jobs", "2"]
    environment = clippy_environment | {"OMP_NUM_THREADS": "1"}
    running = subprocess.Popen(
        shared, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    _wait_for(lambda: len(list(Path("two").rglob("*.labels.png"))) >= 20, running)
    os.kill(running.pid, signal.SIGINT)
    _, err = running.communicate(timeout=120)
    assert running.returncode == 130, err
    assert "Traceback" not in err
    assert not Path("two/.clippy").exists(), "all that was finished is in the manifest"
    finished = len(Path("two/manifest.jsonl").read_text().splitlines())
    assert 20 <= finished < 400
    again = subprocess.run(shared, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert again.returncode == 3, again.stderr
    assert int(again.stderr.split(" done · ")[1].split(" finished before")[0]) >= 20
    assert clippy(*command, "--out", "one").code == 3
    assert _left("two") == _left("one")


@pytest.mark.slow
def test_a_lost_rank_is_started_again_and_loses_no_picture(
    clippy_environment: dict[str, str], command: list[str], draw: Draw, clippy: Any
) -> None:
    Path(BAD).unlink()
    for number in range(400):
        draw(Path(f"photos/c/{number:03d}.png"), (60, 50))
    mark = {"CLIPPY_TEST_MARK": str(Path.cwd())}
    running = subprocess.Popen(
        [*TORCHRUN, "--max-restarts", "1", "-m", "clippy_cli", *command, "--out", "two"],
        env=clippy_environment | mark | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    _wait_for(lambda: len(list(Path("two").rglob("*.labels.png"))) >= 20, running)
    ranks = [number for number, _ in _processes(f"CLIPPY_TEST_MARK={Path.cwd()}") if _has(number, "RANK=1")]
    os.kill(ranks[-1], signal.SIGKILL)
    _, err = running.communicate(timeout=300)
    assert running.returncode == 0, err
    assert clippy(*command, "--out", "one").code == 0
    assert _left("two") == _left("one")


def _wait_for(happened: Callable[[], bool], running: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 240
    while not happened():
        assert running.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)


def _processes(mark: str) -> Iterator[tuple[int, str]]:
    """Number and name of processes that were started with ``mark`` in their environment."""
    for folder in Path("/proc").glob("[0-9]*"):
        if _has(int(folder.name), mark):
            yield int(folder.name), (folder / "cmdline").read_bytes().decode(errors="replace")


def _has(number: int, setting: str) -> bool:
    try:
        return setting.encode() in Path(f"/proc/{number}/environ").read_bytes().split(b"\0")
    except OSError:  # of somebody else, or gone
        return False
