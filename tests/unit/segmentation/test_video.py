"""Videos made here by OpenCV, labelled frame by frame: what comes out is what each frame gets alone."""

import json
import re
import struct
import wave
import weakref
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from clippy_core.errors import DataError, ImageError, UsageError
from clippy_core.events import Noticed
from clippy_core.files import TEMPORARY_PREFIX
from clippy_core.prompts import parse_labels
from clippy_core.segmentation.batch.pipeline import Pipeline
from clippy_core.segmentation.batch.run import Job, Work, alone, planned, segment_batch
from clippy_core.segmentation.inputs import VIDEO, Input
from clippy_core.segmentation.options import SegmentOptions
from clippy_core.segmentation.result import Segmentation
from clippy_core.segmentation.video import overlay as video_overlay
from clippy_core.segmentation.video.labelling import is_video, label_video, segment_video
from clippy_core.segmentation.video.overlay import FrameOverlay, VideoFile
from clippy_core.segmentation.video.reading import Frame, VideoReader, quiet_opencv

LABELS = "sky,dog|puppy,grass"
TURNED_RIGHT = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)


def frame(number, width=64, height=48):
    """A picture whose brightness tells its number, with something in it."""
    blocks = np.random.default_rng(number).integers(0, 256, (3, 4, 3), np.uint8)
    pixels = np.full((height, width, 3), 8 * number % 256, np.uint8)
    pixels[: height // 2, : width // 2] = cv2.resize(blocks, (width // 2, height // 2), interpolation=cv2.INTER_NEAREST)
    return pixels


@pytest.fixture
def film(tmp_path):
    """``film("a.mp4", frames=30, fps=10)`` → a video of numbered frames."""

    def make(name, frames=30, fps=10.0, size=(64, 48)):
        path = tmp_path / name
        codec = {".mp4": "mp4v", ".avi": "MJPG", ".mkv": "MJPG"}[path.suffix]
        with quiet_opencv():  # FFmpeg decides once, when it is first used, what it says
            writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), fps, size)
            assert writer.isOpened()
            for number in range(frames):
                writer.write(frame(number, *size)[..., ::-1])
            writer.release()
        return path

    return make


@pytest.fixture
def label(segmenter, tmp_path):
    """``label(path, writers, fps=…)`` → files written below ``out``, by name."""

    def run(path, writers=("overlay", "json"), fps=None, labels=LABELS, sink=lambda event: None, **options):
        chosen = SegmentOptions(size=64, **options)
        job = Job(parse_labels(labels), chosen, "tiny", tmp_path / "out", tuple(writers))
        files = segment_video(segmenter, Input(str(path), Path("clip"), VIDEO), job, fps, sink)
        return [str(file.relative_to(tmp_path / "out")) for file in files]

    return run


def document(tmp_path):
    return json.loads((tmp_path / "out" / "clip.json").read_text(encoding="utf-8"))


def read(path):
    with quiet_opencv():
        capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    frames = []
    while True:
        decoded, pixels = capture.read()
        if not decoded:
            rate = capture.get(cv2.CAP_PROP_FPS)
            capture.release()
            return frames, rate
        frames.append(pixels[..., ::-1])


def written(tmp_path):
    return {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}


# --- which files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        *((f"a.{suffix}", True) for suffix in ("mp4", "MOV", "avi", "mkv", "webm", "m4v", "mpeg", "wmv", "3gp", "ts")),
        *((name, False) for name in ("a.gif", "a.jpg", "a.txt", "mp4", "a.mp4.json", "", "a.tar", "-", "a.mp3")),
    ],
)
def test_a_video_is_known_by_its_name(name, answer):
    assert is_video(name) is answer
    assert is_video(Path(name)) is answer


