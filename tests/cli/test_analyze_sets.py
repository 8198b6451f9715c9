"""``clippy analyze backgrounds``, ``embed`` and ``labels``, in this process and as a process."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from clippy_cli.analysing import column_widths
from clippy_cli.commands.analyze_sets import read_clusters
from clippy_core.errors import UsageError

FEW = ["--prompts", "own,word,paper"]


@pytest.fixture
def cutouts(draw, tmp_path):
    """A red and a green disc, and two meadows of different light; small, so that the bundled model is quick."""
    for name, colour in (("tomato", (220, 30, 20)), ("apple", (90, 190, 40))):
        across = np.hypot(*np.mgrid[-1:1:40j, -1:1:40j])
        rgba = np.zeros((40, 40, 4), np.uint8)
        rgba[..., :3], rgba[..., 3] = colour, 255 * (across < 0.9)
        path = tmp_path / "set/subjects" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rgba).save(path)
    draw(tmp_path / "set/backgrounds/meadow.png")
    Image.new("RGB", (64, 48), (90, 90, 95)).save(tmp_path / "set/backgrounds/road.png")
    return tmp_path / "set"


@pytest.fixture
def folder(draw, tmp_path):
    """Three meadows, one of them twice."""
    for number, size in ((0, (120, 80)), (2, (80, 120))):
        draw(tmp_path / "in" / f"{number}.png", size)
    Image.open(tmp_path / "in/0.png").resize((240, 160)).save(tmp_path / "in/1.png")
    return tmp_path / "in"


def files_in(out):
    return {path.name for path in out.iterdir()}


def test_backgrounds(clippy, cutouts, tmp_path):
    done = clippy("analyze", "backgrounds", cutouts, "--size", 64, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    assert "tomato" in done.out
    assert "worst background" in done.out
    pictures = {f"backgrounds.{name}.png" for name in ("groups", "push", "matrix", "worst")}
    assert files_in(tmp_path / "out") == pictures | {"report.html", "backgrounds.json"}


def test_backgrounds_as_json(clippy, cutouts, tmp_path):
    arguments = ["--size", 64, "--json", "--scale", 0.4, "--labels", "tomato,apple|green apple,car"]
    done = clippy("analyze", "backgrounds", cutouts, *arguments, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    document = json.loads(done.out)
    assert document == json.loads((tmp_path / "out/backgrounds.json").read_text())
    assert document["settings"]["scale"] == 0.4
    probability_SG = np.array(document["numbers"]["probability"])
    change_SG = np.array(document["numbers"]["change"])
    np.testing.assert_allclose(change_SG, probability_SG - probability_SG.mean(1, keepdims=True), atol=1e-5)
    assert set(document["numbers"]["added to labels"]["road"]) == {"tomato", "apple", "car"}


def test_backgrounds_goes_on_without_a_bad_picture(clippy, cutouts, tmp_path):
    (cutouts / "subjects/plum.png").write_bytes(b"torn")
    done = clippy("analyze", "backgrounds", cutouts, "--size", 64, "--out", tmp_path / "out")
    assert done.code == 3
    assert done.err.count("left out: ") == 1
    assert "plum.png" in done.err


def test_embed(clippy, folder, tmp_path):
    done = clippy(
        "analyze", "embed", folder, "--labels", "grass,sky|cloud,car", "--size", 64, "--out", tmp_path / "out"
    )
    assert done.code == 0, done.err
    assert "nearest to so many pictures" in done.out
    pictures = {f"embed.{name}.png" for name in ("map", "labels", "neighbours", "duplicates", "clusters")}
    assert files_in(tmp_path / "out") == pictures | {"report.html", "embed.json", "embed.csv"}
    document = json.loads((tmp_path / "out/embed.json").read_text())
    assert set(document["files"]) == files_in(tmp_path / "out")
    with open(tmp_path / "out/embed.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["picture"] for row in rows] == [str(folder / f"{number}.png") for number in range(3)]
    assert [row["copy_of"] for row in rows][:2] == ["", rows[0]["picture"]]


def test_embed_agrees_with_the_model(clippy, folder, tmp_path):
    """The cosines in the report are those of the model's own towers."""
    import torch

    from clippy_core.images import read_picture
    from clippy_core.model.preprocess import to_input, working_size
    from clippy_core.segmentation.segmenter import load

    arguments = ["--labels", "grass,car", "--size", 96, "--device", "cpu", "--json"]
    done = clippy("analyze", "embed", folder, *arguments, "--out", tmp_path / "out")
    numbers = json.loads(done.out)["numbers"]
    segmenter = load("clippy-lite", device="cpu", runtime="torch")
    for picture in numbers["pictures"]:
        pixels_HW3 = read_picture(picture["picture"]).pixels_HW3
        size = working_size(pixels_HW3.shape[:2], 96, segmenter.model.vision.stride)
        with torch.inference_mode():
            pixels = torch.from_numpy(to_input(pixels_HW3, size, segmenter.config.vision))[None]
            pooled_D = segmenter.model.encode_image(pixels).pooled_BD[0]
            words_KD = segmenter.embed_words(["grass", "car"], segmenter.config.templates)
        expected = dict(zip(("grass", "car"), (words_KD @ pooled_D).tolist(), strict=True))
        assert {row["label"]: row["cosine"] for row in picture["labels"]} == pytest.approx(expected, abs=2e-5)


