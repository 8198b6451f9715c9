"""No two inputs of a run write one file, whatever they are called."""

from pathlib import Path

import pytest

from clippy_core.segmentation.stems import Stems

DEFAULT = ("overlay", "labelmap", "json")


def stems(names, writers=DEFAULT):
    """The stem of each name, a name with ``.mp4`` being a video."""
    paths = [Path(name) for name in names]
    dealt = Stems(paths, writers)
    return [dealt.take(path, video=path.suffix == ".mp4").as_posix() for path in paths]


@pytest.mark.parametrize(
    ("names", "writers", "expected"),
    [
        pytest.param(["a.jpg", "a.labelme.jpg"], ("json", "labelme"), ["a.jpg", "a.labelme.jpg"], id="labelme"),
        pytest.param(["a.labelme.jpg", "a.jpg"], ("json", "labelme"), ["a.labelme.jpg", "a.jpg"], id="the other first"),
        pytest.param(["a.jpg", "a.labelme.jpg"], ("labelmap", "json"), ["a", "a.labelme"], id="without labelme"),
        pytest.param(["a.jpg", "a.labelme.jpg"], ("labelmap", "labelme"), ["a", "a.labelme"], id="without json"),
        pytest.param(["x/a.jpg", "y/a.labelme.jpg"], ("json", "labelme"), ["x/a", "y/a.labelme"], id="two folders"),
        pytest.param([".labelme.jpg", "b.jpg"], ("json", "labelme"), [".labelme", "b"], id="nothing before the dot"),
        pytest.param(
            ["a.jpg", "a.png", "a.jpg.labelme.png"],
            ("json", "labelme"),
            ["a.jpg", "a.png", "a.jpg.labelme-2"],
            id="a kept suffix makes another meeting",
        ),
        pytest.param(["coco.jpg", "x/coco.jpg"], ("json", "coco"), ["coco.jpg", "x/coco"], id="named as the data set"),
        pytest.param(["coco.jpg"], DEFAULT, ["coco"], id="no data set"),
        pytest.param(["coco.jpg", "summary.jpg"], ("labelmap", "coco", "csv"), ["coco", "summary"], id="other endings"),
        pytest.param(["v.mp4", "v/frame-000000.jpg"], DEFAULT, ["v.mp4", "v/frame-000000"], id="a video's frames"),
        pytest.param(["v/frame-000000.jpg", "v.mp4"], DEFAULT, ["v/frame-000000", "v.mp4"], id="frames, the other way"),
        pytest.param(["v.mp4", "v/cover.jpg"], DEFAULT, ["v", "v/cover"], id="no frame"),
        pytest.param(["v.mp4", "v/frame-000000.jpg"], ("overlay", "json"), ["v", "v/frame-000000"], id="one video out"),
        pytest.param(
            ["v.mp4", "v/frame-1.jpg", "v.mp4/frame-1.jpg"],
            DEFAULT,
            ["v.mp4-2", "v/frame-1", "v.mp4/frame-1"],
            id="a folder called like the video",
        ),
        pytest.param(
            [".clippy-tmp-x.jpg", ".clippy/coco/b.jpg", "_.clippy-tmp-x.jpg"],
            DEFAULT,
            ["_.clippy-tmp-x.jpg", "_.clippy/coco/b", "_.clippy-tmp-x.jpg-2"],
            id="names of our own",
        ),
        pytest.param(["b.jpg", "b.json/d.jpg"], DEFAULT, ["b.jpg", "b.json/d"], id="a folder called like an output"),
        pytest.param(["b.json/d.jpg", "b.jpg"], ("labelmap",), ["b.json/d", "b"], id="like no output of this run"),
        pytest.param(["x/b.labels.png/c/d.jpg", "x/b.jpg"], DEFAULT, ["x/b.labels.png/c/d", "x/b.jpg"], id="deeper"),
        pytest.param(
            ["b.jpg", "b.json/d.jpg", "b.jpg.json/d.jpg"],
            DEFAULT,
            ["b.jpg-2", "b.json/d", "b.jpg.json/d"],
            id="and called like an output with the suffix",
        ),
        pytest.param(
            ["manifest.jsonl/a.jpg", "coco.json/a.jpg", "x/coco.json/a.jpg"],
            DEFAULT,
            ["_manifest.jsonl/a", "_coco.json/a", "x/coco.json/a"],
            id="a folder called like a file of the run",
        ),
        pytest.param(["manifest.jsonl.mp4"], DEFAULT, ["manifest.jsonl.mp4"], id="a video called like one"),
        pytest.param(["manifest.jsonl.jpg"], DEFAULT, ["manifest.jsonl"], id="a picture called like one"),
        pytest.param(["photo.2024.01.jpg", "photo.2024.jpg"], DEFAULT, ["photo.2024.01", "photo.2024"], id="dots"),
    ],
)
def test_a_suffix_is_kept_where_two_files_would_be_one(names, writers, expected):
    assert stems(names, writers) == expected


@pytest.mark.parametrize(
    ("names", "kept", "writers", "expected"),
    [
        pytest.param(["a.jpg", "a.labels.png"], None, DEFAULT, ["a.jpg", "a.labels"], id="a label map"),
        pytest.param(["a.jpg", "a.labels.png"], None, ("json",), ["a", "a.labels"], id="that is not written"),
        pytest.param(["a.jpg"], ["a.json", "a.jpg.json"], DEFAULT, ["a.jpg-2"], id="twice"),
        pytest.param(["a.jpg", "a.mask.1.png"], None, ("masks",), ["a.jpg", "a.mask.1"], id="a mask"),
        pytest.param(["v.mp4", "v.overlay.mp4"], None, DEFAULT, ["v.mp4", "v.overlay"], id="a video's overlay"),
        pytest.param(["v.mp4", "x.jpg"], ["x.jpg", "v/frame-0.jpg"], DEFAULT, ["v.mp4", "x"], id="a frame"),
        pytest.param(["a.jpg", "b/a.labels.png"], None, DEFAULT, ["a", "b/a.labels"], id="elsewhere"),
    ],
)
def test_no_input_is_written_over(names, kept, writers, expected):
    paths = [Path(name) for name in names]
    dealt = Stems(paths, writers, names if kept is None else kept)
    assert [dealt.take(path, video=path.suffix == ".mp4").as_posix() for path in paths] == expected
