"""What the user names is found, numbered, and mixed."""

import csv
import json
import os
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clippy_core.errors import ClippyError, ConfigError, DataError, UsageError
from clippy_core.training.config import DataConfig
from clippy_core.training.data.shard_lists import Shard, read_shard_list, write_index
from clippy_core.training.data.shards import ShardSource
from clippy_core.training.data.sources import Joined, Limited, open_source


def opened(*sources, **more):
    return open_source(DataConfig(sources=tuple(map(str, sources)), **more))


def captions(source, epoch=0):
    return sorted(source.read(int(number)).caption for number in source.order(epoch, 0))


def expected(shards, each=5):
    return sorted(f"picture {shard} {number}" for shard in shards for number in range(each))


@pytest.fixture
def shards(tmp_path, write_shard):
    for shard in range(4):
        write_shard(
            tmp_path / f"s/{shard:05d}.tar", [(f"{shard:05d}{n:04d}", f"picture {shard} {n}") for n in range(5)]
        )
    return tmp_path / "s"


@pytest.mark.parametrize(
    ("entries", "found"),
    [
        (["s/00000.tar"], [0]),
        (["s/{00001..00003}.tar"], [1, 2, 3]),
        (["s/*.tar"], [0, 1, 2, 3]),
        (["s/0000{0,2}.tar", "s/00003.tar"], [0, 2, 3]),
        (["s/00000.tar::s/00001.tar"], [0, 1]),
        (["s"], [0, 1, 2, 3]),
        (["s/index.json"], [1, 0]),
        (["s/list.json"], [3]),
    ],
)
def test_shards_are_named_in_many_ways(shards, entries, found, monkeypatch):
    monkeypatch.chdir(shards.parent)
    (shards / "index.json").write_text('{"shardlist": [{"url": "00001.tar", "nsamples": 5}, {"url": "00000.tar"}]}')
    (shards / "list.json").write_text(f'["{shards}/00003.tar"]')
    source = opened(*entries)
    assert source.counts() == {"samples": 5 * len(found), "shards": len(found), "bad shards": 0, "partial": 0}
    assert captions(source) == expected(found)
    assert source.problems() == []


def test_a_variable_of_webdataset_stands_for_a_folder(shards, monkeypatch):
    monkeypatch.setenv("WDS_WHERE", str(shards))
    assert len(opened("${WHERE}/{00000..00001}.tar")) == 10
    with pytest.raises(UsageError, match="cannot be expanded"):
        opened("${ELSEWHERE}/a.tar")


