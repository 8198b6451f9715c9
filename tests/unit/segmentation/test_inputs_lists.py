"""Lists of paths, braces, shards and videos as inputs."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from clippy_core.errors import DataError, UsageError
from clippy_core.images import read_picture
from clippy_core.segmentation.inputs import VIDEO, find_inputs
from clippy_core.segmentation.shards import safe_path

OUT = Path("out")


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def touch(*names):
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def found(*given):
    return [(item.source, str(item.stem)) for item in find_inputs(given, OUT)]


def write_shard(path, *members):
    """A tar file of members: names, whose content is the name, or ``(name, bytes)``."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for member in members:
            name, data = (member, member.encode()) if isinstance(member, str) else member
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return Path(path)


# --- lists -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["list.txt", "list.lst", "@list.txt", "@names"])
def test_a_list_names_a_path_a_line(given):
    touch("photos/a/x.jpg", "photos/b/x.png", "top.jpg")
    Path(given.lstrip("@")).write_text("photos/a/x.jpg\r\n\n./photos/b/x.png\ntop.jpg\ngone.jpg")
    assert found(given) == [
        ("photos/a/x.jpg", "photos/a/x"),
        ("./photos/b/x.png", "photos/b/x"),
        ("top.jpg", "top"),
        ("gone.jpg", "gone"),
    ]


def test_a_list_has_no_comments():
    touch("#1.jpg", "x.jpg")
    Path("list.txt").write_text("# pictures\n#1.jpg\nx.jpg\n")
    assert found("list.txt") == [("# pictures", "# pictures"), ("#1.jpg", "#1"), ("x.jpg", "x")]


def test_a_path_that_is_not_here_is_looked_for_beside_the_list():
    touch("data/x.jpg", "data/y.jpg", "y.jpg")
    Path("data/list.txt").write_text("x.jpg\ny.jpg\n")
    assert found("data/list.txt") == [("data/x.jpg", "x"), ("y.jpg", "y")]


def test_outputs_of_a_list_stay_below_the_output_folder(tmp_path):
    touch("here/x.jpg", "up.jpg")
    os.chdir("here")
    Path("list.txt").write_text(f"../up.jpg\n{tmp_path}/up.jpg\nx.jpg\n")
    assert found("list.txt") == [
        ("../up.jpg", "up"),
        (f"{tmp_path}/up.jpg", str(Path(*tmp_path.parts[1:], "up"))),
        ("x.jpg", "x"),
    ]


def test_a_list_may_name_folders_shards_and_videos_but_no_patterns_and_no_lists():
    touch("photos/a.jpg", "photos/b/c.jpg", "clip.mp4", "x[1].jpg", "other.txt")
    write_shard("s.tar", "k.jpg")
    Path("list.txt").write_text("photos\nclip.mp4\ns.tar\nx[1].jpg\nother.txt\n*.jpg\n")
    assert found("list.txt") == [
        ("photos/a.jpg", "photos/a"),
        ("photos/b/c.jpg", "photos/b/c"),
        ("clip.mp4", "clip"),
        ("s.tar/k.jpg", "s/k"),
        ("x[1].jpg", "x[1]"),
        ("other.txt", "other"),
        ("*.jpg", "*"),
    ]


def test_a_zero_byte_in_a_list_is_one_failing_input():
    Path("list.txt").write_bytes(b"a\0b.jpg\nc.jpg\n")
    first, second = find_inputs(["list.txt"], OUT)
    assert second.source == "c.jpg"
    with pytest.raises(DataError, match="zero byte"):
        first.open()


@pytest.mark.parametrize("content", [b"", b"\n\n  \n"])
def test_a_list_that_names_nothing_is_an_error(content):
    Path("list.txt").write_bytes(content)
    with pytest.raises(DataError, match=r"list\.txt: the list names no picture"):
        find_inputs(["list.txt"], OUT)


