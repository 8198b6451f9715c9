"""Whatever happened in an output folder before, a run leaves there what it would have left in an empty one."""

import contextlib
import json
import os
import tempfile
import time
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from clippy_core import events
from clippy_core.errors import DataError
from clippy_core.prompts import parse_labels
from clippy_core.segmentation.batch.manifest import NAME, Manifest
from clippy_core.segmentation.batch.run import Job, alone, segment_batch, segment_one
from clippy_core.segmentation.inputs import find_inputs
from clippy_core.segmentation.options import SegmentOptions
from clippy_core.segmentation.result import Segmentation

NAMES = (
    *("a.png", "a.bmp", "a.labelme.png", "a.mask.000-dog.png", "a.png.png", "coco.png", "summary.png"),
    *("v/frame-000000.png", "sub/a.png", "sub/a.labelme.png", "sub/coco.png"),
)
LABELS = ("dog|puppy,grass,sky", "cat,car")
WRITERS = (
    ("labelmap", "json"),
    ("masks", "labelmap"),
    ("json", "labelme", "coco"),
    ("masks", "csv", "json", "coco"),
    ("overlay", "scores", "scoremaps"),
)
JOBS = st.builds(
    lambda labels, writers: Job(parse_labels(labels), SegmentOptions(score_map=True), "tiny", Path("out"), writers),
    st.sampled_from(LABELS),
    st.sampled_from(WRITERS),
)
SAVE = Segmentation.save
NAME_OF_ONE = st.sampled_from(NAMES)


@dataclass(frozen=True)
class Add:
    """A picture comes, unless it is there."""

    name: str


@dataclass(frozen=True)
class Remove:
    """A picture goes, if it is there."""

    name: str


@dataclass(frozen=True)
class Alone:
    """A picture is segmented by itself, if it is there."""

    name: str
    job: Job


@dataclass(frozen=True)
class Folder:
    """The folder is segmented, perhaps not to the end; ``slow`` says which pictures take longer to write."""

    job: Job
    slow: int
    stop_after: int | None
    killed: bool = False
    given: tuple[str, ...] = ("photos",)


GIVEN = st.sampled_from([("photos",), ("photos/sub", "photos"), ("photos", "photos/sub")])
SLOW = st.integers(0, 15)
EVENTS = st.one_of(
    st.builds(Add, NAME_OF_ONE),
    st.builds(Remove, NAME_OF_ONE),
    st.builds(Alone, NAME_OF_ONE, JOBS),
    st.builds(Folder, JOBS, SLOW, st.one_of(st.none(), st.integers(1, 4)), st.booleans(), GIVEN),
)


def add(name):
    path = Path("photos", name)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        blocks = np.random.default_rng(NAMES.index(name)).integers(0, 256, (4, 5, 3), np.uint8)
        Image.fromarray(blocks).resize((40, 32), Image.Resampling.NEAREST).save(path)


def run(segmenter, job, given=("photos",), stop_after=None, *, slow=0, killed=False):
    """Status of every input; a run that is killed is interrupted and comes to no further line of its manifest."""

    def save(result, stem, writers):
        time.sleep(0.004 * (slow >> zlib.crc32(result.source.encode()) % 4 & 1))
        return SAVE(result, stem, writers)

    finished = 0

    def sink(event):
        nonlocal finished
        finished += isinstance(event, events.ItemFinished)
        if finished == stop_after:
            if killed:
                silence.setattr(Manifest, "_write", lambda self, record: None)
                silence.setattr(Manifest, "commit", lambda self: None)
            raise KeyboardInterrupt

    items = find_inputs(given, job.out, job.writers)
    with pytest.MonkeyPatch.context() as silence:
        silence.setattr(Segmentation, "save", save)
        return [record.status for record in segment_batch(items, job, alone(lambda: segmenter), sink=sink)]


def happen(segmenter, event):
    if isinstance(event, Add):
        add(event.name)
    elif isinstance(event, Remove):
        Path("photos", event.name).unlink(missing_ok=True)
    elif isinstance(event, Alone) and Path("photos", event.name).exists():
        (item,) = find_inputs([f"photos/{event.name}"], event.job.out, event.job.writers)
        segment_one(segmenter, item, event.job)
    elif isinstance(event, Folder):
        with contextlib.suppress(KeyboardInterrupt):
            run(segmenter, event.job, event.given, event.stop_after, slow=event.slow, killed=event.killed)


def lines(out):
    return [json.loads(line) for line in Path(out, NAME).read_text(encoding="utf-8").splitlines()]


def recorded():
    """Files that the manifest speaks of."""
    there = lines("out") if Path("out", NAME).exists() else []
    return {name for line in there for name in (*line["outputs"], *line["left"])}


def files(out):
    return {path.relative_to(out).as_posix(): path for path in Path(out).rglob("*") if path.is_file()}


@given(history=st.lists(EVENTS, max_size=8), last=JOBS, where=GIVEN, slow=SLOW)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_a_run_leaves_what_it_would_have_left_alone(segmenter, monkeypatch, history, last, where, slow):
    monkeypatch.setattr(os, "fsync", lambda number: None)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        unrecorded = set()
        add("a.png")
        for event in history:
            with contextlib.suppress(DataError):  # a folder without a picture
                happen(segmenter, event)
            # Pictures by themselves leave no manifest, and a run may end between a picture's files and its line.
            if not Path("out", NAME).exists() or (isinstance(event, Folder) and event.stop_after):
                unrecorded |= files("out").keys() - recorded()
        add("a.png")
        add("sub/a.png")  # each folder that may be given has one
        assert set(run(segmenter, last, where, slow=slow)) <= {"ok", "skipped"}
        assert set(run(segmenter, last, where)) == {"skipped"}
        run(segmenter, replace(last, out=Path("fresh")), where)

        mine = {line["input"]: line for line in lines("out")}
        fresh = {line["input"]: line for line in lines("fresh")}
        assert mine.keys() >= fresh.keys()
        for source, line in fresh.items():
            assert mine[source]["outputs"] == line["outputs"]
        there = files("out")
        for name, path in files("fresh").items():
            assert name == NAME or there[name].read_bytes() == path.read_bytes(), name
        assert there.keys() - recorded() <= {NAME, "coco.json", "summary.csv"} | unrecorded