# --- frames ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "a.mkv"])
@pytest.mark.parametrize(
    ("fps", "expected"),
    [
        (None, range(30)),
        (10.0, range(30)),
        (50.0, range(30)),
        (5.0, range(0, 30, 2)),
        (2.0, range(0, 30, 5)),
        (4.0, [0, 3, 5, 8, 10, 13, 15, 18, 20, 23, 25, 28]),
        (0.1, [0]),
    ],
)
def test_frames_are_taken_at_even_times(film, name, fps, expected):
    with VideoReader(str(film(name)), max_pixels=10_000) as video:
        frames = list(video.frames(fps))
        assert (video.rate, video.expected) == (10.0, 30)
    assert [one.number for one in frames] == list(expected)
    assert [one.seconds for one in frames] == pytest.approx([number / 10 for number in expected], abs=0.002)
    for one in frames:
        assert one.pixels_HW3.shape == (48, 64, 3)
        assert np.median(one.pixels_HW3[30:, 40:]) == pytest.approx(8 * one.number % 256, abs=4)


def test_colours_are_rgb(tmp_path):
    with quiet_opencv():
        writer = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MJPG"), 5, (32, 32))
        writer.write(np.full((32, 32, 3), (0, 0, 255), np.uint8))  # red, in OpenCV's order
        writer.release()
    with VideoReader(str(tmp_path / "a.avi"), max_pixels=10_000) as video:
        (one,) = video.frames()
    red, green, blue = one.pixels_HW3.reshape(-1, 3).mean(axis=0)
    assert red > 240 > 20 > max(green, blue)


