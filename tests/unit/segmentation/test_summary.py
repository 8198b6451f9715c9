"""The report on a run: figures against sums over the JSON outputs, the page against its own text and pictures."""

import base64
import io
import json
import re
import tracemalloc
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from clippy_core.segmentation.palette import label_colours
from clippy_core.segmentation.summary.contact_sheet import COLUMNS, Block, Tile, draw_sheet
from clippy_core.segmentation.summary.findings import Entry, gather
from clippy_core.segmentation.summary.report import write_summary

LABELS = ["sky", "dog", "nowhere"]
VOID = {"meta", "img", "wbr", "br", "link"}


def record(source, outputs=(), *, status="ok", error=None, labels=None):
    return SimpleNamespace(input=source, status=status, outputs=list(outputs), error=error, labels=labels or {})


@pytest.fixture
def run(segmentation, tmp_path):
    """``run(count, writers)`` → records of pictures whose scores rise with their number."""

    def go(count, writers=("overlay", "json"), **fields):
        records = []
        for number in range(count):
            label_map = np.zeros((24, 32), np.uint8)
            label_map[: number % 24] = 1
            scores = [0.1 + number / 100, 0.2 + number / 100, -0.3]
            source = f"photos/a/{number:03d}.jpg"
            given = {"labels": LABELS, "scores": scores, "source": source, **fields}
            result = segmentation(label_map, colour=(number, 90, 200), **given)
            files = result.save(tmp_path / "a" / f"{number:03d}", writers)
            shares = {label.name: label.fraction for label in result.summary() if label.pixels}
            records.append(record(source, [str(file.relative_to(tmp_path)) for file in files], labels=shares))
        return records

    return go


class Page(HTMLParser):
    """Text, images, links and tags of a page; fails on tags that do not close."""

    def __init__(self, path):
        super().__init__()
        self.open, self.images, self.links, self.text, self.sources = [], [], [], [], []
        self.feed(path.read_text(encoding="utf-8"))
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.sources += [value for name, value in attrs if name in ("src", "srcset", "data", "action")]
        if tag == "img":
            self.images.append(attributes)
        if tag == "a":
            self.links.append(attributes["href"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text.append(" ".join(data.split()))

    def words(self):
        return " ".join(filter(None, self.text))


# --- figures -----------------------------------------------------------------------------------------------------


def test_figures_are_sums_over_the_json_outputs(run, tmp_path):
    records = [*run(30), record("photos/bad.jpg", status="failed", error="photos/bad.jpg: the file is empty")]
    found = gather(tmp_path, iter(records))
    documents = [json.loads((tmp_path / f"a/{number:03d}.json").read_text()) for number in range(30)]
    assert (found.pictures, found.described, found.failed, found.model) == (30, 30, 1, "tiny")
    assert found.failures == [("photos/bad.jpg", "photos/bad.jpg: the file is empty")]
    assert found.pixels == 30 * 24 * 32
    assert list(found.labels) == LABELS
    for index, name in enumerate(LABELS):
        having = [one["labels"][index] for one in documents if one["labels"][index]["pixels"]]
        assert found.labels[name].pictures == len(having)
        assert found.labels[name].pixels == sum(label["pixels"] for label in having)
        assert found.labels[name].scores == pytest.approx(sum(label["score"] for label in having))


def test_the_most_and_least_certain_pictures(run, tmp_path):
    found = gather(tmp_path, iter(run(30)))
    certainty = {}
    for number in range(30):
        dog = number % 24 / 24
        certainty[f"photos/a/{number:03d}.jpg"] = dog * (0.2 + number / 100) + (1 - dog) * (0.1 + number / 100)
    order = sorted(certainty, key=certainty.__getitem__)
    assert [entry.source for entry in found.least] == order[:12]
    assert [entry.source for entry in found.most] == order[::-1][:12]
    assert found.least[0].certainty == pytest.approx(certainty[order[0]], abs=1e-5)


@pytest.mark.parametrize(("count", "least", "most"), [(0, 0, 0), (1, 0, 1), (2, 1, 1), (5, 2, 3), (24, 12, 12)])
def test_of_few_pictures_each_is_shown_once(run, tmp_path, count, least, most):
    found = gather(tmp_path, iter(run(count)))
    assert (len(found.least), len(found.most)) == (least, most)
    assert len({entry.source for entry in [*found.least, *found.most]}) == count


def test_a_background_without_a_score_counts_for_nothing(run, tmp_path):
    background = {"labels": ["background", "dog", "nowhere"], "has_background": True, "scores": [np.nan, 0.5, 0.1]}
    found = gather(tmp_path, iter(run(3, **background)))
    assert {entry.source: entry.certainty for entry in [*found.least, *found.most]} == {
        "photos/a/001.jpg": 0.5,
        "photos/a/002.jpg": 0.5,
    }
    assert found.labels["background"].pixels > 0


def test_a_video_counts_with_all_its_frames(tmp_path):
    label = {"index": 0, "name": "sky", "pixels": 300, "fraction": 0.75, "score": 0.5}
    document = {"video": "a.mp4", "width": 10, "height": 10, "frames": 4, "model": "tiny", "labels": [label]}
    (tmp_path / "a.json").write_text(json.dumps(document))
    found = gather(tmp_path, iter([record("a.mp4", ["a.overlay.mp4", "a.json"])]))
    assert (found.pixels, found.labels["sky"].pixels) == (400, 300)
    assert found.most == [Entry("a.mp4", 0.5, (("sky", 0.75),), "a.overlay.mp4")]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '"x"', "{}", '{"labels": 3}', '{"width":1,"height":1,"model":"","labels":[3]}']
)
def test_a_json_output_that_is_damaged_or_of_somebody_else_is_passed_over(run, tmp_path, text):
    records = run(2)
    records[0].outputs.insert(0, "a/000.theirs.json")
    (tmp_path / "a/000.theirs.json").write_text('{"their": "own"}')
    (tmp_path / "a/001.json").write_text(text)
    found = gather(tmp_path, iter(records))
    assert (found.pictures, found.described) == (2, 1)
    write_summary(tmp_path, records)
    assert "1 picture without a JSON output that can be read" in Page(tmp_path / "summary.html").words()


