"""Fault 25: a folder run is killed at random moments and started again.

The outputs are those of a run that nobody disturbed, byte for byte; what was recorded as finished is never touched
again; a line of the manifest comes after the outputs that it names.
"""

import json
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

PATIENCE = 600
KINDS = ("empty", "text", "cut", "gone")


def _folder(root: Path, good: int, bad: int) -> None:
    """Pictures in a tree of folders, and among them files that cannot be used."""
    rng = np.random.default_rng(0)
    for number in range(good + bad):
        path = root / f"{number % 4}" / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = (
            KINDS[number % 4] if number % ((good + bad) // bad) == 1 and number // ((good + bad) // bad) < bad else ""
        )
        if kind == "gone":
            path.symlink_to("nowhere.png")
            continue
        Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8)).resize((96, 72)).save(path)
        if kind:
            path.write_bytes({"empty": b"", "text": b"no picture", "cut": path.read_bytes()[:300]}[kind])


def _contents(out: Path) -> dict[str, bytes]:
    files = (path for path in out.rglob("*") if path.is_file() and path.name != "manifest.jsonl")
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def _lines(path: Path) -> list[dict[str, Any]]:
    found = []
    for line in path.read_bytes().split(b"\n") if path.exists() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue  # half a line, or none
    return found


def _recorded(out: Path) -> list[dict[str, Any]]:
    """Everything that a killed run has written down, in the manifest or in a part of it or already in both.

    A line says how long the work took, so two lines of one input are equal only if it was done once.
    """
    parts = sorted(out.glob(".clippy/run/*.jsonl"))
    lines = [line for path in (out / "manifest.jsonl", *parts) for line in _lines(path)]
    return list({json.dumps(line): line for line in lines}.values())


@pytest.mark.parametrize(
    ("kills", "good", "bad", "more"),
    [
        pytest.param(2, 45, 5, [], id="2 kills"),
        pytest.param(20, 360, 40, [], id="20 kills", marks=pytest.mark.slow),
        pytest.param(6, 180, 20, ["--jobs", "2"], id="6 kills of two processes", marks=pytest.mark.slow),
    ],
)
def test_a_run_that_is_killed_and_started_again_ends_as_one_that_was_not(
    tmp_path: Path,
    tiny_directory: Path,
    process: Callable[..., Any],
    clippy_command: list[str],
    clippy_environment: dict[str, str],
    kills: int,
    good: int,
    bad: int,
    more: list[str],
) -> None:
    chance = random.Random(0)
    _folder(tmp_path / "photos", good, bad)
    common = ["segment", "photos", "-l", "sky,grass", "--model", tiny_directory, "--device", "cpu"]
    common = list(map(str, [*common, "--save", "overlay,labelmap,json,coco"]))
    threads = {"OMP_NUM_THREADS": "1"}
    straight = process(*common, "--out", "straight", env=threads, timeout=PATIENCE)
    assert straight.code == 3, straight.err
    want = _contents(tmp_path / "straight")
    assert len(_lines(tmp_path / "straight/manifest.jsonl")) == good + bad

    out, first_seen, killed_with = tmp_path / "out", {}, []
    for number in range(kills):
        left = good - len(first_seen)
        running = subprocess.Popen(
            [*clippy_command, *common, *more, "--out", "out"],
            cwd=tmp_path,
            env=clippy_environment | threads,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        # Somewhere between the first picture of this attempt and its share of what is left, or before all that.
        at_least = chance.randint(0, max(0, left // (kills - number) - 1))
        before = sum(line["status"] == "ok" for line in _recorded(out))
        until = time.monotonic() + PATIENCE
        while running.poll() is None and time.monotonic() < until:
            if sum(line["status"] == "ok" for line in _recorded(out)) - before >= at_least:
                break
            time.sleep(0.01)
        time.sleep(chance.random() * 0.05)
        assert running.poll() is None, "there is always something left"
        running.send_signal(signal.SIGKILL)
        running.wait()
        time.sleep(0.5 if more else 0)  # the processes of one that led notice that it has gone
        recorded = [line for line in _recorded(out) if line["status"] == "ok"]
        assert max(Counter(line["input"] for line in recorded).values(), default=1) == 1, "nothing is done twice"
        for line in recorded:
            times = [(out / name).stat().st_mtime_ns for name in line["outputs"]]  # they are all there
            assert first_seen.setdefault(line["input"], times) == times, "what is finished is not touched again"
        killed_with.append(len(recorded))

    done = process(*common, *more, "--out", "out", env=threads, timeout=PATIENCE)
    assert done.code == 3, done.err
    assert f"{len(first_seen)} finished before" in done.err
    assert _contents(out) == want
    assert list(out.rglob(".clippy-tmp-*")) == []
    for source, times in first_seen.items():
        (line,) = [line for line in _lines(out / "manifest.jsonl") if line["input"] == source]
        assert [(out / name).stat().st_mtime_ns for name in line["outputs"]] == times
    kept = ("input", "status", "outputs", "error", "labels", "notes")
    final, undisturbed = (_lines(tmp_path / folder / "manifest.jsonl") for folder in ("out", "straight"))
    assert [{name: line[name] for name in kept} for line in final] == [
        {name: line[name] for name in kept} for line in undisturbed
    ]
    assert killed_with == sorted(killed_with)
    print(f"killed with {killed_with} of {good} recorded; {len(first_seen)} were there before the last attempt")