def test_a_video_that_says_it_lies_on_its_side_is_turned(film, label, tmp_path):
    path = film("a.mp4", frames=3)
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    assert struct.unpack(">9i", data[matrix : matrix + 36]) == (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    data[matrix : matrix + 36] = TURNED_RIGHT
    path.write_bytes(data)
    with VideoReader(str(path), max_pixels=10_000) as video:
        turned = next(iter(video.frames())).pixels_HW3
    assert turned.shape == (64, 48, 3)
    assert np.abs(np.rot90(turned).astype(int) - frame(0)).mean() < 12
    label(path, ["json", "labelmap"])
    assert (document(tmp_path)["width"], document(tmp_path)["height"]) == (48, 64)
    with Image.open(tmp_path / "out/clip/frame-000000.labels.png") as image:
        assert image.size == (48, 64)


def boxes(data, start, end):
    """Name, first byte and size of every box of an MP4 file that matters here."""
    while start < end:
        (size,) = struct.unpack(">I", data[start : start + 4])
        name = bytes(data[start + 4 : start + 8])
        yield name, start
        if name in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
            yield from boxes(data, start + 8, start + size)
        start += size


def with_slow_second_half(data):
    """30 frames at 10 a second as 15 of them and 15 that last three times as long."""
    data, place = bytearray(data), dict(boxes(data, 0, len(data)))
    data[place[b"edts"] + 4 : place[b"edts"] + 8] = b"free"
    data[place[b"mdhd"] + 24 : place[b"mdhd"] + 28] = struct.pack(">I", 15 * 1024 * 4)
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stts"):
        (size,) = struct.unpack(">I", data[place[name] : place[name] + 4])
        data[place[name] : place[name] + 4] = struct.pack(">I", size + 8)
    times = place[b"stts"] + 12
    assert struct.unpack(">3I", data[times : times + 12]) == (1, 30, 1024)
    data[times : times + 12] = struct.pack(">5I", 2, 15, 1024, 15, 3072)
    return data


def test_of_a_varying_rate_the_times_count(film, label, tmp_path):
    path = film("a.mp4")
    path.write_bytes(with_slow_second_half(path.read_bytes()))
    times = [*(number / 10 for number in range(16)), *(1.5 + 0.3 * number for number in range(1, 15))]
    label(path, ["json", "overlay"])
    found = document(tmp_path)
    assert [moment["seconds"] for moment in found["timeline"]] == pytest.approx(times, abs=0.002)
    frames, rate = read(tmp_path / "out/clip.overlay.mp4")
    assert len(frames) / rate == pytest.approx(times[-1], abs=0.5)
    label(path, ["json"], fps=2.0)
    assert [moment["seconds"] for moment in document(tmp_path)["timeline"]] == pytest.approx(
        [0, 0.5, 1, 1.5, 2.1, 2.7, 3, 3.6, 4.2, 4.5, 5.1, 5.7], abs=0.002
    )


# --- outputs -----------------------------------------------------------------------------------------------------


def test_every_frame_gets_what_it_gets_alone(film, label, segmenter, tmp_path):
    path = film("a.mp4", frames=7)
    files = label(path, ["labelmap", "masks"])
    assert written(tmp_path) == set(files)
    assert [name for name in files if name.endswith(".labels.png")] == [
        f"clip/frame-{number:06d}.labels.png" for number in range(7)
    ]
    with VideoReader(str(path), max_pixels=10_000) as video:
        for one in video.frames():
            alone = segmenter.segment(one.pixels_HW3, parse_labels(LABELS), size=64)
            with Image.open(tmp_path / f"out/clip/frame-{one.number:06d}.labels.png") as image:
                np.testing.assert_array_equal(np.asarray(image), alone.label_map)


def test_the_document_adds_up_the_frames(film, label, tmp_path):
    files = label(film("a.mp4"), ["json", "labelmap"], fps=2.0)
    found = document(tmp_path)
    assert files[0] == "clip.json"
    assert (found["width"], found["height"], found["model"]) == (64, 48, "tiny")
    assert (found["frames"], found["fps"], found["until"], found["complete"]) == (6, 2.0, 2.5, True)
    maps = {}
    for number in range(0, 30, 5):
        with Image.open(tmp_path / f"out/clip/frame-{number:06d}.labels.png") as image:
            maps[number] = np.asarray(image)
    counts = np.array([np.bincount(label_map.ravel(), minlength=3) for label_map in maps.values()])
    assert [entry["pixels"] for entry in found["labels"]] == counts.sum(axis=0).tolist()
    assert [entry["fraction"] for entry in found["labels"]] == pytest.approx(
        counts.sum(axis=0) / counts.sum(), abs=1e-6
    )
    assert [entry["name"] for entry in found["labels"]] == ["sky", "dog", "grass"]
    assert [(moment["frame"], moment["seconds"]) for moment in found["timeline"]] == [(n, n / 10) for n in maps]
    for moment, row in zip(found["timeline"], counts / (64 * 48), strict=True):
        shares = {name: share for name, share in zip(["sky", "dog", "grass"], row, strict=True) if share}
        assert moment["shares"] == pytest.approx(shares, abs=1e-6)


def test_the_shares_are_known_without_a_document(film, segmenter, tmp_path):
    job = Job(parse_labels(LABELS), SegmentOptions(size=64), "tiny", tmp_path / "out", ("overlay", "json"))
    item = Input(str(film("a.mp4", frames=3)), Path("clip"), VIDEO)
    labelled = label_video(segmenter, item, job)
    assert [str(path.relative_to(job.out)) for path in labelled.files] == planned(item, job)
    shares = {label["name"]: label["fraction"] for label in document(tmp_path)["labels"] if label["pixels"]}
    assert labelled.shares == shares
    assert sum(shares.values()) == pytest.approx(1, abs=1e-5)
    assert label_video(segmenter, item, replace(job, writers=("labelmap",))).shares == shares


def test_what_is_noted_of_a_frame_is_said_once(film, label, tmp_path, monkeypatch):
    monkeypatch.setattr("clippy_core.segmentation.refine.MOST_CANDIDATES", 1)
    heard = []
    label(film("a.mp4", frames=4), ["json"], sink=heard.append, refine="guided")
    (note,) = document(tmp_path)["notes"]
    assert re.fullmatch(r"frame-00000\d, and perhaps later ones: borders were not refined: \d labels were .*", note)
    assert [event.text for event in heard] == [f"{tmp_path}/a.mp4: {note}"]


def test_the_scores_of_a_label_are_its_best_of_any_frame(film, label, segmenter, tmp_path):
    path = film("a.avi", frames=4)
    label(path, ["json"])
    with VideoReader(str(path), max_pixels=10_000) as video:
        each = [segmenter.segment(one.pixels_HW3, LABELS, size=64).scores for one in video.frames()]
    expected = np.max(each, axis=0)
    assert [entry["score"] for entry in document(tmp_path)["labels"]] == pytest.approx(expected, abs=1e-5)


def test_a_background_by_certainty_has_no_score_in_a_video_either(film, label, tmp_path):
    label(film("a.mp4", frames=3), ["json"], background="margin=0.01")
    assert [entry["score"] is None for entry in document(tmp_path)["labels"]][:2] == [True, False]


def test_the_overlay_is_a_video_of_the_same_length_and_rate(film, label, tmp_path):
    assert label(film("a.mp4"), ["overlay"]) == ["clip.overlay.mp4"]
    frames, rate = read(tmp_path / "out/clip.overlay.mp4")
    assert (len(frames), rate) == (30, 10.0)
    assert frames[0].shape == (48, 64, 3)
    assert written(tmp_path) == {"clip.overlay.mp4"}


def test_a_sampled_overlay_has_the_sampled_rate(film, label, tmp_path):
    label(film("a.mp4"), ["overlay"], fps=2.0)
    frames, rate = read(tmp_path / "out/clip.overlay.mp4")
    assert (len(frames), rate) == (6, 2.0)


def test_a_rate_above_the_videos_own_takes_every_frame_once(film, label, tmp_path):
    label(film("a.mp4"), ["overlay"], fps=25.0)
    frames, rate = read(tmp_path / "out/clip.overlay.mp4")
    assert (len(frames), rate) == (30, 10.0)


def test_the_same_video_gives_the_same_bytes(film, label, tmp_path):
    path = film("a.mp4", frames=5)
    label(path, ["overlay", "json", "labelmap", "coco", "csv"])
    before = {name: (tmp_path / "out" / name).read_bytes() for name in written(tmp_path)}
    label(path, ["overlay", "json", "labelmap", "coco", "csv"])
    assert {name: (tmp_path / "out" / name).read_bytes() for name in written(tmp_path)} == before


def test_an_odd_size_is_said_to_be_cut(film, label, tmp_path, monkeypatch):
    """OpenCV reads odd sizes, but writes none."""
    odd = [Frame(number, number / 10, frame(number, 51, 37)) for number in range(2)]
    monkeypatch.setattr(VideoReader, "frames", lambda self, fps: iter(odd))
    heard = []
    label(film("a.avi", frames=2), ["overlay", "labelmap", "json"], sink=heard.append)
    assert [type(event) for event in heard] == [Noticed]
    assert "lacks the last row or column" in heard[0].text
    frames, _ = read(tmp_path / "out/clip.overlay.mp4")
    assert frames[0].shape == (36, 50, 3)
    found = document(tmp_path)
    assert len(found["notes"]) == 1
    with Image.open(tmp_path / "out/clip/frame-000001.labels.png") as image:
        assert image.size == (found["width"], found["height"])


def test_the_words_are_embedded_once(film, label, segmenter, monkeypatch):
    calls = []
    embed = segmenter.embed_words
    monkeypatch.setattr(segmenter, "embed_words", lambda *given: calls.append(given) or embed(*given))
    label(film("a.mp4", frames=5), ["json"])
    assert len(calls) == 1


def test_frames_do_not_pile_up(film, label, segmenter, monkeypatch):
    given, alive = [], []
    segment = segmenter.segment

    def watch(picture, *arguments, **options):
        given.append(weakref.ref(picture))
        alive.append(sum(picture() is not None for picture in given))
        return segment(picture, *arguments, **options)

    monkeypatch.setattr(segmenter, "segment", watch)
    label(film("a.mp4"), ["overlay", "json", "labelmap"])
    assert len(given) == 30
    assert max(alive) <= 3


# --- what goes wrong ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [0.5, 0.9])
def test_a_video_that_breaks_off_keeps_what_came_before(film, label, tmp_path, cut):
    path = film("a.mkv")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * cut)])
    with pytest.raises(DataError) as raised:
        label(path, ["overlay", "json", "labelmap"])
    found = document(tmp_path)
    frames = len(found["timeline"])
    assert 0.4 < frames / 30 < 0.95
    assert found["complete"] is False
    assert f"breaks off after {frames} of about 30 frames ({(frames - 1) / 10:.1f} of 3.0 s)" in str(raised.value)
    assert len(read(tmp_path / "out/clip.overlay.mp4")[0]) == frames
    assert len(list((tmp_path / "out/clip").glob("*.labels.png"))) == frames
    assert not list(tmp_path.rglob(".clippy-tmp-*"))


