"""Files that cover a run: which fragments go in, the table, and writers of other people."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest

from clippy_core.errors import DataError
from clippy_core.segmentation.writers import WRITERS, CollectingWriter, collected, fragment_path, stem_of_fragment
from clippy_core.segmentation.writers.collected import collect

LABELS = ["dog", 'a "quoted", name', "żółw\nline", "nowhere"]


def record(out, files, source="x", status="ok"):
    outputs = [str(file.relative_to(out)) for file in files]
    return SimpleNamespace(input=source, status=status, outputs=outputs, error=None)


@pytest.fixture
def run(segmentation, tmp_path):
    """``run(*stems, writers)`` → records of small pictures that were written."""

    def go(*stems, writers=("csv",)):
        records = []
        for number, stem in enumerate(stems):
            label_map = np.random.default_rng(number).integers(0, 3, (6, 7)).astype(np.uint8)
            result = segmentation(label_map, LABELS, source=f"photos/{stem}.jpg")
            records.append(record(tmp_path, result.save(tmp_path / stem, writers), result.source))
        return records

    return go


def rows(folder):
    with open(folder / "summary.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_says_what_the_json_says(run, tmp_path):
    records = run("a/c", "b", writers=["json", "csv"])
    assert collect(tmp_path, ["json", "csv"], records) == [tmp_path / "summary.csv"]
    found = rows(tmp_path)
    expected = []
    for stem in ("b", "a/c"):  # a folder's own pictures come before those of folders in it
        document = json.loads((tmp_path / f"{stem}.json").read_text(encoding="utf-8"))
        for label in document["labels"]:
            x, y, width, height = label["bbox"]
            place = {"x": x, "y": y, "width": width, "height": height}
            expected.append({"image": document["image"], "label": label["name"], **label, **place})
    assert len(found) == len(expected) == 8
    for row, label in zip(found, expected, strict=True):
        assert row["image"] == label["image"]
        assert row["label"] == label["label"]
        for name in ("index", "pixels", "fraction", "score", "x", "y", "width", "height"):
            assert float(row[name]) == label[name], name


def test_the_table_of_no_picture_is_its_heading(tmp_path):
    collect(tmp_path, ["csv"], [])
    assert (tmp_path / "summary.csv").read_text() == "image,index,label,pixels,fraction,score,x,y,width,height\n"


def test_an_interrupted_run_ends_with_the_same_table(run, tmp_path):
    records = run("a", "b", "c")
    collect(tmp_path, ["csv"], records)
    before = (tmp_path / "summary.csv").read_bytes()
    (tmp_path / "summary.csv").unlink()
    collect(tmp_path, ["csv"], [*records[1:], records[0]])
    assert (tmp_path / "summary.csv").read_bytes() == before


def test_fragments_of_pictures_that_are_not_of_the_run_stay_out(run, tmp_path):
    records = run("old", "new")
    collect(tmp_path, ["csv"], records[1:])
    assert {row["image"] for row in rows(tmp_path)} == {"photos/new.jpg"}


def test_a_missing_fragment_is_one_line(run, tmp_path):
    records = run("a")
    (tmp_path / ".clippy/csv/a.csv").unlink()
    with pytest.raises(DataError, match=r"a\.csv: cannot be read \(No such file or directory\); --overwrite"):
        collect(tmp_path, ["csv"], records)


def test_writers_without_a_file_for_the_run_write_none(run, tmp_path):
    before = run("a", writers=["json", "labelmap"])
    assert collect(tmp_path, ["json", "labelmap"], before) == []


def test_a_writer_of_somebody_else_collects_its_own_fragments(segmentation, tmp_path, monkeypatch):
    def write(result, stem):
        path = fragment_path(stem, "count", ".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(result.label_map.size))
        return [path]

    def merge(out, fragments):
        assert len(fragments) == 2
        assert [fragment.name for fragment in fragments[0:]] == ["b.txt", "c.txt"]
        assert fragments[1] == out / "a/.clippy/count/c.txt"
        assert list(fragments) == list(fragments)
        (out / "count.txt").write_text(str(sum(int(fragment.read_text()) for fragment in fragments)))
        return [out / "count.txt"]

    def plain(result, stem):
        return write(result, stem)

    plain.collect = merge
    theirs = {"as a function": plain, "as a class": CollectingWriter(write, merge)}
    for writer in theirs.values():
        monkeypatch.setattr(collected, "WRITERS", SimpleNamespace(load={"count": writer}.__getitem__))
        records = [record(tmp_path, writer(segmentation([[0, 0]]), tmp_path / stem)) for stem in ("b", "a/c")]
        # The fragments of another writer are none of theirs.
        records[0].outputs.append(".clippy/coco/b.jsonl")
        assert collect(tmp_path, ["count"], records) == [tmp_path / "count.txt"]
        assert (tmp_path / "count.txt").read_text() == "4"


@pytest.mark.parametrize("stem", ["photo", "a/v1.0", "a/b/img.jpg", ".x"])
def test_a_fragment_knows_its_picture(tmp_path, stem):
    fragment = fragment_path(tmp_path / stem, "coco", ".jsonl")
    assert fragment.parent == (tmp_path / stem).parent / ".clippy" / "coco"
    assert stem_of_fragment(fragment) == tmp_path / stem


def test_every_writer_is_there(segmentation):
    for name in WRITERS.names():
        assert callable(WRITERS.load(name)), name
