"""Which pictures a run is about, in which order, and where the outputs of each go."""

import os
from pathlib import Path

import pytest

from clippy_core.errors import DataError, UsageError
from clippy_core.segmentation.inputs import find_inputs

DEFAULT = ("overlay", "labelmap", "json")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to work in; paths in these tests are relative to it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*names):
    for name in names:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def found(*given, out="out"):
    return [(item.source, str(item.stem)) for item in find_inputs(given, Path(out), DEFAULT)]


def sources(*given, out="out"):
    return [source for source, _ in found(*given, out=out)]


def test_a_file_by_itself_is_taken_whatever_its_suffix_or_existence(here):
    touch("photo.jpg", "noise.dat", "README")
    assert found("photo.jpg") == [("photo.jpg", "photo")]
    assert found("noise.dat") == [("noise.dat", "noise")]
    assert found("README") == [("README", "README")]
    assert found("gone/photo.png") == [("gone/photo.png", "photo")]


def test_dots_in_a_name_stay(here):
    assert found("a.b.c.jpg", ".hidden.png", "v1.0") == [
        ("a.b.c.jpg", "a.b.c"),
        (".hidden.png", ".hidden"),
        ("v1.0", "v1"),
    ]


def test_the_tree_of_a_folder_is_mirrored(here):
    touch("photos/b.png", "photos/a/img.jpg", "photos/a/deep/er/img.jpg", "photos/notes.txt", "photos/c.JPEG")
    assert found("photos") == [
        ("photos/b.png", "b"),
        ("photos/c.JPEG", "c"),
        ("photos/a/img.jpg", "a/img"),
        ("photos/a/deep/er/img.jpg", "a/deep/er/img"),
    ]
    assert found("photos") == found("photos/") == found(str(Path("photos")))


def test_the_order_does_not_depend_on_the_file_system(here, monkeypatch):
    names = [f"photos/{folder}/{number}.png" for folder in "cab" for number in (3, 1, 2)]
    touch(*names)
    straight = sources("photos")
    scandir = os.scandir

    class Backwards:
        def __init__(self, path):
            with scandir(path) as entries:
                self.entries = iter(sorted(entries, key=lambda entry: entry.name, reverse=True))

        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

        def __iter__(self):
            return self.entries

        def __next__(self):
            return next(self.entries)

    monkeypatch.setattr(os, "scandir", Backwards)
    assert sources("photos") == straight == sorted(names)


def test_the_order_given_is_kept(here):
    touch("b.jpg", "a.jpg", "folder/c.jpg")
    assert sources("b.jpg", "folder", "a.jpg") == ["b.jpg", "folder/c.jpg", "a.jpg"]


# --- collisions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "given", "stems"),
    [
        pytest.param(["p/img.jpg", "p/img.png"], ["p"], ["img.jpg", "img.png"], id="two suffixes"),
        pytest.param(["p/img.jpg", "p/a/img.png"], ["p"], ["img", "a/img"], id="two folders of one tree"),
        pytest.param(["p/img.jpg", "p/img.JPG"], ["p"], ["img.JPG", "img.jpg"], id="suffixes in two cases"),
        pytest.param(["a/img.jpg", "b/img.jpg"], ["a", "b"], ["img.jpg", "img.jpg-2"], id="two trees"),
        pytest.param(["a/i.jpg", "b/i.jpg"], ["a/i.jpg", "b/i.jpg"], ["i.jpg", "i.jpg-2"], id="two files"),
        pytest.param(
            ["a/i.jpg", "b/i.jpg", "c/i.jpg"], ["a", "b", "c"], ["i.jpg", "i.jpg-2", "i.jpg-3"], id="three trees"
        ),
        pytest.param(["p/i.jpg", "p/i.png", "q/i.png"], ["p", "q"], ["i.jpg", "i.png", "i.png-2"], id="both"),
        pytest.param(["p/i.gif", "p/i.jpg", "p/i.png"], ["p"], ["i.gif", "i.jpg", "i.png"], id="three suffixes"),
        pytest.param(
            ["p/i.jpg", "p/i.jpg.png", "p/i.png"], ["p"], ["i.jpg", "i.jpg-2", "i.png"], id="a name like a kept suffix"
        ),
        pytest.param(
            ["a/i.jpg", "b/i.jpg", "c/i.jpg-2.png"], ["a", "b", "c"], ["i.jpg", "i.jpg-2", "i.jpg-2-2"], id="like one"
        ),
    ],
)
def test_no_two_inputs_share_their_outputs(here, names, given, stems):
    touch(*names)
    assert [stem for _, stem in found(*given)] == stems
    assert len(set(stems)) == len(stems)


def test_no_input_in_the_output_folder_is_written_over(here):
    touch("a.jpg", "a.labels.png", "sub/b.jpg", "sub/b.labels.png")
    assert found("a.jpg", "a.labels.png", out=".") == [("a.jpg", "a.jpg"), ("a.labels.png", "a.labels")]
    assert found("a.jpg", "a.labels.png") == [("a.jpg", "a"), ("a.labels.png", "a.labels")]
    assert found("sub/b.jpg", "sub/b.labels.png", out="sub")[0] == ("sub/b.jpg", "b.jpg")
    Path("link").symlink_to(".")
    assert found("a.jpg", "link/a.labels.png", out=str(Path.cwd()))[0] == ("a.jpg", "a.jpg")