def test_what_a_broken_video_left_is_known_to_the_next_run(film, segmenter, tmp_path):
    path, out = film("a.mkv"), tmp_path / "out"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    item = Input(str(path), Path("clip"), VIDEO)
    job = Job(parse_labels(LABELS), SegmentOptions(size=64), "tiny", out, ("labelmap", "json"))
    (record,) = segment_batch([item], job, alone(lambda: segmenter))
    written = sorted(str(file.relative_to(out)) for file in out.rglob("*.*") if file.name != "manifest.jsonl")
    assert (record.status, record.outputs, sorted(record.left)) == ("failed", [], written)
    (record,) = segment_batch([item], job, alone(lambda: segmenter))
    assert sorted(record.left) == written, "again, and each of them once"
    path.write_bytes(whole)
    (record,) = segment_batch([item], replace(job, fps=2), alone(lambda: segmenter))
    frames = [f"clip/frame-{number:06d}.labels.png" for number in range(0, 30, 5)]
    assert (record.status, sorted(record.outputs)) == ("ok", ["clip.json", *frames])
    assert sorted(path.name for path in (out / "clip").iterdir()) == [Path(frame).name for frame in frames]


def test_frames_of_a_video_whose_last_ones_cannot_be_written_are_known(film, segmenter, tmp_path, monkeypatch):
    def save(result, stem, writers):
        if stem.name == "frame-000003":
            raise OSError(28, "No space left on device", str(stem))
        return real(result, stem, writers)

    real = Segmentation.save
    monkeypatch.setattr(Segmentation, "save", save)
    job = Job(parse_labels(LABELS), SegmentOptions(size=64), "tiny", tmp_path / "out", ("labelmap", "overlay"))
    labelled = label_video(segmenter, Input(str(film("a.mkv")), Path("clip"), VIDEO), job)
    assert [file.name for file in labelled.files] == [f"frame-{number:06d}.labels.png" for number in range(3)]
    assert "No space left" in str(labelled.error)
    assert not list(tmp_path.rglob("*.mp4"))