def test_embed_goes_on_without_a_bad_picture(clippy, folder, tmp_path):
    (folder / "torn.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    done = clippy(
        "analyze", "embed", folder, "-l", "grass", "--size", 64, "--projection", "pca", "--out", tmp_path / "out"
    )
    assert done.code == 3
    assert done.err.count("left out: ") == 1


def test_labels(clippy, tmp_path):
    done = clippy("analyze", "labels", "dog|puppy|wolf,fox|wolf dog,grass", *FEW, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    assert "confusable" in done.out
    assert files_in(tmp_path / "out") == {"labels.cosines.png", "labels.prompts.png", "report.html", "labels.json"}
    numbers = json.loads((tmp_path / "out/labels.json").read_text())["numbers"]
    assert {(row["word"], row["rival"]) for row in numbers["collisions"]} >= {("wolf", "wolf dog")}


def test_labels_from_a_file_with_a_template(clippy, tmp_path):
    (tmp_path / "labels.txt").write_text("red car|vehicle\nblue sky\n", encoding="utf-8")
    arguments = ["--labels-file", tmp_path / "labels.txt", "--template", "my {}", "--json", *FEW]
    done = clippy("analyze", "labels", *arguments, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    document = json.loads(done.out)
    assert document["settings"]["templates"] == ["my {}"]
    assert [row["name"] for row in document["numbers"]["prompts"]] == ["yours", "own", "word", "paper"]
    assert np.array(document["numbers"]["cosines"]).shape == (2, 2)


def test_labels_with_nothing_to_say_says_so(clippy, tmp_path):
    done = clippy("analyze", "labels", "dog", *FEW, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    assert "Labels are apart" in done.out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["backgrounds", "missing"], 4, "missing: no such folder"),
        (["backgrounds", "empty"], 4, "no subjects folder and no metadata.csv"),
        (["backgrounds", "half"], 4, "its companion folder is missing"),
        (["backgrounds", "torn"], 4, "no usable subject"),
        (["backgrounds", "set", "--scale", "3"], 2, "--scale is 3; accepted: 0.05 to 1"),
        (["backgrounds", "set", "--scale", "nan"], 2, "--scale is nan"),
        (["backgrounds", "set", "--labels", "dog,cat"], 2, "which no label is called"),
        (["backgrounds", "set", "--size", "1"], 2, "--size is 1"),
        (["backgrounds", "set", "--limit", "0"], 2, "--limit is 0"),
        (["backgrounds", "set", "--limit", "3"], 2, "--limit: of Waterbirds; set has subjects and backgrounds"),
        (["backgrounds", "set", "--limit", "3", "--split", "val"], 2, "--split and --limit: of Waterbirds"),
        (["backgrounds", "set", "--template", "photo"], 2, "exactly once"),
        (["embed", "empty", "--labels", "a"], 4, "no picture in this folder"),
        (["embed", "missing.png", "--labels", "a"], 4, "missing.png"),
        (["embed", "torn", "--labels", "a"], 4, "no picture in this folder"),
        (["embed", "torn/subjects", "--labels", "a"], 4, "a.png"),
        (["embed", "set"], 2, "--labels"),
        (["embed", "set", "--labels", "a,a"], 2, "repeated"),
        (["embed", "set", "--labels", "a", "--labels-file", "x"], 2, "twice"),
        (["embed", "set", "--labels", "a", "--clusters", "many"], 2, "--clusters is 'many'"),
        (["embed", "set", "--labels", "a", "--duplicates", "2"], 2, "--duplicates is 2"),
        (["embed", "set", "--labels", "a", "--projection", "umap"], 2, "accepted: tsne, pca"),
        (["labels"], 2, "either WORDS"),
        (["labels", "a", "--labels-file", "x"], 2, "either WORDS"),
        (["labels", ""], 2, "empty"),
        (["labels", "a,,b"], 2, "empty"),
        (["labels", "--labels-file", "missing.txt"], 4, "missing.txt"),
        (["labels", "a", "--prompts", "best"], 2, "'best'; accepted: own, word, paper, openai-80"),
        (["labels", "a", "--template", "photo"], 2, "exactly once"),
        (["labels", "a", "--model", "clippy-light"], 2, "did you mean clippy-lite"),
    ],
)
def test_mistakes_are_one_line(clippy, cutouts, tmp_path, monkeypatch, arguments, code, words):
    monkeypatch.chdir(tmp_path)
    for folder in ("empty", "half/subjects", "torn/subjects", "torn/backgrounds"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "torn/subjects/a.png").write_bytes(b"torn")
    Image.new("RGB", (9, 9)).save(tmp_path / "torn/backgrounds/a.bmp")
    if arguments[:2] == ["embed", "torn"]:
        (tmp_path / "torn/subjects/a.png").unlink()
        (tmp_path / "torn/backgrounds/a.bmp").unlink()
    done = clippy("analyze", *arguments)
    said = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert done.code == code, done.err
    assert len(said) == 1, done.err
    assert words in said[0]
    assert "Traceback" not in done.err
    assert done.out == ""