def test_standard_input_and_a_file_of_that_name_do_not_collide(here):
    assert found("-") == [("-", "stdin")]
    assert [stem for _, stem in found("-", "stdin.jpg")] == ["stdin", "stdin.jpg"]


def test_a_file_named_by_a_dash_is_not_standard_input(here):
    touch("-", "-v.jpg")
    assert found("./-", "-v.jpg") == [("./-", "-"), ("-v.jpg", "-v")]
    assert sources("-", "./-") == ["-", "./-"]


def test_a_picture_that_is_named_twice_is_taken_once(here):
    touch("p/a.jpg", "p/b.jpg")
    assert sources("p/b.jpg", "p") == ["p/b.jpg", "p/a.jpg"]
    assert sources("p", "p/a.jpg", "./p/a.jpg", "p//b.jpg", "./p", "p/*.jpg") == ["p/a.jpg", "p/b.jpg"]


# --- patterns ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "stems"),
    [
        pytest.param("photos/*.jpg", ["a", "b"], id="star"),
        pytest.param("photos/**/*.jpg", ["a", "b", "x/c", "x/y/d"], id="any depth"),
        pytest.param("photos/*/*.jpg", ["x/c"], id="one folder down"),
        pytest.param("photos/[ab].jpg", ["a", "b"], id="set"),
        pytest.param("photos/?.png", ["e"], id="one character"),
        pytest.param("photos/**", ["a", "b", "e", "x/c", "x/y/d"], id="everything that is a picture"),
        pytest.param("**/c.jpg", ["photos/x/c"], id="no fixed part"),
        pytest.param("photos/*/../*.jpg", ["a", "b"], id="up again"),
    ],
)
def test_a_pattern_mirrors_what_follows_its_fixed_part(here, pattern, stems):
    touch("photos/a.jpg", "photos/b.jpg", "photos/e.png", "photos/x/c.jpg", "photos/x/y/d.jpg", "photos/n.txt")
    touch("photos/.hidden.jpg")
    assert [stem for _, stem in found(pattern)] == stems


def test_no_pattern_leads_out_of_the_output_folder(here):
    touch("photos/x/a.jpg", "b.jpg")
    assert [stem for _, stem in found("photos/*/../../*.jpg")] == ["b"]


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(here):
    touch("img[1].jpg", "img1.jpg", "what?.png")
    assert found("img[1].jpg") == [("img[1].jpg", "img[1]")]
    assert found("what?.png") == [("what?.png", "what?")]


@pytest.mark.parametrize("pattern", ["*.jpg", "photos/*.png", "gone/**/*.jpg"])
def test_a_pattern_without_a_match_is_an_error_that_names_it(here, pattern):
    touch("photos/a.jpg")
    with pytest.raises(DataError) as caught:
        find_inputs([pattern], Path("out"))
    assert str(caught.value) == f"{pattern}: no picture matches this pattern"


# --- the output folder -------------------------------------------------------------------------------------------


def test_outputs_of_an_earlier_run_are_not_inputs(here):
    touch("photos/a.jpg", "photos/out/a.overlay.png", "photos/out/sub/b.labels.png")
    assert sources("photos", out="photos/out") == ["photos/a.jpg"]
    assert sources("photos/**", out="photos/out") == ["photos/a.jpg"]
    assert sources(str(here / "photos"), out="photos/out") == [str(here / "photos" / "a.jpg")]


def test_the_output_folder_is_known_through_a_link(here):
    touch("photos/a.jpg", "photos/out/a.overlay.png")
    Path("elsewhere").symlink_to("photos/out")
    assert sources("photos", out="elsewhere") == ["photos/a.jpg"]


def test_a_folder_below_the_output_folder_is_searched_when_it_is_named(here):
    touch("photos/a.jpg")
    assert sources("photos", out=".") == ["photos/a.jpg"]
    assert sources("photos/*.jpg", out=".") == ["photos/a.jpg"]
    assert sources("*/*.jpg", out=".") == ["photos/a.jpg"]


def test_the_output_folder_itself_is_refused_with_its_reason(here):
    touch("photos/a.jpg")
    with pytest.raises(UsageError, match="photos: this folder is also the output folder"):
        find_inputs(["photos"], Path("photos"))


# --- links, odd files --------------------------------------------------------------------------------------------


def test_hidden_files_and_folders_are_passed_over(here):
    touch("p/a.jpg", "p/.b.jpg", "p/.cache/c.jpg", "p/._a.jpg")
    assert sources("p") == ["p/a.jpg"]
    assert sources("p/.b.jpg") == ["p/.b.jpg"]


