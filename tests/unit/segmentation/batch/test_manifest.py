"""What a run remembers: lines that survive a kill, odd names and a later run that writes over them."""

import json
import os
from dataclasses import replace

import pytest

from clippy_core.segmentation.batch.manifest import FAILED, NAME, OK, SKIPPED, Manifest, Record, digest


def lines(out):
    return [json.loads(line) for line in (out / NAME).read_text(encoding="utf-8").split("\n") if line]


def done(out, source, *outputs, run="r1"):
    """A record of a finished input whose outputs are there."""
    for name in outputs:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(b"")
    return Record(source, OK, list(outputs), run=run)


def test_a_line_has_the_fields_of_the_contract(tmp_path):
    manifest = Manifest(tmp_path / "out", "r1")
    manifest.append(done(tmp_path / "out", "p/a.jpg", "a.json"))
    manifest.append(Record("p/b.jpg", FAILED, error="p/b.jpg: the file is empty", run="r1"))
    first, second = lines(tmp_path / "out")
    assert (first["input"], first["status"], first["outputs"], first["error"]) == ("p/a.jpg", "ok", ["a.json"], None)
    assert (second["status"], second["outputs"], second["error"]) == ("failed", [], "p/b.jpg: the file is empty")


def test_a_finished_input_is_known_to_the_next_run(tmp_path):
    record = done(tmp_path, "a.jpg", "a.json", "a.labels.png")
    Manifest(tmp_path, "r1").append(record)
    assert Manifest(tmp_path, "r1").finished("a.jpg") == record


@pytest.mark.parametrize(
    "case",
    ["nothing known", "another input", "failed", "other settings", "an output was deleted", "an output is a folder"],
)
def test_an_input_is_not_finished(tmp_path, case):
    record = done(tmp_path, "a.jpg", "a.json", "a.labels.png")
    if case == "failed":
        record = Record("a.jpg", FAILED, error="no", run="r1")
    if case != "nothing known":
        Manifest(tmp_path, "r1").append(record)
    if case.startswith("an output"):
        (tmp_path / "a.json").unlink()
    if case == "an output is a folder":
        (tmp_path / "a.json").mkdir()
    manifest = Manifest(tmp_path, "r2" if case == "other settings" else "r1")
    assert manifest.finished("b.jpg" if case == "another input" else "a.jpg") is None


def test_a_later_line_replaces_an_earlier_one(tmp_path):
    manifest = Manifest(tmp_path, "r1")
    manifest.append(Record("a.jpg", FAILED, error="no", run="r1"))
    manifest.append(done(tmp_path, "a.jpg", "a.json"))
    assert Manifest(tmp_path, "r1").finished("a.jpg") is not None
    manifest.append(Record("a.jpg", FAILED, error="gone", run="r1"))
    assert Manifest(tmp_path, "r1").finished("a.jpg") is None


def test_an_input_whose_outputs_were_written_over_is_not_finished(tmp_path):
    Manifest(tmp_path, "r1").append(done(tmp_path, "first/img.jpg", "img.json", "img.labels.png"))
    manifest = Manifest(tmp_path, "r1")
    manifest.append(done(tmp_path, "second/img.jpg", "img.json"))
    for again in (manifest, Manifest(tmp_path, "r1")):
        assert again.finished("first/img.jpg") is None
        assert again.finished("second/img.jpg") is not None
    manifest.rewrite(["first/img.jpg"])
    (first, _) = lines(tmp_path)
    assert (first["status"], first["outputs"], first["left"]) == (FAILED, [], {"img.labels.png": "labels.png"})
    assert first["error"].startswith("first/img.jpg: its output img.json was written over by second/img.jpg; ")
    assert Manifest(tmp_path, "r1").finished("first/img.jpg") is None


