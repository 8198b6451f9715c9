"""Many pictures, unattended: one bad picture is one line, what is finished stays finished, whatever interrupts."""

import errno
import io
import json
import os
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from clippy_core import events
from clippy_core.errors import DataError, UsageError
from clippy_core.files import TEMPORARY_PREFIX
from clippy_core.prompts import parse_labels
from clippy_core.segmentation.batch.manifest import NAME, Manifest
from clippy_core.segmentation.batch.run import Job, alone, planned, segment_batch, segment_one
from clippy_core.segmentation.inputs import find_inputs
from clippy_core.segmentation.options import SegmentOptions, Windows

EVERY_WRITER = ("overlay", "labelmap", "json", "masks", "scores")


class Run:
    """A batch over ``photos`` into ``out``, and what became known of it."""

    def __init__(self, segmenter, **changes):
        self.loads, self.segmenter = 0, segmenter
        options = SegmentOptions(score_map=True)
        self.job = replace(
            Job(parse_labels("dog|puppy,grass,sky"), options, "tiny", Path("out"), ("labelmap", "json")), **changes
        )

    def load(self):
        self.loads += 1
        return self.segmenter

    def __call__(self, *given, stop_after=None):
        self.events, self.results = [], []

        def on_result(result):
            self.results.append(result.source)

        def sink(event):
            self.events.append(event)
            finished = sum(isinstance(event, events.ItemFinished) for event in self.events)
            if isinstance(event, events.ItemFinished) and finished == stop_after:
                raise KeyboardInterrupt

        items = find_inputs(given or ["photos"], self.job.out, self.job.writers)
        self.records = segment_batch(items, self.job, alone(self.load, on_result), sink=sink)
        return [record.status for record in self.records]


@pytest.fixture
def run(segmenter, tmp_path, monkeypatch):
    """``run(**changes of the job)`` → a :class:`Run` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "fsync", lambda number: None)  # most of the time; that it is called is tested elsewhere
    return lambda **changes: Run(segmenter, **changes)


@pytest.fixture
def photos(picture_file):
    """Five pictures in a tree, all different."""
    names = ["photos/a.png", "photos/b.png", "photos/c.png", "photos/d.png", "photos/sub/e.png"]
    return [picture_file(name, seed) for seed, name in enumerate(names)]


def manifest(out="out"):
    return [json.loads(line) for line in Path(out, NAME).read_text(encoding="utf-8").splitlines()]


def contents(out="out"):
    """Every output's bytes; only the manifest tells how long things took, and no two runs take the same."""
    files = (path for path in sorted(Path(out).rglob("*")) if path.is_file() and path.name != NAME)
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def test_every_input_is_done_and_recorded_in_order(run, photos):
    batch = run(writers=EVERY_WRITER)
    assert batch() == ["ok"] * 5
    assert [line["input"] for line in manifest()] == [f"photos/{name}.png" for name in ("a", "b", "c", "d", "sub/e")]
    for line in manifest():
        assert (line["status"], line["error"]) == ("ok", None)
        assert all(Path("out", name).is_file() for name in line["outputs"])
    assert {"sub/e.overlay.png", "sub/e.labels.png", "sub/e.json", "sub/e.scores.png"} <= set(manifest()[4]["outputs"])
    written = {name for line in manifest() for name in line["outputs"]}
    assert written == set(contents())


def test_progress_is_told(run, photos):
    batch = run()
    batch()
    first, *items, last = batch.events
    assert first == events.BatchStarted(5, 0)
    items = [event for event in items if isinstance(event, events.ItemFinished)]
    assert sorted((item.source, item.status, item.error) for item in items) == [
        (f"photos/{name}.png", "ok", None) for name in ("a", "b", "c", "d", "sub/e")
    ]
    assert (last.done, last.failed, last.skipped) == (5, 0, 0)
    assert last.seconds >= max(item.seconds for item in items) > 0
    assert batch.results == [item.source for item in items]