def test_a_document_of_somebody_else_stops_a_video_before_its_first_frame(film, label, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/clip.json").write_text('{"notes": "mine"}')
    with pytest.raises(DataError, match=r"clip\.json: is there already, and not by clippy"):
        label(film("a.mp4", frames=3), ["labelmap", "overlay", "json"])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["clip.json"]


def test_what_a_killed_run_left_in_the_folders_of_frames_is_removed(film, segmenter, tmp_path):
    job = Job(parse_labels(LABELS), SegmentOptions(size=64), "tiny", tmp_path / "out", ("labelmap", "coco"))
    item = Input(str(film("a.mkv", frames=2)), Path("clip"), VIDEO)
    for folder in ("clip", "clip/.clippy/coco"):
        (tmp_path / "out" / folder).mkdir(parents=True)
        (tmp_path / "out" / folder / f"{TEMPORARY_PREFIX}x").write_bytes(b"half")
    segment_batch([item], job, alone(lambda: segmenter))
    assert not list(tmp_path.rglob(f"{TEMPORARY_PREFIX}*"))


def test_damage_in_the_middle_is_a_video_that_breaks_off(film, label, tmp_path):
    path = film("a.avi")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = np.random.default_rng(0).bytes(3000)
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"a\.avi: breaks off after \d+ of about 30 frames"):
        label(path, ["json"])
    assert document(tmp_path)["frames"] > 5