@pytest.mark.parametrize("first", ["done in this run", "done before"])
def test_of_two_inputs_of_a_run_that_write_one_file_none_is_finished(tmp_path, first):
    manifest = Manifest(tmp_path, "r1")
    manifest.append(done(tmp_path, "a.jpg", "a.json", "both.txt"))
    if first == "done before":
        manifest = Manifest(tmp_path, "r1")
        assert manifest.finished("a.jpg") is not None
    written = manifest.append(done(tmp_path, "b.jpg", "b.json", "both.txt"))
    assert (written.status, written.outputs) == (FAILED, [])
    assert [(record.input, record.status, record.error) for record in manifest.rewrite(["a.jpg", "b.jpg"])] == [
        (
            source,
            FAILED,
            f"{source}: its output both.txt is also one of {other}; rename one of the two, or leave out the writer",
        )
        for source, other in (("a.jpg", "b.jpg"), ("b.jpg", "a.jpg"))
    ]
    again = Manifest(tmp_path, "r1")
    assert again.finished("a.jpg") is None
    assert again.finished("b.jpg") is None


def test_an_input_whose_outputs_go_elsewhere_now_is_not_finished(tmp_path):
    record = replace(done(tmp_path, "a.jpg", "a.json"), stem="a")
    Manifest(tmp_path, "r1").append(record)
    assert Manifest(tmp_path, "r1").finished("a.jpg", "a") == record
    assert Manifest(tmp_path, "r1").finished("a.jpg", "a.jpg") is None


# --- files of earlier runs ---------------------------------------------------------------------------------------


def finish(out, *records):
    """What a run leaves that did these inputs and no other."""
    manifest = Manifest(out, records[0].run)
    for record in records:
        manifest.append(record)
    return manifest.rewrite([record.input for record in records])


def redone(out, before, after, *, status=OK):
    """What is there once an input that had written ``before`` has written ``after``, and the last record."""
    Manifest(out, "r1").append(replace(done(out, "p/a.b.jpg", *before), stem="a.b"))
    record = replace(done(out, "p/a.b.jpg", *after, run="r2"), stem="a.b", status=status)
    (record,) = finish(out, record)
    return {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()} - {NAME}, record


@pytest.mark.parametrize(
    ("before", "after", "left"),
    [
        pytest.param(["a.b.mask.000-dog.png", "a.b.json"], ["a.b.mask.000-cat.png", "a.b.json"], [], id="a mask"),
        pytest.param(["a.b.json", "a.b.labels.png"], ["a.b.json"], ["a.b.labels.png"], id="a kind that is not written"),
        pytest.param(["a.b.scores.npz"], ["a.b.scores.png"], ["a.b.scores.npz"], id="two kinds of one name"),
        pytest.param(["a.b.labelme.json"], ["a.b.json"], ["a.b.labelme.json"], id="corrected by hand, perhaps"),
        pytest.param(
            ["a.b/frame-000000.labels.png", "a.b/frame-000001.labels.png", "a.b.overlay.mp4"],
            ["a.b/frame-000000.labels.png"],
            ["a.b.overlay.mp4"],
            id="a frame",
        ),
        pytest.param([".clippy/csv/a.b.csv"], [".clippy/coco/a.b.jsonl"], [".clippy/csv/a.b.csv"], id="a fragment"),
        pytest.param(["plugin-output"], ["a.b.json"], ["plugin-output"], id="a name of another package"),
    ],
)
def test_what_an_earlier_run_wrote_goes_if_its_kind_is_written_anew(tmp_path, before, after, left):
    files, record = redone(tmp_path, before, after)
    assert files == {*after, *left}
    assert list(record.left) == left


def test_what_an_earlier_run_wrote_under_another_stem_goes(tmp_path):
    Manifest(tmp_path, "r1").append(replace(done(tmp_path, "p/a.jpg", "a.json"), stem="a"))
    (record,) = finish(tmp_path, replace(done(tmp_path, "p/a.jpg", "a.jpg.json"), stem="a.jpg"))
    assert not (tmp_path / "a.json").exists()
    assert record.left == {}