# --- running again -----------------------------------------------------------------------------------------------


def test_with_nothing_left_the_model_is_not_loaded_and_nothing_changes(run, photos):
    run()()
    before, lines = contents(), manifest()
    times = {path: path.stat().st_mtime_ns for path in Path("out").rglob("*.png")}
    batch = run()
    assert batch() == ["skipped"] * 5
    assert batch.loads == 0
    assert batch.events[0] == events.BatchStarted(5, 5)
    assert batch.events[-1].skipped == 5
    assert contents() == before
    assert manifest() == lines
    assert {path: path.stat().st_mtime_ns for path in Path("out").rglob("*.png")} == times


def test_a_new_picture_is_done_and_the_others_skipped(run, photos, picture_file):
    run()()
    picture_file("photos/bb.png", 9)
    batch = run()
    assert batch() == ["skipped", "skipped", "ok", "skipped", "skipped", "skipped"]
    assert batch.loads == 1
    assert [line["input"] for line in manifest()][1:3] == ["photos/b.png", "photos/bb.png"]


def test_a_failed_input_is_tried_again(run, photos, picture_file):
    photos[1].write_bytes(b"")
    assert run()() == ["ok", "failed", "ok", "ok", "ok"]
    assert run()() == ["skipped", "failed", "skipped", "skipped", "skipped"]
    picture_file("photos/b.png", 1)
    assert run()() == ["skipped", "ok", "skipped", "skipped", "skipped"]
    assert [line["status"] for line in manifest()] == ["ok"] * 5


@pytest.mark.parametrize("output", ["a.json", "a.labels.png"])
def test_an_input_whose_output_was_deleted_is_done_again(run, photos, output):
    run()()
    before = contents()
    Path("out", output).unlink()
    assert run()() == ["ok", "skipped", "skipped", "skipped", "skipped"]
    assert contents() == before


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"labels": parse_labels("dog,grass,sky")}, id="synonyms"),
        pytest.param({"labels": parse_labels("grass,dog|puppy,sky")}, id="order of labels"),
        pytest.param({"options": SegmentOptions(score_map=True, size=96)}, id="size"),
        pytest.param({"options": SegmentOptions(score_map=True, templates=("a {}",))}, id="templates"),
        pytest.param({"options": SegmentOptions(score_map=True, background="threshold=0.1")}, id="background"),
        pytest.param({"options": SegmentOptions(score_map=True, windows=Windows(64, 32))}, id="windows"),
        pytest.param({"model": "another"}, id="model"),
        pytest.param({"writers": ("json",)}, id="writers"),
    ],
)
def test_other_settings_make_every_input_unfinished(run, photos, changes):
    run()("photos/a.png", "photos/b.png")
    assert run(**changes)("photos/a.png", "photos/b.png") == ["ok", "ok"]
    assert run(**changes)("photos/a.png", "photos/b.png") == ["skipped", "skipped"]


@pytest.mark.parametrize(
    "changes",
    [
        {"fail_fast": True},
        {"options": SegmentOptions(score_map=True, background="none")},
        {"options": SegmentOptions(score_map=True, max_pixels=1_000_000)},
    ],
)
def test_settings_that_do_not_change_the_outputs_leave_inputs_finished(run, photos, changes):
    run()("photos/a.png", "photos/b.png")
    assert run(**changes)("photos/a.png", "photos/b.png") == ["skipped", "skipped"]


def test_overwrite_does_everything_again(run, photos):
    run()()
    Path("out/a.labels.png").write_bytes(b"changed by hand")
    assert run()()[0] == "skipped"
    assert run(overwrite=True)() == ["ok"] * 5
    assert Path("out/a.labels.png").read_bytes().startswith(b"\x89PNG")


def test_inputs_of_an_earlier_run_stay_in_the_manifest(run, photos):
    run()("photos/a.png", "photos/b.png")
    run()("photos/sub", "photos/c.png")
    assert [line["input"] for line in manifest()] == [f"photos/{n}.png" for n in ("sub/e", "c", "a", "b")]
    assert run()("photos/a.png", "photos/c.png") == ["skipped", "skipped"]


