"""Zero-shot classification with models whose answers are known, against scikit-learn and by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import top_k_accuracy_score

from clippy_core import events
from clippy_core.errors import DataError, UsageError
from clippy_core.evaluation.benchmarks import BenchmarkOptions
from clippy_core.evaluation.options import Calibration
from clippy_core.evaluation.vocabulary.templates import OPENAI_80, PAPER
from clippy_core.evaluation.zero_shot.dataset import ClassificationSet, LabelledPicture
from clippy_core.evaluation.zero_shot.protocol import PRESETS, ClassificationProtocol
from clippy_core.evaluation.zero_shot.report import report
from clippy_core.prompts import parse_labels
from clippy_core.segmentation.options import SegmentOptions, Windows

WORDS = tuple(f"word {index}" for index in range(12))


@pytest.fixture(scope="module")
def dataset(sets, tmp_path_factory):
    """150 pictures of 12 classes, the last class without one, in the order of classes."""
    data = tmp_path_factory.mktemp("pictures")
    truth = sorted(np.random.default_rng(0).integers(0, 11, 150).tolist())
    pictures = [LabelledPicture(sets.draw(data / f"{number}.jpg", number), label) for number, label in enumerate(truth)]
    return ClassificationSet("twelve", "all", data, parse_labels(WORDS), tuple(pictures), "*.jpg")


@pytest.fixture(scope="module")
def truth(dataset):
    return np.array([picture.label for picture in dataset.pictures])


def guesses(sets, truth, help_it=1.0):
    """Directions that lean a little to the right word."""
    return lambda number: sets.direction(f"picture {number}") + help_it * sets.direction(WORDS[truth[number]])


def test_a_guessing_model_scores_what_scikit_learn_says(sets, dataset, truth):
    see = guesses(sets, truth, 0.3)
    model = sets.Model(see)
    found = report(model, dataset, BenchmarkOptions())
    scores = np.stack([see(number) for number in range(150)]) @ np.stack([sets.direction(word) for word in WORDS]).T
    expected = {k: top_k_accuracy_score(truth, scores, k=k, labels=range(12)) for k in (1, 5)}
    assert 0.2 < expected[1] < 0.8  # neither certain nor chance
    assert found.metrics["top-1"] == pytest.approx(expected[1])
    assert found.metrics["top-5"] == pytest.approx(expected[5])
    right = scores.argmax(1) == truth
    by_class = [right[truth == index].mean() for index in range(11)]
    assert found.metrics["mean of classes"] == pytest.approx(np.mean(by_class))
    assert [row["top-1"] for row in found.rows] == pytest.approx(by_class)
    assert [row["pictures"] for row in found.rows] == np.bincount(truth).tolist()
    assert (found.metrics["pictures"], found.metrics["pictures left out"]) == (150, 0)
    assert sorted(model.seen) == list(range(150))
    assert [row["answer"] for row in found.images] == [WORDS[index] for index in scores.argmax(1)]
    order = np.argsort(-scores, 1)
    assert [row["place"] for row in found.images] == [1 + list(row).index(truth[i]) for i, row in enumerate(order)]
    assert found.images[7].items() >= {"picture": "7.jpg", "class": WORDS[truth[7]]}.items()
    assert found.timing["images/s"] == pytest.approx(150 / found.timing["seconds"])


def test_a_perfect_model_scores_one(sets, dataset, truth):
    found = report(sets.Model(lambda number: sets.direction(WORDS[truth[number]])), dataset, BenchmarkOptions())
    assert [found.metrics[name] for name in ("top-1", "top-5", "mean of classes")] == [1, 1, 1]


def test_a_constant_model_scores_the_share_of_its_answer(sets, dataset, truth):
    found = report(sets.Model(lambda number: sets.direction(WORDS[3])), dataset, BenchmarkOptions())
    assert found.metrics["top-1"] == (truth == 3).mean()
    assert found.metrics["mean of classes"] == pytest.approx(1 / 11)


@pytest.mark.parametrize("world", [2, 3, 5])
def test_any_number_of_processes_counts_each_picture_once(sets, dataset, truth, world, together):
    """Five processes have more than there are batches, and more than there are batches of words."""
    see = guesses(sets, truth, 0.3)
    alone = report(sets.Model(see), dataset, BenchmarkOptions())
    models = [sets.Model(see) for _ in range(world)]
    found = together(world, lambda share: report(models[share.rank], dataset, BenchmarkOptions(share=share)))
    for one in found:
        assert (one.metrics, one.rows) == (alone.metrics, alone.rows)
        assert (one.protocol, one.images) == (alone.protocol, alone.images)
    assert sorted(number for model in models for number in model.seen) == list(range(150))
    assert sorted(word for model in models for word in model.words) == sorted(WORDS)


def test_of_classes_called_the_same_the_first_is_the_answer(sets, tmp_path):
    pictures = tuple(LabelledPicture(sets.draw(tmp_path / f"{number}.jpg", number), number) for number in range(3))
    labels = parse_labels(["missile"]) * 2 + parse_labels(["mitten"])
    dataset = ClassificationSet("named twice", "all", tmp_path, labels, pictures, "*.jpg")
    model = sets.Model(lambda number: sets.direction("mitten" if number == 2 else "missile"))
    found = report(model, dataset, BenchmarkOptions())
    assert [row["top-1"] for row in found.rows] == [1, 0, 1]
    assert found.protocol["names of two classes"] == ["missile"]
    assert model.words == ["missile", "mitten"]


def test_the_best_word_of_a_class_counts(sets, tmp_path):
    pictures = tuple(LabelledPicture(sets.draw(tmp_path / f"{number}.jpg", number), number % 2) for number in range(4))
    dataset = ClassificationSet(
        "words", "all", tmp_path, parse_labels(["dog|puppy|hound", "cat|kitten"]), pictures, "*.jpg"
    )
    seen = ("hound", "kitten", "dog", "cat")
    found = report(sets.Model(lambda number: sets.direction(seen[number])), dataset, BenchmarkOptions())
    assert found.metrics["top-1"] == 1
    assert found.protocol["synonyms"] == {"dog": ("dog", "puppy", "hound"), "cat": ("cat", "kitten")}


def test_a_model_that_says_nothing_is_not_right(sets, dataset):
    found = report(sets.Model(lambda number: np.full(48, np.nan, np.float32)), dataset, BenchmarkOptions())
    assert found.metrics["top-1"] == found.metrics["top-5"] == 0


def test_a_limit_takes_pictures_of_all_classes(sets, dataset, truth):
    found = report(sets.Model(guesses(sets, truth)), dataset, BenchmarkOptions(limit=11))
    assert found.metrics["pictures"] == 11
    assert len(found.rows) > 6
    assert (found.protocol["choice of pictures"], found.protocol["pictures of the split"]) == ("evenly spaced", 150)


def test_bad_pictures_are_counted_and_named(sets, dataset, truth, tmp_path):
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "cut.jpg").write_bytes(dataset.pictures[0].path.read_bytes()[:500])
    good = tuple(LabelledPicture(sets.draw(tmp_path / f"{index}.jpg", index), index % 3) for index in range(6))
    bad = tuple(LabelledPicture(tmp_path / name, 2) for name in ("empty.jpg", "cut.jpg", "gone.jpg"))
    told = []
    model = sets.Model(lambda number: sets.direction(WORDS[0]))

    def measure(pictures):
        some = ClassificationSet("some", "all", tmp_path, dataset.labels, pictures, "*.jpg")
        return report(model, some, BenchmarkOptions(sink=told.append))

    found, without = measure(good + bad), measure(good)
    assert found.metrics == {**without.metrics, "pictures left out": 3}
    assert (found.metrics["top-1"], found.rows) == (1 / 3, without.rows)
    assert found.protocol["left out"] == ["empty.jpg", "cut.jpg", "gone.jpg"]
    assert found.images[-1] == {"picture": "gone.jpg", "class": WORDS[2], "answer": None, "place": None} | {
        "why": "cannot be read (No such file or directory)"
    }
    started, *items, finished = told[:11]
    assert (started, finished.done, finished.failed) == (events.BatchStarted(9, 0), 6, 3)
    assert [item.source for item in items if item.status == "failed"] == found.protocol["left out"]
    assert "empty" in items[6].error
    with pytest.raises(DataError, match=r"empty\.jpg: cannot be used, nor can any of the 3 pictures"):
        measure(bad)


def test_presets(sets, dataset, truth):
    expected = {
        "paper": (PAPER, "paper", 224),
        "kahnchana": (OPENAI_80, "openai-80", 224),
        "openai": (OPENAI_80, "openai-80", 32),
    }
    for name, (prompts, called, size) in expected.items():
        model = sets.Model(guesses(sets, truth))
        found = report(model, dataset, BenchmarkOptions(limit=2, protocol=name))
        assert (model.prompts, set(model.sizes)) == ({prompts}, {(size, size)})
        assert [found.protocol[key] for key in ("protocol", "templates", "size")] == [name, called, size]
    assert set(PRESETS) == {*expected, "whole"}
    model = sets.Model(guesses(sets, truth))
    found = report(model, dataset, BenchmarkOptions(limit=8, protocol="whole"))
    assert (model.prompts, set(model.sizes)) == ({PAPER}, {(32, 48), (48, 32), (32, 32), (32, 80)})
    assert found.protocol["preparation"] == "short side 32 (bicubic), whole picture, sides rounded to 16"
    assert report(sets.Model(guesses(sets, truth)), dataset, BenchmarkOptions(limit=2)).protocol["protocol"] == "paper"


def test_what_the_user_chooses_goes_before_the_preset(sets, dataset, truth):
    model = sets.Model(guesses(sets, truth))
    options = BenchmarkOptions(SegmentOptions(templates=("a {}",), size=64), limit=2)
    found = report(model, dataset, options)
    assert (model.prompts, found.protocol["templates"], found.protocol["size"]) == ({("a {}",)}, ("a {}",), 64)
    options = BenchmarkOptions(limit=2, overrides={"templates": "openai-80", "size": 48})
    found = report(sets.Model(guesses(sets, truth)), dataset, options)
    assert (found.protocol["templates"], found.protocol["size"]) == ("openai-80", 48)


def test_size_and_preparation_are_what_the_protocol_says(sets, dataset, truth):
    model = sets.Model(guesses(sets, truth, 0.3))
    options = BenchmarkOptions(SegmentOptions(size=50), limit=8)
    found = report(model, dataset, options)
    assert set(model.sizes) == {(48, 48)}
    assert found.protocol["size"] == 48
    assert found.protocol["preparation"] == "short side 48 (bicubic), centre crop 48 × 48"
    options = BenchmarkOptions(SegmentOptions(size=50), limit=8, overrides={"picture": "whole"})
    whole = report(model := sets.Model(guesses(sets, truth, 0.3)), dataset, options)
    assert set(model.sizes) == {(48, 64), (64, 48), (48, 48), (48, 112)}
    assert whole.metrics == found.metrics
    assert whole.protocol["preparation"] == "short side 48 (bicubic), whole picture, sides rounded to 16"


def test_the_protocol_can_be_written_down(sets, dataset, truth):
    found = report(sets.Model(guesses(sets, truth)), dataset, BenchmarkOptions(limit=3))
    assert json.loads(json.dumps(found.protocol))["equal scores"] == "the class that comes first is the answer"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"segment": SegmentOptions(background="threshold=0.2")},
            "--background: benchmark 'twelve' names whole pictures",
        ),
        ({"segment": SegmentOptions(windows=Windows(224, 112))}, "--window: .*accepted: --size"),
        ({"metric": "both"}, "--metric is 'both': .*accepted: top-down"),
        ({"worst": 3, "out": Path()}, "--worst"),
        ({"calibrate": Calibration((0.1,))}, "--calibrate"),
        ({"classes": 11}, "a number of classes of 11; benchmark 'twelve' has 12 here"),
        (
            {"protocol": "sclip"},
            "--protocol is 'sclip'; accepted by benchmark 'twelve': paper, kahnchana, openai, whole",
        ),
        ({"overrides": {"mask": "crop"}}, "no field 'mask' for benchmark 'twelve'; accepted: templates, picture, size"),
        ({"overrides": {"picture": "squash"}}, "picture is 'squash'; accepted: crop, whole"),
        ({"overrides": {"templates": "seven"}}, "templates 'seven' are unknown; accepted: paper, openai-80"),
        ({"overrides": {"size": 8}}, "size is 8; accepted: 32 to 4096"),
    ],
)
def test_options_that_mean_nothing_here_are_refused(sets, dataset, truth, options, message):
    with pytest.raises(UsageError, match=message):
        report(sets.Model(guesses(sets, truth)), dataset, BenchmarkOptions(**options))


def test_a_protocol_knows_its_side(sets):
    model = sets.Model(None)
    sides = [ClassificationProtocol(size=size).side(model.config, 16) for size in (None, 224, 230, 233, 32)]
    assert sides == [32, 224, 224, 240, 32]
