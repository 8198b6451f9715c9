"""Stages side by side: the same outputs as one picture at a time, and never more on the way than there is room for."""

import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from clippy_core import events
from clippy_core.prompts import parse_labels
from clippy_core.segmentation.batch import pipeline, reading
from clippy_core.segmentation.batch.pipeline import Pipeline
from clippy_core.segmentation.batch.run import Job, Work, segment_one
from clippy_core.segmentation.inputs import find_inputs
from clippy_core.segmentation.options import SegmentOptions, Windows


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def work(picture_file):
    """``work(count, sizes=…, **changes of the job)`` → work on so many pictures, and the records that come."""

    def make(count=12, sizes=((40, 56),), sink=events.ignore, go_on=lambda record: True, **changes):
        for number in range(count):
            picture_file(f"photos/{number:02d}.png", number, sizes[number % len(sizes)])
        job = Job(parse_labels("dog|puppy,grass,sky"), SegmentOptions(), "tiny", Path("out"), ("labelmap", "json"))
        job = replace(job, **changes)
        records = []

        def done(record):
            records.append(record)
            return go_on(record)

        items = find_inputs(["photos"], job.out)
        return Work(items, job, len(items), done, sink), records

    return make


def label_maps(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(Path(folder).rglob("*.png"))}


SIZES = ((40, 56), (56, 40), (64, 64), (120, 50), (33, 47))
ELONGATED = ((10, 101), (1, 100), (100, 1), (15, 300), (50, 700))


@pytest.mark.parametrize("batch", [None, 1, 2, 5])
@pytest.mark.parametrize(
    "options",
    [SegmentOptions(), SegmentOptions(size=100), SegmentOptions(windows=Windows(32, 16))],
    ids=["own size", "size between cells", "windows"],
)
def test_outputs_are_those_of_one_picture_at_a_time(segmenter, work, options, batch):
    todo, records = work(12, SIZES, options=options, batch=batch, writers=("labelmap",))
    Pipeline(segmenter, todo).run()
    assert sorted(record.input for record in records) == [item.source for item in todo.items]
    for item in todo.items:
        segment_one(segmenter, item, replace(todo.job, out=Path("single")))
    assert label_maps("out") == label_maps("single")


@pytest.mark.parametrize("size", [None, 100, 512])
def test_an_elongated_picture_gets_the_same_alone_and_in_a_folder(segmenter, work, size):
    todo, _ = work(10, ELONGATED, options=SegmentOptions(size=size), batch=2, writers=("labelmap",))
    Pipeline(segmenter, todo).run()
    for item in todo.items:
        segment_one(segmenter, item, replace(todo.job, out=Path("single")))
    assert len(label_maps("out")) == 10
    assert label_maps("out") == label_maps("single")


def test_what_readers_resize_is_what_the_model_would_have_made_of_it(segmenter, work):
    """To the last bit: the model finds a picture of its own size, and leaves it as it is."""
    todo, _ = work(5, SIZES, options=SegmentOptions(size=100))
    line = Pipeline(segmenter, todo)
    for item in todo.items:
        read = line._reader.read(item)
        size = min(read.size)
        resized, grid = segmenter.encode(read.model_input_HW3, SegmentOptions(size=size))
        whole, same_grid = segmenter.encode(read.picture.pixels_HW3, todo.job.options)
        assert grid == same_grid
        assert torch.equal(resized, whole)


@pytest.mark.parametrize(("size", "cell", "left_to_the_model"), [(32, 14, True), (4096, 14, True), (36, 14, False)])
def test_a_size_that_rounds_to_one_that_cannot_be_asked_for_is_left_to_the_model(
    segmenter, work, monkeypatch, size, cell, left_to_the_model
):
    todo, _ = work(1, options=SegmentOptions(size=size))
    monkeypatch.setattr(type(segmenter.engine), "stride", property(lambda engine: cell))
    line = Pipeline(segmenter, todo)
    pixels_HW3 = np.zeros((40, 40, 3), np.uint8)
    resized_HW3, named = line._reader.resized(pixels_HW3)
    assert (named == reading.UNSIZED) is left_to_the_model
    assert (resized_HW3 is pixels_HW3) is left_to_the_model


@pytest.mark.parametrize("slow", ["reading", "model", "writing"])
def test_the_slowest_stage_holds_up_the_others(segmenter, work, monkeypatch, slow):
    """Never more pictures on the way than there is room for, whichever stage they wait for; and it is named."""
    lock, on_the_way, most, heard = threading.Lock(), [0], [0], []
    read_picture, finish, encode = reading.read_picture, segmenter.finish, segmenter.encode

    def read(*args, **more):
        with lock:
            on_the_way[0] += 1
            most[0] = max(most[0], on_the_way[0])
        if slow == "reading":
            time.sleep(0.15)
        return read_picture(*args, **more)

    def slowly(*args, **more):
        if slow == "model":
            time.sleep(0.08)
        return encode(*args, **more)

    def end(*args, **more):
        if slow == "writing":
            time.sleep(0.3)
        with lock:
            on_the_way[0] -= 1
        return finish(*args, **more)

    monkeypatch.setattr(reading, "read_picture", read)
    monkeypatch.setattr(pipeline, "OBSERVED_EVERY", 0.1)
    monkeypatch.setattr(segmenter, "finish", end)
    monkeypatch.setattr(segmenter, "encode", slowly)
    todo, records = work(40, sink=heard.append)
    line = Pipeline(segmenter, todo)
    line.run()
    assert len(records) == 40
    assert most[0] <= line._ahead + line._behind + 1 < 40
    named = [event.limit for event in heard if isinstance(event, events.StagesObserved)]
    assert max(set(named), key=named.count) == slow


