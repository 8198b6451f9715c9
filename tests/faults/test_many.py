"""Fault 27: a folder without a picture, and one with very many."""

import gc
import re
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clippy_core import events
from clippy_core.prompts import parse_labels
from clippy_core.segmentation.batch.manifest import Manifest, Record
from clippy_core.segmentation.batch.run import Job, alone, segment_batch
from clippy_core.segmentation.inputs import find_inputs
from clippy_core.segmentation.options import SegmentOptions
from clippy_core.segmentation.result import Segmentation


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("inside", [[], ["notes.txt", "film.mp4", ".hidden.png", "deep/er/data.csv"]])
def test_a_folder_without_a_picture_is_one_clear_line(clippy: Any, inside: list[str]) -> None:
    for name in inside:
        Path("photos", name).parent.mkdir(parents=True, exist_ok=True)
        Path("photos", name).touch()
    Path("photos").mkdir(exist_ok=True)
    done = clippy("segment", "photos", "-l", "sky")
    assert (done.code, done.out) == (4, "")
    assert re.fullmatch(r"error: photos: no picture in this folder \(looked for \.avif, .*\.webp\)\n", done.err)
    assert not Path("clippy-out").exists()


class _StandIn:
    """A model that takes no time and keeps nothing."""

    config = SimpleNamespace(name="stand-in", vision=SimpleNamespace(size=32))
    engine = SimpleNamespace(stride=8)
    placement = SimpleNamespace(device=SimpleNamespace(type="cpu"), notice="")

    def embed_labels(self, labels: Any, options: Any) -> Any:
        return tuple(label.name for label in labels)

    def encode(self, pixels_HW3: np.ndarray, options: Any) -> Any:
        return pixels_HW3, (1, 1)

    def finish(self, picture: Any, features: Any, grid: Any, names: Any, options: Any, **more: Any) -> Segmentation:
        labels_HW = (picture.pixels_HW3[..., 0] // 128).astype(np.uint8)
        return Segmentation(picture, labels_HW, names, np.zeros(2, np.float32), source=more["source"])


def test_memory_does_not_grow_with_the_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture of 150 kB leaves a few hundred bytes: where its line stands, and who owns its outputs."""
    monkeypatch.setattr("os.fsync", lambda number: None)
    pixels_HW3 = np.random.default_rng(0).integers(0, 256, (200, 250, 3), np.uint8)
    Path("photos").mkdir()
    Image.fromarray(pixels_HW3).save("photos/000.png", compress_level=1)
    for number in range(1, 400):
        Path(f"photos/{number:03d}.png").hardlink_to("photos/000.png")
    sizes: list[int] = []

    def sink(event: events.Event) -> None:
        if isinstance(event, events.ItemFinished):
            assert event.status == "ok", event.error
            if len(sizes) % 100 == 99:
                gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])

    job = Job(parse_labels("dark,light"), SegmentOptions(), "stand-in", Path("out"), ("labelmap", "json"))
    items = find_inputs(["photos"], job.out)
    tracemalloc.start()
    try:
        records = segment_batch(items, job, alone(lambda: _StandIn()), sink=sink)  # type: ignore[arg-type, return-value]
    finally:
        tracemalloc.stop()
    assert len(records) == 400
    early, late = (min(sizes[first : first + 100]) for first in (100, 300))
    assert late - early < 200 * 2_000, "two hundred pictures later"


def test_the_manifest_of_very_many_keeps_places_and_not_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda number: None)
    names = [f"a/folder/with/a/name/{number:05d}.jpg" for number in range(3000)]
    manifest = Manifest(tmp_path, "r")
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for name in names:
            outputs = [f"{name}.{kind}" for kind in ("overlay.png", "labels.png", "json")]
            manifest.append(Record(name, "ok", outputs, run="r", labels={"a rather long label": 0.5, "another": 0.5}))
        records = manifest.rewrite(names)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown / len(names) < 700
    assert [record.input for record in records] == names
    assert records[-1].labels == {"a rather long label": 0.5, "another": 0.5}
    assert [record.input for record in records[10:12]] == names[10:12]