def test_loops_of_links_end(here):
    touch("p/a.jpg", "p/x/b.jpg")
    Path("p/x/up").symlink_to("..")
    Path("p/self").symlink_to(".")
    assert sorted(Path(source).name for source in sources("p")) == ["a.jpg", "b.jpg"]


def test_a_linked_folder_is_searched_once(here):
    touch("p/a.jpg", "other/b.jpg")
    Path("p/one").symlink_to("../other")
    Path("p/two").symlink_to("../other")
    assert sources("p") == ["p/a.jpg", "p/one/b.jpg"]


def test_links_that_lead_nowhere_and_special_files_are_inputs_that_will_fail(here):
    touch("p/a.jpg")
    Path("p/dangling.jpg").symlink_to("gone.jpg")
    Path("p/loop.jpg").symlink_to("loop.jpg")
    os.mkfifo("p/pipe.jpg")
    want = ["p/a.jpg", "p/dangling.jpg", "p/loop.jpg", "p/pipe.jpg"]
    assert sources("p") == want
    assert sources("p/*.jpg") == want


def test_a_folder_named_like_a_picture_is_a_folder(here):
    touch("p/album.jpg/a.png", "p/b.jpg")
    assert sources("p") == ["p/b.jpg", "p/album.jpg/a.png"]
    assert sources("p/*.jpg") == ["p/b.jpg"]


@pytest.mark.parametrize("closed", ["p/x", "p"])
def test_a_folder_that_cannot_be_opened_is_an_input_that_will_fail(here, monkeypatch, closed):
    touch("p/a.jpg", "p/x/b.jpg")
    scandir = os.scandir

    def refuse(path):
        if os.fspath(path) == closed:
            raise PermissionError(13, "Permission denied", closed)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert found("p") == ([("p/a.jpg", "a"), ("p/x", "x")] if closed == "p/x" else [("p", "p")])


def test_a_folder_that_is_taken_away_during_the_search_is_an_input_that_will_fail(here, monkeypatch):
    touch("p/a.jpg", "p/x/b.jpg")
    stat = os.stat

    def gone(path, **options):
        if os.fspath(path) == "p/x":
            raise FileNotFoundError(2, "No such file or directory", "p/x")
        return stat(path, **options)

    monkeypatch.setattr(os, "stat", gone)
    assert sources("p") == ["p/a.jpg", "p/x"]


@pytest.mark.parametrize(
    "name",
    ["with space", "two\nlines", "-dash", "żółw 🐢", "o'quote\"", "100%", os.fsdecode(b"caf\xe9"), "x" * 200, "a\\b"],
)
def test_odd_names_are_found_as_they_are(here, name):
    touch(f"p/{name}.jpg", f"p/{name}/inner.png")
    assert found("p") == [(f"p/{name}.jpg", name), (f"p/{name}/inner.png", f"{name}/inner")]
    assert found(f"p/{name}.jpg") == [(f"p/{name}.jpg", name)]


@pytest.mark.parametrize("name", ["x" * 300 + ".jpg", "a\0b.jpg", "gone/[x].jpg/" + "y" * 300])
def test_a_name_that_no_file_can_have_is_an_input_that_will_fail(here, name):
    try:
        assert sources(name) == [name]
    except DataError as error:
        assert "no picture matches" in str(error)  # noqa: PT017 - the one with brackets is a pattern


# --- nothing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [[], ["p/notes.txt"], ["p/.hidden.jpg"], ["p/sub/empty.pdf"]])
def test_a_folder_of_no_pictures_is_an_error_that_says_what_was_looked_for(here, names):
    Path("p").mkdir()
    touch(*names)
    with pytest.raises(DataError) as caught:
        find_inputs(["p"], Path("out"))
    assert str(caught.value).startswith("p: no picture in this folder (looked for .avif, ")
    assert ".png" in str(caught.value)


def test_among_several_what_has_no_picture_is_an_input_that_will_fail(here):
    touch("photos/a.jpg", "list.txt")
    Path("empty").mkdir()
    items = find_inputs(["photos", "empty", "*.gif", "list.txt"], Path("out"))
    assert [(item.source, bool(item.fault)) for item in items] == [
        ("photos/a.jpg", False),
        ("empty", True),
        ("*.gif", True),
        ("list.txt", True),
    ]
    with pytest.raises(DataError, match=r"^empty: no picture in this folder"):
        items[1].open()


@pytest.mark.parametrize("given", [[], [""], ["photo.jpg", ""]])
def test_nothing_to_do_is_a_usage_error(here, given):
    touch("photo.jpg")
    with pytest.raises(UsageError, match="no input was given; accepted: images, folders, glob patterns"):
        find_inputs(given, Path("out"))


def test_standard_input_can_be_read_only_once(here):
    with pytest.raises(UsageError, match="only once"):
        find_inputs(["-", "-"], Path("out"))


def test_ten_thousand_pictures_are_found_in_a_moment(here):
    Path("p").mkdir()
    for number in range(10_000):
        os.mknod(f"p/{number:05d}.jpg")
    items = find_inputs(["p"], Path("out"))
    assert len(items) == len({item.stem for item in items}) == 10_000