def test_a_list_that_is_not_there_is_an_error():
    with pytest.raises(DataError, match="the list cannot be read"):
        find_inputs(["@gone.txt"], OUT)
    assert found("gone.txt") == [("gone.txt", "gone")], "without the sign it is a picture that is missing"


def test_a_file_whose_name_begins_with_the_sign_is_that_file():
    touch("@a.jpg")
    assert found("@a.jpg") == [("@a.jpg", "@a")]


# --- braces ------------------------------------------------------------------------------------------------------


def test_braces_are_expanded_in_order():
    touch("p/a.jpg", "p/b.jpg", "p/c.jpg")
    assert [source for source, _ in found("p/{c,a}.jpg")] == ["p/c.jpg", "p/a.jpg"]
    write_shard("s-00.tar", "k.jpg")
    write_shard("s-01.tar", "k.jpg")
    assert found("s-{00..01}.tar") == [("s-00.tar/k.jpg", "s-00/k"), ("s-01.tar/k.jpg", "s-01/k")]


def test_a_name_with_braces_that_is_there_is_meant_as_it_is():
    touch("{a,b}.jpg", "a.jpg")
    assert found("{a,b}.jpg") == [("{a,b}.jpg", "{a,b}")]


def test_braces_that_do_not_close_are_a_usage_error():
    with pytest.raises(UsageError, match="do not close"):
        find_inputs(["p/{a,b.jpg"], OUT)


# --- shards ------------------------------------------------------------------------------------------------------


def test_every_picture_in_a_shard_is_an_input(picture_file):
    pictures = [picture_file(f"made/{number}.png", number) for number in range(2)]
    members = [
        ("sub/0.png", pictures[0].read_bytes()),
        ("sub/0.txt", b"a caption"),
        ("1.PNG", pictures[1].read_bytes()),
    ]
    write_shard("shards/s.0.tar", *members)
    items = find_inputs(["shards/s.0.tar"], OUT)
    assert [(item.source, str(item.stem)) for item in items] == [
        ("shards/s.0.tar/sub/0.png", "s.0/sub/0"),
        ("shards/s.0.tar/1.PNG", "s.0/1"),
    ]
    for item, path in zip(items, pictures, strict=True):
        assert (read_picture(item.open()).pixels_HW3 == read_picture(path).pixels_HW3).all()


def test_a_bad_picture_in_a_shard_is_named():
    write_shard("s.tar", ("k.jpg", b"no picture"))
    (item,) = find_inputs(["s.tar"], OUT)
    with pytest.raises(DataError, match=r"^s\.tar/k\.jpg: not a picture"):
        read_picture(item.open())


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("../../evil.jpg", "s/evil"),
        ("/etc/x.jpg", "s/etc/x"),
        ("a/../../x.jpg", "s/a/x"),
        ("./x.jpg", "s/x"),
        ("new\nline.jpg", "s/new\nline"),
        ("~/x.jpg", "s/~/x"),
        ("żółw.jpg", "s/żółw"),
        ("a" * 150 + ".jpg", "s/" + "a" * 150),
    ],
)
def test_a_key_never_leads_out_of_the_output_folder(name, stem):
    write_shard("s.tar", name)
    (item,) = find_inputs(["s.tar"], OUT)
    assert str(item.stem) == stem
    assert (OUT.resolve() / item.stem).resolve().is_relative_to(OUT.resolve())


@pytest.mark.parametrize("name", ["", "/", "..", "../..", ".", "\0"])
def test_a_name_of_nothing_is_still_a_name(name):
    assert safe_path(name) == Path("picture")


def test_keys_that_become_equal_do_not_collide():
    write_shard("s.tar", "x.jpg", "../x.jpg", "/x.jpg", "x.png", "x.jpg")
    items = find_inputs(["s.tar"], OUT)
    assert len({item.stem for item in items}) == len({item.source for item in items}) == len(items) == 5
    assert [item.open().read() for item in items] == [b"x.jpg", b"../x.jpg", b"/x.jpg", b"x.png", b"x.jpg"]