def test_an_input_whose_outputs_another_run_wrote_over_is_done_again(run, picture_file):
    for seed, name in enumerate(["one/img.png", "one/x.png", "two/img.png"]):
        picture_file(name, seed)
    run()("one")
    first = contents()
    run()("two", "one/x.png")
    assert contents()["img.labels.png"] != first["img.labels.png"]
    assert run()("one") == ["ok", "skipped"]
    assert contents()["img.labels.png"] == first["img.labels.png"]


def test_standard_input_is_never_skipped(run, photos, monkeypatch):
    for path in photos[:2]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(path.read_bytes())))
        assert run()("-", "photos/c.png")[0] == "ok"
    assert contents()["stdin.json"]
    assert "stdin.labels.png" in contents()


# --- failures ----------------------------------------------------------------------------------------------------


def test_bad_inputs_are_one_line_each_and_the_rest_go_on(run, photos):
    photos[0].write_bytes(b"")
    photos[1].write_bytes(photos[1].read_bytes()[:200])
    Path("photos/b2.jpg").write_text("<html>404</html>")
    Path("photos/b3.jpg").symlink_to("gone")
    Path("photos/b4.jpg").symlink_to("b4.jpg")
    os.mkfifo("photos/b5.jpg")
    batch = run()
    assert batch() == ["failed"] * 6 + ["ok"] * 3
    messages = {
        "photos/a.png": "photos/a.png: the file is empty",
        "photos/b.png": "photos/b.png: damaged or truncated (",
        "photos/b2.jpg": "photos/b2.jpg: not a picture in an accepted format (",
        "photos/b3.jpg": "photos/b3.jpg: cannot be read (No such file or directory)",
        "photos/b4.jpg": "photos/b4.jpg: cannot be read (",
        "photos/b5.jpg": "photos/b5.jpg: not a regular file",
    }
    for line in manifest()[:6]:
        assert line["status"] == "failed"
        assert line["error"].startswith(messages[line["input"]])
        assert line["outputs"] == []
        assert "\n" not in line["error"]
    last = batch.events[-1]
    assert (last.done, last.failed, last.skipped) == (3, 6, 0)
    assert not [name for name in contents() if name.startswith(("a.", "b"))]


def test_a_picture_that_is_deleted_during_the_run_is_a_failed_line(run, photos):
    batch = run()
    items = find_inputs(["photos"], batch.job.out)
    photos[2].unlink()
    records = segment_batch(items, batch.job, alone(batch.load))
    assert [record.status for record in records] == ["ok", "ok", "failed", "ok", "ok"]


def test_fail_fast_stops_at_the_first_failure_and_keeps_what_was_done(run, photos):
    photos[1].write_bytes(b"")
    batch = run(fail_fast=True)
    assert batch() == ["ok", "failed"]
    assert [(line["input"], line["status"]) for line in manifest()] == [
        ("photos/a.png", "ok"),
        ("photos/b.png", "failed"),
    ]
    assert run()() == ["skipped", "failed", "ok", "ok", "ok"]


def test_what_fail_fast_did_not_reach_is_not_told_as_if_it_had(run, photos):
    """Lines of an earlier run with other labels stay in the manifest, but say nothing of this one."""
    run(labels=parse_labels("tree"))()
    photos[1].write_bytes(b"")
    assert run(fail_fast=True)() == ["ok", "failed"]
    assert len(manifest()) == 5


def test_an_output_that_cannot_be_written_fails_that_input_only(run, photos):
    Path("out").mkdir()
    Path("out/sub").write_text("a file where a folder is needed")
    assert run()() == ["ok", "ok", "ok", "ok", "failed"]
    assert manifest()[4]["error"] == "photos/sub/e.png: out/sub: File exists"