def test_what_kind_a_file_is_does_not_depend_on_where_later_ones_go(tmp_path):
    """An overlay of ``x.mask.jpg`` is no mask, whatever its outputs are called by now."""
    source, files = "p/x.mask.jpg", ["x.mask.overlay.png", "x.mask.json"]
    Manifest(tmp_path, "r1").append(replace(done(tmp_path, source, *files), stem="x.mask"))
    for number, name in enumerate(["x.mask.jpg.labels.png", "x.mask.jpg.mask.000-dog.png", "x.mask.jpg.json"]):
        record = replace(done(tmp_path, source, name, run=f"r{number + 2}"), stem="x.mask.jpg")
        (record,) = finish(tmp_path, record)
        assert (tmp_path / "x.mask.overlay.png").exists()
    assert "x.mask.overlay.png" in record.left
    assert not (tmp_path / "x.mask.json").exists()


def test_what_is_left_is_remembered_until_its_kind_is_written_anew(tmp_path):
    redone(tmp_path, ["a.b.mask.000-dog.png"], ["a.b.json"])
    last = replace(done(tmp_path, "p/a.b.jpg", "a.b.mask.000-cat.png", run="r3"), stem="a.b")
    (record,) = finish(tmp_path, last)
    assert (record.left, record.stale) == ({"a.b.json": "json"}, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.b.json", "a.b.mask.000-cat.png", NAME]


def test_a_failure_removes_nothing(tmp_path):
    files, record = redone(tmp_path, ["a.b.json", "a.b.mask.000-dog.png"], [], status=FAILED)
    assert files == set(record.left) == {"a.b.json", "a.b.mask.000-dog.png"}


def test_a_file_that_is_another_inputs_by_now_stays(tmp_path):
    Manifest(tmp_path, "r1").append(replace(done(tmp_path, "first/a.jpg", "a.mask.0.png"), stem="a"))
    Manifest(tmp_path, "r1").append(replace(done(tmp_path, "second/a.jpg", "a.mask.0.png"), stem="a"))
    finish(tmp_path, replace(done(tmp_path, "first/a.jpg", "a.jpg.mask.1.png"), stem="a.jpg"))
    assert (tmp_path / "a.mask.0.png").exists()


@pytest.mark.parametrize("order", [1, -1])
def test_a_file_that_becomes_another_inputs_in_the_same_run_stays(tmp_path, order):
    Manifest(tmp_path, "r1").append(replace(done(tmp_path, "p/sub/a.jpg", "a.json"), stem="a"))
    records = [
        replace(done(tmp_path, "p/a.jpg", "a.json", run="r2"), stem="a"),
        replace(done(tmp_path, "p/sub/a.jpg", "sub/a.json", run="r2"), stem="sub/a"),
    ]
    assert [record.status for record in finish(tmp_path, *records[::order])] == [OK, OK]
    assert (tmp_path / "a.json").exists()


def test_a_run_that_was_killed_before_its_end_leaves_stale_files_to_the_next(tmp_path):
    Manifest(tmp_path, "r1").append(replace(done(tmp_path, "a.jpg", "a.mask.0-dog.png"), stem="a"))
    Manifest(tmp_path, "r2").append(replace(done(tmp_path, "a.jpg", "a.mask.0-cat.png", run="r2"), stem="a"))
    assert (tmp_path / "a.mask.0-dog.png").exists()
    manifest = Manifest(tmp_path, "r2")
    assert manifest.finished("a.jpg", "a") is not None
    manifest.rewrite(["a.jpg"], ["a.jpg"])
    assert not (tmp_path / "a.mask.0-dog.png").exists()
    assert lines(tmp_path)[0]["stale"] == {}


@pytest.mark.parametrize("name", ["../precious.json", "sub/../../precious.json"])
def test_nothing_outside_the_output_folder_is_removed(tmp_path, name):
    out = tmp_path / "out"
    (out / "sub").mkdir(parents=True)
    (tmp_path / "precious.json").write_bytes(b"")
    Manifest(out, "r1").append(Record("a.jpg", OK, [name, str(tmp_path / "precious.json")], run="r1", stem="a"))
    finish(out, replace(done(out, "a.jpg", "a.json", run="r2"), stem="a"))
    assert (tmp_path / "precious.json").exists()


def test_rewriting_puts_the_inputs_in_their_order_and_keeps_earlier_ones(tmp_path):
    manifest = Manifest(tmp_path, "r1")
    for name in "cxab":
        manifest.append(done(tmp_path, f"{name}.jpg", f"{name}.json"))
    manifest.append(done(tmp_path, "b.jpg", "b.json"))
    manifest.rewrite(["a.jpg", "b.jpg", "never done.jpg", "c.jpg"])
    assert [line["input"] for line in lines(tmp_path)] == ["a.jpg", "b.jpg", "c.jpg", "x.jpg"]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("cut", [1, 10, 40, 80])
def test_half_a_last_line_of_a_killed_run_is_tolerated(tmp_path, cut):
    manifest = Manifest(tmp_path, "r1")
    manifest.append(done(tmp_path, "a.jpg", "a.json"))
    whole = (tmp_path / NAME).read_bytes()
    manifest.append(done(tmp_path, "b.jpg", "b.json"))
    (tmp_path / NAME).write_bytes((tmp_path / NAME).read_bytes()[: len(whole) + cut])

    again = Manifest(tmp_path, "r1")
    assert again.finished("a.jpg") is not None
    assert again.finished("b.jpg") is None
    again.append(done(tmp_path, "c.jpg", "c.json"))
    last = Manifest(tmp_path, "r1")
    assert [last.finished(name) is not None for name in ("a.jpg", "b.jpg", "c.jpg")] == [True, False, True]


def test_a_line_that_is_whole_but_for_its_line_break_counts(tmp_path):
    Manifest(tmp_path, "r1").append(done(tmp_path, "a.jpg", "a.json"))
    (tmp_path / NAME).write_bytes((tmp_path / NAME).read_bytes().rstrip(b"\n"))
    again = Manifest(tmp_path, "r1")
    assert again.finished("a.jpg") is not None
    again.append(done(tmp_path, "b.jpg", "b.json"))
    assert [line["input"] for line in lines(tmp_path)] == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"not JSON",
        b"[]",
        b"null",
        b"7",
        b"{}",
        b'{"input": "a.jpg"}',
        b'{"input": 7, "status": "ok"}',
        b'{"input": ["a.jpg"], "status": "ok"}',
        b'{"input": "a.jpg", "status": "ok", "outputs": null}',
        b'{"input": "a.jpg", "status": "ok", "outputs": [7]}',
        b'{"input": "a.jpg", "status": "ok", "stem": null}',
        b'{"input": "a.jpg", "status": "ok", "left": [null]}',
        b'{"input": "a.jpg", "status": "ok", "stale": null}',
        b'{"input": "a.jpg", "status": "ok", "colour": "blue"}',
        b'{"input": "\xff.jpg", "status": "ok"}',
        b"\0\0\0\0",
    ],
)
def test_a_line_that_is_no_record_is_passed_over(tmp_path, line):
    Manifest(tmp_path, "r1").append(done(tmp_path, "b.jpg", "b.json"))
    (tmp_path / NAME).write_bytes(line + b"\n" + (tmp_path / NAME).read_bytes())
    manifest = Manifest(tmp_path, "r1")
    assert manifest.finished("a.jpg") is None
    assert manifest.finished("b.jpg") is not None


