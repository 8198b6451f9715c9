"""ImageNet and ImageNet-v2 in the layouts in which they are distributed."""

import numpy as np
import pytest
from sklearn.metrics import top_k_accuracy_score

from clippy_core.errors import DataError, UsageError
from clippy_core.evaluation.benchmarks import BenchmarkOptions, imagenet, imagenet_v2
from clippy_core.evaluation.vocabulary.imagenet import classes


def by_path(dataset):
    return {picture.path: picture.label for picture in dataset.pictures}


def expected(miniature):
    return dict(zip(miniature.paths, miniature.truth, strict=True))


def knowing(sets, truth, help_it=9.0):
    """A model that leans to the right name."""
    names = [one.name for one in classes()]
    return lambda number: sets.direction(f"picture {number}") + help_it * sets.direction(names[truth[number]])


def test_folders_of_wordnet_ids(sets, tmp_path):
    miniature = sets.imagenet_folders(tmp_path)
    for data in (tmp_path, tmp_path / "val"):
        dataset = imagenet.read(data)
        assert by_path(dataset) == expected(miniature)
        assert (len(dataset.labels), dataset.layout) == (1000, "WNID/*.JPEG")
        assert dataset.notes == ("22 pictures; the official split has 50,000", "pictures of 11 of 1,000 classes")


@pytest.mark.parametrize("answers", ["devkit", "kaggle"])
def test_one_folder_and_a_list(sets, tmp_path, answers):
    miniature = sets.imagenet_flat(tmp_path, answers)
    assert by_path(imagenet.read(tmp_path)) == expected(miniature)


def test_figures_are_scikit_learn_s(sets, tmp_path):
    miniature = sets.imagenet_folders(tmp_path, each=4)
    see = knowing(sets, miniature.truth, 0.2)
    found = imagenet.run(sets.Model(see), tmp_path, BenchmarkOptions())
    words = np.stack([sets.direction(one.name) for one in classes()])
    scores = np.stack([see(number) for number in range(44)]) @ words.T
    for k in (1, 5):
        value = top_k_accuracy_score(miniature.truth, scores, k=k, labels=range(1000))
        assert 0 < value < 1
        assert found.metrics[f"top-{k}"] == pytest.approx(value)
    assert found.benchmark == "imagenet"
    assert [row["class"] for row in found.rows][:2] == ["garter snake", "sea snake"]


def test_perfect_and_constant(sets, tmp_path):
    miniature = sets.imagenet_flat(tmp_path)
    perfect = imagenet.run(sets.Model(knowing(sets, miniature.truth)), tmp_path, BenchmarkOptions())
    assert perfect.metrics["top-1"] == perfect.metrics["top-5"] == perfect.metrics["mean of classes"] == 1
    constant = imagenet.run(sets.Model(lambda number: sets.direction("bakery")), tmp_path, BenchmarkOptions())
    assert constant.metrics["top-1"] == pytest.approx(1 / 11)


def test_v2_folders_are_numbers_not_text(sets, tmp_path):
    miniature = sets.imagenet_v2(tmp_path)
    for data in (tmp_path, tmp_path / "imagenetv2-matched-frequency-format-val"):
        dataset = imagenet_v2.read(data)
        assert by_path(dataset) == expected(miniature)
        assert [picture.label for picture in dataset.pictures] == [0, 0, 2, 2, 10, 10, 100, 100, 999, 999]
        assert dataset.split == "matched-frequency"
    found = imagenet_v2.run(sets.Model(knowing(sets, miniature.truth)), tmp_path, BenchmarkOptions())
    assert (found.metrics["top-1"], found.metrics["pictures"]) == (1, 10)
    assert [row["class"] for row in found.rows] == [
        *("tench", "great white shark", "brambling"),
        *("black swan", "toilet paper"),
    ]


