"""What a run leaves on disk: embeddings for the next one, and the state of one that was killed."""

import csv
import os

import numpy as np
import pytest

from clippy_core import events
from clippy_core.evaluation.benchmarks import BenchmarkOptions
from clippy_core.evaluation.zero_shot import classify as module
from clippy_core.evaluation.zero_shot.dataset import ClassificationSet, LabelledPicture
from clippy_core.evaluation.zero_shot.found import Found
from clippy_core.evaluation.zero_shot.report import report
from clippy_core.prompts import parse_labels

WORDS = tuple(f"word {index}" for index in range(12))
COUNT = 200


@pytest.fixture(scope="module")
def folder(sets, tmp_path_factory):
    data = tmp_path_factory.mktemp("pictures")
    for number in range(COUNT):
        sets.draw(data / f"{number:03}.jpg", number)
    (data / "007.jpg").write_bytes(b"")
    return data


@pytest.fixture
def dataset(folder):
    pictures = tuple(LabelledPicture(folder / f"{number:03}.jpg", number % 11) for number in range(COUNT))
    return ClassificationSet("many", "all", folder, parse_labels(WORDS), pictures, "*.jpg")


@pytest.fixture
def guess(sets):
    """A model that is right now and then."""
    return lambda weight=0.0: sets.Model(
        lambda number: sets.direction(number) + 0.3 * sets.direction(WORDS[number % 11]), weight=weight
    )


def figures(found):
    return found.metrics, found.rows, found.images, found.protocol


def test_a_second_run_looks_at_nothing(dataset, guess, tmp_path):
    plain = report(guess(), dataset, BenchmarkOptions())
    options = BenchmarkOptions(cache=tmp_path)
    first, again = guess(), guess()
    assert figures(report(first, dataset, options)) == figures(plain)
    assert len(first.seen) == COUNT - 1
    told = []
    assert figures(report(again, dataset, BenchmarkOptions(cache=tmp_path, sink=told.append))) == figures(plain)
    assert (again.seen, again.words) == ([], [])
    assert [event.error for event in told if getattr(event, "status", "") == "failed"] == [
        f"{dataset.pictures[7].path}: the file is empty"
    ]


def test_the_cache_knows_models_preparations_and_changed_pictures(dataset, guess, folder, tmp_path):
    report(guess(), dataset, BenchmarkOptions(cache=tmp_path))
    for model, changes in ((guess(1.0), {}), (guess(), {"overrides": {"picture": "whole"}})):
        report(model, dataset, BenchmarkOptions(cache=tmp_path, **changes))
        assert len(model.seen) == COUNT - 1
    touched, model = folder / "100.jpg", guess()
    about = touched.stat()
    os.utime(touched, ns=(about.st_atime_ns, about.st_mtime_ns + 10**9))
    report(model, dataset, BenchmarkOptions(cache=tmp_path))
    assert sorted(model.seen) == list(range(64, 128))


def test_a_damaged_entry_is_made_again(dataset, guess, tmp_path):
    plain = report(guess(), dataset, BenchmarkOptions(cache=tmp_path))
    largest = sorted(tmp_path.glob("*.npz"), key=lambda path: path.stat().st_size)[-1]
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    model = guess()
    assert figures(report(model, dataset, BenchmarkOptions(cache=tmp_path))) == figures(plain)
    assert len(model.seen) in (63, 64)


def test_a_line_a_picture(dataset, guess, tmp_path):
    found = report(guess(), dataset, BenchmarkOptions(limit=50, out=tmp_path))
    with (tmp_path / "images.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [{**row, "place": str(row["place"])} for row in found.images] == rows
    bad = ClassificationSet("bad", "all", dataset.root, dataset.labels, dataset.pictures[7:9], "*.jpg")
    report(guess(), bad, BenchmarkOptions(out=tmp_path))
    assert (tmp_path / "images.csv").read_text().splitlines()[:2] == [
        "picture,class,answer,place,why",
        "007.jpg,word 7,,,the file is empty",
    ]
    assert all(row["why"] == "" for row in rows if row["answer"])


def killed(after):
    """A sink that ends the run after so many pictures."""
    left = [after]

    def sink(event):
        left[0] -= isinstance(event, events.ItemFinished)
        if not left[0]:
            raise KeyboardInterrupt

    return sink


@pytest.fixture
def saved_always(monkeypatch):
    monkeypatch.setattr(module, "SAVE_SECONDS", -1.0)


@pytest.mark.usefixtures("saved_always")
def test_a_killed_run_goes_on(dataset, guess, tmp_path):
    plain = report(guess(), dataset, BenchmarkOptions())
    for after, expected in ((70, COUNT - 1), (20, COUNT - 128)):
        model = guess()
        with pytest.raises(KeyboardInterrupt):
            report(model, dataset, BenchmarkOptions(out=tmp_path, sink=killed(after)))
        assert len(model.seen) < expected
    told, model = [], guess()
    found = report(model, dataset, BenchmarkOptions(out=tmp_path, sink=told.append))
    assert figures(found) == figures(plain)
    assert model.seen == list(range(192, COUNT))
    assert (told[0], found.timing["pictures"]) == (events.BatchStarted(COUNT, 192), 8)
    assert [path.name for path in tmp_path.iterdir()] == ["images.csv"]


@pytest.mark.usefixtures("saved_always")
def test_another_number_of_processes_goes_on(dataset, guess, tmp_path, together):
    plain = report(guess(), dataset, BenchmarkOptions())
    with pytest.raises(KeyboardInterrupt):
        report(guess(), dataset, BenchmarkOptions(out=tmp_path, sink=killed(100)))
    models = [guess(), guess(), guess()]
    found = together(3, lambda share: report(models[share.rank], dataset, BenchmarkOptions(out=tmp_path, share=share)))
    assert all(figures(one) == figures(plain) for one in found)
    assert sorted(number for model in models for number in model.seen) == list(range(128, COUNT))
    assert [path.name for path in tmp_path.iterdir()] == ["images.csv"]


@pytest.mark.usefixtures("saved_always")
@pytest.mark.parametrize(("weight", "overwrite"), [(0.0, True), (1.0, False)])
def test_what_is_of_another_run_is_not_used(dataset, guess, tmp_path, weight, overwrite):
    with pytest.raises(KeyboardInterrupt):
        report(guess(), dataset, BenchmarkOptions(out=tmp_path, sink=killed(100)))
    told, model = [], guess(weight)
    report(model, dataset, BenchmarkOptions(out=tmp_path, overwrite=overwrite, sink=told.append))
    assert len(model.seen) == COUNT - 1
    assert any(isinstance(event, events.Noticed) for event in told) == (weight > 0)


def test_counts_that_cannot_be_added():
    found = Found.of(3)
    arrays = {name: np.ones(3, np.int64) for name in ("done", "places", "answers")}
    found.absorb(arrays)
    assert found.places_N.tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="a picture is counted twice"):
        found.absorb(arrays)
    with pytest.raises(ValueError, match=r"places is float64 \(3,\), not int64"):
        Found.of(3).absorb({**arrays, "places": np.ones(3)})
    with pytest.raises(KeyError):
        Found.of(3).absorb({"done": np.ones(3, np.int64)})
