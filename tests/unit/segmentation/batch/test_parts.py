"""Parts of a manifest: followed while they grow, taken over when nobody else does it."""

import pytest

from clippy_core.segmentation.batch.manifest import BEGUN, FAILED, OK, Manifest, Record, to_line
from clippy_core.segmentation.batch.parts import (
    FOLDER,
    Part,
    PartReader,
    is_stopped,
    part_path,
    stop,
    take_over,
    tidy,
)


def record(name, status=OK):
    return Record(name, status, run="r")


def test_a_reader_hears_of_every_record_once(tmp_path):
    reader, part = PartReader(tmp_path), Part(tmp_path, "one")
    assert list(reader.news("one")) == []
    part.append(record("a"))
    part.append(record("b"))
    assert [found.input for found in reader.news("one")] == ["a", "b"]
    assert list(reader.news("one")) == []
    part.append(record("c", FAILED))
    assert [(found.input, found.status) for found in reader.news("one")] == [("c", FAILED)]
    part.close()


@pytest.mark.parametrize("cut", [1, 20, -1])
def test_half_a_line_waits_for_its_other_half(tmp_path, cut):
    reader, path = PartReader(tmp_path), part_path(tmp_path, "one")
    path.parent.mkdir(parents=True)
    whole = to_line(record("a")) + to_line(record("b"))
    half = len(to_line(record("a"))) + cut % len(to_line(record("b")))
    path.write_bytes(whole[:half])
    heard = [found.input for found in reader.news("one")]
    path.write_bytes(whole + to_line(record("c")))
    heard += [found.input for found in reader.news("one")]
    assert heard == ["a", "b", "c"]


def test_what_was_begun_is_neither_done_nor_any_longer_finished(tmp_path):
    Manifest(tmp_path, "r").append(record("a"))
    part = Part(tmp_path, "one")
    part.append(record("a", BEGUN))
    part.close()
    again = Part(tmp_path, "one")
    again.close()
    assert again.done == set()
    manifest = Manifest(tmp_path, "r")
    take_over(manifest)
    assert manifest.finished("a") is None
    assert Manifest(tmp_path, "r").finished("a") is None


def test_what_a_killed_run_left_is_not_of_the_next(tmp_path):
    part = Part(tmp_path, "one")
    part.append(record("a"))
    part.close()
    manifest = Manifest(tmp_path, "other")
    take_over(manifest)
    assert len(manifest.rewrite(["a"])) == 0


def test_whoever_takes_over_knows_what_is_done(tmp_path):
    first = Part(tmp_path, "one")
    first.append(record("a"))
    first.append(record("b", FAILED))
    first.close()
    with open(part_path(tmp_path, "one"), "ab") as file:
        file.write(to_line(record("c"))[:30])  # it was killed
    second = Part(tmp_path, "one")
    assert second.done == {"a", "b"}
    second.append(record("c"))
    second.close()
    assert [found.input for found in PartReader(tmp_path).news("one")] == ["a", "b", "c"]


def test_what_is_left_goes_into_the_manifest(tmp_path):
    for name, inputs in (("one", "ab"), ("two", "c")):
        part = Part(tmp_path, name)
        for source in inputs:
            part.append(record(source))
        part.close()
    manifest = Manifest(tmp_path, "r")
    take_over(manifest)
    assert all(manifest.finished(source) is not None for source in "abc")
    assert not (tmp_path / ".clippy").exists()


def test_only_empty_folders_are_removed(tmp_path):
    (tmp_path / FOLDER).mkdir(parents=True)
    (tmp_path / ".clippy/coco").mkdir()
    tidy(tmp_path)
    assert not (tmp_path / FOLDER).exists()
    assert (tmp_path / ".clippy/coco").exists()
    tidy(tmp_path / "nothing here")


def test_the_names_of_parts_that_are_there(tmp_path):
    for name in ("ray-2", "ray-1", "rank-0"):
        Part(tmp_path, name).close()
    reader = PartReader(tmp_path)
    assert reader.names("ray-") == ["ray-1", "ray-2"]
    reader.forget("ray-1")
    assert reader.names("ray-") == ["ray-2"]


def test_the_word_to_stop_of_a_killed_run_is_none_to_the_next(tmp_path):
    assert not is_stopped(tmp_path)
    stop(tmp_path)
    assert is_stopped(tmp_path)
    take_over(Manifest(tmp_path, "r"))
    assert not is_stopped(tmp_path)
    assert list(tmp_path.iterdir()) == []