# --- the page ----------------------------------------------------------------------------------------------------


def test_the_page_needs_nothing_else(run, tmp_path):
    records = run(30)
    shown_ones = gather(tmp_path, iter(records))
    files = write_summary(tmp_path, records)
    assert files == [tmp_path / "summary.html", tmp_path / "contact-sheet.png"]
    page = Page(files[0])
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.sources)
    text = files[0].read_text(encoding="utf-8")
    assert not re.search(r"https?://|url\(|@import|<script|<link", text)
    assert '<meta name="viewport"' in text
    assert "@media print" in text
    assert len(page.images) == 24
    for image in page.images:
        with Image.open(io.BytesIO(base64.b64decode(image["src"].partition(",")[2]))) as shown:
            assert shown.size == (int(image["width"]), int(image["height"])) == (32, 24)
    assert [link for link in page.links if link.startswith("a/")] == [
        entry.overlay for entry in [*shown_ones.least, *shown_ones.most]
    ]
    assert all((tmp_path / link).is_file() for link in page.links)


def test_the_table_has_a_row_for_every_label_that_was_found(run, tmp_path):
    write_summary(tmp_path, run(30))
    words = Page(tmp_path / "summary.html").words()
    dog = sum(number % 24 for number in range(30)) / (30 * 24)
    score = np.mean([0.2 + number / 100 for number in range(30) if number % 24])
    assert f"dog 28 (93%) {dog:.1%} {score:.3f}" in words
    assert f"sky 30 (100%) {1 - dog:.1%} 0.245" in words
    assert "Found nowhere: nowhere" in words
    assert "30 pictures segmented 2 of 3 labels found · model tiny" in words
    text = (tmp_path / "summary.html").read_text()
    for red, green, blue in label_colours(3).tolist()[:2]:
        assert f"background:rgb({red},{green},{blue})" in text


def test_names_are_text_never_markup(segmentation, tmp_path):
    evil = '<script>alert("&")</script>'
    source = f"photos/{evil}\ud800 #?.jpg"
    result = segmentation([[0, 1]], [evil, "b"], source=source)
    files = result.save(tmp_path / "x #?%", ["overlay", "json"])
    outputs = [str(file.relative_to(tmp_path)) for file in files]
    bad = record(f"{evil}.jpg", status="failed", error=f"{evil}.jpg: {evil}")
    write_summary(tmp_path, [record(source, outputs), bad])
    text = (tmp_path / "summary.html").read_text(encoding="utf-8")
    assert "<script" not in text
    page = Page(tmp_path / "summary.html")
    assert page.words().count(evil) >= 3
    assert "x%20%23%3F%25.overlay.png" in page.links