def test_v2_s_other_samples(sets, tmp_path):
    sets.imagenet_v2(tmp_path)
    miniature = sets.imagenet_v2(tmp_path / "more", "imagenetv2-top-images-format-val")
    folder = tmp_path / "more" / "imagenetv2-top-images-format-val"
    assert by_path(imagenet_v2.read(folder)) == expected(miniature)
    assert imagenet_v2.read(folder).split == imagenet_v2.read(tmp_path / "more", split="top-images").split
    with pytest.raises(UsageError, match=r"threshold0\.7 was asked for, but .* has top-images"):
        imagenet_v2.read(folder, split="threshold0.7")


def spoil_devkit(data, text):
    path = data / "ILSVRC2012_devkit_t12" / "data" / "ILSVRC2012_validation_ground_truth.txt"
    path.write_text(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("490\n361\n1001\n", r"line 3: '1001' is no class; accepted: numbers from 1 to 1000"),
        ("490\nn01751748\n", r"line 2: 'n01751748' is no class"),
        ("490\n361\n", r"no class for ILSVRC2012_val_00000003, nor for 8 other pictures"),
    ],
)
def test_a_list_that_does_not_fit(sets, tmp_path, text, message):
    sets.imagenet_flat(tmp_path)
    spoil_devkit(tmp_path, text)
    with pytest.raises(DataError, match=message):
        imagenet.read(tmp_path)


def test_kaggle_s_list_without_its_columns(sets, tmp_path):
    sets.imagenet_flat(tmp_path, "kaggle")
    (tmp_path / "LOC_val_solution.csv").write_text("id,class\nILSVRC2012_val_00000001,n01751748\n")
    with pytest.raises(DataError, match=r"line 2: columns ImageId and PredictionString"):
        imagenet.read(tmp_path)


def test_pictures_without_a_list(sets, tmp_path):
    sets.imagenet_flat(tmp_path)
    spoil_devkit(tmp_path, "")
    (tmp_path / "ILSVRC2012_devkit_t12" / "data" / "ILSVRC2012_validation_ground_truth.txt").unlink()
    with pytest.raises(DataError) as caught:
        imagenet.read(tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}: not laid out as ImageNet; expected: a folder a class, [val/]n01440764/")
    missing = "ILSVRC2012_validation_ground_truth.txt or LOC_val_solution.csv, the classes of the 11 pictures"
    assert message.endswith(f"; missing: {missing}; found: ILSVRC2012_devkit_t12/, ILSVRC2012_img_val/")


@pytest.mark.parametrize("read", [imagenet.read, imagenet_v2.read])
def test_another_folder(tmp_path, read):
    with pytest.raises(DataError, match="found: nothing, the folder is empty"):
        read(tmp_path)
    (tmp_path / "JPEGImages").mkdir()
    (tmp_path / "a.txt").touch()
    with pytest.raises(DataError, match=r"expected: .*; missing: .*; found: JPEGImages/, a\.txt"):
        read(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        read(tmp_path / "gone")
    with pytest.raises(UsageError, match=r"the split testing is unknown to benchmark 'imagenet.*accepted: "):
        read(tmp_path, split="testing")


def test_folders_that_are_no_class(sets, tmp_path):
    sets.draw(tmp_path / "a" / "n99999999" / "x.JPEG", 0)
    with pytest.raises(DataError, match="n99999999 is none of the 1000 classes"):
        imagenet.read(tmp_path / "a")
    (tmp_path / "b" / "n01440764").mkdir(parents=True)
    with pytest.raises(DataError, match="have no picture"):
        imagenet.read(tmp_path / "b")
    sets.draw(tmp_path / "c" / "1000" / "x.jpeg", 0)
    with pytest.raises(DataError, match="1000 is no class index; accepted: 0 to 999"):
        imagenet_v2.read(tmp_path / "c")
    sets.draw(tmp_path / "d" / "7" / "x.jpeg", 0)
    sets.draw(tmp_path / "d" / "07" / "x.jpeg", 0)
    with pytest.raises(DataError, match="7 is class 7 as well"):
        imagenet_v2.read(tmp_path / "d")