@pytest.mark.parametrize(
    ("entry", "error", "message"),
    [
        ("missing.tar", DataError, "does not exist"),
        ("missing/*.tar", DataError, "no file matches"),
        ("missing/{0..3}.tar", DataError, "none of 4 shards can be used"),
        ("archive.tar.gz", UsageError, "pipe:gzip -dc"),
        ("notes.md", UsageError, "not a kind of training data; accepted: webdataset shards"),
        ("empty", DataError, "pairs such as a.jpg and a.txt"),
        ("list.json", DataError, "a shard list"),
        ("broken.json", DataError, "not JSON"),
        ("nowhere.json", DataError, 'every shard needs a "url"'),
        ("many.json", DataError, "nsamples is -1"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(tmp_path, monkeypatch, entry, error, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for name in ("archive.tar.gz", "notes.md"):
        (tmp_path / name).write_text("x")
    (tmp_path / "list.json").write_text('{"images": [], "info": 1}')
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "nowhere.json").write_text('{"shardlist": [{"nsamples": 3}]}')
    (tmp_path / "many.json").write_text('{"shardlist": [{"url": "a.tar", "nsamples": -1}]}')
    with pytest.raises(error, match=message) as caught:
        opened(entry)
    assert "\n" not in str(caught.value)


def test_a_list_from_elsewhere_names_no_files_or_commands_of_this_machine(monkeypatch):
    from clippy_core.training.data import shard_lists

    for url in ("pipe:touch /tmp/x", "file:///etc/passwd"):
        monkeypatch.setattr(shard_lists, "_read_json", lambda _, url=url: [{"url": url}])
        with pytest.raises(DataError, match="may not name"):
            read_shard_list("https://example.org/list.json")
    monkeypatch.setattr(shard_lists, "_read_json", lambda _: [{"url": "a.tar", "nsamples": 2}])
    assert read_shard_list("https://example.org/d/list.json") == [Shard("https://example.org/d/a.tar", 2)]


@pytest.mark.parametrize(
    ("beside", "document"),
    [("sizes.json", {"00000.tar": 5, "00001.tar": 6}), ("00001_stats.json", {"successes": 6, "count": 9})],
)
def test_numbers_that_lie_beside_shards_are_checked(shards, beside, document):
    (shards / beside).write_text(json.dumps(document))
    source = opened(shards / "{00000..00001}.tar")
    assert source.problems() == [f"{shards}/00001.tar: 5 samples, but 6 are stated"]
    assert len(source) == 10
    with pytest.raises(DataError, match="6 are stated"):
        opened(shards / "{00000..00001}.tar", strict=True)


def test_an_index_that_we_write_is_one_that_we_read(shards):
    path = write_index([str(shards / f"0000{n}.tar") for n in range(4)], shards)
    document = json.loads(path.read_text())
    assert document["shardlist"][1] == {
        "url": "00001.tar",
        "nsamples": 5,
        "filesize": (shards / "00001.tar").stat().st_size,
    }
    source = opened(path)
    assert source.problems() == []
    assert captions(source) == expected(range(4))
    shutil.copy(shards / "00000.tar", shards / "00001.tar")
    with open(shards / "00001.tar", "ab") as file:
        file.write(bytes(512))
    assert "bytes, but" in opened(path).problems()[0]


def test_the_order_is_a_permutation_decided_by_seed_and_epoch(shards):
    source = opened(shards, shuffle_shards=2)
    orders = [source.order(epoch, seed) for epoch in range(3) for seed in range(3)]
    for order in orders:
        assert order.dtype == np.int64
        assert sorted(order) == list(range(20))
    assert len({tuple(order) for order in orders}) == 9
    assert np.array_equal(opened(shards, shuffle_shards=2).order(2, 1), source.order(2, 1))


def test_only_neighbours_in_the_order_of_shards_are_mixed(shards):
    order = opened(shards, shuffle_shards=1).order(0, 0) // 5
    assert (np.diff(order) != 0).sum() == 3
    pairs = opened(shards, shuffle_shards=2).order(0, 0) // 5
    assert len(set(pairs[:10])) == len(set(pairs[10:])) == 2
    assert (np.diff(pairs) != 0).sum() > 3


@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=12), mixed=st.integers(1, 5), epoch=st.integers(0, 9))
@settings(max_examples=50)
def test_every_number_comes_once(lengths, mixed, epoch):
    source = ShardSource.__new__(ShardSource)
    source._shards, source._mixed = [Shard(str(n)) for n in range(len(lengths))], mixed
    source._starts = np.cumsum([0, *lengths])
    assert sorted(source.order(epoch, 3)) == list(range(sum(lengths)))


def test_tables_are_read_with_all_that_csv_allows(tmp_path, draw):
    draw(tmp_path / "pictures/a,b.png")
    rows = [('a dog, "on" grass', "a,b.png"), ("two\nlines", "a,b.png"), ("no path", ""), ("gone", "gone.png")]
    with open(tmp_path / "pictures/t.csv", "w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows([("title", "path", "more"), *((*row, "x") for row in rows)])
    source = opened(tmp_path / "pictures/t.csv", image_column="path", caption_column="title")
    assert source.counts() == {"samples": 3, "partial": 1}
    assert source.problems() == [f"{tmp_path}/pictures/t.csv: 1 rows lack a path or a caption"]
    assert [source.read(number).caption for number in (1, 0)] == ["two lines", 'a dog, "on" grass']
    assert source.read(0).key == f"{tmp_path}/pictures/t.csv:2"
    assert source.read(1).image == (tmp_path / "pictures/a,b.png").read_bytes()
    with pytest.raises(DataError, match=r"t\.csv:6: .*gone\.png: cannot be read"):
        source.read(2)
    assert sorted(source.order(1, 0)) == [0, 1, 2]


@pytest.mark.parametrize(("name", "separator"), [("t.tsv", "\t"), ("t.csv", "\t"), ("t.csv", ";"), ("t.csv", ",")])
def test_columns_are_separated_by_what_fits(tmp_path, draw, name, separator):
    draw(tmp_path / "a.png")
    (tmp_path / name).write_text(f"caption{separator}filepath\r\na dog{separator}{tmp_path}/a.png\r\n")
    assert opened(tmp_path / name).read(0).caption == "a dog"


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("title,filepath\na,b\n", ConfigError, "data.caption_column is 'caption'; the table has 'title', 'filepath'"),
        ("caption,path\na,b\n", ConfigError, "data.image_column is 'filepath'; the table has 'caption', 'path'"),
        ("", ConfigError, "the table has no columns"),
        ("caption,filepath\n", DataError, "not one row"),
        ("caption,filepath\na,\n\n", DataError, "not one row"),
        ('caption,filepath\n"open,' + "x" * 200_000, DataError, "is a quotation mark open"),
    ],
)
def test_tables_that_do_not_fit_are_refused(tmp_path, text, error, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(error, match=message):
        opened(tmp_path / "t.csv")


def test_a_table_that_changes_is_noticed(tmp_path, draw):
    draw(tmp_path / "a.png")
    (tmp_path / "t.csv").write_text("caption,filepath\na,a.png\n")
    source = opened(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("caption,filepath\nanother,a.png\n")
    with pytest.raises(DataError, match="was changed"):
        source.read(0)


def test_folders_are_searched_for_pairs(tmp_path, draw):
    folder = tmp_path / "d"
    for name in ("a.png", "b.jpg", "sub/c.PNG", "sub/deep/d.png", "alone.png", ".hidden.png"):
        draw(folder / name)
    (folder / "a.txt").write_text("first\nsecond\n")
    (folder / "b.json").write_text('{"caption": "in json"}')
    (folder / "sub/c.TXT").write_text("in capitals")
    (folder / "sub/deep/d.caption").write_text("deep")
    (folder / "sub/lonely.txt").write_text("no picture")
    (folder / "sub/loop").symlink_to(folder)
    (folder / "gone").symlink_to(tmp_path / "nowhere")
    source = opened(folder)
    assert [source.read(number).caption for number in range(4)] == ["first\nsecond", "in json", "in capitals", "deep"]
    assert source.read(3).key == f"{folder}/sub/deep/d.png"
    assert source.counts() == {"samples": 4, "partial": 1}
    assert source.problems() == [f"{folder}: 1 pictures have no caption file"]
    with pytest.raises(DataError, match="no caption file"):
        opened(folder, strict=True)


def test_a_file_that_would_never_end_is_not_opened(tmp_path):
    (tmp_path / "t.csv").write_text("caption,filepath\na,pipe.png\n")
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(DataError, match="not a regular file"):
        opened(tmp_path / "t.csv").read(0)


def test_several_sources_are_joined_and_mixed(shards, tmp_path, draw):
    draw(tmp_path / "p/a.png")
    (tmp_path / "p/a.txt").write_text("from a folder")
    source = opened(shards / "00000.tar", tmp_path / "p", "shapes", shards / "00001.tar", samples=30)
    assert isinstance(source, Limited)
    assert isinstance(source.source, Joined)
    assert len(source.source.sources) == 3
    assert len(source) == len(set(source.order(0, 0))) == 30
    everything = source.source
    assert len(everything) == 41
    keys = {everything.read(int(number)).key for number in everything.order(1, 0)}
    assert len(keys) == 41
    assert f"{tmp_path}/p/a.png" in keys
    assert everything.counts()["samples"] == 41


def test_a_limit_takes_other_samples_each_epoch(shards):
    source = opened(shards, samples=7)
    epochs = [source.order(epoch, 0) for epoch in range(4)]
    assert all(len(set(order)) == 7 for order in epochs)
    assert len({tuple(sorted(order)) for order in epochs}) > 1
    assert np.array_equal(opened(shards, samples=7).order(3, 0), epochs[3])


def test_a_limit_that_is_too_high_is_said(shards):
    source = opened(shards, samples=700)
    assert len(source) == len(source.order(0, 0)) == 20
    assert source.problems() == ["data.samples asks for 700 samples in an epoch; there are only 20"]


def test_nothing_is_written_beside_the_data(shards):
    before = sorted(shards.rglob("*"))
    captions(opened(shards))
    assert sorted(shards.rglob("*")) == before


def test_it_works_without_a_place_for_the_cache(shards, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CLIPPY_CACHE", str(tmp_path / "file"))
    assert captions(opened(shards)) == expected(range(4))


def test_all_errors_are_ours(tmp_path):
    with pytest.raises(ClippyError):
        opened(tmp_path / "a\nb.tar")