def test_failures_are_listed_but_not_without_end(tmp_path):
    records = [record(f"{n}.jpg", status="failed", error=f"{n}.jpg: the file is empty") for n in range(1234)]
    assert write_summary(tmp_path, records) == [tmp_path / "summary.html"]
    words = Page(tmp_path / "summary.html").words()
    assert "0 pictures segmented" in words
    assert "1,234 inputs failed" in words
    assert "199. jpg the file is empty".replace(". ", ".") in words
    assert "200.jpg" not in words
    assert "and 1,034 more, in manifest.jsonl" in words


def test_without_json_the_manifest_is_what_is_known(run, tmp_path):
    records = run(5, ["overlay", "labelmap"])
    write_summary(tmp_path, records)
    page = Page(tmp_path / "summary.html")
    words = page.words()
    assert "No scores: json is not among the outputs." in words
    share = np.mean([number / 24 for number in range(5)])
    assert f"dog 4 (80%) {share:.1%} –" in words
    assert "First pictures" in words
    assert len(page.images) == 5


def test_without_overlays_there_is_no_sheet(run, tmp_path):
    assert write_summary(tmp_path, run(5, ["json"])) == [tmp_path / "summary.html"]
    page = Page(tmp_path / "summary.html")
    assert "No pictures: overlay is not among the outputs." in page.words()
    assert page.images == []
    assert "photos/ a/ 004.jpg" in page.words()


def test_without_either_it_is_still_a_report(run, tmp_path):
    assert write_summary(tmp_path, run(5, ["labelmap"])) == [tmp_path / "summary.html"]
    words = Page(tmp_path / "summary.html").words()
    assert "5 pictures segmented" in words
    assert "First pictures" not in words


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b"no PNG"), lambda path: path.unlink()])
def test_an_overlay_that_cannot_be_read_leaves_its_place_empty(run, tmp_path, damage):
    records = run(4)
    damage(tmp_path / "a/002.overlay.png")
    write_summary(tmp_path, records)
    page = Page(tmp_path / "summary.html")
    assert len(page.images) == 3
    assert page.words().count("no overlay") == 1


def test_the_same_run_gives_the_same_bytes(run, tmp_path):
    records = run(7)
    before = [file.read_bytes() for file in write_summary(tmp_path, records)]
    assert [file.read_bytes() for file in write_summary(tmp_path, records)] == before


def test_memory_does_not_grow_with_the_pictures(tmp_path):
    labels = [{"index": i, "name": f"l{i}", "pixels": i, "fraction": 0.1, "score": 0.1} for i in range(20)]
    document = {"image": "x", "width": 10, "height": 20, "model": "tiny", "labels": labels}
    (tmp_path / "x.json").write_text(json.dumps(document))

    def peak(count):
        tracemalloc.start()
        found = gather(tmp_path, (record(f"{number}.jpg", ["x.json"]) for number in range(count)))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert found.pictures == count
        return most

    peak(10)
    assert peak(600) < peak(100) + 10_000


# --- the sheet ---------------------------------------------------------------------------------------------------


def test_the_sheet_shows_the_overlays_in_rows(run, tmp_path):
    write_summary(tmp_path, run(10))
    with Image.open(tmp_path / "contact-sheet.png") as image:
        sheet = np.asarray(image.convert("RGB"))
    four, eight, nine = (
        draw_sheet([Block("x", [Tile(Entry("s", None, (), None), None)] * count)]).shape for count in (4, 8, 9)
    )
    assert four[1] == eight[1] == sheet.shape[1]
    assert nine[0] - eight[0] == eight[0] - four[0] > 240
    assert COLUMNS == 4
    assert (sheet[0] == 255).all()


def test_a_tile_holds_its_picture_and_its_words():
    small = np.full((100, 320, 3), (200, 30, 60), np.uint8)
    plain, named = (
        draw_sheet([Block("x", [Tile(Entry(name, 0.5, (("dog", 0.4),), "o"), small)])])
        for name in ("", "long/" * 40 + "name.jpg")
    )
    assert (np.abs(plain.astype(int) - (200, 30, 60)).max(axis=2) == 0).sum() == 100 * 320
    difference = np.argwhere((plain != named).any(axis=2))
    assert len(difference)
    assert difference[:, 1].max() < 16 + 320 + 2  # a long name ends with its tile


def test_names_of_any_script_and_bytes_can_be_drawn():
    for name in ("写真/żółw-\udcff.jpg", "ü\nx.jpg", "ü\t\x1b.jpg"):
        entry = Entry(name, -0.25, (("犬", 0.001),), None)
        assert draw_sheet([Block("Least certain", [Tile(entry, None)])]).shape[2] == 3
