"""What a run remembers: lines that survive a kill, odd names and a later run that writes over them."""

import json
import os

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
    manifest = Manifest(tmp_path, "r1")
    manifest.append(done(tmp_path, "first/img.jpg", "img.json", "img.labels.png"))
    manifest.append(done(tmp_path, "second/img.jpg", "img.json"))
    for again in (manifest, Manifest(tmp_path, "r1")):
        assert again.finished("first/img.jpg") is None
        assert again.finished("second/img.jpg") is not None
    manifest.rewrite(["first/img.jpg"])
    assert Manifest(tmp_path, "r1").finished("first/img.jpg") is None


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