@pytest.mark.parametrize(
    "name",
    [
        "two\nlines.jpg",
        "carriage\rreturn.jpg",
        "next\x85line.jpg",
        "line\u2028separator.jpg",
        "quote\"s'.jpg",
        "żółw 🐢.jpg",
        os.fsdecode(b"caf\xe9.jpg"),
    ],
)
def test_odd_names_are_one_line_of_json_and_known_again(tmp_path, name):
    manifest = Manifest(tmp_path, "r1")
    manifest.append(done(tmp_path, name, f"{name}.json"))
    manifest.rewrite([name])
    assert (tmp_path / NAME).read_bytes().count(b"\n") == 1
    assert lines(tmp_path)[0]["input"] == name
    assert Manifest(tmp_path, "r1").finished(name) is not None


def test_a_skipped_record_is_as_finished_as_the_one_it_repeats(tmp_path):
    record = done(tmp_path, "a.jpg", "a.json")
    Manifest(tmp_path, "r1").append(Record(record.input, SKIPPED, record.outputs, run="r1"))
    assert Manifest(tmp_path, "r1").finished("a.jpg") is not None


def test_the_digest_depends_on_content_not_on_order():
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert len({digest(settings) for settings in ({"a": 1}, {"a": 2}, {"a": "1"}, {"b": 1}, {})}) == 5


