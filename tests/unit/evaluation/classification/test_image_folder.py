"""A folder a class, whatever they are called."""

import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize
from torchvision import transforms

from clippy_core.errors import DataError
from clippy_core.evaluation.benchmarks import BenchmarkOptions, image_folder
from clippy_core.segmentation.options import SegmentOptions

NAMES = ("cat", "hot dog", "red fox")


def named(dataset):
    """What each picture's class is called."""
    return {picture.path: dataset.labels[picture.label].name for picture in dataset.pictures}


def test_folders_are_names(sets, tmp_path):
    miniature = sets.class_folders(tmp_path)
    (tmp_path / "empty").mkdir()
    dataset = image_folder.read(tmp_path)
    assert [label.name for label in dataset.labels] == list(NAMES)
    assert named(dataset) == {path: NAMES[label] for path, label in zip(miniature.paths, miniature.truth, strict=True)}
    see = lambda number: sets.direction(NAMES[miniature.truth[number]])  # noqa: E731
    found = image_folder.run(sets.Model(see), tmp_path, BenchmarkOptions())
    assert (found.metrics["top-1"], found.metrics["pictures"], found.benchmark) == (1, 9, "image-folder")
    constant = image_folder.run(sets.Model(lambda number: sets.direction("hot dog")), tmp_path, BenchmarkOptions())
    assert constant.metrics["top-1"] == pytest.approx(1 / 3)


def test_a_split_is_a_folder(sets, tmp_path):
    miniature = sets.class_folders(tmp_path / "val")
    dataset = image_folder.read(tmp_path, split="val")
    assert (dataset.split, len(dataset.pictures)) == ("val", len(miniature.paths))
    with pytest.raises(DataError, match=r"expected: test/CLASS.*missing: the folder test; found: val/"):
        image_folder.read(tmp_path, split="test")


@pytest.mark.parametrize(
    ("folders", "labels", "expected"),
    [
        (("0", "2", "10"), [f"thing {number}" for number in range(12)], ["thing 0", "thing 10", "thing 2"]),
        (("hot_dog", "Cat", "fox"), ["fox|red fox", "cat", "hot dog", "horse"], ["hot dog", "cat", "fox"]),
        (("a1", "b2"), ["zebra", "ant"], ["zebra", "ant"]),
    ],
)
def test_names_from_a_list(sets, tmp_path, folders, labels, expected):
    (tmp_path / "labels.txt").write_text("\n".join(labels))
    miniature = sets.class_folders(tmp_path, tuple(sorted(folders)) if folders[0] == "0" else folders)
    found = named(image_folder.read(tmp_path))
    assert [found[path] for path in miniature.paths[::3]] == expected
    assert len(image_folder.read(tmp_path).labels) == len(labels)


def test_folders_without_a_picture(sets, tmp_path):
    """They are no class of their own, but count where only the order says what is what."""
    sets.class_folders(tmp_path, ("b", "d"))
    for name in ("a", "c", ".hidden"):
        (tmp_path / name).mkdir()
    assert [label.name for label in image_folder.read(tmp_path).labels] == ["b", "d"]
    (tmp_path / "labels.txt").write_text("d\nb\nx")
    assert set(named(image_folder.read(tmp_path)).values()) == {"b", "d"}
    (tmp_path / "labels.txt").write_text("ape\nbee\ncat\ndog")
    dataset = image_folder.read(tmp_path)
    assert set(named(dataset).values()) == {"bee", "dog"}
    assert dataset.notes == ("2 of 4 classes have no picture",)


def test_names_of_wordnet_ids(sets, tmp_path):
    sets.class_folders(tmp_path, ("n03000684", "n01440764"))  # two of the ten of Imagenette
    dataset = image_folder.read(tmp_path)
    assert [label.name for label in dataset.labels] == ["tench", "chainsaw"]
    assert dataset.layout.endswith("names from ImageNet's by WordNet id")


@pytest.mark.parametrize(
    ("folders", "labels", "message"),
    [
        (("0", "3"), "a\nb\nc", "3 labels, but there is a folder 3, counted from 0"),
        (("cat", "dog"), "cat\nwolf", "no label is called like the folder 'dog'"),
        (("x", "y"), "cat\nwolf\nfox", "3 labels, none called like one of the 2 folders; accepted"),
        (("cat", "kitten"), "cat|kitten\ndog", "cat and kitten are one label, 'cat'"),
        (("hot_dog", "hot dog"), None, "the same name as 'hot dog'"),
    ],
)
def test_what_does_not_fit(sets, tmp_path, folders, labels, message):
    sets.class_folders(tmp_path, folders)
    if labels:
        (tmp_path / "labels.txt").write_text(labels)
    with pytest.raises(DataError, match=message):
        image_folder.read(tmp_path)


def test_another_folder(sets, tmp_path):
    sets.draw(tmp_path / "picture.jpg", 0)
    with pytest.raises(DataError, match=r"expected: CLASS/picture\.jpg.*found: picture\.jpg"):
        image_folder.read(tmp_path)


def test_a_real_model_answers_as_it_does_by_hand(sets, tmp_path, tiny_directory):
    """One that was never trained, asked through torchvision's transforms and its own towers."""
    from clippy_core.segmentation.segmenter import load

    miniature = sets.class_folders(tmp_path / "val")
    segmenter = load(tiny_directory, device="cpu")
    options = BenchmarkOptions(SegmentOptions(size=32, templates=("{}", "a photo of a {}.")), split="val")
    found = image_folder.run(segmenter, tmp_path, options)

    vision = segmenter.config.vision
    prepare = transforms.Compose(
        [
            transforms.Resize(32, transforms.InterpolationMode.BICUBIC),
            *(transforms.CenterCrop(32), transforms.ToTensor(), transforms.Normalize(vision.mean, vision.std)),
        ]
    )
    pixels = torch.stack([prepare(Image.open(path)) for path in miniature.paths])
    with torch.inference_mode():
        pictures = segmenter.model.encode_image(pixels).pooled_BD
        words = []
        for name in NAMES:
            ids, mask = (torch.from_numpy(array) for array in segmenter.tokenizer([name, f"a photo of a {name}."]))
            words.append(normalize(segmenter.model.encode_text(ids, mask).mean(0), dim=0))
    expected = (pictures @ torch.stack(words).T).argsort(1, descending=True)
    answers = {row["picture"]: (row["answer"], row["place"]) for row in found.images}
    for path, label, order in zip(miniature.paths, miniature.truth, expected.tolist(), strict=True):
        name = path.relative_to(tmp_path / "val").as_posix()
        assert answers[name] == (NAMES[order[0]], 1 + order.index(label))