def test_large_pictures_are_not_read_ahead_without_end(segmenter, work, monkeypatch):
    """One picture fills the room: every thread may have one in its hands that it began before, and no more."""
    monkeypatch.setattr(reading, "MOST_PIXELS", 1)
    lock, held, most, read_picture, finish = threading.Lock(), [0], [0], reading.read_picture, segmenter.finish
    todo, records = work(30, batch=1)
    line = Pipeline(segmenter, todo)

    def read(*args, **more):
        picture = read_picture(*args, **more)
        with lock:
            held[0] += 1
            most[0] = max(most[0], held[0])
        return picture

    def end(*args, **more):
        with lock:
            held[0] -= 1
        return finish(*args, **more)

    monkeypatch.setattr(reading, "read_picture", read)
    monkeypatch.setattr(segmenter, "finish", end)
    line.run()
    assert len(records) == 30
    assert most[0] <= line._threads + 1
    assert line._reader.room._held == 0


def test_pictures_of_one_size_share_a_pass_and_others_are_not_forgotten(segmenter, work, monkeypatch):
    encode_batch, passes = segmenter.encode_batch, []

    def count(pictures, options=None):
        passes.append(len(pictures))
        return encode_batch(pictures, options)

    monkeypatch.setattr(segmenter, "encode_batch", count)
    todo, records = work(25, ((40, 56),), batch=4)
    Pipeline(segmenter, todo).run()
    assert len(records) == 25
    assert set(passes) <= {2, 3, 4}
    assert passes.count(4) >= 3


def test_when_told_to_stop_it_finishes_what_it_began_and_no_more(segmenter, work):
    todo, records = work(60)
    Pipeline(segmenter, todo, stopped=lambda: len(records) >= 3).run()
    assert 3 <= len(records) < 60
    assert {record.status for record in records} == {"ok"}
    assert {name for record in records for name in record.outputs} == {
        path.name for path in Path("out").iterdir() if path.is_file()
    }


def test_a_bug_in_a_thread_is_not_swallowed(segmenter, work, monkeypatch):
    def fail(*args, **more):
        raise RuntimeError("the bottom of the sea")

    todo, _ = work(6)
    monkeypatch.setattr(segmenter, "finish", fail)
    with pytest.raises(RuntimeError, match="the bottom of the sea"):
        Pipeline(segmenter, todo).run()


def test_records_say_what_was_found(segmenter, work):
    todo, records = work(3)
    Pipeline(segmenter, todo).run()
    for record in records:
        assert sum(record.labels.values()) == pytest.approx(1, abs=1e-5)
        assert record.run == todo.job.digest()
        assert record.seconds > 0
        from PIL import Image

        counts = np.bincount(np.asarray(Image.open(Path("out", record.outputs[0]))).ravel(), minlength=3)
        shares = {name: count / counts.sum() for name, count in zip(("dog", "grass", "sky"), counts, strict=True)}
        assert record.labels == pytest.approx({name: share for name, share in shares.items() if share}, abs=1e-6)


@pytest.mark.parametrize("room", [0, 1, 3])
def test_what_does_not_fit_together_is_tried_in_parts(segmenter, work, monkeypatch, room):
    """A batch of more than ``room`` pictures does not fit; a picture that does not fit alone is a failed line."""
    encode, encode_batch = segmenter.encode, segmenter.encode_batch

    def one(pixels, options=None):
        if room < 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(pixels, options)

    def several(pictures, options=None):
        if len(pictures) > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode_batch(pictures, options)

    monkeypatch.setattr(segmenter, "encode", one)
    monkeypatch.setattr(segmenter, "encode_batch", several)
    todo, records = work(10, batch=8)
    Pipeline(segmenter, todo).run()
    assert sorted(record.input for record in records) == [item.source for item in todo.items]
    assert {record.status for record in records} == {"ok" if room else "failed"}
    if not room:
        assert records[0].error.endswith("does not fit into memory; a smaller --size or --window does")


def test_memory_on_the_cpu_is_only_a_sentence(segmenter, work, monkeypatch):
    def fail(pixels, options=None):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes.")

    monkeypatch.setattr(segmenter, "encode", fail)
    todo, records = work(2)
    Pipeline(segmenter, todo).run()
    assert [record.status for record in records] == ["failed", "failed"]