def test_records_are_those_of_the_run_and_read_when_they_are_asked_for(tmp_path):
    earlier = Manifest(tmp_path, "r1")
    for name in "ab":
        earlier.append(done(tmp_path, f"{name}.jpg", f"{name}.json"))
    earlier.append(done(tmp_path, "other.jpg", "other.json"))
    manifest = Manifest(tmp_path, "r1")
    manifest.append(done(tmp_path, "c.jpg", "c.json"))
    records = manifest.rewrite(["c.jpg", "not reached.jpg", "a.jpg", "b.jpg"], ["a.jpg"])
    assert [(record.input, record.status) for record in records] == [("c.jpg", OK), ("a.jpg", SKIPPED)]
    assert len(records) == 2
    assert records[-1].input == records[1].input == "a.jpg"
    assert [record.input for record in records[1:]] == ["a.jpg"]
    with pytest.raises(IndexError):
        records[2]
    assert [line["input"] for line in lines(tmp_path)] == ["c.jpg", "a.jpg", "b.jpg", "other.jpg"]


def test_lines_reach_the_system_at_once_and_the_disk_together(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    manifest = Manifest(tmp_path, "r1")
    for number in range(300):
        manifest.append(Record(f"{number}.jpg", FAILED, error="no", run="r1"))
        assert len((tmp_path / NAME).read_bytes().splitlines()) == number + 1
    assert 1 <= len(synced) < 10
    before = len(synced)
    manifest.commit()
    manifest.commit()
    assert len(synced) == before + 1


def test_whose_outputs_are_about_to_be_written_over_is_unfinished(tmp_path):
    (tmp_path / "a.json").touch()
    (tmp_path / "b.json").touch()
    before = Manifest(tmp_path, "r")
    before.append(Record("a.jpg", OK, ["a.json"], run="r"))
    before.append(Record("b.jpg", OK, ["b.json"], run="r"))
    Manifest(tmp_path, "s").withdraw("sub/a.jpg", ["a.json", "a.labels.png"])
    after = Manifest(tmp_path, "r")
    assert after.finished("a.jpg") is None
    assert after.finished("b.jpg") is not None
    (line,) = [line for line in lines(tmp_path) if line["status"] == FAILED]
    assert line["error"].startswith("a.jpg: its output a.json was written over by sub/a.jpg; a run over it makes it")


def test_who_moves_out_of_the_way_may_be_finished_before_its_place_is_taken(tmp_path):
    """Whatever order the threads of a run come in, both are finished and own what they have written."""
    Manifest(tmp_path, "r").append(done(tmp_path, "a.jpg", "a.json"))
    manifest = Manifest(tmp_path, "s")
    manifest.withdraw("sub/a.jpg", ["a.json"])
    for source, name in (("a.jpg", "a-2.json"), ("sub/a.jpg", "a.json")):
        (tmp_path / name).touch()
        assert manifest.append(Record(source, OK, [name], run="s")).status == OK
    manifest.rewrite(["a.jpg", "sub/a.jpg"])
    assert [line["status"] for line in lines(tmp_path)] == [OK, OK]
    assert (tmp_path / "a.json").exists()


def test_of_the_run_itself_nobody_is_withdrawn_for_another(tmp_path):
    manifest = Manifest(tmp_path, "r")
    manifest.append(Record("a.jpg", OK, ["a.json"], run="r"))
    manifest.withdraw("b.jpg", ["a.json"])
    assert [line["status"] for line in lines(tmp_path)] == [OK], "that they meet is told when both are there"
