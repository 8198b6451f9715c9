"""Training data that is damaged, cut, not what it claims to be, or malicious: named, counted, never trained on."""

import io
import json
import os
import re
import tarfile
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice

import numpy as np
import pytest
from PIL import Image

from clippy_core.errors import DataError
from clippy_core.model.presets import find
from clippy_core.model.tokenizer import Tokenizer
from clippy_core.training.config import DataConfig
from clippy_core.training.data import fetching, shard_index
from clippy_core.training.data.fetching import Store
from clippy_core.training.data.loader import Loader
from clippy_core.training.data.shard_lists import Shard
from clippy_core.training.data.sources import open_source

BLOCK = 512
PAGE = b"<!DOCTYPE html>\n<html><body>Please log in</body></html>" + b" " * 2000


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("CLIPPY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fetching, "PAUSE", 0.01)


def jpeg(seed=0, size=(60, 60)):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def archive(members, path=None):
    """A tar file of (name, bytes), as bytes, and on disk if ``path`` says where."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    if path is not None:
        path.write_bytes(buffer.getvalue())
    return buffer.getvalue()


def samples(count, prefix="k"):
    """Members of sound samples."""
    for number in range(count):
        yield f"{prefix}{number:03d}.jpg", jpeg(number)
        yield f"{prefix}{number:03d}.txt", f"caption {number}".encode()


def header_of(data, name):
    """Where the header of a member begins."""
    with tarfile.open(fileobj=io.BytesIO(data)) as file:
        return file.getmember(name).offset


def opened(*sources, **more):
    return open_source(DataConfig(sources=tuple(map(str, sources)), **more))


def captions(source):
    return sorted(source.read(int(number)).caption for number in source.order(0, 0))


def trained_on(source, steps, batch=4, **config):
    """Keys and faults of the first steps."""
    tokenizer = Tokenizer(find("clippy-lite") / "tokenizer.json", 16)
    made = Loader(
        source,
        tokenizer,
        DataConfig(workers=0, **config),
        size=16,
        batch_size=batch,
        accumulate=1,
        rank=0,
        world=1,
        seed=0,
    )
    parts = [part for (part,) in islice(made.batches(0), steps)]
    return [key for part in parts for key in part.keys], [line for part in parts for line in part.faults]


# 12


@pytest.mark.parametrize("place", [0, 100, 124, 148, 257, 511])
def test_a_flipped_byte_in_a_header_is_an_end_that_is_reported(tmp_path, place):
    data = bytearray(archive(samples(10)))
    start = header_of(data, "k006.jpg")
    data[start + place] ^= 0x20
    (tmp_path / "a.tar").write_bytes(data)
    source = opened(tmp_path / "a.tar")
    assert captions(source) == [f"caption {number}" for number in range(6)]
    (problem,) = source.problems()
    assert problem == (
        f"{tmp_path}/a.tar: damaged header at byte {start:,} of {len(data):,}; what follows is lost; "
        "6 samples can be used"
    )
    with pytest.raises(DataError, match="damaged header"):
        opened(tmp_path / "a.tar", strict=True)


def test_a_header_of_zeros_is_no_end(tmp_path):
    data = bytearray(archive(samples(10)))
    start = header_of(data, "k006.jpg")
    data[start : start + BLOCK] = bytes(BLOCK)
    (tmp_path / "a.tar").write_bytes(data)
    source = opened(tmp_path / "a.tar")
    assert len(source) == 6
    assert f"ends at byte {start:,}, but" in source.problems()[0]


def test_the_shortfall_against_an_index_is_said(tmp_path):
    data = bytearray(archive(samples(10)))
    data[header_of(data, "k006.jpg")] ^= 1
    (tmp_path / "a.tar").write_bytes(data)
    (tmp_path / "index.json").write_text('{"shardlist": [{"url": "a.tar", "nsamples": 10}]}')
    assert opened(tmp_path / "index.json").problems()[0].endswith("6 samples of 10 stated can be used")


# 13


@pytest.mark.parametrize("end", ["boundary", "with mark"])
def test_a_shard_that_is_cut_between_members_is_short(tmp_path, end):
    data = archive(samples(10))
    cut = data[: header_of(data, "k007.jpg")] + (bytes(2 * BLOCK) if end == "with mark" else b"")
    (tmp_path / "a.tar").write_bytes(cut)
    (tmp_path / "sizes.json").write_text('{"a.tar": 10}')
    source = opened(tmp_path / "a.tar")
    assert len(source) == 7
    (problem,) = source.problems()
    assert ("no end-of-archive mark" in problem) == (end == "boundary")
    assert "10" in problem
    assert "7" in problem
    with pytest.raises(DataError, match=r"a\.tar"):
        opened(tmp_path / "a.tar", strict=True)


# 14


def test_a_sample_that_is_cut_in_two_is_counted_and_not_used(tmp_path):
    data = archive(samples(10))
    (tmp_path / "a.tar").write_bytes(data[: header_of(data, "k007.txt")])
    source = opened(tmp_path / "a.tar")
    assert source.counts() == {"samples": 7, "shards": 1, "bad shards": 0, "partial": 1}
    keys, faults = trained_on(source, 6)
    assert not any("k007" in key for key in keys)
    assert faults == []
    assert any("1 samples lack a picture or a caption" in line for line in source.problems())


def test_a_member_that_is_cut_in_the_middle_is_not_used(tmp_path):
    data = archive(samples(10))
    (tmp_path / "a.tar").write_bytes(data[: header_of(data, "k007.jpg") + BLOCK + 100])
    source = opened(tmp_path / "a.tar")
    assert len(source) == 7
    assert re.search(r"cut short in k007\.jpg, which begins at byte [\d,]+; 7 samples", source.problems()[0])


# 15


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (PAGE, "not a tar file (it begins with '<!DOCTYPE html>"),
        (bytes(10240), "there is no picture and no caption in it"),
        (archive([("notes.md", b"x")]), "there is no picture and no caption in it"),
        (b"\x1f\x8b" + bytes(600), "not a tar file"),
    ],
)
def test_what_is_no_shard_is_named_and_counted(tmp_path, content, message):
    (tmp_path / "bad.tar").write_bytes(content)
    archive(samples(5), tmp_path / "good.tar")
    source = opened(tmp_path / "*.tar")
    assert source.counts() == {"samples": 5, "shards": 1, "bad shards": 1, "partial": 0}
    (problem,) = source.problems()
    assert problem.startswith(f"{tmp_path}/bad.tar: ")
    assert message in problem
    with pytest.raises(DataError, match=r"none of 1 shards can be used; the first: .*bad\.tar") as caught:
        opened(tmp_path / "bad.tar")
    assert "\n" not in str(caught.value)


def test_one_of_several_shards_may_be_missing(tmp_path):
    archive(samples(5), tmp_path / "0.tar")
    source = opened(tmp_path / "{0..1}.tar")
    assert source.counts()["bad shards"] == 1
    assert source.problems() == [f"{tmp_path}/1.tar: cannot be read (No such file or directory)"]


# 16, 17 and other pictures that cannot be used


def test_pictures_that_cannot_be_used_are_replaced_and_named(tmp_path):
    whole = jpeg(3)
    members = [*samples(40)]
    members += [("cut.jpg", whole[: len(whole) // 2]), ("cut.txt", b"cut"), ("html.jpg", PAGE), ("html.txt", b"page")]
    members += [("mute.jpg", whole), ("mute.txt", b" \n"), ("none.jpg", b""), ("none.txt", b"nothing")]
    archive(members, tmp_path / "a.tar")
    keys, faults = trained_on(opened(tmp_path / "a.tar"), 11)
    assert len(keys) == 44
    names = ("cut", "html", "mute", "none")
    assert not any(key.endswith(name) for key in keys for name in names)
    for name, reason in zip(names, ("truncated", "not a picture", "caption is empty", "is empty"), strict=True):
        assert any(f"a.tar/{name}: " in fault and reason in fault for fault in faults)
    with pytest.raises(DataError, match=r"a\.tar/(cut|html|mute|none): "):
        trained_on(opened(tmp_path / "a.tar"), 11, strict=True)


def test_zeroed_scan_bytes_decode_without_a_word_here_too(tmp_path):
    """Documented: nothing in such a JPEG says that it is damaged."""
    data = bytearray(jpeg(1))
    middle = len(data) // 2
    data[middle : middle + 200] = bytes(200)
    archive([("a.jpg", bytes(data)), ("a.txt", b"a dog")], tmp_path / "a.tar")
    keys, faults = trained_on(opened(tmp_path / "a.tar"), 2, batch=1)
    assert (len(keys), faults) == (2, [])


# 24


@pytest.mark.parametrize("name", ["../../evil", "/etc/evil", "a\nb", "\x1b[2J", "x" * 300, "b\udcff"])
def test_names_are_shown_and_never_written(tmp_path, name, monkeypatch):
    place = tmp_path / "deep/down"
    place.mkdir(parents=True)
    archive([(f"{name}.jpg", jpeg()), (f"{name}.txt", b"a dog"), *samples(2)], place / "a.tar")
    monkeypatch.chdir(place)
    source = opened("a.tar")
    before = {path for path in tmp_path.rglob("*") if "cache" not in path.parts}
    keys, _ = trained_on(source, 2, batch=3)
    assert len({*keys}) == 3
    assert all(key.isprintable() and key.startswith("a.tar/") for key in keys)
    assert {path for path in tmp_path.rglob("*") if "cache" not in path.parts} == before
    assert all(re.fullmatch(r"[0-9a-f]{32}\.npz", path.name) for path in (tmp_path / "cache").rglob("*.*"))


def test_links_and_devices_in_a_shard_are_no_members(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
            member = tarfile.TarInfo(f"x{ord(kind)}.jpg")
            member.type, member.linkname = kind, "/etc/passwd"
            file.addfile(member)
        for name, data in samples(3):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    assert opened(tmp_path / "a.tar").counts() == {"samples": 3, "shards": 1, "bad shards": 0, "partial": 0}


def test_members_are_grouped_as_webdataset_does(tmp_path):
    picture = jpeg()
    members = [("d.e/a.jpg", picture), ("d.e/a.txt", b"one"), ("__meta__/x.txt", b"-"), (".hid.jpg", picture)]
    members += [("b.JPG", picture), ("b.json", b'{"caption": "two"}'), ("b.txt", b"preferred"), ("b.cls", b"1")]
    members += [("c.seg.jpg", picture), ("c.jpg", picture), ("c.txt", b"three")]
    members += [("b.jpg", picture), ("b.txt", b"the same name again"), ("alone.json", b"{}")]
    archive(members, tmp_path / "a.tar")
    source = opened(tmp_path / "a.tar")
    assert captions(source) == ["one", "preferred", "the same name again", "three"]
    assert source.counts()["partial"] == 1


# Indexes that are kept


def test_an_index_is_made_once_and_again_when_it_or_the_shard_changes(tmp_path, monkeypatch):
    made = []
    scan = shard_index.scan
    monkeypatch.setattr(shard_index, "scan", lambda path: made.append(path.name) or scan(path))
    path = tmp_path / "a.tar"
    archive(samples(3), path)
    assert [len(opened(path)) for _ in range(3)] == [3, 3, 3]
    assert len(made) == 1
    archive(samples(4), path)
    assert len(opened(path)) == 4
    assert len(made) == 2
    (kept,) = (tmp_path / "cache").rglob("*.npz")
    data = bytearray(kept.read_bytes())
    for damaged in (b"", data[:-40], data[: len(data) // 2] + b"\x55" + data[len(data) // 2 + 1 :], b"not one"):
        kept.write_bytes(damaged)
        assert captions(opened(path)) == [f"caption {number}" for number in range(4)]


def test_a_shard_that_changes_or_goes_while_it_is_used_is_noticed(tmp_path):
    archive(samples(3, "a"), tmp_path / "a.tar")
    archive(samples(30, "b"), tmp_path / "b.tar")
    source = opened(tmp_path / "*.tar")
    archive(samples(3, "c"), tmp_path / "a.tar")
    os.utime(tmp_path / "a.tar", ns=(1, 1))
    keys, faults = trained_on(source, 8)
    assert all("b.tar" in key for key in keys)
    assert any("a.tar: the file was changed while it was being used" in fault for fault in faults)
    (tmp_path / "b.tar").unlink()
    with pytest.raises(DataError, match=r"9 samples in a row cannot be used; the last: .*(cannot be read|was changed)"):
        trained_on(opened_again(source), 8)


def opened_again(source):
    """As a worker gets it, with no file open."""
    import pickle

    return pickle.loads(pickle.dumps(source))


# Shards from elsewhere


@contextmanager
def served(files, drops=()):
    """A server of ``files``; the first answers for names in ``drops`` end in the middle."""
    asked, left = [], list(drops)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            name = self.path.lstrip("/")
            asked.append(name)
            if name not in files:
                self.send_error(404)
                return
            body = files[name]
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if name in left:
                left.remove(name)
                body = body[: len(body) // 2]
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_shards_are_fetched_once_and_dropped_connections_tried_again(tmp_path, monkeypatch):
    from clippy_core.model import download

    monkeypatch.setattr(download, "FIRST_PAUSE", 0.01)
    files = {f"{n}.tar": archive(samples(4, f"s{n}")) for n in range(2)}
    with served(files, drops=["1.tar"]) as (address, asked):
        source = opened(f"{address}/{{0..1}}.tar")
        assert len(source) == 8
        keys, faults = trained_on(source, 2)
        assert len({*keys}) == 8
        assert faults == []
        assert sorted(asked) == ["0.tar", "1.tar", "1.tar"]
        assert len(opened(f"{address}/{{0..1}}.tar")) == 8
        assert len(asked) == 3


def test_what_a_server_sends_instead_of_shards_is_counted(tmp_path):
    files = {"good.tar": archive(samples(4)), "page.tar": PAGE, "cut.tar": archive(samples(4))[:3000]}
    with served(files) as (address, _):
        source = opened(*(f"{address}/{name}.tar" for name in ("good", "page", "missing", "cut")))
        assert source.counts()["bad shards"] == 3
        lines = "\n".join(source.problems())
        for name in ("page", "missing", "cut"):
            assert f"{address}/{name}.tar: " in lines
        assert "checkpoint" not in lines
        with pytest.raises(DataError, match="none of 1 shards"):
            opened(f"{address}/missing.tar")


def test_a_list_with_numbers_lets_fetching_wait(tmp_path):
    with served({"0.tar": archive(samples(4)), "1.tar": archive(samples(2))}) as (address, asked):
        (tmp_path / "index.json").write_text(
            json.dumps({"shardlist": [{"url": f"{address}/{n}.tar", "nsamples": 4} for n in range(2)]})
        )
        source = opened(tmp_path / "index.json")
        assert len(source) == 8
        assert asked == []
        keys, faults = trained_on(source, 2)
        assert sorted(asked) == ["0.tar", "1.tar"]
        assert len(keys) == 8
        assert any("1.tar: sample 3 is missing, there are only 2" in fault for fault in faults)


def test_commands_are_run_and_their_failures_counted(tmp_path):
    half = len(archive(samples(4), tmp_path / "a.tar")) // 2
    source = opened(
        f"pipe:cat {tmp_path}/a.tar",
        "pipe:true",
        f"pipe:cat {tmp_path}/a.tar; exit 3",
        f"pipe:head -c {half} {tmp_path}/a.tar",
    )
    assert source.counts()["bad shards"] == 2
    lines = source.problems()
    assert any(line.startswith("pipe:true: tried 3 times (the command wrote nothing)") for line in lines)
    assert any("exit 3" in line and "tried 3 times" in line for line in lines)
    assert any("head -c" in line and ("cut short" in line or "no end-of" in line) for line in lines)
    assert captions(source)[:2] == ["caption 0", "caption 0"]
    assert not list((tmp_path / "cache").rglob(".clippy-tmp-*"))


def test_the_folder_of_fetched_shards_is_bounded(tmp_path):
    for name in "abc":
        archive(samples(4, name), tmp_path / f"{name}.tar")
    size = (tmp_path / "a.tar").stat().st_size
    store = Store(2.5 * size / 1e9)
    place = tmp_path / "cache/shards/fetched"
    for name in "abab":
        os.close(store.open(f"pipe:cat {tmp_path}/{name}.tar")[0])
    held, _ = store.open(f"pipe:cat {tmp_path}/a.tar")
    os.close(store.open(f"pipe:cat {tmp_path}/c.tar")[0])
    assert sorted(path.name for path in place.glob("*.tar")) == sorted(
        fetching._place(f"pipe:cat {tmp_path}/{name}.tar").name for name in "ac"
    )
    small = Store(0.5 * size / 1e9)
    descriptor, index = small.open(f"pipe:cat {tmp_path}/b.tar")
    assert len(list(place.glob("*.tar"))) == 1
    assert len(index) == 4
    assert len(os.read(held, size + 1)) == size  # whoever reads a shard that had to go reads on
    os.close(held)
    os.close(descriptor)


def test_secrets_of_an_address_are_not_shown():
    assert Shard("https://user:word@example.org/a/0.tar?key=secret").name == "https://example.org/a/0.tar"