def test_a_full_disk_is_told_by_the_outputs_name(run, photos, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("clippy_core.files.os.fsync", full)
        with pytest.raises(OSError, match="No space left"):  # for the manifest, which cannot be written either
            run()("photos/a.png", "photos/b.png")
    assert {line["error"] for line in manifest()} == {
        f"photos/{name}.png: out/{name}.labels.png: No space left on device" for name in "ab"
    }


def test_odd_names_are_segmented_and_recorded(run, picture_file):
    names = ["two\nlines.png", "-dash.png", "żółw 🐢.png", os.fsdecode(b"caf\xe9.png"), "%s{}.png", "sep\u2028.png"]
    for seed, name in enumerate(names):
        picture_file(f"photos/{name}", seed)
    assert run()() == ["ok"] * len(names)
    assert {line["input"] for line in manifest_lines()} == {f"photos/{name}" for name in names}
    assert run()() == ["skipped"] * len(names)
    for name in names:
        document = json.loads(Path("out", f"{name.removesuffix('.png')}.json").read_text(encoding="utf-8"))
        assert document["image"] == f"photos/{name}"


def manifest_lines():
    return [json.loads(line) for line in Path("out", NAME).read_bytes().split(b"\n") if line]


def test_a_mistake_in_the_settings_is_not_blamed_on_the_pictures(run, photos):
    batch = run(options=SegmentOptions(background="dog"))
    with pytest.raises(UsageError, match="'dog' is repeated"):
        batch()


# --- interruptions -----------------------------------------------------------------------------------------------


@pytest.fixture
def many(picture_file):
    """More pictures than are on their way at any time."""
    return [picture_file(f"photos/{number:02d}.png", number) for number in range(30)]


@pytest.mark.parametrize("after", [1, 2, 9])
def test_an_interrupted_run_loses_nothing_it_had_finished(run, many, after):
    straight = run(out=Path("straight"), writers=EVERY_WRITER)
    straight()
    want = contents("straight")

    interrupted = run(writers=EVERY_WRITER)
    with pytest.raises(KeyboardInterrupt):
        interrupted(stop_after=after)
    finished = {line["input"]: line["outputs"] for line in manifest()}
    assert after <= len(finished) < 30
    assert {name for outputs in finished.values() for name in outputs} == set(contents()), "nothing without its line"

    again = run(writers=EVERY_WRITER)
    assert again() == ["skipped" if str(path.relative_to(Path.cwd())) in finished else "ok" for path in many]
    assert again.results == [source for source in again.results if source not in finished]
    assert contents() == want
    assert [line["input"] for line in manifest()] == [line["input"] for line in manifest("straight")]
    assert [line["outputs"] for line in manifest()] == [line["outputs"] for line in manifest("straight")]


def test_what_a_killed_run_with_other_labels_wrote_is_not_taken_for_finished(run, photos, monkeypatch):
    writers = ("labelmap", "json")
    run(writers=writers)()
    want = contents()

    def killed(manifest, record):
        raise KeyboardInterrupt  # the picture is written, and the process is gone before a line says so

    other = run(writers=writers, labels=parse_labels("cat,car"))
    with monkeypatch.context() as patch:
        patch.setattr(Manifest, "append", killed)
        with pytest.raises(KeyboardInterrupt):
            other()
    assert contents() != want
    again = run(writers=writers)()
    assert "ok" in again
    assert contents() == want


def test_a_picture_by_itself_is_later_than_what_a_killed_run_left_in_parts(run, photos):
    run()()
    want, lines = contents(), Path("out", NAME).read_bytes().splitlines(keepends=True)
    Path("out", NAME).unlink()
    Path("out/.clippy/run").mkdir(parents=True)
    Path("out/.clippy/run/000000-0000001.jsonl").write_bytes(b"".join(lines))
    by_itself(run(labels=parse_labels("cat,car")), "photos/a.png")
    assert contents() != want
    assert run()() == ["ok", "skipped", "skipped", "skipped", "skipped"]
    assert contents() == want


def test_an_interruption_within_a_picture_leaves_it_unfinished(run, photos, monkeypatch):
    from clippy_core.segmentation.writers import pictures

    write = pictures.write_png

    def interrupt(path, *pixels):
        if path.name == "c.labels.png":
            raise KeyboardInterrupt
        write(path, *pixels)

    batch = run()
    monkeypatch.setattr(pictures, "write_png", interrupt)
    with pytest.raises(KeyboardInterrupt):
        batch()
    monkeypatch.setattr(pictures, "write_png", write)
    finished = {line["input"] for line in manifest()}
    assert "photos/c.png" not in finished
    assert not Path("out/c.labels.png").exists()
    again = run()
    again()
    assert set(again.results) == {f"photos/{name}.png" for name in ("a", "b", "c", "d", "sub/e")} - finished


def test_leftovers_of_a_killed_run_are_cleaned(run, photos):
    run = partial(run, writers=("json", "csv"))
    run()()
    leftovers = [Path("out", folder, f"{TEMPORARY_PREFIX}abc") for folder in ("", "sub", "sub/.clippy/csv")]
    for leftover in leftovers:
        leftover.write_bytes(b"half")
    Path("out/sub/e.json").unlink()
    Path("out/note.txt").write_text("mine")
    run()()
    assert not any(leftover.exists() for leftover in leftovers)
    assert Path("out/note.txt").exists()
    leftovers[0].write_bytes(b"half of a manifest: the run was killed while it closed")
    assert run()() == ["skipped"] * 5
    assert not leftovers[0].exists()


def test_a_manifest_that_ends_in_half_a_line_is_continued(run, photos):
    run()()
    before = contents()
    path = Path("out", NAME)
    path.write_bytes(path.read_bytes()[:-30])
    assert run()() == ["skipped"] * 4 + ["ok"]
    assert [line["status"] for line in manifest()] == ["ok"] * 5
    assert contents() == before


def test_what_a_killed_run_left_in_parts_is_finished(run, photos):
    """Processes of a shared run write into parts of the manifest; whoever leads may be killed before it reads them."""
    run(out=Path("straight"))()
    run()()
    lines = Path("out", NAME).read_bytes().splitlines(keepends=True)
    Path("out", NAME).write_bytes(lines[0])
    Path("out/.clippy/run").mkdir(parents=True)
    Path("out/.clippy/run/000000-0000001.jsonl").write_bytes(lines[1] + lines[2] + lines[3][:40])
    Path("out/.clippy/run/000000-0000002.jsonl").write_bytes(lines[4])
    assert run()() == ["skipped", "skipped", "skipped", "ok", "skipped"]
    assert contents() == contents("straight")
    assert not Path("out/.clippy").exists()


def test_two_runs_never_write_to_one_folder(run, photos, monkeypatch):
    from clippy_core.segmentation.batch import lock

    monkeypatch.setattr(lock, "PATIENCE", 0.0)
    first, second = run(), run()

    def start_another(result):
        with pytest.raises(DataError, match="out: another run is writing to this folder"):
            second()

    records = segment_batch(find_inputs(["photos/a.png"], Path("out")), first.job, alone(first.load, start_another))
    assert [record.status for record in records] == ["ok"]
    assert second("photos/a.png") == ["skipped"]


# --- one picture -------------------------------------------------------------------------------------------------


def test_one_picture_leaves_its_outputs_and_no_manifest(run, photos):
    batch = run()
    (item,) = find_inputs(["photos/a.png"], Path("out"))
    result, files = segment_one(batch.segmenter, item, batch.job)
    assert result.source == "photos/a.png"
    assert sorted(path.name for path in Path("out").iterdir()) == sorted(path.name for path in files)
    assert not Path("out", NAME).exists()


def by_itself(batch, *given):
    """Segment one picture, as the command does when it is the only input."""
    (item,) = find_inputs(given, batch.job.out, batch.job.writers)
    return segment_one(batch.segmenter, item, batch.job)


def test_a_picture_by_itself_in_the_folder_of_a_run_is_not_finished_for_the_run(run, photos):
    run(writers=("masks", "coco", "json"))()
    before = contents()
    by_itself(run(writers=("masks", "coco", "json"), labels=parse_labels("cat,car")), "photos/a.png")
    assert contents() != before
    assert run(writers=("masks", "coco", "json"))() == ["ok", "skipped", "skipped", "skipped", "skipped"]
    assert contents() == before


def test_a_picture_by_itself_that_is_another_input_of_the_same_name_is_not_that_of_the_run(run, photos, picture_file):
    run()()
    before = contents()
    picture_file("other/a.png", 77)
    by_itself(run(), "other/a.png")
    assert contents() != before
    assert run()() == ["ok", "skipped", "skipped", "skipped", "skipped"]
    assert contents() == before


def test_a_picture_by_itself_does_not_meddle_with_a_run_at_work(run, photos, monkeypatch):
    from clippy_core.segmentation.batch import lock

    monkeypatch.setattr(lock, "PATIENCE", 0.0)
    batch = run(writers=("json", "coco"))

    def meanwhile(result):
        with pytest.raises(DataError, match="out: another run is writing to this folder"):
            by_itself(run(writers=("json", "coco")), "photos/b.png")

    segment_batch(find_inputs(["photos/a.png"], Path("out")), batch.job, alone(batch.load, meanwhile))


def test_pictures_by_themselves_share_a_folder(run, photos, monkeypatch):
    from clippy_core.segmentation.batch import lock

    monkeypatch.setattr(lock, "PATIENCE", 0.0)
    batch = run(writers=("json", "coco"))
    by_itself(batch, "photos/a.png")
    foreign = Path("out/.clippy/coco", f"{TEMPORARY_PREFIX}of-another-process")
    foreign.touch()
    with lock.locked(Path("out"), shared=True):
        by_itself(batch, "photos/b.png")
    assert foreign.exists()


# --- names that meet ---------------------------------------------------------------------------------------------


def test_inputs_of_different_names_never_write_one_file(run, picture_file):
    for seed, name in enumerate(["photos/a.png", "photos/a.labelme.png", "photos/coco.png"]):
        picture_file(name, seed)
    writers = ("json", "labelme", "coco")
    assert run(writers=writers)() == ["ok"] * 3
    outputs = [name for line in manifest() for name in line["outputs"]]
    assert len(outputs) == len(set(outputs)) == 9
    assert len(json.loads(Path("out/coco.json").read_bytes())["images"]) == 3
    assert run(writers=writers)() == ["skipped"] * 3


def test_a_name_that_must_keep_its_suffix_from_now_on_is_done_again(run, picture_file):
    picture_file("photos/a.png", 0)
    run()()
    picture_file("photos/a.bmp", 1)
    assert run()() == ["ok", "ok"]
    assert sorted(contents()) == ["a.bmp.json", "a.bmp.labels.png", "a.png.json", "a.png.labels.png"]
    Path("photos/a.bmp").unlink()
    assert run()() == ["ok"]
    assert {"a.json", "a.labels.png"} < set(contents())


def test_other_labels_leave_no_masks_of_the_old_ones(run, photos):
    run(writers=("masks", "labelmap"))()
    other = run(writers=("masks", "labelmap"), labels=parse_labels("cat,car"))
    assert other() == ["ok"] * 5
    assert set(contents()) == {name for line in manifest() for name in line["outputs"]}
    run(out=Path("fresh"), writers=("masks", "labelmap"), labels=parse_labels("cat,car"))()
    assert contents() == contents("fresh")


def test_outputs_are_known_before_they_are_written(run, photos):
    every = run(writers=EVERY_WRITER)
    every()
    for item, record in zip(find_inputs(["photos"], every.job.out), every.records, strict=True):
        masks = [name for name in record.outputs if ".mask." in name]
        assert sorted(planned(item, every.job) + masks) == sorted(record.outputs)
        assert masks