def test_a_number_of_clusters():
    assert read_clusters("auto") is None
    assert read_clusters("7") == 7
    with pytest.raises(UsageError, match="or auto"):
        read_clusters("7.5")


def test_as_a_process_stdout_is_the_document_alone(process, tmp_path):
    done = process("analyze", "labels", "dog,cat", "--prompts", "word", "--json", "--out", tmp_path / "out")
    assert done.code == 0, done.err
    assert json.loads(done.out)["numbers"]["labels"] == ["dog", "cat"]
    assert "Traceback" not in done.err


@pytest.mark.parametrize("width", [30, 44, 60, 80, 200])
def test_names_are_broken_between_words_where_the_words_fit(width: int) -> None:
    rows = [("worst background", "right, %"), ("a very long meadow in the mountains", "33.33"), ("beach", "100.00")]
    (first, second), padding = column_widths(rows, width)
    assert padding == 1
    assert first + second <= width - 5
    assert len("background") <= first <= 35
    assert len("100.00") <= second <= len("right, %")
    assert (first, second) == (35, 8) or first + second == width - 5


def test_only_the_longest_words_are_broken_where_not_even_words_fit() -> None:
    assert column_widths([("file", "n"), ("a/very/long/path/to/one.jpg", "12")], 20) == ([15, 2], 0)
    assert column_widths([("", "n")], 20) == ([0, 1], 1)


def test_columns_stand_closer_before_words_are_broken() -> None:
    rows = [("picture", "background", "class"), ("first one", "a meadow", "dog")]
    assert column_widths(rows, 31) == ([8, 10, 5], 1)
    assert column_widths(rows, 29) == ([9, 10, 5], 0)