def sound(path):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(16_000))


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda path: path.write_bytes(b""), "the file is empty"),
        (lambda path: path.write_bytes(b"<html>not found</html>" * 100), "not a video that OpenCV can read"),
        (lambda path: path.write_bytes(np.random.default_rng(0).bytes(5000)), "not a video that OpenCV can read"),
        (sound, "sound alone is no video"),
        (lambda path: path.mkdir(), "not a regular file"),
        (lambda path: None, "no such file"),
        (lambda path: path.symlink_to(path), "no such file|cannot be read|not a regular file"),
    ],
)
@pytest.mark.parametrize("name", ["a.mp4", "a.avi"])
def test_what_is_no_video_is_one_line_and_leaves_nothing(label, tmp_path, capfd, name, make, expected):
    make(tmp_path / name)
    with pytest.raises(DataError, match=expected) as raised:
        label(tmp_path / name)
    assert str(raised.value).startswith(str(tmp_path / name))
    assert len(str(raised.value).splitlines()) == 1
    assert not (tmp_path / "out").exists() or not written(tmp_path)
    assert capfd.readouterr() == ("", "")


def test_a_video_without_a_frame_is_one_line(film, label, capfd):
    with pytest.raises(DataError, match=r"a\.avi: (no frame|not a video)"):
        label(film("a.avi", frames=0))
    assert capfd.readouterr().out == ""


def test_a_cut_mp4_has_no_index_and_is_no_video(film, label, capfd):
    path = film("a.mp4")
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(DataError, match=r"a\.mp4: not a video that OpenCV can read, or damaged"):
        label(path)
    assert capfd.readouterr().err == ""


def test_a_name_that_is_no_utf8_does_not_end_the_process(tmp_path, label):
    """OpenCV 5.0 crashes on such a name."""
    with pytest.raises(DataError, match=r"'.*\\udcff\.mp4': OpenCV opens only videos whose names are UTF-8"):
        label(str(tmp_path / "a\udcff.mp4"))


def test_frames_beyond_the_limit_are_refused(film, label):
    with pytest.raises(ImageError, match=r"64×48 is 3,072 pixels a frame; the limit is 3,000 \(--max-pixels\)"):
        label(film("a.mp4"), max_pixels=3000)


@pytest.mark.parametrize("fps", [0, -1.0, 1001, float("nan"), float("inf")])
def test_an_impossible_rate_is_a_usage_error(film, label, fps):
    with pytest.raises(UsageError, match=r"--fps is .*; accepted: above 0 and up to 1000 frames a second"):
        label(film("a.mp4"), fps=fps)


def test_a_failure_while_writing_leaves_no_half_of_a_file(film, label, tmp_path, monkeypatch):
    def full(self, path, writers):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("clippy_core.segmentation.result.Segmentation.save", full)
    with pytest.raises(OSError, match="No space left"):
        label(film("a.mp4"), ["overlay", "json", "labelmap"])
    assert written(tmp_path) == set()


def test_a_run_that_is_told_to_stop_does_not_wait_for_the_end_of_a_video(film, segmenter, tmp_path):
    job = Job(parse_labels(LABELS), SegmentOptions(size=64), "tiny", tmp_path / "out", ("overlay", "json", "labelmap"))
    items = [Input(str(film(f"{name}.mp4")), Path(name), VIDEO) for name in "ab"]
    asked, records = [], []

    def done(record):
        records.append(record)
        return True

    def after_forty_frames():
        asked.append(None)
        return len(asked) > 40

    Pipeline(segmenter, Work(items, job, 2, done), stopped=after_forty_frames).run()
    assert [Path(record.input).name for record in records] == ["a.mp4"]
    assert len(asked) < 50
    outputs = {name for name in written(tmp_path) if not name.startswith("b/")}
    assert outputs == set(records[0].outputs)
    Pipeline(segmenter, Work(items[1:], job, 2, done)).run()
    assert records[1].status == "ok"
    assert written(tmp_path) == {name for record in records for name in record.outputs}


def test_leftovers_of_a_killed_run_go(film, label, tmp_path):
    (tmp_path / "out/clip").mkdir(parents=True)
    (tmp_path / "out/clip/.clippy-tmp-aaaa").write_bytes(b"half")
    label(film("a.mp4", frames=2), ["labelmap"])
    assert not list(tmp_path.rglob(".clippy-tmp-*"))