def test_a_shard_named_twice_is_taken_once():
    write_shard("s.tar", "a.jpg", "b.jpg")
    assert [source for source, _ in found("s.tar", "./s.tar", "*.tar")] == ["s.tar/a.jpg", "s.tar/b.jpg"]


def _header_at(path, number):
    with tarfile.open(path) as archive:
        return archive.getmembers()[number].offset


def _flip(path):
    place = _header_at(path, 2)
    data = bytearray(path.read_bytes())
    data[place + 20] ^= 1
    path.write_bytes(data)


def _cut(place):
    return lambda path: os.truncate(path, place(path))


@pytest.mark.parametrize(
    ("spoil", "sound", "fault"),
    [
        pytest.param(_flip, 2, "damaged header at byte 2,048", id="flipped byte in a header"),
        pytest.param(
            _cut(lambda p: _header_at(p, 2)), 2, "at byte 2,048 without the mark that ends", id="cut between members"
        ),
        pytest.param(
            _cut(lambda p: _header_at(p, 2) + 515), 2, "at byte 2,563, in the middle of 'c.jpg'", id="cut in a member"
        ),
        pytest.param(_cut(lambda p: _header_at(p, 2) + 100), 2, "damaged header|middle", id="cut in a header"),
        pytest.param(lambda p: p.write_bytes(b""), 0, "not a tar file, or damaged at byte 0", id="empty"),
        pytest.param(lambda p: p.write_text("<html>404</html>"), 0, "not a tar file, or damaged at byte 0", id="HTML"),
        pytest.param(lambda p: write_shard(p, "a.txt"), 0, "no picture in this archive", id="no picture"),
        pytest.param(Path.unlink, 0, "No such file", id="missing"),
    ],
)
def test_a_damaged_shard_gives_what_is_sound_and_one_failing_input(spoil, sound, fault):
    shard = write_shard("s.tar", "a.jpg", "b.jpg", "c.jpg", "d.jpg")
    spoil(shard)
    *items, last = find_inputs(["s.tar"], OUT)
    assert [item.source for item in items] == ["s.tar/a.jpg", "s.tar/b.jpg"][:sound]
    assert last.source == "s.tar"
    with pytest.raises(DataError, match=rf"^s\.tar: .*({fault})"):
        last.open()


def test_a_sparse_or_linked_member_is_no_picture():
    with tarfile.open("s.tar", "w") as archive:
        link = tarfile.TarInfo("link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        info = tarfile.TarInfo("a.jpg")
        info.size = 3
        archive.addfile(info, io.BytesIO(b"abc"))
    assert found("s.tar") == [("s.tar/a.jpg", "s/a")]


def test_a_size_beyond_the_file_is_a_fault_not_a_wait():
    shard = write_shard("s.tar", "a.jpg", "b.jpg")
    data = bytearray(shard.read_bytes())
    place = _header_at(shard, 1)
    data[place + 124 : place + 136] = b"77777777777\0"
    total = sum(data[place : place + 512]) - sum(data[place + 148 : place + 156]) + 8 * 32
    data[place + 148 : place + 156] = b"%06o\0 " % total
    shard.write_bytes(data)
    assert [source for source, _ in found("s.tar")] == ["s.tar/a.jpg", "s.tar"]


# --- videos ------------------------------------------------------------------------------------------------------


def test_videos_are_taken_where_they_are_named():
    touch("p/clip.mp4", "p/x.jpg", "p/deep/film.avi")
    kinds = {item.source: item.kind for item in find_inputs(["p/clip.mp4", "p/**/*.avi"], OUT)}
    assert kinds == {"p/clip.mp4": VIDEO, "p/deep/film.avi": VIDEO}
    assert [source for source, _ in found("p")] == ["p/x.jpg"], "a folder stands for its pictures"
    assert [source for source, _ in found("p/*")] == ["p/x.jpg"], "and so does a star"
