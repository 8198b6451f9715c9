"""Reports: every file is there, the page needs nothing but itself, and nothing the user wrote becomes markup."""

import base64
import io
import json
import re
import tracemalloc
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clippy_core.analysis import report as reports
from clippy_core.analysis.html import compact, formatted
from clippy_core.analysis.report import (
    Figure,
    Report,
    Section,
    Table,
    figure_png,
    keep,
    new_plot,
    picture_path,
    safe_name,
    to_plain,
    write_report,
)
from clippy_core.errors import DeviceError
from clippy_core.version import __version__

VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """Elements with attributes, texts, and whether every element is closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


def noise(seed=0, size=(40, 50)):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def sample(**changes):
    table = Table(
        "Values", ("name", "count", "value"), (("a", 1200, 0.12345), ("b", 7, None), ("<c>", 0, -2.5)), "Read."
    )
    sections = (
        Section("First", "One.\n\nTwo & three.", (Figure("one", noise(), "A picture", "How to read it."),), (table,)),
        Section("Second", figures=(Figure("folder/two", reports.png_bytes(noise(1)), "Another"),)),
    )
    fields = {"numbers": {"x": np.float32(0.5)}, "settings": {"model": "tiny"}, "main": "one", "sections": sections}
    return Report(**{"what": "features", "title": "Title", "lead": "Lead.", **fields, **changes})


def test_writes_every_file_and_lists_them(tmp_path):
    files = write_report(sample(), tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in files] == [
        "one.png", "folder/two.png", "report.html", "features.json",
    ]  # fmt: skip
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(files)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "one.png")), noise())
    document = json.loads((tmp_path / "features.json").read_text())
    assert document == {
        "what": "features", "title": "Title", "numbers": {"x": 0.5}, "settings": {"model": "tiny"}, "main": "one",
        "files": ["one.png", "folder/two.png", "report.html", "features.json"], "version": __version__,
    }  # fmt: skip


def test_the_page_holds_its_pictures_and_asks_for_nothing(tmp_path):
    write_report(sample(), tmp_path)
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    images = page.all("img")
    assert [image["alt"] for image in images] == ["A picture", "Another"]
    for image, seed in zip(images, (0, 1), strict=True):
        kind, data = image["src"].split(",")
        assert kind == "data:image/png;base64"
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))), noise(seed))
        assert (image["width"], image["height"]) == ("50", "40")
    addresses = [
        value for _, attributes in page.elements for key, value in attributes.items() if key in ("src", "href")
    ]
    assert all(value.startswith(("data:", "#")) for value in addresses)
    assert page.all("script") == []
    policy = next(meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    assert not re.search(r"url\(|@import|https?:", (tmp_path / "report.html").read_text(encoding="utf-8"))
    assert any(meta.get("name") == "viewport" for meta in page.all("meta"))
    for words in ("Title", "Lead.", "One.", "Two & three.", "How to read it.", "Read.", "1,200", "tiny"):
        assert words in page.text


def test_what_the_user_wrote_is_never_markup(tmp_path):
    evil = "<script>alert('x')</script>\"><img src=x onerror=alert(1)> &amp;"
    section = Section(evil, evil, (Figure("x", noise(), evil, evil),), (Table(evil, (evil,), ((evil,),), evil),))
    report = sample(
        title=evil, lead=evil, sections=(section,) * 1, settings={evil: [evil]}, numbers={evil: evil}, main=""
    )
    write_report(report, tmp_path)
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert page.all("script") == []
    assert len(page.all("img")) == 1
    assert page.all("img")[0]["alt"] == evil
    assert page.text.count("alert('x')") >= 8
    assert json.loads((tmp_path / "features.json").read_text())["numbers"] == {evil: evil}


def test_many_sections_have_an_index(tmp_path):
    sections = tuple(Section(f"Part {number}", "Words.") for number in range(4))
    write_report(sample(sections=sections, main=""), tmp_path)
    page = Page((tmp_path / "report.html").read_text())
    targets = {section["id"] for section in page.all("section")}
    assert [link["href"] for link in page.all("a")] == ["#s1", "#s2", "#s3", "#s4"]
    assert {link["href"][1:] for link in page.all("a")} == targets


def test_many_pictures_are_not_held_together(tmp_path):
    """Forty pictures of 1.4 MB each: the page is written with little more than one of them in memory."""
    paths = []
    for number in range(40):
        figure = keep(Figure(f"p{number:02d}", noise(number, (600, 800)), "Noise"), tmp_path)
        assert isinstance(figure.image, Path)
        paths.append(figure)
    tracemalloc.start()
    try:
        write_report(sample(sections=(Section("All", figures=tuple(paths)),), main=""), tmp_path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (tmp_path / "report.html").stat().st_size > 40 * 300_000
    assert peak < 12_000_000


def test_a_picture_written_elsewhere_is_copied(tmp_path):
    (tmp_path / "elsewhere.png").write_bytes(reports.png_bytes(noise(3)))
    figure = Figure("mine", tmp_path / "elsewhere.png", "A copy")
    write_report(sample(sections=(Section("One", figures=(figure,)),), main=""), tmp_path / "out")
    assert (tmp_path / "out/mine.png").read_bytes() == (tmp_path / "elsewhere.png").read_bytes()


def test_a_failing_report_leaves_the_old_page(tmp_path):
    (tmp_path / "report.html").write_text("before")
    missing = Figure("gone", tmp_path / "nowhere.png", "Gone")
    with pytest.raises(FileNotFoundError):
        write_report(sample(sections=(Section("One", figures=(missing,)),), main=""), tmp_path)
    assert (tmp_path / "report.html").read_text() == "before"
    assert list(tmp_path.glob(".clippy-tmp-*")) == []


def test_two_pictures_of_one_name_are_our_mistake(tmp_path):
    figures = (Figure("a b", noise(), "One"), Figure("a-b", noise(1), "Two"))
    with pytest.raises(AssertionError, match="one name"):
        write_report(sample(sections=(Section("One", figures=figures),), main=""), tmp_path)


@pytest.mark.parametrize(
    ("name", "want"),
    [
        ("one", "one.png"),
        ("a/b.c", "a/b.c.png"),
        ("../../etc/passwd", "picture/picture/etc/passwd.png"),
        ("/root", "picture/root.png"),
        ("a\\b:c*?", "a-b-c.png"),
        ("", "picture.png"),
        ("…", "picture.png"),
        ("Kuh und Wiese", "Kuh-und-Wiese.png"),
        ("牛", "牛.png"),
    ],
)
def test_a_name_is_a_file_in_the_folder(name, want):
    assert picture_path(Path("out"), name) == Path("out", want)


def test_a_long_name_is_cut_between_letters():
    assert safe_name("牛" * 200) == "牛" * 66
    assert safe_name("a" * 300, 10) == "a" * 10


def test_a_heavy_picture_is_a_jpeg_in_the_page_and_no_wider_than_it_needs_to_be():
    kind, data, size = compact(reports.png_bytes(noise(0, (500, 2400))))
    assert (kind, size) == ("jpeg", (1600, 333))
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.size) == ("JPEG", size)
    flat = reports.png_bytes(np.zeros((2000, 2000, 3), np.uint8))
    assert compact(flat) == ("png", flat, (2000, 2000))


@pytest.mark.parametrize(
    ("column", "texts", "numeric"),
    [
        ((1, 23456, None), ["1", "23,456", "–"], True),
        ((0.1234, 9.0, float("nan")), ["0.123", "9.000", "–"], True),
        ((12.345, -0.5), ["12.35", "-0.50"], True),
        ((-0.0001, 0.5, -0.0), ["0.000", "0.500", "0.000"], True),
        ((123.45, 1.0), ["123.5", "1.0"], True),
        ((1234.5, 2), ["1,234", "2"], True),
        ((float("inf"), 1.5), ["inf", "1.500"], True),
        ((np.float32(0.5), np.int64(3)), ["0.500", "3"], True),
        (("a", 1), ["a", "1"], False),
        ((True, False), ["yes", "no"], False),
        ((None, None), ["–", "–"], False),
    ],
)
def test_numbers_are_rounded_to_what_their_column_needs(column, texts, numeric):
    cells, right = formatted(Table("T", ("c",), tuple((value,) for value in column)))
    assert [row[0] for row in cells] == texts
    assert right == [numeric]


def test_an_empty_table_has_its_headings(tmp_path):
    section = Section("One", tables=(Table("Nothing", ("a", "b"), ()),))
    write_report(sample(sections=(section,), main=""), tmp_path)
    assert "Nothing a b" in Page((tmp_path / "report.html").read_text()).text


def test_plain_data():
    given = {
        1: np.arange(3),
        "p": Path("a/b"),
        "n": float("nan"),
        "f": np.float64(0.1),
        "t": (True, None, np.bool_(False)),
    }
    assert str(to_plain(-0.0)) == "0.0"
    assert to_plain(given) == {"1": [0, 1, 2], "p": "a/b", "n": None, "f": 0.1, "t": [True, None, False]}


def test_a_plot_gives_the_same_bytes_again_and_takes_any_script():
    def draw():
        plot = new_plot(3, 2)
        axes = plot.add_subplot()
        axes.plot([1, 2, 3])
        axes.set_title("牛 und Wiese")
        return figure_png(plot)

    first = draw()
    assert first == draw()
    with Image.open(io.BytesIO(first)) as image:
        assert image.size == (360, 240)


@pytest.mark.parametrize("missing", ["matplotlib.figure", "sklearn"])
def test_what_is_missing_is_named_with_how_to_get_it(monkeypatch, missing):
    monkeypatch.setitem(__import__("sys").modules, missing, None)
    with pytest.raises(DeviceError, match=re.escape("pip install 'clippy-vlm[analyze]'")):
        reports.require_extra()