# --- the overlay's file and its legend ---------------------------------------------------------------------------


def test_late_frames_are_preceded_by_repetitions_and_early_ones_left_out(tmp_path):
    video = VideoFile(tmp_path / "clip", 10.0)
    times = [5.0, 5.1, 5.12, 5.5, 5.6]
    for number, seconds in enumerate(times):
        if video.wants(seconds):
            video.write(np.full((32, 32, 3), 50 * number, np.uint8), seconds)
    (path,) = video.finish()
    frames, _ = read(path)
    assert [round(one.mean() / 50) for one in frames] == [0, 1, 1, 1, 1, 3, 4]


def test_a_leap_in_time_does_not_fill_the_disk(tmp_path):
    video = VideoFile(tmp_path / "clip", 10.0)
    for seconds in (0.0, 1e6):
        video.write(np.zeros((32, 32, 3), np.uint8), seconds)
    (path,) = video.finish()
    assert len(read(path)[0]) == 102


def test_no_frame_is_no_file(tmp_path):
    assert VideoFile(tmp_path / "clip", 10.0).finish() == []
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_on_the_disk_is_an_error(tmp_path):
    video = VideoFile(tmp_path / "clip", 10.0)
    video.write(np.zeros((32, 32, 3), np.uint8), 0.0)
    video._count += 5
    with pytest.raises(OSError, match=r"clip\.overlay\.mp4: cannot be written whole; is the disk full"):
        video.finish()
    video.discard()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("codecs", [((".avi", "MJPG"),), ((".mp4", "none"), (".avi", "MJPG"))])
def test_without_the_first_codec_the_next_one_is_taken(film, label, tmp_path, monkeypatch, capfd, codecs):
    monkeypatch.setattr(video_overlay, "CODECS", codecs)
    assert label(film("a.mp4", frames=3), ["overlay"]) == ["clip.overlay.avi"]
    assert len(read(tmp_path / "out/clip.overlay.avi")[0]) == 3


def test_without_any_codec_it_is_one_line(film, label, tmp_path, monkeypatch):
    monkeypatch.setattr(video_overlay, "CODECS", ((".mp4", "none"),))
    with pytest.raises(DataError, match=r"no video can be written here \(tried none\); leave overlay out of --save"):
        label(film("a.mp4", frames=3), ["overlay", "json"])
    assert written(tmp_path) == set()


def test_the_legend_stays_where_it_is(segmentation):
    """Whatever the frame holds: same place, same rows, same colours."""
    overlay = FrameOverlay()
    first = overlay.draw(segmentation(np.zeros((240, 320), np.uint8), ["sky", "dog", "grass"]))
    other = overlay.draw(segmentation(np.full((240, 320), 2, np.uint8), ["sky", "dog", "grass"]))
    panel = np.s_[10:40, 10:20]  # swatches lie here
    assert (first[200:, 200:] != other[200:, 200:]).any()
    names = np.abs(first[panel].astype(int) - other[panel])
    assert names.mean() < 20
    for colour in segmentation([[0, 1, 2]]).colours:
        for drawn in (first, other):
            assert (np.abs(drawn[5:60, 5:60].astype(int) - colour).max(axis=2) <= 2).any()


def test_of_many_labels_the_legend_names_those_of_the_frame(segmentation):
    labels = [f"label {index}" for index in range(40)]
    result = segmentation(np.repeat(np.arange(30, 34, dtype=np.uint8), 60)[None].repeat(240, axis=0), labels)
    assert [row.name for row in video_overlay._legend(result)] == ["label 30", "label 31", "label 32", "label 33"]


@pytest.mark.parametrize("shape", [(1, 1), (8, 300), (300, 8), (30, 30)])
def test_a_frame_too_small_for_a_legend_is_drawn_without(segmentation, shape):
    result = segmentation(np.zeros(shape, np.uint8), ["a long name for a small picture", "dog"])
    drawn = FrameOverlay().draw(result)
    assert drawn.shape == (*shape, 3)
